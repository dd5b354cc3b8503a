"""Continuing rows token by token: the one place that knows how a layout remembers what it has read.

Transformers keep keys and values of every token and need a mask and positions to tell text from padding; recurrent
layouts keep a state of fixed size, which padding must never enter. Plain Llama and Qwen2 models take the fast path of
`llama`, which is several times faster; every other model is called as a module.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from transformers import DynamicCache

from stillroom.models.composite import SumPolicy
from stillroom.models.images import Picture, positions
from stillroom.models.llama import known_parts, start
from stillroom.models.llama_prompts import read_once
from stillroom.models.policy import Policy
from stillroom.models.prefixes import Prefixes

RECURRENT = frozenset({"mamba"})
"""Layouts with a state instead of a cache of keys and values."""


class Decoding(Protocol):
    """Rows under way, changed in place."""

    def select(self, index_B: torch.Tensor) -> None:
        """Keep these rows (long), in this order; a row may be taken several times."""
        ...

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Read one more token (long) per row; returns the logits [B, V] of what follows."""
        ...

    def states(self, row: int) -> torch.Tensor | None:
        """Keys and values of what a row has read, copied for `Prefixes.keep`; None where they are of no use again."""
        ...


def prefill(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    prefixes: Prefixes | None = None,
    pictures: Sequence[Picture] = (),
) -> tuple[torch.Tensor, Decoding]:
    """Read prompts of any lengths at once, padded on the left; returns the logits [B, V] of what follows.

    Args:
        prompts: token ids; at least one each.
        max_new_tokens: how often `step` will be called at most.
        prefixes: texts of this policy that need not be read again; of use on the fast path of a single model only.
        pictures: of a policy that sees: those of all prompts, in order.
    """
    if isinstance(policy, SumPolicy):
        begun = [prefill(part.policy, prompts, max_new_tokens) for part in policy.parts]
        return policy.add([logits_BV for logits_BV, _ in begun]), _Summed(policy, [decoding for _, decoding in begun])
    width = max(len(ids) for ids in prompts)
    ids_BT = torch.full((len(prompts), width), policy.pad_id, dtype=torch.long)
    for row, ids in enumerate(prompts):
        ids_BT[row, width - len(ids) :] = torch.tensor(ids)
    pad_B = torch.tensor([width - len(ids) for ids in prompts], device=policy.device)
    ids_BT = ids_BT.to(policy.device)
    parts = known_parts(policy.model)
    if parts is not None:
        decoding = start(parts, pad_B, width + max_new_tokens)
        if prefixes is None and policy.skips_padding and len(prompts) > 1:
            return policy.logits(read_once(parts, decoding, prompts)), decoding
        if prefixes is not None:
            decoding.take([prefixes.find(ids) for ids in prompts])
        return decoding.read(ids_BT[:, decoding.width :]), decoding
    mask_BT = (torch.arange(width + max_new_tokens, device=policy.device) >= pad_B[:, None]).long()
    seen = dict[str, torch.Tensor]()
    if policy.vision is not None and pictures:
        tensors = policy.vision.tensors(pictures)
        seen = policy.vision.inputs(ids_BT, {name: tensor.to(policy.device) for name, tensor in tensors.items()})
    position = positions(policy.model, ids_BT, mask_BT[:, :width], seen)
    last_B = position.reshape(-1, *ids_BT.shape).amax((0, 2))
    calling = _Calling(policy, DynamicCache(config=policy.model.config), mask_BT, last_B, width)
    return calling.forward(ids_BT, position, seen), calling


@dataclass
class _Calling:
    """Rows under way through the module itself."""

    policy: Policy
    cache: DynamicCache
    mask_BT: torch.Tensor
    """Long; 1 where a row has text, with the columns that are still to come."""
    position_B: torch.Tensor
    """Long; position of each row's last token."""
    width: int
    """Columns read so far."""

    def select(self, index_B: torch.Tensor) -> None:
        self.cache.reorder_cache(cast(torch.LongTensor, index_B))
        self.mask_BT = self.mask_BT[index_B]
        self.position_B = self.position_B[index_B]

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        self.width += 1
        self.position_B = self.position_B + 1
        return self.forward(tokens_B[:, None], self.position_B[:, None])

    def states(self, row: int) -> torch.Tensor | None:
        return None

    def forward(
        self, ids_BT: torch.Tensor, position_BT: torch.Tensor, seen: Mapping[str, torch.Tensor] = {}
    ) -> torch.Tensor:
        model, mask_BT = self.policy.model, self.mask_BT[:, : self.width]
        memory = {_memory_name(type(model.base_model).forward): self.cache}
        states: torch.Tensor
        if model.config.model_type in RECURRENT:
            # The mask keeps padding out of the state while prompts are read; afterwards there is none.
            mask = mask_BT if ids_BT.shape[1] > 1 else None
            states = model.base_model(input_ids=ids_BT, attention_mask=mask, use_cache=True, **memory).last_hidden_state
            return self.policy.logits(states[:, -1].to(model.dtype))  # it sums in float32
        states = model.base_model(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=position_BT, use_cache=True, **memory, **seen
        ).last_hidden_state
        return self.policy.logits(states[:, -1])


@dataclass
class _Summed:
    """Rows under way in every part of a sum, each with a cache of its own."""

    policy: SumPolicy
    parts: list[Decoding]

    def select(self, index_B: torch.Tensor) -> None:
        for decoding in self.parts:
            decoding.select(index_B)

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        return self.policy.add([decoding.step(tokens_B) for decoding in self.parts])

    def states(self, row: int) -> torch.Tensor | None:
        return None


@functools.cache
def _memory_name(forward: Callable[..., object]) -> str:
    """What a layout's function calls its memory: transformers renamed it to ``cache`` for all of them in 5.24."""
    known = inspect.signature(forward).parameters
    return next(name for name in ("cache", "past_key_values", "cache_params") if name in known)

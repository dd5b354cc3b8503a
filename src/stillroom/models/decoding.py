"""Continuing rows token by token: the one place that knows how a layout remembers what it has read.

Transformers keep keys and values of every token and need a mask and positions to tell text from padding; recurrent
layouts keep a state of fixed size, which padding must never enter.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import DynamicCache

from stillroom.models.policy import Policy

RECURRENT = frozenset({"mamba"})
"""Layouts with a state instead of a cache of keys and values."""


@dataclass
class Decoding:
    """Rows under way; `select` and `step` change it in place."""

    cache: DynamicCache
    mask_BT: torch.Tensor
    """Long; 1 where a row has text, with the columns that are still to come."""
    position_B: torch.Tensor
    """Long; position of each row's last token."""
    width: int
    """Columns read so far."""


def prefill(policy: Policy, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> tuple[torch.Tensor, Decoding]:
    """Read prompts of any lengths at once, padded on the left; returns their last hidden states [B, D].

    Args:
        prompts: token ids; at least one each.
        max_new_tokens: how often `step` will be called at most.
    """
    width = max(len(ids) for ids in prompts)
    ids_BT = torch.full((len(prompts), width), policy.pad_id, dtype=torch.long)
    mask_BT = torch.ones(len(prompts), width + max_new_tokens, dtype=torch.long)
    for row, ids in enumerate(prompts):
        ids_BT[row, width - len(ids) :] = torch.tensor(ids)
        mask_BT[row, : width - len(ids)] = 0
    ids_BT, mask_BT = ids_BT.to(policy.device), mask_BT.to(policy.device)
    position_BT = (mask_BT[:, :width].cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=policy.model.config)
    hidden_BD = _forward(policy, ids_BT, mask_BT[:, :width], position_BT, cache)
    return hidden_BD, Decoding(cache, mask_BT, position_BT[:, -1], width)


def select(decoding: Decoding, index_B: torch.Tensor) -> None:
    """Keep these rows (long), in this order; a row may be taken several times."""
    decoding.cache.reorder_cache(cast(torch.LongTensor, index_B))
    decoding.mask_BT = decoding.mask_BT[index_B]
    decoding.position_B = decoding.position_B[index_B]


def step(policy: Policy, decoding: Decoding, tokens_B: torch.Tensor) -> torch.Tensor:
    """Read one more token (long) per row; returns the last hidden states [B, D]."""
    decoding.width += 1
    decoding.position_B = decoding.position_B + 1
    mask_BT = decoding.mask_BT[:, : decoding.width]
    return _forward(policy, tokens_B[:, None], mask_BT, decoding.position_B[:, None], decoding.cache)


def _forward(
    policy: Policy, ids_BT: torch.Tensor, mask_BT: torch.Tensor, position_BT: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    model = policy.model
    memory = {_memory_name(type(model.base_model).forward): cache}
    states: torch.Tensor
    if model.config.model_type in RECURRENT:
        # The mask keeps padding out of the state while prompts are read; afterwards there is none.
        mask = mask_BT if ids_BT.shape[1] > 1 else None
        states = model.base_model(input_ids=ids_BT, attention_mask=mask, use_cache=True, **memory).last_hidden_state
        return states[:, -1].to(model.dtype)  # it sums in float32
    states = model.base_model(
        input_ids=ids_BT, attention_mask=mask_BT, position_ids=position_BT, use_cache=True, **memory
    ).last_hidden_state
    return states[:, -1]


@functools.cache
def _memory_name(forward: Callable[..., object]) -> str:
    """What a layout's function calls its memory: transformers renamed it to ``cache`` for all of them in 5.24."""
    known = inspect.signature(forward).parameters
    return next(name for name in ("cache", "past_key_values", "cache_params") if name in known)

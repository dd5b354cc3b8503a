"""What reading and writing a text costs a model: operations with attention, and bytes of keys and values.

One text at a time, as if nothing were shared: a prompt that several answers have in common counts for each of them.
"""

from dataclasses import dataclass
from typing import cast

import torch

from stillroom.models.composite import SumPolicy
from stillroom.models.policy import Policy

TRANSFORMERS = frozenset({"qwen2", "llama", "gemma", "gpt_neox", "opt"})
"""Layouts whose every layer attends to all that was read."""


@dataclass(frozen=True)
class Costs:
    """What a call's cost depends on besides its length; several entries for a sum of models, which all read it."""

    weights: tuple[int, ...]
    """That a token is multiplied with: an embedding that is only looked up does not count, a tied one does."""
    attended: tuple[int, ...]
    """Layers times width of all their query heads."""
    cached: tuple[int, ...]
    """Bytes of keys and values per token."""

    def flops(self, context: int) -> float:
        """Forward operations over a text of that many tokens: ``2 N`` per token, and ``4 L d`` per token for each token
        that it attends to, itself included."""
        seen = context * (context + 1) / 2
        return float(sum(2 * n * context + 4 * ld * seen for n, ld in zip(self.weights, self.attended, strict=True)))

    def cache_bytes(self, context: int) -> int:
        """Of keys and values at the end of such a text."""
        return sum(self.cached) * context


def costs_of(policy: Policy) -> Costs | None:
    """The costs of a model or a sum of models; None for layouts with a state instead of a cache."""
    policies = [part.policy for part in policy.parts] if isinstance(policy, SumPolicy) else [policy]
    if any(one.model.config.model_type not in TRANSFORMERS for one in policies):
        return None
    return Costs(*(tuple(numbers) for numbers in zip(*map(_numbers, policies), strict=True)))


def _numbers(policy: Policy) -> tuple[int, int, int]:
    model, config = policy.model, policy.model.config
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    weights = policy.num_parameters()
    looked_up = cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    head = model.get_output_embeddings()
    if head is not None and head.weight is not looked_up:
        weights -= looked_up.numel()
    return weights, layers * heads * size, 2 * layers * kept * size * model.dtype.itemsize

"""Log-probabilities of tokens from hidden states, in memory that does not grow with the vocabulary."""

from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable

from stillroom.models.policy import Policy

LOGITS_AT_ONCE = 1 << 24
"""64 MiB in float32; beyond it logits are made in slices, and once more in the backward pass."""


def token_logp(policy: Policy, states_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """``log p(target)`` [N] (float32 at least) after each hidden state."""
    head: Any = policy.model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None and not (head._forward_hooks or head._forward_pre_hooks)
    if plain and len(states_ND) * head.out_features > LOGITS_AT_ONCE:
        return cast(torch.Tensor, _Sliced.apply(states_ND, head.weight, targets_N))
    logits = policy.logits(states_ND)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -torch.nn.functional.cross_entropy(logits, targets_N, reduction="none")


class _Sliced(torch.autograd.Function):
    """Keeps of all logits the logarithm of their sum; slices are made again for the gradient."""

    @staticmethod
    def forward(ctx: Any, states_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        logp, totals = [], []
        for at in _slices(len(states_ND), len(weight_VD)):
            logits = _logits(states_ND[at], weight_VD)
            totals.append(logits.logsumexp(-1))
            logp.append(logits.gather(1, targets_N[at, None])[:, 0] - totals[-1])
        ctx.save_for_backward(states_ND, weight_VD, targets_N, torch.cat(totals))
        return torch.cat(logp)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        states_ND, weight_VD, targets_N, total_N = ctx.saved_tensors
        grad_states = torch.empty_like(states_ND)
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for at in _slices(len(states_ND), len(weight_VD)):
            # d log p(y) / d logits = one-hot(y) - p
            slope = (_logits(states_ND[at], weight_VD) - total_N[at, None]).exp_().neg_()
            slope.scatter_add_(1, targets_N[at, None], torch.ones_like(total_N[at, None]))
            slope = slope.mul_(grad_N[at, None]).to(states_ND.dtype)
            grad_states[at] = slope @ weight_VD
            if grad_weight is not None:
                grad_weight.addmm_(slope.t(), states_ND[at])
        return grad_states, grad_weight, None


def _slices(rows: int, vocabulary: int) -> list[slice]:
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    return [slice(first, first + step) for first in range(0, rows, step)]


def _logits(states_ND: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
    logits = states_ND @ weight_VD.t()
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

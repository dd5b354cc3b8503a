"""Log-probabilities of tokens and entropies from hidden states, in memory that does not grow with the vocabulary."""

from typing import Any, NamedTuple, cast

import torch
from torch.autograd.function import once_differentiable

from stillroom.models.policy import Policy

LOGITS_AT_ONCE = 1 << 24
"""64 MiB in float32; beyond it logits are made in slices, and once more in the backward pass."""


class Scored(NamedTuple):
    """Of N tokens, float32 at least."""

    logp_N: torch.Tensor
    entropy_N: torch.Tensor
    """Of the distribution that each was drawn from, in nats."""


def token_logp(
    policy: Policy, states_ND: torch.Tensor, targets_N: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """``log p(target)`` [N] (float32 at least) under logits / temperature after each hidden state."""
    weight_VD = _sliceable(policy, states_ND)
    if weight_VD is not None:
        return cast(torch.Tensor, _Sliced.apply(states_ND, weight_VD, targets_N, temperature, False)[0])
    return cast(torch.Tensor, _Target.apply(_all_logits(policy, states_ND, temperature), targets_N))


def token_scores(
    policy: Policy,
    states_ND: torch.Tensor,
    targets_N: torch.Tensor,
    temperature: float = 1.0,
    *,
    entropy_gradient: bool = True,
) -> Scored:
    """`token_logp`, with the entropies from the same logits.

    Args:
        entropy_gradient: whether the entropies have one too; it keeps two more tensors of the logits' size.
    """
    weight_VD = _sliceable(policy, states_ND)
    if weight_VD is not None:
        return Scored(*_Sliced.apply(states_ND, weight_VD, targets_N, temperature, True))
    logp_NV = _all_logits(policy, states_ND, temperature).log_softmax(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        # Where a constraint has banned a token, p log p is 0 and not nan.
        entropy_N = -torch.linalg.vecdot(logp_NV.exp(), logp_NV.clamp(min=torch.finfo(logp_NV.dtype).min))
    return Scored(logp_NV.gather(1, targets_N[:, None])[:, 0], entropy_N)


def _sliceable(policy: Policy, states_ND: torch.Tensor) -> torch.Tensor | None:
    """The matrix [V, D] to make logits with slice by slice; None where they are made at once."""
    weight_VD = policy.head_weight()
    too_large = weight_VD is not None and len(states_ND) * len(weight_VD) > LOGITS_AT_ONCE
    return weight_VD if too_large else None


def _all_logits(policy: Policy, states_ND: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = policy.logits(states_ND)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1.0 else logits / temperature


class _Target(torch.autograd.Function):
    """Log-probabilities of targets [N] under logits [N, V], with one exponential per logit: the gradient needs the
    probabilities, which `log_softmax` makes a second time."""

    @staticmethod
    def forward(ctx: Any, logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        share_NV = logits_NV.softmax(-1)
        ctx.save_for_backward(share_NV, targets_N)
        # The largest logit and its share give the logarithm of the sum; the target's own share may be too small.
        total_N = logits_NV.amax(-1) - share_NV.amax(-1).log_()
        return logits_NV.gather(1, targets_N[:, None])[:, 0] - total_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor, None]:
        share_NV, targets_N = ctx.saved_tensors
        # d log p(y) / d logits = one-hot(y) - p
        slope = share_NV * -grad_N[:, None]
        return slope.scatter_add_(1, targets_N[:, None], grad_N[:, None]), None


class _Sliced(torch.autograd.Function):
    """Keeps of all logits the logarithm of their sum; slices are made again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        temperature: float,
        with_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logp, totals, entropies = [], [], []
        for at in _slices(len(states_ND), len(weight_VD)):
            logits = _logits(states_ND[at], weight_VD, temperature)
            totals.append(logits.logsumexp(-1))
            logp.append(logits.gather(1, targets_N[at, None])[:, 0] - totals[-1])
            if with_entropy:
                share = (logits - totals[-1][:, None]).exp_()
                entropies.append(totals[-1] - (share * logits).sum(-1))
        entropy_N = torch.cat(entropies) if with_entropy else torch.zeros_like(logp[0][:0])
        ctx.temperature = temperature
        ctx.save_for_backward(states_ND, weight_VD, targets_N, torch.cat(totals), entropy_N)
        return torch.cat(logp), entropy_N

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_N: torch.Tensor, grad_entropy_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        states_ND, weight_VD, targets_N, total_N, entropy_N = ctx.saved_tensors
        pulls_entropy = len(entropy_N) > 0 and bool(grad_entropy_N.any())
        grad_states = torch.empty_like(states_ND)
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for at in _slices(len(states_ND), len(weight_VD)):
            # d log p(y) / d logits = one-hot(y) - p
            logp = _logits(states_ND[at], weight_VD, ctx.temperature).sub_(total_N[at, None])
            share = logp.exp() if pulls_entropy else logp.exp_()
            slope = share.neg() if pulls_entropy else share.neg_()
            slope.scatter_add_(1, targets_N[at, None], torch.ones_like(total_N[at, None]))
            slope = slope.mul_(grad_N[at, None])
            if pulls_entropy:
                # d entropy / d logits = -p (log p + entropy)
                slope.sub_(logp.add_(entropy_N[at, None]).mul_(share).mul_(grad_entropy_N[at, None]))
            slope = (slope if ctx.temperature == 1.0 else slope.div_(ctx.temperature)).to(states_ND.dtype)
            grad_states[at] = slope @ weight_VD
            if grad_weight is not None:
                grad_weight.addmm_(slope.t(), states_ND[at])
        return grad_states, grad_weight, None, None, None


def _slices(rows: int, vocabulary: int) -> list[slice]:
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    return [slice(first, first + step) for first in range(0, rows, step)]


def _logits(states_ND: torch.Tensor, weight_VD: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = states_ND @ weight_VD.t()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1.0 else logits.div_(temperature)

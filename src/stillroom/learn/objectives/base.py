"""What an objective is: a pure function of a view of the policy and a batch, returning a sum and its denominator.

The learner asks for the denominators of *all* micro-batches of an optimiser step before the first forward pass, so that
accumulation, padding, packing and the cut into micro-batches cannot change the loss.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch

from stillroom.errors import TrainingStopped, UserError
from stillroom.learn.batches import Batch
from stillroom.learn.objectives.logp import token_logp
from stillroom.models.policy import Policy

Reference = Callable[[], AbstractContextManager[Policy]]
"""Opens the policy that `needs = {"reference"}` asks for: another model, or the one in training without its adapter."""


class LossSum(NamedTuple):
    """A differentiable sum, and diagnostics as detached sums that are divided by the same denominator."""

    total: torch.Tensor
    diagnostics: dict[str, float]


class Sequences(NamedTuple):
    """What a policy makes of every row, over its trained tokens (the end of the turn is one of them)."""

    logp_R: torch.Tensor
    """``sum_t w_t log p(y_t | y_<t)``, float32 at least."""
    length_R: torch.Tensor
    """``sum_t w_t``: the number of tokens where all weights are 1. Never 0."""

    @property
    def mean_R(self) -> torch.Tensor:
        """Length-normalised log-probability, in nats per token."""
        return self.logp_R / self.length_R


@dataclass
class View:
    """What an objective may ask of the policy under training; a forward pass is run once per batch and kept."""

    policy: Policy
    reference: Reference | None = None
    _states: dict[int, torch.Tensor] = field(default_factory=dict)

    def states(self, batch: Batch) -> torch.Tensor:
        """Hidden states [N, D] from which the N tokens that carry a weight are predicted, line by line."""
        if id(batch) not in self._states:
            self._states[id(batch)] = _states(self.policy, batch)
        return self._states[id(batch)]

    def logp_trained(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [N] (float32 at least) and weights [N] of the N tokens that carry a weight, line by line.

        Logits are computed for these positions only.
        """
        return _logp_trained(self.policy, self.states(batch), batch)

    def sequences(self, batch: Batch) -> Sequences:
        """Log-probability and length of every row; raises TrainingStopped naming a row without a trained token."""
        return _sequences(*self.logp_trained(batch), batch)

    def reference_sequences(self, batch: Batch) -> Sequences:
        """The same under the reference policy, without a gradient; raises UserError when there is none."""
        if self.reference is None:
            raise UserError("this objective needs a reference policy; give Learner(..., reference=...)")
        with torch.no_grad(), self.reference() as policy:
            return _sequences(*_logp_trained(policy, _states(policy, batch), batch), batch)


def _states(policy: Policy, batch: Batch) -> torch.Tensor:
    """Of the tokens before those that carry a weight."""
    before_LT = torch.zeros_like(batch.weights_LT, dtype=torch.bool)
    before_LT[:, :-1] = batch.weights_LT[:, 1:] > 0
    return policy.states(batch.ids_LT, batch.row_LT, before_LT, batch.positions_LT)


def _logp_trained(policy: Policy, states_ND: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    keep_LT = batch.weights_LT > 0
    return token_logp(policy, states_ND, batch.ids_LT[keep_LT]), batch.weights_LT[keep_LT]


def _sequences(logp_N: torch.Tensor, weights_N: torch.Tensor, batch: Batch) -> Sequences:
    row_N = batch.row_LT[:, 1:][batch.weights_LT[:, 1:] > 0]
    zeros = torch.zeros(len(batch.row_ids), dtype=logp_N.dtype, device=logp_N.device)
    weights_N = weights_N.to(logp_N.dtype)
    length_R = zeros.index_add(0, row_N, weights_N)
    if not bool((length_R > 0).all()):
        empty = [name for name, length in zip(batch.row_ids, length_R.tolist(), strict=True) if length == 0]
        raise TrainingStopped(
            f"no token of traces {', '.join(empty[:5])} carries a loss weight, so they have no likelihood to compare; "
            "drop empty responses before pairs are built"
        )
    return Sequences(zeros.index_add(0, row_N, logp_N * weights_N), length_R)


class Objective(Protocol):
    """A loss. `needs` names what must be there at construction of the learner (``reference``, …)."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def compares(self) -> Literal["rows", "pairs", "groups"]:
        """What it looks at: rows by themselves, pairs of a chosen and a rejected row, groups of two or more."""
        ...

    def denominator(self, batch: Batch) -> float:
        """What the sum is divided by; from the masks alone."""
        ...

    def __call__(self, view: View, batch: Batch) -> LossSum: ...

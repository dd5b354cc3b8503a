"""What an objective is: a pure function of a view of the policy and a batch, returning a sum and its denominator.

The learner asks for the denominators of *all* micro-batches of an optimiser step before the first forward pass, so that
accumulation, padding, packing and the cut into micro-batches cannot change the loss.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch

from stillroom.errors import TrainingStopped, UserError
from stillroom.learn.batches import Batch
from stillroom.learn.objectives.logp import Scored, token_logp, token_scores
from stillroom.models.policy import Policy

Reference = Callable[[], AbstractContextManager[Policy]]
"""Opens the policy that `needs = {"reference"}` asks for: another model, or the one in training without its adapter."""

Head = Callable[[torch.Tensor], torch.Tensor]
"""A small module over hidden states: from states [N, D] to values [N]."""

PROVIDERS: Mapping[str, str] = {
    "advantage": "take it from an Advantage, e.g. Group() (stillroom.learn.rl.advantages)",
    "logp_old": "take it from the sampler (Response.logp_policy), or from token_logp() under the policy that sampled",
    "logp_ref": "take it from token_logp() under the reference (stillroom.learn.rl.signals)",
    "value_old": "take it from token_values() before the update (stillroom.learn.rl.signals)",
    "return": "take it from Advantages.returns of GAE() (stillroom.learn.rl.advantages)",
}
"""Where the signals that objectives read come from, for messages."""


class LossSum(NamedTuple):
    """A differentiable sum, and diagnostics as detached sums that are divided by the same denominator."""

    total: torch.Tensor
    diagnostics: dict[str, float]
    tokens: Mapping[str, torch.Tensor] = {}
    """Detached values [N] of the tokens that carry a weight, for an objective that `Summarises` them."""


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
    heads: Mapping[str, Head] = field(default_factory=dict)
    """Of the learner, by name."""
    # Keys are the batches, which live as long: the number of a dead one may be given to the next.
    _states: dict[Batch, torch.Tensor] = field(default_factory=dict)
    _scored: dict[tuple[Batch, float], Scored] = field(default_factory=dict)

    def states(self, batch: Batch) -> torch.Tensor:
        """Hidden states [N, D] from which the N tokens that carry a weight are predicted, line by line."""
        if batch not in self._states:
            self._states[batch] = _states(self.policy, batch)
        return self._states[batch]

    def logp_trained(self, batch: Batch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [N] (float32 at least) and weights [N] of the N tokens that carry a weight, line by line.

        They are those under logits / temperature; logits are computed for these positions only.
        """
        keep_LT = batch.weights_LT > 0
        known = self._scored.get((batch, temperature))
        if known is not None:
            return known.logp_N, batch.weights_LT[keep_LT]
        return _logp_trained(self.policy, self.states(batch), batch, temperature)

    def entropy(self, batch: Batch, temperature: float = 1.0, *, gradient: bool = True) -> torch.Tensor:
        """Entropies [N] in nats of the distributions that the N trained tokens are drawn from.

        The logits are made once for these and for the log-probabilities that are asked for afterwards.

        Args:
            gradient: whether the entropies must have one.
        """
        key = (batch, temperature)
        known = self._scored.get(key)
        if known is None or (gradient and torch.is_grad_enabled() and not known.entropy_N.requires_grad):
            targets_N = batch.ids_LT[batch.weights_LT > 0]
            self._scored[key] = token_scores(
                self.policy, self.states(batch), targets_N, temperature, entropy_gradient=gradient
            )
        return self._scored[key].entropy_N

    def signal(self, batch: Batch, name: str) -> torch.Tensor:
        """A signal [N] (float32) of the N trained tokens, line by line.

        Raises:
            UserError: naming the rows that do not have it, and what provides it.
        """
        keep_LT = batch.weights_LT > 0
        found_N = batch.signals[name][keep_LT] if name in batch.signals else None
        unknown_N = torch.ones_like(batch.row_LT[keep_LT], dtype=torch.bool) if found_N is None else found_N.isnan()
        if found_N is None or bool(unknown_N.any()):
            without = [batch.row_ids[row] for row in batch.row_LT[keep_LT][unknown_N].unique().tolist()]
            hint = PROVIDERS.get(name, "give Row.signals one number per token")
            raise UserError(f"traces {', '.join(without[:5])} have no signal {name!r} for their trained tokens: {hint}")
        return found_N

    def head(self, name: str) -> Head:
        """A head of the learner: from states [N, D] to values [N], float32 at least."""
        if name not in self.heads:
            raise UserError(f"there is no head {name!r}; give Learner(..., heads={{{name!r}: ValueHead()}})")
        return self.heads[name]

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
    return policy.states(batch.ids_LT, batch.row_LT, before_LT, batch.positions_LT, batch.images)


def _logp_trained(
    policy: Policy, states_ND: torch.Tensor, batch: Batch, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    keep_LT = batch.weights_LT > 0
    return token_logp(policy, states_ND, batch.ids_LT[keep_LT], temperature), batch.weights_LT[keep_LT]


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


@runtime_checkable
class Summarises(Protocol):
    """An objective that reports more than means over its own denominator: shares and extremes over tokens, say."""

    def summary(self, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Diagnostics of `LossSum.tokens`, joined over everything that was accumulated for one step."""
        ...

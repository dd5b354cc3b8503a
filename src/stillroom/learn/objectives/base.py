"""What an objective is: a pure function of a view of the policy and a batch, returning a sum and its denominator.

The learner asks for the denominators of *all* micro-batches of an optimiser step before the first forward pass, so that
accumulation, padding and the cut into micro-batches cannot change the loss.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from stillroom.learn.batches import Batch
from stillroom.models.policy import Policy


class LossSum(NamedTuple):
    """A differentiable sum, and diagnostics as detached sums over the same terms."""

    total: torch.Tensor
    diagnostics: dict[str, float]


@dataclass
class View:
    """What an objective may ask of the policy under training; a forward pass is run once per batch and kept."""

    policy: Policy
    _hidden: dict[int, torch.Tensor] = field(default_factory=dict)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Last hidden states [B, T, D]."""
        if id(batch) not in self._hidden:
            self._hidden[id(batch)] = self.policy.hidden(batch.ids_BT)
        return self._hidden[id(batch)]

    def logp_trained(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [N] (float32 at least) and weights [N] of the N tokens that carry a weight, row by row.

        Logits are computed for these positions only.
        """
        weights = batch.weights_BT[:, 1:]
        keep = weights > 0
        logits = self.policy.logits(self.hidden(batch)[:, :-1][keep])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = batch.ids_BT[:, 1:][keep]
        return -torch.nn.functional.cross_entropy(logits, targets, reduction="none"), weights[keep]


class Objective(Protocol):
    """A loss. `needs` names what must be there at construction of the learner (``reference``, ``value_head``, …)."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    def denominator(self, batch: Batch) -> float:
        """What the sum is divided by; from the masks alone."""
        ...

    def __call__(self, view: View, batch: Batch) -> LossSum: ...

"""Supervised fine-tuning: weighted cross-entropy of the taught tokens."""

from dataclasses import dataclass
from typing import Literal

from stillroom.learn.batches import Batch
from stillroom.learn.objectives.base import LossSum, View


@dataclass(frozen=True)
class SFT:
    """``- sum_t w_t log p(y_t | y_<t) / sum_t w_t`` over the whole optimiser batch (token mean)."""

    name: str = "sft"
    needs: frozenset[str] = frozenset()
    compares: Literal["rows"] = "rows"

    def denominator(self, batch: Batch) -> float:
        return float(batch.weights_LT.clamp(min=0).double().sum())

    def __call__(self, view: View, batch: Batch) -> LossSum:
        logp, weights = view.logp_trained(batch)
        return LossSum(-(logp * weights).sum(), {})

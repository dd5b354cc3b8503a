"""What a classification head learns: whether a statement about the whole text is true."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from stillroom.learn.batches import Batch
from stillroom.learn.objectives.base import LossSum, View


@dataclass(frozen=True)
class Classify:
    """``-y log s(v) - (1 - y) log(1 - s(v))``, v a head's value at a weighted token, y its signal ``label``, 1 or 0.

    The value is that of the state from which the token is predicted: a weight on the first token of an answer asks what
    the question alone says, as the heads for sequence classification of transformers do.

    Diagnostics over the weighted tokens: ``accuracy`` before the update.

    Raises:
        UserError: rows that lack the signal.
    """

    head: str = "label"
    name: str = "classify"
    compares: Literal["rows"] = "rows"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"head {self.head}"})

    def denominator(self, batch: Batch) -> float:
        return float(batch.weights_LT.clamp(min=0).double().sum())

    def __call__(self, view: View, batch: Batch) -> LossSum:
        value_N = view.head(self.head)(view.states(batch))
        label_N = view.signal(batch, "label").to(value_N.dtype)
        weights_N = batch.weights_LT[batch.weights_LT > 0].to(value_N.dtype)
        loss_N = binary_cross_entropy_with_logits(value_N, label_N, reduction="none")
        return LossSum((loss_N * weights_N).sum(), {}, {"right": ((value_N > 0) == (label_N > 0.5)).detach()})

    def summary(self, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return {"accuracy": float(tokens["right"].double().mean())}

"""What a value head learns: the return that is still to come before each token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from stillroom.errors import UserError
from stillroom.learn.batches import Batch
from stillroom.learn.objectives.base import LossSum, View


@dataclass(frozen=True)
class ValueLoss:
    """``weight / 2 * max((V - R)^2, (V_clip - R)^2)``, the weighted mean over the tokens of the optimiser batch.

    ``V_clip`` is V held within `clip` of the estimate at sampling time (signal ``value_old``), R the signal ``return``
    (Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 9; the clip is that of OpenAI's baselines).

    Args:
        clip: None: the plain squared error.
        weight: beside a policy loss on the same trunk.
        head: of the learner.

    Diagnostics over the trained tokens: ``value_error`` (mean squared), ``value_clip_share``, ``explained_variance``
    ``1 - var(R - V) / var(R)`` of the values before the update (0 where all returns are equal).

    Raises:
        UserError: a clip or weight that is not above 0; rows that lack a signal.
    """

    clip: float | None = 0.2
    weight: float = 1.0
    head: str = "value"
    name: str = "value"
    compares: Literal["rows"] = "rows"

    def __post_init__(self) -> None:
        for name, value in (("clip", self.clip), ("weight", self.weight)):
            if value is not None and not value > 0:
                raise UserError(f"{name}={value} would teach the value head nothing; give more than 0")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"head {self.head}"})

    def denominator(self, batch: Batch) -> float:
        return float(batch.weights_LT.clamp(min=0).double().sum())

    def __call__(self, view: View, batch: Batch) -> LossSum:
        value_N = view.head(self.head)(view.states(batch))
        return_N = view.signal(batch, "return").to(value_N.dtype)
        weights_N = batch.weights_LT[batch.weights_LT > 0].to(value_N.dtype)
        error_N = (value_N - return_N).square()
        tokens = {"value": value_N.detach(), "return": return_N}
        if self.clip is not None:
            old_N = view.signal(batch, "value_old").to(value_N.dtype)
            held_N = old_N + (value_N - old_N).clamp(-self.clip, self.clip)
            clipped_N = (held_N - return_N).square()
            tokens["clipped"] = (clipped_N > error_N).to(value_N.dtype)
            error_N = torch.maximum(error_N, clipped_N)
        return LossSum(self.weight / 2 * (error_N * weights_N).sum(), {}, tokens)

    def summary(self, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
        value_N, return_N = tokens["value"].double(), tokens["return"].double()
        error_N, spread = return_N - value_N, float(return_N.var(unbiased=False))
        explained = 1 - float(error_N.var(unbiased=False)) / spread if spread > 0 else 0.0
        found = {"value_error": float(error_N.square().mean()), "explained_variance": explained}
        if "clipped" in tokens:
            found["value_clip_share"] = float(tokens["clipped"].mean())
        return found

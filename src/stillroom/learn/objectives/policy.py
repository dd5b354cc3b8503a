"""The policy gradient of sampled tokens, clipped or plain.

With ``r_t = p(y_t) / p_old(y_t)`` under logits / temperature, A_t the token's advantage and ``l_t`` the loss of a token:

| `clip` | ``l_t`` | source |
|---|---|---|
| ``(low, high)`` | ``-min(r_t A_t, clamp(r_t, 1 - low, 1 + high) A_t)`` | Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7; apart: Yu et al. 2025, https://arxiv.org/abs/2503.14476, eq. 10 |
| None | ``-A_t log p(y_t)`` | Williams 1992 |

To ``l_t`` are added ``weight * KL_t`` of the divergence from the reference (Shao et al. 2024,
https://arxiv.org/abs/2402.03300, eq. 3) and ``-entropy * H_t``. Means are taken over the whole optimiser batch, with the
loss weights w of the tokens; a row without a trained token counts nowhere.

| `aggregate` | loss | source |
|---|---|---|
| ``sequence-mean`` | mean over rows of ``sum_t w_t l_t / sum_t w_t`` | GRPO, eq. 3 |
| ``token-mean`` | ``sum w l / sum w`` over all tokens | DAPO, eq. 8 |
| ``constant`` | ``sum w l / (rows * constant)`` | Dr. GRPO, https://arxiv.org/abs/2503.20783, with the longest response that is allowed |
"""  # noqa: E501 - the tables

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from stillroom.errors import UserError, unknown_name
from stillroom.learn.batches import Batch
from stillroom.learn.objectives.base import LossSum, View
from stillroom.learn.rl.kl import Estimator, divergence, require_estimator

Aggregate = Literal["sequence-mean", "token-mean", "constant"]
_AGGREGATES: tuple[Aggregate, ...] = ("sequence-mean", "token-mean", "constant")


@dataclass(frozen=True)
class LossKL:
    """A divergence from the reference (signal ``logp_ref``) in the loss; GRPO's weight is 0.04."""

    estimator: Estimator = "k3"
    weight: float = 0.04

    def __post_init__(self) -> None:
        require_estimator(self.estimator)
        if not self.weight > 0:
            raise UserError(f"a KL term of weight {self.weight} has no effect; give more than 0, or kl=None")


@dataclass(frozen=True)
class PolicyGradient:
    """Raise the tokens of positive advantage, lower the others.

    Rows carry the signals ``advantage``, ``logp_old`` (where `clip` is not None) and ``logp_ref`` (where there is a
    KL term).

    Args:
        clip: how far a ratio may fall below and rise above 1 before its token stops pulling; None: REINFORCE.
        aggregate: see the module.
        constant: what every row's sum is divided by under ``aggregate="constant"``, in tokens.
        kl: a divergence in the loss.
        entropy: weight of the entropy bonus, in loss per nat.
        temperature: of sampling; log-probabilities and entropies are those of what was drawn from.

    Diagnostics, over the trained tokens of a step: ``clip_share``, ``ratio_mean``, ``ratio_max``, ``kl_old`` (k3, from
    the policy that sampled), ``logp_gap_mean`` and ``logp_gap_max`` of ``|log p - log p_old|``: on the first update
    after sampling how far trainer and sampler disagree, later how far the policy has moved; ``kl_ref``; ``entropy``.

    Raises:
        UserError: at construction, for settings without effect or meaning; on rows that lack a signal.
    """

    clip: tuple[float, float] | None = (0.2, 0.2)
    aggregate: Aggregate = "sequence-mean"
    constant: float | None = None
    kl: LossKL | None = None
    entropy: float = 0.0
    temperature: float = 1.0
    name: str = "policy-gradient"
    needs: frozenset[str] = frozenset()
    compares: Literal["rows"] = "rows"

    def __post_init__(self) -> None:
        if self.aggregate not in _AGGREGATES:
            raise unknown_name("aggregate", self.aggregate, _AGGREGATES)
        if (self.aggregate == "constant") != (self.constant is not None):
            raise UserError(
                f"aggregate={self.aggregate!r} with constant={self.constant}: "
                + ("give constant=TOKENS" if self.constant is None else "the constant belongs to aggregate='constant'")
            )
        if self.constant is not None and not self.constant > 0:
            raise UserError(f"constant={self.constant} divides nothing; give the longest response that is allowed")
        if self.clip is not None and not (0 < self.clip[0] <= 1 and self.clip[1] > 0):
            raise UserError(f"clip={self.clip} leaves no range of ratios; give (low, high), e.g. (0.2, 0.2), or None")
        if not self.temperature > 0:
            raise UserError(f"temperature={self.temperature} has no distribution to learn from; give more than 0")

    def denominator(self, batch: Batch) -> float:
        if self.aggregate == "token-mean":
            return float(batch.weights_LT.clamp(min=0).double().sum())
        rows = len(batch.row_LT[batch.weights_LT > 0].unique())
        return float(rows) if self.constant is None else rows * self.constant

    def __call__(self, view: View, batch: Batch) -> LossSum:
        entropy_N = view.entropy(batch, self.temperature, gradient=self.entropy != 0)
        logp_N, weights_N = view.logp_trained(batch, self.temperature)
        advantage_N = view.signal(batch, "advantage").to(logp_N.dtype)
        tokens = {"entropy": entropy_N.detach()}
        if self.clip is None:
            loss_N = -advantage_N * logp_N
            if "logp_old" in batch.signals:
                tokens["log_ratio"] = logp_N.detach() - view.signal(batch, "logp_old")
        else:
            low, high = self.clip
            old_N = view.signal(batch, "logp_old").to(logp_N.dtype)
            ratio_N = (logp_N - old_N).exp()
            loss_N = -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(1 - low, 1 + high) * advantage_N)
            clipped = ((ratio_N < 1 - low) & (advantage_N < 0)) | ((ratio_N > 1 + high) & (advantage_N > 0))
            tokens |= {"clipped": clipped.to(logp_N.dtype), "log_ratio": logp_N.detach() - old_N}
        if self.kl is not None:
            kl_N = divergence(self.kl.estimator, logp_N, view.signal(batch, "logp_ref").to(logp_N.dtype))
            loss_N = loss_N + self.kl.weight * kl_N
            tokens["kl_ref"] = kl_N.detach()
        if self.entropy:
            loss_N = loss_N - self.entropy * entropy_N
        return LossSum(self._total(loss_N, weights_N.to(logp_N.dtype), batch), {}, tokens)

    def _total(self, loss_N: torch.Tensor, weights_N: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The sum over this batch that is divided by the denominators of all."""
        if self.aggregate != "sequence-mean":
            return (loss_N * weights_N).sum()
        row_N = batch.row_LT[batch.weights_LT > 0]
        weight_R = torch.zeros(len(batch.row_ids), dtype=loss_N.dtype, device=loss_N.device)
        weight_R.index_add_(0, row_N, weights_N)
        return (loss_N * (weights_N / weight_R[row_N])).sum()

    def summary(self, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
        found = {"entropy": float(tokens["entropy"].mean())}
        if "clipped" in tokens:
            found["clip_share"] = float(tokens["clipped"].mean())
        if "log_ratio" in tokens:
            log_ratio_N = tokens["log_ratio"]
            ratio_N, gap_N = log_ratio_N.exp(), log_ratio_N.abs()
            found |= {"ratio_mean": float(ratio_N.mean()), "ratio_max": float(ratio_N.max())}
            found |= {"logp_gap_mean": float(gap_N.mean()), "logp_gap_max": float(gap_N.max())}
            found["kl_old"] = float(divergence("k3", -log_ratio_N, torch.zeros_like(log_ratio_N)).mean())
        if "kl_ref" in tokens:
            found["kl_ref"] = float(tokens["kl_ref"].mean())
        return found

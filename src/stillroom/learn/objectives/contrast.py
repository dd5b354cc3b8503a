"""Objectives that compare responses to one problem by their likelihood.

With ``l`` the log-probability of a response's trained tokens, ``m`` the same per token, ``r`` either of them under the
reference policy, w the chosen and l the rejected response of a pair, and 1 .. n the responses of a group from the best:

| objective | loss of a pair or group | source |
|---|---|---|
| `REDI` | ``-c m_w + alpha m_l`` | Xu et al. 2025, https://arxiv.org/abs/2505.24850, eq. 3 |
| `REDI` (alpha = 1) | ``-m_w + m_l``, "symmetric": the limit of SimPO and DPO for beta -> 0 | the same |
| `SimPO` | ``-log sigmoid(beta (m_w - m_l) - gamma)`` | Meng et al. 2024, https://arxiv.org/abs/2405.14734, eq. 6 |
| `DPO` | ``-log sigmoid(beta ((l_w - r_w) - (l_l - r_l)))`` | Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, eq. 7 |
| `RRHF` | ``sum_{i worse than j} max(0, m_i - m_j) - m_1`` | Yuan et al. 2023, https://arxiv.org/abs/2304.05302, eq. 2-5 |
| `PRO` | ``-sum_k log(exp(m_k / T_kk) / sum_{i >= k} exp(m_i / T_ki)) - beta m_1`` | Song et al. 2023, https://arxiv.org/abs/2306.17492, eq. 7-13 |

Every loss is averaged over the pairs or groups of the optimiser batch, never over tokens. `REDI` has no lower bound: its
value says nothing about progress, and a falling ``logp_chosen`` is the sign of collapse (see `Collapse`).
"""  # noqa: E501 - the table

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch.nn.functional import logsigmoid

from stillroom.errors import UserError
from stillroom.learn.batches import Batch
from stillroom.learn.objectives.base import LossSum, Sequences, View


class _Pairs(NamedTuple):
    """A value per chosen row and per rejected row, both [P]."""

    chosen: torch.Tensor
    rejected: torch.Tensor


def _pairs(values_R: torch.Tensor) -> _Pairs:
    chosen, rejected = values_R.view(-1, 2).unbind(1)
    return _Pairs(chosen, rejected)


def _pair_diagnostics(found: Sequences) -> dict[str, float]:
    """Sums over pairs of the mean log-probabilities (nats per token), their difference, and right preferences."""
    chosen, rejected = (side.detach() for side in _pairs(found.mean_R))
    return {
        "logp_chosen": float(chosen.sum()),
        "logp_rejected": float(rejected.sum()),
        "margin": float((chosen - rejected).sum()),
        "prefers_chosen": float((chosen > rejected).sum()),
    }


@dataclass(frozen=True)
class REDI:
    """Reinforcement distillation: raise the chosen response's mean log-probability, lower the rejected one's.

    Args:
        alpha: weight of the rejected response in [0, 1]; 0 is fine-tuning on the chosen ones, 1 the symmetric loss (the
            paper's choice: 0.8).
        chosen_weight: weight of the chosen response (the paper's: 1).
    """

    alpha: float = 0.8
    chosen_weight: float = 1.0
    name: str = "redi"
    needs: frozenset[str] = frozenset()
    compares: Literal["pairs"] = "pairs"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UserError(f"alpha={self.alpha} is not a weight for the rejected response; give 0 to 1 (paper: 0.8)")
        if self.chosen_weight <= 0:
            raise UserError(f"chosen_weight={self.chosen_weight} would not raise the chosen response; give more than 0")

    def denominator(self, batch: Batch) -> float:
        return float(batch.groups)

    def __call__(self, view: View, batch: Batch) -> LossSum:
        found = view.sequences(batch)
        mean, length = _pairs(found.mean_R), _pairs(found.length_R)
        loss = -self.chosen_weight * mean.chosen + self.alpha * mean.rejected
        # A prefix that both responses share gets the difference of their weights per token.
        down = self.alpha / length.rejected > self.chosen_weight / length.chosen
        return LossSum(loss.sum(), {**_pair_diagnostics(found), "prefix_down": float(down.sum())})


@dataclass(frozen=True)
class SimPO:
    """Simple preference optimisation: a margin on mean log-probabilities, without a reference.

    The defaults are the paper's beta and its ratio gamma / beta = 0.5.
    """

    beta: float = 2.0
    gamma: float = 1.0
    name: str = "simpo"
    needs: frozenset[str] = frozenset()
    compares: Literal["pairs"] = "pairs"

    def __post_init__(self) -> None:
        _require_positive("beta", self.beta)

    def denominator(self, batch: Batch) -> float:
        return float(batch.groups)

    def __call__(self, view: View, batch: Batch) -> LossSum:
        found = view.sequences(batch)
        mean = _pairs(found.mean_R)
        loss = -logsigmoid(self.beta * (mean.chosen - mean.rejected) - self.gamma)
        return LossSum(loss.sum(), _pair_diagnostics(found))


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation: the log-probability ratio to a reference policy, summed over tokens."""

    beta: float = 0.1
    name: str = "dpo"
    needs: frozenset[str] = frozenset({"reference"})
    compares: Literal["pairs"] = "pairs"

    def __post_init__(self) -> None:
        _require_positive("beta", self.beta)

    def denominator(self, batch: Batch) -> float:
        return float(batch.groups)

    def __call__(self, view: View, batch: Batch) -> LossSum:
        found = view.sequences(batch)
        ratio = _pairs(found.logp_R - view.reference_sequences(batch).logp_R)
        loss = -logsigmoid(self.beta * (ratio.chosen - ratio.rejected))
        return LossSum(loss.sum(), _pair_diagnostics(found))


@dataclass(frozen=True)
class RRHF:
    """Rank responses: a hinge on every pair that stands in the wrong order, plus fine-tuning on the best.

    The paper sums the best response's tokens, its released code takes their mean, which we follow: a sum would let long
    answers drown the ranking.
    """

    name: str = "rrhf"
    needs: frozenset[str] = frozenset()
    compares: Literal["groups"] = "groups"

    def denominator(self, batch: Batch) -> float:
        return float(batch.groups)

    def __call__(self, view: View, batch: Batch) -> LossSum:
        total, best = torch.zeros(()), 0.0
        for mean_G, score_G in _groups(view.sequences(batch).mean_R, batch):
            worse = score_G[:, None] < score_G[None, :]
            hinge = (mean_G[:, None] - mean_G[None, :]).clamp(min=0)
            total = total + hinge[worse].sum() - mean_G[0]
            best += float(mean_G[0].detach())
        return LossSum(total, {"logp_chosen": best})


@dataclass(frozen=True)
class PRO:
    """Preference ranking optimisation: each response against all that are worse, at temperatures from their score gaps.

    ``T_ki = 1 / (score_k - score_i)`` and ``T_kk`` the smallest of them; responses of equal score are not compared.

    Args:
        beta: weight of fine-tuning on the best response; None: the paper's ``0.05 (n - 1)^2`` for n responses.
    """

    beta: float | None = None
    name: str = "pro"
    needs: frozenset[str] = frozenset()
    compares: Literal["groups"] = "groups"

    def denominator(self, batch: Batch) -> float:
        return float(batch.groups)

    def __call__(self, view: View, batch: Batch) -> LossSum:
        total, best = torch.zeros(()), 0.0
        for mean_G, score_G in _groups(view.sequences(batch).mean_R, batch):
            beta = 0.05 * (len(mean_G) - 1) ** 2 if self.beta is None else self.beta
            total = total - beta * mean_G[0]
            best += float(mean_G[0].detach())
            for k in range(len(mean_G) - 1):
                gap = score_G[k] - score_G[k + 1 :]
                worse = gap > 0
                if worse.any():
                    own = mean_G[k] * gap.max()
                    others = (mean_G[k + 1 :] * gap)[worse]
                    total = total - (own - torch.cat([own[None], others]).logsumexp(0))
        return LossSum(total, {"logp_chosen": best})


def _groups(values_R: torch.Tensor, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Per group, the values and the scores of its rows, best first."""
    sizes = batch.group_R.bincount().tolist()
    return list(zip(values_R.split(sizes), batch.score_R.to(values_R.dtype).split(sizes), strict=True))


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name}={value} would teach nothing or the opposite; give more than 0")


@dataclass
class Collapse:
    """Watches for the collapse of a contrastive objective: chosen responses become unlikely too.

    Args:
        drop: alarm when ``logp_chosen`` falls this far below its value at the first step (nats per token; our choice).
    """

    drop: float = 1.0
    start: float | None = None

    def check(self, step: int, diagnostics: dict[str, float]) -> str | None:
        """The alarm of this step, if any; give the diagnostics of every step in order."""
        now = diagnostics.get("logp_chosen")
        if now is None:
            return None
        if self.start is None:
            self.start = now
        if now >= self.start - self.drop:
            return None
        return (
            f"step {step}: the chosen responses have fallen from {self.start:.2f} to {now:.2f} nats per token; the "
            "policy is collapsing: lower the learning rate or the weight of the rejected responses"
        )

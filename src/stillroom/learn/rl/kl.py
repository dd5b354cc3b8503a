"""How far a policy has moved from its reference: estimators of the Kullback-Leibler divergence, and where it counts.

For a token sampled from the policy, with ``d = log p(token) - log p_ref(token)`` (Schulman 2020,
http://joschu.net/blog/kl-approx.html):

| estimator | value | |
|---|---|---|
| `k1` | ``d`` | unbiased, of any sign; as a loss its expected gradient is 0, so that it belongs in the reward |
| `k2` | ``d^2 / 2`` | biased, never negative; as a loss its expected gradient is that of the divergence |
| `k3` | ``exp(-d) - 1 + d`` | unbiased, never negative; GRPO's loss term |
"""

from dataclasses import dataclass
from typing import Literal

import torch

from stillroom.errors import UserError, unknown_name

Estimator = Literal["k1", "k2", "k3"]
ESTIMATORS: tuple[Estimator, ...] = ("k1", "k2", "k3")
Place = Literal["reward", "loss", "off"]


def divergence(estimator: Estimator, logp: torch.Tensor, logp_ref: torch.Tensor) -> torch.Tensor:
    """The estimate per sampled token, of the shape and type of both tensors; differentiable in both."""
    apart = logp - logp_ref
    if estimator == "k1":
        return apart
    if estimator == "k2":
        return apart.square() / 2
    return torch.expm1(-apart) + apart


@dataclass(frozen=True)
class KL:
    """Keep the policy near the policy it was before training.

    Args:
        estimator: see the module.
        place: ``reward``: taken off what each token earned, before advantages; ``loss``: added to the policy's loss
            (`PolicyGradient(kl=LossKL(...))`); ``off``: not there, and no reference is loaded.
        weight: of the estimate per token; ``off`` has none.

    Raises:
        UserError: an unknown name, or a combination without effect.
    """

    estimator: Estimator = "k3"
    place: Place = "off"
    weight: float = 0.0

    def __post_init__(self) -> None:
        require_estimator(self.estimator)
        if self.place not in ("reward", "loss", "off"):
            raise unknown_name("place of the KL term", self.place, ["reward", "loss", "off"])
        if self.place == "off" and self.weight:
            raise UserError(f"KL weight {self.weight} has no effect with place='off'; give place='loss' or 'reward'")
        if self.place != "off" and not self.weight > 0:
            raise UserError(f"a KL term of weight {self.weight} has no effect; give more than 0, or place='off'")


def require_estimator(name: str) -> None:
    """Raise UserError on an unknown estimator."""
    if name not in ESTIMATORS:
        raise unknown_name("estimator", name, ESTIMATORS)

"""What an algorithm of reinforcement learning consists of: an advantage, a policy loss, and what goes with them."""

from dataclasses import dataclass, replace

from stillroom.errors import UserError
from stillroom.learn.heads import ValueHead
from stillroom.learn.learner import Term
from stillroom.learn.objectives.policy import LossKL, PolicyGradient
from stillroom.learn.objectives.value import ValueLoss
from stillroom.learn.rl.advantages import Advantage
from stillroom.learn.rl.kl import KL

PLAIN = PolicyGradient()
NO_KL = KL()


@dataclass(frozen=True)
class Algorithm:
    """Parts that fit each other, or a UserError that says what is missing.

    Args:
        advantage: how rewards become the advantages of tokens.
        policy: its `kl` and `temperature` are filled in, from `kl` and from the engine's configuration.
        value: for advantages that need values: what the value head learns.
        kl: from the policy as it was at the start; ``off`` loads no reference.
    """

    advantage: Advantage
    policy: PolicyGradient = PLAIN
    value: ValueLoss | None = None
    kl: KL = NO_KL

    def __post_init__(self) -> None:
        if self.advantage.needs_values and self.value is None:
            raise UserError(f"{self.advantage} needs values; give Algorithm(..., value=ValueLoss())")
        if self.value is not None and not self.advantage.needs_values:
            raise UserError(f"a value head has no effect on {self.advantage}; leave the value loss out, or use GAE()")
        if self.policy.kl is not None or self.policy.temperature != 1.0:
            raise UserError(
                "PolicyGradient's kl and temperature are filled in by the engine: give Algorithm(kl=KL(...)) and "
                "RLConfig(temperature=...)"
            )


def objectives(algorithm: Algorithm, temperature: float) -> list[Term]:
    """What the rollouts are trained with."""
    kl = algorithm.kl
    loss_kl = LossKL(kl.estimator, kl.weight) if kl.place == "loss" else None
    terms = [Term(replace(algorithm.policy, kl=loss_kl, temperature=temperature))]
    return terms if algorithm.value is None else [*terms, Term(algorithm.value)]


def heads(algorithm: Algorithm) -> dict[str, ValueHead]:
    """What the learner needs beside the policy."""
    return {} if algorithm.value is None else {algorithm.value.head: ValueHead()}

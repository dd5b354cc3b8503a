"""A step's rollouts between collection and update: what a page may look at and change, and the rows it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from stillroom.chat import Tokenised
from stillroom.learn.batches import Row
from stillroom.learn.rl.advantages import Advantages
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Rollout
from stillroom.types import Finish

Floats = npt.NDArray[np.float64]
Overlong = Literal["keep", "zero", "negative", "mask"]
"""What becomes of a response that hit the limit on new tokens: scored like any other; reward 0; reward -1; left out."""


@dataclass
class RolloutBatch:
    """The rollouts of a step, scored. All lists are parallel; a page may change `weights` and `signals` in place.

    Advantage 0 is not weight 0: the first is a token without a gradient that counts in the mean of the loss, the second
    a token that is not there.
    """

    step: int
    rollouts: list[Rollout]
    scored: list[Scored]
    weights: list[Floats]
    """Loss weight of every response token."""
    signals: list[dict[str, Floats]]
    """Numbers per response token, by the names of `Row.signals`: ``advantage``, ``logp_old``, …"""


def ones(rollout: Rollout) -> Floats:
    """Weight 1 for every response token."""
    return np.ones(len(rollout.ids))


def sampled_logp(rollout: Rollout) -> Floats:
    """Of every response token, as the sampler drew it: under logits / temperature."""
    return np.asarray(rollout.response.logp_policy, np.float64)


def with_overlong(rollouts: Sequence[Rollout], scored: Sequence[Scored], overlong: Overlong) -> list[Scored]:
    """Rewards after the policy on responses that were cut off; those it touches carry the flag ``overlong``."""
    rewards = {"zero": 0.0, "negative": -1.0, "mask": None}
    return [
        replace(found, reward=rewards[overlong], flags=found.flags | {"overlong"})
        if overlong != "keep" and found.reward is not None and rollout.response.finish is Finish.LENGTH
        else found
        for rollout, found in zip(rollouts, scored, strict=True)
    ]


def put_together(
    step: int,
    rollouts: Sequence[Rollout],
    scored: Sequence[Scored],
    found: Advantages,
    signals: Sequence[dict[str, Floats]],
) -> RolloutBatch:
    """The batch of a step; rollouts that do not train get weight 0."""
    signals = [{**given, "advantage": advantage} for given, advantage in zip(signals, found.tokens, strict=True)]
    if found.returns is not None:
        signals = [{**given, "return": returns} for given, returns in zip(signals, found.returns, strict=True)]
    weights = [ones(r) * trains for r, trains in zip(rollouts, found.trains, strict=True)]
    return RolloutBatch(step, list(rollouts), list(scored), weights, signals)


def mask(batch: RolloutBatch, wanted: Sequence[bool]) -> int:
    """Take the loss weight of every rollout that is not wanted; returns how many had one."""
    lost = 0
    for weights, keep in zip(batch.weights, wanted, strict=True):
        if not keep:
            lost += bool(weights.any())
            weights[:] = 0.0
    return lost


def rows(batch: RolloutBatch) -> list[Row]:
    """What the learner trains on: the rollouts with a loss weight, token by token as they were sampled."""
    found = zip(batch.rollouts, batch.weights, batch.signals, strict=True)
    return [row(rollout, weights, signals) for rollout, weights, signals in found if weights.any()]


def row(rollout: Rollout, weights: Floats, signals: dict[str, Floats]) -> Row:
    """A rollout under its training prompt; signals are 0 on the prompt."""
    before = [0.0] * len(rollout.prompt_ids)
    return Row(
        rollout.id,
        Tokenised([*rollout.prompt_ids, *rollout.ids], [*before, *weights.tolist()]),
        signals={name: [*before, *values.tolist()] for name, values in signals.items()},
        pictures=rollout.pictures,
    )

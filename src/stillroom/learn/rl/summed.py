"""Reinforcement of a sum of policies: what its parts say of every step."""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from stillroom.errors import UserError
from stillroom.learn.objectives.base import Reference
from stillroom.learn.rl.batch import RolloutBatch, ones, row
from stillroom.learn.rl.engine import Engine, RLStep
from stillroom.learn.rl.signals import token_logp
from stillroom.models.composite import SumPolicy
from stillroom.models.policy import Policy


def steps_of_sum(engine: Engine) -> Iterator[RLStep]:
    """`Engine.steps` for a sum of two policies, with metrics of its parts (UniR's logs).

    - ``kl_frozen``: mean over the tokens drawn of ``log p(sum) - log p(frozen part)``, which estimates a KL;
    - ``trained_logp_right``, ``trained_logp_wrong``: the trained part's mean log-probability per token, as a mean over
      right and over wrong answers; None where there is none. A part that is learning what is right sets them apart.

    Raises:
        UserError: when the policy is no sum of two.
    """
    policy = engine.learner.policy
    if not isinstance(policy, SumPolicy) or len(policy.parts) != 2:
        raise UserError(f"{policy.source} is no sum of two policies; save one with save_sum and start from it")
    while engine.step < engine.config.steps:
        batch = engine.collect()
        found = _parts(engine, policy, batch)
        step = engine.update(batch)
        step.metrics.update(found)
        yield step


def _parts(engine: Engine, policy: SumPolicy, batch: RolloutBatch) -> dict[str, float | None]:
    rows = [row(rollout, ones(rollout), {}) for rollout in batch.rollouts]
    trained, frozen = (
        token_logp(engine.learner, rows, engine.config.temperature, _opened(part.policy)) for part in policy.parts
    )
    drawn = np.concatenate([given["logp_old"] for given in batch.signals])
    found: dict[str, float | None] = {"kl_frozen": float((drawn - np.concatenate(frozen)).mean())}
    for side, correct in (("right", True), ("wrong", False)):
        means = [logp.mean() for logp, said in zip(trained, batch.scored, strict=True) if said.correct is correct]
        found[f"trained_logp_{side}"] = float(np.mean(means)) if means else None
    return found


def _opened(policy: Policy) -> Reference:
    return lambda: nullcontext(policy)

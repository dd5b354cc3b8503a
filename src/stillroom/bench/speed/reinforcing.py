"""Reinforcement learning beside TRL's `GRPOTrainer`: generation, rewards and an update per step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.bench.speed import sampling
from stillroom.bench.speed.pairing import Bar, Side

if TYPE_CHECKING:
    from stillroom.learn.rl.rewards import Scored
    from stillroom.learn.rl.rollouts import Rollout

SAMPLES, BATCH, STEPS = 8, 64, 4
"""Answers per prompt, rows of a step, steps of a round."""
LR = 1e-5
"""So small that the policy, and with it the length of its answers, stays what it is."""


def job(folder: Path, *, ends: int) -> dict[str, Any]:
    """Weights, prompts and what a step consists of; see `sampling.job`."""
    prompts = STEPS * BATCH // SAMPLES
    return {**sampling.job(folder, size="0.4m", prompts=prompts, samples=SAMPLES, batch=BATCH, ends=ends), "lr": LR}


def reward(rollouts: "Sequence[Rollout]") -> "list[Scored]":
    """Costs nothing and differs within a group; the peer's is the same."""
    from stillroom.learn.rl.rewards import Scored

    return [Scored(sum(rollout.ids) % 97 / 97) for rollout in rollouts]


def grpo(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side: the engine, from the same weights every round."""
    import dataclasses

    from stillroom.learn.learner import Learner
    from stillroom.learn.objectives.policy import PolicyGradient
    from stillroom.learn.rl.advantages import Group
    from stillroom.learn.rl.algorithm import PLAIN, Algorithm
    from stillroom.learn.rl.config import RLConfig
    from stillroom.learn.rl.engine import Engine
    from stillroom.learn.rl.rollouts import Asked, Variant
    from stillroom.models.policy import load_policy
    from stillroom.types import Message, Problem

    policy = dataclasses.replace(load_policy(job["model"]), stop_ids=frozenset(job["end_ids"]))
    problems = [
        Problem(id=str(i), task="sums", messages=tuple(Message(**m) for m in messages), reference=None)
        for i, messages in enumerate(job["messages"])
    ]
    config = RLConfig(
        steps=len(problems) * job["samples"] // job["batch"],
        problems=job["batch"] // job["samples"],
        max_new_tokens=job["new_tokens"],
        lr=job["lr"],
    )
    start = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    seed = 0

    def one_round() -> dict[str, Any]:
        nonlocal seed
        seed += 1
        policy.model.load_state_dict(start)
        engine = Engine(
            # The whole step at once, as the peer does.
            Learner(policy, PLAIN, micro_tokens=1 << 14),
            problems,
            [Variant(lambda problem: Asked(problem.messages), job["samples"])],
            reward,
            Algorithm(Group(), PolicyGradient(aggregate="token-mean")),
            config,
            seed,
        )
        written = [step.written_tokens for step in engine.steps()]
        return {
            "amount": sum(written),
            "mean_length": sum(written) / (len(written) * job["batch"]),
            "steps": len(written),
        }

    return one_round


def _bar(name: str, title: str, target: float, aim: float, *, ends: int, apart: float) -> Bar:
    return Bar(
        name=name,
        title=title,
        kind="pass",
        target=target,
        aim=aim,
        unit="tokens / CPU-s",
        ours=Side("Stillroom", "reinforcing.py", "grpo"),
        peers=(Side("GRPOTrainer", "trl_grpo.py", "train"),),
        job=lambda folder: job(folder, ends=ends),
        equal={"mean_length": apart, "steps": 0},
        limit="half of a step is sampling and half the update; see there",
    )


BARS = (
    _bar(
        "grpo-full",
        f"GRPO, {BATCH // SAMPLES} prompts × {SAMPLES} answers of {sampling.NEW_TOKENS} tokens, then an update, 0.4 M",
        2.0,
        2.5,
        ends=0,
        apart=0,
    ),
    _bar(
        "grpo-rollouts",
        f"GRPO, the same with answers that end at half of {sampling.NEW_TOKENS} tokens on average, 0.4 M",
        3.0,
        4.0,
        ends=sampling.ENDS,
        # Equal in distribution: five standard errors of the difference of two means.
        apart=0.3,
    ),
)

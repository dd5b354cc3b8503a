"""Rollouts whose every token is written down, without a model."""

from collections.abc import Sequence

from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Rollout
from stillroom.samplers.base import Prompt
from stillroom.tasks.base import question
from stillroom.types import Finish, Problem, Response


def make_rollout(
    group: int = 0, ids: Sequence[int] = (1,), text: str = "", finish: Finish = Finish.STOP, index: int = 0
) -> Rollout:
    """A rollout of the group's problem, whose answer is ``right``; token t has log-probability -t / 2."""
    problem = Problem(id=f"p{group}", task="scripted", messages=question(f"question {group}?"), reference="right")
    return Rollout(
        problem=problem,
        group=group,
        variant="",
        index=index,
        prompt=Prompt(messages=problem.messages),
        prompt_ids=(50, 51),
        response=Response(text=text, finish=finish, token_ids=tuple(ids), logp_policy=tuple(-0.5 * t for t in ids)),
        version=0,
    )


def scored(reward: float | None, correct: bool | None = None) -> Scored:
    return Scored(reward, correct, None if correct is None else float(correct))

"""Rewards: called once per batch, with named terms, and provably unable to prefer a wrong answer.

A `Reward` scores all rollouts of a step at once, because some rewards look at more than one answer: a memory of earlier
ones, a judge that is asked in bulk. One with a memory also has ``state()`` and ``load()`` (`Stateful`) and then becomes
part of the checkpoint.

`TaskReward` is the usual one: the task's verifier says what is right, and the reward is a weighted sum of small terms.
Every term declares between which bounds it lies for a right and for a wrong answer; `require_order` adds them up and
refuses a sum under which some wrong answer could earn as much as some right one.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from stillroom.chat import ChatFormat, ParseStatus, parse
from stillroom.errors import UserError
from stillroom.learn.rl.rollouts import Rollout
from stillroom.tasks.base import Task
from stillroom.types import Finish, Problem, Verdict


@dataclass(frozen=True)
class Scored:
    """What a reward says of one rollout."""

    reward: float | None
    """None: it could not be judged. It is then masked out of the update, never counted as wrong."""
    correct: bool | None = None
    """The verifier's word, where the reward asked it."""
    raw: float | None = None
    """The verifier's own score, before weights and other terms: what "all wrong" and "all right" are told by."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """By name, before weights; for metrics."""
    flags: frozenset[str] = frozenset()
    """Anything else to count, e.g. ``unjudged``."""


class Reward(Protocol):
    def __call__(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """One `Scored` per rollout, in order."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A reward that remembers; what it remembers is saved with the learner and must survive JSON."""

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


class Bounds(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class RewardTerm:
    """One named part of a reward."""

    name: str
    score: Callable[[Rollout, Verdict], float]
    right: Bounds
    """Between which values it lies for a right answer."""
    wrong: Bounds
    """The same for a wrong one."""
    weight: float = 1.0


def correctness(weight: float = 1.0) -> RewardTerm:
    """1 for a right answer, 0 for a wrong one."""
    return RewardTerm("correct", lambda rollout, verdict: float(bool(verdict.correct)), *_ones(1, 1, 0, 0), weight)


def partial_credit(weight: float = 1.0) -> RewardTerm:
    """The verifier's score, 1 for a right answer and anything from 0 to 1 for a wrong one."""
    return RewardTerm("score", lambda rollout, verdict: verdict.score or 0.0, *_ones(1, 1, 0, 1), weight)


def layout(chat_format: ChatFormat, weight: float = 0.1) -> RewardTerm:
    """1 when the response ends by itself and is laid out as the chat format says, else 0."""

    def score(rollout: Rollout, verdict: Verdict) -> float:
        return float(rollout.response.finish is Finish.STOP and well_laid_out(chat_format, rollout.response.text))

    return RewardTerm("layout", score, *_ones(0, 1, 0, 1), weight)


def whole_layout(chat_format: ChatFormat, weight: float = 1.0) -> RewardTerm:
    """1 when the response ends by itself and is a thought, which may be empty, and an answer, with nothing around them.

    Stricter than `layout`: TON's format reward (https://arxiv.org/abs/2505.16854).
    """
    opened, closed, answer, end = (
        re.escape(mark.strip())
        for mark in (
            chat_format.think_open,
            chat_format.think_close,
            chat_format.answer_open,
            chat_format.answer_close,
        )
    )
    thought = rf"{opened}(?:(?!{opened}|{closed}).)*{closed}\s*" if closed else ""
    whole = re.compile(rf"{thought}{answer}[^{{}}\n]*{end}", re.DOTALL)

    def score(rollout: Rollout, verdict: Verdict) -> float:
        return float(rollout.response.finish is Finish.STOP and whole.fullmatch(rollout.response.text) is not None)

    return RewardTerm("layout", score, *_ones(0, 1, 0, 1), weight)


def well_laid_out(chat_format: ChatFormat, text: str) -> bool:
    """Whether each of the format's marks stands in the text exactly once, and the thought before the answer."""
    marks = [m.strip() for m in (chat_format.think_open, chat_format.think_close, chat_format.answer_open) if m.strip()]
    if any(text.count(mark) != 1 for mark in marks):
        return False
    places = [text.index(mark) for mark in marks]
    return parse(text).status is ParseStatus.OK and places == sorted(places)


def length_cosine(
    limit_tokens: int, *, right: tuple[float, float] = (0.5, 1.0), wrong: tuple[float, float] = (-1.0, -0.5)
) -> RewardTerm:
    """A whole reward by length: right answers earn less as they grow, wrong ones more, along half a cosine.

    Yeo et al. 2025, https://arxiv.org/abs/2502.03373, section 4; the bounds are those of Memory-R+'s cosine baseline.

    Args:
        limit_tokens: from here on length changes nothing.
        right: reward of a right answer of `limit_tokens` and of one without tokens.
        wrong: the same of a wrong answer, without tokens and of `limit_tokens`.
    """

    def score(rollout: Rollout, verdict: Verdict) -> float:
        share = min(len(rollout.ids) / limit_tokens, 1.0)
        low, high = right if verdict.correct else wrong
        falling = (1 + math.cos(math.pi * share)) / 2
        return low + (high - low) * (falling if verdict.correct else 1 - falling)

    return RewardTerm("length", score, Bounds(*right), Bounds(*wrong))


def length(per_tokens: int, weight: float) -> RewardTerm:
    """Length in units of `per_tokens`, at most 1: a penalty with a negative weight."""
    return RewardTerm(
        "length", lambda rollout, verdict: min(len(rollout.ids) / per_tokens, 1.0), *_ones(0, 1, 0, 1), weight
    )


def repetition(n: int = 4, weight: float = -0.1) -> RewardTerm:
    """Share of n-grams of tokens that occurred before in the same response (`repeated_share`)."""
    return RewardTerm("repetition", lambda rollout, verdict: repeated_share(rollout.ids, n), *_ones(0, 1, 0, 1), weight)


def repeated_share(ids: Sequence[int], n: int) -> float:
    """Share of a sequence's n-grams that occurred earlier in it; 0 when it is shorter than n.

    >>> repeated_share([1, 2, 1, 2, 1], 2)
    0.5
    """
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def marker(text: str, weight: float) -> RewardTerm:
    """1 when the response holds this text."""
    return RewardTerm(
        "marker", lambda rollout, verdict: float(text in rollout.response.text), *_ones(0, 1, 0, 1), weight
    )


def _ones(right_low: float, right_high: float, wrong_low: float, wrong_high: float) -> tuple[Bounds, Bounds]:
    return Bounds(right_low, right_high), Bounds(wrong_low, wrong_high)


@dataclass(frozen=True)
class TaskReward:
    """A weighted sum of terms over the verdict of the task's verifier.

    Raises UserError, when called, if a term leaves the bounds that it declares.
    """

    task: Task
    terms: tuple[RewardTerm, ...] = (correctness(),)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        verdicts = verify_rollouts(self.task, rollouts)
        return [self._score(rollout, verdict) for rollout, verdict in zip(rollouts, verdicts, strict=True)]

    def _score(self, rollout: Rollout, verdict: Verdict) -> Scored:
        if verdict.correct is None:
            return Scored(None, flags=frozenset({"unjudged"}))
        values = {term.name: term.score(rollout, verdict) for term in self.terms}
        for term in self.terms:
            low, high = term.right if verdict.correct else term.wrong
            if not low - 1e-9 <= values[term.name] <= high + 1e-9:
                side = "right" if verdict.correct else "wrong"
                raise UserError(
                    f"reward term {term.name!r} is {values[term.name]} for the {side} answer {rollout.id}, outside of "
                    f"its bounds {low} to {high}; correct the bounds or the term"
                )
        reward = sum(term.weight * values[term.name] for term in self.terms)
        return Scored(reward, verdict.correct, verdict.score, values)


def verify_rollouts(task: Task, rollouts: Sequence[Rollout]) -> list[Verdict]:
    """The verifier's word on every rollout."""
    return verify_texts(task, [r.problem for r in rollouts], [r.response.text for r in rollouts])


def verify_texts(task: Task, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
    """`task.verify` for many; mathematical answers go to the graders together, which compare each pair once."""
    from stillroom.tasks import math as mathematics

    if task.verify is mathematics.verify:
        return mathematics.verify_all(problems, texts)
    return [task.verify(problem, text) for problem, text in zip(problems, texts, strict=True)]


class Order(NamedTuple):
    """The least that a right answer can earn, and the most that a wrong one can."""

    least_right: float
    most_wrong: float


def order(terms: Sequence[RewardTerm]) -> Order:
    """What the declared bounds of a weighted sum allow."""
    return Order(
        least_right=sum(min(t.weight * t.right.low, t.weight * t.right.high) for t in terms),
        most_wrong=sum(max(t.weight * t.wrong.low, t.weight * t.wrong.high) for t in terms),
    )


def require_order(reward: TaskReward) -> Order:
    """Prove from the bounds of the terms that no wrong answer can earn as much as a right one.

    Raises:
        UserError: naming the terms that stand in the way, when one could.
    """
    found = order(reward.terms)
    if found.least_right > found.most_wrong:
        return found
    blame = ", ".join(f"{t.name} ({g:+.3g})" for t in reward.terms if (g := _gap(t)) <= 0)
    raise UserError(
        f"a wrong answer could earn {found.most_wrong:.3g} and a right one as little as {found.least_right:.3g}; terms "
        f"that can prefer the wrong one, and by how much: {blame}. Lower their weights, or raise that of a term that "
        "tells right from wrong"
    )


def _gap(term: RewardTerm) -> float:
    """By how much a term surely prefers a right answer; negative when it can prefer a wrong one."""
    alone = order([term])
    return alone.least_right - alone.most_wrong


def order_breaks(rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> float | None:
    """Share of groups with right and wrong answers in which a wrong one earned as much as a right one.

    None when no group has both; for rewards whose order cannot be proved from bounds.
    """
    groups: dict[int, tuple[list[float], list[float]]] = {}
    for rollout, found in zip(rollouts, scored, strict=True):
        if found.reward is not None and found.correct is not None:
            groups.setdefault(rollout.group, ([], []))[bool(found.correct)].append(found.reward)
    both = [(wrong, right) for wrong, right in groups.values() if wrong and right]
    return sum(max(wrong) >= min(right) for wrong, right in both) / len(both) if both else None

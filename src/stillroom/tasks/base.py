"""What a task is: problems in three splits that cannot overlap, a verifier, and where it exists a solver."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.types import Message, Noun, Problem, Span, Split, Verdict


class Style(Noun):
    """How a programmatic solver writes."""

    layout: str = "equations"
    """Name of one of the task's layouts, e.g. ``equations`` or ``sentences``."""
    verbosity: int = 0
    """0 writes each step once; every further unit adds a restatement or a check of each step."""
    fillers: float = 0.0
    """Probability, per step, of a sentence that carries no information."""
    error_rate: float = 0.0
    """Probability, per step, of a wrong result; later steps build on it, and its span says so."""


class Solution(NamedTuple):
    """A solver's step-by-step solution; `spans` mark steps in `thought`, with ``correct`` and ``injected`` in data."""

    thought: str
    answer: str
    spans: tuple[Span, ...]


class Verify(Protocol):
    """Total and bounded in time: returns a verdict for every string, in any thread or process."""

    def __call__(self, problem: Problem, text: str, *, strict: bool = True) -> Verdict: ...


class Solve(Protocol):
    def __call__(self, problem: Problem, style: Style, rng: Random) -> Solution: ...


@dataclass(frozen=True)
class Task:
    """A task as data plus its functions. Built by a task's factory or by `load_task`."""

    name: str
    summary: str
    problems: Callable[[Split, int | None, int], list[Problem]]
    """``problems(split, n, seed)``: the first n problems (None: all that a finite task has); deterministic."""
    verify: Verify
    solve: Solve | None = None
    levels: tuple[int, ...] = ()
    world: str = ""
    source: str = "generated"
    licence: str = "Apache-2.0"
    chat_format: str = "think"
    """Name of the chat format that suits it."""
    corrupt: Callable[[Problem], str] | None = None
    """A wrong answer near the gold one, for `validate`; None derives one from the answers of other problems."""
    render: Callable[[Problem], bytes] | None = None
    """A problem's picture as a PNG file, drawn when somebody looks; None: the task has no pictures."""


def procedural(
    name: str,
    make: Callable[[Random, int], Problem],
    levels: Sequence[int],
    split_by: Callable[[Problem], Split] | None = None,
) -> Callable[[Split, int | None, int], list[Problem]]:
    """The `problems` function of a generated task.

    The content of a problem decides its split (a tenth each for dev and test), so splits are disjoint whatever the
    seeds; item i depends on (seed, split, i) alone, so random access equals iteration and neighbouring seeds share
    nothing but chance. Levels take turns.

    Args:
        make: ``make(rng, level)`` returns a problem; its id and split are set here.
        split_by: says which split a problem belongs to, where two wordings of one problem must not be divided; None
            goes by its words (`split_of`).
    """
    belongs = split_by or split_of

    def one(split: Split, index: int, seed: int) -> Problem:
        level = levels[index % len(levels)]
        rng = derive_rng("task", name, seed, split, index)
        for _ in range(10_000):
            problem = make(rng, level)
            if belongs(problem) == split:
                return problem.model_copy(update={"id": f"{name}/{seed}/{split}/{index}", "split": split})
        raise UserError(f"task {name!r} has no {split} problem at level {level}: its space is too small to split")

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError(f"task {name!r} is endless: say how many problems you want")
        return [one(split, index, seed) for index in range(n)]

    return problems


def content_hash(problem: Problem) -> str:
    """Of what is asked and what is expected; the id, split and bookkeeping do not matter."""
    texts = [f"{m.role}:{m.content}" for m in problem.messages]
    return digest(*texts, *problem.options, problem.reference or "")


def split_of(problem: Problem) -> Split:
    """The split that a problem's question belongs to: one tenth test, one tenth dev, the rest train."""
    return split_by_content("split", *(m.content for m in problem.messages), *problem.options)


def split_by_content(*content: str) -> Split:
    """The split of whatever these texts stand for: one tenth test, one tenth dev, the rest train."""
    bucket = int(digest(*content), 16) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def question(text: str) -> tuple[Message, ...]:
    """A single user message."""
    return (Message(role="user", content=text),)


def majority_baseline(problems: Sequence[Problem]) -> float | None:
    """Accuracy of always giving the most frequent gold answer; None without gold answers."""
    golds = [p.reference for p in problems if p.reference is not None]
    return max(Counter(golds).values()) / len(golds) if golds else None

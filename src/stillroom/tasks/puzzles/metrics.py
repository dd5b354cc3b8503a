"""VGRP-Bench's three measures, and how often each rule is broken. Perception and solving are never mixed.

Perception is about the board that a response says it sees, before its answer; answers are counted beside it, and among
the responses that saw right. Source: arXiv 2503.23064; the spread is the standard deviation over five equal chunks.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stillroom.chat import parse
from stillroom.tasks.puzzles.board import Puzzle
from stillroom.tasks.puzzles.describe import read_board
from stillroom.types import Noun, Problem, Split, Verdict

_CHUNKS = 5
_SEEN = "Board:\n"
"""What a response writes before the board that it sees."""


class Rate(Noun):
    """A share, over how many, and the standard deviation of the share over five equal chunks."""

    value: float | None
    """None: there was nothing to take a share of."""
    n: int
    std: float | None
    """None with fewer than five."""


class PuzzleScores(Noun):
    """How a model does on puzzles."""

    perception: Rate
    """Every given cell was read right; over responses to pictures."""
    answer: Rate
    """The answer solves the puzzle and, with pictures, the board was read right."""
    answer_given_perception: Rate
    """The answer solves the puzzle, over those that read the board right."""
    broken: dict[str, float]
    """Name of a rule, or of a formal fault → share of the judged responses that broke it."""
    unjudged: int


class Judged(NamedTuple):
    """One response."""

    verdict: Verdict
    perceived: bool | None = None
    """Whether it read the board right; None: it was asked in text."""


def perceived(puzzle: Puzzle, text: str) -> bool:
    """Whether the first board after the words ``Board:`` has every given cell right, and no other cell decided."""
    parsed = parse(text)
    for part in (parsed.thought or "", parsed.answer or "", text):
        _, found, rest = part.partition(_SEEN)
        if found:
            lines = rest.split("\n", puzzle.size)[: puzzle.size]
            return read_board("\n".join(lines), puzzle.size)[0] == puzzle.given
    return False


def said_to_see(puzzle: Puzzle) -> str:
    """What `perceived` reads: the board as a response should say that it sees it."""
    rows = (puzzle.given[at : at + puzzle.size] for at in range(0, puzzle.size**2, puzzle.size))
    return _SEEN + "\n".join(" ".join(row) for row in rows)


def scores(judged: Sequence[Judged]) -> PuzzleScores:
    """The measures over responses in their order; a verdict of None counts nowhere."""
    known = [one for one in judged if one.verdict.correct is not None]
    seen = [one.perceived for one in known if one.perceived is not None]
    broken: Counter[str] = Counter()
    for one in known:
        broken.update(name.removeprefix("broken: ") for name in one.verdict.parts if name.startswith("broken: "))
        broken["no board"] += one.verdict.parts.get("read", 0.0) == 0.0
    return PuzzleScores(
        perception=_rate(seen),
        answer=_rate([bool(one.verdict.correct) and one.perceived is not False for one in known]),
        answer_given_perception=_rate([bool(one.verdict.correct) for one in known if one.perceived]),
        broken={name: count / len(known) for name, count in sorted(broken.items()) if count},
        unjudged=len(judged) - len(known),
    )


def _rate(hits: Sequence[bool]) -> Rate:
    if not hits:
        return Rate(value=None, n=0, std=None)
    chunks = [float(np.mean(chunk)) for chunk in np.array_split(np.array(hits, float), _CHUNKS) if len(chunk)]
    return Rate(value=float(np.mean(hits)), n=len(hits), std=float(np.std(chunks)) if len(hits) >= _CHUNKS else None)


def distinct_solutions(problems: Sequence[Problem]) -> dict[Split, int]:
    """How many different solutions the problems of each split have: few of them are soon learned by heart."""
    found: dict[Split, set[str | None]] = {}
    for problem in problems:
        found.setdefault(problem.split, set()).add(problem.reference)
    return {split: len(references) for split, references in found.items()}

"""What worlds with planted errors share: error lists with severities and their score, and five pseudo-systems.

Severities, categories and the capped score follow MQM as used for judging translations ("DeepSeek vs. o3-mini: How Well
can Reasoning LLMs Evaluate MT and Summarization?", 2025, https://arxiv.org/abs/2504.08120).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.base import split_of
from stillroom.types import Noun, Problem, Split

Severity = Literal["critical", "major", "minor"]
WEIGHTS: dict[Severity, int] = {"critical": 25, "major": 5, "minor": 1}
FLOOR, COUNTED = -25, 5
SYSTEMS = (0.0, 0.05, 0.12, 0.22, 0.35)
"""Error rate of every pseudo-system; level k is system k."""
_LONGEST, _MOST = 2000, 64  # characters of an answer, entries of an error list


class PlantedError(Noun):
    """An error: how bad, of which kind, and the word that it is about."""

    severity: Severity
    kind: str
    word: str


def mqm_score(severities: Iterable[Severity]) -> int:
    """``-(25 critical + 5 major + minor)`` of the five worst errors, and never below -25: a sixth changes nothing.

    >>> mqm_score(["major", "minor"]), mqm_score(["major"] * 9), mqm_score([])
    (-6, -25, 0)
    """
    worst = sorted((WEIGHTS[severity] for severity in severities), reverse=True)[:COUNTED]
    return max(FLOOR, -sum(worst))


def written(errors: Sequence[PlantedError]) -> str:
    """An error list as an answer: ``major omission talo; minor ending rusa``, or ``no-error``."""
    return "; ".join(f"{e.severity} {e.kind} {e.word}" for e in errors) or "no-error"


def read(answer: str) -> list[PlantedError] | None:
    """An error list out of an answer; None when an entry cannot be read, or nothing is there.

    Entries end at a semicolon or a line; order, case and full stops do not matter.
    """
    text = answer.strip().rstrip(".").casefold()
    if not text or len(text) > _LONGEST:
        return None
    if text in ("no-error", "no error", "none"):
        return []
    entries = [entry.split() for entry in re.split(r"[;\n]", text) if entry.strip()]
    if len(entries) > _MOST or any(len(words) != 3 or words[0] not in WEIGHTS for words in entries):
        return None
    return [PlantedError(severity=words[0], kind=words[1], word=words[2]) for words in entries]


class Found(NamedTuple):
    """How a list of errors compares with the planted ones; each error counts once."""

    precision: float
    recall: float
    f1: float


def found(said: Sequence[PlantedError], planted: Sequence[PlantedError]) -> Found:
    """Exact matches of severity, kind and word; two empty lists agree perfectly."""
    ours, theirs = set(said), set(planted)
    both = len(ours & theirs)
    precision = both / len(ours) if ours else float(not theirs)
    recall = both / len(theirs) if theirs else float(not ours)
    total = precision + recall
    return Found(precision, recall, 2 * precision * recall / total if total else 0.0)


def by_system(
    name: str, source: Callable[[Random], object], make: Callable[[object, Random, int], Problem]
) -> Callable[[Split, int | None, int], list[Problem]]:
    """The `problems` function of a world of pseudo-systems: five in a row are about one source, a system each.

    The source decides the split, so that all systems' work on it is in the same one.

    Args:
        source: draws a source.
        make: ``make(source, rng, level)``; its id and split are set here, and ``meta`` gets its item and system.
    """

    def one(split: Split, index: int, seed: int) -> Problem:
        item, at = divmod(index, len(SYSTEMS))
        rng = derive_rng("task", name, seed, split, item)
        while True:
            drawn = source(rng)
            perfect = make(drawn, derive_rng("perfect"), 1)
            if split_of(perfect) == split:
                break
        problem = make(drawn, derive_rng("task", name, seed, split, item, at), at + 1)
        where: dict[str, object] = {"id": f"{name}/{seed}/{split}/{index}", "split": split}
        meta = {**problem.meta, "item": item, "system": f"system-{at + 1}"}
        return problem.model_copy(update={**where, "meta": meta})

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError(f"task {name!r} is endless: say how many problems you want")
        return [one(split, index, seed) for index in range(n)]

    return problems

"""The context of answers that took several calls: it grows while a model writes and drops when a call begins."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stillroom.traces import store

MAX_ARMS = 6


class Context(NamedTuple):
    """One answer of one arm: points ``(tokens written so far, tokens of context)``, in the order of writing."""

    arm: str
    problem: str
    points: tuple[tuple[float, float], ...]


def read_contexts(folder: Path) -> tuple[Context, ...]:
    """Of every measured arm of a run folder, its answer to the problem on which an arm took the most calls.

    Empty where no arm took more than one call for an answer.
    """
    paths = sorted(path for path in folder.glob("evals/*.parquet") if not path.name.startswith("."))
    arms = {path: _answers(path) for path in paths}
    most = {
        problem: max(len(found[problem]) for found in arms.values() if problem in found)
        for problem in sorted({problem for found in arms.values() for problem in found})
    }
    if max(most.values(), default=1) < 2:
        return ()
    chosen = max(most, key=lambda problem: most[problem])
    # Those with several calls first: they are what the chart is for.
    order = sorted((path for path in paths if chosen in arms[path]), key=lambda path: len(arms[path][chosen]) < 2)
    return tuple(Context(_name(path), chosen, points(arms[path][chosen])) for path in order[:MAX_ARMS])


def points(calls: Sequence[tuple[int, int]]) -> tuple[tuple[float, float], ...]:
    """The course of the context over calls, given as pairs of prompt and completion tokens.

    >>> points([(10, 5), (12, 3)])
    ((0.0, 10.0), (5.0, 15.0), (5.0, 12.0), (8.0, 15.0))
    """
    course: list[tuple[float, float]] = []
    written = 0
    for prompt, completion in calls:
        course += [(float(written), float(prompt)), (float(written + completion), float(prompt + completion))]
        written += completion
    return tuple(course)


def _name(path: Path) -> str:
    """Of the arm: what its traces call their sampler."""
    return str(store.scan(path).select("sampler").first().collect().item())


def _answers(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Problem → calls of its first answer."""
    frame = store.scan(path).filter(pl.col("index") == 0)
    rows = frame.select("problem_id", "prompt_tokens", "completion_tokens", "meta").collect()
    return {
        problem: _calls(json.loads(meta).get("calls")) or [(prompt, completion)]
        for problem, prompt, completion, meta in rows.iter_rows()
    }


def _calls(found: Any) -> list[tuple[int, int]]:
    """The pairs of a trace's `meta`, as far as they are pairs of whole numbers."""
    pairs = found if isinstance(found, list) else []
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and 0 <= n < 2**53 for n in pair)
    ]

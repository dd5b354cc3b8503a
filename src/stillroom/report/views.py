"""A trace as a page shows it: texts already cut and made visible, the diff against its parent already made."""

import re
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.report.text import Change, changes, shown, visible
from stillroom.seeds import digest
from stillroom.tasks.scenes import data_uri, scenes_of
from stillroom.types import Noun, Trace

MAX_TRACES = 2_000
MAX_PICTURES = 8
"""Pictures that are shown of one trace."""
TRACES = "traces"
"""Name of the part of a run that holds what was made for training."""


class Turn(NamedTuple):
    role: str
    text: str


class TraceView(Noun):
    """What the viewers show of one trace. All strings are safe to show as text (not yet as HTML)."""

    id: str
    shelf: str
    """Which part of the run it belongs to: ``traces``, ``eval student``, …"""
    problem: str
    task: str
    level: int
    source: str
    sampler: str
    outcome: str
    """``correct``, ``wrong`` or ``unjudged``."""
    finish: str
    facts: tuple[tuple[str, str], ...]
    """Everything else that is short: extracted answer, reason, tokens, parents, …"""
    asked: tuple[Turn, ...]
    context: tuple[Turn, ...]
    """What the student would be taught before the response, where it differs from what was asked."""
    response: str
    length: int
    """Characters of the whole response."""
    diff: tuple[Change, ...] = ()
    """Against the response of the first parent."""
    pictures: tuple[str, ...] = ()
    """What the user of the conversation shows, as ``data:`` addresses that we drew."""


def response_of(trace: Trace) -> str:
    """The last turn's text when the assistant holds it, over all its segments; empty otherwise."""
    return "".join(segment.text for segment in trace.taught[_response_start(trace) :])


def _response_start(trace: Trace) -> int:
    start = len(trace.taught)
    while start > 0 and trace.taught[start - 1].role == "assistant":
        start -= 1
    return start


def outcome_of(correct: bool | None) -> str:
    """None is *unjudged*: neither correct nor wrong."""
    return "unjudged" if correct is None else "correct" if correct else "wrong"


def view(trace: Trace, shelf: str, parent: str | None = None) -> TraceView:
    """The view of a trace; `parent` is the response of its first parent, where that is known."""
    response = response_of(trace)
    asked = tuple(Turn(m.role, shown(m.content)) for m in trace.asked)
    context = tuple(Turn(s.role, shown(s.text)) for s in trace.taught[: _response_start(trace)])
    verdict, judgement = trace.verdict, trace.judgement
    facts: list[tuple[str, object]] = [
        ("answer", verdict.answer if verdict else None),
        ("reason", verdict.reason if verdict else None),
        ("score", verdict.score if verdict else None),
        ("judge", (judgement.choice or judgement.rating) if judgement else None),
        ("tokens", trace.usage.completion_tokens or None),
        ("cost, $", trace.usage.cost_usd),
        ("sample", f"{trace.index} of round {trace.round}"),
        ("sampler", trace.sampler),
        ("parents", ", ".join(trace.parents)),
        *trace.meta.items(),
    ]
    return TraceView(
        id=_short(trace.id),
        shelf=_short(shelf),
        problem=_short(trace.problem_id),
        task=_short(trace.task),
        level=trace.level,
        source=trace.source,
        sampler=_short(trace.sampler),
        outcome=outcome_of(verdict.correct if verdict else None),
        finish=trace.finish.value,
        facts=tuple((_short(name), _short(str(fact))) for name, fact in facts if fact not in (None, "", [], {})),
        asked=asked,
        context=() if context == asked else context,
        response=shown(response),
        length=len(response),
        diff=() if parent is None else changes(parent, response),
        pictures=_pictures([m.content for m in trace.asked if m.role == "user"]),
    )


def _pictures(texts: Sequence[str]) -> tuple[str, ...]:
    words = dict.fromkeys(word for text in texts for word in scenes_of(text))
    return tuple(data_uri(word) for word in list(words)[:MAX_PICTURES])


def _short(text: str) -> str:
    return visible(text) if len(text) <= 300 else f"{visible(text[:300])}⟨… {len(text) - 300:,} more characters⟩"


class Shelf(NamedTuple):
    """A Parquet file of traces and the name that the viewer gives it."""

    name: str
    path: Path


class Sample(NamedTuple):
    views: tuple[TraceView, ...]
    total: int
    pass_rates: tuple[float, ...]
    """Per problem with a judged trace, over the traces that were made for training."""


def choose(kinds: Sequence[Any], limit: int) -> list[int]:
    """Positions of at most `limit` items: each kind in turn gives one, drawn by hash, so that rare kinds are seen."""
    if len(kinds) <= limit:
        return list(range(len(kinds)))
    groups: dict[Any, list[int]] = {}
    for position, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(position)
    for members in groups.values():
        members.sort(key=lambda position: digest("viewer", str(position)))
    turns = (position for position in chain(*zip_longest(*groups.values())) if position is not None)
    return sorted(position for position, _ in zip(turns, range(limit), strict=False))


def sample_views(shelves: Sequence[Shelf], limit: int = MAX_TRACES) -> Sample:
    """At most `limit` traces over all shelves, with siblings side by side, each with the diff against its parent.

    Raises DataError naming a shard that cannot be read.
    """
    if not shelves:
        return Sample((), 0, ())
    import polars as pl

    from stillroom.traces import store

    keys = ["id", "problem_id", "source", "correct"]
    index = pl.concat(
        [
            store.scan(shelf.path)
            .select(keys)
            .with_row_index("row")
            .with_columns(pl.lit(number).alias("number"), pl.lit(shelf.name).alias("shelf"))
            for number, shelf in enumerate(shelves)
        ]
    ).collect()
    index = index.unique(["shelf", "id"], keep="first", maintain_order=True)
    rates = (
        index.filter(pl.col("shelf").str.ends_with(TRACES) & pl.col("correct").is_not_null())
        .group_by("shelf", "problem_id", maintain_order=True)
        .agg(pl.col("correct").mean())
    )
    chosen = index[choose(index.select("shelf", "source", "correct").rows(), limit)]
    found: list[tuple[str, Trace]] = []
    for number, shelf in enumerate(shelves):
        rows = chosen.filter(pl.col("number") == number)["row"]
        if len(rows):
            frame = store.scan(shelf.path).with_row_index("row").filter(pl.col("row").is_in(rows.implode())).collect()
            found += [(shelf.name, trace) for trace in store.from_frame(frame)]
    parents = parent_texts([shelf.path for shelf in shelves], [trace for _, trace in found])
    place = {shelf.name: number for number, shelf in enumerate(shelves)}
    found.sort(key=lambda pair: (place[pair[0]], _natural(pair[1].problem_id), pair[1].round, pair[1].index))
    views = tuple(
        view(trace, shelf, parents.get(trace.parents[0]) if trace.parents else None) for shelf, trace in found
    )
    return Sample(views, len(index), tuple(rates["correct"].to_list()))


def _natural(text: str) -> str:
    """A sort key that puts ``p9`` before ``p10``."""
    return re.sub(r"\d{1,12}", lambda digits: digits.group().zfill(12), text[:300])


def parent_texts(paths: Sequence[Path], traces: Sequence[Trace]) -> dict[str, str]:
    """The responses of the traces' first parents, by id, for those parents that lie in one of the files."""
    wanted = sorted({trace.parents[0] for trace in traces if trace.parents})
    if not wanted:
        return {}
    import polars as pl

    from stillroom.traces import store

    found = store.scan(*paths).filter(pl.col("id").is_in(wanted)).select("id", store.text().alias("text")).collect()
    return dict(found.rows())

"""Traces as training files that other trainers read, with a data card that says where they come from."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stillroom.io import open_atomic, write_atomic
from stillroom.traces.stats import Summary
from stillroom.traces.store import clean
from stillroom.types import Finish, Trace

Layout = Literal["messages", "prompt-completion", "preference"]
Form = Literal["jsonl", "parquet"]

Turns = list[dict[str, str]]

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_COLUMNS: dict[Layout, dict[str, pa.DataType]] = {
    "messages": {"id": pa.string(), "messages": _TURNS},
    "prompt-completion": {"id": pa.string(), "prompt": _TURNS, "completion": _TURNS},
    "preference": {"id": pa.string(), "prompt": _TURNS, "chosen": _TURNS, "rejected": _TURNS},
}
_MEANING: dict[Layout, str] = {
    "messages": "`messages`: the whole conversation",
    "prompt-completion": "`prompt`: all turns but the last; `completion`: the last, the assistant's",
    "preference": "`prompt`; `chosen`: the first correct answer to it; `rejected`: the first wrong one",
}


class Exported(NamedTuple):
    path: Path
    rows: int
    traces: int
    """Traces read; preference pairs leave most of them out."""


def export(traces: Iterable[Trace], folder: Path, layout: Layout, form: Form = "jsonl") -> Exported:
    """Write ``folder/train.jsonl`` or ``folder/train.parquet``, whole or not at all.

    Segments of one turn are joined; loss weights, token ids and spans stay behind in the store. Traces that do not
    end with an assistant turn are left out of every layout.

    Args:
        layout: ``messages``, ``prompt-completion``, or ``preference``: per problem and prompt one pair, the first
            correct answer and the first wrong one by round and index (unjudged and failed ones are neither).
    """
    read = _Counted(traces)
    rows = _ROWS[layout](read)
    path = folder / f"train.{form}"
    with open_atomic(path) as file:
        written = _write_jsonl(rows, file) if form == "jsonl" else _write_parquet(rows, file, layout)
    return Exported(path, written, read.count)


def write_card(
    folder: Path, title: str, exported: Exported, layout: Layout, pool: Summary, licences: Mapping[str, str]
) -> Path:
    """Write ``folder/README.md``: what the data is, which tasks and samplers made it, under which licences.

    Args:
        pool: `stats.summary` of the exported traces.
        licences: task name -> licence of its problems; a task without one is shown as not stated.
    """
    known = sorted({licences.get(task, "") for task in pool.by_task})
    head = ["---", "language: en", f"pretty_name: {json.dumps(title)}"]
    head += [f"license: {json.dumps(known[0].lower())}"] if len(known) == 1 and known[0] else []
    head += ["configs:", "- config_name: default", f"  data_files: {exported.path.name}", "---"]
    accuracy = "nothing judged" if pool.accuracy is None else f"{pool.accuracy:.1%} correct of {pool.n_judged} judged"
    lines = [
        *head,
        f"# {_inline(title)}",
        "",
        f"{exported.rows} rows in `{exported.path.name}` ({_MEANING[layout]}), made from {pool.n_traces} reasoning "
        f"traces of {pool.n_problems} problems ({accuracy}).",
        "",
        "## Lineage",
        "",
        "| sampler | traces |",
        "|---|---|",
        *(f"| {_inline(name) or 'not stated'} | {n} |" for name, n in pool.by_sampler.items()),
        "",
        "| source | traces |",
        "|---|---|",
        *(f"| {_inline(name)} | {n} |" for name, n in pool.by_source.items()),
        "",
        "| level | traces | judged | correct |",
        "|---|---|---|---|",
        *(f"| {level} | {n} | {judged} | {right} |" for level, (n, judged, right) in pool.by_level.items()),
        "",
        f"Completion tokens: {pool.completion_tokens}. Cost: {_cost(pool)}.",
        "",
        "## Licences",
        "",
        "| task | licence of its problems |",
        "|---|---|",
        *(f"| {_inline(task)} | {_inline(licences.get(task, 'not stated'))} |" for task in pool.by_task),
        "",
        "The answers were written by the samplers above; their terms of use apply as well.",
        "",
    ]
    path = folder / "README.md"
    write_atomic(path, "\n".join(lines))
    return path


class _Counted:
    def __init__(self, traces: Iterable[Trace]) -> None:
        self.traces = traces
        self.count = 0

    def __iter__(self) -> Iterator[Trace]:
        for trace in self.traces:
            self.count += 1
            yield trace


def _turns(trace: Trace) -> Turns:
    turns: Turns = []
    for segment in trace.taught:
        if turns and turns[-1]["role"] == segment.role:
            turns[-1]["content"] += clean(segment.text)
        else:
            turns.append({"role": segment.role, "content": clean(segment.text)})
    return turns


def _answered(traces: Iterable[Trace]) -> Iterator[tuple[Trace, Turns]]:
    for trace in traces:
        turns = _turns(trace)
        if turns and turns[-1]["role"] == "assistant":
            yield trace, turns


def _messages(traces: Iterable[Trace]) -> Iterator[dict[str, Any]]:
    for trace, turns in _answered(traces):
        yield {"id": clean(trace.id), "messages": turns}


def _prompt_completion(traces: Iterable[Trace]) -> Iterator[dict[str, Any]]:
    for trace, turns in _answered(traces):
        yield {"id": clean(trace.id), "prompt": turns[:-1], "completion": turns[-1:]}


def _preference(traces: Iterable[Trace]) -> Iterator[dict[str, Any]]:
    # Traces of one problem may carry different prompts; a pair must answer the same one.
    first: dict[tuple[str, str, str], dict[bool, tuple[tuple[int, int], str, Turns]]] = {}
    for trace, turns in _answered(traces):
        correct = None if trace.verdict is None else trace.verdict.correct
        if correct is None or trace.finish not in (Finish.STOP, Finish.LENGTH):
            continue
        pair = first.setdefault((trace.task, trace.problem_id, json.dumps(turns[:-1])), {})
        order = (trace.round, trace.index)
        if correct not in pair or order < pair[correct][0]:
            pair[correct] = (order, trace.id, turns)
    for pair in first.values():
        if len(pair) == 2:
            (_, right, chosen), (_, wrong, rejected) = pair[True], pair[False]
            yield {
                "id": clean(f"{right} > {wrong}"),
                "prompt": chosen[:-1],
                "chosen": chosen[-1:],
                "rejected": rejected[-1:],
            }


_ROWS: dict[Layout, Callable[[Iterable[Trace]], Iterator[dict[str, Any]]]] = {
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "preference": _preference,
}


def _write_jsonl(rows: Iterable[dict[str, Any]], file: Any) -> int:
    count = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def _write_parquet(rows: Iterator[dict[str, Any]], file: Any, layout: Layout) -> int:
    count = 0
    schema = pa.schema(_COLUMNS[layout])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, 5_000)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _inline(text: str) -> str:
    """Text for one table cell or heading: no line breaks, no markup, no table edges."""
    plain = " ".join(clean(text).split())
    return "".join(f"&#{ord(c)};" if c in "<>&|`*_[]\\#" else c for c in plain)


def _cost(pool: Summary) -> str:
    if pool.cost_usd is None:
        return "no price known"
    return f"{pool.cost_usd:.4f} USD over {pool.n_priced} of {pool.n_traces} traces with a known price"

"""`stillroom traces …`: look at, grade, clean, select and export traces from the command line."""

import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillroom.cli.show import emit, emit_json
from stillroom.errors import UserError

if TYPE_CHECKING:
    import polars as pl

    from stillroom.tasks.base import Task
    from stillroom.traces.pool import Pool
    from stillroom.types import Problem, Trace

app = typer.Typer(
    name="traces",
    help="Look at, grade, clean, select and export traces (Parquet shards, folders of them, or JSON lines).",
    no_args_is_help=True,
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet shards, folders of them, .jsonl files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutShard = Annotated[Path | None, typer.Option("--out", metavar="FILE.parquet", help="Write the kept traces here.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws, and of a generated evaluation set.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="FIELD=COLUMN", help="Column of the task's file that holds a field; repeatable."),
]
Against = Annotated[str | None, typer.Option(metavar="TASK", help="Task whose problems must not leak.")]
AgainstSplit = Annotated[str, typer.Option("--split", help="Split of --against.")]
AgainstCount = Annotated[int | None, typer.Option("--problems", help="Problems of --against; endless tasks need it.")]


class Layout(StrEnum):
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt-completion"
    PREFERENCE = "preference"


class Form(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"


@app.command()
def stats(
    files: Files,
    problems: Annotated[bool, typer.Option("--problems", help="One row per problem and sampler.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rows per problem as .parquet or .csv.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count, pass rates, lengths and cost; per problem with --problems.

    Example: stillroom traces stats runs/mine/traces --problems
    """
    from stillroom.traces import stats as statistics

    pool = _pool(files)
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise UserError(f"--out {out}: give a file that ends in .parquet or .csv")
    totals = _plain(statistics.summary(pool.lazy))
    rows = statistics.problem_stats(pool) if problems or out else None
    if rows is not None and out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            rows.write_csv(out)
        else:
            rows.write_parquet(out)
    if as_json:
        emit_json(totals | ({"problems": rows.to_dicts()} if rows is not None and problems else {}))
    elif rows is not None and problems:
        _table(rows)
    else:
        _facts(totals)


@app.command()
def grade(
    files: Files,
    task: Annotated[str, typer.Option(metavar="TASK", help="Task whose verifier judges.")],
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="Write the graded traces here.")],
    field: Fields = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Accept answers outside the asked format.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every trace again with a task's verifier; old verdicts are replaced.

    Example: stillroom traces grade recorded.jsonl --task jsonl:problems.jsonl --out graded.parquet
    """
    from stillroom.traces import store

    pool, judge = _pool(files), _load_task(task, field)
    problems = _problems_of(judge, pool)
    counts = {"judged": 0, "correct": 0, "unjudged": 0, "changed": 0, "unknown_problem": 0}

    def graded() -> Iterator["Trace"]:
        for trace, problem in zip(_traces(pool), problems, strict=True):
            yield _grade(trace, problem, judge, not lenient, counts)

    store.write_tables(_shard(out), store.tables(graded()))
    _report(counts | {"out": str(out)}, as_json)


@app.command()
def dedup(
    files: Files,
    near: Annotated[bool, typer.Option("--near", help="Also nearly equal ones (extra: neardup).")] = False,
    threshold: Annotated[float, typer.Option(help="Least Jaccard similarity of near duplicates.")] = 0.8,
    out: OutShard = None,
    as_json: AsJson = False,
) -> None:
    """Find traces that repeat an earlier one, question and response; the first stays.

    Example: stillroom traces dedup runs/mine/traces --near --out unique.parquet
    """
    from stillroom.traces import dedup as duplicates

    pool = _pool(files)
    found = duplicates.near(pool, threshold=threshold) if near else duplicates.exact(pool)
    _write_without(out, pool, found)
    facts = {"traces": pool.height, "duplicates": found.height, "kept": pool.height - found.height}
    _report(facts, as_json, duplicates=found.drop("row").to_dicts())


@app.command()
def decontaminate(
    files: Files,
    against: Annotated[str, typer.Option(metavar="TASK", help="Task whose problems must not leak.")],
    split: AgainstSplit = "test",
    field: Fields = None,
    problems: AgainstCount = None,
    seed: Seed = 0,
    n: Annotated[int, typer.Option(help="Words per n-gram.")] = 8,
    exact: Annotated[bool, typer.Option("--exact", help="Only whole questions (for generated tasks).")] = False,
    responses: Annotated[bool, typer.Option("--responses", help="Search the responses, too.")] = False,
    out: OutShard = None,
    as_json: AsJson = False,
) -> None:
    """Find traces whose question shares a run of n words, or all of it, with an evaluation problem.

    Example: stillroom traces decontaminate traces/ --against jsonl:test.jsonl --out clean.parquet
    """
    from stillroom.traces.decontaminate import find

    pool, evaluation = _pool(files), _evaluation(against, field, split, problems, seed)
    found = find(pool, evaluation, how="exact" if exact else "ngram", n=n, responses=responses)
    _write_without(out, pool, found)
    facts = {
        "traces": pool.height,
        "evaluation_problems": len(evaluation),
        "contaminated": found.height,
        "kept": pool.height - found.height,
    }
    _report(facts, as_json, contaminated=found.drop("row").to_dicts())
    if not as_json and found.height:
        _table(found.drop("row").head(10))


@app.command()
def select(
    files: Files,
    rules: Annotated[str, typer.Option(metavar="RULES", help="E.g. correct,finished,unique,shortest=4")],
    against: Against = None,
    split: AgainstSplit = "test",
    field: Fields = None,
    problems: AgainstCount = None,
    seed: Seed = 0,
    out: OutShard = None,
    as_json: AsJson = False,
) -> None:
    """Keep what fulfils all rules; OUT.dropped.csv says why each other trace went.

    Example: stillroom traces select traces/ --rules correct,finished,unique,take=4 --out train.parquet
    """
    from stillroom.traces.select import choose, parse
    from stillroom.traces.store import write_tables

    evaluation = _evaluation(against, field, split, problems, seed) if against else []
    pool, parsed = _pool(files), parse(rules, seed=seed, against=evaluation)
    shard = _shard(out) if out else None
    choice = choose(pool, parsed)
    if shard is not None:
        write_tables(shard, pool.tables(choice.rows))
        choice.dropped.write_csv(shard.with_suffix(".dropped.csv"))
    facts: dict[str, Any] = {"input": pool.height, "kept": len(choice.rows), "dropped": choice.counts}
    _report(facts, as_json)


@app.command()
def export(
    files: Files,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets train.jsonl or train.parquet and README.md.")],
    layout: Annotated[Layout, typer.Option(help="What one row is.")] = Layout.MESSAGES,
    form: Annotated[Form, typer.Option(help="File format.")] = Form.JSONL,
    title: Annotated[str, typer.Option(help="Title of the data card.")] = "Reasoning traces",
    licence: Annotated[
        list[str] | None, typer.Option(metavar="TASK=LICENCE", help="Licence of a task's problems; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write training files that other trainers read, and a data card.

    Example: stillroom traces export train.parquet --layout preference --out data/ --licence gsm8k=MIT
    """
    from stillroom.traces import export as exporting
    from stillroom.traces.stats import summary

    licences = _pairs("--licence", licence, "gsm8k=MIT")
    pool = _pool(files)
    totals = summary(pool.lazy)
    unknown = sorted(set(licences) - set(totals.by_task))
    if unknown:
        raise UserError(f"--licence {unknown[0]}: no such task here; there is {', '.join(totals.by_task)}")
    written = exporting.export(_traces(pool), out, layout.value, form.value)
    card = exporting.write_card(out, title, written, layout.value, totals, licences)
    _report({"traces": written.traces, "rows": written.rows, "out": str(written.path), "card": str(card)}, as_json)


@app.command()
def view(
    files: Files,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """Serve the traces to a browser on this machine, until Ctrl-C.

    Example: stillroom traces view runs/mine/traces
    """
    from stillroom.report.viewer import serve

    serve(files, port=port)


def _pool(files: Sequence[Path]) -> "Pool":
    """The rows of all files, in order; what JSON lines hold is in memory."""
    from stillroom.traces import store
    from stillroom.traces.imports import describe, read_any
    from stillroom.traces.pool import Pool

    sources: list[Path | pl.DataFrame] = []
    for path in store.paths_of(*files):
        if path.suffix == ".jsonl":
            imported = read_any(path)
            sources.append(store.to_frame(imported.traces))
            if imported.bad:
                typer.echo(f"left out {describe(imported.bad)}", err=True)
        else:
            sources.append(path)
    return Pool(*sources)


def _traces(pool: "Pool") -> Iterator["Trace"]:
    from stillroom.traces import store

    for table in pool.tables():
        yield from store.from_table(table)


def _write_without(out: Path | None, pool: "Pool", found: "pl.DataFrame") -> None:
    """Write all rows but those that were found, as a stream."""
    if out is None:
        return
    import numpy as np

    from stillroom.traces.store import write_tables

    write_tables(_shard(out), pool.tables(np.setdiff1d(np.arange(pool.height), found["row"].to_numpy())))


def _shard(out: Path) -> Path:
    if out.suffix != ".parquet":
        raise UserError(f"--out {out}: traces are written as Parquet; give a file that ends in .parquet")
    return out


def _pairs(option: str, entries: list[str] | None, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for entry in entries or []:
        name, _, value = entry.rpartition("=")
        if not (name and value):
            raise UserError(f"{option} {entry}: give two names with = between them, e.g. {option} {example}")
        pairs[name] = value
    return pairs


def _load_task(spec: str, field: list[str] | None) -> "Task":
    from stillroom.tasks import load_task

    return load_task(spec, fields=_pairs("--field", field, "question=prompt") or None)


def _evaluation(spec: str, field: list[str] | None, split: str, n: int | None, seed: int) -> list["Problem"]:
    if split not in ("train", "dev", "test"):
        raise UserError(f"--split {split}: give train, dev or test")
    problems = _load_task(spec, field).problems(split, n, seed)  # type: ignore[arg-type]
    if not problems:
        raise UserError(f"--against {spec} has no problem in split {split!r}; nothing could be found")
    return problems


def _problems_of(task: "Task", pool: "Pool") -> list["Problem | None"]:
    """The problem of every trace: by its id, else by its question; None where the task has neither."""
    from stillroom.traces.decontaminate import find

    frame = pool.columns("task", "problem_id")
    known = _known(task, frame["problem_id"].unique().to_list())
    by_id = {problem.id: problem for problem in known}
    by_row = dict(find(pool, known, how="exact").select("row", "evaluation_id").iter_rows())
    found = [
        by_id.get(id) if owner == task.name and id in by_id else by_id.get(by_row.get(row, ""))
        for row, (owner, id) in enumerate(frame.select("task", "problem_id").iter_rows())
    ]
    if not any(found):
        raise UserError(f"task {task.name!r} has none of these traces' problems, by id or by question")
    return found


def _known(task: "Task", ids: Sequence[str]) -> list["Problem"]:
    """All problems of a finite task; of an endless one those up to the highest number that the ids name."""
    problems: list[Problem] = []
    for split in ("train", "dev", "test"):
        try:
            problems += task.problems(split, None, 0)
        except UserError:  # endless, or without this split
            continue
    if problems:
        return problems
    highest: dict[tuple[int, str], int] = {}
    for id in ids:
        match = re.fullmatch(rf"{re.escape(task.name)}/(\d{{1,18}})/(train|dev|test)/(\d{{1,7}})", id)
        if match:
            key = (int(match[1]), match[2])
            highest[key] = max(highest.get(key, 0), int(match[3]))
    for (seed, split), index in sorted(highest.items()):
        problems += task.problems(split, index + 1, seed)  # type: ignore[arg-type]
    return problems


def _grade(trace: "Trace", problem: "Problem | None", task: "Task", strict: bool, counts: dict[str, int]) -> "Trace":
    from stillroom.traces.store import response_of
    from stillroom.types import Finish, Verdict

    if problem is None:
        counts["unknown_problem"] += 1
        verdict = Verdict(correct=None, reason="unknown problem")
    elif trace.finish not in (Finish.STOP, Finish.LENGTH):
        verdict = Verdict(correct=None, reason=f"no response: {trace.finish.value}")
    else:
        verdict = task.verify(problem, response_of(trace), strict=strict)
    counts["judged" if verdict.correct is not None else "unjudged"] += 1
    counts["correct"] += verdict.correct is True
    counts["changed"] += (trace.verdict.correct if trace.verdict else None) != verdict.correct
    return trace.model_copy(update={"verdict": verdict})


def _plain(value: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(value)
    facts["by_level"] = {
        str(level): {"traces": n, "judged": judged, "correct": right}
        for level, (n, judged, right) in facts["by_level"].items()
    }
    return facts


def _report(facts: dict[str, Any], as_json: bool, **lists: list[dict[str, Any]]) -> None:
    if as_json:
        emit_json(facts | lists)
    else:
        _facts(facts)


def _facts(facts: dict[str, Any]) -> None:
    """One fact per line; aligned for a reader, tab-separated for a pipe."""
    for name, value in _flat("", facts):
        shown = "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        name, shown = _visible(name), _visible(shown)
        emit(f"{name:<32}{shown}" if sys.stdout.isatty() else f"{name}\t{shown}")


def _visible(text: str) -> str:
    """Text that cannot command a terminal: control and bidi characters are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _flat(prefix: str, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _table(rows: "pl.DataFrame") -> None:
    if not sys.stdout.isatty():
        emit(rows.write_csv(separator="\t").removesuffix("\n"))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows.columns, box=None)
    for row in rows.iter_rows():
        shown = ("" if v is None else f"{v:.3g}" if isinstance(v, float) else _visible(str(v)) for v in row)
        # Text, not markup: ids and matches are whatever a model or a file said.
        table.add_row(*map(Text, shown))
    Console().print(table)

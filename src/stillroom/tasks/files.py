"""Tasks from rows, of files or of whatever else yields them. A bad row is rejected with its reason, never guessed at.

Which split a problem is in: rows keep the split that their source declares; a split that the source lacks is cut from
the declared *train* rows (or from all, when nothing is declared) by the hash of the question, a tenth each.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.errors import DataError, UserError
from stillroom.io import write_atomic
from stillroom.seeds import digest
from stillroom.tasks import choice, math
from stillroom.tasks.base import Task, split_of
from stillroom.tasks.datasets import Fields, Layout, choose_layout
from stillroom.tasks.notation import read_number
from stillroom.types import Problem, Split, Verdict

MAX_ROW_BYTES = 1 << 20
"""A longer line is rejected; no problem is this long, and a file without line ends must not fill the memory."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
_SPLITS: tuple[Split, ...] = ("test", "dev", "train")


class Reject(NamedTuple):
    """A row that became no problem."""

    source: str
    row: int
    """Its number from 1: the line of a JSON lines file, the record of any other."""
    reason: str


class Loaded(NamedTuple):
    """A task, and the rows of its source that are not in it."""

    task: Task
    rejects: tuple[Reject, ...] = ()


class Source(NamedTuple):
    """Rows that belong together."""

    name: str
    split: Split | None
    """None when the source declares none."""
    rows: Iterable["Row"]


class Row(NamedTuple):
    number: int
    value: Any
    """A mapping, or anything else that was there instead."""
    problem: str = ""
    """Why there is no value."""


# --- reading -----------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file by its suffix: JSON lines, a JSON array or lines, CSV with a header, or Parquet.

    A JSON object with one array in it is that array.

    Raises:
        UserError: for a missing file, another suffix, or a file that is broken as a whole.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"cannot read {path.name!r}: give a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}; give the path of an existing file")
    if suffix == ".csv":
        return _read_csv(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix == ".json" and not _is_lines(path):
        return _read_array(path)
    return _read_lines(path)


def _is_lines(path: Path) -> bool:
    """Whether a .json file is JSON lines: its first line is a whole object."""
    with open(path, "rb") as file:
        line = file.readline(MAX_ROW_BYTES)
    return isinstance(_parse(line)[0], dict)


def _parse(data: bytes) -> tuple[Any, str]:
    """A JSON value, or why there is none."""
    try:
        return json.loads(data.decode("utf-8-sig")), ""
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start + 1}"
    except RecursionError:
        return None, "nested too deep"
    except ValueError as error:
        return None, f"not JSON: {error}"


def _read_lines(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield Row(number, None, f"longer than {MAX_ROW_BYTES:,} bytes")
            elif line.strip():
                yield Row(number, *_parse(line))


def _read_array(path: Path) -> Iterator[Row]:
    values, problem = _parse(path.read_bytes())
    if problem:
        raise DataError(f"{path.name} is {problem}")
    if isinstance(values, dict):  # an array under a name of its own, as in {"data": [...]}
        arrays = [value for value in values.values() if isinstance(value, list)]
        values = arrays[0] if len(arrays) == 1 else [values]
    for number, value in enumerate(values, 1):
        yield Row(number, value)


def _read_csv(path: Path) -> Iterator[Row]:
    # Undecodable bytes become lone surrogates, which the layouts refuse row by row.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        header: list[str] | None = None
        number = 0
        while True:
            number += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(number, None, f"not CSV: {error}")
                continue
            if header is None:
                header, number = cells, 0
            elif len(cells) != len(header):
                if cells:
                    yield Row(number, None, f"{len(cells)} cells under {len(header)} columns")
            else:
                yield Row(number, dict(zip(header, cells, strict=True)))


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} is no readable Parquet file: {error}") from error


# --- rows to problems --------------------------------------------------------------------------------------------


def build(
    name: str,
    sources: Iterable[Source],
    *,
    fields: Fields | None = None,
    layout: str | None = None,
    strict: bool = False,
    summary: str = "",
    world: str = "",
    licence: str = "unknown",
) -> Loaded:
    """A finite task from rows.

    Args:
        name: of the task; problems are called ``name/SOURCE/ROW`` unless their rows carry an id.
        sources: where a question stands twice, test rows win over dev, and dev over train; the later one is rejected.
        fields: field → column.
        layout: of the rows; None looks at the first row.
        strict: a bad row raises instead of being rejected.

    Raises:
        DataError: when no row is usable, or with `strict` when one is not; names the first rows and the count.
    """
    problems, rejects, chat_format = _collect(name, list(sources), dict(fields or {}), layout)
    if rejects and (strict or not problems):
        shown = "; ".join(f"{r.source} row {r.row}: {r.reason}" for r in rejects[:5])
        raise DataError(
            f"{name}: {len(rejects)} of {len(rejects) + len(problems)} rows are unusable ({shown}"
            f"{'; …' if len(rejects) > 5 else ''}); mend or remove them"
        )
    if not problems:
        raise DataError(f"{name}: there are no rows")
    task = finite(name, problems, summary=summary, world=world, licence=licence, chat_format=chat_format)
    return Loaded(task, tuple(rejects))


def _collect(
    name: str, sources: list[Source], fields: Fields, layout: str | None
) -> tuple[list[Problem], list[Reject], str]:
    """Problems, rejects, and the chat format that suits the rows."""
    problems: list[Problem] = []
    rejects: list[Reject] = []
    declared = {source.split for source in sources if source.split}
    questions: dict[str, tuple[str, str | None]] = {}  # hash of the question → where it stands, its gold answer
    ids: set[str] = set()
    chosen: Layout | None = None
    for source in sorted(sources, key=lambda s: _SPLITS.index(s.split or "train")):
        for row in source.rows:
            where = f"{source.name} row {row.number}"
            try:
                if row.problem:
                    raise DataError(row.problem)
                if isinstance(row.value, Problem):
                    problem = row.value
                elif isinstance(row.value, Mapping):
                    chosen = chosen or choose_layout(layout, fields, row.value, source.name)
                    problem = chosen.adapt(row.value, fields)
                else:
                    raise DataError(f"not an object but {type(row.value).__name__}")
                key = digest(*(message.content for message in problem.messages), *problem.options)
                if key in questions:
                    first, gold = questions[key]
                    raise DataError(
                        f"duplicate of {first}"
                        if gold == problem.reference
                        else f"same question as {first}, but another answer ({problem.reference!r}, not {gold!r})"
                    )
                ident = problem.id or f"{name}/{source.name}/{row.number}"
                if ident in ids:
                    raise DataError(f"id {ident!r} is taken by an earlier row")
            except DataError as error:
                rejects.append(Reject(source.name, row.number, str(error)))
                continue
            questions[key] = where, problem.reference
            ids.add(ident)
            split = _split(problem, source.split, declared)
            problems.append(problem.model_copy(update={"id": ident, "task": name, "split": split}))
    return problems, rejects, chosen.chat_format if chosen else "boxed"


def _split(problem: Problem, own: Split | None, declared: set[Split]) -> Split:
    if own in ("dev", "test"):
        return own
    hashed = split_of(problem)
    return "train" if hashed in declared else hashed


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Constraints and survey answers where a problem has them, multiple choice where it has options, else mathematics.

    Mathematics also compares plain words.
    """
    if "constraints" in problem.meta:
        from stillroom.tasks.instructions.verify import verify as verify_constraints

        return verify_constraints(problem, text, strict=strict)
    if "clusters" in problem.meta:
        from stillroom.tasks.protoqa import verify as verify_list

        return verify_list(problem, text, strict=strict)
    return (choice.verify if problem.options else math.verify)(problem, text, strict=strict)


def corrupt(problem: Problem) -> str:
    """A wrong answer near the gold one: the next letter, the number plus one, the expression plus one."""
    gold = problem.reference or ""
    if problem.options:
        return chr(65 + (ord(gold) - 64) % len(problem.options))
    number = read_number(gold)
    return f"1+{gold}" if number is None else str(number.value + 1)


def finite(
    name: str,
    problems: list[Problem],
    *,
    summary: str = "",
    world: str = "",
    licence: str = "unknown",
    chat_format: str = "boxed",
) -> Task:
    """A task over a fixed list; ``problems(split, n, seed)`` gives the first n in an order that the seed decides."""

    def choose(split: Split, n: int | None, seed: int) -> list[Problem]:
        ours = sorted((p for p in problems if p.split == split), key=lambda p: digest("order", str(seed), p.id))
        return ours if n is None else ours[:n]

    return Task(
        name=name,
        summary=summary or f"{len(problems)} problems",
        problems=choose,
        verify=verify,
        levels=tuple(sorted({p.level for p in problems} - {0})),
        world=world,
        source="file",
        licence=licence,
        chat_format=chat_format,
        corrupt=corrupt,
    )


# --- whole tasks -------------------------------------------------------------------------------------------------


def load_file(
    path: Path,
    *,
    fields: Fields | None = None,
    layout: str | None = None,
    strict: bool = False,
    eval_file: Path | None = None,
) -> Loaded:
    """The task of a file; with `eval_file` that one is the test split, and nothing of it stays in the other.

    Raises:
        UserError: for a file that cannot be read, or columns that fit no layout.
        DataError: as `build` does.
    """
    sources = [Source(path.name, "train" if eval_file else None, read_rows(path))]
    if eval_file:
        label = eval_file.name if eval_file.name != path.name else f"eval {eval_file.name}"
        sources.append(Source(label, "test", read_rows(eval_file)))
    return build(path.stem, sources, fields=fields, layout=layout, strict=strict, summary=f"rows of {path.name}")


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """The reject file that belongs beside a run: one JSON line per row with source, row and reason."""
    lines = [json.dumps(reject._asdict(), ensure_ascii=False) for reject in rejects]
    write_atomic(path, "".join(line + "\n" for line in lines))

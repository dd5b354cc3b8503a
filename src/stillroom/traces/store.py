"""Where traces live: Parquet shards that are whole or absent, read back exactly or scanned as columns.

What a query needs is a flat column (a null `correct` means not judged); conversations and spans are native lists of
structs; free-form dictionaries are JSON strings. Texts are stored as they are, control characters and NUL included,
with one exception: UTF-8 has no lone surrogates, so each of them is stored as U+FFFD, which keeps every span's offsets.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stillroom.errors import DataError, UserError
from stillroom.io import open_atomic
from stillroom.types import Trace

_VERSION = "1"
_ROWS_PER_GROUP = 5_000

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_SEGMENT = pa.struct(
    [
        ("role", pa.string()),
        ("text", pa.string()),
        ("weight", pa.float64()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokenizer", pa.string()),
    ]
)
_SPAN = pa.struct([("kind", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("data", pa.string())])

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("source", pa.string()),
        ("sampler", pa.string()),
        ("index", pa.int64()),
        ("round", pa.int64()),
        ("level", pa.int64()),
        ("seed", pa.int64()),
        ("finish", pa.string()),
        ("correct", pa.bool_()),
        ("score", pa.float64()),
        ("raw", pa.float64()),
        ("answer", pa.string()),
        ("reason", pa.string()),  # null exactly when there is no verdict at all
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("calls", pa.int64()),
        ("cost_usd", pa.float64()),
        ("parents", pa.list_(pa.string())),
        ("asked", pa.list_(_MESSAGE)),
        ("taught", pa.list_(_SEGMENT)),
        ("spans", pa.list_(_SPAN)),
        ("parts", pa.string()),
        ("judgement", pa.string()),
        ("params", pa.string()),
        ("meta", pa.string()),
    ],
    metadata={"stillroom.traces": _VERSION},
)
FLAT = tuple(
    name
    for name in SCHEMA.names
    if name not in ("parents", "asked", "taught", "spans", "parts", "judgement", "params", "meta")
)
"""The columns that are plain values: what statistics and most selection rules read."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text as UTF-8 can hold it: every surrogate becomes U+FFFD; same length."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def write_shard(folder: Path, name: str, traces: Iterable[Trace]) -> Path:
    """Write ``folder/name.parquet`` whole; an existing shard of that name is replaced whole. Returns its path.

    Raises:
        DataError: when a number does not fit its column; names the trace.
    """
    path = _shard(folder, name)
    write_tables(path, tables(traces))
    return path


def write_frame(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    """As `write_shard`, of a frame that holds all columns of the store."""
    path = _shard(folder, name)
    write_tables(path, (to_table(part) for part in frame.iter_slices(_ROWS_PER_GROUP)))
    return path


def _shard(folder: Path, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{name!r} is no shard name; use letters, digits, dots, dashes and underscores")
    return folder / f"{name}.parquet"


def write_tables(path: Path, rows: Iterable[pa.Table]) -> None:
    """Write tables of the store's schema as one shard, one row group per table."""
    with open_atomic(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for table in rows:
            writer.write_table(table)


def tables(traces: Iterable[Trace]) -> Iterator[pa.Table]:
    """The traces as Arrow tables of at most 5,000 rows."""
    left = iter(traces)
    while rows := [_row(trace) for trace in islice(left, _ROWS_PER_GROUP)]:
        try:
            yield pa.Table.from_pylist(rows, schema=SCHEMA)
        except (pa.ArrowInvalid, OverflowError) as error:
            raise DataError(f"trace {_culprit(rows)!r} cannot be stored: {error}") from error


def paths_of(*paths: Path | str) -> list[Path]:
    """The shards meant by files and folders, in order; a folder means its ``*.parquet``, sorted by name."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            shards = sorted(p for p in path.glob("*.parquet") if not p.name.startswith("."))
            if not shards:
                raise UserError(f"no trace shards (*.parquet) in {path}")
            found += shards
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"no such file or folder: {path}")
    return found


def read_tables(*paths: Path | str) -> Iterator[pa.Table]:
    """The rows of shards and folders, in order, as Arrow tables; raises DataError naming an unreadable shard."""
    for path in paths_of(*paths):
        _check(path)
        try:
            # Buffering ahead would hold on to all that was read of the shard until it is closed.
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(_ROWS_PER_GROUP):
                    yield pa.Table.from_batches([batch]).cast(SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged: {error}") from error


def iterate(*paths: Path | str) -> Iterator[Trace]:
    """The traces of shards and folders, in order, one by one."""
    return chain.from_iterable(map(from_table, read_tables(*paths)))


def read(*paths: Path | str) -> list[Trace]:
    """The traces of shards and folders, in order, exactly as they were written."""
    return list(iterate(*paths))


def scan(*paths: Path | str) -> pl.LazyFrame:
    """The rows of shards and folders, in order, as columns that are read only when a query needs them."""
    found = paths_of(*paths)
    for path in found:
        _check(path)
    return pl.scan_parquet(found)


def rows_of(path: Path) -> int:
    """How many traces a shard holds; raises DataError when it holds none of this version."""
    _check(path)
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def to_frame(traces: Iterable[Trace]) -> pl.DataFrame:
    """The traces as the frame that `scan` would give."""
    return cast(pl.DataFrame, pl.from_arrow(pa.concat_tables([SCHEMA.empty_table(), *tables(traces)])))


def from_frame(frame: pl.DataFrame) -> list[Trace]:
    """The traces of a frame that holds all columns of the store; raises UserError when it lacks some."""
    return from_table(to_table(frame))


def to_table(frame: pl.DataFrame) -> pa.Table:
    """A frame as an Arrow table of the store's schema; raises UserError when it lacks columns."""
    missing = [name for name in SCHEMA.names if name not in frame.columns]
    if missing:
        raise UserError(f"the frame lacks {', '.join(missing)}; only a frame with all columns holds whole traces")
    return frame.select(SCHEMA.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA)


def from_table(table: pa.Table) -> list[Trace]:
    """The traces of an Arrow table of the store's schema."""
    return [_trace(row) for row in table.to_pylist()]


def text() -> pl.Expr:
    """The response: the text of the last assistant turn, over all its segments; empty when there is none."""
    return _last_turn("assistant")


def question() -> pl.Expr:
    """The text of the last user turn; empty when there is none."""
    return _last_turn("user")


def squeezed(text: pl.Expr) -> pl.Expr:
    """The text with every run of white space as one space, and none at its ends."""
    # Single spaces are what most white space is; passing over them makes this three times faster than \s+.
    return text.str.replace_all(r"\s{2,}|[^\S ]", " ").str.strip_chars()


def response_of(trace: Trace) -> str:
    """The response of one trace, as `text` gives it for a frame."""
    last = next((i for i, s in reversed(list(enumerate(trace.taught))) if s.role == "assistant"), -1)
    first = last
    while first > 0 and trace.taught[first - 1].role == "assistant":
        first -= 1
    return clean("".join(s.text for s in trace.taught[max(first, 0) : last + 1]))


def with_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns ``question`` and ``response``, made from `taught` unless they are there."""
    wanted = {"question": question(), "response": text()}
    return frame.with_columns(**{name: expr for name, expr in wanted.items() if name not in frame.columns})


def _last_turn(role: str) -> pl.Expr:
    return pl.col("taught").map_batches(lambda taught: _texts_of_last_turn(taught, role), return_dtype=pl.String)


def _texts_of_last_turn(taught: pl.Series, role: str) -> pl.Series:
    """Per row the joined texts of the last run of segments with this role."""
    length = taught.list.len().fill_null(0).to_numpy().astype(np.int64)
    full = np.flatnonzero(length)
    if not len(full):
        return pl.Series(taught.name, [""] * len(taught), dtype=pl.String)
    segments = taught.gather(full).explode().struct
    mine = (segments.field("role") == role).fill_null(False).to_numpy()
    end = np.cumsum(length[full])
    place = np.arange(len(mine))
    # The last own segment before each row's end, and the last foreign one before that, as running maxima.
    last = np.maximum.accumulate(np.where(mine, place, -1))[end - 1]
    foreign = np.maximum.accumulate(np.where(mine, -1, place))
    begin = end - length[full]
    has = last >= begin
    first = np.maximum(foreign[last[has]] + 1, begin[has])
    count = last[has] - first + 1
    texts = segments.field("text").fill_null("")
    taken = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    joined = texts.gather(taken)
    if len(taken) > len(count):
        owner = pl.Series(np.repeat(np.arange(len(count)), count))
        joined = (
            pl.DataFrame({"owner": owner, "text": joined})
            .group_by("owner", maintain_order=True)
            .agg(pl.col("text").str.join(""))["text"]
        )
    at = np.full(len(taught), len(joined), dtype=np.int64)
    at[full[has]] = np.arange(len(joined))
    return pl.concat([joined.rename(taught.name), pl.Series(taught.name, [""], dtype=pl.String)]).gather(at)


def _check(path: Path) -> None:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    version = (schema.metadata or {}).get(b"stillroom.traces")
    if version != _VERSION.encode() or not schema.equals(SCHEMA):
        raise DataError(
            f"{path} does not hold Stillroom traces of version {_VERSION}: its columns are {', '.join(schema.names)}"
        )


def _culprit(rows: list[dict[str, Any]]) -> str:
    for row in rows:
        try:
            pa.Table.from_pylist([row], schema=SCHEMA)
        except (pa.ArrowInvalid, OverflowError):
            return str(row["id"])
    return "?"


def _json(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False))


def _row(trace: Trace) -> dict[str, Any]:
    verdict, usage = trace.verdict, trace.usage
    return {
        "id": clean(trace.id),
        "problem_id": clean(trace.problem_id),
        "task": clean(trace.task),
        "source": trace.source,
        "sampler": clean(trace.sampler),
        "index": trace.index,
        "round": trace.round,
        "level": trace.level,
        "seed": trace.seed,
        "finish": trace.finish.value,
        "correct": None if verdict is None else verdict.correct,
        "score": None if verdict is None else verdict.score,
        "raw": None if verdict is None else verdict.raw,
        "answer": None if verdict is None or verdict.answer is None else clean(verdict.answer),
        "reason": None if verdict is None else clean(verdict.reason),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "calls": usage.calls,
        "cost_usd": usage.cost_usd,
        "parents": [clean(parent) for parent in trace.parents],
        "asked": [{"role": m.role, "content": clean(m.content)} for m in trace.asked],
        "taught": [
            {
                "role": s.role,
                "text": clean(s.text),
                "weight": s.weight,
                "token_ids": s.token_ids,
                "tokenizer": None if s.tokenizer is None else clean(s.tokenizer),
            }
            for s in trace.taught
        ],
        "spans": [{"kind": clean(s.kind), "start": s.start, "end": s.end, "data": _json(s.data)} for s in trace.spans],
        "parts": None if verdict is None else _json(verdict.parts),
        "judgement": None if trace.judgement is None else _json(trace.judgement.model_dump()),
        "params": _json(trace.params),
        "meta": _json(trace.meta),
    }


def _trace(row: dict[str, Any]) -> Trace:
    verdict = {name: row.pop(name) for name in ("correct", "score", "raw", "answer", "parts", "reason")}
    usage = {name: row.pop(name) for name in ("prompt_tokens", "completion_tokens", "calls", "cost_usd")}
    judgement = row.pop("judgement")
    return Trace.model_validate(
        row
        | {
            "verdict": None if verdict["reason"] is None else verdict | {"parts": json.loads(verdict["parts"])},
            "usage": usage,
            "judgement": None if judgement is None else json.loads(judgement),
            "spans": [span | {"data": json.loads(span["data"])} for span in row["spans"]],
            "params": json.loads(row["params"]),
            "meta": json.loads(row["meta"]),
        }
    )

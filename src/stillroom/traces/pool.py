"""Traces that need not fit in memory: narrow columns at once, texts chunk by chunk, whole rows as a stream.

A row is known by its number, counted over all sources in order. What asks for columns gets only those rows and columns
that it asks for; what reads texts sees a few megabytes of them at a time, whatever the pool holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stillroom.errors import DataError
from stillroom.traces import store
from stillroom.traces.ngrams import I64, Words, words

_CHUNK_ROWS = 5_000
_CHUNK_BYTES = 16_000_000


@dataclass(frozen=True)
class Chunk:
    """The texts of a few rows, in order."""

    row: I64
    question: pl.Series
    response: pl.Series

    @cached_property
    def asked(self) -> Words:
        """The words of the questions."""
        return words(self.question)

    @cached_property
    def answered(self) -> Words:
        """The words of the responses."""
        return words(self.response)


class Pool:
    """The rows of shards, of folders of shards and of frames, in order.

    A frame may lack columns of the store that nobody asks for, and may hold ``question`` and ``response`` instead of
    `taught`.

    Raises:
        UserError: for a path that does not exist.
        DataError: for a file that holds no traces.
    """

    def __init__(self, *sources: Path | str | pl.DataFrame) -> None:
        self.sources: list[Path | pl.DataFrame] = []
        for source in sources:
            self.sources += [source] if isinstance(source, pl.DataFrame) else store.paths_of(source)
        self._heights = [
            source.height if isinstance(source, pl.DataFrame) else store.rows_of(source) for source in self.sources
        ]
        self.height = sum(self._heights)

    @property
    def lazy(self) -> pl.LazyFrame:
        """All rows as columns that are read only when a query needs them."""
        return pl.concat([s.lazy() if isinstance(s, pl.DataFrame) else store.scan(s) for s in self.sources])

    def columns(self, *columns: str | pl.Expr, rows: I64 | None = None) -> pl.DataFrame:
        """The column ``row`` and the given ones.

        Args:
            columns: names of the store's, or expressions of them that work row by row.
            rows: which rows, ascending; all when None.
        """
        exprs = [pl.col(column) if isinstance(column, str) else column for column in columns]
        names = sorted({name for expr in exprs for name in expr.meta.root_names()})
        taken = [part.select(pl.Series("row", row), *exprs) for row, part in self._parts(names, rows) if len(row)]
        if taken:
            return pl.concat(taken)
        return self.lazy.head(0).select(pl.lit(0, pl.Int64).alias("row"), *exprs).collect()

    def texts(self, rows: I64 | None = None) -> Iterator[Chunk]:
        """The questions and responses of the given rows (ascending; all when None), in order."""
        for row, part in self._parts(("question", "response", "taught"), rows):
            if len(row):
                texts = store.with_texts(part)
                yield Chunk(row, texts["question"], texts["response"])

    def tables(self, rows: I64 | None = None) -> Iterator[pa.Table]:
        """The given rows (ascending; all when None) whole, as Arrow tables of the store's schema."""
        first = 0
        for source in self.sources:
            parts = [store.to_table(source)] if isinstance(source, pl.DataFrame) else store.read_tables(source)
            for table in parts:
                if rows is None:
                    yield table
                else:
                    low, high = np.searchsorted(rows, (first, first + table.num_rows))
                    yield table.take(pa.array(rows[low:high] - first))
                first += table.num_rows

    def _parts(self, names: Sequence[str], rows: I64 | None) -> Iterator[tuple[I64, pl.DataFrame]]:
        """Row numbers and columns, a chunk at a time."""
        first = 0
        for source, height in zip(self.sources, self._heights, strict=True):
            mine = np.arange(first, first + height)
            if rows is not None:
                low, high = np.searchsorted(rows, (first, first + height))
                mine = rows[low:high]
            if len(mine):
                own = mine - first
                for at, part in (
                    _of_frame(source, names, own) if isinstance(source, pl.DataFrame) else _of_shard(source, names, own)
                ):
                    yield at + first, part
            first += height


def as_pool(traces: Pool | pl.DataFrame) -> Pool:
    """A frame as a pool; a pool as it is."""
    return traces if isinstance(traces, Pool) else Pool(traces)


def _of_frame(frame: pl.DataFrame, names: Sequence[str], rows: I64) -> Iterator[tuple[I64, pl.DataFrame]]:
    here = [name for name in frame.columns if name in names]
    step = _step(int(frame.estimated_size()), frame.height)
    for first in range(0, len(rows), step):
        taken = rows[first : first + step]
        yield taken, frame.select(here)[taken]


def _of_shard(path: Path, names: Sequence[str], rows: I64) -> Iterator[tuple[I64, pl.DataFrame]]:
    """Only the row groups that hold one of the rows are read."""
    try:
        # Buffering ahead would hold on to all that was read of the shard until it is closed.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            edges = np.concatenate([[0], np.cumsum([group.num_rows for group in groups])]).astype(np.int64)
            wanted = np.unique(np.searchsorted(edges, rows, side="right") - 1)
            read = np.concatenate([np.arange(edges[i], edges[i + 1]) for i in wanted])
            # The step bounds what a chunk of texts occupies; a chunk of narrow columns is then small, too.
            step = _step(sum(group.total_byte_size for group in groups), int(edges[-1]))
            done = 0
            for batch in file.iter_batches(
                step, row_groups=wanted.tolist(), columns=[name for name in names if name in store.SCHEMA.names]
            ):
                here = read[done : done + batch.num_rows]
                done += batch.num_rows
                low, high = np.searchsorted(rows, (here[0], here[-1] + 1))
                taken = rows[low:high]
                if len(taken) < len(here):
                    batch = batch.take(pa.array(np.searchsorted(here, taken)))
                yield taken, pl.DataFrame(pl.from_arrow(batch))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _step(n_bytes: int, rows: int) -> int:
    return max(1, min(_CHUNK_ROWS, _CHUNK_BYTES * rows // max(n_bytes, 1)))

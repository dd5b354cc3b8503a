"""Which trace repeats an earlier one: word for word, or nearly.

Two traces are duplicates when their questions *and* their responses are: the same short answer to different questions
is no duplicate, nor are two different answers to one question. The first of each group stays.
"""

import tempfile
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillroom.errors import MissingExtraError, UserError
from stillroom.traces.ngrams import I64, U64, grams
from stillroom.traces.pool import Chunk, Pool, as_pool
from stillroom.traces.store import squeezed

_PERMUTATIONS = 80
_MAX_REPRESENTATIVES = 50
"""Per bucket of similar traces, how many kept ones a new trace is compared with, so that time stays bounded."""
_RESPONSE = np.uint64(0x5BD1E995_9E3779B1)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SEED = 1
_PREFIX = np.uint64(64 - 22)


def exact(traces: Pool | pl.DataFrame, *, whitespace: bool = False) -> pl.DataFrame:
    """The traces whose question and response equal those of an earlier one.

    Args:
        traces: a pool, or a frame with columns of the store or with ``id``, ``question`` and ``response``.
        whitespace: True tells texts apart that differ only in white space.

    Returns:
        ``row`` (in the pool), ``id``, ``duplicate_of`` (the id that stays), in order.
    """
    pool, finder = as_pool(traces), Exact(whitespace=whitespace)
    for chunk in pool.texts():
        finder.add(chunk)
    return finder.found(pool, np.arange(pool.height))


def near(traces: Pool | pl.DataFrame, *, threshold: float = 0.8, n: int = 5) -> pl.DataFrame:
    """The traces whose question and response both nearly repeat those of an earlier trace that stays.

    MinHash proposes pairs; the Jaccard similarity of the word n-grams, computed exactly, decides. At the threshold
    itself at least 99.5 % of the pairs are proposed, above it more; of very many that resemble each other a new trace
    meets the earliest 50 only. A trace without a word is never a duplicate.

    Args:
        traces: a pool, or a frame with columns of the store or with ``id``, ``question`` and ``response``.
        threshold: least Jaccard similarity, in (0, 1], that questions and responses must both reach.
        n: words per n-gram; a shorter text is one n-gram.

    Returns:
        ``row`` (in the pool), ``id``, ``duplicate_of``, ``similarity`` (the smaller of the two), in order.

    Raises:
        MissingExtraError: without the extra ``neardup``.
    """
    pool, finder = as_pool(traces), Near(threshold=threshold, n=n)
    for chunk in pool.texts():
        finder.add(chunk)
    return finder.found(pool, np.arange(pool.height))


class Exact:
    """`exact` over chunks of texts: add them all in order, then ask.

    Two hashes of 64 bits stand for a trace; the texts are forgotten.
    """

    def __init__(self, *, whitespace: bool = False) -> None:
        self.whitespace = whitespace
        self._rows: list[I64] = []
        self._keys: list[U64] = []

    def add(self, chunk: Chunk) -> None:
        texts = pl.DataFrame({"asked": chunk.question, "answered": chunk.response})
        if not self.whitespace:
            texts = texts.select(squeezed(pl.all()))
        asked, answered = (
            np.stack([texts[name].hash(seed).to_numpy() for seed in (1, 2)], axis=1) for name in texts.columns
        )
        self._rows.append(chunk.row)
        self._keys.append(asked * _ODD + answered)

    def found(self, pool: Pool, rows: I64) -> pl.DataFrame:
        """Which of the given rows, ascending and all added before, repeat an earlier one of them; as `exact`."""
        if not len(rows):
            return _with_ids(pool, rows, rows)
        keys = np.concatenate(self._keys)[np.searchsorted(np.concatenate(self._rows), rows)]
        # Both sorts are stable: within a group the earliest row comes first.
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        fresh = np.concatenate([[True], (keys[order[1:]] != keys[order[:-1]]).any(axis=1)])
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        repeats, originals = order[~fresh], order[first[~fresh]]
        ascending = np.argsort(repeats)
        return _with_ids(pool, rows[repeats[ascending]], rows[originals[ascending]])


class Near:
    """`near` over chunks of texts: add them all in order, then ask, which reads the texts of candidates once more.

    What is too long to be held for every trace waits in temporary files.
    """

    def __init__(self, *, threshold: float = 0.8, n: int = 5) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f"near-duplicate threshold {threshold} is not in (0, 1]; 0.8 is usual")
        try:
            import rensa  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("rensa", "neardup") from error
        self.threshold, self.n = threshold, n
        self._width = _rows_per_band(threshold)
        self._rows: list[I64] = []
        self._bands = [_Spool(np.uint64) for _ in range(_PERMUTATIONS // self._width)]

    def add(self, chunk: Chunk) -> None:
        self._rows.append(chunk.row)
        keys = _band_keys(chunk, self._width, self.n)
        for band, spool in enumerate(self._bands):
            spool.append(keys[:, band])

    def found(self, pool: Pool, rows: I64) -> pl.DataFrame:
        """Which of the given rows, ascending and all added before, nearly repeat an earlier one of them; as `near`."""
        at = np.searchsorted(np.concatenate(self._rows), rows) if len(rows) else rows
        candidate, bucket = _buckets(spool.read()[at] for spool in self._bands)
        candidates, start = np.unique(candidate, return_index=True)
        sets = _Sets(pool, rows[candidates], self.n)
        representatives: dict[int, list[int]] = {}
        found: list[tuple[int, int, float]] = []
        for number, own in enumerate(np.split(bucket, start[1:]) if len(candidates) else []):
            mine, buckets = sets[number], own.tolist()
            others = sorted({other for key in buckets for other in representatives.get(key, ())})
            match = next(((o, s) for o in others if (s := _similarity(mine, sets[o])) >= self.threshold), None)
            if match:
                found.append((number, *match))
                continue
            for key in buckets:
                kept = representatives.setdefault(key, [])
                if len(kept) < _MAX_REPRESENTATIVES:
                    kept.append(number)
        repeats, originals = (np.array([pair[i] for pair in found], dtype=np.int64) for i in (0, 1))
        named = _with_ids(pool, rows[candidates[repeats]], rows[candidates[originals]])
        return named.with_columns(pl.Series("similarity", [pair[2] for pair in found], dtype=pl.Float64))


class _Spool:
    """Numbers of one type that wait in a temporary file, which is gone when this is."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(values.astype(self._dtype, copy=False).tobytes())

    def read(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        self._file.seek(first * self._dtype.itemsize)
        data = self._file.read() if count is None else self._file.read(count * self._dtype.itemsize)
        return np.frombuffer(data, dtype=self._dtype)


_Pair = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""The distinct n-grams of a question and of its response, each sorted."""


class _Sets:
    """The n-grams of some traces, by their number among these, in a temporary file."""

    def __init__(self, pool: Pool, rows: I64, n: int) -> None:
        self._grams = _Spool(np.uint32)
        none = np.zeros(0, dtype=np.int64)
        starts, counts, written = ([none], [none]), ([none], [none]), 0
        for chunk in pool.texts(rows):
            for column, start, count in zip((chunk.asked, chunk.answered), starts, counts, strict=True):
                found = grams(column, n)
                # 32 bits are plenty within one pair of traces; the row above them keeps the rows apart.
                keys = np.unique((found.row.astype(np.uint64) << np.uint64(32)) | (found.hash >> np.uint64(32)))
                self._grams.append(keys & np.uint64(0xFFFFFFFF))
                count.append(np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(chunk.row)))
                start.append(written + np.cumsum(count[-1]) - count[-1])
                written += len(keys)
        self._places = [
            (np.concatenate(start), np.concatenate(count)) for start, count in zip(starts, counts, strict=True)
        ]

    def __getitem__(self, number: int) -> _Pair:
        asked, answered = (self._grams.read(int(start[number]), int(count[number])) for start, count in self._places)
        return asked, answered


def _with_ids(pool: Pool, repeats: I64, originals: I64) -> pl.DataFrame:
    """``row``, ``id``, ``duplicate_of``."""
    named = pool.columns("id", rows=np.union1d(repeats, originals))
    places = (np.searchsorted(named["row"].to_numpy(), rows) for rows in (repeats, originals))
    id, of = (named["id"].gather(place) for place in places)
    return pl.DataFrame({"row": repeats, "id": id, "duplicate_of": of})


def _rows_per_band(threshold: float) -> int:
    """The widest band with which a pair at the threshold still shares one in 99.5 % of all cases."""
    for width in (10, 8, 5, 4, 2):
        if 1 - (1 - threshold**width) ** (_PERMUTATIONS // width) >= 0.995:
            return width
    return 1


def _band_keys(chunk: Chunk, width: int, n: int) -> U64:
    """One key per trace and band; traces with a common key are candidates. 0 stands for a trace without words."""
    from rensa import RMinHash

    keys = np.zeros((len(chunk.row), _PERMUTATIONS // width), dtype=np.uint64)
    asked, answered = grams(chunk.asked, n), grams(chunk.answered, n)
    # Questions and responses are kept apart by salting: when both reach the threshold, so does their disjoint union.
    hashes = np.concatenate([asked.hash, answered.hash ^ _RESPONSE])
    row = np.concatenate([asked.row, answered.row])
    order = np.argsort(row, kind="stable")
    present, start = np.unique(row[order], return_index=True)
    if not len(present):
        return keys
    offsets = np.append(start, len(row)).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes[order], offsets, _PERMUTATIONS, _SEED)
    flat = np.fromiter(chain.from_iterable(matrix.to_rows()), dtype=np.uint64, count=len(present) * _PERMUTATIONS)
    digests = flat.reshape(len(present), -1, width)
    value = np.arange(1, digests.shape[1] + 1, dtype=np.uint64)[None, :]
    for column in range(width):
        value = (value ^ digests[:, :, column]) * _ODD
        value ^= value >> np.uint64(29)
    keys[present] = value | np.uint64(1)
    return keys


def _buckets(bands: Iterable[U64]) -> tuple[I64, I64]:
    """Which traces share a key with others: positions, ascending, and the bucket of each, once per bucket.

    Most bands put the same pair together again; a bucket with the members of an earlier one is left out.
    """
    members, numbers, known, count = [], [], np.zeros(0, dtype=np.uint64), 0
    for keys in bands:
        # Sorting values is many times faster than sorting positions: only those that may repeat are sorted by position.
        ordered = np.sort(keys)
        prefixes = np.zeros(1 << 22, dtype=np.bool_)
        prefixes[ordered[1:][ordered[1:] == ordered[:-1]] >> _PREFIX] = True
        some = np.flatnonzero(prefixes[keys >> _PREFIX] & (keys != 0))
        order = some[np.argsort(keys[some], kind="stable")]
        fresh = np.concatenate([[True], keys[order[1:]] != keys[order[:-1]]])[: len(order)]
        start = np.flatnonzero(fresh)
        size = np.diff(start, append=len(order))
        shared = size > 1
        position = order[np.repeat(shared, size)]
        size = size[shared]
        first = np.cumsum(size) - size
        mixed = (position.astype(np.uint64) + np.uint64(1)) * _ODD
        mixed ^= mixed >> np.uint64(32)
        signature = np.add.reduceat(mixed * _RESPONSE, first) if len(first) else known[:0]
        unseen = ~np.isin(signature, known)
        known = np.concatenate([known, signature[unseen]])
        members.append(position[np.repeat(unseen, size)])
        numbers.append(np.repeat(np.arange(count, count + unseen.sum()), size[unseen]))
        count += int(unseen.sum())
    position, bucket = np.concatenate(members), np.concatenate(numbers)
    order = np.argsort(position, kind="stable")
    return position[order], bucket[order]


def _similarity(left: _Pair, right: _Pair) -> float:
    """The smaller Jaccard similarity of questions and of responses."""
    return min(_jaccard(left[0], right[0]), _jaccard(left[1], right[1]))


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    if not len(left) or not len(right):
        return float(len(left) == len(right))
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)

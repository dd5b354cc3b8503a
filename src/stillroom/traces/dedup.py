"""Which trace repeats an earlier one: word for word, or nearly.

Two traces are duplicates when their questions *and* their responses are: the same short answer to different questions
is no duplicate, nor are two different answers to one question. The first of each group stays.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillroom.errors import MissingExtraError, UserError
from stillroom.traces.ngrams import U64, grams, words
from stillroom.traces.store import squeezed, with_texts

_PERMUTATIONS = 80
_CHUNK = 20_000
_MAX_REPRESENTATIVES = 50
"""Per bucket of similar traces, how many kept ones a new trace is compared with, so that time stays bounded."""
_RESPONSE = np.uint64(0x5BD1E995_9E3779B1)
_SEED = 1


def exact(frame: pl.DataFrame, *, whitespace: bool = False) -> pl.DataFrame:
    """The traces whose question and response equal those of an earlier one.

    Args:
        frame: columns of the store, or ``id``, ``question`` and ``response``.
        whitespace: True tells texts apart that differ only in white space.

    Returns:
        ``row`` (in the frame), ``id``, ``duplicate_of`` (the id that stays), in order.
    """
    texts = [pl.col("question"), pl.col("response")]
    if not whitespace:
        texts = [squeezed(text) for text in texts]
    # Two hashes of 64 bits stand for a text: a column of normalised texts would double the memory.
    keys = [text.hash(seed).alias(f"{i}.{seed}") for i, text in enumerate(texts) for seed in (1, 2)]
    return (
        with_texts(frame)
        .lazy()
        .select("id", *keys)
        .with_row_index("row")
        .with_columns(
            first=pl.col("row").first().over(["0.1", "0.2", "1.1", "1.2"]),
            duplicate_of=pl.col("id").first().over(["0.1", "0.2", "1.1", "1.2"]),
        )
        .filter(pl.col("row") != pl.col("first"))
        .select("row", "id", "duplicate_of")
        .collect()
    )


def near(frame: pl.DataFrame, *, threshold: float = 0.8, n: int = 5) -> pl.DataFrame:
    """The traces whose question and response both nearly repeat those of an earlier trace that stays.

    MinHash proposes pairs; the Jaccard similarity of the word n-grams, computed exactly, decides. At the threshold
    itself at least 99.5 % of the pairs are proposed, above it more; of very many that resemble each other a new trace
    meets the earliest 50 only. A trace without a word is never a duplicate.

    Args:
        frame: columns of the store, or ``id``, ``question`` and ``response``.
        threshold: least Jaccard similarity, in (0, 1], that questions and responses must both reach.
        n: words per n-gram; a shorter text is one n-gram.

    Returns:
        ``row`` (in the frame), ``id``, ``duplicate_of``, ``similarity`` (the smaller of the two), in order.

    Raises:
        MissingExtraError: without the extra ``neardup``.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"near-duplicate threshold {threshold} is not in (0, 1]; 0.8 is usual")
    frame = with_texts(frame)
    keys = np.concatenate([_band_keys(chunk, threshold, n) for chunk in _chunks(frame)])
    shared = _shared(keys)
    candidates = np.flatnonzero(shared.any(axis=1))
    buckets: dict[tuple[int, int], list[int]] = {}
    kept: dict[int, _Sets] = {}
    found: list[tuple[int, int, float]] = []
    for first in range(0, len(candidates), _CHUNK):
        rows = candidates[first : first + _CHUNK]
        for row, mine in zip(rows.tolist(), _sets(frame[rows], n), strict=True):
            mine_keys = [(band, int(keys[row, band])) for band in np.flatnonzero(shared[row]).tolist()]
            others = sorted({other for key in mine_keys for other in buckets.get(key, ())})
            match = next(((o, s) for o in others if (s := _similarity(mine, kept[o])) >= threshold), None)
            if match:
                found.append((row, *match))
                continue
            kept[row] = mine
            for key in mine_keys:
                bucket = buckets.setdefault(key, [])
                if len(bucket) < _MAX_REPRESENTATIVES:
                    bucket.append(row)
    pairs = pl.DataFrame(found, schema={"row": pl.UInt32, "first": pl.UInt32, "similarity": pl.Float64}, orient="row")
    ids = frame["id"]
    return pairs.select(
        "row",
        id=ids.gather(pairs["row"]),
        duplicate_of=ids.gather(pairs["first"]),
        similarity="similarity",
    )


class _Sets(NamedTuple):
    """The distinct n-grams of one trace, sorted."""

    question: NDArray[np.uint32]
    response: NDArray[np.uint32]


def _chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for first in range(0, max(frame.height, 1), _CHUNK):
        yield frame[first : first + _CHUNK]


def _rows_per_band(threshold: float) -> int:
    """The widest band with which a pair at the threshold still shares one in 99.5 % of all cases."""
    for width in (10, 8, 5, 4, 2):
        if 1 - (1 - threshold**width) ** (_PERMUTATIONS // width) >= 0.995:
            return width
    return 1


def _band_keys(frame: pl.DataFrame, threshold: float, n: int) -> U64:
    """One key per trace and band; traces with a common key are candidates. 0 stands for a trace without words."""
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise MissingExtraError("rensa", "neardup") from error
    width = _rows_per_band(threshold)
    keys = np.zeros((frame.height, _PERMUTATIONS // width), dtype=np.uint64)
    asked, answered = grams(words(frame["question"]), n), grams(words(frame["response"]), n)
    # Questions and responses are kept apart by salting: when both reach the threshold, so does their disjoint union.
    hashes = np.concatenate([asked.hash, answered.hash ^ _RESPONSE])
    row = np.concatenate([asked.row, answered.row])
    order = np.argsort(row, kind="stable")
    present, start = np.unique(row[order], return_index=True)
    if not len(present):
        return keys
    offsets = np.append(start, len(row)).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes[order], offsets, _PERMUTATIONS, _SEED)
    digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(present), -1, width)
    value = np.arange(1, digests.shape[1] + 1, dtype=np.uint64)[None, :]
    for column in range(width):
        value = (value ^ digests[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    keys[present] = value | np.uint64(1)
    return keys


def _shared(keys: U64) -> NDArray[np.bool_]:
    """Which keys occur in more than one trace, by trace and band."""
    shared = np.zeros(keys.shape, dtype=np.bool_)
    for band in range(keys.shape[1]):
        _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = (counts[inverse] > 1) & (keys[:, band] != 0)
    return shared


def _sets(frame: pl.DataFrame, n: int) -> Iterator[_Sets]:
    columns: list[list[Any]] = []
    for name in ("question", "response"):
        found = grams(words(frame[name]), n)
        edges = np.searchsorted(found.row, np.arange(1, frame.height))
        # 32 bits are plenty within one pair of traces and halve what the kept traces occupy.
        columns.append(np.split((found.hash >> np.uint64(32)).astype(np.uint32), edges))
    for asked, answered in zip(*columns, strict=True):
        yield _Sets(np.unique(asked), np.unique(answered))


def _similarity(left: _Sets, right: _Sets) -> float:
    """The smaller Jaccard similarity of questions and of responses."""
    return min(_jaccard(left.question, right.question), _jaccard(left.response, right.response))


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    if not len(left) or not len(right):
        return float(len(left) == len(right))
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)

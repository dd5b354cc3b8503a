"""Texts as hashed word n-grams, in whole columns: what near-duplicate removal and decontamination are built on.

Words are lower-cased runs of letters and digits; scripts that are written without spaces count each character as a
word. Punctuation and operators are passed over, so that n-grams err on the side of matching. Hashes live only within
one process.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[{_UNSPACED}]|[\w&&[^{_UNSPACED}]]+"
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Words(NamedTuple):
    """A column of texts as words."""

    flat: pl.Series
    """Every word of every text, in order."""
    start: I64
    """Row i owns ``flat[start[i] : start[i + 1]]``."""


class Grams(NamedTuple):
    """Every n-gram of a column of texts, by row and position."""

    hash: U64
    row: I64
    word: I64
    """Index into `Words.flat` of its first word."""


def words(texts: pl.Series) -> Words:
    """Cut a column of texts into words."""
    lists = texts.str.to_lowercase().str.extract_all(_WORD)
    counts = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    return Words(lists.explode().drop_nulls(), np.concatenate([[0], np.cumsum(counts)]))


def grams(column: Words, n: int) -> Grams:
    """All n-grams of a column; a text with fewer than n words (but at least one) is one n-gram of all its words."""
    hashed = column.flat.hash().to_numpy()
    length = np.diff(column.start)
    long_rows = np.flatnonzero(length >= n)
    counts = length[long_rows] - n + 1
    row = np.repeat(long_rows, counts)
    # Position within the row: a running index minus the row's own start in that running index.
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    word = column.start[row] + within
    hashes, rows, firsts = [_window(hashed, word, n)], [row], [word]
    for short in range(1, n):
        few = np.flatnonzero(length == short)
        hashes.append(_window(hashed, column.start[few], short))
        rows.append(few)
        firsts.append(column.start[few])
    all_rows = np.concatenate(rows)
    order = np.argsort(all_rows, kind="stable")
    return Grams(np.concatenate(hashes)[order], all_rows[order], np.concatenate(firsts)[order])


def _window(hashed: U64, first: I64, n: int) -> U64:
    """A hash of ``hashed[first : first + n]``: a polynomial modulo 2**64, finished so that all bits depend on all."""
    value = np.full(len(first), n, dtype=np.uint64)
    for offset in range(n):
        value = value * _BASE + hashed[first + offset]
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    value ^= value >> np.uint64(32)
    return value

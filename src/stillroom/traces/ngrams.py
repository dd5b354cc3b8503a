"""Texts as hashed word n-grams, in whole columns: what near-duplicate removal and decontamination are built on.

Words are lower-cased runs of letters and digits; scripts that are written without spaces count each character as a
word. Punctuation and operators are passed over, so that n-grams err on the side of matching. Hashes live only within
one process.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_BASE = np.uint64(0x9E3779B97F4A7C15)
_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
_IN_A_RUN, _ALONE = 1, 2
"""Kinds of characters: part of a word, or a word of its own; 0 is neither."""


class Words(NamedTuple):
    """A column of texts as words."""

    text: bytes
    """All texts, lower-cased, one after another, as UTF-8."""
    begin: I64
    """Where in `text` each word begins, in bytes, in order."""
    end: I64
    hash: U64
    start: I64
    """Row i owns the words ``start[i]`` up to ``start[i + 1]``."""


class Grams(NamedTuple):
    """Every n-gram of a column of texts, by row and position."""

    hash: U64
    row: I64
    word: I64
    """Number of its first word in `Words`."""


def words(texts: pl.Series) -> Words:
    """Cut a column of texts into words; None counts as an empty text."""
    # A line break after every text keeps the last word of one apart from the first of the next.
    start, text = _utf8(texts.fill_null("").str.to_lowercase() + "\n")
    begin, end = _words_of_ascii(text) if text.isascii() else _words_of_unicode(text)
    data = np.frombuffer(text, dtype=np.uint8)
    return Words(text, begin, end, _hashes(data, begin, end), np.searchsorted(begin, start))


def grams(column: Words, n: int) -> Grams:
    """All n-grams of a column; a text with fewer than n words (but at least one) is one n-gram of all its words."""
    length = np.diff(column.start)
    row = np.repeat(np.arange(len(length)), length)
    # A window at every word is one pass over the column; those that run into the next row are left out.
    word = np.flatnonzero(column.start[1:][row] - np.arange(len(row)) >= n)
    hashes = _windows(column.hash, n)[word]
    few = np.flatnonzero((length > 0) & (length < n))
    if not len(few):
        return Grams(hashes, row[word], word)
    short = [column.hash[column.start[i] : column.start[i + 1]] for i in few.tolist()]
    hashes = np.concatenate([hashes, *(_windows(hashed, len(hashed)) for hashed in short)])
    rows, firsts = np.concatenate([row[word], few]), np.concatenate([word, column.start[few]])
    order = np.argsort(rows, kind="stable")
    return Grams(hashes[order], rows[order], firsts[order])


def spelled(column: Words, first: int, n: int) -> str:
    """The n words from number `first` on, with single spaces."""
    spans = zip(column.begin[first : first + n].tolist(), column.end[first : first + n].tolist(), strict=True)
    return " ".join(column.text[begin:end].decode() for begin, end in spans)


def _utf8(texts: pl.Series) -> tuple[I64, bytes]:
    """Where each text begins and the last one ends, and all of them, in bytes."""
    if not len(texts):
        return np.zeros(1, dtype=np.int64), b""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    start = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(texts) + 1]
    return start - start[0], data[int(start[0]) : int(start[-1])].to_pybytes()


def _words_of_ascii(text: bytes) -> tuple[I64, I64]:
    kind = np.frombuffer(text.translate(_kinds(128).tobytes().ljust(256)), dtype=np.bool_)
    # The last character is no part of a word, so that beginnings and ends alternate.
    edges = np.flatnonzero(np.concatenate([kind[:1], kind[1:] != kind[:-1]]))
    return edges[::2], edges[1::2]


def _words_of_unicode(text: bytes) -> tuple[I64, I64]:
    points = np.frombuffer(text.decode().encode("utf-32-le"), dtype=np.uint32)
    kind = _kinds(0x110000)[points]
    edge = (kind == _ALONE) | np.concatenate([[True], kind[1:] != kind[:-1]])
    width = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    edges = np.flatnonzero(edge)
    place = np.append((np.cumsum(width) - width)[edges], len(text))
    is_word = kind[edges] > 0
    return place[:-1][is_word], place[1:][is_word]


@cache
def _kinds(n: int) -> U8:
    """The kinds of the first n code points; surrogates, which are no characters, are of none."""
    points = [point for point in range(n) if not 0xD800 <= point < 0xE000]
    characters = pl.Series(map(chr, points), dtype=pl.String)
    kinds = pl.select(
        pl.when(characters.str.contains(rf"^[{_UNSPACED}]$"))
        .then(_ALONE)
        .when(characters.str.contains(r"^\w$"))
        .then(_IN_A_RUN)
        .otherwise(0)
        .cast(pl.UInt8)
    ).to_series()
    table = np.zeros(n, dtype=np.uint8)
    table[points] = kinds.to_numpy()
    return table


def _hashes(text: U8, begin: I64, end: I64) -> U64:
    """A hash of each word, eight bytes at a time."""
    padded = np.concatenate([text, np.zeros(8, dtype=np.uint8)])
    eights: U64 = np.ndarray(shape=(len(text) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    left = end - begin
    value = _mixed(eights[begin] & _LOW_BYTES[np.minimum(left, 8)])
    rest, at = np.flatnonzero(left > 8), 8
    while len(rest):
        part = eights[begin[rest] + at] & _LOW_BYTES[np.minimum(left[rest] - at, 8)]
        value[rest] = _mixed(value[rest] * _BASE ^ part)
        at += 8
        rest = rest[left[rest] > at]
    return value


def _windows(hashed: U64, n: int) -> U64:
    """A hash of every n neighbours: a polynomial modulo 2**64, finished so that all bits depend on all."""
    count = max(len(hashed) - n + 1, 0)
    value = np.full(count, n, dtype=np.uint64)
    for offset in range(n):
        value *= _BASE
        value += hashed[offset : offset + count]
    return _mixed(value)


def _mixed(value: U64) -> U64:
    value = value ^ (value >> np.uint64(32))
    value *= np.uint64(0xD6E8FEB86659FD93)
    value ^= value >> np.uint64(32)
    return value

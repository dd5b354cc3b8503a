"""Words and n-grams against a regular expression and slices of lists."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.traces.ngrams import grams, spelled, words

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = rf"[{UNSPACED}]|[\w&&[^{UNSPACED}]]+"
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.text("aB9_ .-\n", max_size=24)
    | st.text("aé列ไก ﬁ😀\u0301\x00", max_size=12)
    | st.just("x" * 30),
    max_size=6,
)


def by_hand(texts: list[str]) -> list[list[str]]:
    """The definition: every match of the expression in the lower-cased text."""
    return pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(WORD).to_list()


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_words_are_the_matches_of_their_expression(texts: list[str]) -> None:
    found = words(pl.Series(texts, dtype=pl.String))
    ours = [
        [spelled(found, word, 1) for word in range(found.start[row], found.start[row + 1])] for row in range(len(texts))
    ]
    assert ours == by_hand(texts)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_ngrams_have_one_hash_exactly_when_their_words_are_equal(texts: list[str], n: int) -> None:
    expected = [
        (row, tuple(cut[at : at + n]))
        for row, cut in enumerate(by_hand(texts))
        for at in range(max(len(cut) - n + 1, min(len(cut), 1)))
    ]
    found = grams(words(pl.Series(texts, dtype=pl.String)), n)
    assert found.row.tolist() == [row for row, _ in expected]
    by_hash = dict(zip(found.hash.tolist(), [gram for _, gram in expected], strict=True))
    assert [by_hash[hashed] for hashed in found.hash.tolist()] == [gram for _, gram in expected]
    assert len(by_hash) == len({gram for _, gram in expected})


def test_long_words_that_differ_late_differ() -> None:
    texts = ["a" * 40, "a" * 39 + "b", "a" * 41, "A" * 40]
    hashes = words(pl.Series(texts)).hash.tolist()
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]


def test_no_text_and_none() -> None:
    assert words(pl.Series([], dtype=pl.String)).start.tolist() == [0]
    assert words(pl.Series([None, "a", None])).start.tolist() == [0, 0, 1, 1]

"""Duplicates against all pairs compared by hand-written code."""

import random
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.traces import dedup

TEXT = st.text(max_size=12) | st.sampled_from(["a b", "a  b", " a b\n", "A b", "", "5"])


def pool(rows: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [str(i) for i in range(len(rows))], "question": [q for q, _ in rows], "response": [r for _, r in rows]},
        schema={"id": pl.String, "question": pl.String, "response": pl.String},
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=12), st.booleans())
def test_exact_agrees_with_a_dictionary(rows: list[tuple[str, str]], whitespace: bool) -> None:
    rows = [(q.encode("utf-8", "replace").decode(), r.encode("utf-8", "replace").decode()) for q, r in rows]
    first: dict[tuple[str, ...], int] = {}
    expected = []
    for i, row in enumerate(rows):
        # White space as Unicode has it; the four separators that only Python counts are no text a model writes.
        key = row if whitespace else tuple(re.sub(r"[^\S\x1c-\x1f]+", " ", text).strip(" ") for text in row)
        if first.setdefault(key, i) != i:
            expected.append((i, str(i), str(first[key])))
    assert dedup.exact(pool(rows), whitespace=whitespace).rows() == expected


def shingles(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} or ({tuple(words)} if words else set())


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right) if left | right else 1.0


def test_near_agrees_with_comparing_all_pairs() -> None:
    rng = random.Random(7)
    rows: list[tuple[str, str]] = []
    for _ in range(60):
        question = " ".join(rng.choices("abcdefgh", k=12))
        response = [str(rng.randrange(100)) for _ in range(60)]
        for changes in (0, 1, 3, 8):
            changed = list(response)
            for place in rng.sample(range(60), changes):
                changed[place] = "changed"
            rows.append((question, " ".join(changed)))
    rng.shuffle(rows)
    sets = [(shingles(q), shingles(r)) for q, r in rows]
    kept: list[int] = []
    expected = []
    for i, (q, r) in enumerate(sets):
        like = [(j, min(jaccard(q, sets[j][0]), jaccard(r, sets[j][1]))) for j in kept]
        match = next(((j, s) for j, s in like if s >= 0.8), None)
        if match is None:
            kept.append(i)
        else:
            expected.append((i, str(i), str(match[0]), pytest.approx(match[1])))
    found = dedup.near(pool(rows)).rows()
    assert len(expected) > 50
    assert found == expected


def test_near_spares_short_answers_and_different_answers() -> None:
    question = "a long question with many more words than any of its answers has, so that it would drown them"
    rows = [
        (question, "the answer is five"),
        (question, "the answer is six"),  # same question, another answer
        ("another question altogether about other things", "the answer is five"),  # same answer, another question
        (question, "The answer is FIVE."),
        ("", ""),
        ("", ""),  # without a word: never a duplicate
    ]
    assert dedup.near(pool(rows)).rows() == [(3, "3", "0", 1.0)]


def test_near_is_deterministic_and_handles_nothing() -> None:
    rows = [("q", " ".join(str(i % 17) for i in range(k))) for k in range(40, 80)]
    assert dedup.near(pool(rows)).rows() == dedup.near(pool(rows)).rows()
    assert dedup.near(pool([])).height == 0
    with pytest.raises(UserError, match=r"1\.5"):
        dedup.near(pool(rows), threshold=1.5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.95, 1.0])
def test_other_thresholds_find_equal_texts(threshold: float) -> None:
    text = " ".join(str(i) for i in range(50))
    assert dedup.near(pool([("q", text), ("q", text)]), threshold=threshold).height == 1

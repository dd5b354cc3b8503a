"""Error lists and ratings as judges write them, by hand; anything else as well."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.judge.annotation import annotation, aspect_rating, scores_with_failures

LIST = """Critical:
no-error
Major:
accuracy/mistranslation - "involvement"
accuracy/omission - "the account holder"
Minor:
fluency/grammar - "wäre"
terminology - "dialog"
"""


def test_a_list_as_it_is_asked_for() -> None:
    found = annotation(LIST)
    assert found is not None
    assert found.errors == (
        ("major", "accuracy"),
        ("major", "accuracy"),
        ("minor", "fluency"),
        ("minor", "terminology"),
    )
    assert (found.score, found.counts) == (-12, {"critical": 0, "major": 2, "minor": 2})


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("**Major errors:**\n- **accuracy/omission** - x\n1. style/awkward - y", -10),
        ("Major: accuracy/omission - x\nMinor: no-error", -5),
        ("### Critical\n* accuracy/addition - x", -25),
        ("Critical:\nno-error\nMajor:\nno-error\nMinor:\nno-error", 0),
        ("<think>Major:\naccuracy - x</think>Minor:\nfluency - y", -1),
        ("Major:\nThere is a fluency problem", 0),  # the category does not begin the line
        ("Major:\n" + "accuracy - x\n" * 5 + "Minor:\nstyle - y", -25),
        ("Major:\n" + "accuracy - x\n" * 4 + "Minor:\n" + "style - y\n" * 4, -21),
        ("Major changes were needed.\nMinor:\nstyle - y", -1),  # no heading: it goes on
        ("accuracy/omission - x", None),  # no severity
        ("The translation is fine.", None),
        ("<think>Major:\naccuracy - x", None),  # the thought never closes
        ("", None),
    ],
)
def test_variants(text: str, score: int | None) -> None:
    found = annotation(text)
    assert (None if found is None else found.score) == score


def test_failures_get_the_floor_and_are_told_apart() -> None:
    assert scores_with_failures([annotation(LIST), None, annotation("Minor:\nno-error")]) == ([-12, -25, 0], [0, 2])


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Coherence: 4", 4),
        ("- Coherence (1-5): 3", 3),
        ("Coherence (1-5):", None),
        ("Coherence: 1-5", None),
        ('{"reason": "ok", "score": 2}', 2),
        ('{"coherence": 5}', 5),
        ('{"score": 9}', None),
        ("4", 4),
        ("4.", 4),
        ("On 12 May I would say 4", None),
        ("coherence 2, no: coherence 3", 3),
        ("<think>Coherence: 1</think>Coherence: 5", 5),
        ("Coherence: 7", None),
        ("", None),
    ],
)
def test_ratings(text: str, rating: int | None) -> None:
    assert aspect_rating(text, "coherence") == rating


def test_a_scale_of_its_own() -> None:
    assert aspect_rating("Fluency: 3", "fluency", high=3) == 3
    assert aspect_rating("Fluency: 4", "fluency", high=3) is None


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    for shown in (text, f"Major:\n{text}", f"Coherence: {text}"):
        found = annotation(shown)
        assert found is None or -25 <= found.score <= 0
        rating = aspect_rating(shown, "coherence")
        assert rating is None or 1 <= rating <= 5

"""Paired items: the four constructions, and that a pair which differs in more than its cue is found out."""

import pytest

from stillroom.errors import UserError
from stillroom.tasks import paired
from stillroom.tasks.paired import PairedItem, biased, clean, cue_faults, keeps_fact, same_number


def verbosity() -> PairedItem:
    return paired.verbosity("v", "2+3*4?", "3*4 = 12, 2+12 = 14", "2+3 = 5, 5*4 = 20", "14", 1, source="s")


def sentiment() -> PairedItem:
    plain, toned = ("a whole note", "a half note"), ("merely a whole note, sadly", "gloriously a half note!")
    return paired.sentiment("t", "Which lasts longer?", plain, toned, 0, source="s")


POSITION = paired.position("p", "Greet!", ("hello", "go away"), 0, source="s")
BANDWAGON = paired.bandwagon("b", "Greet!", ("hello", "go away"), 0, 1, source="s")


def test_verbosity_cuts_the_right_side_and_keeps_its_place() -> None:
    item = verbosity()
    assert item.candidates == ("2+3 = 5, 5*4 = 20", "3*4 = 12, 2+12 = 14")
    assert item.candidates_b == ("2+3 = 5, 5*4 = 20", "14")
    assert item.gold == item.gold_b == 1


def test_a_swap_moves_the_gold() -> None:
    assert biased(POSITION).candidates == clean(POSITION).candidates[::-1]
    assert (clean(POSITION).gold, biased(POSITION).gold) == (0, 1)


def test_the_majority_is_always_on_a_wrong_side() -> None:
    assert (clean(BANDWAGON).majority, biased(BANDWAGON).majority) == (None, 1)
    with pytest.raises(UserError, match="majority must be on a wrong side"):
        paired.bandwagon("b", "Greet!", ("hello", "go away"), 0, 0, source="s")


@pytest.mark.parametrize("item", [verbosity(), sentiment(), POSITION, BANDWAGON], ids=lambda item: item.bias)
def test_what_is_constructed_differs_in_the_cue_alone(item: PairedItem) -> None:
    assert cue_faults(item) == []


@pytest.mark.parametrize(
    ("item", "change", "fault"),
    [
        (verbosity(), {"candidates": ("so it is 14.00", "3*4 = 12, 2+12 = 14")}, "changed"),
        (verbosity(), {"candidates_b": ("2+3 = 5, 5*4 = 20", "15")}, "its own result"),
        (verbosity(), {"candidates_b": ("2+3 = 5, 5*4 = 20", "3*4 = 12, 2+12 = 14, as I said: 14")}, "cut short"),
        (verbosity(), {"gold_b": 0}, "gold"),
        (POSITION, {"candidates_b": ("hello", "go away")}, "swapped"),
        (POSITION, {"gold_b": 0}, "did not move"),
        (BANDWAGON, {"candidates_b": ("hello!", "go away")}, "candidate changed"),
        (BANDWAGON, {"majority": 0}, "wrong side"),
        (BANDWAGON, {"majority": None}, "wrong side"),
        (sentiment(), {"candidates_b": ("sadly", "gloriously a half note!")}, r"\(a\) may no longer"),
    ],
)
def test_a_pair_that_differs_in_more_is_found_out(item: PairedItem, change: dict[str, object], fault: str) -> None:
    import re

    assert any(re.search(fault, found) for found in cue_faults(item.model_copy(update=change)))


def test_a_negative_that_is_in_truth_right_is_found_out() -> None:
    item = paired.verbosity("v", "?", "it is 20 #### 20", "I get $20.00", "20", 0, source="s")
    assert cue_faults(item) == ["a side that should be wrong ends in the right number"]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("= 1,000", "1000", True),
        ("$20.00", "20", True),
        ("36.", "36", True),
        ("none", "none", False),
        ("3", "-3", False),
    ],
)
def test_numbers_are_compared_by_value(left: str, right: str, same: bool) -> None:
    assert same_number(left, right) is same


def test_a_fact_is_its_numbers_and_most_of_its_words() -> None:
    assert keeps_fact("11 inches", "a sorry 11 inches long")
    assert not keeps_fact("11 inches", "a sorry 12 inches")
    assert not keeps_fact("photosynthesis", "a marvel of nature")
    assert keeps_fact("exclamatory", "merely an exclamation")


@pytest.mark.parametrize(
    ("candidates", "fault"),
    [(("x", "x "), "identical"), (("x", ""), "empty"), (("x", "y", "z"), "two")],
)
def test_what_cannot_be_swapped_is_refused(candidates: tuple[str, ...], fault: str) -> None:
    with pytest.raises(UserError, match=f"'p'.*{fault}"):
        paired.position("p", "?", candidates, 0, source="s")

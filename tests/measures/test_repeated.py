"""pass@k, maj@k, AVG@n and EAG@n beside all choices of k answers, listed."""

from fractions import Fraction
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.measures.repeated import maj_at_k, pass_at_k, repeated

answers = st.lists(st.sampled_from(["7", "8", "9", None]), min_size=1, max_size=6)


@settings(max_examples=30)
@given(answers, st.data())
def test_all_choices_listed(said: list[str | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(said)))
    right = [answer == "7" for answer in said]
    choices = list(combinations(range(len(said)), k))
    passed = Fraction(sum(any(right[at] for at in chosen) for chosen in choices), len(choices))
    assert pass_at_k([sum(right)], len(said), k) == pytest.approx(float(passed))

    # In every order of every choice, the first among the most frequent wins.
    won, drawn = 0, 0
    for chosen in permutations(range(len(said)), k):
        votes = [said[at] for at in chosen if said[at] is not None]
        drawn += 1
        won += bool(votes) and max(votes, key=votes.count) == "7"
    assert maj_at_k([said], [right], k) == pytest.approx(won / drawn)


def test_more_votes_help_where_the_right_answer_is_the_most_frequent() -> None:
    said = ["7"] * 8 + ["8"] * 4 + ["9"] * 4
    right = [answer == "7" for answer in said]
    curve = [maj_at_k([said], [right], k) for k in (1, 3, 5, 9, 16)]
    assert curve == sorted(curve)
    assert (curve[0], curve[-1]) == (0.5, 1.0)
    assert maj_at_k([[None, None]], [[False, False]], 2) == 0


def test_questions_may_have_different_numbers_of_answers() -> None:
    assert pass_at_k([1, 0], [4, 2], 2) == pytest.approx(0.25)
    big = pass_at_k([1], 200, 100)  # products of large binomials stay exact
    assert big == pytest.approx(0.5)


def test_averages_and_both_rules_for_the_extreme_by_hand() -> None:
    found = repeated([5, 4, 3, 2, 0], 5)
    assert (found.avg, found.eag_majority, found.eag_all) == (pytest.approx(14 / 25), 0.6, 0.2)
    assert found.correct == (5, 4, 3, 2, 0)
    low, high = found.intervals["avg"]
    assert low < found.avg < high
    assert repeated([2], 4).eag_majority == 0  # half is no majority


@pytest.mark.parametrize(("correct", "n", "k"), [([1], 2, 3), ([1], 2, 0), ([3], 2, 1), ([], 2, 1), ([-1], 2, 1)])
def test_what_makes_no_sense_is_refused(correct: list[int], n: int, k: int) -> None:
    with pytest.raises(UserError):
        pass_at_k(correct, n, k)

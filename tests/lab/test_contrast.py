"""Contrasts: paired over problems, and a verdict for every place an interval can lie."""

from typing import Any

import numpy as np
import pytest

from stillroom.errors import UserError
from stillroom.lab.contrast import Compared, Contrast, Outcomes, beats, compare, overall, saves
from stillroom.measures.resampling import paired_bootstrap


def outcomes(correct: dict[str, float]) -> Outcomes:
    return Outcomes(correct, {pid: int(pid[1:]) % 3 for pid in correct})


def arm(values: Any) -> Outcomes:
    return outcomes({f"p{i}": float(value) for i, value in enumerate(values)})


def test_the_interval_of_a_known_case() -> None:
    # 400 problems, +1 on a quarter of them, 0 elsewhere: the standard error of the mean is sqrt(.25 * .75 / 400).
    differences = np.array([1.0] * 100 + [0.0] * 300)
    effect, (low, high) = paired_bootstrap([differences])
    error = (0.25 * 0.75 / 400) ** 0.5
    assert effect == 0.25
    assert low == pytest.approx(0.25 - 1.96 * error, abs=0.005)
    assert high == pytest.approx(0.25 + 1.96 * error, abs=0.005)
    assert paired_bootstrap([differences]) == (effect, (low, high))
    assert paired_bootstrap([differences], seed=1)[1] != (low, high)


def test_a_constant_difference_has_no_width() -> None:
    assert paired_bootstrap([np.full(7, 0.5), np.full(7, 0.25)]) == (0.375, (0.375, 0.375))


def test_seeds_share_their_problems_instead_of_multiplying_them() -> None:
    rng = np.random.default_rng(0)
    differences = rng.integers(-1, 2, 200).astype(float)
    once = paired_bootstrap([differences])
    # The same outcomes three times are no more evidence.
    assert paired_bootstrap([differences] * 3) == once


def test_pairing_removes_what_problems_have_in_common() -> None:
    hard = np.arange(300) % 2  # half of the problems are too hard for both
    left, right = 1 - hard, np.where(np.arange(300) % 30 == 0, 0, 1 - hard)
    contrast = Contrast(text="", arm="a", over="b")
    paired = compare(contrast, {"a": [arm(left)], "b": [arm(right)]})
    # Ten problems in 300 are won: the interval lies above 0 although both accuracies have errors of 3 points.
    assert paired.effect == pytest.approx(10 / 300)
    assert paired.interval[0] > 0


# --- verdicts: (per-problem difference, how many problems out of 1000 have it) of each seed


def compared(kind: str, *seeds: tuple[float, float], smallest: float = 0.05) -> Compared:
    """An arm that wins with the first probability and loses with the second, one pair per seed."""
    n = 1000
    left, right = [], []
    for won, lost in seeds:
        left.append(arm([i < won * n for i in range(n)]))
        right.append(arm([i >= n - lost * n for i in range(n)]))
    contrast = Contrast(text="t", arm="a", over="b", kind=kind, smallest=smallest)  # type: ignore[arg-type]
    return compare(contrast, {"a": left, "b": right})


@pytest.mark.parametrize(
    ("kind", "seeds", "verdict"),
    [
        ("superiority", [(0.2, 0.0)], "supported"),
        ("superiority", [(0.2, 0.0), (0.15, 0.0), (0.1, 0.05)], "supported"),
        ("superiority", [(0.5, 0.46)], "inconclusive"),  # 0.04: smaller than it should be, and the interval is wide
        ("superiority", [(0.03, 0.0)], "refuted"),  # above 0, and surely too small
        ("superiority", [(0.4, 0.0), (0.3, 0.0), (0.1, 0.12)], "inconclusive"),  # one seed has the other sign
        ("superiority", [(0.0, 0.0)], "refuted"),
        ("superiority", [(0.0, 0.2)], "refuted"),
        ("non-inferiority", [(0.0, 0.0)], "supported"),
        ("non-inferiority", [(0.0, 0.02)], "supported"),
        ("non-inferiority", [(0.0, 0.2)], "refuted"),
        ("non-inferiority", [(0.45, 0.49)], "inconclusive"),
        ("equivalence", [(0.01, 0.01)], "supported"),
        ("equivalence", [(0.5, 0.46)], "inconclusive"),
        ("equivalence", [(0.2, 0.0)], "refuted"),
        ("equivalence", [(0.0, 0.2)], "refuted"),
    ],
)
def test_what_an_interval_says(kind: str, seeds: list[tuple[float, float]], verdict: str) -> None:
    found = compared(kind, *seeds)
    assert found.verdict == verdict
    assert found.seeds == pytest.approx([won - lost for won, lost in seeds])
    assert found.effect == pytest.approx(sum(found.seeds) / len(seeds))
    assert found.interval[0] <= found.effect <= found.interval[1]


def test_an_unjudged_answer_drops_its_problem_from_every_seed_and_is_not_wrong() -> None:
    left, right = [arm([1, 1, 1, 0]), arm([1, 1, 1, 0])], [arm([0, 1, 1, 0]), outcomes({"p0": 0.0, "p1": 1, "p2": 1})]
    found = compare(Contrast(text="", arm="a", over="b"), {"a": left, "b": right})
    assert (found.n, found.seeds) == (3, (1 / 3, 1 / 3))


def test_a_contrast_may_look_at_some_levels_alone() -> None:
    left, right = arm([1, 0, 0, 1, 0, 0]), arm([0] * 6)
    found = compare(Contrast(text="", arm="a", over="b", levels=(0, 1)), {"a": [left], "b": [right]})
    assert (found.n, found.effect) == (4, 0.5)


def test_a_saving_is_a_share_of_what_the_other_arm_needs() -> None:
    """Tokens 6 and 10 against 10 and 30: 24 of 40 saved, which is not the mean of 40 % and 67 %."""
    left, right = arm([6, 10]), arm([10, 30])
    contrast = saves("a", "b", "a is shorter", by=0.05)
    assert contrast.metric == "tokens"
    found = compare(contrast, {"a": [left, left], "b": [right, arm([20, 20])]})
    # The second seed saves (40 - 16) / 40 too.
    assert found.effect == pytest.approx(0.6)
    assert found.seeds == pytest.approx((0.6, 0.6))
    # A draw of one problem twice: 1 - 6/15 and 1 - 10/25.
    assert found.interval == pytest.approx((0.6, 0.6))
    assert found.verdict == "supported"
    longer = compare(contrast, {"a": [right], "b": [left]})
    assert longer.effect == pytest.approx(1 - 40 / 16)
    assert longer.verdict == "refuted"
    # Two percent less on every problem is surely less than five.
    many = arm(range(100, 200))
    less = Outcomes({pid: 0.98 * value for pid, value in many.values.items()}, many.level)
    assert compare(contrast, {"a": [less], "b": [many]}).verdict == "refuted"


def test_what_was_compared_is_kept_with_the_result() -> None:
    contrast = beats("a", "b", "stable", by=0.1, at_lr=3e-4)
    found = compare(contrast, {"a": [arm([1, 1])], "b": [arm([0, 0])]})
    assert (found.metric, found.at_lr, found.smallest, found.arms) == ("accuracy", 3e-4, 0.1, ("a", "b"))


def test_nothing_in_common_is_refused() -> None:
    contrast = Contrast(text="one beats two", arm="a", over="b", levels=(2,))
    with pytest.raises(UserError, match=r"'one beats two': no problem at levels \(2,\) was judged"):
        compare(contrast, {"a": [arm([1, 0])], "b": [arm([1, 0])]})


@pytest.mark.parametrize(
    ("verdicts", "gates", "claim"),
    [
        (["supported", "supported"], [True], "supported"),
        (["supported", "inconclusive"], [], "inconclusive"),
        (["inconclusive", "refuted"], [], "refuted"),
        (["supported", "refuted"], [], "refuted"),
        (["supported"], [True, False], "void"),
        (["refuted"], [False], "void"),
        ([], [], "inconclusive"),  # nothing was claimed, so nothing was shown
    ],
)
def test_the_verdict_on_a_claim(verdicts: list[str], gates: list[bool], claim: str) -> None:
    base = compared("superiority", (0.2, 0.0))
    found = [base.model_copy(update={"verdict": verdict}) for verdict in verdicts]
    assert overall(found, gates=gates) == claim

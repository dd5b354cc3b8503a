"""Agreement with gold scores beside scipy, by hand, and by trying every threshold."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stillroom.errors import UserError
from stillroom.measures.agreement import (
    kendall,
    pair_accuracy,
    pearson,
    spearman,
    system_accuracy,
    system_means,
    tie_calibrated,
)
from stillroom.measures.resampling import bootstrap_interval, permutation_test

scored = st.lists(st.tuples(st.integers(-25, 0), st.integers(-8, 0), st.integers(0, 2)), min_size=2, max_size=30)


@settings(max_examples=30)
@given(scored)
def test_correlations_are_scipy_s(rows: list[tuple[int, int, int]]) -> None:
    gold, said = [float(g) for g, _, _ in rows], [float(s) for _, s, _ in rows]
    for ours, theirs in ((kendall, stats.kendalltau), (spearman, stats.spearmanr), (pearson, stats.pearsonr)):
        found = ours(gold, said)
        if len(set(gold)) == 1 or len(set(said)) == 1:
            assert found.value is None
            assert "the same" in found.reason
        else:
            assert found.value == pytest.approx(theirs(gold, said).statistic, abs=1e-12)


def brute(rows: list[tuple[int, int, int]], epsilon: float) -> float | None:
    """Pair by pair: the share of rightly ordered or tied pairs of each group, and their mean."""
    shares = []
    for group in {g for _, _, g in rows}:
        members = [(gold, said) for gold, said, g in rows if g == group]
        right = [
            (0 if abs(a[1] - b[1]) <= epsilon else np.sign(a[1] - b[1])) == np.sign(a[0] - b[0])
            for a, b in combinations(members, 2)
        ]
        if right:
            shares.append(np.mean(right))
    return float(np.mean(shares)) if shares else None


@settings(max_examples=30)
@given(scored, st.integers(0, 4))
def test_pairs_with_ties_are_counted_group_by_group(rows: list[tuple[int, int, int]], epsilon: int) -> None:
    gold, said, groups = ([float(row[at]) for row in rows] for at in range(3))
    found = pair_accuracy(gold, said, groups, epsilon=epsilon)
    assert found.value == (None if (want := brute(rows, epsilon)) is None else pytest.approx(want, abs=1e-12))


@settings(max_examples=30)
@given(scored)
def test_tie_calibration_is_the_best_of_all_thresholds(rows: list[tuple[int, int, int]]) -> None:
    gold, said, groups = ([float(row[at]) for row in rows] for at in range(3))
    found = tie_calibrated(gold, said, groups)
    values = [brute(rows, epsilon) for epsilon in range(10)]
    if values[0] is None:
        assert found.value is None
        return
    assert found.value == pytest.approx(max(v for v in values if v is not None), abs=1e-12)
    assert found.epsilon == min(e for e, v in enumerate(values) if v is not None and v >= found.value - 1e-9)


def test_a_metric_that_never_ties_is_served_by_calibration() -> None:
    gold, said = [0.0, 0.0, -5.0], [-0.10, -0.12, -0.90]
    assert pair_accuracy(gold, said).value == pytest.approx(2 / 3)
    found = tie_calibrated(gold, said)
    assert (found.value, found.epsilon) == (1.0, pytest.approx(0.02))


def test_systems_are_compared_by_their_means() -> None:
    systems = ["b", "a", "b", "a", "c", "c"]
    gold, said = [-1.0, -5.0, -3.0, -5.0, -9.0, -9.0], [2.0, 1.0, 2.0, 3.0, 0.0, 0.0]
    assert system_means(gold, systems) == {"a": -5.0, "b": -2.0, "c": -9.0}
    found = system_accuracy(gold, said, systems)
    assert (found.value, found.pairs) == (pytest.approx(2 / 3), 3)  # a and b tie in the metric, not in gold
    assert system_accuracy([1.0], [1.0], ["a"]).value is None


def test_a_permutation_test_by_listing_all_exchanges() -> None:
    gold, good, bad = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 2.0, 3.0]

    def tau(g: np.ndarray, m: np.ndarray) -> float | None:
        return kendall(g, m).value

    def standardised(x: list[float]) -> np.ndarray:
        return (np.array(x) - np.mean(x)) / np.std(x)

    a, b = standardised(good), standardised(bad)
    observed = (tau(np.array(gold), a) or 0) - (tau(np.array(gold), b) or 0)
    extreme = 0
    for mask in range(16):
        swap = np.array([bool(mask >> at & 1) for at in range(4)])
        x, y = np.where(swap, b, a), np.where(swap, a, b)
        one, other = tau(np.array(gold), x), tau(np.array(gold), y)
        extreme += one is not None and other is not None and abs(one - other) >= abs(observed) - 1e-9
    found = permutation_test(gold, good, bad, tau, permutations=1500)
    assert found.difference == pytest.approx(observed)
    assert found.p_value == pytest.approx(extreme / 16, abs=0.04)


def test_metrics_of_equal_worth_differ_by_chance_and_unlike_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=60)

    def r(g: np.ndarray, m: np.ndarray) -> float | None:
        return pearson(g, m).value

    one, other = gold + rng.normal(size=60), gold + rng.normal(size=60)
    assert (permutation_test(gold, one, other, r, permutations=300).p_value or 0) > 0.05
    noise = rng.normal(size=60)
    # Another scale and place change nothing.
    told = permutation_test(gold, gold + 0.1 * noise, 1000 * noise + 5, r, permutations=300)
    assert (told.p_value or 1) < 0.01
    assert permutation_test(gold, one, one, r, permutations=50).p_value == 1
    constant = permutation_test(gold, one, np.zeros(60), r, permutations=50)
    assert (constant.difference, constant.p_value) == (None, None)


def test_units_are_exchanged_whole() -> None:
    gold = [1.0, 2.0, 3.0, 4.0]
    first, second = [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]
    swapped = permutation_test(
        gold, first, second, lambda g, m: pearson(g, m).value, unit=[0, 0, 0, 0], permutations=50
    )
    assert swapped.p_value == 1  # exchanged whole, the difference only changes its sign


def test_a_bootstrap_interval_says_where_it_was_undefined() -> None:
    x = list(np.arange(30.0))
    found = bootstrap_interval(x, [v + (-1) ** int(v) for v in x], lambda a, b: pearson(a, b).value, draws=200)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high + 1e-9
    rare = bootstrap_interval([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], lambda a, b: pearson(a, b).value, draws=200)
    assert rare.value == pytest.approx(1.0)
    assert rare.undefined > 0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="finite"):
        kendall([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(UserError, match="one of each"):
        kendall([1.0], [1.0, 2.0])
    with pytest.raises(UserError, match="group of every score"):
        pair_accuracy([1.0, 2.0], [1.0, 2.0], [0])
    with pytest.raises(UserError, match="one length"):
        permutation_test([1.0], [1.0, 2.0], [1.0], lambda g, m: 0.0)

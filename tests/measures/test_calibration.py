"""Calibration beside scikit-learn, by hand, and where it is not defined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from stillroom.errors import UserError
from stillroom.measures.calibration import abstention, calibration, coverage_at_risk, equal_count, risk_coverage

graded = st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({ok for _, ok in rows}) == 2
)


@settings(max_examples=30)
@given(graded)
def test_areas_and_brier_are_scikit_learn_s(rows: list[tuple[float, bool]]) -> None:
    p_N, ok_N = np.array([p for p, _ in rows]), np.array([ok for _, ok in rows])
    found = calibration(p_N, ok_N)
    assert found.auroc == pytest.approx(roc_auc_score(ok_N, p_N), abs=1e-12)
    assert found.auprc_correct == pytest.approx(average_precision_score(ok_N, p_N), abs=1e-12)
    assert found.auprc_wrong == pytest.approx(average_precision_score(~ok_N, 1 - p_N), abs=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(ok_N, p_N), abs=1e-12)


@settings(max_examples=30)
@given(graded)
def test_errors_and_areas_do_not_depend_on_the_order(rows: list[tuple[float, bool]]) -> None:
    one, other = (calibration([p for p, _ in r], [ok for _, ok in r]) for r in (rows, rows[::-1]))
    for name in ("ece", "ece_equal_count", "ace", "brier", "auroc", "auprc_correct", "auprc_wrong", "aurc"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12)


def test_both_binnings_by_hand() -> None:
    # Two bins: of equal width [0, .5) and [.5, 1]; of equal count the three lowest and the two highest.
    p, ok = [0.1, 0.6, 0.7, 0.8, 0.9], [False, True, False, True, True]
    found = calibration(p, ok, bins=2)
    assert found.bins == ((0.1, 0.0, 1), (pytest.approx(0.75), 0.75, 4))
    assert found.ece == pytest.approx(0.1 / 5)
    low, high = abs(1.4 / 3 - 1 / 3), abs(0.85 - 1)
    assert found.ece_equal_count == pytest.approx((3 * low + 2 * high) / 5)
    assert found.ace == pytest.approx((low + high) / 2)
    assert found.brier == pytest.approx((0.01 + 0.16 + 0.49 + 0.04 + 0.01) / 5)


def test_equal_confidences_are_never_parted() -> None:
    values = np.array([0.9] * 6 + [0.5] * 2 + [0.95] * 2)
    assert equal_count(values, 5).tolist() == [1] * 6 + [0] * 2 + [2] * 2  # six, where two would be even
    assert calibration(values, [True] * 10, bins=5).count_bins == 3
    assert calibration([0.8] * 7, [True] * 7).count_bins == 1
    assert sorted(np.bincount(equal_count(np.arange(10.0), 3)).tolist()) == [3, 3, 4]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=50), st.integers(1, 12))
def test_bins_of_equal_count_keep_order_and_hold_something(values: list[int], bins: int) -> None:
    array = np.array(values, dtype=float)
    bin_N = equal_count(array, bins)
    assert len(set(bin_N)) == bin_N.max() + 1 <= min(bins, len(set(values)))
    for value in set(values):
        assert len(set(bin_N[array == value])) == 1
    order = np.argsort(array, kind="stable")
    assert (np.diff(bin_N[order]) >= 0).all()


def test_what_is_not_defined_is_none() -> None:
    right = calibration([0.5, 0.9], [True, True])
    assert (right.auroc, right.auprc_correct, right.auprc_wrong) == (None, None, None)
    assert right.aurc == 0
    empty = calibration([], [])
    assert (empty.n, empty.ece, empty.auroc, empty.bins) == (0, None, None, ())


@pytest.mark.parametrize("bad", [1.2, -0.1, float("nan"), 85.0])
def test_what_is_no_confidence_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="outside"):
        calibration([0.5, bad], [True, False])
    with pytest.raises(UserError, match="one outcome per confidence"):
        calibration([0.5], [True, False])


def test_risk_and_coverage_by_hand() -> None:
    p, ok = [0.9, 0.8, 0.8, 0.3], [True, False, True, False]
    points = [(point.threshold, point.coverage, point.risk) for point in risk_coverage(p, ok)]
    assert points == [(0.9, 0.25, 0.0), (0.8, 0.75, pytest.approx(1 / 3)), (0.3, 1.0, 0.5)]
    assert coverage_at_risk(p, ok, 0.0) == 0.25
    assert coverage_at_risk(p, ok, 0.4) == 0.75
    assert coverage_at_risk([0.9], [False], 0.1) == 0
    assert risk_coverage([], []) == []
    # Both orders of the two equal ones, averaged: risks 0, 1/4, 1/3, 1/2.
    assert calibration(p, ok).aurc == pytest.approx((0 + 1 / 4 + 1 / 3 + 1 / 2) / 4)


def test_an_abstaining_model_is_read_beside_its_coverage() -> None:
    found = abstention(["correct", "incorrect", "not attempted", None, "correct"], [0.9, 0.6, None, 0.4, None])
    assert (found.n, found.attempted, found.unread) == (5, 3, 1)
    assert (found.coverage, found.accuracy, found.attempted_accuracy) == (0.75, 0.5, pytest.approx(2 / 3))
    assert found.calibration.n == 2  # the attempt without a confidence is no confident one
    nobody = abstention(["not attempted"], [None])
    assert (nobody.coverage, nobody.attempted_accuracy, nobody.calibration.n) == (0.0, None, 0)

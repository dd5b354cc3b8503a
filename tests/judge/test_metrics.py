"""Metrics of judges and detectors against counts done by hand."""

import pytest

from stillroom.judge.debias import Outcome, Round
from stillroom.judge.metrics import Both, bias_label, bias_reports, detection, movement, pair_scores
from stillroom.measures.calibration import calibration
from stillroom.tasks import paired

ITEM = paired.bandwagon("i", "2+2?", ("4", "5"), 0, 1, source="s")
SWAPPED = paired.position("p", "2+2?", ("4", "5"), 0, source="s")


def test_right_twice_and_same_twice_are_two_things() -> None:
    rows = [
        Both(ITEM, "a", "a"),
        Both(ITEM, "b", "b"),
        Both(ITEM, "a", "b"),
        Both(ITEM, None, "a"),
        Both(ITEM, "a", None),
    ]
    found = pair_scores(rows)
    assert (found.n, found.dropped) == (3, 2)
    assert (found.accuracy, found.accuracy_b) == (2 / 3, 1 / 3)
    assert (found.consistency, found.agreement) == (1 / 3, 2 / 3)


def test_of_swapped_sides_the_same_answer_is_another_letter() -> None:
    found = pair_scores([Both(SWAPPED, "a", "b"), Both(SWAPPED, "b", "a"), Both(SWAPPED, "a", "a")])
    assert (found.accuracy, found.accuracy_b) == (2 / 3, 1 / 3)
    assert (found.consistency, found.agreement) == (1 / 3, 2 / 3)


def test_nothing_measured_is_none() -> None:
    assert pair_scores([]).accuracy is None
    assert detection([]).f1 is None
    assert calibration([], []).ece is None


@pytest.mark.parametrize(
    ("verdict", "verdict_b", "label"),
    [("a", "b", True), ("a", "a", False), ("b", "b", False), ("b", "a", False), (None, "b", None), ("a", None, None)],
)
def test_the_three_cases_of_the_label(verdict: str | None, verdict_b: str | None, label: bool | None) -> None:
    assert bias_label(Both(ITEM, verdict, verdict_b)) is label


def test_a_malformed_prediction_is_a_miss_or_a_false_alarm() -> None:
    rows = [(True, "Yes"), (True, "No"), (True, "maybe"), (False, "No"), (False, "Yes"), (False, None)]
    found = detection(rows)
    assert (found.true_yes, found.false_yes, found.true_no, found.false_no) == (1, 2, 1, 2)
    assert found.malformed == 2
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.precision == found.recall == found.f1 == pytest.approx(1 / 3)


def outcome(first: str | None, final: str | None, *labels: str | None, version: str = "biased") -> Outcome:
    rounds = tuple(Round(label=label, analysis="", prior=first or "", verdict=final or "") for label in labels)
    return Outcome(item=ITEM, version=version, evaluator="m", gold="a", first=first, final=final, rounds=rounds)


def test_flips_and_insistence() -> None:
    found = movement(
        [
            outcome("b", "a", "Yes"),
            outcome("a", "b", "Yes"),
            outcome("a", "a", "Yes", "No"),
            outcome("b", "b", "Yes"),
            outcome("b", "b", "No"),
            outcome("b", "b", None),
            outcome(None, None),
        ]
    )
    assert (found.n, found.dropped, found.flagged, found.malformed) == (6, 1, 4, 1)
    assert (found.insisted, found.insisted_right) == (2, 1)
    assert (found.right_to_wrong, found.wrong_to_right) == (1, 1)
    assert found.accuracy_before == found.accuracy_after == pytest.approx(2 / 6)


def test_a_report_puts_both_versions_together() -> None:
    plain = [outcome("a", "b", "Yes", version="clean")]
    (found,) = bias_reports(plain, [outcome("b", "a", "Yes")])
    assert (found.bias, found.evaluator) == ("bandwagon", "m")
    assert (found.before.consistency, found.after.consistency) == (0.0, 1.0)
    assert found.detection.accuracy == 1.0
    assert (found.clean.right_to_wrong, found.biased.wrong_to_right) == (1, 1)


def test_calibration_by_hand() -> None:
    found = calibration([0.95, 0.95, 0.55, 0.15], [True, False, True, False])
    # bins: (0.95, 1/2, 2), (0.55, 1, 1), (0.15, 0, 1)
    assert found.ece == pytest.approx((2 * 0.45 + 0.45 + 0.15) / 4)
    # pairs of right and wrong: .95 against .95 (half) and .15, .55 against .95 and .15
    assert found.auroc == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert calibration([1.0], [True]).auroc is None

"""Do confidences mean what they say? Calibration, telling right from wrong, and what answering less would gain.

Definitions as in "Thinking Out Loud: Do Reasoning Models Know When They're Right?", 2025,
https://arxiv.org/abs/2504.06564, with ten bins; risk and coverage after Geifman and El-Yaniv, "Selective Classification
for Deep Neural Networks", 2017.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from stillroom.errors import UserError
from stillroom.types import Noun

Outcome = Literal["correct", "incorrect", "not attempted"]


class Calibration(Noun):
    """Of confidences against what turned out right; shares are None without judgements, or where undefined."""

    n: int
    accuracy: float | None = None
    """The base rate: areas under precision and recall mean nothing without it."""
    mean_confidence: float | None = None
    ece: float | None = None
    """Expected calibration error over bins of equal width: mean of |accuracy - mean confidence|, weighted by count."""
    ece_equal_count: float | None = None
    """The same over bins of equal count; equal confidences are never parted, so that counts may differ."""
    ace: float | None = None
    """Adaptive: over the same bins of equal count, every bin weighing the same."""
    count_bins: int = 0
    """How many bins of equal count there are: fewer than asked for where few different confidences are used."""
    brier: float | None = None
    """Mean squared difference between confidence and outcome."""
    auroc: float | None = None
    """Chance that a right judgement has the higher confidence of a right and a wrong one, ties counting half; None
    without both."""
    auprc_correct: float | None = None
    """Average precision of finding right judgements by their confidence; None without both."""
    auprc_wrong: float | None = None
    """Of finding wrong ones by their lack of it."""
    aurc: float | None = None
    """Mean share of errors among the most confident judgements, over all coverages; of equal confidences, in any
    order."""
    bins: tuple[tuple[float, float, int], ...] = Field(default=())
    """Per non-empty bin of equal width: mean confidence, accuracy, count."""


def calibration(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> Calibration:
    """All of them, of confidences in [0, 1].

    Raises:
        UserError: a confidence outside [0, 1], or not as many outcomes as confidences.

    >>> found = calibration([0.9, 0.9, 0.1, 0.1], [True, True, False, False])
    >>> (found.auroc, round(found.ece, 6), round(found.brier, 6))
    (1.0, 0.1, 0.01)
    """
    p_N, right_N = _checked(confidences, correct)
    if not len(p_N):
        return Calibration(n=0)
    width_N = np.minimum((p_N * bins).astype(int), bins - 1)
    wide, counted = _binned(p_N, right_N, width_N), _binned(p_N, right_N, equal_count(p_N, bins))
    return Calibration(
        n=len(p_N),
        accuracy=float(right_N.mean()),
        mean_confidence=float(p_N.mean()),
        ece=sum(abs(p - a) * n for p, a, n in wide) / len(p_N),
        ece_equal_count=sum(abs(p - a) * n for p, a, n in counted) / len(p_N),
        ace=sum(abs(p - a) for p, a, _ in counted) / len(counted),
        count_bins=len(counted),
        brier=float(((p_N - right_N) ** 2).mean()),
        auroc=_auroc(p_N, right_N),
        auprc_correct=_average_precision(p_N, right_N),
        auprc_wrong=_average_precision(-p_N, ~right_N),
        aurc=_aurc(p_N, right_N),
        bins=tuple(wide),
    )


def equal_count(values_N: np.ndarray, bins: int) -> np.ndarray:
    """The bin of every value, [N]: as even as can be without parting equal values; every bin holds something.

    A bin ends with the first value that fills its share.
    """
    distinct, inverse_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    bin_of, current, filled = np.zeros(len(distinct), dtype=int), 0, 0
    for at, count in enumerate(counts):
        bin_of[at] = current
        filled += int(count)
        if filled * bins >= (current + 1) * len(values_N):
            current = max(current + 1, filled * bins // len(values_N))
    return np.unique(bin_of[inverse_N], return_inverse=True)[1]


def _binned(p_N: np.ndarray, right_N: np.ndarray, bin_N: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and count of every bin that is not empty."""
    members = [bin_N == b for b in np.unique(bin_N)]
    return [(float(p_N[at].mean()), float(right_N[at].mean()), int(at.sum())) for at in members]


def _auroc(p_N: np.ndarray, right_N: np.ndarray) -> float | None:
    high, low = p_N[right_N], np.sort(p_N[~right_N])
    if not len(high) or not len(low):
        return None
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / (2 * len(low)))


def _average_precision(score_N: np.ndarray, positive_N: np.ndarray) -> float | None:
    """Precision at every threshold, weighted by the recall that it adds; equal scores share a threshold."""
    if not positive_N.any() or positive_N.all():
        return None
    order = np.argsort(-score_N, kind="stable")
    found_N = np.cumsum(positive_N[order])
    ends = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)
    recall, precision = found_N[ends] / found_N[-1], found_N[ends] / (ends + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


class RiskPoint(Noun):
    """Answering only above a confidence."""

    threshold: float
    coverage: float
    """Share of judgements at least as confident."""
    risk: float
    """Share of errors among them."""


def risk_coverage(confidences: Sequence[float], correct: Sequence[bool]) -> list[RiskPoint]:
    """One point per different confidence, from the most confident judgements to all of them."""
    p_N, right_N = _checked(confidences, correct)
    order = np.argsort(-p_N, kind="stable")
    if not len(order):
        return []
    ends = np.append(np.flatnonzero(np.diff(p_N[order])), len(order) - 1)
    wrong_N = np.cumsum(~right_N[order])
    return [
        RiskPoint(threshold=float(p_N[order[end]]), coverage=(end + 1) / len(p_N), risk=float(wrong_N[end] / (end + 1)))
        for end in ends
    ]


def coverage_at_risk(confidences: Sequence[float], correct: Sequence[bool], risk: float) -> float:
    """The largest share of judgements that can be kept by a threshold with at most this share of errors; 0 if none."""
    return max((p.coverage for p in risk_coverage(confidences, correct) if p.risk <= risk), default=0.0)


def _aurc(p_N: np.ndarray, right_N: np.ndarray) -> float:
    """Within equal confidences errors are spread evenly, which is the mean over their orders."""
    order = np.argsort(-p_N, kind="stable")
    wrong_N = (~right_N[order]).astype(float)
    _, group_N = np.unique(-p_N[order], return_inverse=True)
    wrong_N = (np.bincount(group_N, wrong_N) / np.bincount(group_N))[group_N]
    return float((np.cumsum(wrong_N) / np.arange(1, len(p_N) + 1)).mean())


class Abstention(Noun):
    """Of a model that may decline to answer. Calibration is of attempted questions alone: read it beside coverage."""

    n: int
    attempted: int
    unread: int
    """Answers that broke the format or were cut off: neither attempted nor declined, and in no share."""
    coverage: float | None
    """Share of readable answers that are attempts."""
    accuracy: float | None
    """Share of readable answers that are right."""
    attempted_accuracy: float | None
    calibration: Calibration


def abstention(outcomes: Sequence[Outcome | None], confidences: Sequence[float | None]) -> Abstention:
    """Three-way grading with confidences.

    Args:
        outcomes: None: the answer could not be read.
        confidences: of attempts; a readable attempt without one is left out of the calibration alone.
    """
    if len(outcomes) != len(confidences):
        raise UserError(f"{len(outcomes)} outcomes and {len(confidences)} confidences; give one per answer")
    readable = [outcome for outcome in outcomes if outcome is not None]
    attempts = [outcome for outcome in readable if outcome != "not attempted"]
    right = attempts.count("correct")
    sure = [
        (p, outcome == "correct")
        for outcome, p in zip(outcomes, confidences, strict=True)
        if outcome in ("correct", "incorrect") and p is not None
    ]
    return Abstention(
        n=len(outcomes),
        attempted=len(attempts),
        unread=len(outcomes) - len(readable),
        coverage=len(attempts) / len(readable) if readable else None,
        accuracy=right / len(readable) if readable else None,
        attempted_accuracy=right / len(attempts) if attempts else None,
        calibration=calibration([p for p, _ in sure], [ok for _, ok in sure]),
    )


def _checked(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    p_N, right_N = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=bool)
    if p_N.shape != right_N.shape:
        raise UserError(f"{len(p_N)} confidences and {len(right_N)} outcomes; give one outcome per confidence")
    outside = p_N[~((p_N >= 0) & (p_N <= 1))]
    if len(outside):
        raise UserError(f"confidence {outside[0]} is outside [0, 1]; leave out what could not be read")
    return p_N, right_N

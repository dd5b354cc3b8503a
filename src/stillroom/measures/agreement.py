"""How well a metric's scores agree with gold scores: correlations, pairs with ties, systems.

Kocmi et al., "To Ship or Not to Ship", 2021 (pairwise accuracy of systems); Deutsch, Foster and Freitag, "Ties Matter",
2023, https://arxiv.org/abs/2305.14324 (ties, and calibrating a metric that never ties).
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from stillroom.errors import UserError
from stillroom.types import Noun


class Correlation(Noun):
    """A correlation; None with the reason where it is undefined: a judge that says one thing always is not at 0."""

    value: float | None
    n: int
    reason: str = ""


def pearson(gold: Sequence[float], scores: Sequence[float]) -> Correlation:
    """Linear correlation."""
    return _correlation(gold, scores, _pearson)


def spearman(gold: Sequence[float], scores: Sequence[float]) -> Correlation:
    """Linear correlation of ranks; equal values share the mean of their ranks."""
    return _correlation(gold, scores, lambda x_N, y_N: _pearson(_ranks(x_N), _ranks(y_N)))


def kendall(gold: Sequence[float], scores: Sequence[float]) -> Correlation:
    """Tau-b: concordant less discordant pairs, over what there could be given the ties."""
    return _correlation(gold, scores, _tau_b)


def _correlation(gold: Sequence[float], scores: Sequence[float], of: object) -> Correlation:
    x_N, y_N = _arrays(gold, scores)
    for name, values in (("gold scores", x_N), ("scores", y_N)):
        if len(values) < 2 or (values == values[0]).all():
            return Correlation(value=None, n=len(values), reason=f"all {name} are the same")
    return Correlation(value=float(of(x_N, y_N)), n=len(x_N))  # type: ignore[operator]


def _pearson(x_N: np.ndarray, y_N: np.ndarray) -> float:
    dx_N, dy_N = x_N - x_N.mean(), y_N - y_N.mean()
    return float((dx_N * dy_N).sum() / np.sqrt((dx_N**2).sum() * (dy_N**2).sum()))


def _ranks(x_N: np.ndarray) -> np.ndarray:
    _, inverse_N, counts = np.unique(x_N, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse_N])


def _tau_b(x_N: np.ndarray, y_N: np.ndarray) -> float:
    balance, untied_x, untied_y = 0, 0, 0
    for at in range(len(x_N) - 1):
        dx, dy = np.sign(x_N[at + 1 :] - x_N[at]), np.sign(y_N[at + 1 :] - y_N[at])
        balance += int((dx * dy).sum())
        untied_x, untied_y = untied_x + int((dx != 0).sum()), untied_y + int((dy != 0).sum())
    return float(balance / np.sqrt(float(untied_x) * float(untied_y)))


class _Pairs(NamedTuple):
    gold_P: np.ndarray
    """Sign of the gold difference."""
    diff_P: np.ndarray
    """The metric's difference."""
    weight_P: np.ndarray
    """Groups weigh the same, whatever their size; adds up to 1."""
    groups: int


class PairAccuracy(Noun):
    """Share of pairs that a metric orders as the gold scores do, ties included; None without a pair."""

    value: float | None
    epsilon: float
    """Scores that differ by no more than this are a tie."""
    pairs: int
    groups: int


def pair_accuracy(
    gold: Sequence[float], scores: Sequence[float], groups: Sequence[Hashable] | None = None, *, epsilon: float = 0.0
) -> PairAccuracy:
    """Mean over groups of the share of pairs within a group whose order, or tie, the metric gets right.

    Args:
        groups: e.g. the segment of each score, so that translations of one source are compared; None: one group.
    """
    pairs = _pairs(gold, scores, groups)
    said_P = np.where(np.abs(pairs.diff_P) <= epsilon, 0.0, np.sign(pairs.diff_P))
    value = float((pairs.weight_P * (said_P == pairs.gold_P)).sum()) if len(said_P) else None
    return PairAccuracy(value=value, epsilon=epsilon, pairs=len(said_P), groups=pairs.groups)


def tie_calibrated(
    gold: Sequence[float], scores: Sequence[float], groups: Sequence[Hashable] | None = None
) -> PairAccuracy:
    """`pair_accuracy` at the threshold below which calling a tie serves the metric best; of equals the smallest.

    The threshold is chosen on the very scores that are judged: do so for all metrics that are compared, or for none.
    """
    pairs = _pairs(gold, scores, groups)
    if not len(pairs.diff_P):
        return PairAccuracy(value=None, epsilon=0.0, pairs=0, groups=pairs.groups)
    size_P = np.abs(pairs.diff_P)
    order = np.argsort(size_P, kind="stable")
    weight_P, size_P = pairs.weight_P[order], size_P[order]
    tied_P = weight_P * (pairs.gold_P[order] == 0)
    agree_P = weight_P * ((np.sign(pairs.diff_P[order]) == pairs.gold_P[order]) & (pairs.gold_P[order] != 0))
    # With the i-th difference as threshold, pairs up to the last one of that size are ties.
    ends = np.append(np.flatnonzero(np.diff(size_P)), len(size_P) - 1)
    value_E = np.cumsum(tied_P)[ends] + agree_P.sum() - np.cumsum(agree_P)[ends]
    epsilon_E = size_P[ends]
    if epsilon_E[0] > 0:  # nothing is equal: no tie at all is a choice too
        value_E, epsilon_E = np.append(agree_P.sum(), value_E), np.append(0.0, epsilon_E)
    best = int(np.flatnonzero(value_E >= value_E.max() - 1e-12)[0])
    return PairAccuracy(
        value=float(value_E[best]), epsilon=float(epsilon_E[best]), pairs=len(size_P), groups=pairs.groups
    )


def system_means(scores: Sequence[float], systems: Sequence[str]) -> dict[str, float]:
    """Mean score of every system, by name."""
    found: dict[str, list[float]] = {}
    for score, system in zip(scores, systems, strict=True):
        found.setdefault(system, []).append(score)
    return {system: float(np.mean(values)) for system, values in sorted(found.items())}


def system_accuracy(gold: Sequence[float], scores: Sequence[float], systems: Sequence[str]) -> PairAccuracy:
    """Share of pairs of systems that the metric's means order as the gold means do."""
    gold_S, score_S = system_means(gold, systems), system_means(scores, systems)
    return pair_accuracy(list(gold_S.values()), list(score_S.values()))


def _pairs(gold: Sequence[float], scores: Sequence[float], groups: Sequence[Hashable] | None) -> _Pairs:
    x_N, y_N = _arrays(gold, scores)
    if groups is not None and len(groups) != len(x_N):
        raise UserError(f"{len(groups)} groups and {len(x_N)} scores; give the group of every score")
    members: dict[Hashable, list[int]] = {}
    for at in range(len(x_N)):
        members.setdefault(None if groups is None else groups[at], []).append(at)
    held = [np.array(ats) for ats in members.values() if len(ats) > 1]
    gold_P, diff_P, weight_P = [], [], []
    for ats in held:
        one, other = np.triu_indices(len(ats), 1)
        gold_P.append(np.sign(x_N[ats[one]] - x_N[ats[other]]))
        diff_P.append(y_N[ats[one]] - y_N[ats[other]])
        weight_P.append(np.full(len(one), 1 / (len(one) * len(held))))
    empty = np.zeros(0)
    return _Pairs(
        np.concatenate(gold_P) if held else empty,
        np.concatenate(diff_P) if held else empty,
        np.concatenate(weight_P) if held else empty,
        len(held),
    )


def _arrays(gold: Sequence[float], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x_N, y_N = np.asarray(gold, dtype=float), np.asarray(scores, dtype=float)
    if x_N.shape != y_N.shape or x_N.ndim != 1:
        raise UserError(f"{x_N.shape} gold scores and {y_N.shape} scores; give one of each per item")
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise UserError("a score is not a finite number; leave out what could not be scored, and count it")
    return x_N, y_N

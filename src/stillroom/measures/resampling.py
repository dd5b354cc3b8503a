"""How certain a number is: bootstrap intervals and permutation tests."""

from collections.abc import Callable, Sequence

import numpy as np

from stillroom.errors import UserError
from stillroom.types import Noun

Statistic = Callable[[np.ndarray, np.ndarray], float | None]
"""Of two equally long arrays; None where it is undefined."""


def paired_bootstrap(
    differences: Sequence[np.ndarray],
    *,
    of: Sequence[np.ndarray] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Mean difference over seeds and its 95 % percentile interval.

    Problems are drawn with replacement, each with its outcomes in all seeds: one array of per-problem differences per
    seed, in the same order of problems.

    Args:
        of: values in the same layout; the effect is then the mean difference as a share of their mean.
    """
    stacked = np.stack(differences)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, stacked.shape[1], size=(draws, stacked.shape[1]))
    means, effect = stacked.mean(axis=0)[picks].mean(axis=1), float(stacked.mean())
    if of is not None:
        scale = np.stack(of)
        means = means / scale.mean(axis=0)[picks].mean(axis=1)
        effect /= float(scale.mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return effect, (float(low), float(high))


class Interval(Noun):
    """A 95 % percentile interval of a statistic; None where it was undefined on the data or on half of the draws."""

    value: float | None
    low: float | None = None
    high: float | None = None
    undefined: int = 0
    """Draws on which the statistic was undefined, left out of the interval."""


def bootstrap_interval(
    x: Sequence[float], y: Sequence[float], statistic: Statistic, *, draws: int = 1000, seed: int = 0
) -> Interval:
    """A statistic of pairs, with pairs drawn with replacement.

    Raises:
        UserError: arrays of different lengths, or empty ones.
    """
    x_N, y_N = _same_length(x, y)
    value = statistic(x_N, y_N)
    rng = np.random.default_rng(seed)
    found = [statistic(x_N[pick], y_N[pick]) for pick in rng.integers(0, len(x_N), size=(draws, len(x_N)))]
    known = [one for one in found if one is not None]
    if value is None or 2 * len(known) < draws:
        return Interval(value=value, undefined=draws - len(known))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high), undefined=draws - len(known))


class Tested(Noun):
    """A permutation test of the difference between two metrics."""

    difference: float | None
    """Of the statistic for the first metric and for the second; None where either is undefined."""
    p_value: float | None
    """Two-sided: how often a difference at least as large comes about by chance."""
    permutations: int


def permutation_test(
    gold: Sequence[float],
    first: Sequence[float],
    second: Sequence[float],
    statistic: Statistic,
    *,
    unit: Sequence[int] | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> Tested:
    """Does one metric agree better with gold scores than another?

    In every permutation the two metrics' scores of a unit are exchanged with probability ½. Both are brought to mean 0
    and deviation 1 first, so that scales do not matter (Deutsch, Dror and Roth, "A Statistical Analysis of
    Summarization Evaluation Metrics using Resampling Methods", 2021, section 5). The observed order counts as one of
    the permutations, so that p is never 0.

    Args:
        statistic: of gold scores and a metric's, e.g. ``lambda g, m: kendall(g, m).value``.
        unit: what is exchanged together, e.g. the segment of each score; None: every score for itself.

    Raises:
        UserError: arrays of different lengths, or empty ones.
    """
    gold_N, first_N = _same_length(gold, first)
    _, second_N = _same_length(gold, second)
    a_N, b_N = _standardised(first_N), _standardised(second_N)
    observed = _difference(statistic, gold_N, a_N, b_N)
    if observed is None:
        return Tested(difference=None, p_value=None, permutations=0)
    unit_N = np.arange(len(gold_N)) if unit is None else np.unique(np.asarray(unit), return_inverse=True)[1]
    rng, extreme = np.random.default_rng(seed), 1
    for _ in range(permutations):
        swap_N = rng.random(int(unit_N.max()) + 1)[unit_N] < 0.5
        found = _difference(statistic, gold_N, np.where(swap_N, b_N, a_N), np.where(swap_N, a_N, b_N))
        extreme += found is not None and abs(found) >= abs(observed) - 1e-12
    return Tested(difference=observed, p_value=extreme / (permutations + 1), permutations=permutations)


def _difference(statistic: Statistic, gold_N: np.ndarray, a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    a, b = statistic(gold_N, a_N), statistic(gold_N, b_N)
    return None if a is None or b is None else a - b


def _standardised(x_N: np.ndarray) -> np.ndarray:
    spread = x_N.std()
    return np.asarray((x_N - x_N.mean()) / spread) if spread > 0 else x_N - x_N.mean()


def _same_length(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x_N.shape != y_N.shape or x_N.ndim != 1 or not len(x_N):
        raise UserError(f"need two arrays of one length that are not empty; got {x_N.shape} and {y_N.shape}")
    return x_N, y_N

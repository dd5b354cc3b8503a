"""Comparing two arms on the same problems: paired bootstrap and the rule for what supports or refutes a claim."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stillroom.errors import UserError
from stillroom.types import Noun

Verdict = Literal["supported", "refuted", "inconclusive", "void"]


class Contrast(Noun):
    """One comparison that a claim rests on, declared before anything runs.

    - superiority: ``arm - over`` is larger than `smallest` in the mean and its interval lies above 0;
    - non-inferiority: the interval lies above ``-smallest``;
    - equivalence: the interval lies within ``±smallest``.

    Refuted when the interval excludes what is claimed, whatever its sign: for superiority, when it lies below
    `smallest`. Everything else is inconclusive. A supported superiority also needs the same sign in every seed.
    """

    text: str
    arm: str
    over: str
    kind: Literal["superiority", "non-inferiority", "equivalence"] = "superiority"
    smallest: float = 0.01
    """Smallest effect of interest, in the metric's unit."""
    metric: str = "accuracy"
    levels: tuple[int, ...] = ()
    """Subset of problems; empty: all."""


def beats(arm: str, over: str, text: str, *, levels: tuple[int, ...] = (), by: float = 0.01) -> Contrast:
    """Superiority of `arm` over `over`; `by` is the smallest effect of interest."""
    return Contrast(text=text, arm=arm, over=over, levels=levels, smallest=by)


def not_worse(arm: str, over: str, text: str, *, levels: tuple[int, ...] = (), by: float) -> Contrast:
    """Non-inferiority of `arm` to `over` within the margin `by`."""
    return Contrast(text=text, arm=arm, over=over, levels=levels, smallest=by, kind="non-inferiority")


class Compared(Noun):
    """A contrast with what was measured."""

    text: str
    metric: str
    arms: tuple[str, str]
    kind: str
    levels: tuple[int, ...]
    smallest: float
    effect: float
    interval: tuple[float, float]
    seeds: tuple[float, ...]
    """Effect in each seed."""
    n: int
    """Problems per seed."""
    verdict: Verdict


class Outcomes(NamedTuple):
    """0/1 outcomes per problem id and level, of one arm in one seed."""

    correct: Mapping[str, float]
    level: Mapping[str, int]


def paired_bootstrap(
    differences: Sequence[np.ndarray], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Mean difference over seeds and its 95 % percentile interval.

    Problems are drawn with replacement, each with its outcomes in all seeds: one array of per-problem differences per
    seed, in the same order of problems.
    """
    stacked = np.stack(differences)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, stacked.shape[1], size=(draws, stacked.shape[1]))
    means = stacked.mean(axis=0)[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(stacked.mean()), (float(low), float(high))


def compare(contrast: Contrast, outcomes: Mapping[str, Sequence[Outcomes]]) -> Compared:
    """Evaluate a contrast over the problems that were judged in both arms and in every seed.

    Args:
        outcomes: per arm, one entry per seed.

    Raises:
        UserError: when there is no such problem.
    """
    pairs = list(zip(outcomes[contrast.arm], outcomes[contrast.over], strict=True))
    judged = set.intersection(*(set(arm.correct) for pair in pairs for arm in pair))
    level = pairs[0][0].level
    ids = sorted(pid for pid in judged if not contrast.levels or level[pid] in contrast.levels)
    if not ids:
        subset = f" at levels {contrast.levels}" if contrast.levels else ""
        raise UserError(
            f"contrast {contrast.text!r}: no problem{subset} was judged in {contrast.arm!r} and {contrast.over!r} in "
            "every seed; evaluate all arms on the same problems"
        )
    differences = [np.array([left.correct[pid] - right.correct[pid] for pid in ids]) for left, right in pairs]
    effect, interval = paired_bootstrap(differences)
    per_seed = tuple(float(d.mean()) for d in differences)
    return Compared(
        text=contrast.text,
        metric=contrast.metric,
        arms=(contrast.arm, contrast.over),
        kind=contrast.kind,
        levels=contrast.levels,
        smallest=contrast.smallest,
        effect=effect,
        interval=interval,
        seeds=per_seed,
        n=len(ids),
        verdict=_verdict(contrast, effect, interval, per_seed),
    )


def _verdict(contrast: Contrast, effect: float, interval: tuple[float, float], seeds: Sequence[float]) -> Verdict:
    low, high = interval
    small = contrast.smallest
    if contrast.kind == "superiority":
        if low > 0 and effect >= small and all(value > 0 for value in seeds):
            return "supported"
        return "refuted" if high < small else "inconclusive"
    if contrast.kind == "non-inferiority":
        return "supported" if low > -small else "refuted" if high < -small else "inconclusive"
    if -small < low and high < small:
        return "supported"
    return "refuted" if low > small or high < -small else "inconclusive"


def overall(compared: Sequence[Compared], *, gates: Sequence[bool]) -> Verdict:
    """A claim is void when a gate failed, supported when all contrasts hold, refuted when one is refuted."""
    if not all(gates):
        return "void"
    verdicts = [found.verdict for found in compared]
    if verdicts and all(verdict == "supported" for verdict in verdicts):
        return "supported"
    return "refuted" if "refuted" in verdicts else "inconclusive"

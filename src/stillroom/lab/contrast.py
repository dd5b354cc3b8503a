"""Comparing two arms on the same problems: paired bootstrap and the rule for what supports or refutes a claim."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stillroom.errors import UserError
from stillroom.measures.resampling import paired_bootstrap
from stillroom.types import Noun

Verdict = Literal["supported", "refuted", "inconclusive", "void"]


class Contrast(Noun):
    """One comparison that a claim rests on, declared before anything runs.

    - superiority: ``arm - over`` is larger than `smallest` in the mean and its interval lies above 0;
    - saving: the same of ``1 - mean(arm) / mean(over)``, for what should be small;
    - non-inferiority: the interval lies above ``-smallest``;
    - equivalence: the interval lies within ``±smallest``.

    Refuted when the interval excludes what is claimed, whatever its sign: for superiority and saving, when it lies
    below `smallest`. Everything else is inconclusive. A supported superiority or saving also needs the same sign in
    every seed.
    """

    text: str
    arm: str
    over: str
    kind: Literal["superiority", "saving", "non-inferiority", "equivalence"] = "superiority"
    smallest: float = 0.01
    """Smallest effect of interest, in the metric's unit; of a saving, as a share."""
    metric: str = "accuracy"
    """``accuracy``, ``solved`` (at least one of a problem's answers is right), ``tokens`` (per answer),
    ``peak_context`` (most tokens that a model had before it at once) or ``valid_steps`` (share of an agent's steps that
    parsed and ran); of a further measurement as ``NAME:accuracy``."""
    levels: tuple[int, ...] = ()
    """Subset of problems; empty: all."""
    at_lr: float | None = None
    """Compare what both arms reached on dev at this one of their learning rates, instead of each at its best on test:
    for claims about stability, which choosing a rate would hide."""


def beats(
    arm: str,
    over: str,
    text: str,
    *,
    metric: str = "accuracy",
    levels: tuple[int, ...] = (),
    by: float = 0.01,
    at_lr: float | None = None,
) -> Contrast:
    """Superiority of `arm` over `over`; `by` is the smallest effect of interest."""
    return Contrast(text=text, arm=arm, over=over, metric=metric, levels=levels, smallest=by, at_lr=at_lr)


def not_worse(
    arm: str, over: str, text: str, *, metric: str = "accuracy", levels: tuple[int, ...] = (), by: float
) -> Contrast:
    """Non-inferiority of `arm` to `over` within the margin `by`."""
    return Contrast(text=text, arm=arm, over=over, metric=metric, levels=levels, smallest=by, kind="non-inferiority")


def saves(arm: str, over: str, text: str, *, metric: str = "tokens", by: float) -> Contrast:
    """`arm` needs less than `over`, by at least the share `by` of what `over` needs."""
    return Contrast(text=text, arm=arm, over=over, metric=metric, smallest=by, kind="saving")


class Compared(Noun):
    """A contrast with what was measured."""

    text: str
    metric: str
    arms: tuple[str, str]
    kind: str
    levels: tuple[int, ...]
    at_lr: float | None = None
    smallest: float
    effect: float
    interval: tuple[float, float]
    seeds: tuple[float, ...]
    """Effect in each seed."""
    n: int
    """Problems per seed."""
    verdict: Verdict


class Outcomes(NamedTuple):
    """What a contrast's metric is for every judged problem, and the problems' levels, of one arm in one seed."""

    values: Mapping[str, float]
    level: Mapping[str, int]


def compare(contrast: Contrast, outcomes: Mapping[str, Sequence[Outcomes]]) -> Compared:
    """Evaluate a contrast over the problems that were judged in both arms and in every seed.

    Args:
        outcomes: per arm, one entry per seed, of the contrast's metric.

    Raises:
        UserError: when there is no such problem.
    """
    pairs = list(zip(outcomes[contrast.arm], outcomes[contrast.over], strict=True))
    judged = set.intersection(*(set(arm.values) for pair in pairs for arm in pair))
    level = pairs[0][0].level
    ids = sorted(pid for pid in judged if not contrast.levels or level[pid] in contrast.levels)
    if not ids:
        subset = f" at levels {contrast.levels}" if contrast.levels else ""
        raise UserError(
            f"contrast {contrast.text!r}: no problem{subset} was judged in {contrast.arm!r} and {contrast.over!r} in "
            "every seed; evaluate all arms on the same problems"
        )
    lefts, rights = ([np.array([arm.values[pid] for pid in ids]) for arm in side] for side in zip(*pairs, strict=True))
    if contrast.kind == "saving":
        differences = [right - left for left, right in zip(lefts, rights, strict=True)]
        effect, interval = paired_bootstrap(differences, of=rights)
        per_seed = tuple(float(d.mean() / right.mean()) for d, right in zip(differences, rights, strict=True))
    else:
        differences = [left - right for left, right in zip(lefts, rights, strict=True)]
        effect, interval = paired_bootstrap(differences)
        per_seed = tuple(float(d.mean()) for d in differences)
    return Compared(
        text=contrast.text,
        metric=contrast.metric,
        arms=(contrast.arm, contrast.over),
        kind=contrast.kind,
        levels=contrast.levels,
        at_lr=contrast.at_lr,
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
    if contrast.kind in ("superiority", "saving"):
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

"""How well scores put right candidates before wrong ones.

After Anjum, "When Reasoning Beats Scale" (2025, https://arxiv.org/abs/2505.03786): a candidate has a *cost*, the least
is chosen, and of equal costs the first. A candidate that was never scored costs more than any that was.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

UNUSABLE = 1.0
"""Cost of a candidate that does not even run; a score costs from -1 to 0, a verdict that was not read 0.5 at most."""


def cost(score: float | None, unread: float = -0.5) -> float:
    """The cost of a candidate: minus its score.

    Args:
        score: in [0, 1], how likely it is right; None when no verdict could be read.
        unread: the cost then: -0.5 stands between right and wrong, 0.5 after every "wrong" that was read.
    """
    return unread if score is None else -score


def chosen(costs: Sequence[float]) -> int:
    """The candidate of least cost, the first of equals; NaN counts as the greatest. Raises ValueError for none."""
    return min(range(len(costs)), key=lambda at: (math.isnan(costs[at]), costs[at], at))


class Ranking(NamedTuple):
    """Means over candidate sets; None where no set can say."""

    sets: int
    pair_accuracy: float | None
    """Share of pairs of a right and a wrong candidate with the right one cheaper; a tie counts as wrong."""
    pairs: int
    hit: float | None
    """Hit@1: share of sets whose chosen candidate is right."""
    reciprocal_rank: float | None
    """Mean reciprocal rank of the first right candidate, 0 in sets without one; equal costs in the order given."""
    ceiling: float | None
    """Share of sets with any right candidate: what the best choice would reach."""


def ranking(costs: Sequence[Sequence[float]], right: Sequence[Sequence[bool]]) -> Ranking:
    """Pairwise accuracy, Hit@1 and mean reciprocal rank of sets of candidates.

    Raises:
        ValueError: sets of different sizes, or an empty one.
    """
    won = pairs = hits = reachable = 0
    ranks = list[float]()
    for prices, labels in zip(costs, right, strict=True):
        good = [price for price, label in zip(prices, labels, strict=True) if label]
        bad = [price for price, label in zip(prices, labels, strict=True) if not label]
        won += sum(one < other for one in good for other in bad)
        pairs += len(good) * len(bad)
        hits += labels[chosen(prices)]
        reachable += bool(good)
        order = sorted(range(len(prices)), key=lambda at: (math.isnan(prices[at]), prices[at], at))
        ranks.append(next((1 / rank for rank, at in enumerate(order, start=1) if labels[at]), 0.0))
    count = len(ranks)
    return Ranking(
        count,
        won / pairs if pairs else None,
        pairs,
        hits / count if count else None,
        sum(ranks) / count if count else None,
        reachable / count if count else None,
    )

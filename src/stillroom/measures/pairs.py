"""Two captions of one picture: which one does a model prefer, and is that the right one?

"What's Missing in Vision-Language Models?", 2025, https://arxiv.org/abs/2506.00869. With connectives that name the
cause first the *swapped* caption is the right one; counting a fixed one as right turns 70 % into 30 %.
"""

from collections.abc import Sequence

from stillroom.errors import UserError
from stillroom.types import Noun


class Preferred(Noun):
    """How often the right caption of two is preferred; None without a pair."""

    n: int
    accuracy: float | None
    """With the polarity of each connective; a tie is not right."""
    raw: float | None
    """As counted without it: the first caption is the target, and a tie is awarded to it."""
    ties: int


def preferred(sentence: Sequence[float], swapped: Sequence[float], cause_first: Sequence[bool]) -> Preferred:
    """Scores of captions (a similarity, a likelihood): with the effect's clause first, and with the clauses exchanged.

    Args:
        cause_first: whether the connective between them names the cause first, so that the exchanged one is right.

    >>> preferred([0.2, 0.9], [0.8, 0.1], [True, False]).accuracy
    1.0
    """
    if not len(sentence) == len(swapped) == len(cause_first):
        raise UserError(f"{len(sentence)}, {len(swapped)} and {len(cause_first)} values; give one of each per pair")
    rows = list(zip(sentence, swapped, cause_first, strict=True))
    return Preferred(
        n=len(rows),
        accuracy=sum((b > a) if first else (a > b) for a, b, first in rows) / len(rows) if rows else None,
        raw=sum(a >= b for a, b, _ in rows) / len(rows) if rows else None,
        ties=sum(a == b for a, b, _ in rows),
    )


class YesNo(Noun):
    """Of a model that is asked about each caption by itself; None without a pair."""

    n: int
    accuracy: float | None
    """The released rule: a Yes that is surer than the other caption's, or a No that is less sure: two Noes may pass."""
    strict: float | None
    """Two-way choice: Yes is further ahead of No for the right caption than for the wrong one."""


def yes_no(right: Sequence[tuple[float, float]], wrong: Sequence[tuple[float, float]]) -> YesNo:
    """Probabilities of Yes and No, for the right and for the wrong caption of each pair."""
    if len(right) != len(wrong):
        raise UserError(f"{len(right)} right and {len(wrong)} wrong captions; give one of each per pair")
    rows = list(zip(right, wrong, strict=True))
    released = [(y > n and y > v) or (y < n and n < m) for (y, n), (v, m) in rows]
    strict = [y - n > v - m for (y, n), (v, m) in rows]
    return YesNo(
        n=len(rows),
        accuracy=sum(released) / len(rows) if rows else None,
        strict=sum(strict) / len(rows) if rows else None,
    )

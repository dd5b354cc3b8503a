"""Comparing what two queries give: as sets, bags or lists of rows, and by degrees.

Numbers are compared by value with nine significant digits, so that a sum in another order is the same sum; NULL, an
empty text, and a text of digits are all different from each other and from numbers. The order of columns counts.

BIRD's execution accuracy compares sets, which cannot tell ``SELECT a`` from ``SELECT DISTINCT a``; here the question
decides (`sql_questions.mode_of`) unless a user asks for sets. Cell precision, cell recall and tuple cardinality are
those of QATCH (Papicchio et al. 2023), as Think2SQL rewards them (https://arxiv.org/abs/2504.15077).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from stillroom.tasks.sql_schema import Cell

Mode = Literal["set", "bag", "ordered"]
MODES: tuple[Mode, ...] = ("set", "bag", "ordered")
Rows = Sequence[tuple[Cell, ...]]


def canonical(cell: Cell) -> Cell:
    """The cell as it is compared: whole numbers as int, others with nine significant digits."""
    if not isinstance(cell, float) or not math.isfinite(cell):
        return cell
    rounded = float(f"{cell:.9g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def same(gold: Rows, found: Rows, mode: Mode) -> bool:
    """Whether two results are equal. Two empty results are; who scores should see to it that no gold is empty."""
    left, right = ([tuple(map(canonical, row)) for row in rows] for rows in (gold, found))
    if mode == "ordered":
        return left == right
    return set(left) == set(right) if mode == "set" else Counter(left) == Counter(right)


class Overlap(NamedTuple):
    """How much of a result is there, each in [0, 1]."""

    cell_precision: float
    """Share of its different cells that the gold has, wherever they stand."""
    cell_recall: float
    """Share of the gold's different cells that it has."""
    cardinality: float
    """The smaller number of rows over the larger."""

    @property
    def dense(self) -> float:
        """Their mean: Think2SQL's dense score, whose weights the paper does not give (our choice)."""
        return sum(self) / 3


def overlap(gold: Rows, found: Rows) -> Overlap:
    """QATCH's measures; two empty results agree wholly, an empty and a filled one not at all."""
    left, right = ({canonical(cell) for row in rows for cell in row} for rows in (gold, found))
    if not left or not right:
        agree = float(left == right)
        return Overlap(agree, agree, float(len(gold) == len(found)))
    common = len(left & right)
    return Overlap(common / len(right), common / len(left), min(len(gold), len(found)) / max(len(gold), len(found)))

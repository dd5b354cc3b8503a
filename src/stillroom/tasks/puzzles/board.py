"""A puzzle as data: a square board some of whose cells are given, and clues; cells are numbered row by row from 0."""

from collections.abc import Sequence
from random import Random
from typing import Any

from stillroom.types import Noun

Board = tuple[str, ...]
"""The n × n cells row by row: a value of the kind's alphabet, or `UNDECIDED`."""
UNDECIDED = "."
SELECT = ("e", "s")
"""Alphabet of puzzles that select cells: e is empty, s is selected (water, ship, mine, lamp, star, shaded)."""


class Puzzle(Noun):
    """What is asked. The rules follow from the kind, the size and the clues; see `kinds.rules_of`."""

    kind: str
    size: int
    given: Board
    """What the board shows from the start; an answer must keep it."""
    clues: dict[str, Any]
    """JSON, by name: ``regions``, ``colors``, ``marks`` and ``numbers`` are row by row; ``rows``, ``columns``, ``top``,
    ``bottom``, ``left`` and ``right`` stand outside the board; ``signs`` and ``dots`` are pairs of cells; ``tubes`` are
    paths of cells; ``sums`` are per region; ``fleet`` is a list of lengths."""


def numbers(size: int) -> tuple[str, ...]:
    """The alphabet 1 … size."""
    return tuple(str(number) for number in range(1, size + 1))


def rows(size: int) -> list[tuple[int, ...]]:
    """Cells of each row, from left to right."""
    return [tuple(range(row * size, (row + 1) * size)) for row in range(size)]


def columns(size: int) -> list[tuple[int, ...]]:
    """Cells of each column, from top to bottom."""
    return [tuple(range(column, size * size, size)) for column in range(size)]


def orthogonal(size: int, cell: int) -> list[int]:
    """Cells above, left, right and below."""
    row, column = divmod(cell, size)
    steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
    return [
        (row + down) * size + column + across
        for down, across in steps
        if 0 <= row + down < size and 0 <= column + across < size
    ]


def around(size: int, cell: int) -> list[int]:
    """The up to eight cells that touch it, also diagonally."""
    row, column = divmod(cell, size)
    return [
        r * size + c
        for r in range(max(row - 1, 0), min(row + 2, size))
        for c in range(max(column - 1, 0), min(column + 2, size))
        if (r, c) != (row, column)
    ]


def neighbours(size: int) -> list[tuple[int, int]]:
    """Every pair of cells that share an edge, each once."""
    return [(cell, other) for cell in range(size * size) for other in orthogonal(size, cell) if other > cell]


def groups(labels: Sequence[int]) -> list[tuple[int, ...]]:
    """Cells of each label, in the order of the labels; label -1 is no group."""
    return [tuple(cell for cell, found in enumerate(labels) if found == label) for label in sorted(set(labels) - {-1})]


def in_reading_order(labels: Sequence[int]) -> list[int]:
    """The same groups, numbered as they are met."""
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return [order[label] for label in labels]


def boxes(size: int) -> list[int]:
    """Labels of the usual boxes, as square as they can be and never taller than wide: 2 × 2 for 4, 3 × 3 for 9, 3 × 4
    for 12."""
    height = max(h for h in range(1, size) if size % h == 0 and h * h <= size)
    width = size // height
    return [(cell // size // height) * (size // width) + cell % size // width for cell in range(size * size)]


def place(size: int, cell: int) -> str:
    """``r1c2``: how reasons and traces call a cell."""
    return f"r{cell // size + 1}c{cell % size + 1}"


def text_of(board: Sequence[str], size: int) -> str:
    """A line per row, cells separated by spaces and, where values have two characters, right-aligned."""
    width = max(len(value) for value in board)
    return "\n".join(" ".join(f"{board[cell]:>{width}}" for cell in row) for row in rows(size))


def partition(rng: Random, size: int, smallest: int, largest: int) -> list[int]:
    """Labels of random connected regions of about `smallest` to `largest` cells; leftovers join a neighbour, so that a
    region can be larger."""
    labels = [-1] * (size * size)
    order = rng.sample(range(size * size), size * size)
    count = 0
    for start in order:
        if labels[start] >= 0:
            continue
        region, wanted = [start], rng.randint(smallest, largest)
        labels[start] = count
        while len(region) < wanted:
            edge = sorted({o for cell in region for o in orthogonal(size, cell) if labels[o] < 0})
            if not edge:
                break
            region.append(rng.choice(edge))
            labels[region[-1]] = count
        if len(region) < smallest:
            near = sorted({labels[o] for cell in region for o in orthogonal(size, cell)} - {count})
            into = rng.choice(near)
            for cell in region:
                labels[cell] = into
        else:
            count += 1
    return in_reading_order(labels)

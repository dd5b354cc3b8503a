"""What a kind of puzzle is, and the rules that several kinds share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from stillroom.tasks.puzzles.board import Board, Puzzle, columns, groups, neighbours, numbers, rows
from stillroom.tasks.puzzles.rules import AllDifferent, Count, Pair, Rule, pair
from stillroom.tasks.puzzles.solver import model_of, search

Clues = dict[str, Any]
EMPTY, FULL = 1, 2
"""Masks of the alphabet `SELECT`."""


@dataclass(frozen=True)
class Kind:
    """A kind of puzzle: how it is made, what its rules are, how they are told."""

    name: str
    gist: str
    """In one line."""
    sizes: tuple[int, ...]
    """Sizes of the benchmark."""
    smallest: int
    """Boards below this size have no or hardly any solutions."""
    values: Callable[[int], tuple[str, ...]]
    """The alphabet of a size."""
    legend: str
    """What the values mean."""
    told: Mapping[str, str]
    """Name of each rule → its sentence, in the order in which they are checked."""
    make: Callable[[Random, int], tuple[Board, Clues]]
    """A random solution with its clues."""
    rules: Callable[[Puzzle], list[Rule]]
    always_given: tuple[str, ...] = ()
    """Values that are part of the question wherever they stand: walls, trees."""
    trim: Callable[[Clues, Board], Clues] | None = None
    """Clues that only cells shown carry; None: clues do not depend on the cells shown."""
    fits: Callable[[int], bool] = lambda size: True
    """Whether a size from `smallest` on is possible."""
    misfit: str = ""
    """Why a size does not fit."""


def latin_rules(size: int) -> list[Rule]:
    """No repeats in rows and columns."""
    return [
        *(AllDifferent("row repeats", f"row {i + 1}", cells, size) for i, cells in enumerate(rows(size))),
        *(AllDifferent("column repeats", f"column {i + 1}", cells, size) for i, cells in enumerate(columns(size))),
    ]


LATIN = {
    "row repeats": "Every row has every number once.",
    "column repeats": "Every column has every number once.",
}


def region_rules(name: str, labels: Sequence[int], size: int) -> list[Rule]:
    """No repeats in the groups of cells with one label."""
    what = name.removesuffix(" repeats")
    return [AllDifferent(name, f"{what} {i + 1}", cells, size) for i, cells in enumerate(groups(labels))]


def count_rules(puzzle: Puzzle, mask: int, what: str) -> list[Rule]:
    """The counts beside the rows and below the columns, of cells whose value is in the mask."""
    size = puzzle.size
    counts = {"row": (puzzle.clues["rows"], rows(size)), "column": (puzzle.clues["columns"], columns(size))}
    return [
        Count(f"{line} {what}", f"{line} {i + 1}", cells, mask, total, total)
        for line, (totals, lines) in counts.items()
        for i, (total, cells) in enumerate(zip(totals, lines, strict=True))
    ]


def counts_of(solution: Sequence[str], size: int, value: str) -> Clues:
    """How often the value stands in each row and column."""
    return {
        "rows": [sum(solution[cell] == value for cell in cells) for cells in rows(size)],
        "columns": [sum(solution[cell] == value for cell in cells) for cells in columns(size)],
    }


def not_touching(name: str, size: int, mask: int) -> list[Rule]:
    """No two cells of the mask touch, not even diagonally: at most one in each 2 × 2 square."""
    return [
        Count(name, f"the square at r{r + 1}c{c + 1}", (at, at + 1, at + size, at + size + 1), mask, 0, 1)
        for r in range(size - 1)
        for c in range(size - 1)
        for at in [r * size + c]
    ]


def differ(name: str, where: str, cells: tuple[int, int], size: int) -> Pair:
    return pair(name, where, cells, size, ((a, b) for a in range(size) for b in range(size) if a != b))


def decode(indices: Sequence[int], values: Sequence[str]) -> Board:
    """From positions in the alphabet to values."""
    return tuple(values[index] for index in indices)


def random_solution(rng: Random, rules: Sequence[Rule], values: Sequence[str], cells: int, nodes: int) -> Board | None:
    """Some board that keeps the rules; None when none was met within that many nodes."""
    model = model_of(rules, len(values), cells)
    found = search(model, model.open, limit=1, nodes=nodes, rng=rng)
    return decode(found.solutions[0], values) if found.solutions else None


def latin_square(rng: Random, size: int, more: Sequence[Rule] = ()) -> Board | None:
    """A random Latin square that keeps more rules too; None when the search gave up."""
    return random_solution(rng, [*latin_rules(size), *more], numbers(size), size * size, nodes=size * (size + 2))


def some_latin_square(rng: Random, size: int, more: Sequence[Rule] = ()) -> Board:
    """As `latin_square`, tried until there is one; for rules that are known to be possible."""
    while True:
        found = latin_square(rng, size, more)
        if found is not None:
            return found


def some_neighbours(rng: Random, size: int, share: float) -> list[tuple[int, int]]:
    """Each pair of cells that share an edge, with that probability."""
    return [cells for cells in neighbours(size) if rng.random() < share]

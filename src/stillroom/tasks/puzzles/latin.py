"""Latin squares with clues between or beside the cells: futoshiki, renzoku, skyscraper."""

from collections.abc import Sequence
from random import Random

from stillroom.tasks.puzzles.board import Board, Puzzle, columns, numbers, place, rows
from stillroom.tasks.puzzles.kind import LATIN, Clues, Kind, latin_rules, some_latin_square, some_neighbours
from stillroom.tasks.puzzles.rules import Rule, Visible, pair

_SIGNS, _DOTS = 0.4, 0.7  # shares of the possible clues that a puzzle shows


def _futoshiki(rng: Random, size: int) -> tuple[Board, Clues]:
    board = some_latin_square(rng, size)
    signs = [
        [a, b] if int(board[a]) < int(board[b]) else [b, a] for a, b in some_neighbours(rng, size, _SIGNS)
    ]  # fmt: skip
    return board, {"signs": signs}


def _futoshiki_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    less = [(a, b) for a in range(size) for b in range(size) if a < b]
    return [
        *latin_rules(size),
        *(pair("inequality", _between(size, a, b), (a, b), size, less) for a, b in puzzle.clues["signs"]),
    ]


def _renzoku(rng: Random, size: int) -> tuple[Board, Clues]:
    board = some_latin_square(rng, size)
    dots = [[a, b] for a, b in some_neighbours(rng, size, _DOTS) if abs(int(board[a]) - int(board[b])) == 1]
    return board, {"dots": dots}


def _renzoku_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    next_to = [(a, b) for a in range(size) for b in range(size) if abs(a - b) == 1]
    return [
        *latin_rules(size),
        *(pair("dot", _between(size, a, b), (a, b), size, next_to) for a, b in puzzle.clues["dots"]),
    ]


def _between(size: int, a: int, b: int) -> str:
    return f"{place(size, a)} and {place(size, b)}"


def visible(heights: Sequence[int]) -> int:
    """How many are higher than all before them."""
    return sum(height > max(heights[:index], default=-1) for index, height in enumerate(heights))


def _sides(size: int) -> dict[str, list[tuple[int, ...]]]:
    """The lines of cells that one looks along from each side."""
    return {
        "top": columns(size),
        "bottom": [cells[::-1] for cells in columns(size)],
        "left": rows(size),
        "right": [cells[::-1] for cells in rows(size)],
    }


def _skyscraper(rng: Random, size: int) -> tuple[Board, Clues]:
    board = some_latin_square(rng, size)
    return board, {
        side: [visible([int(board[cell]) for cell in cells]) for cells in lines]
        for side, lines in _sides(size).items()
    }  # fmt: skip


def _skyscraper_rules(puzzle: Puzzle) -> list[Rule]:
    seen: list[Rule] = []
    for side, lines in _sides(puzzle.size).items():
        line = "column" if side in ("top", "bottom") else "row"
        totals: list[int] = puzzle.clues[side]
        for index, (cells, total) in enumerate(zip(lines, totals, strict=True)):
            seen.append(Visible("visible buildings", f"{line} {index + 1} from the {side}", cells, total))
    return [*latin_rules(puzzle.size), *seen]


FUTOSHIKI = Kind(
    name="futoshiki",
    gist="a Latin square with signs that say which neighbour is smaller",
    sizes=(4, 8, 12),
    smallest=2,
    values=numbers,
    legend="numbers",
    told={**LATIN, "inequality": "A sign between two neighbours says which of them is smaller."},
    make=_futoshiki,
    rules=_futoshiki_rules,
)
RENZOKU = Kind(
    name="renzoku",
    gist="a Latin square whose dots mark neighbours that differ by 1",
    sizes=(4, 8, 12),
    smallest=4,
    values=numbers,
    legend="numbers",
    told={
        **LATIN,
        "dot": "Two neighbours with a dot between them differ by exactly 1. Without a dot they may differ by 1 or not.",
    },
    make=_renzoku,
    rules=_renzoku_rules,
)
SKYSCRAPER = Kind(
    name="skyscraper",
    gist="a Latin square of heights with how many can be seen from each side",
    sizes=(4, 8, 12),
    smallest=4,
    values=numbers,
    legend="heights of buildings",
    told={
        **LATIN,
        "visible buildings": "A number outside the board says how many buildings can be seen along its row or column "
        "from there; a building hides all lower ones behind it.",
    },
    make=_skyscraper,
    rules=_skyscraper_rules,
)

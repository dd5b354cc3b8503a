"""A puzzle as a picture that a person can read: board, clues, and what is decided so far."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle, groups
from stillroom.tasks.puzzles.shapes import Disc, Line, Number, Picture, Polygon, Rect, Shape, moved

_INK, _SOFT, _PALE = "#202020", "#808080", "#d0d0d0"
_ANSWER, _WATER, _RED, _GREEN, _ORANGE, _YELLOW = "#1f58c8", "#6fb7ea", "#d62728", "#22963c", "#e8801a", "#f5c518"
_COLORS = (
    *("#f4a6a6", "#a6d8f4", "#b5e3a1", "#f7e08a", "#d3b5ee", "#f6c391", "#9fe3d5", "#f3aede", "#c9c9c9", "#c8b08f"),
    *("#8fa8e8", "#dcf08a", "#e87f7f", "#7fc48f", "#ffffff", "#b0a0a0"),
)
_THIN, _THICK = 0.03, 0.1


def draw(puzzle: Puzzle, board: Board | None = None) -> Picture:
    """The picture of a puzzle.

    Args:
        board: a board to show in it, e.g. a solution; what was not given is blue. None: the board as it is given.
    """
    size, clues = puzzle.size, puzzle.clues
    left, top, right, bottom = _margins(puzzle)
    shapes: list[Shape] = []
    for layer in (
        _backgrounds(puzzle, board or puzzle.given),
        _tubes(puzzle, board or puzzle.given),
        _grid(size),
        _borders(size, clues.get("regions", [0] * (size * size))),
        _cages(size, clues),
        _values(puzzle, board or puzzle.given),
        _between(size, clues),
        _outside(puzzle),
    ):
        shapes += (moved(shape, left, top) for shape in layer)
    return Picture(left + size + right, top + size + bottom, tuple(shapes))


def _margins(puzzle: Puzzle) -> tuple[int, int, int, int]:
    """Cells left, above, right and below of the board."""
    clues = puzzle.clues
    if "top" in clues:
        return 1, 1, 1, 1
    if puzzle.kind == "nonogram":
        most = max(len(runs) for runs in [*clues["rows"], *clues["columns"]])
        reach = max(1, math.ceil(0.62 * most))
        return reach, reach, 0, 0
    if "rows" in clues:
        weights = 1 if puzzle.kind == "kakurasu" else 0
        return weights, weights, 1, 2 if "fleet" in clues else 1
    return 0, 0, 0, 0


def _centre(size: int, cell: int) -> tuple[float, float]:
    return cell % size + 0.5, cell // size + 0.5


def _backgrounds(puzzle: Puzzle, board: Sequence[str]) -> Iterator[Shape]:
    size, colors, marks = puzzle.size, puzzle.clues.get("colors"), puzzle.clues.get("marks")
    fills = {"aquarium": _WATER, "hitori": "#404040", "kakurasu": _INK, "nonogram": _INK}
    yield Rect(0, 0, size, size, "#ffffff")
    for cell in range(size * size):
        x, y = cell % size, cell // size
        if colors:
            yield Rect(x, y, 1, 1, _COLORS[colors[cell] % len(_COLORS)])
        if marks and marks[cell] != UNDECIDED:
            middle = _centre(size, cell)
            yield Disc(*middle, 0.44, _PALE, 0.0 if marks[cell] == "b" else 0.38)
        if board[cell] == "#":
            yield Rect(x, y, 1, 1, _INK)
        if board[cell] == "s" and puzzle.kind in fills:
            pad = 0.0 if puzzle.kind == "aquarium" else 0.06
            yield Rect(x + pad, y + pad, 1 - 2 * pad, 1 - 2 * pad, fills[puzzle.kind])


def _tubes(puzzle: Puzzle, board: Sequence[str]) -> Iterator[Shape]:
    size = puzzle.size
    for tube in puzzle.clues.get("tubes", ()):
        filled = [board[cell] == "s" for cell in tube]
        for color, width, bulb, all_of in (
            (_SOFT, 0.5, 0.42, True),
            ("#ffffff", 0.4, 0.37, True),
            (_RED, 0.3, 0.3, False),
        ):
            if all_of or filled[0]:
                yield Disc(*_centre(size, tube[0]), bulb, color)
            for at, (a, b) in enumerate(pairwise(tube)):
                if all_of or all(filled[at : at + 2]):
                    yield Line(*_centre(size, a), *_centre(size, b), color, width)
            for cell, has in zip(tube, filled, strict=True):
                if all_of or has:
                    yield Disc(*_centre(size, cell), width / 2, color)


def _grid(size: int) -> Iterator[Shape]:
    for at in range(size + 1):
        yield Line(at, 0, at, size, _SOFT, _THIN)
        yield Line(0, at, size, at, _SOFT, _THIN)


def _borders(size: int, regions: Sequence[int]) -> Iterator[Shape]:
    """Thick lines between cells of different regions and around the board."""
    edge = _THICK / 2
    for x, y, width, height in (
        (0, 0, size, edge), (0, size - edge, size, edge), (0, 0, edge, size), (size - edge, 0, edge, size)
    ):  # fmt: skip
        yield Rect(x, y, width, height, _INK)
    for cell in range(size * size):
        x, y = cell % size, cell // size
        if x + 1 < size and regions[cell] != regions[cell + 1]:
            yield Line(x + 1, y, x + 1, y + 1, _INK, _THICK)
        if y + 1 < size and regions[cell] != regions[cell + size]:
            yield Line(x, y + 1, x + 1, y + 1, _INK, _THICK)


def _cages(size: int, clues: dict[str, Any]) -> Iterator[Shape]:
    """Dashes just inside each cage, and its sum in its first cell."""
    cages = clues.get("cages")
    if not cages:
        return
    for cell in range(size * size):
        x, y = cell % size, cell // size
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inside = 0 <= x + dx < size and 0 <= y + dy < size
            if inside and cages[cell + dx + dy * size] == cages[cell]:
                continue
            for start in (0.12, 0.34, 0.56, 0.78):
                along, across = start, 0.5 + 0.4 * (dx + dy)
                if dx:
                    yield Line(x + across, y + along, x + across, y + along + 0.1, _ANSWER, 0.02)
                else:
                    yield Line(x + along, y + across, x + along + 0.1, y + across, _ANSWER, 0.02)
    for cells, total in zip(groups(cages), clues["sums"], strict=True):
        x, y = cells[0] % size, cells[0] // size
        wide = 0.22 * len(str(total))
        yield Rect(x + 0.06, y + 0.06, wide, 0.3, "#ffffff")
        yield Number(x + 0.06 + wide / 2, y + 0.22, str(total), 0.34, _ANSWER)


def _values(puzzle: Puzzle, board: Sequence[str]) -> Iterator[Shape]:
    size, numbers = puzzle.size, puzzle.clues.get("numbers")
    for cell, value in enumerate(board):
        x, y = _centre(size, cell)
        shaded = value == "s" and puzzle.kind == "hitori"
        if numbers and numbers[cell] is not None:
            color = "#ffffff" if shaded or value == "#" else _INK
            yield Number(x, y, str(numbers[cell]), 0.6, color)
        color = _INK if puzzle.given[cell] != UNDECIDED else _ANSWER
        if value.isdigit():
            down = 0.1 if "cages" in puzzle.clues else 0.0
            yield Number(x, y + down, value, 0.62, color)
        elif value == "e" and not (numbers and numbers[cell] is not None and puzzle.kind == "field-explore"):
            if puzzle.kind == "hitori":
                yield Disc(x, y, 0.45, color, 0.4)
            else:
                yield from (Line(x - d, y - 0.1, x + d, y + 0.1, _SOFT, 0.04) for d in (0.1, -0.1))
        elif value in _GLYPHS:
            yield from _GLYPHS[value](x, y)
        elif value == "s":
            yield from _SELECTED.get(puzzle.kind, _nothing)(x, y)


def _nothing(x: float, y: float) -> Iterator[Shape]:
    yield from ()


def _white(x: float, y: float) -> Iterator[Shape]:
    yield Disc(x, y, 0.38, _INK, 0.31)


def _black(x: float, y: float) -> Iterator[Shape]:
    yield Disc(x, y, 0.38, _INK)


def _tree(x: float, y: float) -> Iterator[Shape]:
    yield Rect(x - 0.06, y + 0.1, 0.12, 0.32, "#7a4a1e")
    yield Disc(x, y - 0.1, 0.3, _GREEN)


def _tent(x: float, y: float) -> Iterator[Shape]:
    yield Polygon(((x, y - 0.34), (x + 0.38, y + 0.34), (x - 0.38, y + 0.34)), _ORANGE)
    yield Polygon(((x, y - 0.02), (x + 0.12, y + 0.34), (x - 0.12, y + 0.34)), "#ffffff")


def _mine(x: float, y: float) -> Iterator[Shape]:
    yield Disc(x, y, 0.25, _INK)
    for turn in range(4):
        dx, dy = 0.36 * math.cos(turn * math.pi / 4), 0.36 * math.sin(turn * math.pi / 4)
        yield Line(x - dx, y - dy, x + dx, y + dy, _INK, 0.06)


def _lamp(x: float, y: float) -> Iterator[Shape]:
    yield Disc(x, y, 0.36, _ORANGE)
    yield Disc(x, y, 0.28, _YELLOW)


def _star(x: float, y: float) -> Iterator[Shape]:
    turns = ((0.4 if i % 2 == 0 else 0.16, math.pi * i / 5) for i in range(10))
    yield Polygon(tuple((x + r * math.sin(a), y - r * math.cos(a)) for r, a in turns), _RED)


_GLYPHS = {"w": _white, "b": _black, "tr": _tree, "tt": _tent}
_SELECTED = {"battleships": _black, "field-explore": _mine, "light-up": _lamp, "star-battle": _star}


def _between(size: int, clues: dict[str, Any]) -> Iterator[Shape]:
    """Signs that open towards the larger cell, and dots, on the edge between two cells."""
    for small, large in clues.get("signs", ()):
        (ax, ay), (bx, by) = _centre(size, small), _centre(size, large)
        x, y, dx, dy = (ax + bx) / 2, (ay + by) / 2, bx - ax, by - ay
        tip = (x - 0.1 * dx, y - 0.1 * dy)
        yield Rect(x - 0.13, y - 0.13, 0.26, 0.26, "#ffffff")
        for side in (1, -1):
            open_end = (x + 0.1 * dx + side * 0.12 * dy, y + 0.1 * dy + side * 0.12 * dx)
            yield Line(*tip, *open_end, _RED, 0.05)
    for a, b in clues.get("dots", ()):
        (ax, ay), (bx, by) = _centre(size, a), _centre(size, b)
        yield Disc((ax + bx) / 2, (ay + by) / 2, 0.13, _INK)


def _outside(puzzle: Puzzle) -> Iterator[Shape]:
    """Numbers beside rows and columns, and the fleet."""
    size, clues = puzzle.size, puzzle.clues
    for side, (x, y, dx, dy) in {
        "top": (0.5, -0.5, 1, 0),
        "bottom": (0.5, size + 0.5, 1, 0),
        "left": (-0.5, 0.5, 0, 1),
        "right": (size + 0.5, 0.5, 0, 1),
    }.items():
        for at, number in enumerate(clues.get(side, ())):
            yield Number(x + at * dx, y + at * dy, str(number), 0.55, _INK)
    if puzzle.kind == "nonogram":
        for at, runs in enumerate(clues["rows"]):
            for back, run in enumerate(reversed(runs or [0])):
                yield Number(-0.36 - 0.6 * back, at + 0.5, str(run), 0.5, _INK)
        for at, runs in enumerate(clues["columns"]):
            for back, run in enumerate(reversed(runs or [0])):
                yield Number(at + 0.5, -0.36 - 0.6 * back, str(run), 0.5, _INK)
    elif "rows" in clues:
        for at in range(size):
            yield Number(size + 0.5, at + 0.5, str(clues["rows"][at]), 0.55, _INK)
            yield Number(at + 0.5, size + 0.5, str(clues["columns"][at]), 0.55, _INK)
            if puzzle.kind == "kakurasu":
                yield Number(-0.5, at + 0.5, str(at + 1), 0.4, _SOFT)
                yield Number(at + 0.5, -0.5, str(at + 1), 0.4, _SOFT)
    if "fleet" in clues:
        unit = min(0.5, (size + 1) / (sum(clues["fleet"]) + len(clues["fleet"])))
        x = 0.0
        for length in clues["fleet"]:
            for part in range(length):
                yield Disc(x + (part + 0.5) * unit, size + 1.5, 0.45 * unit, _INK)
            x += (length + 1) * unit

"""A puzzle in words: its rules, its board, its clues; and boards read back from what a model wrote."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle, boxes, place, text_of
from stillroom.tasks.puzzles.kinds import kind_of

_LONGEST = 4000  # characters of an answer; a board of 16 × 16 with two digits a cell has 800
_SPLIT = re.compile(r"[\s,|]+")
ANSWER = "Answer with the whole board, a line per row, cells separated by spaces."


def describe(puzzle: Puzzle) -> str:
    """Everything that a solver needs, as text."""
    return "\n".join([rules_text(puzzle), board_text(puzzle), *clue_lines(puzzle), ANSWER])


def rules_text(puzzle: Puzzle) -> str:
    """The kind, the size, what values mean, and every rule."""
    kind, size = kind_of(puzzle.kind), puzzle.size
    values = kind.values(size)
    legend = f"numbers 1 to {size}" if values[0] == "1" else "values"
    meaning = kind.legend.replace("numbers", "", 1).strip("; ") if legend != "values" else kind.legend
    head = f"{kind.name.replace('-', ' ').capitalize()}, {size} rows, {size} columns, {legend}"
    return "\n".join([f"{head}: {meaning}." if meaning else f"{head}.", *(f"- {told}" for told in kind.told.values())])


def board_text(puzzle: Puzzle) -> str:
    """The board as it is shown."""
    return f"Board ({UNDECIDED} is undecided):\n{text_of(puzzle.given, puzzle.size)}"


def clue_lines(puzzle: Puzzle) -> list[str]:
    """Each clue as a line, or as a heading and a board of labels."""
    return [line for name, clue in puzzle.clues.items() for line in [_CLUES[name](puzzle, clue)] if line]


def _regions(puzzle: Puzzle, clue: Any) -> str:
    if "box repeats" in kind_of(puzzle.kind).told:
        width = sum(label == 0 for label in clue[: puzzle.size])
        return f"Boxes: {puzzle.size // width} rows high, {width} columns wide." if clue == boxes(puzzle.size) else ""
    return _lettered("Tanks" if puzzle.kind == "aquarium" else "Regions", puzzle, clue)


def _lettered(title: str, puzzle: Puzzle, labels: Sequence[int]) -> str:
    return f"{title}:\n{text_of([letter(label) for label in labels], puzzle.size)}"


def letter(label: int) -> str:
    """A … Z, AA, AB, …"""
    return (letter(label // 26 - 1) if label >= 26 else "") + chr(65 + label % 26)


def _numbers(puzzle: Puzzle, clue: Any) -> str:
    return f"Numbers:\n{text_of([UNDECIDED if n is None else str(n) for n in clue], puzzle.size)}"


def _list(title: str) -> Callable[[Puzzle, Any], str]:
    def line(puzzle: Puzzle, clue: Any) -> str:
        shown = (" ".join(map(str, one)) or "0" if isinstance(one, list) else str(one) for one in clue)
        return f"{title}: {', '.join(shown)}"

    return line


def _pairs(title: str, sign: str) -> Callable[[Puzzle, Any], str]:
    def line(puzzle: Puzzle, clue: Any) -> str:
        shown = (f"{place(puzzle.size, a)}{sign}{place(puzzle.size, b)}" for a, b in clue)
        return f"{title}: {', '.join(shown) or 'none'}"

    return line


def _tubes(puzzle: Puzzle, clue: Any) -> str:
    return f"Thermometers from the bulb: {'; '.join(' '.join(place(puzzle.size, c) for c in tube) for tube in clue)}"


_CLUES: dict[str, Callable[[Puzzle, Any], str]] = {
    "regions": _regions,
    "colors": lambda puzzle, clue: _lettered("Colors", puzzle, clue),
    "cages": lambda puzzle, clue: _lettered("Cages", puzzle, clue),
    "sums": lambda puzzle, clue: "Sums: " + ", ".join(f"{letter(label)}={total}" for label, total in enumerate(clue)),
    "marks": lambda puzzle, clue: f"Marks:\n{text_of(clue, puzzle.size)}",
    "numbers": _numbers,
    "rows": _list("Beside the rows"),
    "columns": _list("At the columns"),
    "top": _list("Seen from the top"),
    "bottom": _list("Seen from the bottom"),
    "left": _list("Seen from the left"),
    "right": _list("Seen from the right"),
    "fleet": _list("Fleet"),
    "signs": _pairs("Signs", "<"),
    "dots": _pairs("Dots", "-"),
    "tubes": _tubes,
}


def read_board(text: str, size: int) -> tuple[Board | None, str]:
    """The board that a text is, and why it is none: JSON (a list of rows) or a line per row, rows also parted by
    slashes; cells parted by spaces, commas or bars, or not at all when each is one character.

    Total and bounded for any text. The values are not looked at.
    """
    if len(text) > _LONGEST:
        return None, "answer too long"
    text = text.strip()
    rows = _json_rows(text) if text.startswith("[") else _lines(text, size)
    if rows is None:
        return None, "not a board"
    if len(rows) != size:
        return None, f"{len(rows)} rows instead of {size}"
    for number, row in enumerate(rows, 1):
        if len(row) != size:
            return None, f"row {number} has {len(row)} cells instead of {size}"
    return tuple(cell for row in rows for cell in row), ""


def _json_rows(text: str) -> list[list[str]] | None:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    cells = [cell for row in rows for cell in row]
    if not all(isinstance(cell, str) or (isinstance(cell, int) and abs(cell) < 1000) for cell in cells):
        return None
    if any(isinstance(cell, bool) for cell in cells):
        return None
    return [[str(cell).strip() for cell in row] for row in rows]


def _lines(text: str, size: int) -> list[list[str]]:
    lines = [line for line in re.split(r"[\n/]", text) if line.strip()]
    rows = [[cell for cell in _SPLIT.split(line) if cell] for line in lines]
    return [list(row[0]) if len(row) == 1 and len(row[0]) == size > 1 else row for row in rows]

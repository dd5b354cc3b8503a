"""Black and white by lines: binairo, nonogram, hitori."""

from itertools import groupby
from random import Random

from stillroom.tasks.puzzles.board import SELECT, Board, Puzzle, columns, groups, neighbours, orthogonal, place, rows
from stillroom.tasks.puzzles.kind import FULL, Clues, Kind, random_solution, some_latin_square
from stillroom.tasks.puzzles.rules import Connected, Count, Rule, Runs

_COLOURS = ("w", "b")
_FILLED = (0.5, 0.65)  # share of the filled cells of a nonogram
_SHADED = 0.22  # share of the shaded cells of a hitori; hardly more fit


def binairo_rules(size: int) -> list[Rule]:
    """Half white, half black, never three alike in line. That no two lines are equal is not a rule here."""
    found: list[Rule] = []
    for line, lines in (("row", rows(size)), ("column", columns(size))):
        for index, cells in enumerate(lines):
            where = f"{line} {index + 1}"
            found.append(Count("half white", where, cells, 1, size // 2, size // 2))
            found += [
                Count("three alike", f"{where} from {place(size, cells[i])}", cells[i : i + 3], 1, 1, 2)
                for i in range(size - 2)
            ]
    return found


def _binairo(rng: Random, size: int) -> tuple[Board, Clues]:
    while True:
        board = random_solution(rng, binairo_rules(size), _COLOURS, size * size, nodes=size * (size + 2))
        if board is not None:
            return board, {}


def runs_of(cells: list[str]) -> list[int]:
    """Lengths of the runs of s."""
    return [len(list(run)) for value, run in groupby(cells) if value == "s"]


def _nonogram(rng: Random, size: int) -> tuple[Board, Clues]:
    share = rng.uniform(*_FILLED)
    board = tuple("s" if rng.random() < share else "e" for _ in range(size * size))
    return board, {
        "rows": [runs_of([board[cell] for cell in cells]) for cells in rows(size)],
        "columns": [runs_of([board[cell] for cell in cells]) for cells in columns(size)],
    }


def _nonogram_rules(puzzle: Puzzle) -> list[Rule]:
    lines = {"row": rows(puzzle.size), "column": columns(puzzle.size)}
    return [
        Runs(f"{line} runs", f"{line} {i + 1}", cells, tuple(runs))
        for line, all_cells in lines.items()
        for i, (cells, runs) in enumerate(zip(all_cells, puzzle.clues[f"{line}s"], strict=True))
    ]


def _hitori(rng: Random, size: int) -> tuple[Board, Clues]:
    """A Latin square in which each shaded cell got a number that an unshaded one in its row or column has."""
    while True:
        square = some_latin_square(rng, size)
        board = _shading(rng, size)
        shown = list(map(int, square))
        for cell in (cell for cell, value in enumerate(board) if value == "s"):
            row, column = divmod(cell, size)
            seen = {int(square[o]) for o in (*rows(size)[row], *columns(size)[column]) if board[o] == "e"}
            shown[cell] = rng.choice(sorted(seen - {int(square[cell])}))
        return board, {"numbers": shown}


def _shading(rng: Random, size: int) -> Board:
    board = ["e"] * (size * size)
    for cell in rng.sample(range(size * size), size * size):
        if board.count("s") >= _SHADED * size * size:
            break
        if all(board[other] == "e" for other in orthogonal(size, cell)):
            board[cell] = "s"
            if not _in_one_piece(board, size):
                board[cell] = "e"
    return tuple(board)


def _in_one_piece(board: list[str], size: int) -> bool:
    start = board.index("e")
    reached, frontier = {start}, [start]
    while frontier:
        for other in orthogonal(size, frontier.pop()):
            if board[other] == "e" and other not in reached:
                reached.add(other)
                frontier.append(other)
    return len(reached) == board.count("e")


def _hitori_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    shown: list[int] = puzzle.clues["numbers"]
    found: list[Rule] = []
    for line, lines in (("row", rows(size)), ("column", columns(size))):
        for index, cells in enumerate(lines):
            for same in groups([shown[cell] for cell in cells]):
                if len(same) > 1:
                    where = f"{shown[cells[same[0]]]} in {line} {index + 1}"
                    found.append(Count("number repeats", where, tuple(cells[i] for i in same), 1, 0, 1))
    found += [
        Count("shaded neighbours", f"{place(size, a)} and {place(size, b)}", (a, b), FULL, 0, 1)
        for a, b in neighbours(size)
    ]
    edges = tuple(tuple(orthogonal(size, cell)) for cell in range(size * size))
    return [*found, Connected("unshaded in one piece", "the board", tuple(range(size * size)), 1, edges)]


BINAIRO = Kind(
    name="binairo",
    gist="half white, half black, never three alike in line",
    sizes=(4, 8, 12),
    smallest=4,
    values=lambda size: _COLOURS,
    legend="w white, b black",
    told={
        "half white": "Every row and every column has as many white as black cells.",
        "three alike": "Nowhere in a row or column are three cells next to each other alike.",
    },
    make=_binairo,
    rules=lambda puzzle: binairo_rules(puzzle.size),
    fits=lambda size: size % 2 == 0,
    misfit="half of a line is white: give an even size",
)
NONOGRAM = Kind(
    name="nonogram",
    gist="runs of filled cells whose lengths are given",
    sizes=(5, 8, 12),
    smallest=3,
    values=lambda size: SELECT,
    legend="s filled, e empty",
    told={
        "row runs": "The numbers beside a row are the lengths of its runs of filled cells, from left to right; between "
        "two runs is at least one empty cell.",
        "column runs": "The numbers above a column are the lengths of its runs, from top to bottom.",
    },
    make=_nonogram,
    rules=_nonogram_rules,
)
HITORI = Kind(
    name="hitori",
    gist="shade repeated numbers, keep the rest in one piece",
    sizes=(4, 8, 12),
    smallest=3,
    values=lambda size: SELECT,
    legend="s shaded, e not shaded",
    told={
        "number repeats": "Among the unshaded cells of a row or column no number stands twice.",
        "shaded neighbours": "Shaded cells do not touch left and right, above and below.",
        "unshaded in one piece": "All unshaded cells hang together by their edges.",
    },
    make=_hitori,
    rules=_hitori_rules,
)

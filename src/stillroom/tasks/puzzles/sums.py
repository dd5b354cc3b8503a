"""Row and column sums: kakurasu, and the variant of kakuro that fills the whole board."""

from random import Random

from stillroom.tasks.puzzles.board import SELECT, Board, Puzzle, columns, neighbours, numbers, place, rows
from stillroom.tasks.puzzles.kind import Clues, Kind, differ
from stillroom.tasks.puzzles.rules import Rule, WeightedSum


def _line_sums(puzzle: Puzzle, name: str, counted: tuple[int, ...], weights: tuple[int, ...]) -> list[Rule]:
    lines = {"row": rows(puzzle.size), "column": columns(puzzle.size)}
    return [
        WeightedSum(f"{line} {name}", f"{line} {i + 1}", cells, weights, counted, total)
        for line, all_cells in lines.items()
        for i, (cells, total) in enumerate(zip(all_cells, puzzle.clues[f"{line}s"], strict=True))
    ]


def _kakurasu(rng: Random, size: int) -> tuple[Board, Clues]:
    board = tuple(rng.choice(SELECT) for _ in range(size * size))

    def weigh(cells: tuple[int, ...]) -> int:
        return sum(index + 1 for index, cell in enumerate(cells) if board[cell] == "s")

    return board, {"rows": [weigh(cells) for cells in rows(size)], "columns": [weigh(cells) for cells in columns(size)]}


def _kakuro(rng: Random, size: int) -> tuple[Board, Clues]:
    board: list[int] = []
    for cell in range(size * size):
        taken = {board[cell - 1] if cell % size else 0, board[cell - size] if cell >= size else 0}
        board.append(rng.choice([number for number in range(1, size + 1) if number not in taken]))
    sums = {
        "rows": [sum(board[cell] for cell in cells) for cells in rows(size)],
        "columns": [sum(board[cell] for cell in cells) for cells in columns(size)],
    }
    return tuple(map(str, board)), sums


def _kakuro_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    return [
        *_line_sums(puzzle, "sum", tuple(range(1, size + 1)), (1,) * size),
        *(
            differ("equal neighbours", f"{place(size, a)} and {place(size, b)}", (a, b), size)
            for a, b in neighbours(size)
        ),
    ]


KAKURASU = Kind(
    name="kakurasu",
    gist="select cells whose weights add up to the sums of rows and columns",
    sizes=(4, 8, 12),
    smallest=2,
    values=lambda size: SELECT,
    legend="s selected, e empty",
    told={
        "row sum": "A selected cell weighs the number of its column, from 1; the number beside a row is the sum of the "
        "weights of its selected cells.",
        "column sum": "In a column a selected cell weighs the number of its row; the number below is their sum.",
    },
    make=_kakurasu,
    rules=lambda puzzle: _line_sums(puzzle, "sum", (0, 1), tuple(range(1, puzzle.size + 1))),
)
KAKURO = Kind(
    name="kakuro",
    gist="numbers with given row and column sums, neighbours differ",
    sizes=(4, 8, 12),
    smallest=3,
    values=numbers,
    legend="numbers; every cell has one",
    told={
        "row sum": "The number beside a row is the sum of its numbers.",
        "column sum": "The number below a column is the sum of its numbers.",
        "equal neighbours": "Neighbours left and right, above and below differ; else numbers may repeat.",
    },
    make=_kakuro,
    rules=_kakuro_rules,
)

"""Sudoku and its kin: usual boxes, irregular regions, colours, odd and even cells, cages with sums."""

from math import isqrt
from random import Random

from stillroom.tasks.puzzles.board import Board, Puzzle, boxes, groups, in_reading_order, numbers, orthogonal, place
from stillroom.tasks.puzzles.kind import LATIN, Clues, Kind, latin_rules, latin_square, region_rules, some_latin_square
from stillroom.tasks.puzzles.rules import Count, Rule, WeightedSum

_BOXES = {**LATIN, "box repeats": "Every box has every number once."}
_MARKED = 0.5  # share of cells that say whether they are odd or even
_CAGE = (2, 4)  # cells of a cage


def _box_rules(size: int) -> list[Rule]:
    return [*latin_rules(size), *region_rules("box repeats", boxes(size), size)]


def _square(size: int) -> bool:
    return isqrt(size) ** 2 == size


def _sudoku_board(rng: Random, size: int) -> Board:
    return some_latin_square(rng, size, region_rules("box repeats", boxes(size), size))


def _sudoku(rng: Random, size: int) -> tuple[Board, Clues]:
    return _sudoku_board(rng, size), {"regions": boxes(size)}


def _jigsaw(rng: Random, size: int) -> tuple[Board, Clues]:
    while True:
        labels = _irregular(rng, size)
        board = latin_square(rng, size, region_rules("region repeats", labels, size))
        if board is not None:
            return board, {"regions": in_reading_order(labels)}


def _irregular(rng: Random, size: int) -> list[int]:
    """Connected regions of `size` cells each: from rows or boxes, cells change hands between neighbours and back."""
    labels = boxes(size) if rng.random() < 0.7 else [cell // size for cell in range(size * size)]
    swaps = 0
    while swaps < 2 * size:
        one = rng.randrange(size * size)
        others = sorted({labels[o] for o in orthogonal(size, one)} - {labels[one]})
        if not others:
            continue
        mine, theirs = labels[one], rng.choice(others)
        # A cell of theirs that touches mine comes back in exchange, so that both keep their number of cells.
        moved = list(labels)
        moved[one] = theirs
        back = [
            cell
            for cell in range(size * size)
            if cell != one and moved[cell] == theirs and any(moved[o] == mine for o in orthogonal(size, cell))
        ]
        if not back:
            continue
        moved[rng.choice(back)] = mine
        if _whole(size, moved, mine) and _whole(size, moved, theirs):
            labels = moved
            swaps += 1
    return labels


def _whole(size: int, labels: list[int], label: int) -> bool:
    cells = [cell for cell, found in enumerate(labels) if found == label]
    reached, frontier = {cells[0]}, [cells[0]]
    while frontier:
        for other in orthogonal(size, frontier.pop()):
            if labels[other] == label and other not in reached:
                reached.add(other)
                frontier.append(other)
    return len(reached) == len(cells)


def _coloured(rng: Random, size: int) -> tuple[Board, Clues]:
    """Every colour takes one cell of each number."""
    board = some_latin_square(rng, size)
    colors = [0] * (size * size)
    for number in numbers(size):
        order = rng.sample(range(size), size)
        for color, cell in zip(order, (c for c, value in enumerate(board) if value == number), strict=True):
            colors[cell] = color
    return board, {"colors": colors}


def _odd_even(rng: Random, size: int) -> tuple[Board, Clues]:
    board = _sudoku_board(rng, size)
    marks = [("b" if int(value) % 2 else "w") if rng.random() < _MARKED else "." for value in board]
    return board, {"regions": boxes(size), "marks": marks}


def _odd_even_rules(puzzle: Puzzle) -> list[Rule]:
    size, marks = puzzle.size, puzzle.clues["marks"]
    odd = sum(1 << index for index in range(0, size, 2))
    even = sum(1 << index for index in range(1, size, 2))
    parity: list[Rule] = [
        Count(
            "odd cell" if mark == "b" else "even cell", place(size, cell), (cell,), odd if mark == "b" else even, 1, 1
        )
        for cell, mark in enumerate(marks)
        if mark != "."
    ]
    return [*_box_rules(size), *parity]


def _killer(rng: Random, size: int) -> tuple[Board, Clues]:
    """Cages without repeats, so that whoever forbids them in cages has the same puzzle."""
    board = _sudoku_board(rng, size)
    cages, count = [-1] * (size * size), 0
    for start in rng.sample(range(size * size), size * size):
        if cages[start] >= 0:
            continue
        cage, wanted = [start], rng.randint(*_CAGE)
        cages[start] = count
        while len(cage) < wanted:
            held = {board[cell] for cell in cage}
            near = {o for cell in cage for o in orthogonal(size, cell)}
            edge = sorted(cell for cell in near if cages[cell] < 0 and board[cell] not in held)
            if not edge:
                break
            cage.append(rng.choice(edge))
            cages[cage[-1]] = count
        count += 1
    cages = in_reading_order(cages)
    sums = [sum(int(board[cell]) for cell in cells) for cells in groups(cages)]
    return board, {"regions": boxes(size), "cages": cages, "sums": sums}


def _killer_rules(puzzle: Puzzle) -> list[Rule]:
    size, sums = puzzle.size, puzzle.clues["sums"]
    counted = tuple(range(1, size + 1))
    cages = groups(puzzle.clues["cages"])
    return [
        *_box_rules(size),
        *(
            WeightedSum("cage sum", f"the cage at {place(size, cells[0])}", cells, (1,) * len(cells), counted, total)
            for cells, total in zip(cages, sums, strict=True)
        ),
    ]


SUDOKU = Kind(
    name="sudoku",
    gist="rows, columns and square boxes without repeats",
    sizes=(4, 9),
    smallest=4,
    values=numbers,
    legend="numbers",
    told=_BOXES,
    make=_sudoku,
    rules=lambda puzzle: _box_rules(puzzle.size),
    fits=_square,
    misfit="its boxes are square: give 4 or 9",
)
JIGSAW = Kind(
    name="jigsaw-sudoku",
    gist="rows, columns and irregular regions without repeats",
    sizes=(4, 8, 12),
    smallest=4,
    values=numbers,
    legend="numbers",
    told={**LATIN, "region repeats": "Every region, drawn with thick lines, has every number once."},
    make=_jigsaw,
    rules=lambda puzzle: [
        *latin_rules(puzzle.size),
        *region_rules("region repeats", puzzle.clues["regions"], puzzle.size),
    ],
)
COLORED = Kind(
    name="colored-sudoku",
    gist="rows, columns and colors without repeats",
    sizes=(4, 8, 12),
    smallest=2,
    values=numbers,
    legend="numbers",
    told={**LATIN, "color repeats": "The cells of one color have every number once."},
    make=_coloured,
    rules=lambda puzzle: [
        *latin_rules(puzzle.size),
        *region_rules("color repeats", puzzle.clues["colors"], puzzle.size),
    ],
)
ODD_EVEN = Kind(
    name="odd-even-sudoku",
    gist="a sudoku with cells marked as odd or even",
    sizes=(4, 9),
    smallest=4,
    values=numbers,
    legend="numbers",
    told={**_BOXES, "even cell": "A cell marked w is even.", "odd cell": "A cell marked b is odd."},
    make=_odd_even,
    rules=_odd_even_rules,
    fits=_square,
    misfit="its boxes are square: give 4 or 9",
)
KILLER = Kind(
    name="killer-sudoku",
    gist="a sudoku with cages whose sums are given",
    sizes=(4, 9),
    smallest=4,
    values=numbers,
    legend="numbers",
    told={**_BOXES, "cage sum": "The numbers of a cage, outlined with dashes, add up to the number in its corner."},
    make=_killer,
    rules=_killer_rules,
    fits=_square,
    misfit="its boxes are square: give 4 or 9",
)

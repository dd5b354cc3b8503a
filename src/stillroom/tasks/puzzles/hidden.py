"""Numbers that count what is around them: field explore (minesweeper), light up."""

from random import Random

from stillroom.tasks.puzzles.board import SELECT, UNDECIDED, Board, Puzzle, around, columns, orthogonal, place, rows
from stillroom.tasks.puzzles.kind import EMPTY, FULL, Clues, Kind
from stillroom.tasks.puzzles.rules import Count, Rule

_MINES = 0.22
_WALLS = (0.12, 0.25)
_NUMBERED = 0.75  # share of the walls that carry their number
_WALL = 4  # mask of the alphabet e, s, #


# -- field explore


def _field(rng: Random, size: int) -> tuple[Board, Clues]:
    mines = set(rng.sample(range(size * size), max(2, round(_MINES * size * size))))
    board = tuple("s" if cell in mines else "e" for cell in range(size * size))
    return board, {
        "numbers": [
            None if cell in mines else sum(other in mines for other in around(size, cell))
            for cell in range(size * size)
        ]
    }


def _field_rules(puzzle: Puzzle) -> list[Rule]:
    shown: list[int | None] = puzzle.clues["numbers"]
    size = puzzle.size
    found: list[Rule] = []
    for cell, number in enumerate(shown):
        if number is not None:
            near = tuple(around(size, cell))
            found.append(Count("mines around", f"the {number} at {place(size, cell)}", near, FULL, number, number))
            found.append(Count("mine on a number", place(size, cell), (cell,), EMPTY, 1, 1))
    return found


def _field_trim(clues: Clues, given: Board) -> Clues:
    """A number is seen where its cell is shown."""
    pairs = zip(clues["numbers"], given, strict=True)
    return {"numbers": [number if value != UNDECIDED else None for number, value in pairs]}


# -- light up


def segments(size: int, walls: set[int]) -> list[tuple[int, ...]]:
    """Stretches of open cells in rows and columns, between walls: lamps in one of them see each other."""
    found = []
    for cells in (*rows(size), *columns(size)):
        stretch: list[int] = []
        for cell in (*cells, -1):
            if cell >= 0 and cell not in walls:
                stretch.append(cell)
            elif stretch:
                found.append(tuple(stretch))
                stretch = []
    return found


def seen_from(size: int, walls: set[int]) -> dict[int, tuple[int, ...]]:
    """Each open cell → itself and all that a lamp in it would light."""
    lit: dict[int, set[int]] = {cell: {cell} for cell in range(size * size) if cell not in walls}
    for stretch in segments(size, walls):
        for cell in stretch:
            lit[cell].update(stretch)
    return {cell: tuple(sorted(cells)) for cell, cells in lit.items()}


def _light_up(rng: Random, size: int) -> tuple[Board, Clues]:
    walls = set(rng.sample(range(size * size), max(2, round(rng.uniform(*_WALLS) * size * size))))
    lit = seen_from(size, walls)
    dark, lamps = set(lit), set()
    while dark:
        lamp = rng.choice(sorted(dark))
        lamps.add(lamp)
        dark -= set(lit[lamp])
    board = tuple("#" if cell in walls else "s" if cell in lamps else "e" for cell in range(size * size))
    shown = [
        sum(o in lamps for o in orthogonal(size, cell)) if cell in walls and rng.random() < _NUMBERED else None
        for cell in range(size * size)
    ]
    return board, {"numbers": shown}


def _light_up_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    walls = {cell for cell, value in enumerate(puzzle.given) if value == "#"}
    shown: list[int | None] = puzzle.clues["numbers"]
    found: list[Rule] = [
        Count("lamps see each other", f"from {place(size, cells[0])} to {place(size, cells[-1])}", cells, FULL, 0, 1)
        for cells in segments(size, walls)
        if len(cells) > 1
    ]
    for cell, number in enumerate(shown):
        if number is not None:
            near = tuple(orthogonal(size, cell))
            found.append(Count("wall number", f"the {number} at {place(size, cell)}", near, FULL, number, number))
    for cell, seen in seen_from(size, walls).items():
        found.append(Count("unlit cell", place(size, cell), seen, FULL, 1, len(seen)))
        found.append(Count("no new wall", place(size, cell), (cell,), _WALL, 0, 0))
    return found


FIELD_EXPLORE = Kind(
    name="field-explore",
    gist="mines from the numbers around them",
    sizes=(4, 8, 12),
    smallest=3,
    values=lambda size: SELECT,
    legend="s mine, e safe",
    told={
        "mines around": "A number says how many of the up to eight cells around it are mines.",
        "mine on a number": "A cell with a number is safe.",
    },
    make=_field,
    rules=_field_rules,
    trim=_field_trim,
)
LIGHT_UP = Kind(
    name="light-up",
    gist="lamps that light every cell and not each other",
    sizes=(4, 8, 12),
    smallest=3,
    values=lambda size: (*SELECT, "#"),
    legend="s lamp, e no lamp, # wall",
    told={
        "lamps see each other": "A lamp shines along its row and column up to the next wall, and on no other lamp.",
        "wall number": "A number on a wall says how many lamps are beside it, left and right, above and below.",
        "unlit cell": "Every cell that is no wall has a lamp or is lit by one.",
        "no new wall": "All walls are shown.",
    },
    make=_light_up,
    rules=_light_up_rules,
    always_given=("#",),
)

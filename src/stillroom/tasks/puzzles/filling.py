"""Water and mercury that fill up in order: aquarium, thermometers."""

from random import Random

from stillroom.tasks.puzzles.board import SELECT, Board, Puzzle, groups, orthogonal, partition, place
from stillroom.tasks.puzzles.kind import FULL, Clues, Kind, count_rules, counts_of
from stillroom.tasks.puzzles.rules import Count, Filling, Rule

_COVERED = 0.8  # least share of the board that thermometers take, where they fit


def _levels(size: int, tank: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The tank's cells row by row, from the bottom."""
    floors = sorted({cell // size for cell in tank}, reverse=True)
    return tuple(tuple(cell for cell in tank if cell // size == floor) for floor in floors)


def _aquarium(rng: Random, size: int) -> tuple[Board, Clues]:
    tanks = partition(rng, size, 2, size + 1)
    board = ["e"] * (size * size)
    for tank in groups(tanks):
        levels = _levels(size, tank)
        for level in levels[: rng.randint(0, len(levels))]:
            for cell in level:
                board[cell] = "s"
    return tuple(board), {"regions": tanks, **counts_of(board, size, "s")}


def _aquarium_rules(puzzle: Puzzle) -> list[Rule]:
    size, tanks = puzzle.size, groups(puzzle.clues["regions"])
    return [
        *count_rules(puzzle, FULL, "count"),
        *(Filling("water level", f"the tank at {place(size, tank[0])}", _levels(size, tank)) for tank in tanks),
    ]


def _thermometers(rng: Random, size: int) -> tuple[Board, Clues]:
    free, tubes = set(range(size * size)), list[list[int]]()
    for start in rng.sample(range(size * size), size * size):
        if len(free) <= (1 - _COVERED) * size * size:
            break
        if start not in free:
            continue
        tube, length = [start], rng.randint(2, max(3, size - 2))
        straight = rng.random() < 0.5
        while len(tube) < length:
            ahead = 2 * tube[-1] - tube[-2] if straight and len(tube) > 1 else None
            ways = [o for o in orthogonal(size, tube[-1]) if o in free and o not in tube and ahead in (None, o)]
            if not ways:
                break
            tube.append(rng.choice(ways))
        if len(tube) > 1:
            tubes.append(tube)
            free -= set(tube)
    board = ["e"] * (size * size)
    for tube in tubes:
        for cell in tube[: rng.randint(0, len(tube))]:
            board[cell] = "s"
    return tuple(board), {"tubes": tubes, **counts_of(board, size, "s")}


def _thermometers_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    tubes: list[list[int]] = puzzle.clues["tubes"]
    inside = {cell for tube in tubes for cell in tube}
    return [
        *count_rules(puzzle, FULL, "count"),
        *(Filling("mercury", f"the bulb at {place(size, tube[0])}", tuple((cell,) for cell in tube)) for tube in tubes),
        *(
            Count("outside", place(size, cell), (cell,), FULL, 0, 0)
            for cell in range(size * size)
            if cell not in inside
        ),
    ]


_COUNTS = {
    "row count": "The number beside a row says how many of its cells are filled.",
    "column count": "The number below a column says how many of its cells are filled.",
}
AQUARIUM = Kind(
    name="aquarium",
    gist="tanks that fill level by level, with counts of water",
    sizes=(4, 8, 12),
    smallest=3,
    values=lambda size: SELECT,
    legend="s water, e empty",
    told={
        **_COUNTS,
        "water level": "Water in a tank, drawn with thick lines, is level: where one cell has water, so have all cells "
        "of the tank in its row and in the rows below.",
    },
    make=_aquarium,
    rules=_aquarium_rules,
)
THERMOMETERS = Kind(
    name="thermometers",
    gist="thermometers filled from the bulb, with counts of filled cells",
    sizes=(4, 8, 12),
    smallest=3,
    values=lambda size: SELECT,
    legend="s filled, e empty",
    told={
        **_COUNTS,
        "mercury": "A thermometer is filled from its bulb on without gaps; it can be full, partly filled or empty.",
        "outside": "Cells outside thermometers stay empty.",
    },
    make=_thermometers,
    rules=_thermometers_rules,
)

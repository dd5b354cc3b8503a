"""Puzzles with exactly one solution: a random solution, its clues, and as many cells shown as the proof needs."""

from collections.abc import Collection
from random import Random

from stillroom.errors import UserError
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle
from stillroom.tasks.puzzles.kind import Clues, Kind
from stillroom.tasks.puzzles.kinds import check_size, domains_of, kind_of, model
from stillroom.tasks.puzzles.solver import propagate, search

_NODES = 15  # boards that one proof may take; a longer one shows another cell instead


def generate(
    name: str, size: int, rng: Random, *, clues: float = 0.0, unique_solution: bool = True
) -> tuple[Puzzle, Board]:
    """A random puzzle and its solution.

    Args:
        clues: least share of the cells that the board shows; with 0 only those that make the solution unique.
        unique_solution: False: show the share alone; there may be other solutions, and the verifier accepts them.

    Raises:
        UserError: an unknown kind, a size or a share that makes no sense.
    """
    kind = kind_of(name)
    check_size(kind, size)
    if not 0 <= clues < 1:
        raise UserError(f"clues={clues} is no share of the cells; give 0 or more and less than 1")
    solution, all_clues = kind.make(rng, size)
    return mask(kind, size, solution, all_clues, rng, clues, unique_solution), solution


def pose(kind: Kind, size: int, solution: Board, clues: Clues, shown: Collection[int]) -> Puzzle:
    """The puzzle that shows these cells of the solution, and all that are always shown."""
    given = tuple(
        value if cell in shown or value in kind.always_given else UNDECIDED for cell, value in enumerate(solution)
    )
    return Puzzle(
        kind=kind.name, size=size, given=given, clues=kind.trim(clues, given) if kind.trim is not None else clues
    )


def mask(
    kind: Kind, size: int, solution: Board, clues: Clues, rng: Random, share: float, unique_solution: bool = True
) -> Puzzle:
    """Show a random share of the cells, then, one by one, cells that tell the solution from another one, until the
    solver has proven that there is none."""
    order = [cell for cell, value in enumerate(solution) if value not in kind.always_given]
    rng.shuffle(order)
    shown = set(order[: round(share * len(order))])
    puzzle = pose(kind, size, solution, clues, shown)
    if not unique_solution:
        return puzzle
    truth = [domain.bit_length() - 1 for domain in domains_of(puzzle, solution)]
    rules = model(puzzle)
    domains = domains_of(puzzle, puzzle.given)
    propagate(rules, domains)
    while any(domain & (domain - 1) for domain in domains):
        found = search(rules, domains, limit=2, nodes=_NODES, avoid=truth)
        if found.unique:
            break
        other = next((board for board in found.solutions if list(board) != truth), None)
        doubtful = [
            cell
            for cell, domain in enumerate(domains)
            if (domain & (domain - 1) if other is None else other[cell] != truth[cell])
        ]
        for cell in rng.sample(doubtful, 1 + len(doubtful) // 12):
            shown.add(cell)
        if kind.trim is not None:  # cells shown bring rules with them
            puzzle = pose(kind, size, solution, clues, shown)
            rules = model(puzzle)
            domains = domains_of(puzzle, puzzle.given)
            propagate(rules, domains)
        else:
            for cell in shown:
                domains[cell] = 1 << truth[cell]
            propagate(rules, domains, sorted(shown))
    return pose(kind, size, solution, clues, shown)

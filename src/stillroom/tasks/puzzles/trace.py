"""A depth-first search written down step by step: pick a cell, list what it can be, try a value, back up.

What a cell can be is what the rules that look at it leave, each taken on its own as values are written down: shallower
than the solver's propagation, so that a reader can follow every step, and so that it can run into dead ends.
"""

from dataclasses import dataclass
from typing import Literal

from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle
from stillroom.tasks.puzzles.kind import decode
from stillroom.tasks.puzzles.kinds import domains_of, kind_of, model
from stillroom.tasks.puzzles.rules import Domains
from stillroom.tasks.puzzles.solver import Model

Order = Literal["fewest", "rows"]


@dataclass(frozen=True)
class Step:
    """One value tried."""

    cell: int
    options: tuple[str, ...]
    """What the cell can still be, values already refuted left out; the first is tried."""
    value: str
    broken: str
    """The rule that the value breaks, with its place; empty when the search goes on from here."""
    back: bool
    """The search returned to this cell from a dead end further on."""


@dataclass(frozen=True)
class Search:
    """A whole search."""

    steps: tuple[Step, ...]
    board: Board | None
    """None: the budget was spent, and `steps` is cut off there."""


def trace(puzzle: Puzzle, *, order: Order = "fewest", budget: int = 400) -> Search:
    """Search from the given cells.

    Args:
        order: the cell with the fewest values first, or row by row.
        budget: steps after which the search gives up.
    """
    rules = model(puzzle)
    values = kind_of(puzzle.kind).values(puzzle.size)
    domains = domains_of(puzzle, puzzle.given)
    if _look(rules, domains, range(len(rules.rules))):
        return Search((), None)
    written = frozenset(cell for cell, value in enumerate(puzzle.given) if value != UNDECIDED)
    steps: list[Step] = []
    # Cells tried on the way to here, each with the board before it and the values left to try.
    path: list[tuple[Domains, frozenset[int], int, int]] = []
    back = False
    cell = _pick(domains, written, order)
    left = domains[cell] if cell is not None else 0
    while cell is not None:
        if len(steps) >= budget:
            return Search(tuple(steps), None)
        value = left & -left
        options = tuple(values[bit] for bit in range(len(values)) if left >> bit & 1)
        child = list(domains)
        child[cell] = value
        broken = _look(rules, child, rules.watching[cell])
        steps.append(Step(cell, options, values[value.bit_length() - 1], broken, back))
        back = False
        left &= ~value
        if not broken:
            path.append((domains, written, cell, left))
            domains, written = child, written | {cell}
            cell = _pick(domains, written, order)
            left = domains[cell] if cell is not None else 0
            continue
        while not left:
            if not path:
                return Search(tuple(steps), None)  # no solution at all
            domains, written, cell, left = path.pop()
            back = True
    return Search(tuple(steps), decode([domain.bit_length() - 1 for domain in domains], values))


def direct(puzzle: Puzzle, solution: Board, *, order: Order = "fewest") -> Search:
    """The search as it would go if every value tried were the solution's: one step per cell, no dead ends."""
    rules = model(puzzle)
    values = kind_of(puzzle.kind).values(puzzle.size)
    domains = domains_of(puzzle, puzzle.given)
    _look(rules, domains, range(len(rules.rules)))
    written = frozenset(cell for cell, value in enumerate(puzzle.given) if value != UNDECIDED)
    steps: list[Step] = []
    while (cell := _pick(domains, written, order)) is not None:
        options = tuple(value for bit, value in enumerate(values) if domains[cell] >> bit & 1)
        steps.append(Step(cell, options, solution[cell], "", False))
        domains[cell] = 1 << values.index(solution[cell])
        _look(rules, domains, rules.watching[cell])
        written |= {cell}
    return Search(tuple(steps), solution)


def _look(rules: Model, domains: Domains, numbers: "range | tuple[int, ...]") -> str:
    """Narrow the domains, in place, by each of the rules once; names the one that cannot be met, if any."""
    for number in numbers:
        rule = rules.rules[number]
        narrowed = rule.prune(domains)
        if narrowed is None:
            return f"{rule.name}: {rule.where}"
        for cell, left in narrowed:
            domains[cell] = left
    return ""


def _pick(domains: Domains, written: frozenset[int], order: Order) -> int | None:
    open_cells = (cell for cell in range(len(domains)) if cell not in written)
    if order == "rows":
        return next(open_cells, None)
    return min(open_cells, key=lambda cell: (domains[cell].bit_count(), cell), default=None)

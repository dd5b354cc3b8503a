"""Constraint propagation and depth-first search over `rules`, with a limit on solutions and one on nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from stillroom.tasks.puzzles.rules import Domains, Rule


@dataclass(frozen=True)
class Model:
    """A puzzle's rules, ready to be propagated."""

    rules: tuple[Rule, ...]
    values: int
    """Size of the alphabet."""
    cells: int
    watching: tuple[tuple[int, ...], ...]
    """Per cell: the rules that look at it, by number."""

    @property
    def open(self) -> Domains:
        """A board on which every cell may have every value."""
        return [(1 << self.values) - 1] * self.cells


@dataclass(frozen=True)
class Found:
    """What a search found."""

    solutions: tuple[tuple[int, ...], ...]
    """The position in the alphabet of each cell's value."""
    nodes: int
    """Boards that were propagated."""
    exhausted: bool
    """The whole space was searched: there are no other solutions than these."""

    @property
    def unique(self) -> bool:
        """Proven to have exactly one solution."""
        return self.exhausted and len(self.solutions) == 1


def model_of(rules: Sequence[Rule], values: int, cells: int) -> Model:
    """The rules with the index of who looks at what."""
    watching: list[list[int]] = [[] for _ in range(cells)]
    for number, rule in enumerate(rules):
        for cell in rule.cells:
            watching[cell].append(number)
    return Model(tuple(rules), values, cells, tuple(map(tuple, watching)))


def propagate(model: Model, domains: Domains, changed: Sequence[int] | None = None) -> bool:
    """Narrow the domains, in place, until no rule narrows them further; False as soon as one cannot be met.

    Args:
        changed: cells that were narrowed since the last time; None: look at every rule.
    """
    if changed is None:
        waiting = list(range(len(model.rules)))
    else:
        waiting = sorted({number for cell in changed for number in model.watching[cell]})
    queued = set(waiting)
    while waiting:
        number = heappop(waiting)  # in the rules' order: cheap ones such as "no repeats" stand before dear ones
        queued.discard(number)
        narrowed = model.rules[number].prune(domains)
        if narrowed is None:
            return False
        for cell, left in narrowed:
            domains[cell] = left
            for other in model.watching[cell]:
                if other not in queued:
                    queued.add(other)
                    heappush(waiting, other)
    return True


def search(
    model: Model,
    domains: Domains,
    *,
    limit: int,
    nodes: int,
    rng: Random | None = None,
    avoid: Sequence[int] | None = None,
) -> Found:
    """Solutions within the domains, cell with fewest values first.

    Args:
        limit: stop after so many solutions.
        nodes: stop after so many boards.
        rng: try values in random order instead of the alphabet's.
        avoid: a solution, as positions in the alphabet, whose values are tried last, to meet another one soon.
    """
    root = list(domains)
    solutions: list[tuple[int, ...]] = []
    used = 1
    stack: list[tuple[Domains, int, int]] = []  # a consistent board, the cell to branch on, its values not yet tried

    def push(board: Domains) -> None:
        cell = min(
            (cell for cell, domain in enumerate(board) if domain & (domain - 1)),
            key=lambda cell: (board[cell].bit_count(), cell),
            default=None,
        )
        if cell is None:
            solutions.append(tuple(domain.bit_length() - 1 for domain in board))
        else:
            stack.append((board, cell, board[cell]))

    if propagate(model, root):
        push(root)
    while stack and len(solutions) < limit and used < nodes:
        board, cell, left = stack.pop()
        value = _choose(left, rng, None if avoid is None else avoid[cell])
        if left & ~value:
            stack.append((board, cell, left & ~value))
        child = list(board)
        child[cell] = value
        used += 1
        if propagate(model, child, [cell]):
            push(child)
    return Found(tuple(solutions), used, exhausted=not stack)


def _choose(left: int, rng: Random | None, last: int | None) -> int:
    """One of the values, as a bit."""
    if last is not None and left & ~(1 << last):
        left &= ~(1 << last)
    if rng is None:
        return left & -left
    options = [bit for bit in range(left.bit_length()) if left >> bit & 1]
    return 1 << rng.choice(options)

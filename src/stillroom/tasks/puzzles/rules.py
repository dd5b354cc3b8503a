"""The constraints that all puzzles are written in. Each is data, shared across puzzles, and works on partial boards.

A board is a list of *domains*: for each cell the set of values that it may still have, as the bits of an integer (bit i
is the i-th value of the alphabet). `prune` returns the domains that a rule narrows, or None when the rule is broken or
can no longer be met. Pruning is sound: it never removes a value that some completion keeping this rule has; unless a
docstring says otherwise it is also exact, so that every value left has such a completion.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

Domains = list[int]
Narrowed = list[tuple[int, int]]


class Rule(Protocol):
    """What one part of the board must be like."""

    @property
    def name(self) -> str:
        """The kind of rule, the same for all its places: ``row repeats``."""
        ...

    @property
    def where(self) -> str:
        """This one's place: ``row 2``."""
        ...

    @property
    def cells(self) -> tuple[int, ...]:
        """All that it looks at."""
        ...

    def prune(self, domains: Domains) -> Narrowed | None:
        """Cells with their narrower domains; None: broken, or no longer possible to meet."""
        ...


@dataclass(frozen=True)
class AllDifferent:
    """No value stands twice; with as many cells as values, each stands once.

    Sound, not exact: it sees single values, values with one place left, and too few values for its cells.
    """

    name: str
    where: str
    cells: tuple[int, ...]
    values: int
    """Size of the alphabet."""

    def prune(self, domains: Domains) -> Narrowed | None:
        fixed = 0
        for cell in self.cells:
            domain = domains[cell]
            if domain & (domain - 1) == 0:
                if fixed & domain:
                    return None
                fixed |= domain
        open_cells: Narrowed = []
        once = twice = 0
        for cell in self.cells:
            domain = domains[cell]
            if domain & (domain - 1):
                left = domain & ~fixed
                if not left:
                    return None
                twice |= once & left
                once |= left
                open_cells.append((cell, left))
        if once.bit_count() < len(open_cells):
            return None
        if len(self.cells) == self.values:
            if (fixed | once).bit_count() < self.values:
                return None
            alone = once & ~twice
            if alone:
                for index, (cell, left) in enumerate(open_cells):
                    only = left & alone
                    if only:
                        if only & (only - 1):
                            return None  # two values have no other place than this one
                        open_cells[index] = cell, only
        return [(cell, left) for cell, left in open_cells if left != domains[cell]]


@dataclass(frozen=True)
class Count:
    """From `low` to `high` of the cells have a value of `mask`."""

    name: str
    where: str
    cells: tuple[int, ...]
    mask: int
    low: int
    high: int

    def prune(self, domains: Domains) -> Narrowed | None:
        mask, sure, maybe = self.mask, 0, []
        for cell in self.cells:
            domain = domains[cell]
            if domain & mask:
                if domain & ~mask:
                    maybe.append(cell)
                else:
                    sure += 1
        if sure > self.high or sure + len(maybe) < self.low:
            return None
        if sure == self.high:
            return [(cell, domains[cell] & ~mask) for cell in maybe]
        if sure + len(maybe) == self.low:
            return [(cell, domains[cell] & mask) for cell in maybe]
        return []


@dataclass(frozen=True)
class WeightedSum:
    """The values' numbers, times the cells' weights, add up to `total`."""

    name: str
    where: str
    cells: tuple[int, ...]
    weights: tuple[int, ...]
    """Of each cell; positive."""
    numbers: tuple[int, ...]
    """What each value of the alphabet counts; not negative."""
    total: int

    def prune(self, domains: Domains) -> Narrowed | None:
        # Sets of sums are the bits of integers: bit t of `before` says that the cells so far can add up to t, bit t of
        # goal[i] that from t the open cells from i on can reach the total. Decided cells are taken off at once.
        decided, open_cells, steps = 0, list[int](), list[tuple[tuple[int, int], ...]]()
        for cell, weight in zip(self.cells, self.weights, strict=True):
            domain = domains[cell]
            if domain & (domain - 1):
                open_cells.append(cell)
                steps.append(_additions(domain, weight, self.numbers))
            else:
                decided += weight * self.numbers[domain.bit_length() - 1]
        if decided > self.total:
            return None
        goal = [0] * len(steps) + [1 << self.total]
        for index in range(len(steps) - 1, -1, -1):
            for _, add in steps[index]:
                goal[index] |= goal[index + 1] >> add
        before = 1 << decided
        if not goal[0] & before:
            return None
        narrowed: Narrowed = []
        for index, cell in enumerate(open_cells):
            after = left = 0
            for bit, add in steps[index]:
                moved = before << add
                if moved & goal[index + 1]:
                    left |= 1 << bit
                after |= moved
            if left != domains[cell]:
                narrowed.append((cell, left))
            before = after
        return narrowed


@lru_cache(50_000)
def _additions(domain: int, weight: int, numbers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Each value of a domain with what it adds."""
    return tuple((bit, weight * number) for bit, number in enumerate(numbers) if domain >> bit & 1)


@cache
def _partners(allowed: tuple[int, ...], domain: int) -> int:
    found = 0
    for bit, partners in enumerate(allowed):
        if domain >> bit & 1:
            found |= partners
    return found


@dataclass(frozen=True)
class Pair:
    """Two cells have values that go together."""

    name: str
    where: str
    cells: tuple[int, int]
    allowed: tuple[int, ...]
    """Per value of the first cell: the values that the second may then have."""
    backwards: tuple[int, ...]
    """The same from the second cell to the first."""

    def prune(self, domains: Domains) -> Narrowed | None:
        first, second = self.cells
        right = domains[second] & _partners(self.allowed, domains[first])
        left = domains[first] & _partners(self.backwards, domains[second])
        if not left or not right:
            return None
        return [(cell, to) for cell, to in ((first, left), (second, right)) if to != domains[cell]]


def pair(name: str, where: str, cells: tuple[int, int], values: int, together: Iterable[tuple[int, int]]) -> Pair:
    """A `Pair` from the positions in the alphabet that go together."""
    allowed, backwards = [0] * values, [0] * values
    for one, two in together:
        allowed[one] |= 1 << two
        backwards[two] |= 1 << one
    return Pair(name, where, cells, tuple(allowed), tuple(backwards))


@dataclass(frozen=True)
class Filling:
    """Groups fill up in their order: some number of the first groups is wholly filled, all later ones are empty.

    Alphabet: bit 0 is empty, bit 1 is filled.
    """

    name: str
    where: str
    levels: tuple[tuple[int, ...], ...]

    @property
    def cells(self) -> tuple[int, ...]:
        return tuple(cell for level in self.levels for cell in level)

    def prune(self, domains: Domains) -> Narrowed | None:
        can_fill = [all(domains[cell] & 2 for cell in level) for level in self.levels]
        can_be_empty = [all(domains[cell] & 1 for cell in level) for level in self.levels]
        heights = [
            height
            for height in range(len(self.levels) + 1)
            if all(can_fill[:height]) and all(can_be_empty[height:])
        ]  # fmt: skip
        if not heights:
            return None
        narrowed = []
        for index, level in enumerate(self.levels):
            left = (2 if heights[-1] > index else 0) | (1 if heights[0] <= index else 0)
            narrowed += [(cell, left) for cell in level if domains[cell] & left != domains[cell]]
        return narrowed


@lru_cache(maxsize=4096)
def arrangements(length: int, runs: tuple[int, ...]) -> tuple[int, ...]:
    """Every line of that length with these runs of filled cells, in order and apart; bit i is cell i."""
    if not runs:
        return (0,)
    first, rest = runs[0], runs[1:]
    needed = sum(rest) + len(rest)  # cells after the first run, its gap included
    found = []
    for start in range(length - first - needed + 1):
        skip = start + first + 1
        for others in arrangements(length - skip, rest) if rest else (0,):
            found.append(((1 << first) - 1) << start | others << skip)
    return tuple(found)


@dataclass(frozen=True)
class Runs:
    """The filled cells of a line form runs of these lengths, in order. Alphabet: bit 0 is empty, bit 1 is filled."""

    name: str
    where: str
    cells: tuple[int, ...]
    runs: tuple[int, ...]

    def prune(self, domains: Domains) -> Narrowed | None:
        filled = empty = 0
        for index, cell in enumerate(self.cells):
            if domains[cell] == 2:
                filled |= 1 << index
            elif domains[cell] == 1:
                empty |= 1 << index
        always, ever, any_left = -1, 0, False
        for line in arrangements(len(self.cells), self.runs):
            if line & empty == 0 and line & filled == filled:
                always &= line
                ever |= line
                any_left = True
        if not any_left:
            return None
        return [
            (cell, 2 if always >> index & 1 else 1)
            for index, cell in enumerate(self.cells)
            if domains[cell] == 3 and (always >> index & 1 or not ever >> index & 1)
        ]


@dataclass(frozen=True)
class Visible:
    """Looking along the cells, so many are higher than all before them. The i-th value is i + 1 high.

    Sound, not exact: it knows that a line is a permutation only from the least that its highest so far can be.
    """

    name: str
    where: str
    cells: tuple[int, ...]
    total: int

    def prune(self, domains: Domains) -> Narrowed | None:
        size, line = len(self.cells), list[int]()
        for cell in self.cells:
            line.append(domains[cell])
            if domains[cell] == 1 << (size - 1):
                break  # behind the highest of all nothing is seen
        left = _visible_left(tuple(line), size, self.total)
        if left is None:
            return None
        return [(cell, to) for cell, to in zip(self.cells, left, strict=False) if to != domains[cell]]


@lru_cache(maxsize=50_000)
def _visible_left(line: tuple[int, ...], size: int, total: int) -> tuple[int, ...] | None:
    """What `Visible` leaves of the domains up to the highest value; searches ask for the same lines again and again."""
    # seen[i][m]: how many of the first i cells may be visible when the highest of them is value m; sets of counts are
    # the bits of integers. Index `size` stands for "nothing yet", which every value is higher than.
    seen = [[0] * size + [1]]
    for index, domain in enumerate(line):
        now, after = seen[-1], [0] * (size + 1)
        lower = now[size]
        for value in range(size):
            if value >= index:  # index + 1 different values cannot all be lower
                if domain >> value & 1:
                    after[value] = lower << 1  # it is visible
                if domain & ((1 << value) - 1):
                    after[value] |= now[value]  # something lower stands here
            lower |= now[value]
        seen.append(after)
    if not seen[-1][size - 1] >> total & 1:
        return None
    # wanted[m]: counts so far from which the total can still be reached when the highest so far is m.
    wanted = [0] * (size + 1)
    wanted[size - 1] = 1 << total
    found = []
    for index in range(len(line) - 1, -1, -1):
        domain, now, left, before = line[index], seen[index], 0, [0] * (size + 1)
        highest_hiding = max((m for m in range(index, size) if now[m] & wanted[m]), default=-1)
        lower = now[size]
        for value in range(size):
            if domain >> value & 1 and (
                value < highest_hiding or (value >= index and lower << 1 & wanted[value])
            ):  # fmt: skip
                left |= 1 << value
            lower |= now[value]
        shown = 0
        for value in range(size - 1, -1, -1):
            before[value] = shown
            if domain & ((1 << value) - 1):
                before[value] |= wanted[value]
            if domain >> value & 1:
                shown |= wanted[value] >> 1
        before[size] = shown
        if not left:
            return None
        found.append(left)
        wanted = before
    return tuple(reversed(found))


@dataclass(frozen=True)
class Connected:
    """All cells whose value is in `mask` hang together by edges.

    Sound, not exact: it does not look for cells that all connections pass through.
    """

    name: str
    where: str
    cells: tuple[int, ...]
    mask: int
    edges: tuple[tuple[int, ...], ...]
    """Neighbours of each cell."""

    def prune(self, domains: Domains) -> Narrowed | None:
        sure = [cell for cell in self.cells if not domains[cell] & ~self.mask]
        if not sure:
            return []
        reached, frontier = {sure[0]}, [sure[0]]
        while frontier:
            for other in self.edges[frontier.pop()]:
                if other not in reached and domains[other] & self.mask:
                    reached.add(other)
                    frontier.append(other)
        if not reached.issuperset(sure):
            return None
        return [
            (cell, domains[cell] & ~self.mask)
            for cell in self.cells
            if cell not in reached and domains[cell] & self.mask
        ]


@dataclass(frozen=True)
class Fleet:
    """Groups of ship cells that hang together by edges have these sizes. Alphabet: bit 0 is water, bit 1 is ship.

    That a ship is straight follows from the rule that ships do not touch diagonally. Sound, not exact: it counts ships
    that are finished and looks at whether an unfinished one is too long.
    """

    name: str
    where: str
    cells: tuple[int, ...]
    lengths: tuple[int, ...]
    edges: tuple[tuple[int, ...], ...]

    def prune(self, domains: Domains) -> Narrowed | None:
        left = list(self.lengths)
        seen: set[int] = set()
        unfinished = []
        for cell in self.cells:
            if domains[cell] != 2 or cell in seen:
                continue
            ship, frontier, is_open = 0, [cell], False
            seen.add(cell)
            while frontier:
                ship += 1
                for other in self.edges[frontier.pop()]:
                    if domains[other] == 3:
                        is_open = True
                    elif domains[other] == 2 and other not in seen:
                        seen.add(other)
                        frontier.append(other)
            if is_open:
                unfinished.append(ship)
            elif ship in left:
                left.remove(ship)
            else:
                return None
        if unfinished and (not left or max(unfinished) > max(left)):
            return None
        if left and not unfinished and all(domains[cell] != 3 for cell in self.cells):
            return None
        return []


def bits(mask: int) -> list[int]:
    """Positions of the bits that are set, from the lowest."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]

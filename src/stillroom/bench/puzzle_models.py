"""The twenty puzzles once more, as OR-tools CP-SAT models written from their rules alone.

An independent reference for `tasks.puzzles`: it shares no geometry, no constraint and no solver with it, and states
rules in another way wherever there is one (ships as placements, runs as an automaton, connection as a tree, what can be
seen as a running maximum). Only the puzzle, as data, is read.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from stillroom.errors import MissingExtraError
from stillroom.tasks.puzzles.board import Puzzle


class Answered(NamedTuple):
    """What CP-SAT says; None: it ran out of time."""

    possible: bool | None
    board: tuple[str, ...] = ()


class _Builder:
    """Variables of a board; `x[r][c]` is a number, or for puzzles that select cells 0 and 1."""

    def __init__(self, puzzle: Puzzle, board: Sequence[str]) -> None:
        try:
            from ortools.sat.python import cp_model
        except ModuleNotFoundError as error:
            raise MissingExtraError("ortools", "dev") from error
        self.puzzle, self.n, self.clues = puzzle, puzzle.size, puzzle.clues
        self.model: Any = cp_model.CpModel()
        self.code, self.names = _coding(puzzle)
        self.x: list[list[Any]] = [[None] * self.n for _ in range(self.n)]
        for r, c in self.cells():
            names = {board[r * self.n + c], puzzle.given[r * self.n + c]} - {"."}
            allowed = sorted({self.code[name] for name in names if name in self.code})
            if len(names) > 1:  # a given cell was changed: nothing is left
                self.model.add_bool_or([])
            if allowed:
                self.x[r][c] = self.model.new_constant(allowed[0])
            else:
                self.x[r][c] = self.model.new_int_var(min(self.names), max(self.names), f"x{r},{c}")

    def cells(self) -> list[tuple[int, int]]:
        return [(r, c) for r in range(self.n) for c in range(self.n)]

    def lines(self) -> list[list[Any]]:
        """Rows, then columns."""
        return [*self.x, *map(list, zip(*self.x, strict=True))]

    def at(self, cell: int) -> Any:
        return self.x[cell // self.n][cell % self.n]

    def beside(self, r: int, c: int) -> list[tuple[int, int]]:
        return [(a, b) for a, b in self.cells() if abs(a - r) + abs(b - c) == 1]

    def touching(self, r: int, c: int) -> list[tuple[int, int]]:
        return [(a, b) for a, b in self.cells() if max(abs(a - r), abs(b - c)) == 1]

    def labelled(self, name: str) -> list[list[Any]]:
        found: dict[int, list[Any]] = {}
        for cell, label in enumerate(self.clues[name]):
            found.setdefault(label, []).append(self.at(cell))
        return [found[label] for label in sorted(found)]

    def flag(self) -> Any:
        return self.model.new_bool_var("")

    def is_value(self, variable: Any, number: int) -> Any:
        """A truth value that says whether the variable is that number."""
        found = self.flag()
        self.model.add(variable == number).only_enforce_if(found)
        self.model.add(variable != number).only_enforce_if(~found)
        return found

    def latin(self) -> None:
        for line in self.lines():
            self.model.add_all_different(line)

    def totals(self, of: Callable[[list[Any]], Any]) -> None:
        """What is counted in rows and columns is what stands beside them."""
        for line, total in zip(self.lines(), [*self.clues["rows"], *self.clues["columns"]], strict=True):
            self.model.add(of(line) == total)

    def apart(self, pairs: Iterable[tuple[tuple[int, int], tuple[int, int]]]) -> None:
        for (r, c), (a, b) in pairs:
            self.model.add(self.x[r][c] + self.x[a][b] <= 1)


def _coding(puzzle: Puzzle) -> tuple[dict[str, int], dict[int, str]]:
    if puzzle.kind == "binairo":
        code = {"w": 0, "b": 1}
    elif puzzle.kind in _NUMBERED:
        code = {str(number): number for number in range(1, puzzle.size + 1)}
    elif puzzle.kind == "trees-and-tents":
        code = {"e": 0, "tt": 1, "tr": 2}
    elif puzzle.kind == "light-up":
        code = {"e": 0, "s": 1, "#": 2}
    else:
        code = {"e": 0, "s": 1}
    return code, {number: name for name, number in code.items()}


def _sudoku(b: _Builder) -> None:
    b.latin()
    k = round(b.n**0.5)
    for top in range(0, b.n, k):
        for left in range(0, b.n, k):
            b.model.add_all_different([b.x[r][c] for r in range(top, top + k) for c in range(left, left + k)])


def _odd_even(b: _Builder) -> None:
    _sudoku(b)
    for cell, mark in enumerate(b.clues["marks"]):
        if mark != ".":
            half = b.model.new_int_var(0, b.n, "")
            b.model.add(b.at(cell) == 2 * half + (1 if mark == "b" else 0))


def _killer(b: _Builder) -> None:
    _sudoku(b)
    for cage, total in zip(b.labelled("cages"), b.clues["sums"], strict=True):
        b.model.add(sum(cage) == total)


def _grouped(name: str) -> Callable[[_Builder], None]:
    def build(b: _Builder) -> None:
        b.latin()
        for group in b.labelled(name):
            b.model.add_all_different(group)

    return build


def _futoshiki(b: _Builder) -> None:
    b.latin()
    for small, large in b.clues["signs"]:
        b.model.add(b.at(small) < b.at(large))


def _renzoku(b: _Builder) -> None:
    b.latin()
    for one, other in b.clues["dots"]:
        apart = b.model.new_int_var(0, b.n, "")
        b.model.add_abs_equality(apart, b.at(one) - b.at(other))
        b.model.add(apart == 1)


def _skyscraper(b: _Builder) -> None:
    b.latin()
    rows, columns = b.lines()[: b.n], b.lines()[b.n :]
    for side, lines in {
        "left": rows,
        "right": [line[::-1] for line in rows],
        "top": columns,
        "bottom": [line[::-1] for line in columns],
    }.items():
        for line, total in zip(lines, b.clues[side], strict=True):
            seen, highest = [], 0
            for building in line:
                now = b.model.new_int_var(1, b.n, "")
                b.model.add_max_equality(now, [highest, building])
                visible = b.flag()
                b.model.add(building > highest).only_enforce_if(visible)
                b.model.add(building < highest).only_enforce_if(~visible)
                seen.append(visible)
                highest = now
            b.model.add(sum(seen) == total)


def _kakuro(b: _Builder) -> None:
    b.totals(sum)
    for r, c in b.cells():
        for a, d in b.beside(r, c):
            b.model.add(b.x[r][c] != b.x[a][d])


def _aquarium(b: _Builder) -> None:
    b.totals(sum)
    for r, c in b.cells():
        for a, d in b.cells():
            if a >= r and b.clues["regions"][r * b.n + c] == b.clues["regions"][a * b.n + d]:
                b.model.add(b.x[r][c] <= b.x[a][d])


def _thermometers(b: _Builder) -> None:
    b.totals(sum)
    tubes = b.clues["tubes"]
    for tube in tubes:
        for nearer, farther in pairwise(tube):
            b.model.add(b.at(farther) <= b.at(nearer))
    inside = [cell for tube in tubes for cell in tube]
    for cell in range(b.n * b.n):
        if cell not in inside:
            b.model.add(b.at(cell) == 0)


def _binairo(b: _Builder) -> None:
    for line in b.lines():
        b.model.add(sum(line) * 2 == b.n)
        for i in range(b.n - 2):
            b.model.add(sum(line[i : i + 3]) >= 1)
            b.model.add(sum(line[i : i + 3]) <= 2)


def _nonogram(b: _Builder) -> None:
    for line, runs in zip(b.lines(), [*b.clues["rows"], *b.clues["columns"]], strict=True):
        # A state is the number of cells read of "run, gap, run, gap, …"; a gap's state may be kept.
        state, arcs = 0, [(0, 0, 0)]
        for i, run in enumerate(runs):
            for _ in range(run):
                arcs.append((state, 1, state + 1))
                state += 1
            if i + 1 < len(runs):
                arcs.append((state, 0, state + 1))
                state += 1
            arcs.append((state, 0, state))
        b.model.add_automaton(line, 0, [state], arcs)


def _hitori(b: _Builder) -> None:
    numbers = [b.clues["numbers"][r * b.n : (r + 1) * b.n] for r in range(b.n)]
    for r, c in b.cells():
        for a, d in b.cells():
            if (r, c) < (a, d) and (r == a or c == d) and numbers[r][c] == numbers[a][d]:
                b.model.add(b.x[r][c] + b.x[a][d] >= 1)
    b.apart(((r, c), other) for r, c in b.cells() for other in b.beside(r, c))
    # A tree over the unshaded cells: one root, every other one has a parent that is nearer to it.
    depth = {cell: b.model.new_int_var(0, b.n * b.n, "") for cell in b.cells()}
    roots = {cell: b.flag() for cell in b.cells()}
    b.model.add(sum(roots.values()) == 1)
    for r, c in b.cells():
        parents = []
        for a, d in b.beside(r, c):
            parent = b.flag()
            b.model.add(b.x[a][d] == 0).only_enforce_if(parent)
            b.model.add(depth[a, d] + 1 <= depth[r, c]).only_enforce_if(parent)
            parents.append(parent)
        b.model.add(roots[r, c] + sum(parents) + b.x[r][c] == 1)


def _battleships(b: _Builder) -> None:
    b.totals(sum)
    lengths = b.clues["fleet"]
    covering: dict[tuple[int, int], list[Any]] = {cell: [] for cell in b.cells()}
    for length in sorted(set(lengths)):
        placed = []
        for r, c in b.cells():
            for down, across in ((0, 1), (1, 0)) if length > 1 else ((0, 1),):
                ship = [(r + i * down, c + i * across) for i in range(length)]
                if not all(a < b.n and d < b.n for a, d in ship):
                    continue
                here = b.flag()
                placed.append(here)
                for cell in ship:
                    covering[cell].append(here)
                for a, d in {near for cell in ship for near in b.touching(*cell)} - set(ship):
                    b.model.add(b.x[a][d] == 0).only_enforce_if(here)
        b.model.add(sum(placed) == lengths.count(length))
    for (r, c), ships in covering.items():
        b.model.add(sum(ships) == b.x[r][c])


def _star_battle(b: _Builder) -> None:
    for line in [*b.lines(), *b.labelled("regions")]:
        b.model.add(sum(line) == 1)
    b.apart(((r, c), other) for r, c in b.cells() for other in b.touching(r, c))


def _trees(b: _Builder) -> None:
    given = b.puzzle.given
    tent = {(r, c): b.is_value(b.x[r][c], 1) for r, c in b.cells()}
    tree = {(r, c): given[r * b.n + c] == "tr" for r, c in b.cells()}
    for r in range(b.n):
        b.model.add(sum(tent[r, c] for c in range(b.n)) == b.clues["rows"][r])
        b.model.add(sum(tent[c, r] for c in range(b.n)) == b.clues["columns"][r])
    for r, c in b.cells():
        if tree[r, c]:
            b.model.add(b.x[r][c] == 2)
            b.model.add(sum(tent[near] for near in b.beside(r, c)) == 1)
        else:
            b.model.add(b.x[r][c] != 2)
            if sum(tree[near] for near in b.beside(r, c)) != 1:
                b.model.add(b.x[r][c] != 1)
        for near in b.touching(r, c):
            b.model.add_bool_or(~tent[r, c], ~tent[near])
    b.model.add(sum(tent.values()) == sum(tree.values()))


def _field(b: _Builder) -> None:
    for (r, c), number in zip(b.cells(), b.clues["numbers"], strict=True):
        if number is not None:
            b.model.add(b.x[r][c] == 0)
            b.model.add(sum(b.x[a][d] for a, d in b.touching(r, c)) == number)


def _light_up(b: _Builder) -> None:
    lamp = {(r, c): b.is_value(b.x[r][c], 1) for r, c in b.cells()}
    wall = {(r, c): b.puzzle.given[r * b.n + c] == "#" for r, c in b.cells()}
    for (r, c), number in zip(b.cells(), b.clues["numbers"], strict=True):
        if number is not None:
            b.model.add(sum(lamp[near] for near in b.beside(r, c)) == number)
        if wall[r, c]:
            b.model.add(b.x[r][c] == 2)
            continue
        b.model.add(b.x[r][c] != 2)
        lit = [lamp[r, c]]
        for down, across in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            a, d = r + down, c + across
            while (a, d) in wall and not wall[a, d]:
                lit.append(lamp[a, d])
                b.model.add_bool_or(~lamp[r, c], ~lamp[a, d])
                a, d = a + down, d + across
        b.model.add_bool_or(lit)


_NUMBERED = (
    *("colored-sudoku", "futoshiki", "jigsaw-sudoku", "kakuro", "killer-sudoku", "odd-even-sudoku", "renzoku"),
    *("skyscraper", "sudoku"),
)
_MODELS: dict[str, Callable[[_Builder], None]] = {
    "aquarium": _aquarium,
    "battleships": _battleships,
    "binairo": _binairo,
    "colored-sudoku": _grouped("colors"),
    "field-explore": _field,
    "futoshiki": _futoshiki,
    "hitori": _hitori,
    "jigsaw-sudoku": _grouped("regions"),
    "kakurasu": lambda b: b.totals(lambda line: sum((i + 1) * cell for i, cell in enumerate(line))),
    "kakuro": _kakuro,
    "killer-sudoku": _killer,
    "light-up": _light_up,
    "nonogram": _nonogram,
    "odd-even-sudoku": _odd_even,
    "renzoku": _renzoku,
    "skyscraper": _skyscraper,
    "star-battle": _star_battle,
    "sudoku": _sudoku,
    "thermometers": _thermometers,
    "trees-and-tents": _trees,
}


def ask(
    puzzle: Puzzle,
    board: Sequence[str] | None = None,
    *,
    other_than: Sequence[str] | None = None,
    limit_s: float = 10.0,
) -> Answered:
    """Whether the puzzle has a solution that keeps the decided cells of a board.

    Args:
        board: None: the board as it is given.
        other_than: a solution that does not count.
        limit_s: seconds before CP-SAT gives up.

    Raises:
        MissingExtraError: without OR-tools.
    """
    builder = _Builder(puzzle, puzzle.given if board is None else board)
    from ortools.sat.python import cp_model

    _MODELS[puzzle.kind](builder)
    variables = [variable for row in builder.x for variable in row]
    if other_than is not None:
        builder.model.add_forbidden_assignments(variables, [[builder.code[name] for name in other_than]])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = limit_s
    status = solver.solve(builder.model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answered(True, tuple(builder.names[solver.value(variable)] for variable in variables))
    return Answered(False if status == cp_model.INFEASIBLE else None)

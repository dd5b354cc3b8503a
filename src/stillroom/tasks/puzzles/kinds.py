"""The twenty kinds by name, and what can be asked of a puzzle of any kind: its rules, checks, possible values."""

from collections.abc import Sequence
from dataclasses import dataclass

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle, place
from stillroom.tasks.puzzles.filling import AQUARIUM, THERMOMETERS
from stillroom.tasks.puzzles.hidden import FIELD_EXPLORE, LIGHT_UP
from stillroom.tasks.puzzles.kind import Kind, decode
from stillroom.tasks.puzzles.latin import FUTOSHIKI, RENZOKU, SKYSCRAPER
from stillroom.tasks.puzzles.lines import BINAIRO, HITORI, NONOGRAM
from stillroom.tasks.puzzles.placing import BATTLESHIPS, STAR_BATTLE, TREES
from stillroom.tasks.puzzles.rules import Domains, Rule
from stillroom.tasks.puzzles.solver import Found, Model, model_of, search
from stillroom.tasks.puzzles.sudokus import COLORED, JIGSAW, KILLER, ODD_EVEN, SUDOKU
from stillroom.tasks.puzzles.sums import KAKURASU, KAKURO

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(AQUARIUM, BATTLESHIPS, BINAIRO, COLORED, FIELD_EXPLORE, FUTOSHIKI, HITORI, JIGSAW, KAKURASU, KAKURO),
        *(KILLER, LIGHT_UP, NONOGRAM, ODD_EVEN, RENZOKU, SKYSCRAPER, STAR_BATTLE, SUDOKU, THERMOMETERS, TREES),
    )
}
FORMAL = ("no board", "wrong size", "unknown symbol", "undecided cell", "changed cell")
"""Why an answer is refused before any rule is looked at."""


@dataclass(frozen=True)
class Checked:
    """What a complete check found."""

    ok: bool
    reason: str
    """``solved``, or the first fault with its place, e.g. ``row repeats: row 2``."""
    broken: tuple[str, ...] = ()
    """Names of all rules that are broken, or one of `FORMAL`."""


def kind_of(name: str) -> Kind:
    """Raises UserError for an unknown name."""
    if name not in KINDS:
        raise unknown_name("puzzle", name, KINDS)
    return KINDS[name]


def check_size(kind: Kind, size: int) -> None:
    """Raises UserError for a size that the kind does not come in."""
    if not kind.smallest <= size <= 16:
        least = f"{kind.smallest} is the smallest" if size < kind.smallest else "16 is the largest"
        raise UserError(f"{kind.name} has no boards of size {size}: {least}; usual are {_usual(kind)}")
    if not kind.fits(size):
        raise UserError(f"{kind.name} has no boards of size {size}: {kind.misfit}")


def _usual(kind: Kind) -> str:
    return ", ".join(map(str, kind.sizes))


def rules_of(puzzle: Puzzle) -> list[Rule]:
    """Every constraint of the puzzle, given cells aside."""
    return kind_of(puzzle.kind).rules(puzzle)


def model(puzzle: Puzzle) -> Model:
    """The puzzle's rules, ready for the solver."""
    return model_of(rules_of(puzzle), len(kind_of(puzzle.kind).values(puzzle.size)), puzzle.size**2)


def domains_of(puzzle: Puzzle, board: Sequence[str]) -> Domains:
    """Decided cells have one value, all others may have any; raises UserError for a value that there is not."""
    values = kind_of(puzzle.kind).values(puzzle.size)
    bit = {value: 1 << index for index, value in enumerate(values)} | {UNDECIDED: (1 << len(values)) - 1}
    if wrong := [value for value in board if value not in bit]:
        raise UserError(f"{wrong[0]!r} is no value of {puzzle.kind} of size {puzzle.size}; known: {', '.join(bit)}")
    return [bit[value] for value in board]


def partial_faults(puzzle: Puzzle, board: Sequence[str]) -> list[Rule]:
    """The rules that a board, whole or not, breaks or can no longer meet, each looked at on its own."""
    domains = domains_of(puzzle, board)
    return [rule for rule in rules_of(puzzle) if rule.prune(domains) is None]


def check(puzzle: Puzzle, board: Sequence[str]) -> bool:
    """Whether a board that may have undecided cells keeps the given cells and breaks no rule so far."""
    kept = all(
        given in (UNDECIDED, value) or value == UNDECIDED for given, value in zip(puzzle.given, board, strict=True)
    )
    return kept and not partial_faults(puzzle, board)


def check_complete(puzzle: Puzzle, board: Sequence[str]) -> Checked:
    """Whether a board solves the puzzle, with the reason. Any solution counts, not only the one it was made from."""
    size, values = puzzle.size, set(kind_of(puzzle.kind).values(puzzle.size))
    if len(board) != size * size:
        return _formal("wrong size", f"{len(board)} cells instead of {size * size}")
    for cell, value in enumerate(board):
        if value == UNDECIDED:
            return _formal("undecided cell", place(size, cell))
        if value not in values:
            return _formal("unknown symbol", f"{value[:20]!r} at {place(size, cell)}")
    for cell, given in enumerate(puzzle.given):
        if given not in (UNDECIDED, board[cell]):
            return _formal("changed cell", f"{place(size, cell)} is {given}")
    faults = partial_faults(puzzle, board)
    if not faults:
        return Checked(True, "solved")
    return Checked(False, f"{faults[0].name}: {faults[0].where}", tuple(dict.fromkeys(rule.name for rule in faults)))


def _formal(fault: str, detail: str) -> Checked:
    return Checked(False, f"{fault}: {detail}", (fault,))


def possible_values(puzzle: Puzzle, board: Sequence[str], cell: int) -> tuple[str, ...]:
    """Values that an undecided cell can have without a rule being broken at once, in the order of the alphabet; nothing
    for a decided cell."""
    if board[cell] != UNDECIDED:
        return ()
    domains = domains_of(puzzle, board)
    rules = [rule for rule in rules_of(puzzle) if cell in rule.cells]
    found = []
    for index, value in enumerate(kind_of(puzzle.kind).values(puzzle.size)):
        domains[cell] = 1 << index
        if all(rule.prune(domains) is not None for rule in rules):
            found.append(value)
    return tuple(found)


def solve(puzzle: Puzzle, *, limit: int = 2, nodes: int = 20_000) -> Found:
    """Up to `limit` solutions that keep the given cells. `Found.unique` is the proof that there is exactly one."""
    return search(model(puzzle), domains_of(puzzle, puzzle.given), limit=limit, nodes=nodes)


def boards_of(puzzle: Puzzle, found: Found) -> list[Board]:
    """The solutions that a search found, as boards."""
    return [decode(indices, kind_of(puzzle.kind).values(puzzle.size)) for indices in found.solutions]

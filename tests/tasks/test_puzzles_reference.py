"""Our checkers and solver beside OR-tools CP-SAT models that were written from the rules alone."""

from random import Random

import pytest

from stillroom.tasks.puzzles.board import UNDECIDED
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS, check, check_complete

pytest.importorskip("ortools")

from stillroom.bench.puzzle_models import ask
from stillroom.bench.puzzles import corrupted, free

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_complete_boards_are_judged_alike(kind: str) -> None:
    rng, refused = Random(1), 0
    for size in KINDS[kind].sizes[:2]:
        puzzle, solution = generate(kind, size, rng, clues=0.1)
        assert ask(puzzle, solution).possible
        for asked in (puzzle, free(puzzle)):
            for _ in range(5 if size < 8 else 1):
                board = corrupted(puzzle, solution, rng)
                ours = check_complete(asked, board).ok
                assert ask(asked, board).possible == ours
                refused += not ours
    assert refused >= 5


@kinds
def test_cp_sat_finds_the_solution_and_no_other(kind: str) -> None:
    puzzle, solution = generate(kind, KINDS[kind].sizes[1], Random(2), clues=0.3)
    assert ask(puzzle).board == solution
    assert ask(puzzle, other_than=solution).possible is False


@kinds
def test_a_part_that_is_refused_cannot_be_completed(kind: str) -> None:
    rng, refused = Random(3), 0
    puzzle, solution = generate(kind, KINDS[kind].sizes[0], rng)
    for _ in range(6):
        board = [value if rng.random() < 0.6 else UNDECIDED for value in corrupted(puzzle, solution, rng)]
        if not check(puzzle, board):
            refused += 1
            assert ask(puzzle, board).possible is False
    assert refused >= 1

"""The constraints against brute force, the solver against known numbers of boards, and puzzles proven to be unique."""

from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.tasks.puzzles.board import UNDECIDED, orthogonal, partition, place
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kind import latin_rules, not_touching
from stillroom.tasks.puzzles.kinds import KINDS, boards_of, check, check_complete, domains_of, model, rules_of, solve
from stillroom.tasks.puzzles.latin import visible
from stillroom.tasks.puzzles.lines import binairo_rules
from stillroom.tasks.puzzles.rules import (
    AllDifferent,
    Connected,
    Count,
    Filling,
    Fleet,
    Rule,
    Runs,
    Visible,
    WeightedSum,
    arrangements,
    bits,
    pair,
)
from stillroom.tasks.puzzles.solver import model_of, propagate, search
from stillroom.tasks.puzzles.trace import direct, trace

GRID = tuple(tuple(orthogonal(3, cell)) for cell in range(9))
ALL9 = tuple(range(9))


def runs(line: tuple[int, ...]) -> list[int]:
    return [len(run) for run in "".join(map(str, line)).split("0") if run]


def pieces(line: tuple[int, ...]) -> list[int]:
    """Sizes of the groups of ones on a 3 × 3 board."""
    left, sizes = {cell for cell in ALL9 if line[cell]}, []
    while left:
        group = {left.pop()}
        while more := {other for cell in group for other in GRID[cell]} & left:
            group |= more
            left -= more
        sizes.append(len(group))
    return sorted(sizes)


# A rule, the size of its alphabet, what it means for a whole line of values, and whether its pruning is exact.
RULES: dict[str, tuple[Rule, int, Callable[[tuple[int, ...]], bool], bool]] = {
    "all different": (AllDifferent("", "", (0, 1, 2), 4), 4, lambda v: len(set(v)) == 3, False),
    "permutation": (AllDifferent("", "", (0, 1, 2, 3), 4), 4, lambda v: len(set(v)) == 4, False),
    "count": (Count("", "", (0, 1, 2, 3), 0b110, 1, 2), 3, lambda v: 1 <= sum(x > 0 for x in v) <= 2, True),
    "sum": (
        WeightedSum("", "", (0, 1, 2), (1, 2, 3), (0, 1, 4), 9),
        3,
        lambda v: sum(w * (0, 1, 4)[x] for w, x in zip((1, 2, 3), v, strict=True)) == 9,
        True,
    ),
    "pair": (pair("", "", (0, 1), 4, [(0, 1), (0, 2), (3, 1)]), 4, lambda v: v in {(0, 1), (0, 2), (3, 1)}, True),
    "filling": (
        Filling("", "", ((0, 1), (2,), (3, 4))),
        2,
        lambda v: v in {(0,) * 5, (1, 1, 0, 0, 0), (1, 1, 1, 0, 0), (1,) * 5},
        True,
    ),
    "runs": (Runs("", "", tuple(range(6)), (2, 1)), 2, lambda v: runs(v) == [2, 1], True),
    "no runs": (Runs("", "", tuple(range(4)), ()), 2, lambda v: runs(v) == [], True),
    "visible": (
        Visible("", "", (0, 1, 2, 3), 2),
        4,
        lambda v: len(set(v)) == 4 and visible(v) == 2,
        False,
    ),
    "connected": (Connected("", "", ALL9, 2, GRID), 2, lambda v: len(pieces(v)) <= 1, False),
    "fleet": (Fleet("", "", ALL9, (2, 1), GRID), 2, lambda v: pieces(v) == [1, 2], False),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pruning_is_what_brute_force_finds(name: str, data: st.DataObject) -> None:
    rule, values, means, exact = RULES[name]
    domains = [data.draw(st.integers(1, 2**values - 1)) for _ in rule.cells]
    ways = [line for line in product(*map(bits, domains)) if means(line)]
    left = [sum({1 << line[cell] for line in ways}) for cell in rule.cells]
    narrowed = rule.prune(list(domains))
    if narrowed is None:
        assert not ways
        return
    after = list(domains)
    for cell, to in narrowed:
        assert to
        assert to != domains[cell]
        assert to & ~domains[cell] == 0
        after[cell] = to
    if exact:
        assert after == left
    assert all(found & ~kept == 0 for found, kept in zip(left, after, strict=True))
    if all(domain & (domain - 1) == 0 for domain in domains) and name != "visible":
        assert ways  # a whole line that breaks the rule is never let through


@pytest.mark.parametrize("line", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (0, 3, 1, 2)])
def test_a_whole_line_of_buildings_is_judged_exactly(line: tuple[int, ...]) -> None:
    for total in range(6):
        rule = Visible("", "", (0, 1, 2, 3), total)
        assert (rule.prune([1 << height for height in line]) is not None) == (visible(line) == total)


def test_arrangements_are_all_lines_with_these_runs() -> None:
    for length, wanted in ((5, (1, 2)), (7, (2, 1, 1)), (4, (4,)), (3, (2, 2)), (6, ())):
        lines = {
            sum(bit << at for at, bit in enumerate(v)) for v in product((0, 1), repeat=length) if runs(v) == [*wanted]
        }
        assert set(arrangements(length, wanted)) == lines
        assert len(arrangements(length, wanted)) == len(lines)


def count_solutions(rules: list[Rule], values: int, cells: int) -> int:
    asked = model_of(rules, values, cells)
    found = search(asked, asked.open, limit=100_000, nodes=1_000_000)
    assert found.exhausted
    assert len(set(found.solutions)) == len(found.solutions)
    return len(found.solutions)


def test_the_solver_finds_as_many_boards_as_there_are() -> None:
    assert count_solutions(latin_rules(3), 3, 9) == 12
    assert count_solutions(latin_rules(4), 4, 16) == 576
    sudoku, _ = generate("sudoku", 4, Random(0), unique_solution=False)
    assert count_solutions(rules_of(sudoku), 4, 16) == 288
    assert count_solutions(binairo_rules(4), 2, 16) == 90
    rows_and_columns = [
        Count("", "", tuple(range(at, at + width * step, step)), 2, 1, 1)
        for width, step, starts in ((5, 1, range(0, 25, 5)), (5, 5, range(5)))
        for at in starts
    ]
    assert count_solutions([*rows_and_columns, *not_touching("", 5, 2)], 2, 25) == 14  # one star a line, none touching


def test_a_search_that_was_cut_off_proves_nothing() -> None:
    asked = model_of(latin_rules(4), 4, 16)
    found = search(asked, asked.open, limit=2, nodes=3)
    assert not found.exhausted
    assert not found.unique
    both = search(asked, asked.open, limit=2, nodes=1000)
    assert len(both.solutions) == 2
    assert not both.unique


def test_no_solution_is_exhausted_without_one() -> None:
    asked = model_of([*latin_rules(3), Count("", "", (0, 4), 1, 2, 2), Count("", "", (1,), 1, 1, 1)], 3, 9)
    found = search(asked, asked.open, limit=2, nodes=100)
    assert (found.solutions, found.exhausted) == ((), True)
    assert not propagate(asked, asked.open)


@pytest.mark.parametrize("kind", KINDS)
def test_generated_puzzles_have_one_solution_which_every_way_to_solve_them_finds(kind: str) -> None:
    for seed, size in enumerate((*KINDS[kind].sizes[:1] * 6, KINDS[kind].sizes[1])):
        puzzle, solution = generate(kind, size, Random(seed), clues=0.2 if seed % 2 else 0.0)
        found = solve(puzzle)
        assert found.unique
        assert boards_of(puzzle, found) == [solution]
        assert check_complete(puzzle, solution).ok
        assert check(puzzle, puzzle.given)
        for given_value, value in zip(puzzle.given, solution, strict=True):
            assert given_value in (UNDECIDED, value)
            assert value not in KINDS[kind].always_given or given_value == value
        if size == KINDS[kind].sizes[0]:
            for order in ("fewest", "rows"):
                searched = trace(puzzle, order=order, budget=5000)
                assert searched.board == solution
                told = direct(puzzle, solution, order=order)
                assert [step.value for step in told.steps] == [solution[step.cell] for step in told.steps]
                assert {step.cell for step in told.steps} == {c for c, v in enumerate(puzzle.given) if v == UNDECIDED}


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_of_a_solution_is_refused_or_is_itself_a_solution(kind: str) -> None:
    puzzle, solution = generate(kind, KINDS[kind].sizes[0], Random(1), clues=0.1)
    values, asked = KINDS[kind].values(puzzle.size), model(puzzle)
    for cell, value in enumerate(solution):
        for other in values:
            board = [*solution[:cell], other, *solution[cell + 1 :]]
            # The board is unique, so that whatever differs from its solution is wrong.
            assert check_complete(puzzle, board).ok == (other == value), (place(puzzle.size, cell), other)
            if puzzle.given[cell] in (UNDECIDED, other):
                fixed = search(asked, domains_of(puzzle, board), limit=1, nodes=10)
                assert bool(fixed.solutions) == (other == value)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_beside_the_usual_ones(kind: str) -> None:
    for size in {KINDS[kind].smallest, KINDS[kind].smallest + 1, 7}:
        if KINDS[kind].fits(size):
            puzzle, solution = generate(kind, size, Random(1))
            assert boards_of(puzzle, solve(puzzle)) == [solution]


def test_more_clues_and_none_to_prove() -> None:
    shown = [
        sum(v != UNDECIDED for v in generate("sudoku", 4, Random(3), clues=share)[0].given) for share in (0, 0.5, 0.9)
    ]
    assert shown[0] < shown[1] < shown[2] == 14
    loose, _ = generate("futoshiki", 4, Random(3), clues=0.1, unique_solution=False)
    assert sum(value != UNDECIDED for value in loose.given) == 2
    assert len(solve(loose).solutions) == 2
    with pytest.raises(UserError, match=r"clues=1\.5"):
        generate("sudoku", 4, Random(0), clues=1.5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.integers(3, 9))
def test_partitions_are_connected_and_cover_the_board(seed: int, size: int) -> None:
    labels = partition(Random(seed), size, 2, size)
    assert sorted(set(labels)) == [*range(max(labels) + 1)]
    for label in set(labels):
        cells = {cell for cell, found in enumerate(labels) if found == label}
        assert len(cells) >= 2
        group = {min(cells)}
        while more := {other for cell in group for other in orthogonal(size, cell)} & cells - group:
            group |= more
        assert group == cells


def test_a_search_tells_its_dead_ends_and_stops_at_its_budget() -> None:
    dead = backs = 0
    for seed in range(20):
        puzzle, solution = generate("renzoku", 8, Random(seed))
        searched = trace(puzzle, budget=600)
        if searched.board is None:
            assert len(searched.steps) == 600
            continue
        assert searched.board == solution
        dead += sum(bool(step.broken) for step in searched.steps)
        backs += sum(step.back for step in searched.steps)
        for step in searched.steps:
            assert step.value == step.options[0]
        cut = trace(puzzle, budget=len(searched.steps) - 1)
        assert cut.board is None
        assert cut.steps == searched.steps[:-1]
    assert dead > 5
    assert backs > 0

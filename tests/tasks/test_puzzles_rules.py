"""Every kind of puzzle on a board made by hand: its solution passes, and each of its rules, once broken, is named."""

import re
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import pytest

from stillroom.errors import UserError
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS, check, check_complete, possible_values, rules_of


def board(text: str) -> Board:
    return tuple(text.replace("/", " ").split())


def labels(text: str) -> list[int]:
    return [ord(letter) - 65 for letter in board(text)]


class Case(NamedTuple):
    kind: str
    clues: dict[str, Any]
    solution: str
    wrong: dict[str, set[str]]
    """Board → exactly the rules that it breaks."""
    given: str = ""


LATIN = "1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"
ROWS_BROKEN = "3 2 3 4 / 1 4 1 2 / 2 1 4 3 / 4 3 2 1"  # r1c1 and r2c1 exchanged
COLUMNS_BROKEN = "2 1 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"  # r1c1 and r1c2 exchanged
OTHER_LATIN = "1 2 3 4 / 2 1 4 3 / 3 4 1 2 / 4 3 2 1"  # a Latin square without regard to boxes
ONE_AND_FOUR = "4 2 3 1 / 3 1 4 2 / 2 4 1 3 / 1 3 2 4"  # 1 and 4 exchanged everywhere
BOXES = labels("A A B B / A A B B / C C D D / C C D D")
JIGSAW = labels("A B B B / A A B D / A C D D / C C C D")
REGIONS_BROKEN = {
    "3 2 3 4 / 1 4 1 2 / 2 1 4 3 / 4 3 2 1": {"row repeats"},
    "1 3 2 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1": {"column repeats"},
}
CASES = [
    Case(
        "sudoku",
        {"regions": BOXES},
        LATIN,
        {ROWS_BROKEN: {"row repeats"}, COLUMNS_BROKEN: {"column repeats"}, OTHER_LATIN: {"box repeats"}},
    ),
    Case("jigsaw-sudoku", {"regions": JIGSAW}, LATIN, {**REGIONS_BROKEN, OTHER_LATIN: {"region repeats"}}),
    Case("colored-sudoku", {"colors": JIGSAW}, LATIN, {**REGIONS_BROKEN, OTHER_LATIN: {"color repeats"}}),
    Case(
        "odd-even-sudoku",
        {"regions": BOXES, "marks": [*board("b . . . / . . . . / . . . . / w . . .")]},
        LATIN,
        {
            COLUMNS_BROKEN: {"column repeats", "odd cell"},
            ROWS_BROKEN: {"row repeats"},
            OTHER_LATIN: {"box repeats"},
            "2 1 3 4 / 3 4 2 1 / 1 2 4 3 / 4 3 1 2": {"odd cell"},  # 1 and 2 exchanged
            "1 2 4 3 / 4 3 1 2 / 2 1 3 4 / 3 4 2 1": {"even cell"},  # 3 and 4 exchanged
        },
    ),
    Case(
        "killer-sudoku",
        {
            "regions": BOXES,
            "cages": labels("A A B B / C C D D / E E F F / G G H H"),
            "sums": [3, 7, 7, 3, 3, 7, 7, 3],
        },
        LATIN,
        {
            ROWS_BROKEN: {"row repeats", "cage sum"},
            COLUMNS_BROKEN: {"column repeats"},
            OTHER_LATIN: {"box repeats", "cage sum"},
            ONE_AND_FOUR: {"cage sum"},
        },
    ),
    Case(
        "futoshiki",
        {"signs": [[0, 1], [0, 4]]},  # r1c1 < r1c2, r1c1 < r2c1
        LATIN,
        {
            ROWS_BROKEN: {"row repeats", "inequality"},
            COLUMNS_BROKEN: {"column repeats", "inequality"},
            ONE_AND_FOUR: {"inequality"},
        },
    ),
    Case(
        "renzoku",
        {"dots": [[0, 1]]},  # without a dot, r1c2 and r1c3 may differ by 1 as well
        LATIN,
        {COLUMNS_BROKEN: {"column repeats"}, ROWS_BROKEN: {"row repeats"}, ONE_AND_FOUR: {"dot"}},
    ),
    Case(
        "skyscraper",
        {"left": [4, 2, 2, 1], "right": [1, 2, 2, 4], "top": [3, 2, 2, 1], "bottom": [1, 2, 2, 3]},
        LATIN,
        {
            ROWS_BROKEN: {"row repeats", "visible buildings"},
            COLUMNS_BROKEN: {"column repeats", "visible buildings"},
            ONE_AND_FOUR: {"visible buildings"},
        },
    ),
    Case(
        "kakuro",
        {"rows": [4, 7, 6], "columns": [4, 7, 6]},
        "1 2 1 / 2 3 2 / 1 2 3",
        {
            "1 2 3 / 2 3 2 / 1 2 1": {"row sum"},
            "1 2 1 / 2 3 2 / 3 2 1": {"column sum"},
            "1 2 1 / 2 2 3 / 1 3 2": {"equal neighbours"},
        },
    ),
    Case(
        "kakurasu",
        {"rows": [3, 3, 3], "columns": [3, 3, 3]},
        "s s e / s s e / e e s",
        {"e s e / e s e / s e s": {"row sum"}, "e e s / s s e / e e s": {"column sum"}},
    ),
    Case(
        "aquarium",
        {"regions": labels("A B B / C C B / D D D"), "rows": [1, 1, 0], "columns": [1, 0, 1]},
        "s e e / e e s / e e e",
        {
            "e e s / s e e / e e e": {"water level"},
            "s e e / e e e / e e e": {"row count", "column count"},
            "s e e / e s e / e e e": {"column count", "water level"},
            "e e e / e e s / s e e": {"row count", "water level"},
        },
    ),
    Case(
        "thermometers",
        {"tubes": [[0, 1, 2], [6, 3], [8, 5]], "rows": [2, 1, 2], "columns": [2, 1, 2]},
        "s s e / e e s / s e s",
        {
            "s e s / e s e / s e s": {"mercury", "outside"},
            "s s e / s e e / e e s": {"row count", "column count", "mercury"},
            "s s e / e e s / e s s": {"column count", "outside"},
            "s s e / s e s / e e s": {"row count", "mercury"},
        },
    ),
    Case(
        "binairo",
        {},
        "w w b b / b b w w / w b w b / b w b w",
        {
            "b w b b / b b w w / w b w b / b w b w": {"half white"},
            "w w w b / b b w w / w b w b / b w b w": {"half white", "three alike"},
        },
    ),
    Case(
        "nonogram",
        {"rows": [[1, 1], [3], [1]], "columns": [[2], [2], [2]]},
        "s e s / s s s / e s e",
        {"e e s / s s s / s s e": {"row runs"}, "s e s / s s s / s e e": {"column runs"}},
    ),
    Case(
        "hitori",
        {"numbers": [1, 1, 2, 2, 3, 1, 3, 2, 3]},
        "s e e / e e e / e e s",
        {
            "e e e / e e e / e e s": {"number repeats"},
            "s e e / s e e / e e s": {"shaded neighbours"},
            "e s e / s e e / e e s": {"unshaded in one piece"},
        },
    ),
    Case(
        "field-explore",
        {"numbers": [None, None, 0, None, 2, None, None, None, None]},
        "s e e / e e e / e e s",
        {"e s e / e e e / e e s": {"mines around"}, "e e s / e e e / e e s": {"mine on a number"}},
        given=". . . / . e . / . . .",
    ),
    Case(
        "light-up",
        {"numbers": [None] * 4 + [2] + [None] * 4},
        "e s e / s # e / e e s",
        {
            "s s e / s # e / e e s": {"lamps see each other"},
            "s e e / e # e / e e s": {"wall number"},
            "e s e / s # e / e e e": {"unlit cell"},
            "e s e / s # e / e e #": {"unlit cell", "no new wall"},
        },
        given=". . . / . # . / . . .",
    ),
    Case(
        "star-battle",
        {"regions": labels("A A A A A / B B B C C / D B C C C / D D D E E / D E E E E")},
        "s e e e e / e e s e e / e e e e s / e s e e e / e e e s e",
        {
            "e s e e e / e e e s e / s e e e e / e e s e e / e e e e s": {"one star a region"},
            "e e e e s / e e s e e / e e e e s / e s e e e / e e e s e": {"one star a column"},
            "e e e e e / s e s e e / e e e e s / e s e e e / e e e s e": {"one star a row", "one star a region"},
            "s e e e e / e e s e e / e e e e s / e e e s e / e s e e e": {"one star a region", "stars touch"},
        },
    ),
    Case(
        "trees-and-tents",
        {"rows": [2, 0, 1, 1, 0], "columns": [2, 0, 1, 0, 1]},
        "tt e e tr tt / tr e e e e / e tr tt e e / tt tr e e e / e e e e e",
        {
            "tt e e tr tt / tr e e e e / e tr tt e e / e tr e e e / tt e e e e": {
                "row count",
                "one tent a tree",
                "one tree a tent",
            },
            "tt e e tr tt / tr e e e e / e tr tt e e / e tr tt e e / e e e e e": {"column count", "tents touch"},
            "tt e e tr tt / tr e e e e / e tr tt e e / tt tr e e e / e e e e tr": {"no new tree"},
            "tt e e tr tt / tr e e e e / e tr tt e e / e tr e e e / e e e e e": {
                "row count",
                "column count",
                "one tent a tree",
                "as many tents as trees",
            },
        },
        given=". . . tr . / tr . . . . / . tr . . . / . tr . . . / . . . . .",
    ),
    Case(
        "battleships",
        {"rows": [1, 2, 0, 1], "columns": [1, 0, 2, 1], "fleet": [2, 1, 1]},
        "s e e e / e e s s / e e e e / e e s e",
        {
            "e e e e / e e s s / s e e e / e e s e": {"row count"},
            "s e e e / e e s s / e e e e / e s e e": {"column count"},
            "e s e e / e e s s / e e e e / e e s e": {"column count", "ships touch diagonally"},
            "e e e e / e e s s / e e e e / e e s e": {"row count", "column count", "fleet"},
        },
    ),
]
cases = pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
kinds = pytest.mark.parametrize("kind", KINDS)


def puzzle(case: Case) -> Puzzle:
    size = round(len(board(case.solution)) ** 0.5)
    given = board(case.given) if case.given else (UNDECIDED,) * (size * size)
    return Puzzle(kind=case.kind, size=size, given=given, clues=case.clues)


def prefixes(solution: Sequence[str], given: Sequence[str], rng: Random) -> list[list[str]]:
    """From the given cells to the solution, one cell more at a time, in random order."""
    now, found = list(given), [list(given)]
    for cell in rng.sample(range(len(now)), len(now)):
        now[cell] = solution[cell]
        found.append(list(now))
    return found


def test_there_is_a_case_for_every_kind() -> None:
    assert {case.kind for case in CASES} == set(KINDS)
    assert len(KINDS) == 20


@cases
def test_the_solution_passes_and_so_does_every_part_of_it(case: Case) -> None:
    asked, solution = puzzle(case), board(case.solution)
    checked = check_complete(asked, solution)
    assert (checked.ok, checked.reason, checked.broken) == (True, "solved", ())
    for seed in range(2):
        for part in prefixes(solution, asked.given, Random(seed)):
            assert check(asked, part)
            for cell, value in enumerate(part):
                if value == UNDECIDED:
                    assert solution[cell] in possible_values(asked, part, cell)


@cases
def test_each_rule_when_broken_is_named(case: Case) -> None:
    asked = puzzle(case)
    for text, broken in case.wrong.items():
        checked = check_complete(asked, board(text))
        assert not checked.ok
        assert set(checked.broken) == broken, text
        assert checked.reason.split(": ")[0] in broken
        assert not check(asked, board(text))
    # Every rule that the kind tells is broken by one of the boards.
    assert set().union(*case.wrong.values()) == set(KINDS[case.kind].told)


@cases
def test_a_value_that_would_break_a_rule_at_once_is_not_possible(case: Case) -> None:
    asked, solution = puzzle(case), board(case.solution)
    for cell, value in enumerate(solution):
        if asked.given[cell] != UNDECIDED:
            assert possible_values(asked, solution, cell) == ()
            continue
        without = [*solution[:cell], UNDECIDED, *solution[cell + 1 :]]
        right = [
            other
            for other in KINDS[case.kind].values(asked.size)
            if check_complete(asked, [*solution[:cell], other, *solution[cell + 1 :]]).ok
        ]
        assert value in right
        assert [*possible_values(asked, without, cell)] == right


@cases
def test_what_is_no_board_has_a_reason_and_never_raises(case: Case) -> None:
    asked, solution = puzzle(case), board(case.solution)
    cut, strange = solution[:-1], ("?" * 50, *solution[1:])
    for wrong, fault in ((cut, "wrong size"), (strange, "unknown symbol"), ((), "wrong size")):
        assert check_complete(asked, wrong).broken == (fault,)
    assert check_complete(asked, (UNDECIDED, *solution[1:])).reason == "undecided cell: r1c1"
    shown = asked.model_copy(update={"given": solution})
    for text in case.wrong:
        assert check_complete(shown, board(text)).broken == ("changed cell",)
        assert not check(shown, board(text))


def test_a_fleet_of_other_lengths_is_refused_where_all_counts_are_right() -> None:
    case = next(case for case in CASES if case.kind == "battleships")
    other = puzzle(case).model_copy(update={"clues": {**case.clues, "fleet": [3, 1]}})
    assert check_complete(other, board(case.solution)).broken == ("fleet",)
    # Another arrangement of the right fleet with the same counts is as good an answer.
    assert check_complete(puzzle(case), board("e e s e / s e s e / e e e e / e e e s")).ok


def test_inequalities_of_numbers_with_two_digits_compare_numbers() -> None:
    asked, solution = generate("futoshiki", 12, Random(0))
    at = [solution.index("9", 0), solution.index("10", 0)]
    clues = {"signs": [[at[0], at[1]]]}
    assert check_complete(asked.model_copy(update={"clues": clues}), solution).ok
    wrong = check_complete(asked.model_copy(update={"clues": {"signs": [at[::-1]]}}), solution)
    assert wrong.broken == ("inequality",)


@kinds
def test_every_rule_is_told_and_every_told_rule_exists(kind: str) -> None:
    named: set[str] = set()
    for seed in range(5):
        asked, _ = generate(kind, KINDS[kind].sizes[0], Random(seed))
        named |= {rule.name for rule in rules_of(asked)}
    assert named == set(KINDS[kind].told)
    assert all(re.fullmatch(r"[A-Z].*\.", told) for told in KINDS[kind].told.values())


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("sudoku", 8, "square"),
        ("binairo", 5, "even size"),
        ("star-battle", 4, "5 is the smallest"),
        ("renzoku", 3, "4 is the smallest"),
        ("hitori", 17, "16 is the largest"),
        ("sudokku", 4, "did you mean sudoku"),
    ],
)
def test_sizes_and_kinds_that_do_not_exist_are_refused(kind: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(kind, size, Random(0))

"""Register folding: what is needed, what is not, and a program worked by hand."""

import pytest

from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style, question
from stillroom.tasks.registers import registers, solve
from stillroom.types import Problem, Span

ROWS = [["a", "3", "", ""], ["d", "a", "*", "2"], ["b", "a", "+", "6"], ["c", "b", "*", "a"]]
TEXT = "Modulo 7:\na=3\nd=a*2\nb=a+6\nc=b*a\nWhat is c?"


@pytest.fixture
def by_hand() -> Problem:
    """b = 3 + 6 = 9 = 2, c = 2 * 3 = 6 (mod 7); d is a distractor."""
    premises = [
        Span(kind="premise", start=TEXT.index(f"{row[0]}="), end=0, data={"name": row[0], "needed": row[0] != "d"})
        for row in ROWS
    ]
    meta = {"modulus": 7, "asked": "c", "lines": ROWS}
    return Problem(id="h", task="registers", messages=question(TEXT), reference="6", spans=tuple(premises), meta=meta)


def test_solution_by_hand(by_hand: Problem) -> None:
    assert solve(by_hand, Style(), derive_rng(0)).thought == "b=3+6=2\nc=2*3=6"
    said = solve(by_hand, Style(layout="sentences"), derive_rng(0))
    assert said.thought == "b is 3 plus 6, so 2.\nc is 2 times 3, so 6."
    assert said.answer == "6"


def test_premises_name_what_is_needed() -> None:
    for problem in registers(high=12, distractors=4).problems("train", 240, 0):
        text = problem.messages[-1].content
        lines = {str(span.data["name"]): span for span in problem.spans}
        defined: set[str] = set()
        for span in problem.spans:  # each label is defined once, before its use
            assert text[span.start : span.end].startswith(f"{span.data['name']}=")
            assert set(span.data["uses"]) <= defined  # type: ignore[arg-type]
            defined.add(str(span.data["name"]))
        needed, open_names = set[str](), [str(problem.meta["asked"])]
        while open_names:
            name = open_names.pop()
            needed.add(name)
            open_names += lines[name].data["uses"]  # type: ignore[operator]
        assert needed == {name for name, span in lines.items() if span.data["needed"]}
        assert len(lines) == len(needed) + 4
        folds = [name for name in needed if lines[name].data["uses"]]
        assert len(folds) == problem.level


def test_an_error_spoils_only_what_uses_it() -> None:
    task = registers(low=6, high=6)
    partly = 0
    for problem in task.problems("train", 150, 0):
        solution = solve(problem, Style(error_rate=0.2), derive_rng(problem.id))
        uses = {str(span.data["name"]): set(span.data["uses"]) for span in problem.spans}  # type: ignore[arg-type]
        spoilt: set[str] = set()
        for span in solution.spans:
            name = solution.thought[span.start]
            if span.data["injected"] or uses[name] & spoilt:
                spoilt.add(name)
            assert span.data["correct"] is (name not in spoilt)
        first = next((i for i, span in enumerate(solution.spans) if not span.data["correct"]), None)
        partly += first is not None and any(span.data["correct"] for span in solution.spans[first:])
    assert partly >= 5  # sound steps after an error do occur


def test_with_numbers_as_operands_the_last_register_is_all_that_is_needed_to_go_on() -> None:
    for problem in registers(high=12, distractors=0, operands="numbers").problems("train", 48, 0):
        first, *folds = problem.meta["lines"]  # type: ignore[misc]
        assert first[2] == ""
        assert len(folds) == problem.level
        before = first[0]
        for name, left, _, right in folds:
            assert left == before
            assert right in "23456"
            before = name
        assert before == problem.meta["asked"]


def test_one_operation_in_every_fold() -> None:
    for problem in registers(high=12, distractors=0, operands="one").problems("train", 120, 0):
        given, *folds = problem.meta["lines"]  # type: ignore[misc, union-attr]
        assert len({tuple(line[2:]) for line in folds}) == 1
        assert [line[1] for line in folds] == [line[0] for line in (given, *folds)][:-1]
        value = int(given[1])
        for line in folds:
            value = {"+": value + int(line[3]), "-": value - int(line[3]), "*": value * int(line[3])}[line[2]] % 7
        assert str(value) == problem.reference

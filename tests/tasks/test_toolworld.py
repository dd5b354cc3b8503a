"""The tool world: answers worked out by another route, and a teacher that knows only what its actions showed."""

import re
from random import Random

import pytest

from stillroom.tasks import load_task
from stillroom.tasks.base import Style
from stillroom.tasks.toolworld import LAYOUTS, act, passages, plan, variables
from stillroom.types import Message, Problem

NAMES = {"mentor", "best friend", "home town", "job"}


def worked_out(problem: Problem) -> str:
    """From the question's words and the passages alone."""
    text = problem.messages[0].content
    if found := re.fullmatch(r"What is (\d+)\*(\d+) mod (\d+)\?", text):
        left, right, modulus = map(int, found.groups())
        return str(pow(left * right, 1, modulus))
    if found := re.fullmatch(r"What is gcd\((\d+), (\d+)\)\?", text):
        left, right = map(int, found.groups())
        return str(max(n for n in range(1, 200) if not left % n and not right % n))
    facts = dict(re.fullmatch(r"The (.+ of \w+) is (\w+)\.", p).groups() for p in passages() if " of " in p)  # type: ignore[union-attr]
    parts = text.rstrip("?").replace("Who is the ", "").replace("What is the ", "").split(" of the ")
    *earlier, last = parts
    relation, current = last.split(" of ")
    current = facts[f"{relation} of {current}"]
    for name in reversed(earlier):
        current = facts[f"{name} of {current}"]
    return current


@pytest.mark.parametrize(("spec", "levels"), [("tool-world", {1, 2}), ("tool-world:far=true", {3, 4})])
def test_answers_by_another_route(spec: str, levels: set[int]) -> None:
    task = load_task(spec)
    for split in ("train", "test"):
        problems = task.problems(split, 40, 3)  # type: ignore[arg-type]
        assert {problem.level for problem in problems} == levels
        for problem in problems:
            assert problem.reference == worked_out(problem)


def test_operands_are_as_long_as_their_level_says() -> None:
    for spec, digits in (("tool-world", (4, 6)), ("tool-world:far=true", (7, 8))):
        for problem in load_task(spec).problems("train", 60, 0):
            if problem.level in (1, 3):
                numbers = problem.meta["numbers"][:2]  # type: ignore[index]
                assert all(digits[0] <= len(str(n)) <= digits[1] for n in numbers)  # type: ignore[union-attr]


def test_two_thousand_passages_each_a_fact_of_its_own() -> None:
    assert len(passages()) == len(set(passages())) == 2000
    assert not set(passages()) & set(passages(400, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", ["tool-world", "tool-world:far=true"])
def test_solutions_end_in_the_answer(spec: str, layout: str) -> None:
    task = load_task(spec)
    assert task.solve is not None
    for problem in task.problems("dev", 20, 0):
        solution = task.solve(problem, Style(layout=layout), Random(problem.id))
        assert solution.answer == problem.reference
        assert task.verify(problem, f"\\boxed{{{solution.answer}}}").correct
        if layout != "episode":
            assert f"{plan(problem)}\n\n" in solution.thought


def test_an_injected_error_gives_a_wrong_answer() -> None:
    task = load_task("tool-world")
    assert task.solve is not None
    for problem in task.problems("train", 20, 0):
        solution = task.solve(problem, Style(error_rate=1.0), Random(0))
        assert solution.answer != problem.reference
        assert any(not span.data["correct"] for span in solution.spans)


def test_the_teacher_continues_a_first_thought_and_repeats_nothing_of_it() -> None:
    for problem in load_task("tool-world").problems("train", 10, 0):
        whole = act(problem, problem.messages, "", Random(0), careless=0.0)
        prefix = f"Thought: {plan(problem)}"
        assert prefix + act(problem, problem.messages, prefix, Random(0)) == whole


def test_without_a_first_thought_half_of_its_first_turns_are_careless() -> None:
    problems = load_task("tool-world").problems("train", 300, 0)
    careless = sum(plan(p) not in act(p, p.messages, "", Random(i)) for i, p in enumerate(problems))
    assert 110 < careless < 190


def test_numbers_are_variables_of_the_interpreter() -> None:
    for problem in load_task("tool-world").problems("train", 12, 0):
        held = dict(line.split(" = ") for line in variables(problem).splitlines())
        assert list(held.values()) == [str(n) for n in problem.meta.get("numbers", [])]  # type: ignore[union-attr]


def test_the_teacher_reads_its_observations_and_gives_up_when_they_do_not_help() -> None:
    problem = next(p for p in load_task("tool-world").problems("train", 10, 0) if p.level == 2)
    first = act(problem, problem.messages, "", Random(0), careless=0.0)
    said = Message(role="assistant", content=first)
    useless = Message(role="user", content="Observation: nothing found")
    again = act(problem, [*problem.messages, said, useless], "", Random(0))
    assert 'final_answer("unknown")' in again

"""Deduction: what follows, by another route, and proofs that hold line by line."""

import re
from collections import Counter
from typing import Any

import pytest

from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import validate
from stillroom.tasks.base import Style, Task
from stillroom.tasks.deduction import LAYOUTS, Rule, closure, decide, deduction, proof_faults
from stillroom.tasks.sat import follows
from stillroom.types import Problem

OPEN, CLOSED = deduction(high=4), deduction(high=4, closed=True)
both = pytest.mark.parametrize("task", [OPEN, CLOSED], ids=["open", "closed"])


def parsed(problem: Problem) -> tuple[list[str], list[Rule], str]:
    """Facts about whom is asked, rules, and the trait in question, from the text alone."""
    text, asked = problem.messages[0].content.split("\n")
    who, trait = re.fullmatch(r"True(?:, false or unknown| or false): (\w+) is (\w+)\.", asked).groups()  # type: ignore[union-attr]
    rules = [
        Rule(tuple(body.split(" and ")), head, bool(no))
        for body, no, head in re.findall(r"Whoever is (\w+(?: and \w+)?) is (not )?(\w+)\.", text)
    ]
    return re.findall(rf"(?<!\w){who} is (\w+)\.", text), rules, trait


def by_models(facts: list[str], rules: list[Rule], trait: str) -> str:
    """Classical entailment: a complete solver over all ways in which things could be."""
    names = sorted({*facts, trait, *(t for rule in rules for t in (*rule.body, rule.head))})
    number = {name: at for at, name in enumerate(names, start=1)}
    clauses: list[tuple[int, ...]] = [(number[fact],) for fact in facts]
    clauses += [(*(-number[t] for t in rule.body), number[rule.head] * (-1 if rule.denies else 1)) for rule in rules]
    return follows(tuple(clauses), number[trait])


def by_saturation(facts: list[str], rules: list[Rule], trait: str) -> str:
    known = set(facts)
    for _ in rules:
        known |= {rule.head for rule in rules if set(rule.body) <= known}
    return "true" if trait in known else "false"


@both
def test_the_answer_follows_by_another_route(task: Task) -> None:
    for problem in task.problems("train", 150, 3):
        facts, rules, trait = parsed(problem)
        again = by_saturation(facts, rules, trait) if problem.meta["closed"] else by_models(facts, rules, trait)
        assert again == problem.reference, problem.messages[0].content


def test_denials_reach_backwards_and_worlds_differ() -> None:
    rules = [Rule(("a",), "b"), Rule(("b", "c"), "d", True), Rule(("e",), "d")]
    # e makes d, which a rule forbids of those who are b and c.
    answer, proof = decide(["a", "c"], rules, "e", False)
    assert (answer, proof and proof.depth) == ("false", 2)
    assert proof is not None
    assert [(s.body, s.head, s.denies) for s in proof.steps] == [
        (("a",), "b", False),
        (("e",), "d", False),
        (("b", "c"), "d", True),
    ]
    assert decide(["a"], rules, "e", False) == ("unknown", None)
    assert decide(["a"], rules[:1], "e", True) == ("false", None)
    assert decide(["a"], rules, "b", False)[0] == "true"
    assert closure(["a", "c", "e"], rules)[1] == rules[1]
    assert closure(["a"], rules)[1] is None


@both
def test_levels_are_depths_and_answers_are_balanced(task: Task) -> None:
    found = Counter()  # type: ignore[var-annotated]
    for problem in task.problems("train", 800, 0):
        found[problem.level, problem.reference] += 1
        facts, rules, trait = parsed(problem)
        _, proof = decide(facts, rules, trait, bool(problem.meta["closed"]))
        assert proof is None or proof.depth == problem.level
    for level in task.levels:
        counts = {answer: found[level, answer] for answer in ("true", "false", "unknown") if found[level, answer]}
        assert len(counts) == (2 if task is CLOSED or level == 0 else 3)
        assert max(counts.values()) < 1.7 * min(counts.values())


@both
def test_proofs_hold_line_by_line_and_wrong_ones_do_not(task: Task) -> None:
    assert task.solve is not None
    caught = slipped = 0
    for problem in task.problems("train", 100, 5):
        right = task.solve(problem, Style(verbosity=1, fillers=0.3), derive_rng(0))
        assert proof_faults(problem, right.thought) == []
        assert right.answer == problem.reference
        wrong = task.solve(problem, Style(error_rate=0.6), derive_rng("slip", problem.id))
        if any(span.data["injected"] for span in wrong.spans):
            slipped += 1
            caught += bool(proof_faults(problem, wrong.thought))
    assert caught == slipped > 30
    deep = next(p for p in task.problems("train", 50, 5) if p.level > 1 and p.reference == "true")
    assert proof_faults(deep, "") == ["does not show what was asked"]
    first, *_, last = task.solve(deep, Style(), derive_rng(0)).thought.splitlines()
    assert proof_faults(deep, f"{first}\n{last}")[0].startswith("rests on what is not known")
    assert proof_faults(deep, "suppose big\nbig -> blue")[:1] == ["supposes something else: 'suppose big'"]


@both
def test_every_style_ends_in_the_answer_and_verifies(task: Task) -> None:
    assert task.solve is not None
    for problem in task.problems("dev", 30, 0):
        for layout in LAYOUTS:
            solution = task.solve(problem, Style(layout=layout), derive_rng(0))
            assert task.verify(problem, render(get_format("think"), solution.thought, solution.answer)).correct is True
            assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
    report = validate(task, 100)
    assert report.ok, report.failures
    assert task.problems("dev", 10, 0) == task.problems("dev", 20, 0)[:10]


@both
def test_splits_are_disjoint(task: Task) -> None:
    seen = {
        s: {p.messages[0].content for seed in (0, 1) for p in task.problems(s, 100, seed)}
        for s in ("train", "dev", "test")
    }
    assert not seen["train"] & seen["dev"] | seen["train"] & seen["test"] | seen["dev"] & seen["test"]


@pytest.mark.parametrize("options", [{"low": -1}, {"high": 5}, {"low": 3, "high": 2}, {"distractors": 7}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        deduction(**options)

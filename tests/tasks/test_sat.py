"""Satisfiability in natural language: solver, sentences and back, samplers, task."""

from collections import Counter
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import get_format, render
from stillroom.errors import DataError, UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import validate
from stillroom.tasks.base import Style, Task
from stillroom.tasks.sat import LAYOUTS, follows, random_formula, sat
from stillroom.tasks.sat_solver import Formula, alpha, canonical, holds, solve, variables_of
from stillroom.tasks.sat_words import LANGUAGES, names, read, write
from stillroom.types import Problem

FORMULAS = st.lists(
    st.lists(st.integers(1, 6).flatmap(lambda v: st.sampled_from((v, -v))), min_size=1, max_size=3).map(tuple),
    max_size=25,
).map(tuple)


def by_trying(formula: Formula) -> bool:
    models = product(*((v, -v) for v in sorted(variables_of(formula))))
    return any(holds(formula, model) for model in models)


# -- solver ----------------------------------------------------------------------------------------------------------


@given(FORMULAS)
def test_the_solver_is_complete_and_its_models_hold(formula: Formula) -> None:
    found = solve(formula)
    assert (found.model is not None) == by_trying(formula)
    if found.model is not None:
        assert holds(formula, found.model)


def test_the_solver_agrees_with_a_public_one() -> None:
    pysat = pytest.importorskip("pysat.solvers")
    rng = Random(5)
    for variables in (4, 8, 12):
        for _ in range(40):
            formula = random_formula(variables, round(variables * 5), 0.8, rng)
            with pysat.Minisat22(bootstrap_with=[list(clause) for clause in formula]) as other:
                assert (solve(formula).model is not None) == other.solve()


def test_edge_cases_and_counts() -> None:
    assert solve(()).model == ()
    assert solve(((1,), ())).model is None
    chain = solve(((1,), (-1, 2), (-2, -3)))
    assert (chain.model, chain.decisions, chain.conflicts, chain.propagations) == ((1, 2, -3), 0, 0, 3)
    split = solve(((1, 2), (1, -2), (-1, 2), (-1, -2)))
    # Try 1: clause 3 forces 2, clause 4 fails. Back to not 1: clause 1 forces 2, clause 2 fails.
    assert (split.model, split.decisions, split.conflicts, split.propagations) == (None, 1, 2, 2)
    assert alpha(((1, 2, 7), (1, 2, -7))) == 2 / 3
    assert alpha(()) is None
    assert canonical(((2, 1), (1, 2), (-3,))) == ((-3,), (1, 2))


def test_what_follows_is_entailed() -> None:
    formula = ((-1, 2), (-2, 3), (1,), (-4, 5))
    assert [follows(formula, literal) for literal in (3, -3, 4)] == ["true", "false", "unknown"]


# -- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "formula"),
    [
        ("rules", "If lemon and no bread then soup.", ((-1, 2, 3),)),
        ("rules", "If no apple then no pineapple. If pineapple then apple.", ((1, -2), (-2, 1))),
        ("people", "If Ann is not sad and Bob is kind then Dee is not tall.", ((1, -2, -3),)),
        ("relative", "Every baker who is not a poet is a miner.", ((-1, 2, 3),)),
        ("relative", "Every baker who is a poet is not a miner.", ((-1, -2, -3),)),
        ("relative", "No baker who is a poet is a miner.", ((-1, -2, -3),)),
        ("relative", "Every baker is a poet. No poet is a miner.", ((-1, 2), (-2, -3))),
        ("relative", "Tom is a baker or not a poet.", ((1, -2),)),
        # Facts first, then every rule for every individual that is named.
        ("relative", "Ann is a baker. Every baker is a poet. Bob is not a poet.", ((1,), (-2,), (-1, 3), (-4, 2))),
        ("rules", "", ()),
    ],
)
def test_sentences_mean_clauses(language: str, text: str, formula: Formula) -> None:
    assert read(language, text)[0] == formula


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("rules", "If lemon then."),
        ("rules", "If lemon and granite then soup."),
        ("rules", "Lemon."),
        ("people", "If Ann is kind then Zoe is kind."),
        ("people", "If Ann kind then Bob is kind."),
        ("relative", "Every baker who is a wizard is a miner."),
        ("relative", "No baker is not a miner."),
        ("relative", "Some baker is a miner."),
    ],
)
def test_what_a_language_does_not_have_is_named(language: str, text: str) -> None:
    with pytest.raises(DataError, match=text.rstrip(".")):
        read(language, text)


@given(st.sampled_from(LANGUAGES), st.integers(0, 10**6), st.sampled_from((0.0, 0.6, 1.0)))
def test_text_goes_there_and_back(language: str, seed: int, p: float) -> None:
    rng = derive_rng("round trip", seed)
    formula = random_formula(5, 12, p, rng)
    called = names(language, 5, rng)
    back, found = read(language, " ".join(write(language, clause, called, rng) for clause in formula))
    bare = [name.removeprefix("Tom ") for name in found]
    number = {at + 1: called.index(name) + 1 for at, name in enumerate(bare)}
    renamed = [tuple(number[abs(x)] * (1 if x > 0 else -1) for x in clause) for clause in back]
    assert canonical(renamed) == canonical(formula)


# -- task ------------------------------------------------------------------------------------------------------------

TASKS = [
    sat(high=5),
    sat(language="people"),
    sat(language="relative", high=4),
    sat(entailed=True, high=4),
    sat(sampler="mixed", high=4),
    sat(p=0, high=4),
]
IDS = ("rules", "people", "relative", "entailed", "mixed", "two-sat")
every = pytest.mark.parametrize("task", TASKS, ids=IDS)


def gold_again(problem: Problem) -> str:
    """From the text alone."""
    *sentences, ask = problem.messages[0].content.split("\n")
    formula, called = read(str(problem.meta["language"]), sentences[0])
    if ask.startswith("Can"):
        return "yes" if by_trying(formula) else "no"
    name = ask.removeprefix("Does it follow that there is ").removesuffix("?")
    literal = -called.index(name[3:]) - 1 if name.startswith("no ") else called.index(name) + 1
    can, cannot = by_trying((*formula, (literal,))), by_trying((*formula, (-literal,)))
    return "unknown" if can and cannot else "true" if can else "false"


@every
def test_the_answer_is_found_again_from_the_text(task: Task) -> None:
    for problem in task.problems("train", 40, 3):
        assert gold_again(problem) == problem.reference
        assert len(problem.meta["called"]) == problem.level  # type: ignore[arg-type]


@every
def test_problems_are_deterministic_and_their_answers_verify(task: Task) -> None:
    assert task.problems("dev", 10, 4) == task.problems("dev", 20, 4)[:10]
    report = validate(task, 40)
    assert report.ok, report.failures


def test_hard_cells_are_balanced_and_naive_ones_mostly_easy() -> None:
    hard = Counter(problem.reference for problem in sat(low=4, high=4).problems("train", 200, 0))
    assert 80 <= hard["yes"] <= 120
    naive = Counter(problem.reference for problem in sat(low=4, high=4, sampler="naive").problems("train", 200, 0))
    assert naive["yes"] > 160
    # 4.27 clauses a variable, the textbook's ratio, is an easy one at this size.
    rng = Random(0)
    easy = sum(solve(random_formula(4, 17, 1.0, rng)).model is not None for _ in range(300))
    assert easy > 210


def formula_of(problem: Problem) -> tuple[Any, ...]:
    formula, called = read("rules", problem.messages[0].content.split("\n")[0])
    return canonical([tuple((called[abs(x) - 1], x > 0) for x in clause) for clause in formula])  # type: ignore[misc]


def test_the_order_of_clauses_does_not_bring_a_formula_into_another_split() -> None:
    task = sat(high=4)
    seen = {s: {formula_of(p) for p in task.problems(s, 80, 0)} for s in ("train", "dev", "test")}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]


@every
def test_every_style_ends_in_the_answer_and_slips_are_labelled(task: Task) -> None:
    think, wrong = get_format("think"), 0
    assert task.solve is not None
    for problem in task.problems("train", 30, 1):
        for layout in LAYOUTS:
            solution = task.solve(problem, Style(layout=layout, verbosity=1), derive_rng(0))
            assert solution.answer == problem.reference
            assert task.verify(problem, render(think, solution.thought, solution.answer)).correct is True
            assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
        slipped = task.solve(problem, Style(error_rate=0.5), derive_rng("slip", problem.id))
        states = [(span.data["correct"], span.data["injected"]) for span in slipped.spans]
        first = next((at for at, (_, injected) in enumerate(states) if injected), len(states))
        assert [correct for correct, _ in states] == [True] * first + [False] * (len(states) - first)
        wrong += slipped.answer != problem.reference
    assert wrong >= 3


@pytest.mark.parametrize(
    "options", [{"low": 2}, {"high": 13}, {"low": 5, "high": 4}, {"sampler": "easy"}, {"language": "latin"}, {"p": 1.5}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        sat(**options)

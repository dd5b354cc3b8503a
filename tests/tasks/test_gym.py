"""reasoning-gym's sets as tasks: seeds, scores and safety that differ from the library's own."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import FORMATS, render
from stillroom.errors import MissingExtraError, UserError
from stillroom.tasks.base import Task
from stillroom.tasks.gym import load_gym, safe_to_score
from stillroom.types import Problem, Verdict

reasoning_gym = pytest.importorskip("reasoning_gym")


def say(task: Task, problem: Problem, answer: str) -> Verdict:
    return task.verify(problem, render(FORMATS["think"], "hm", answer))


@pytest.mark.parametrize("name", ["chain_sum", "knights_knaves", "n_queens", "letter_jumble", "gsm_symbolic"])
def test_the_same_questions_as_every_task(name: str) -> None:
    task = load_gym(name)
    problems = task.problems("train", 12, 3)
    assert problems == load_gym(name).problems("train", 12, 3)
    assert problems[:5] == task.problems("train", 5, 3)
    test = {p.messages[0].content for seed in (3, 4) for p in task.problems("test", 6, seed)}
    assert not test & {p.messages[0].content for p in problems}
    for problem in problems:
        assert problem.reference is not None
        verdict = say(task, problem, problem.reference)
        assert (verdict.correct, verdict.score) == (True, 1.0)
        for wrong in (f"{problem.reference} or maybe 7 7 7", f"not sure: {problem.reference}", "zz", "<script>"):
            assert say(task, problem, wrong).correct is False, wrong
        assert task.verify(problem, "").correct is False


def test_neighbouring_seeds_share_few_problems() -> None:
    task = load_gym("chain_sum", {"min_digits": 3, "max_digits": "4"})
    one, two = ({p.messages[0].content for p in task.problems("train", 100, seed)} for seed in (42, 43))
    assert len(one) == 100
    assert len(one & two) <= 2


@pytest.mark.parametrize("name", ["group_anagrams", "spell_backward", "figlet_font", "list_functions", "gsm_symbolic"])
def test_a_problem_is_the_library_s_own_first_item_of_its_seed(name: str) -> None:
    for problem in load_gym(name).problems("train", 3, 0):
        item = reasoning_gym.create_dataset(name, size=1, seed=problem.meta["gym_seed"])[0]
        assert (problem.messages[0].content, problem.reference) == (item["question"], item["answer"])


def test_part_of_a_score_is_kept_as_raw_only() -> None:
    task = load_gym("chain_sum")
    problem = task.problems("train", 1, 0)[0]
    verdict = say(task, problem, f"It is {problem.reference}")
    assert (verdict.correct, verdict.score) == (False, 0.0)
    assert verdict.raw is not None
    assert 0 < verdict.raw < 1


def test_another_right_answer_than_the_gold_one_is_correct() -> None:
    task = load_gym("countdown", {"min_numbers": 3, "max_numbers": 3})
    for problem in task.problems("train", 5, 0):
        assert problem.reference is not None
        verdict = say(task, problem, f"({problem.reference})*1".removesuffix("*1"))
        assert (verdict.correct, verdict.reason) == (True, "full score")


@pytest.mark.parametrize(
    ("change", "correct", "reason"),
    [
        ("3 + ({gold})", True, "full score"),  # another constant of integration
        ("2*({gold})", False, "different"),
        ("{gold} 4", False, "unreadable answer: ValueError"),
        ("({gold}", False, "not in a form that can be scored safely"),
    ],
)
def test_integrals_are_right_up_to_a_constant(change: str, correct: bool, reason: str) -> None:
    task = load_gym("simple_integration")
    problem = task.problems("train", 1, 0)[0]
    verdict = say(task, problem, change.format(gold=problem.reference))
    assert (verdict.correct, verdict.reason) == (correct, reason)


def test_an_integral_that_sympy_cannot_finish_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillroom.tasks.integrals.WALL_LIMIT_S", 2)
    task = load_gym("intermediate_integration")
    slow = "sin(x)**9*cos(x)**9*tan(x)**9*sinh(x)**9*cosh(x)**9*tanh(x)**9*exp(x)**2"
    verdict = say(task, task.problems("train", 1, 0)[0], slow)
    assert (verdict.correct, verdict.score) == (None, None)
    assert "timeout" in verdict.reason


HOSTILE = "__import__('pathlib').Path({path!r}).touch()"


@pytest.mark.parametrize(
    "name",
    [
        *("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"),
        *("countdown", "puzzle24", "intermediate_integration", "simple_integration"),
    ],
)
def test_text_of_a_model_is_never_evaluated(name: str, tmp_path: Path) -> None:
    task = load_gym(name)
    problem = task.problems("train", 1, 0)[0]
    for attack in (HOSTILE, f"[{HOSTILE}]", f"({HOSTILE})", "9**9**9**9**9", "((x+1)**99)**99", "factorial(10**9)"):
        verdict = say(task, problem, attack.format(path=str(tmp_path / "touched")))
        assert verdict.correct is False
        assert verdict.reason == "not in a form that can be scored safely"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "answer", "safe"),
    [
        ("puzzle24", "(8 - 2) * 4 / 1", True),
        ("puzzle24", "8**2", False),
        ("puzzle24", "8 * * 2", False),
        ("puzzle24", "abs(3)", False),
        ("simple_integration", "2*x**5/5 - x**(3/2) + C", True),
        ("simple_integration", "exp(x)*sin(x)/2 + log(x)", True),
        ("simple_integration", "cos(x)**7/7 - 2*cos(x)**5/5 + cos(x)**3/3", True),
        ("simple_integration", "x**2**2", False),
        ("simple_integration", "(((x+1)**3)**3)**3", True),
        ("simple_integration", "((((((x+1)**3)**3)**3)**3)**3)**3", False),
        ("simple_integration", "x**(2) ** 99", False),
        ("simple_integration", "x**x", False),
        ("simple_integration", "2**999", False),
        ("simple_integration", "((x+1)**20)**20", False),
        ("simple_integration", "x.diff", False),
        ("simple_integration", "1.real", False),
        ("simple_integration", "N(exp(9))", False),
        ("simple_integration", "x_1", False),
        ("simple_integration", "x" + " + x" * 60, False),
        ("n_queens", "_ Q\nQ _", True),
        ("n_queens", "[['_', 'Q']]", True),
        ("n_queens", "[x for x in ()]", False),
        ("n_queens", "Q()", False),
        ("chain_sum", "exec('1')", True),  # compared as text only
    ],
)
def test_what_a_scorer_that_evaluates_may_see(name: str, answer: str, safe: bool) -> None:
    assert safe_to_score(name, answer) is safe


@pytest.mark.parametrize("name", ["puzzle24", "simple_integration", "n_queens", "chain_sum"])
@given(text=st.text() | st.text(alphabet="0123456789xC+-*/(). [],'_", max_size=400))
def test_safety_is_decided_for_every_text(name: str, text: str) -> None:
    if safe_to_score(name, text) and name != "chain_sum":
        assert "__import__" not in text
        assert "**9**" not in text.replace(" ", "")


class _Broken:
    """A set whose scorer fails, whatever it is given."""

    def __init__(self, error: Exception, gold: str | None) -> None:
        self._error, self._gold = error, gold

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"question": "?", "answer": self._gold, "metadata": {}}

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        raise self._error


@pytest.mark.parametrize("gold", ["5", None])
@pytest.mark.parametrize("error", [ValueError("no"), RecursionError("deep"), MemoryError(), RuntimeError("gone")])
def test_a_scorer_that_fails_gives_no_score(
    error: Exception, gold: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoning_gym, "create_dataset", lambda name, **options: _Broken(error, gold))
    task = load_gym("chain_sum")
    split = next(s for s in ("train", "dev", "test") if _makes(task, s))
    verdict = say(task, task.problems(split, 1, 0)[0], "6")  # type: ignore[arg-type]
    assert (verdict.correct, verdict.score) == (None, None)
    assert type(error).__name__ in verdict.reason


def _makes(task: Task, split: Any) -> bool:
    try:
        return bool(task.problems(split, 1, 0))
    except UserError:
        return False


def test_an_answer_that_a_working_scorer_cannot_read_is_wrong() -> None:
    task = load_gym("prime_factorization")  # its scorer calls int() on the pieces
    problem = task.problems("train", 1, 0)[0]
    verdict = say(task, problem, "two × three")
    assert (verdict.correct, verdict.score) == (False, 0.0)


def test_a_problem_of_another_version_is_not_scored() -> None:
    task = load_gym("chain_sum")
    problem = task.problems("train", 1, 0)[0]
    verdict = say(
        task, problem.model_copy(update={"messages": load_gym("gcd").problems("train", 1, 0)[0].messages}), "1"
    )
    assert verdict.correct is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chain_summ", {}, "chain_sum"),
        ("composite", {}, "composite"),
        ("chain_sum", {"min_termz": "3"}, "min_terms"),
        ("chain_sum", {"min_terms": "three"}, "three"),
        ("chain_sum", {"min_terms": "9", "max_terms": "3"}, "refuses"),
        ("chain_sum", {"seed": "3"}, "seed"),
        ("chain_sum", {"size": 3}, "size"),
    ],
)
def test_bad_names_and_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_gym(name, options)


def test_a_set_that_changes_from_process_to_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(UserError, match="PYTHONHASHSEED=0"):
        load_gym("ransom_note")


def test_without_the_package_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match=r"stillroom\[gym\]"):
        load_gym("chain_sum")

"""Vignettes: the questions that every task must answer, what each source promises, and the minimal verifier."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import FORMATS, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, Task, content_hash, majority_baseline, question
from stillroom.tasks.choice import shuffled, verify_letter
from stillroom.tasks.vignettes import CONDITIONS, NOISE, RULES, SIGNS, SOURCES, vignettes
from stillroom.types import Problem

THINK = FORMATS["think"]
TASKS = {
    **{f"{source}-letters": vignettes(source) for source in SOURCES},
    **{f"{source}-free": vignettes(source, free=True) for source in SOURCES if source != "named"},
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def by_reading(problem: Problem) -> str:
    """What somebody with the rule base in hand would answer who reads the text alone."""
    text = problem.messages[-1].content
    condition: str | None = re.search(r"Known (\w+)\.", text)[1]  # type: ignore[index]
    for clue in re.findall(r"Day \d (\w+(?: unclear)?)", text):
        syndrome = next((name for name, findings in SIGNS.items() if clue in findings), None)
        condition = None if syndrome is None or condition is None else RULES[condition, syndrome]
    asked = re.search(r"Is it (\w+)\?$", text)
    words = condition if asked is None else "maybe" if condition is None else "yes" if condition == asked[1] else "no"
    assert words is not None
    return chr(65 + problem.options.index(words)) if problem.options else words


def test_a_rule_never_stays_and_never_joins() -> None:
    for syndrome in SIGNS:
        became = [RULES[condition, syndrome] for condition in CONDITIONS]
        assert sorted(became) == sorted(CONDITIONS)
        assert all(RULES[condition, syndrome] != condition for condition in CONDITIONS)


@every_task
def test_the_answer_is_derived_again_from_the_text(task: Task) -> None:
    problems = [*task.problems("dev", 100, 3), *task.problems("test", 100, 3)]
    assert all(by_reading(problem) == problem.reference for problem in problems)
    train = task.problems("train", 400, 3)
    wrong = [problem for problem in train if by_reading(problem) != problem.reference]
    assert [problem.meta.get("mislabelled") for problem in wrong] == [True] * len(wrong)
    noisy = "named" in train[0].meta
    assert abs(len(wrong) / len(train) - NOISE * noisy) < 0.07 * noisy + 1e-9


@every_task
def test_problems_are_deterministic_and_random_access_equals_iteration(task: Task) -> None:
    twenty = task.problems("train", 20, 3)
    assert task.problems("train", 20, 3) == twenty
    assert task.problems("train", 5, 3) == twenty[:5]
    assert len({problem.id for problem in twenty}) == 20
    assert {problem.level for problem in twenty} == set(task.levels)


@every_task
def test_splits_are_disjoint_whatever_the_seeds(task: Task) -> None:
    seen = {
        split: {(p.messages, p.options) for seed in (0, 1) for p in task.problems(split, 60, seed)}
        for split in ("train", "dev", "test")
    }
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


@every_task
def test_gold_is_accepted_and_a_wrong_answer_is_not(task: Task) -> None:
    report = validate(task, 60, split="test")
    assert report.ok, report.failures
    assert report.uncorrupted == 0


@pytest.mark.parametrize("source", ["long", "short", "hard"])
def test_no_letter_is_a_good_guess(source: str) -> None:
    problems = vignettes(source).problems("train", 600, 0)
    chance = 1 / SOURCES[source].options
    assert {len(set(problem.options)) for problem in problems} == {SOURCES[source].options}
    assert (majority_baseline(problems) or 1) < chance + 0.06


def test_sources_ask_what_they_promise() -> None:
    hard, long = (vignettes(source).problems("test", 60, 0) for source in ("hard", "long"))
    assert min(problem.level for problem in hard) > max(problem.level for problem in long)
    assert all(", no " in text or " has " in text for text in (p.messages[-1].content for p in long))
    judged = Counter(problem.reference for problem in vignettes("maybe", free=True).problems("test", 300, 0))
    assert set(judged) == {"yes", "no", "maybe"}
    assert min(judged.values()) > 60
    with pytest.raises(UserError, match="'lon'; did you mean long"):
        load_task("vignettes:source=lon")
    with pytest.raises(UserError, match="its question holds the answer"):
        load_task("vignettes:source=named,free=true")


# -- solver ----------------------------------------------------------------------------------------------------------


def test_a_worked_vignette_by_hand() -> None:
    """Each finding's syndrome changes the condition; the letter names the last one."""
    one = RULES["barol", "heat"]
    two = RULES[one, "chest"]
    problem = Problem(
        id="h",
        task="vignettes",
        messages=question("Known barol. Day 1 fever, no rash. Day 2 cough. A sister has tremor. What is it?"),
        reference="B",
        options=(one, two),
        meta={"source": "long", "known": "barol", "clues": ["fever", "cough"]},
    )
    solution = vignettes().solve(problem, Style(), derive_rng(0))  # type: ignore[misc]
    assert solution.thought == f"Day 1 fever heat barol {one}\nDay 2 cough chest {one} {two}"
    assert solution.answer == "B" == by_reading(problem)


@every_task
def test_every_style_without_errors_ends_in_the_right_answer(task: Task) -> None:
    assert task.solve is not None
    for layout in ("equations", "letter"):
        for problem in task.problems("dev", 24, 0):
            solution = task.solve(problem, Style(layout=layout, verbosity=1), derive_rng(problem.id))
            assert solution.answer == problem.reference
            assert bool(solution.thought) == bool(solution.spans) == (layout == "equations" and problem.level > 0)
            assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
            assert task.verify(problem, render(THINK, solution.thought, solution.answer)).score == 1.0
    with pytest.raises(UserError, match="equation"):
        task.solve(task.problems("train", 1, 0)[0], Style(layout="equation"), derive_rng(0))


def test_answers_in_words_name_an_option() -> None:
    task = vignettes("hard", words=True)
    assert task.solve is not None
    for problem in task.problems("dev", 20, 0):
        answer = task.solve(problem, Style(layout="letter"), derive_rng(0)).answer
        assert answer == problem.options[ord(problem.reference or "") - 65]
        wrong = next(option for option in problem.options if option != answer)
        told = [task.verify(problem, rf"\boxed{{{said}}}").score for said in (answer, problem.reference, wrong)]
        assert told == [1.0, 1.0, 0.0]
    with pytest.raises(UserError, match="no effect"):
        vignettes(free=True, words=True)


@every_task
def test_injected_errors_are_labelled_truly_and_propagate(task: Task) -> None:
    assert task.solve is not None
    wrong = 0
    for problem in task.problems("test", 60, 1):
        solution = task.solve(problem, Style(error_rate=0.4), derive_rng("errors", problem.id))
        condition, sound = str(problem.meta["known"]), True
        for span in solution.spans:
            line = solution.thought[span.start : span.end]
            if line.endswith("something unclear"):
                break
            _, _, clue, syndrome, before, stated = line.split()
            assert clue in SIGNS[syndrome]
            assert before == condition
            assert (stated != RULES[condition, syndrome]) is span.data["injected"]
            sound = sound and not span.data["injected"]
            assert span.data["correct"] is sound
            condition = stated
        if sound:
            assert solution.answer == problem.reference
        wrong += solution.answer != problem.reference
    assert wrong >= 10 or task.levels == (0,)


# -- the minimal verifier and the shuffle ----------------------------------------------------------------------------

FOUR = Problem(id="f", task="t", messages=question("?"), reference="C", options=("kelp", "moss", "fern", "reed"))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (r"\boxed{C}", True),
        (r"\boxed{(c)}", True),
        (r"\boxed{ C } and that is all there is to say, not A", True),
        (r"first \boxed{A}, on reflection \boxed{C}", True),
        (r"first \boxed{C}, on reflection \boxed{A}", False),
        (r"<think>\boxed{A}</think>\boxed{C}", True),
        (r"<think>\boxed{C}", False),
        (r"\boxed{A, C}", False),
        (r"\boxed{A or C}", False),
        (r"\boxed{AC}", False),
        (r"\boxed{fern}", False),
        (r"\boxed{E}", False),
        (r"\boxed{}", False),
        ("C", False),
        ("The answer is C", False),
        ("", False),
    ],
)
def test_the_last_boxed_letter_decides(text: str, right: bool) -> None:
    verdict = verify_letter(FOUR, text)
    assert (verdict.correct, verdict.score) == (right, float(right))


@settings(max_examples=60, deadline=None)
@given(
    thought=st.text(alphabet="abc -\n", max_size=80),
    tail=st.text(alphabet="abc .\n", max_size=80),
    letter=st.sampled_from("ABCDE"),
)
def test_neither_format_nor_length_is_paid_for(thought: str, tail: str, letter: str) -> None:
    """Whatever stands around the box, the score is 1 for the gold letter and 0 for any other: nothing in between."""
    for text in (
        rf"\boxed{{{letter}}}",
        rf"{thought}\boxed{{{letter}}}{tail}",
        rf"<think>{thought}</think>\boxed{{{letter}}}",
    ):
        assert verify_letter(FOUR, text).score == float(letter == "C")


@settings(max_examples=60, deadline=None)
@given(text=st.text() | st.text(alphabet="ABC,.() \\boxed{}<think/>\n", max_size=60), strict=st.booleans())
def test_every_text_has_a_verdict(text: str, strict: bool) -> None:
    verdict = verify_letter(FOUR, text, strict=strict)
    assert verdict.score == float(bool(verdict.correct))
    assert verify_letter(FOUR.model_copy(update={"reference": None}), text).correct is None


def test_shuffling_moves_the_letter_with_its_option() -> None:
    orders = [shuffled(FOUR, derive_rng("order", seed)) for seed in range(200)]
    assert all(p.options[ord(str(p.reference)) - 65] == "fern" for p in orders)
    assert all(sorted(p.options) == sorted(FOUR.options) for p in orders)
    counts = Counter(problem.reference for problem in orders)
    assert set(counts) == set("ABCD")
    assert max(counts.values()) < 75
    assert len({content_hash(problem) for problem in orders}) == 24
    withheld = shuffled(FOUR.model_copy(update={"reference": None}), derive_rng(1))
    assert withheld.reference is None

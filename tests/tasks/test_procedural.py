"""The questions that every procedural task must answer."""

import ast
import re
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import FORMATS, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.arithmetic import arithmetic, layout_of
from stillroom.tasks.base import Style, Task, majority_baseline
from stillroom.tasks.facts import build_world, facts, facts_text
from stillroom.tasks.registers import registers
from stillroom.tasks.sums import sums
from stillroom.tasks.tools import tool_arithmetic
from stillroom.tasks.words import words
from stillroom.types import Problem

THINK = FORMATS["think"]
LAYOUTS = {
    "arithmetic": ("equations", "sentences"),
    "registers": ("equations", "sentences"),
    "tool-arithmetic": ("equations", "calls", "digits"),
    "words": ("equations", "sentences"),
    "facts": ("equations", "sentences"),
    "sums": ("equations", "switches"),
}
BETWEEN_STEPS = {"sums": "\n\n"}
"""Where it is not a line break."""
TASKS = {
    "arithmetic": arithmetic(),
    "registers": registers(),
    "registers-wide": registers(modulus=11, low=5, high=12, distractors=8),
    "tool-arithmetic": tool_arithmetic(),
    "words": words(),
    "words-distracted": words(distractors=3),
    "facts": facts(),
    "sums": sums(),
}
ENDLESS = [name for name in TASKS if name != "facts"]
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
endless_task = pytest.mark.parametrize("task", [TASKS[name] for name in ENDLESS], ids=ENDLESS)


def text_of(problem: Problem) -> str:
    return problem.messages[-1].content


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (arithmetic, {"modulus": 8}),
        (arithmetic, {"low": 3, "high": 2}),
        (arithmetic, {"layout": "songs"}),
        (registers, {"modulus": 9}),
        (registers, {"modulus": 3}),
        (registers, {"low": 0}),
        (registers, {"high": 13}),
        (registers, {"distractors": -1}),
        (tool_arithmetic, {"digits": 1}),
        (tool_arithmetic, {"low": 2, "high": 1}),
        (words, {"high": 6}),
        (words, {"distractors": 4}),
        (facts, {"entities": 9}),
        (facts, {"entities": 2001}),
        (facts, {"high": 3}),
        (sums, {"low": 2}),
        (sums, {"high": 27}),
    ],
)
def test_a_bad_option_is_refused_with_the_value_received(factory: Callable[..., Task], options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        factory(**options)


@every_task
def test_problems_are_deterministic_and_random_access_equals_iteration(task: Task) -> None:
    twenty = task.problems("train", 20, 3)
    assert task.problems("train", 20, 3) == twenty
    assert task.problems("train", 5, 3) == twenty[:5]
    assert len({problem.id for problem in twenty}) == 20
    assert {problem.level for problem in twenty} <= set(task.levels)


@every_task
def test_splits_are_disjoint_whatever_the_seeds(task: Task) -> None:
    seen = {
        split: {text_of(problem) for seed in (0, 1, 2) for problem in task.problems(split, 60, seed)}
        for split in ("train", "dev", "test")
    }
    assert all(seen.values())
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


@endless_task
def test_neighbouring_seeds_share_few_problems(task: Task) -> None:
    one, two = ({text_of(p) for p in task.problems("train", 150, seed) if p.level >= 3} for seed in (42, 43))
    assert len(one & two) <= len(one) // 10


@endless_task
def test_no_answer_is_a_good_guess_at_any_level(task: Task) -> None:
    problems = task.problems("train", 600, 0)
    for level in task.levels:
        baseline = majority_baseline([problem for problem in problems if problem.level == level])
        assert baseline is not None
        assert baseline < 0.34


# -- answers derived again from the question's text alone ------------------------------------------------------------


def _by_chain(text: str) -> str:
    modulus, start, chain = re.fullmatch(r"Modulo (\d+), from left to right: (\d+)((?: [-+*]\d+)+)", text).groups()  # type: ignore[union-attr]
    value = int(start)
    for part in chain.split():
        value = {"+": value + int(part[1:]), "-": value - int(part[1:]), "*": value * int(part[1:])}[part[0]]
    return str(value % int(modulus))


def _by_substitution(text: str) -> str:
    """Backwards from the register asked for, with whole integers, and the modulus only at the end."""
    lines = dict(line.split("=") for line in text.splitlines()[1:-1])

    def whole(term: str) -> int:
        if term.isdigit():
            return int(term)
        left, operator, right = re.fullmatch(r"(\w+?)(?:([-+*])(\w+))?", lines[term]).groups()  # type: ignore[union-attr]
        if operator is None:
            return whole(left)
        a, b = whole(left), whole(right)
        return a + b if operator == "+" else a - b if operator == "-" else a * b

    modulus, asked = re.match(r"Modulo (\d+):", text)[1], re.search(r"What is (\w)\?$", text)[1]  # type: ignore[index]
    return str(whole(asked) % int(modulus))


def _by_python_grammar(text: str) -> str:
    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant):
            return int(str(node.value))
        assert isinstance(node, ast.BinOp)
        a, b = value(node.left), value(node.right)
        return a + b if isinstance(node.op, ast.Add) else a - b if isinstance(node.op, ast.Sub) else a * b

    return str(value(ast.parse(text.removeprefix("What is ").removesuffix("?"), mode="eval").body))


_OWNING: list[tuple[str, Callable[[int, list[int]], int]]] = [
    (r"(?:has|starts with) (\d+) \w+$", lambda have, n: n[0]),
    (r"(?:boxes|bags) with (\d+) \w+ each$", lambda have, n: n[0] * n[1]),
    (r"shares (\d+) \w+ equally .* (\d+) people", lambda have, n: n[0] // n[1]),
    (r"packs (\d+) \w+ equally into (\d+) boxes", lambda have, n: n[0] // n[1]),
    (r"(?:finds|buys) (\d+) more \w+$", lambda have, n: have + n[0]),
    (r"(?:loses|sells) (\d+) \w+$", lambda have, n: have - n[0]),
    (r"(\d+) times as many", lambda have, n: have * n[0]),
]


def _by_reading(text: str) -> str:
    """Sentence by sentence, what a reader who knows the five kinds of story would compute."""
    *sentences, ask = re.split(r"(?<=[.?]) ", text)
    sentences = [
        s.rstrip(".") for s in sentences if not re.search(r"years old| at home| in the | in a d| at school", s)
    ]
    numbers = [[int(n) for n in re.findall(r"\d+", sentence)] for sentence in sentences]
    told = " ".join(sentences)
    if "sells" in told and "each" in told and "dollars" in ask:
        prices = dict(re.findall(r"sells (\w+) for (\d+) dollars", told))
        bought = re.search(r"(?:buys|goes home with) (.*?)(?: \w+ (?:pays|had) .*)?$", told)[1]  # type: ignore[index]
        total = sum(int(count) * int(prices[thing]) for count, thing in re.findall(r"(\d+) (\w+)", bought))
        purse = re.search(r"(?:pays with|had) (\d+) dollars$", told)
        return str(int(purse[1]) - total if purse else total)
    if "hours a day" in told:
        value = numbers[0][0] * numbers[0][1]
        for sentence, (n, *_) in zip(sentences[1:], numbers[1:], strict=True):
            value = value * n if "hour" in sentence else value - n if "spends" in sentence else value + n
        return str(value)
    if re.search(r"more \w+ than|fewer \w+ than", told):
        a = numbers[0][0]
        b = a + numbers[1][0] if "more" in sentences[1] else a - numbers[1][0]
        c = b * numbers[2][0] if len(numbers) > 2 else 0
        gone = numbers[3][0] if len(numbers) > 3 else 0
        first, second = sentences[0].split()[0], sentences[1].split()[0]
        if "all" in ask:
            return str(a + b + c - gone)
        if "together" in ask:
            return str(a + b if first in ask else b + c)
        return str(b if second in ask else 0)
    owner, have = re.search(r"(?:does (\w+) have now|with (\w+))\?", ask), 0
    name = owner[1] or owner[2]  # type: ignore[index]
    for sentence, found in zip(sentences, numbers, strict=True):
        gives = re.fullmatch(r"(\w+) gives (?:(\w+) )?(\d+) \w+(?: to \w+)?", sentence)
        if gives:
            have += -int(gives[3]) if gives[1] == name else int(gives[3])
            continue
        have = next(act for pattern, act in _OWNING if re.search(pattern, sentence))(have, found)
    return str(have)


_KNOWN = dict(re.findall(r"^(The .*) is (\w+)\.$", "\n".join(facts_text(build_world())), re.MULTILINE))


def _by_statements(text: str) -> str:
    """From the sentences that a model would be pre-trained on."""
    asked = re.sub(r"^(Who|What) is |\?$", "", text).replace("Who lives in", "the person who lives in")
    nouns = asked.split(" of ")
    phrase = nouns.pop()
    while True:
        phrase = _KNOWN.get("T" + phrase[1:], phrase) if phrase.startswith("the ") else phrase
        if not nouns:
            return phrase
        phrase = f"{nouns.pop()} of {phrase}"


def _by_long_addition(text: str) -> str:
    modulus, terms = re.fullmatch(r"Modulo (\d+): (.*)", text).groups()  # type: ignore[union-attr]
    assert "".join(term[0] for term in terms.split()) in "abcdefgh"
    return str(sum(int(term[1:]) for term in terms.split()) % int(modulus))


REDERIVE: Mapping[str, Callable[[str], str]] = {
    "arithmetic": _by_chain,
    "registers": _by_substitution,
    "tool-arithmetic": _by_python_grammar,
    "words": _by_reading,
    "facts": _by_statements,
    "sums": _by_long_addition,
}


@every_task
def test_the_answer_is_derived_again_from_the_text(task: Task) -> None:
    for problem in task.problems("train", 300, 7):
        assert REDERIVE[task.name](text_of(problem)) == problem.reference, text_of(problem)


# -- solver ----------------------------------------------------------------------------------------------------------


@every_task
def test_every_style_without_errors_ends_in_the_right_answer_and_is_accepted(task: Task) -> None:
    assert task.solve is not None
    for layout in LAYOUTS[task.name]:
        for verbosity in (0, 1, 2, 3):
            style = Style(layout=layout, verbosity=verbosity, fillers=verbosity / 3)
            for problem in task.problems("dev", 24, 0):
                solution = task.solve(problem, style, derive_rng("test", problem.id))
                assert solution.answer == problem.reference
                assert solution.spans
                assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
                verdict = task.verify(problem, render(THINK, solution.thought, solution.answer))
                assert (verdict.correct, verdict.score) == (True, 1.0)


@every_task
def test_more_verbosity_and_fillers_lengthen_the_same_solution(task: Task) -> None:
    assert task.solve is not None
    for layout in LAYOUTS[task.name]:
        problem = task.problems("train", 1, 0)[0]
        lengths = [
            len(task.solve(problem, Style(layout=layout, verbosity=v, fillers=f), derive_rng(0)).thought)
            for v, f in ((0, 0.0), (1, 0.0), (2, 0.0), (2, 1.0))
        ]
        assert lengths == sorted(set(lengths))


def _step_holds(task: Task, problem: Problem, line: str) -> bool:
    """Whether a step in equations layout is true on its own, worked out from its text."""
    if task.name == "facts":
        hop, subject, found = re.fullmatch(r"(\w+)\((\w+)\)=(\w+)", line).groups()  # type: ignore[union-attr]
        return build_world().facts[hop][subject] == found
    if task.name == "sums":
        line = re.sub(r"[a-z]", "", line)  # labels
    left, operator, right, stated = re.search(r"(-?\d+)([-+*/])(\d+)=(-?\d+)$", line).groups()  # type: ignore[union-attr]
    a, b = int(left), int(right)
    value = a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a // b
    modulus = problem.meta.get("modulus")
    return int(stated) == (value % modulus if isinstance(modulus, int) else value)


@every_task
def test_injected_errors_are_labelled_truly_and_propagate(task: Task) -> None:
    assert task.solve is not None
    wrong_answers = 0
    for problem in task.problems("train", 80, 1):
        solution = task.solve(problem, Style(error_rate=0.3), derive_rng("errors", problem.id))
        lines = [solution.thought[span.start : span.end] for span in solution.spans]
        assert BETWEEN_STEPS.get(task.name, "\n").join(lines) == solution.thought
        for span, line in zip(solution.spans, lines, strict=True):
            assert _step_holds(task, problem, line) is not span.data["injected"], line
            assert not (span.data["injected"] and span.data["correct"])
        assert lines[-1].endswith(f"={solution.answer}")  # the answer is what the chain gives, wrong or not
        if solution.spans[-1].data["correct"]:
            assert solution.answer == problem.reference
        if not any(span.data["injected"] for span in solution.spans):
            assert all(span.data["correct"] for span in solution.spans)
        wrong_answers += solution.answer != problem.reference
    assert wrong_answers >= 10


@every_task
def test_every_layout_with_an_error_in_each_step_says_so(task: Task) -> None:
    assert task.solve is not None
    for layout in LAYOUTS[task.name]:
        for problem in task.problems("train", 30, 2):
            solution = task.solve(problem, Style(layout=layout, error_rate=1.0, verbosity=2), derive_rng(problem.id))
            assert all(span.data == {"correct": False, "injected": True} for span in solution.spans)


@every_task
def test_an_unknown_layout_is_refused(task: Task) -> None:
    assert task.solve is not None
    with pytest.raises(UserError, match="equation"):
        task.solve(task.problems("train", 1, 0)[0], Style(layout="equation"), derive_rng(0))


# -- verifier --------------------------------------------------------------------------------------------------------


@every_task
def test_near_misses_are_rejected(task: Task) -> None:
    assert task.corrupt is not None
    for problem in task.problems("test", 20, 0):
        gold = problem.reference
        assert gold is not None
        for answer in (task.corrupt(problem), f"{gold}1", f"-{gold}" if gold != "0" else "-1", f"{gold} or 3", "?"):
            verdict = task.verify(problem, render(THINK, f"so {gold}", answer))
            assert (verdict.correct, verdict.score) == (False, 0.0), answer
        for text in (
            "",
            gold if gold.isalpha() else "x",
            f"<think>\nso \\boxed{{{gold}}}",
            f"<think>\n{gold}\n</think>",
        ):
            assert task.verify(problem, text).correct is False, text


@every_task
def test_a_withheld_reference_is_not_scored(task: Task) -> None:
    problem = task.problems("test", 1, 0)[0].model_copy(update={"reference": None})
    verdict = task.verify(problem, render(THINK, "", "3"))
    assert (verdict.correct, verdict.score) == (None, None)


@every_task
@settings(max_examples=60, deadline=None)
@given(text=st.text() | st.text(alphabet="0123456789,.-+ \\boxed{}<think/>\n#", max_size=60), strict=st.booleans())
def test_the_verifier_has_a_verdict_for_every_text(task: Task, text: str, strict: bool) -> None:
    problem = task.problems("train", 1, 0)[0]
    verdict = task.verify(problem, text, strict=strict)
    assert verdict.correct is not None
    assert verdict.score == float(verdict.correct)
    assert verdict == task.verify(problem, text, strict=strict)


# -- a rule beside the answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thought", "layout"),
    [
        ("3+5=1\n1*4=4", "equations"),
        ("3 plus 5 is 1.\n1 times 4 is 4.", "sentences"),
        ("3 plus 5 is 1.\n1*4=4", None),
        ("it is 4", None),
    ],
)
def test_a_right_answer_counts_only_in_the_layout_asked_for(thought: str, layout: str | None) -> None:
    (problem,) = arithmetic(low=2, high=2).problems("train", 1, 0)
    text = f"<think>\n{thought}\n</think>\n\\boxed{{{problem.reference}}}"
    assert layout_of(text) == layout
    for name in LAYOUTS["arithmetic"]:
        assert arithmetic(layout=name).verify(problem, text).correct == (name == layout)
        assert not arithmetic(layout=name).verify(problem, text.replace("boxed{", "boxed{1")).correct
    assert arithmetic().verify(problem, text).correct

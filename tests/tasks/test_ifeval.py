"""IFEval's 25 kinds: verdicts labelled by hand, the real prompts' arguments, and what the checks promise."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.tasks import load, load_task
from stillroom.tasks.instructions.conflicts import conflict
from stillroom.tasks.instructions.constraints import ARGUMENTS, Constraint, constraint, holds, variants
from stillroom.tasks.instructions.ifeval_checks import CHECKS, count_sentences, count_words
from stillroom.tasks.instructions.language import LANGUAGES, language_of
from stillroom.types import Problem

LABELS = Path(__file__).parents[1] / "data" / "ifeval"


class Labelled(NamedTuple):
    where: str
    constraint: Constraint
    label: str
    response: str


def labelled() -> Iterator[Labelled]:
    """The rows of the tables: ``= kind``, ``@ arguments``, then ``label | response`` with ``\\n`` for a new line."""
    for path in sorted(LABELS.glob("*.txt")):
        kind, args = "", dict[str, Any]()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            mark, _, rest = line.partition(" ")
            if mark == "=":
                kind = rest
            elif mark == "@":
                args = json.loads(rest)
            elif mark != "#":
                text = rest.removeprefix("| ").replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
                yield Labelled(f"{path.name}:{number}", constraint(kind, args), mark, text)


ROWS = list(labelled())


def test_every_kind_has_forty_responses_labelled_by_hand_of_both_sorts() -> None:
    count = Counter(row.constraint.kind for row in ROWS)
    assert set(count) == set(CHECKS)
    assert min(count.values()) >= 40
    right = Counter(row.constraint.kind for row in ROWS if row.label == "yes")
    assert all(10 <= right[kind] <= count[kind] - 10 for kind in count)
    assert {row.label for row in ROWS} == {"yes", "no", "loose"}


@pytest.mark.parametrize("kind", CHECKS)
def test_verdicts_are_those_of_the_labels(kind: str) -> None:
    wrong = []
    for row in ROWS:
        if row.constraint.kind == kind:
            found = tuple(holds(row.constraint, row.response, strict=strict) for strict in (True, False))
            wanted = {"yes": (True, True), "no": (False, False), "loose": (False, True)}[row.label]
            if found != wanted:
                wrong.append(f"{row.where}: {row.response!r} {row.constraint.args}: {found}, not {wanted}")
    assert not wrong, "\n".join(wrong)


def test_all_541_real_prompts_are_accepted(data_dir: Path) -> None:
    if not (data_dir / "ifeval").is_dir():
        pytest.skip("no IFEval data")
    loaded = load("ifeval")
    assert not loaded.rejects
    problems = loaded.task.problems("test", None, 0)
    assert len(problems) == 541
    assert loaded.task.chat_format == "plain"
    assert Counter(problem.level for problem in problems) == {1: 305, 2: 179, 3: 57}
    assert all(loaded.task.verify(problem, "").correct is False for problem in problems)
    # Which prompts contradict themselves: to repeat a request that holds what is forbidden.
    rows = map(json.loads, (data_dir / "ifeval" / "input_data.jsonl").read_text(encoding="utf-8").splitlines())
    broken = []
    for row in rows:
        parts = [constraint(*pair) for pair in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
        broken += [row["key"] for one, other in combinations(parts, 2) if conflict(one, other)]
    assert sorted(broken) == [374, 1627, 3369, 3371, 3718]


def test_a_real_prompt_is_judged(data_dir: Path) -> None:
    if not (data_dir / "ifeval").is_dir():
        pytest.skip("no IFEval data")
    task = load_task("ifeval")
    problem = next(p for p in task.problems("test", None, 0) if p.id == "ifeval/1001")  # no commas
    assert task.verify(problem, "<think>\nOne, two, three.\n</think>\nThou shalt go to Japan.").correct
    verdict = task.verify(problem, "Thou shalt go, and see Japan.")
    assert (verdict.correct, verdict.score, verdict.reason) == (False, 0.0, "broken: punctuation:no_comma")
    assert task.verify(problem, "Verily, hark:\nThou shalt go to Japan.", strict=False).correct
    assert task.verify(problem, "<think>\nThou shalt go to Japan.").correct is False


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        ("punctuation:no_coma", {}, "did you mean punctuation:no_comma"),
        ("punctuation:no_comma", {"count": 1}, "takes none"),
        ("keywords:existence", {}, "needs keywords"),
        ("keywords:existence", {"keywords": []}, r"keywords is \[\]"),
        ("keywords:frequency", {"keyword": "a", "frequency": -1, "relation": "at least"}, "frequency is -1"),
        ("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "exactly"}, "relation is 'exactly'"),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": "at least"},
            "one character",
        ),
        ("language:response_language", {"language": "xx"}, "language is 'xx'"),
        ("length_constraints:number_words", {"num_words": True, "relation": "at least"}, "num_words is True"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kind: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        constraint(kind, args)


def test_rows_with_empty_columns_for_other_kinds_are_read_as_they_are_published_on_the_hub() -> None:
    args = {"num_words": 3, "relation": "at least", "keywords": None, "language": None}
    assert constraint("length_constraints:number_words", args).args == {"num_words": 3, "relation": "at least"}
    assert set(ARGUMENTS) <= {*CHECKS, *(kind for kind in ARGUMENTS if kind.startswith("list:"))}


def test_what_is_counted() -> None:
    assert count_words("It's 3.5 km - far") == 6  # It s 3 5 km far
    assert count_sentences("Mr. Wu (b. 1950) lives at 5 Main St. in Rome. He is old... isn't he? Yes!") == 3
    assert list(variants("a\nb\nc")) == ["a\nb\nc", "b\nc", "a\nb", "b"]
    assert "ab" in variants("a*b")


def test_languages_that_a_rule_can_tell() -> None:
    assert len(LANGUAGES) == 31
    assert language_of("") is None
    assert language_of("12:30") is None
    assert language_of("cat dog owl") is None


@settings(max_examples=150)
@given(st.text(max_size=80), st.sampled_from(ROWS))
def test_every_text_has_a_verdict_and_strict_implies_loose(text: str, row: Labelled) -> None:
    strict = holds(row.constraint, text)
    assert not strict or holds(row.constraint, text, strict=False)
    assert not strict or text.strip()


@pytest.mark.parametrize(
    "piece", ["[", "* ", "<<", "\n", "a. ", "p. ", '{"a":', "9", "***", "Dr. ", "ab, ", "SECTION "]
)
def test_long_responses_take_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    for row in {row.constraint.kind: row for row in ROWS}.values():
        start = time.process_time()
        holds(row.constraint, text)
        assert time.process_time() - start < 3, row.constraint  # a quadratic rule takes minutes


def test_without_constraints_nothing_is_judged() -> None:
    from stillroom.tasks.instructions.verify import verify

    problem = Problem(id="x", task="x", messages=(), reference=None)
    assert verify(problem, "anything").correct is None

"""Contamination against n-grams cut by hand-written code."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import FORMATS, ask
from stillroom.errors import UserError
from stillroom.traces import decontaminate
from stillroom.types import Message, Problem

SHARED = "a train leaves the old station at nine every single morning"


def problem(id: str, text: str, options: tuple[str, ...] = ()) -> Problem:
    return Problem(id=id, task="t", messages=(Message(role="user", content=text),), reference="1", options=options)


def pool(*questions: str, responses: tuple[str, ...] = ()) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"t{i}" for i in range(len(questions))],
            "question": questions,
            "response": responses or [""] * len(questions),
        },
        schema={"id": pl.String, "question": pl.String, "response": pl.String},
    )


def test_a_shared_run_of_eight_words_is_reported_with_its_text() -> None:
    evaluation = [problem("e0", "Something else entirely, with enough words to make an n-gram."), problem("e1", SHARED)]
    frame = pool(
        "Yesterday a TRAIN leaves, the old station: at nine every day!", "a train leaves the old station at ten"
    )
    assert decontaminate.find(frame, evaluation).rows() == [
        (
            0,
            "t0",
            "e1",
            "a train leaves the old station at nine",
            2 / 4,
        )  # of its four n-grams, those that start at "a" and at "train"
    ]


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=4), st.integers(1, 5))
def test_ngrams_agree_with_cutting_them_by_hand(questions: list[str], evaluation: list[str], n: int) -> None:
    def cut(text: str) -> list[tuple[str, ...]]:
        words = re.findall(r"\w+", text)
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    expected = {}
    for row, question in enumerate(questions):
        for text in evaluation:
            short = len(text.split()) < n and text and text == question
            if short or set(cut(question)) & set(cut(text)):
                expected[row] = True
    problems = [problem(str(i), text) for i, text in enumerate(evaluation)]
    found = decontaminate.find(pool(*questions), problems, n=n)
    assert found["row"].to_list() == sorted(expected)
    for row, evaluation_id, match in found.select("row", "evaluation_id", "match").iter_rows():
        assert f" {match} " in f" {questions[row]} "
        assert f" {match} " in f" {evaluation[int(evaluation_id)]} "


def test_short_questions_match_whole_and_keep_their_operators() -> None:
    evaluation = [problem("plus", "What is 2+3?"), problem("empty", "")]
    frame = pool("what  is 2+3?", "What is 2-3?", "I wonder: What is 2+3?", "", "Question: What is 2+3?\nAnswer:")
    found = decontaminate.find(frame, evaluation)
    assert found.select("row", "evaluation_id", "share").rows() == [(0, "plus", 1.0), (4, "plus", 1.0)]


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("how", ["ngram", "exact"])
def test_the_same_problem_is_found_in_every_chat_format(name: str, how: decontaminate.How) -> None:
    for options in ((), ("two", "three")):
        evaluation = problem("e", "Which one?", options)
        asked = ask(evaluation, FORMATS[name])[-1].content
        assert decontaminate.find(pool(asked), [evaluation], how=how).height == 1


def test_exact_tells_questions_of_one_template_apart() -> None:
    template = "Start with {}, then add three, multiply by two and take the remainder modulo seven."
    evaluation = [problem("e", template.format(4))]
    frame = pool(template.format(4), template.format(5))
    assert decontaminate.find(frame, evaluation, how="exact")["row"].to_list() == [0]
    assert decontaminate.find(frame, evaluation, how="ngram")["row"].to_list() == [0, 1]


def test_responses_are_searched_when_asked() -> None:
    frame = pool("q", responses=(f"As we know, {SHARED}.",))
    assert decontaminate.find(frame, [problem("e", SHARED)]).height == 0
    assert decontaminate.find(frame, [problem("e", SHARED)], responses=True).height == 1
    with pytest.raises(UserError, match="ngram"):
        decontaminate.find(frame, [], how="exact", responses=True)


def test_scripts_without_spaces_are_cut_by_character() -> None:
    shared = "列车每天早上九点离开旧车站"
    found = decontaminate.find(pool(f"昨天{shared}吗"), [problem("e", f"请问{shared}。")])
    assert found.height == 1


def test_nothing_against_nothing() -> None:
    assert decontaminate.find(pool(), [problem("e", SHARED)]).height == 0
    assert decontaminate.find(pool("q"), []).height == 0

"""Pairs: a right and a wrong response to the same question, and a count of everything that was not used."""

import pytest

from stillroom.errors import UserError
from stillroom.traces.pairs import build_pairs
from stillroom.types import Finish, Segment, Trace, Verdict


def trace(
    problem: str, index: int, correct: bool | None, text: str = "", asked: str = "?", finish: Finish = Finish.STOP
) -> Trace:
    return Trace(
        id=f"{problem}#{index}",
        problem_id=problem,
        task="t",
        asked=(),
        taught=(Segment(role="user", text=asked), Segment(role="assistant", text=text or f"answer {index}", weight=1)),
        index=index,
        finish=finish,
        verdict=Verdict(correct=correct, score=None if correct is None else float(correct)),
    )


def ids(traces: list[Trace], per_problem: int = 1) -> list[tuple[str, str]]:
    return [(p.traces[0].id, p.traces[1].id) for p in build_pairs(traces, per_problem=per_problem).pairs]


def test_the_first_right_and_the_first_wrong_response() -> None:
    traces = [trace("a", 3, True), trace("a", 2, False), trace("a", 1, True), trace("a", 0, False)]
    found = build_pairs(traces)
    assert ids(traces) == [("a#1", "a#0")]
    assert found.pairs[0].scores == (1.0, 0.0)
    assert found.dropped == {}
    # More on request: wrong ones in order, right ones in turn.
    assert ids([*traces, trace("a", 4, False)], per_problem=9) == [("a#1", "a#0"), ("a#3", "a#2"), ("a#1", "a#4")]
    with pytest.raises(UserError, match="per_problem=0"):
        build_pairs(traces, per_problem=0)


def test_a_wrong_response_must_be_known_to_be_wrong() -> None:
    right = trace("a", 0, True)
    for other, reason in (
        (trace("a", 1, True), "no wrong response"),
        (trace("a", 1, None), "unjudged"),
        (trace("a", 1, False, finish=Finish.LENGTH), "truncated"),
        (trace("a", 1, False, text=" \n"), "empty"),
        (trace("a", 1, False, asked="another question"), "other prompt"),
        (trace("a", 1, False, text="answer 0"), "identical"),
    ):
        found = build_pairs([right, other])
        assert found.pairs == []
        assert found.dropped[reason] == 1


def test_problems_do_not_mix() -> None:
    traces = [trace("a", 0, True), trace("b", 0, False), trace("c", 0, True), trace("c", 1, False)]
    found = build_pairs(traces)
    assert [[t.id for t in pair.traces] for pair in found.pairs] == [["c#0", "c#1"]]
    assert found.dropped == {"no wrong response": 1, "no right response": 1}

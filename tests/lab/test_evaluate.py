"""Evaluation: shares with their intervals, and nothing unknown counted as wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_scripted import TASK, ScriptedSampler, make_problems
from stillroom.chat import get_format
from stillroom.lab.evaluate import Estimate, chance_corrected, evaluate, score, wilson, working
from stillroom.types import Finish, Segment, Trace, Usage, Verdict


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand: all of n leaves 1 / (1 + z²/n).
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_intervals_of_the_literature(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (found.value, found.n) == (successes / n, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_share_of_nothing_is_unknown() -> None:
    assert wilson(0, 0) == Estimate(value=None, low=None, high=None, n=0)


@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_share(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found, mirrored = wilson(k, n), wilson(n - k, n)
    assert found.low is not None
    assert found.high is not None
    assert mirrored.low is not None
    assert 0 <= found.low <= k / n + 1e-12
    assert k / n - 1e-12 <= found.high <= 1
    assert mirrored.low == pytest.approx(1 - found.high)


def trace(
    correct: bool | None, text: str = "\\boxed{1}", *, level: int = 1, tokens: int = 10, finish: Finish = Finish.STOP,
    near_ties: int = 0, answer: str | None = "1",
) -> Trace:  # fmt: skip
    return Trace(
        id="t",
        problem_id="p",
        task="t",
        asked=(),
        taught=(Segment(role="assistant", text=text, weight=1.0),),
        verdict=Verdict(correct=correct, answer=answer),
        level=level,
        finish=finish,
        usage=Usage(completion_tokens=tokens),
        meta={"near_ties": near_ties} if near_ties else {},
    )


def test_a_score_by_hand() -> None:
    traces = [
        trace(True, tokens=10),
        trace(False, tokens=20),
        trace(True, tokens=30, level=2, near_ties=3),
        trace(False, "<think>\n1", tokens=40, level=2, finish=Finish.LENGTH, answer=None),
        trace(None, "", tokens=999, finish=Finish.ERROR, level=3),
        trace(None, "", tokens=999, near_ties=1),
    ]
    found = score("student", traces, make_problems(4))
    assert found.accuracy == wilson(2, 4)
    assert found.by_level == {"1": wilson(1, 2), "2": wilson(1, 2)}
    assert (found.unjudged, found.near_ties) == (2, 4)
    assert (found.truncated, found.format_failures) == (0.25, 0.25)
    assert (found.tokens.mean, found.tokens.p50) == (25, 25)
    assert found.tokens.p90 == pytest.approx(37)  # between the third and the fourth: 30 + 0.7 * 10
    assert found.majority_baseline == 1.0


@pytest.mark.parametrize(
    ("text", "answer", "failed"),
    [
        ("<think>\na\n</think>\n\\boxed{1}", "1", False),
        ("no marker, but an answer: \\boxed{1}", "1", False),
        ("<think>\na\n</think>\nwho knows", None, True),
        ("<think>\n\\boxed{1}", "1", True),  # the thought never ends
        ("", None, True),
        # Messy and still readable.
        ("a</think></think>\\boxed{1}", "1", False),
    ],
)
def test_what_a_format_failure_is(text: str, answer: str | None, failed: bool) -> None:
    assert score("s", [trace(False, text, answer=answer)], []).format_failures == float(failed)


def test_what_is_worked_out_before_the_answer() -> None:
    assert working("<think>\n1 + 1 = 2\n</think>\n\\boxed{2}") == "1 + 1 = 2"
    assert working("1 + 1 = 2\nso \\boxed{2} it is") == "1 + 1 = 2\nso"
    assert [working(text) for text in ("<think>\n\n</think>\n\\boxed{2}", "\\boxed{2}", "")] == ["", "", ""]
    texts = ["<think>\na\n</think>\n\\boxed{1}", "\\boxed{1}", "\\boxed{1}", "\\boxed{1}"]
    assert score("s", [trace(True, text) for text in texts], []).stepwise == 0.25


def test_guessing_is_worth_nothing_on_the_corrected_scale() -> None:
    assert chance_corrected([True, False, False, False], [4] * 4) == 0
    assert chance_corrected([True, True], [4, 2]) == 1
    # Of four and of two options: guessing reaches 3/8, so 1/2 is (1/2 - 3/8) / (5/8).
    assert chance_corrected([True, False], [4, 2]) == pytest.approx(0.2)
    assert chance_corrected([True, False], [4, 0]) is None
    assert chance_corrected([], []) is None


def test_a_score_of_nothing_judged_is_unknown() -> None:
    found = score("s", [trace(None)], [])
    assert (found.stepwise, found.chance_corrected) == (None, None)
    assert (found.accuracy.value, found.tokens.mean, found.by_level, found.unjudged) == (None, None, {}, 1)
    assert found.majority_baseline is None


def test_every_problem_is_answered_n_times_with_seeds_of_its_own() -> None:
    problems = make_problems(3)
    sampler = ScriptedSampler({"p0": "rw", "p1": "w", "p2": "e"})
    traces = evaluate(TASK, problems, sampler, get_format("think"), n=2, temperature=1.0, max_new_tokens=9, seed=4)
    assert [(t.problem_id, t.index) for t in traces] == [(f"p{i}", k) for i in range(3) for k in range(2)]
    assert [t.verdict.correct for t in traces if t.verdict] == [True, False, False, False, None, None]
    assert len({t.seed for t in traces}) == 6
    assert {t.source for t in traces} == {"student"}
    assert traces[0].params["max_new_tokens"] == 9
    other = evaluate(TASK, problems, sampler, get_format("think"), n=2, temperature=1.0, max_new_tokens=9, seed=5)
    assert not {t.seed for t in traces} & {t.seed for t in other}
    found = score("s", traces, problems)
    assert (found.accuracy.n, found.unjudged) == (4, 2)


def test_several_answers_to_a_problem_are_no_independent_cases() -> None:
    """Of four answers each: p0 all right, p1 half, p2 one failed and three wrong, p3 none judged."""
    script = {"p0": "rrrr", "p1": "rwrw", "p2": "ewww", "p3": "eeee"}
    problems = make_problems(4)
    traces = evaluate(TASK, problems, ScriptedSampler(script), get_format("think"), n=4, temperature=0.6, top_p=0.95)
    assert {(t.params["temperature"], t.params["top_p"]) for t in traces} == {(0.6, 0.95)}
    found = score("s", traces, problems)
    assert found.accuracy.value == pytest.approx(6 / 11)
    # The three problems' shares are 1, 0.5 and 0: their standard deviation is 0.5.
    half = 1.959964 * 0.5 / 3**0.5
    assert found.accuracy.low == pytest.approx(max(0, 6 / 11 - half))
    assert found.accuracy.high == pytest.approx(min(1, 6 / 11 + half))
    assert found.solved == wilson(2, 3)
    assert score("s", [t for t in traces if t.index == 0], problems).solved is None

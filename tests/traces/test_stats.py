"""Statistics against arithmetic written out by hand."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.traces import stats, store
from stillroom.types import Segment, Trace


def trial(problem: str, index: int, correct: bool | None, text: str = "r", **other: object) -> Trace:
    verdict = {"correct": correct, "score": None if correct is None else float(correct)}
    taught = (Segment(role="user", text="q"), Segment(role="assistant", text=text))
    return Trace.model_validate(
        {"id": f"{problem}{index}", "problem_id": problem, "task": "t", "sampler": "s", "asked": (), "taught": taught}
        | {"index": index, "verdict": verdict}
        | other
    )


def test_one_problem_by_hand() -> None:
    pool = [
        trial("p", 3, True, "x  y", usage={"completion_tokens": 40}),
        trial("p", 0, None, "timeout", usage={"completion_tokens": 0}, finish="timeout"),
        trial("p", 1, False, "x y\n", usage={"completion_tokens": 10}),
        trial("p", 2, False, "z", usage={"completion_tokens": 30}, finish="length"),
    ]
    row = stats.problem_stats(store.to_frame(pool)).row(0, named=True)
    assert (row["n_trials"], row["n_judged"], row["n_correct"]) == (4, 3, 1)
    assert row["pass_rate"] == pytest.approx(1 / 3)
    assert row["pass_rate_posterior"] == pytest.approx(2 / 5)
    assert row["sigma"] == pytest.approx(math.sqrt(2) / 3)  # of 1, 0, 0 around 1/3, divided by n
    assert row["mean_completion_tokens"] == 20
    assert row["distinct_ratio"] == 3 / 4  # "x  y" and "x y" differ in white space only
    assert row["tries_to_first"] == 3  # by index: wrong, wrong, right; the unjudged one is no try
    assert row["truncated"] == 1 / 4


def test_unjudged_is_unknown_and_not_zero() -> None:
    row = stats.problem_stats(store.to_frame([trial("p", 0, None)])).row(0, named=True)
    assert row["pass_rate"] is None
    assert row["mean_score"] is None
    assert row["sigma"] is None
    assert row["cv"] is None
    assert row["tries_to_first"] is None
    assert row["pass_rate_posterior"] == 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_cv_of_a_pass_rate_is_the_root_of_its_odds_against(outcomes: list[bool]) -> None:
    frame = store.to_frame([trial("p", i, correct) for i, correct in enumerate(outcomes)])
    row = stats.problem_stats(frame).row(0, named=True)
    p = sum(outcomes) / len(outcomes)
    if p == 0:
        assert row["cv"] is None
        assert row["tries_to_first"] is None
    else:
        assert row["cv"] == pytest.approx(math.sqrt((1 - p) / p), abs=1e-9)
        assert row["tries_to_first"] == outcomes.index(True) + 1


def test_samplers_apart_or_pooled_and_problems_in_order_of_appearance() -> None:
    pool = [trial("b", 0, True, sampler="x"), trial("a", 0, False, sampler="x"), trial("b", 1, False, sampler="y")]
    apart = stats.problem_stats(store.to_frame(pool))
    assert apart.select("problem_id", "sampler", "pass_rate").rows() == [("b", "x", 1), ("a", "x", 0), ("b", "y", 0)]
    pooled = stats.problem_stats(store.to_frame(pool), by_sampler=False)
    assert pooled.select("problem_id", "pass_rate").rows() == [("b", 0.5), ("a", 0)]
    same_id_elsewhere = stats.problem_stats(
        store.to_frame([*pool, trial("b", 0, True, task="other")]), by_sampler=False
    )
    assert same_id_elsewhere.height == 3


def test_summary_by_hand() -> None:
    pool = [
        trial("a", 0, True, level=1, usage={"completion_tokens": 10, "prompt_tokens": 5, "cost_usd": 0.5}),
        trial("a", 1, True, level=1, usage={"completion_tokens": 20, "prompt_tokens": 5}),
        trial("b", 0, False, level=2, finish="length"),
        trial("c", 0, None, level=2, finish="error"),
    ]
    total = stats.summary(store.to_frame(pool))
    assert (total.n_traces, total.n_problems, total.n_judged, total.n_correct) == (4, 3, 3, 2)
    assert total.accuracy == pytest.approx(2 / 3)
    assert (total.never_solved, total.always_solved) == (1, 1)
    assert (total.truncated, total.failed) == (0.25, 0.25)
    assert (total.prompt_tokens, total.completion_tokens) == (10, 30)
    assert (total.cost_usd, total.n_priced) == (0.5, 1)
    assert total.by_level == {1: (2, 2, 2), 2: (2, 1, 0)}
    assert total.by_finish == {"error": 1, "length": 1, "stop": 2}


def test_summary_of_nothing_knows_nothing() -> None:
    total = stats.summary(store.to_frame([]))
    assert total.n_traces == 0
    assert total.accuracy is None
    assert total.cost_usd is None
    assert stats.problem_stats(pl.DataFrame(store.to_frame([]))).height == 0

"""Selection loses nothing, explains everything and depends on nothing but its input."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.traces import select, store
from stillroom.types import Message, Problem, Segment, Trace


def trace(id: str, problem: str = "p", correct: bool | None = True, text: str = "r", **other: object) -> Trace:
    taught = (Segment(role="user", text=f"question {problem}"), Segment(role="assistant", text=text))
    base = {"id": id, "problem_id": problem, "task": "t", "asked": (), "taught": taught}
    verdict = {"correct": correct, "score": None if correct is None else float(correct), "reason": "because"}
    return Trace.model_validate(base | {"verdict": verdict, "usage": {"completion_tokens": len(text)}} | other)


def run(spec: str, *traces: Trace, seed: int = 0) -> select.Selection:
    return select.apply(store.to_frame(traces), select.parse(spec, seed=seed))


def kept(spec: str, *traces: Trace, seed: int = 0) -> list[str]:
    return run(spec, *traces, seed=seed).kept["id"].to_list()


TRACES = st.lists(
    st.builds(
        trace,
        id=st.sampled_from("abcdefgh"),  # ids may repeat: files get concatenated
        problem=st.sampled_from("pq"),
        correct=st.sampled_from([True, False, None]),
        text=st.sampled_from(["r", "r r", "r  r", "longer answer", "x"]),
        index=st.integers(0, 3),
        level=st.integers(0, 3),
        finish=st.sampled_from(["stop", "length", "error"]),
    ),
    max_size=12,
)
SPECS = [
    "correct",
    "finished",
    "unique",
    "near-unique",
    "near-unique=0.5",
    "max-tokens=5",
    "min-tokens=2",
    "pass-rate=0.2..0.8",
    "pass-rate=0..1@2",
    "levels=1..2",
    "take=1",
    "shortest=2",
    "longest=1",
    "sample=3",
    "balanced=1",
]


@settings(max_examples=60, deadline=None)
@given(TRACES, st.lists(st.sampled_from(SPECS), max_size=4))
def test_nothing_is_lost_and_every_dropped_trace_has_one_reason(traces: list[Trace], specs: list[str]) -> None:
    frame = store.to_frame(traces).with_columns(pl.int_range(pl.len()).alias("place"))
    selection = select.apply(frame, select.parse(",".join(specs)))
    assert selection.kept.columns == frame.columns
    assert selection.kept["place"].is_sorted()
    assert sorted([*selection.kept["id"], *selection.dropped["id"]]) == sorted(t.id for t in traces)
    assert sum(selection.counts.values()) == selection.dropped.height
    assert selection.dropped["reason"].null_count() == selection.dropped["detail"].null_count() == 0
    assert selection.kept.equals(select.apply(frame, select.parse(",".join(specs))).kept)


def test_wrong_and_unjudged_are_told_apart() -> None:
    selection = run(
        "correct", trace("a"), trace("b", correct=False), trace("c", correct=None), trace("d", verdict=None)
    )
    assert selection.kept["id"].to_list() == ["a"]
    assert selection.dropped.rows() == [
        ("b", "wrong", "because"),
        ("c", "unjudged", "because"),
        ("d", "unjudged", "no verdict"),
    ]
    assert selection.counts == {"wrong": 1, "unjudged": 2}


def test_the_first_rule_that_drops_a_trace_gives_the_reason() -> None:
    bad = trace("a", correct=False, finish="length")
    assert run("correct,finished", bad).counts == {"wrong": 1}
    assert run("finished,correct", bad).counts == {"truncated": 1}
    assert run("finished", trace("a", finish="timeout"), trace("b", finish="length")).dropped.rows() == [
        ("a", "failed", "timeout"),
        ("b", "truncated", "length"),
    ]


def test_pass_rate_counts_all_trials_not_the_survivors() -> None:
    easy = [trace(f"e{i}", "easy") for i in range(4)]
    mixed = [trace(f"m{i}", "mixed", correct=i == 0) for i in range(4)]
    hard = [trace(f"h{i}", "hard", correct=False) for i in range(4)]
    unknown = [trace("u", "unknown", correct=None)]
    pool = [*easy, *mixed, *hard, *unknown]
    assert kept("correct,pass-rate=0.1..0.9", *pool) == ["m0"]
    assert run("pass-rate=0.1..0.9", *pool).counts == {"pass rate": 8, "pass rate unknown": 1}
    assert kept("pass-rate=0..1@5", *pool) == []


def test_quotas_per_problem() -> None:
    pool = [
        trace("p2", index=2, text="aaa"),
        trace("p0", index=0, text="aa"),
        trace("p1", index=1, text="a"),
        trace("later", index=0, round=1, text="aaaa"),
        trace("q0", "q", text="b"),
    ]
    assert kept("take=2", *pool) == ["p0", "p1", "q0"]
    assert kept("shortest=2", *pool) == ["p0", "p1", "q0"]
    assert kept("longest=1", *pool) == ["later", "q0"]
    by_problem = select.apply(store.to_frame(pool), [select.take({"p": 3})])
    assert by_problem.kept["id"].to_list() == ["p2", "p0", "p1"]
    assert by_problem.dropped.row(1) == ("q0", "not taken", "number 1 of its problem, 0 wanted")


def test_ties_in_length_go_to_the_earlier_trace() -> None:
    assert kept("shortest=1", trace("a", text="xy"), trace("b", text="zw")) == ["a"]
    assert kept("longest=1", trace("a", text="xy"), trace("b", text="zw")) == ["a"]


def test_draws_depend_on_seed_and_ids_only() -> None:
    pool = [trace(f"t{i}", level=i % 3) for i in range(60)]
    shuffled = random.Random(1).sample(pool, 60)
    for spec, n in (("sample=10", 10), ("balanced=5", 15)):
        assert len(kept(spec, *pool)) == n
        assert set(kept(spec, *pool)) == set(kept(spec, *shuffled))
        assert kept(spec, *pool, seed=0) != kept(spec, *pool, seed=1)
    levels = run("balanced=5", *pool).kept.group_by("level").len().sort("level").rows()
    assert levels == [(0, 5), (1, 5), (2, 5)]
    assert kept("balanced=5", *pool[:2]) == ["t0", "t1"]


def test_decontamination_names_the_problem() -> None:
    text = "question about nine words that the evaluation has too"
    evaluation = [Problem(id="e7", task="t", messages=(Message(role="user", content=text),), reference="1")]
    leak = trace("leak", taught=(Segment(role="user", text=text), Segment(role="assistant", text="r")))
    for spec in ("decontaminated", "decontaminated=5", "decontaminated=exact"):
        rules = select.parse(spec, against=evaluation)
        selection = select.apply(store.to_frame([trace("fine"), leak]), rules)
        assert selection.kept["id"].to_list() == ["fine"]
        [(id, reason, detail)] = selection.dropped.rows()
        assert (id, reason) == ("leak", "contaminated")
        assert detail.startswith("e7: question about")


def test_token_rules_refuse_traces_without_counts() -> None:
    assert kept("max-tokens=3,min-tokens=2", trace("a", text="1"), trace("b", text="12"), trace("c", text="1234")) == [
        "b"
    ]
    with pytest.raises(UserError, match="'zero'"):
        run("max-tokens=3", trace("zero", usage={}))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("corect", "did you mean correct"),
        ("shortest", "shortest=K"),
        ("shortest=four", "shortest=K"),
        ("take=-1", "take=N"),
        ("correct=yes", "correct=yes"),
        ("pass-rate=0.9..0.1", "0.9..0.1"),
        ("pass-rate=0.5", "0.1..0.9"),
        ("levels=1...3", "levels=1..3"),
        ("near-unique=nan", "near-unique=0.8"),
        ("near-unique=0", "0.8"),
        ("decontaminated", "--against"),
    ],
)
def test_bad_rules_are_refused_with_the_remedy(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(spec, trace("a"), trace("b"))


@given(
    st.text(max_size=30) | st.sampled_from(sorted(select.RULES)).flatmap(lambda n: st.text().map(lambda v: f"{n}={v}"))
)
def test_any_text_is_parsed_or_refused(spec: str) -> None:
    try:
        rules = select.parse(spec)
    except UserError:
        return
    assert all(rule.name.partition("=")[0] in select.RULES for rule in rules)

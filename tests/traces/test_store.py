"""The store gives back exactly what it was given, whole shards only."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillroom.errors import DataError, UserError
from stillroom.traces import store
from stillroom.types import Finish, Judgement, Message, Segment, Span, Trace, Usage, Verdict

# Everything Python can hold: NUL, control characters, emoji, bidi marks. Surrogates are tested apart.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["\x00", "\r\n", "\u202e", "🦊"]
)
INT = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
DICT = st.dictionaries(TEXT, JSON, max_size=3)
ROLE = st.sampled_from(["system", "user", "assistant", "tool"])
SEGMENT = st.builds(
    Segment,
    role=ROLE,
    text=TEXT,
    weight=FLOAT,
    token_ids=st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
    tokenizer=st.none() | TEXT,
)
USAGE = st.builds(Usage, prompt_tokens=INT, completion_tokens=INT, calls=INT, cost_usd=st.none() | FLOAT)
TRACE = st.builds(
    Trace,
    id=TEXT,
    problem_id=TEXT,
    task=TEXT,
    asked=st.lists(st.builds(Message, role=ROLE, content=TEXT), max_size=3).map(tuple),
    taught=st.lists(SEGMENT, max_size=4).map(tuple),
    source=st.sampled_from(["teacher", "student", "gold", "corrected", "injected-error", "recorded"]),
    sampler=TEXT,
    params=DICT,
    seed=st.none() | INT,
    index=INT,
    round=INT,
    parents=st.lists(TEXT, max_size=2).map(tuple),
    finish=st.sampled_from(Finish),
    verdict=st.none()
    | st.builds(
        Verdict,
        correct=st.none() | st.booleans(),
        score=st.none() | FLOAT,
        raw=st.none() | FLOAT,
        answer=st.none() | TEXT,
        parts=st.dictionaries(TEXT, FLOAT, max_size=2),
        reason=TEXT,
    ),
    judgement=st.none() | st.builds(Judgement, choice=st.none() | TEXT, rating=st.none() | FLOAT, reasons=TEXT),
    usage=USAGE,
    level=INT,
    spans=st.lists(st.builds(Span, kind=TEXT, start=INT, end=INT, data=DICT), max_size=2).map(tuple),
    meta=DICT,
)


def make(id: str = "t", answer: str = "5", **other: object) -> Trace:
    taught = (Segment(role="user", text="2+3?"), Segment(role="assistant", text=answer, weight=1.0))
    return Trace.model_validate({"id": id, "problem_id": "p", "task": "sum", "asked": (), "taught": taught, **other})


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(TRACE, max_size=3))
def test_reading_gives_back_exactly_what_was_written(tmp_path: Path, traces: list[Trace]) -> None:
    path = store.write_shard(tmp_path, "part-0", traces)
    assert store.read(path) == traces
    assert store.from_frame(store.scan(path).collect()) == traces
    assert store.from_frame(store.to_frame(traces)) == traces


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_only_surrogates_change_and_no_text_changes_its_length(text: str) -> None:
    expected = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    trace = make(id=text, answer=text, meta={"k": [text]}, params={"p": text})
    [back] = store.from_frame(store.to_frame([trace]))
    assert (back.id, back.taught[1].text, back.meta["k"], back.params["p"]) == (
        expected,
        expected,
        [expected],
        expected,
    )


def test_a_shard_is_replaced_whole_and_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    store.write_shard(tmp_path, "a", [make("old")])

    def failing():
        yield make("new")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        store.write_shard(tmp_path, "a", failing())
    assert [t.id for t in store.read(tmp_path)] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    store.write_shard(tmp_path, "a", [make("new")])
    assert [t.id for t in store.read(tmp_path)] == ["new"]


def test_a_folder_is_its_shards_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        store.write_shard(tmp_path, name, [make(name + "1"), make(name + "2")])
    (tmp_path / "notes.txt").write_text("not a shard")
    ids = ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert [t.id for t in store.read(tmp_path)] == ids
    assert store.scan(tmp_path).select("id").collect()["id"].to_list() == ids


def test_more_rows_than_a_row_group(tmp_path: Path) -> None:
    path = store.write_shard(tmp_path, "many", (make(str(i)) for i in range(5_003)))
    assert store.scan(path).select(pl.len()).collect().item() == 5_003
    assert next(store.iterate(path)).id == "0"
    frame = store.scan(path).collect()
    assert store.write_frame(tmp_path, "again", frame).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="the frame lacks meta"):
        store.write_frame(tmp_path, "part", frame.drop("meta"))
    with pytest.raises(UserError, match="no shard name"):
        store.write_frame(tmp_path, "../part", frame)


def test_unjudged_is_null_and_no_verdict_at_all_is_told_apart() -> None:
    traces = [
        make("a", verdict=Verdict(correct=None, reason="timeout")),
        make("b"),
        make("c", verdict=Verdict(correct=False, score=0.0)),
    ]
    frame = store.to_frame(traces)
    assert frame["correct"].to_list() == [None, None, False]
    assert frame["score"].to_list() == [None, None, 0.0]
    assert frame["reason"].to_list() == ["timeout", None, ""]


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = store.write_shard(tmp_path, "whole", [make()]).read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[: len(whole) // 2])
    foreign = tmp_path / "foreign.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(foreign)
    for path in (cut, foreign):
        with pytest.raises(DataError, match=path.name):
            store.read(path)
        with pytest.raises(DataError, match=path.name):
            store.scan(path)
    with pytest.raises(UserError, match="nowhere"):
        store.read(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no trace shards"):
        store.read(empty)


def test_a_number_that_does_not_fit_names_its_trace(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'huge'"):
        store.write_shard(tmp_path, "x", [make("fine"), make("huge", seed=2**70)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_a_shard_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        store.write_shard(tmp_path, name, [])


@pytest.mark.parametrize(
    ("turns", "question", "response"),
    [
        ([("user", "q"), ("assistant", "a")], "q", "a"),
        ([("system", "s"), ("user", "q"), ("assistant", "a"), ("assistant", "b")], "q", "ab"),
        ([("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")], "q2", "a2"),
        ([("assistant", "a"), ("tool", "out")], "", "a"),
        ([("assistant", "a"), ("assistant", "b"), ("user", "x"), ("user", "y")], "xy", "ab"),
        ([("system", "s")], "", ""),
        ([], "", ""),
    ],
)
def test_question_and_response_are_the_last_turns(turns: list[tuple[str, str]], question: str, response: str) -> None:
    trace = make(taught=tuple({"role": role, "text": text} for role, text in turns))
    row = store.to_frame([trace]).select(q=store.question(), r=store.text()).row(0)
    assert row == (question, response)
    assert store.response_of(trace) == response

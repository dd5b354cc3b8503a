"""A pool of shards gives what the same traces give as one frame, however they are cut."""

import random
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from stillroom.errors import DataError, UserError
from stillroom.traces import decontaminate, dedup, select, stats, store
from stillroom.traces import pool as pooling
from stillroom.traces.pool import Pool
from stillroom.types import Message, Problem, Segment, Trace

RULES = "correct,finished,unique,near-unique,decontaminated,pass-rate=0.1..1,take=6,shortest=4,sample=24,balanced=7"
QUESTION = "In basket {0} there are some apples left and question {0} asks how many."
EVALUATION = [
    Problem(
        id="e",
        task="e",
        messages=(Message(role="user", content=QUESTION.format(3)),),
        reference="1",
    )
]


def trace(number: int) -> Trace:
    rng = random.Random(number)
    problem, variant = rng.randrange(8), rng.randrange(16)
    words = [str(n) for n in random.Random(f"{problem} {variant}").choices(range(1000), k=60)]
    if rng.random() < 0.7:
        words[rng.randrange(60)] = rng.choice(["changed", "é", "列车"])
    taught = (
        Segment(role="user", text=QUESTION.format(problem)),
        Segment(role="assistant", text=" ".join(words[:20]) + " "),
        Segment(role="assistant", text=" ".join(words[20:]), weight=1.0),
    )
    return Trace.model_validate(
        {"id": f"t{number}", "problem_id": f"p{problem}", "task": "t", "asked": (), "taught": taught}
        | {"index": number, "level": problem % 3, "finish": rng.choice(["stop", "stop", "length"])}
        | {"verdict": {"correct": rng.random() < 0.7, "score": rng.random()}, "usage": {"completion_tokens": 60}}
    )


TRACES = [trace(number) for number in range(200)]


@pytest.fixture(params=["one row group", "many row groups", "shards and a frame"])
def pool(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The traces as a pool that is read in chunks of seven rows."""
    monkeypatch.setattr(pooling, "_CHUNK_ROWS", 7)
    if request.param == "one row group":
        return Pool(store.write_shard(tmp_path, "a", TRACES))
    if request.param == "many row groups":
        whole = store.to_table(store.to_frame(TRACES))
        store.write_tables(tmp_path / "a.parquet", [whole.slice(i, 11) for i in range(0, 200, 11)])
        return Pool(tmp_path)
    store.write_shard(tmp_path / "s", "a", TRACES[:50])
    store.write_shard(tmp_path / "s", "b", TRACES[50:90])
    return Pool(tmp_path / "s", store.to_frame(TRACES[90:]))


def test_every_step_gives_what_it_gives_on_one_frame(pool: Pool) -> None:
    frame = store.to_frame(TRACES)
    near = dedup.near(pool)
    assert near.height > 20
    assert near.equals(dedup.near(frame))
    assert dedup.exact(pool).equals(dedup.exact(frame))
    found = decontaminate.find(pool, EVALUATION, responses=True)
    assert found.height > 2
    assert found.equals(decontaminate.find(frame, EVALUATION, responses=True))
    assert stats.problem_stats(pool).equals(stats.problem_stats(frame))
    assert stats.summary(pool.lazy) == stats.summary(frame)


def test_a_selection_from_shards_is_the_one_from_the_frame(pool: Pool) -> None:
    rules = select.parse(RULES, against=EVALUATION)
    choice = select.choose(pool, rules)
    selection = select.apply(store.to_frame(TRACES), rules)
    assert choice.counts == selection.counts
    assert {"near duplicate", "contaminated", "not taken", "not shortest", "not drawn"} <= set(choice.counts)
    assert choice.dropped.equals(selection.dropped)
    kept = pa.concat_tables(pool.tables(choice.rows))
    assert [t.id for t in store.from_table(kept)] == selection.kept["id"].to_list()


def test_rows_are_numbered_over_all_sources(pool: Pool) -> None:
    rows = np.array([0, 6, 7, 49, 50, 89, 90, 199])
    named = pool.columns("id", rows=rows)
    assert named["row"].to_list() == rows.tolist()
    assert named["id"].to_list() == [f"t{row}" for row in rows]
    chunks = list(pool.texts(rows))
    assert np.concatenate([chunk.row for chunk in chunks]).tolist() == rows.tolist()
    assert [text for chunk in chunks for text in chunk.response] == [store.response_of(TRACES[row]) for row in rows]
    whole = pa.concat_tables(pool.tables(rows))
    assert store.from_table(whole) == [TRACES[row] for row in rows]
    assert pool.height == 200


def test_chunks_of_long_texts_hold_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "_CHUNK_BYTES", 4_000)
    segment = [Segment(role="assistant", text="".join(map(chr, random.Random(0).choices(range(33, 127), k=1_000))))]
    long = [t.model_copy(update={"taught": segment}) for t in TRACES[:20]]
    for pool in (Pool(store.write_shard(tmp_path, "a", TRACES[:20])), Pool(store.to_frame(long))):
        assert max(len(chunk.row) for chunk in pool.texts()) <= 15
        assert sum(len(chunk.row) for chunk in pool.texts()) == 20


def test_an_empty_pool_has_columns_and_no_texts(tmp_path: Path) -> None:
    for pool in (Pool(store.write_shard(tmp_path, "a", [])), Pool(store.to_frame([]))):
        assert pool.columns("id", "correct").schema == {"row": pl.Int64, "id": pl.String, "correct": pl.Boolean}
        assert list(pool.texts()) == []
        assert select.choose(pool, select.parse(RULES, against=EVALUATION)).counts == {}


def test_what_holds_no_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Pool(tmp_path / "nowhere")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="does not hold Stillroom traces"):
        Pool(tmp_path)
    shard = store.write_shard(tmp_path / "s", "a", TRACES)
    data = bytearray(shard.read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    shard.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        list(Pool(shard).texts())

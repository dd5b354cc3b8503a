"""What other trainers get, and what comes back from their layouts."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stillroom.errors import DataError
from stillroom.traces import stats, store
from stillroom.traces.export import export, write_card
from stillroom.traces.imports import read_any
from stillroom.types import Segment, Trace

USER = {"role": "user", "content": "2+3?"}


def trace(id: str, correct: bool | None = True, answer: str = "5", **other: object) -> Trace:
    taught = (
        Segment(role="user", text="2+3?"),
        Segment(role="assistant", text="is "),
        Segment(role="assistant", text=answer),
    )
    base = {"id": id, "problem_id": "p", "task": "sum", "sampler": "big <model>", "asked": (), "taught": taught}
    return Trace.model_validate(base | {"verdict": {"correct": correct}} | other)


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def rows(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_layouts(tmp_path: Path, form: str) -> None:
    pool = [trace("a"), trace("b", answer="é\u2028\x00"), trace("open", taught=(Segment(role="user", text="?"),))]
    done = export(pool, tmp_path, "messages", form)  # type: ignore[arg-type]
    assert (done.rows, done.traces) == (2, 3)
    if form == "parquet":
        assert rows(done.path)[1] == {"id": "b", "messages": [USER, said("is é\u2028\x00")]}
    else:
        lines = done.path.read_text(encoding="utf-8").split("\n")
        assert json.loads(lines[1]) == {"id": "b", "messages": [USER, said("is é\u2028\x00")]}
    done = export(pool[:1], tmp_path, "prompt-completion", form)  # type: ignore[arg-type]
    assert rows(done.path) == [{"id": "a", "prompt": [USER], "completion": [said("is 5")]}]


def test_preference_pairs_the_first_correct_with_the_first_wrong_answer_to_one_prompt(tmp_path: Path) -> None:
    other_prompt = (Segment(role="user", text="Two plus three?"), Segment(role="assistant", text="6"))
    pool = [
        trace("right1", index=4, answer="five"),
        trace("right0", index=2),
        trace("unjudged", None, index=0),
        trace("elsewhere", False, index=0, taught=other_prompt),
        trace("failed", False, index=0, finish="error"),
        trace("wrong1", False, index=3, answer="7"),
        trace("wrong0", False, index=1, answer="4"),
        trace("alone", problem_id="only right"),
    ]
    expected = [{"id": "right0 > wrong0", "prompt": [USER], "chosen": [said("is 5")], "rejected": [said("is 4")]}]
    assert rows(export(pool, tmp_path, "preference").path) == expected
    assert rows(export(reversed(pool), tmp_path, "preference").path) == expected


def test_card_tells_lineage_and_licences_and_is_no_markup(tmp_path: Path) -> None:
    pool = [trace("a"), trace("b", False, sampler="x|y\n# h"), trace("c", None, task="other")]
    done = export(pool, tmp_path, "messages")
    card = write_card(tmp_path, "My *data*", done, "messages", stats.summary(store.to_frame(pool)), {"sum": "MIT"})
    text = card.read_text(encoding="utf-8")
    assert "3 rows" in text
    assert "50.0% correct of 2 judged" in text
    assert "| sum | MIT |" in text
    assert "| other | not stated |" in text
    assert "<model>" not in text
    assert "\n# h" not in text
    assert "license:" not in text  # one of the two tasks states none


def test_exports_can_be_read_again(tmp_path: Path) -> None:
    for layout in ("messages", "prompt-completion"):
        path = export([trace("a"), trace("b", answer="6")], tmp_path / layout, layout).path  # type: ignore[arg-type]
        traces = read_any(path).traces
        assert [(t.id, store.response_of(t)) for t in traces] == [("a", "is 5"), ("b", "is 6")]
        assert [(t.index, t.source, t.verdict) for t in traces] == [(0, "recorded", None), (1, "recorded", None)]
        assert traces[0].problem_id == traces[1].problem_id
        assert [s.weight for s in traces[0].taught] == [0.0, 1.0]


def test_bad_lines_are_numbered_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "q", "response": "a", "result": true, "note": 1}',
        "",
        "{oops",
        "[1]",
        '{"prompt": "q"}',
        '{"messages": [{"role": "user", "content": "q"}]}',
        '{"messages": [{"role": "boss", "content": "q"}]}',
        '{"messages": [{"role": "user"}]}',
        '{"prompt": "q", "completion": "a", "correct": "yes"}',
        '{"prompt": "q", "completion": "a", "level": "hard"}',
        "[" * 100_000,
        '{"question": "q", "completion": "b", "correct": null, "id": "mine"}',
    ]
    path = tmp_path / "rec.jsonl"
    path.write_bytes("\n".join(lines).encode() + b'\n{"prompt": "\xff", "response": "a"}\n')
    traces, bad = read_any(path)
    assert [t.id for t in traces] == ["rec:1", "mine"]
    assert [t.verdict and t.verdict.correct for t in traces] == [True, None]
    assert traces[0].meta == {"note": 1}
    assert [row.row for row in bad] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    path.write_text("{oops\n")
    with pytest.raises(DataError, match="row 1"):
        read_any(path)


def test_lone_surrogates_from_json_can_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "rec.jsonl"
    path.write_text('{"prompt": "\\ud800", "response": "x\\udfff"}\n')
    [trace] = read_any(path).traces
    shard = store.write_shard(tmp_path, "s", [trace])
    assert store.response_of(store.read(shard)[0]) == "x\ufffd"
    assert rows(export([trace], tmp_path, "messages").path)[0]["messages"] == [
        {"role": "user", "content": "\ufffd"},
        said("x\ufffd"),
    ]


def test_shards_pass_through_unchanged(tmp_path: Path) -> None:
    pool = [trace("a", source="recorded"), trace("b", source="recorded")]
    assert read_any(store.write_shard(tmp_path, "s", pool)).traces == pool

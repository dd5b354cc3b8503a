"""Files are whole or absent; lines survive a kill and any text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stillroom.io
from stillroom.io import append_line, open_atomic, read_json, read_lines, write_atomic, write_json

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
RECORDS = st.dictionaries(ANY_TEXT, ANY_TEXT | st.integers() | st.none() | st.booleans(), max_size=3)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"old": 1})

    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stillroom.io.os, failing, fail)
        with pytest.raises(OSError, match="no space"):
            write_atomic(path, "new")
    assert read_json(path) == {"old": 1}
    write_json(path, {"new": 2})
    assert read_json(path) == {"new": 2}


def test_a_failing_block_leaves_neither_a_part_nor_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "shard"
    with pytest.raises(RuntimeError), open_atomic(path) as file:  # noqa: PT012 - the block is what fails
        file.write(b"half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with open_atomic(path) as file:
        file.write(b"whole")
    assert [p.name for p in path.parent.iterdir()] == ["shard"]
    assert path.read_bytes() == b"whole"


@settings(max_examples=40)
@given(records=st.lists(RECORDS, max_size=4))
def test_lines_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("lines") / "log.jsonl"
    for record in records:
        append_line(path, record)
    assert list(read_lines(path)) == records


def test_a_lone_surrogate_does_not_crash_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"text": "\ud800"})
    assert list(read_lines(path)) == [{"text": "\ud800"}]


def test_every_cut_of_the_last_line_loses_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    whole = "".join(json.dumps({"n": n, "t": "é]}"}) + "\n" for n in range(2)).encode()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert [record["n"] for record in read_lines(path)] == [0]
        append_line(path, {"n": 2})
        # A line whose closing newline alone was cut is whole again once the next line closed it off.
        assert [record["n"] for record in read_lines(path)] == ([0, 1, 2] if cut == len(whole) - 1 else [0, 2])


def test_an_absent_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "nothing.jsonl")) == []


def test_json_files_can_be_compared(tmp_path: Path) -> None:
    for name, value in (("a", {"x": 1, "y": "ü\ud800"}), ("b", {"y": "ü\ud800", "x": 1})):
        write_json(tmp_path / name, value)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": "ü\ud800"}

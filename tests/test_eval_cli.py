"""`stillroom eval` with strategies: the table, JSON, the folder of a report, and one clear line for a mistake."""

import json
from pathlib import Path

import pytest

from fixtures_distill import CommandLine, write_student
from stillroom.io import read_json
from stillroom.traces import store

BASE = ["--task", "arithmetic:high=2", "--problems", "3", "--max-new-tokens", "6"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_a_curve_as_table_json_and_report(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    specs = ["single", "vote:n=2", "vote:n=3/iterate:rounds=2"]
    words: list[object] = ["eval", student, *BASE, *(word for spec in specs for word in ("--strategy", spec))]
    said = stillroom(*words, "--report", tmp_path / "votes", "--out", tmp_path / "all.parquet")
    assert said.code == 0
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == specs
    assert "peak context" in lines[0]
    assert "truncated" in lines[3] or "final" in lines[3]
    result = read_json(tmp_path / "votes" / "result.json")
    assert [arm["name"] for arm in result["arms"]] == specs
    assert [arm["calls"] for arm in result["arms"][:2]] == [1, 2]
    assert "Accuracy against tokens" in (tmp_path / "votes" / "report.html").read_text(encoding="utf-8")
    assert len(store.read(tmp_path / "votes" / "evals")) == len(store.read(tmp_path / "all.parquet")) == 9

    shown = json.loads(stillroom(*words, "--json").out)
    assert [arm["name"] for arm in shown] == specs
    assert shown == result["arms"]
    again = stillroom(*words, "--report", tmp_path / "votes")
    assert (again.code, "exists already" in again.err) == (2, True)


def test_one_strategy_is_one_object_and_none_is_the_model(student: Path, stillroom: CommandLine) -> None:
    alone = json.loads(stillroom("eval", student, *BASE, "--json").out)
    single = json.loads(stillroom("eval", student, *BASE, "--json", "--strategy", "single").out)
    assert (alone["name"], single["name"]) == (str(student), "single")
    assert {**single, "name": alone["name"]} == alone
    assert alone["peak_context"]["max"] > 0
    assert alone["flops"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategy", "vots:n=2"], "did you mean vote"),
        (["--strategy", "vote:n=two"], "n: Input should be a valid integer"),
        (["--strategy", "single", "--strategy", "single"], "stands twice"),
    ],
)
def test_a_mistake_is_one_clear_line(student: Path, stillroom: CommandLine, words: list[str], message: str) -> None:
    said = stillroom("eval", student, *BASE, *words)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1

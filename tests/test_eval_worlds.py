"""`stillroom eval MODEL --task …` measures a model on instructions, survey questions and tricks."""

import json
from pathlib import Path

import pytest

from fixtures_distill import LAYOUT, CommandLine, write_student
from stillroom.tasks.real import REAL
from stillroom.traces import store


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Real questions are long for a tokenizer that knows sums.
    return write_student(tmp_path_factory.mktemp("student") / "tiny", LAYOUT.model_copy(update={"positions": 4096}))


@pytest.mark.parametrize("task", ["ifeval", "protoqa", "simplebench", "tricks"])
def test_a_model_is_measured(
    task: str,
    student: Path,
    tmp_path: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if task in REAL and not (data_dir / task).is_dir():
        pytest.skip(f"no {task} data")
    monkeypatch.setenv("STILLROOM_DATA", str(data_dir))
    words = ["--task", task, "--problems", "2", "--max-new-tokens", "4", "--out", tmp_path / "a.parquet", "--json"]
    said = CommandLine(monkeypatch, capsys)("eval", student, *words)
    assert said.code == 0, said.err
    score = json.loads(said.out)
    assert score["accuracy"]["n"] == 2
    assert score["unjudged"] == 0
    verdicts = [trace.verdict for trace in store.read(tmp_path / "a.parquet")]
    assert len(verdicts) == 2
    assert all(verdict is not None and verdict.score is not None for verdict in verdicts)

"""`stillroom bench importance` on a model of random weights: every score at both densities, and a file."""

from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from fixtures_distill import write_student
from stillroom.bench import importance
from stillroom.cli.app import app
from stillroom.io import read_json
from stillroom.learn.adapt.scores import ScoreName


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(importance, "DRAWS", 1)
    monkeypatch.setattr(importance, "MAX_NEW_TOKENS", 4)
    return write_student(tmp_path / "student")


def run(student: Path, out: Path, task: str = "arithmetic:high=1") -> int:
    command = ["bench", "importance", "--model", str(student), "--task", task, "--problems", "4", "--out", str(out)]
    found = CliRunner().invoke(app, command)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code


def test_every_score_is_measured_at_both_densities(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "importance.json"
    code = run(student, out)
    result = read_json(out)
    assert code == (0 if result["passed"] else 1)
    assert [(row["density"], row["score"]) for row in result["noise"]] == [
        (density, score) for density in (0.01, 0.05) for score in get_args(ScoreName)
    ]
    for density, order in result["most_harmful_first"].items():
        losses = {row["score"]: row["loss"] for row in result["noise"] if str(row["density"]) == density}
        assert [losses[score] for score in order] == sorted(losses.values(), reverse=True)
        assert len({row["entries"] for row in result["noise"] if str(row["density"]) == density}) == 1
    assert all(row["loss"] != result["undisturbed"]["loss"] for row in result["noise"])
    assert result["spectral_excess"] == pytest.approx(1.0, abs=0.1)


def test_a_task_without_a_solver_is_refused(student: Path, tmp_path: Path) -> None:
    problems = tmp_path / "own.jsonl"
    problems.write_text('{"question": "1 + 1?", "answer": "2"}\n' * 4, encoding="utf-8")
    with pytest.raises(ValueError, match="has no solver, so there are no solutions"):
        run(student, tmp_path / "out.json", f"jsonl:{problems}")

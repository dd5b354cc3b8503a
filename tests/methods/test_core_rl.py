"""The core recipes of reinforcement learning: smoke runs, what they leave, and that a kill changes nothing."""

from pathlib import Path

import pytest

from fixtures_distill import small, write_student
from stillroom.io import read_lines
from stillroom.lab.run import Run
from stillroom.models.policy import load_policy
from stillroom.workbench import distill


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_the_core_recipes_reinforce_the_warm_student(method: str, tmp_path: Path) -> None:
    student = write_student(tmp_path / "student")
    result = distill(small(student, method=method, train={"steps": 2}), tmp_path / "run")
    assert load_policy(result.student).num_parameters() == load_policy(student).num_parameters()
    run, _ = Run.open(tmp_path / "run")
    trained = run.result_of("train:student")
    run.close()
    assert trained is not None
    assert (trained["rl_steps"], trained["steps"]) == (2, 2 if method == "grpo" else 4)
    assert [step for step, _ in trained["held_out"]] == [0, 2]
    assert result.cost["student_tokens"] is not None
    assert result.cost["student_tokens"] > trained["written_tokens"] > 0
    rows = [row for row in read_lines(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "rl"]
    assert [row["step"] for row in rows] == [1, 2]
    assert {"reward", "correct", "term_correct", "term_layout", "groups_equal", "length_drift"} <= rows[0].keys()
    assert ("value_error" in rows[0]) is (method == "ppo")
    assert (tmp_path / "run" / "report.html").is_file()

"""AlphaMed: the smoke run, a reward that is right or wrong and nothing else, and a run on a file of one's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import small, write_student
from stillroom.errors import UserError
from stillroom.io import read_json, read_lines
from stillroom.learn.rl.rewards import Scored, TaskReward
from stillroom.learn.rl.rollouts import Rollout
from stillroom.methods.m02_alphamed import GRPO
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

ARMS = ("base", "letter-sft", "chain-sft", "sft-rl", "rl", "rl-maybe", "rl-union", "rl-quarter")
"""Not those by level, which need more attempts than a smoke run has time for; tests/traces covers their counts."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("alphamed") / "run"
    return run_page("alphamed", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    assert len(result.claims) == 3  # the one about levels is left out
    assert [gate.name for gate in seed.gates] == ["accuracy of chain-sft"]
    assert all(set(arm.measures) == {"hard", "recall"} for arm in seed.arms.values())
    assert all(arm.lr == 3e-4 and arm.updates <= 2 for name, arm in seed.arms.items() if name != "base")
    assert read_json(folder / "result.json")["verdict"] == result.verdict


def test_accuracy_is_corrected_for_guessing_where_there_are_options(smoke: tuple[Any, Path]) -> None:
    for arm in smoke[0].seeds[0].arms.values():
        for score, options in ((arm.score, 4), (arm.measures["recall"], 4), (arm.measures["hard"], 8)):
            expected = (score.accuracy.value - 1 / options) / (1 - 1 / options)
            assert score.chance_corrected == pytest.approx(expected)


def test_arms_that_are_compared_have_equally_many_questions(smoke: tuple[Any, Path]) -> None:
    arms = smoke[0].seeds[0].arms
    asked = {name: arm.training["diagnostics"].get("questions") for name, arm in arms.items() if arm.training}
    assert [asked[name] for name in ("rl", "sft-rl", "rl-maybe", "rl-union")] == [24, 24, 24, 24]
    assert asked["rl-quarter"] == 6
    # Noise is in the judgements alone.
    noisy = {name for name, arm in arms.items() if arm.training.get("diagnostics", {}).get("mislabelled")}
    assert noisy == {"rl-maybe"}


def test_the_reward_is_right_or_wrong_and_nothing_else(smoke: tuple[Any, Path]) -> None:
    rows = [row for row in read_lines(smoke[1] / "seed-0" / "metrics.jsonl") if row["stage"] == "rl"]
    assert rows
    for row in rows:
        assert [name for name in row if name.startswith("term_")] == ["term_correct"]
        assert row["reward"] == row["correct"] == row["term_correct"]
        assert {"groups_equal", "length", "stepwise", "thought_lines"} <= row.keys()
    assert GRPO.kl.place == "off"


def write_questions(path: Path) -> Path:
    """Questions with three options and a rationale; three rows are bad."""
    rows: list[dict[str, Any]] = [
        {
            "question": f"What is {n} plus 1?",
            "options": [str(n + 1), str(n + 2), str(n + 3)],
            "answer": "A",
            "solution": f"secret: add 1 to {n}",
        }
        for n in range(60)
    ]
    rows[0]["answer"] = "D"
    rows[1]["options"] = ["2", "2", "3"]
    rows[2]["options"] = ["3"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_runs_on_a_local_file_without_reading_a_rationale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Rollout] = []
    scored: list[Scored] = []
    plainly = TaskReward.__call__

    def spy(reward: TaskReward, rollouts: Sequence[Rollout]) -> list[Scored]:
        found = plainly(reward, rollouts)
        seen.extend(rollouts)
        scored.extend(found)
        return found

    monkeypatch.setattr(TaskReward, "__call__", spy)
    student = write_student(tmp_path / "student")
    questions = write_questions(tmp_path / "questions.jsonl")
    config = small(
        student,
        method="alphamed",
        task=f"jsonl:{questions}",
        # Never asked.
        teacher=f"local:{student}",
        chat_format="think",
        problems=4,
        train={"steps": 4, "batch_size": 16},
    )
    distill(config, tmp_path / "run")
    rejected = [row["reason"] for row in read_lines(tmp_path / "run" / "rejects.jsonl")]
    assert len(rejected) == 3
    assert "stands twice" in rejected[1]
    assert len(seen) == 4 * 2 * 8
    assert {found.reward for found in scored} <= {0.0, 1.0}
    assert all("secret" not in repr((rollout.problem, rollout.prompt)) for rollout in seen)
    # Options are shuffled whenever a question comes up, and the letter goes with its option.
    orders: dict[str, set[tuple[str, ...]]] = {}
    for rollout in seen:
        problem = rollout.problem
        orders.setdefault(problem.id, set()).add(problem.options)
        number = int(problem.messages[-1].content.split()[2])
        assert problem.options[ord(problem.reference or "") - 65] == str(number + 1)
    assert len(orders) == 4
    assert any(len(order) > 1 for order in orders.values())


def test_problems_without_options_are_refused(tmp_path: Path) -> None:
    config = small(write_student(tmp_path / "student"), method="alphamed")
    with pytest.raises(UserError, match="needs options"):
        distill(config, tmp_path / "run")

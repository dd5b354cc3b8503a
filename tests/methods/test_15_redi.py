"""REDI: the smoke run, and what the specification must have; the loss itself is in tests/learn/test_comparing.py."""

from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import small, write_student
from stillroom.errors import CheckpointError
from stillroom.io import read_json, read_lines
from stillroom.lab.config import parse_config
from stillroom.lab.run import Run
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.contrast import REDI
from stillroom.methods.m15_redi import HIGH, RATES
from stillroom.models.policy import load_policy
from stillroom.tasks.base import Style
from stillroom.traces import store
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

ARMS = ("sft", "redi", "symmetric")
"""The others differ in a number or in the loss, which tests/learn covers."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("redi") / "run"
    return run_page("redi", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def test_the_smoke_run(smoke: Any) -> None:
    result, folder = smoke
    assert result.number == 15
    assert set(result.seeds[0].arms) == set(ARMS)
    # Contrasts with other arms are left out.
    assert [claim.arms[1] for claim in result.claims] == ["symmetric", "sft"]
    assert result.claims[0].at_lr == HIGH
    assert (folder / "report.html").is_file()


def test_the_second_stage_starts_from_the_first_with_fresh_state(smoke: Any) -> None:
    """One first stage for all arms; every second stage begins at its step 1, where the first one left the weights."""
    rows = [row for row in read_lines(smoke[1] / "seed-0" / "metrics.jsonl") if row["stage"] == "train"]
    assert sum(row["arm"].startswith("sft-0.") and row["step"] == 1 for row in rows) == 2
    firsts = {row["arm"]: row for row in rows if row["step"] == 1 and row["arm"].startswith(("redi", "symmetric"))}
    assert set(firsts) == {f"{name}-{rate:g}" for name in ("redi", "symmetric") for rate in RATES}
    # Before the first update they see the same policy on the same pairs.
    assert len({row["logp_chosen"] for row in firsts.values()}) == 1
    assert len({row["grad_norm"] for row in firsts.values()}) == 2
    assert {"logp_chosen", "logp_rejected", "margin", "grad_norm", "update_norm"} <= firsts["redi-0.0003"].keys()


def test_one_wrong_trace_a_problem(smoke: Any) -> None:
    folder = smoke[1] / "seed-0" / "traces"
    traces = store.read(folder / "pairs-all.parquet")
    wrong = [t.problem_id for t in traces if t.verdict is not None and t.verdict.correct is False]
    assert len(wrong) == len(set(wrong)) == len(traces) // 2


def test_every_arm_tries_the_same_number_of_rates() -> None:
    """And the published claim says so for all arms."""
    path = Path(__file__).parents[2] / "results" / "claims" / "15-redi.json"
    claim = read_json(path)
    assert {len(seed["trials"]) for arm in claim["arms"].values() for seed in arm} == {2}
    assert len(claim["seeds"]) >= 3
    assert claim["verdict"] != "void"


def test_an_arm_without_its_first_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Learner(load_policy(tmp_path / "no" / "sft"), REDI())


def test_the_recipe_on_a_task_of_ones_own(tmp_path: Path) -> None:
    student = write_student(tmp_path / "student")
    config = small(student, method="redi", style=Style(error_rate=0.5), problems=16)
    result = distill(config, tmp_path / "run")
    assert load_policy(result.student).num_parameters() == load_policy(student).num_parameters()
    run, _ = Run.open(tmp_path / "run")
    first, second = run.result_of("train:sft"), run.result_of("train:student")
    run.close()
    assert first is not None
    assert second is not None
    assert (first["objective"], second["objective"]) == ("sft", "redi")
    assert second["lr"] == pytest.approx(first["lr"] / 50)


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_the_core_recipes_prefer_the_students_own_right_answers(method: str, tmp_path: Path) -> None:
    values = {"method": method, "problems": 8, "eval_problems": 2, "max_new_tokens": 40, "train": {"steps": 1}}
    distill(parse_config(values), tmp_path / "run")
    run, _ = Run.open(tmp_path / "run")
    second = run.result_of("train:student")
    run.close()
    assert second is not None
    assert second["objective"] == method
    pairs = store.read(tmp_path / "run" / "traces" / "pairs-student.parquet")
    assert {t.source for t in pairs} == {"student"}

"""A run that was cut off anywhere and resumed ends bit for bit like one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fixtures_distill import small, write_student
from stillroom.bench.kill_resume import fingerprints
from stillroom.io import read_json
from stillroom.lab.config import DistillConfig
from stillroom.workbench import distill, resume

ROOT = Path(__file__).parents[1]


class Cut(BaseException):
    """As hard as an exception can be: nothing in the package may catch it."""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "tiny")


def cut_at(config: DistillConfig, out: Path, where: tuple[str, int]) -> list[str]:
    """Start a run that ends when it reports that much progress in that stage; returns the stages that were done."""

    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == where:
            raise Cut

    with pytest.raises(Cut):
        distill(config, out, progress=progress)
    return list(read_json(out / "state.json")) if (out / "state.json").exists() else []


PLACES = [
    ("load", 0),
    ("sample", 0),
    ("select", 0),
    ("select", 24),
    ("train student", 1),
    ("train student", 3),
    ("eval base", 0),
    ("eval student", 6),
    ("report", 0),
]


@pytest.fixture(scope="module")
def whole(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    distill(small(student, samples=2, checkpoint_every_s=0), folder)
    return folder


@pytest.mark.parametrize("where", PLACES, ids=lambda where: f"{where[0]} {where[1]}".replace(" ", "-"))
def test_cut_anywhere(where: tuple[str, int], student: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    cut_at(small(student, samples=2, checkpoint_every_s=0), out, where)
    if where == ("train student", 3):
        assert list(out.glob("checkpoints/student/step-*"))
    resume(out)
    assert fingerprints(out) == fingerprints(whole)
    assert not list(out.glob("checkpoints/*/step-*"))


def test_cut_between_the_chunks_of_a_pool(student: Path, tmp_path: Path) -> None:
    """A chunk holds 2,048 responses; which problems the next one asks must not depend on who asked for the first."""
    config = small(student, problems=1100, samples=2, eval_problems=2)
    distill(config, tmp_path / "whole")
    # 1,024 problems have their two responses after the first chunk.
    cut_at(config, tmp_path / "cut", ("sample", 1024))
    assert [path.name for path in (tmp_path / "cut" / "traces" / "pool").iterdir()] == ["chunk-00000.parquet"]
    resume(tmp_path / "cut")
    assert fingerprints(tmp_path / "cut") == fingerprints(tmp_path / "whole")


def test_a_finished_run_resumes_to_itself(whole: Path) -> None:
    before = fingerprints(whole)
    timing = (whole / "timing.jsonl").read_bytes()
    resume(whole)
    assert fingerprints(whole) == before
    assert (whole / "timing.jsonl").read_bytes() == timing


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_for_good_in_training(student: Path, tmp_path: Path) -> None:
    config = small(student, checkpoint_every_s=0, train={"steps": 40})
    distill(config, tmp_path / "whole")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)))
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", "from stillroom.cli import main; main()", "distill", "--config", file, "--out", out],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # Anywhere after some steps: where exactly is up to the machine.
        while not out.exists() or len(list(out.glob("checkpoints/student/step-*"))) == 0:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        said = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert said == (b"", b"")  # no bars, no warnings where nobody looks
    assert "train:student" not in read_json(out / "state.json")
    resume(out)
    assert fingerprints(out) == fingerprints(tmp_path / "whole")


def test_where_a_run_lies_is_no_part_of_its_traces(student: Path, tmp_path: Path) -> None:
    """Rejection tuning samples a checkpoint of its own run."""
    config = small(student, method="rft", problems=4, eval_problems=2, train={"steps": 1})
    for name in ("here", "there"):
        distill(config, tmp_path / name)
    assert fingerprints(tmp_path / "here") == fingerprints(tmp_path / "there")

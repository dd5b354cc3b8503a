"""The run folder: stages done once, metrics rewound, one process at a time, and what produced a result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stillroom.errors import UserError
from stillroom.lab import run as lab_run
from stillroom.lab.run import Run, manifest


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", kind="distill", config={"seed": 3}, command=["stillroom", "x"], seeds=[3])


def reopened(run: Run) -> Run:
    run.close()
    return Run.open(run.folder)[0]


def test_a_finished_stage_is_remembered_with_its_result(run: Run) -> None:
    assert run.result_of("sample") is None
    for name in ("sample", "select"):
        with run.stage(name) as result:
            result["of"] = name
            run.metrics.log(stage=name, step=1, value=0.5)
    again = reopened(run)
    assert again.stages() == ["sample", "select"]
    assert again.result_of("sample") == {"of": "sample"}
    assert [record["stage"] for record in again.metrics.read()] == ["sample", "select"]
    # What is given out is a copy.
    (again.result_of("sample") or {})["of"] = "nothing"
    assert again.result_of("sample") == {"of": "sample"}


def test_a_failed_stage_is_not_done_and_its_metrics_are_written_again(run: Run) -> None:
    with run.stage("sample"):
        run.metrics.log(stage="sample", step=1, text="\ud800é")
    before = run.metrics.path.read_bytes()
    with pytest.raises(KeyError), run.stage("train"):  # noqa: PT012 - the block is what fails
        for step in range(3):
            run.metrics.log(stage="train", step=step)
        raise KeyError
    assert run.result_of("train") is None
    assert len(run.metrics.read()) == 4

    again = reopened(run)
    with again.stage("train"):
        assert again.metrics.path.read_bytes() == before
        again.metrics.log(stage="train", step=0)
    assert [(r["stage"], r["step"]) for r in again.metrics.read()] == [("sample", 1), ("train", 0)]


def test_a_stage_that_goes_on_from_a_checkpoint_keeps_its_metrics_up_to_there(run: Run) -> None:
    kept = 0
    with pytest.raises(KeyError), run.stage("train"):  # noqa: PT012 - the block is what fails
        for step in range(4):
            run.metrics.log(stage="train", step=step)
            kept = run.metrics.length if step == 1 else kept
        raise KeyError
    # The kill also cut a line.
    with open(run.metrics.path, "ab") as file:
        file.write(b'{"stage": "tra')
    again = reopened(run)
    with again.stage("train", keep_bytes=kept):
        again.metrics.log(stage="train", step=2)
    assert [record["step"] for record in again.metrics.read()] == [0, 1, 2]


def test_a_second_process_is_refused_while_the_first_works(run: Run) -> None:
    script = f"from stillroom.lab.run import Run; from pathlib import Path; Run.open(Path({str(run.folder)!r}))"
    refused = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "another process is working on" in refused.stderr
    run.close()
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).returncode == 0


def test_a_folder_that_holds_a_run_is_not_begun_again(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"already holds a run; continue it with `stillroom resume"):
        Run.create(run.folder, kind="distill", config={}, command=[], seeds=[])
    with pytest.raises(UserError, match="is no run folder"):
        Run.open(tmp_path)


@pytest.mark.parametrize("content", [b"a: [", b"- 1\n", b"\xff\xfe", b"seed: 1\n"])
def test_a_damaged_configuration_is_refused(run: Run, content: bytes) -> None:
    (run.folder / "config.yaml").write_bytes(content)
    run.close()
    with pytest.raises(UserError, match=r"config\.yaml"):
        Run.open(run.folder)


def test_the_configuration_comes_back(run: Run) -> None:
    run.close()
    _, config = Run.open(run.folder)
    assert config == {"kind": "distill", "seed": 3}
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == config


def test_a_discarded_run_frees_its_folder(run: Run) -> None:
    run.discard()
    run.close()
    again = Run.create(run.folder, kind="distill", config={"seed": 4}, command=[], seeds=[4])
    assert (again.stages(), again.metrics.read()) == ([], [])


def test_seconds_add_up_over_attempts(run: Run) -> None:
    with run.stage("sample"):
        pass
    again = reopened(run)
    with again.stage("train"):
        sum(range(100_000))
    assert again.seconds(earlier=True)["cpu_s"] <= again.seconds()["cpu_s"]
    lines = [json.loads(line) for line in (run.folder / "timing.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["sample", "train"]
    assert again.seconds()["wall_s"] == pytest.approx(sum(line["wall_s"] for line in lines))
    assert again.seconds(earlier=True)["wall_s"] == pytest.approx(lines[0]["wall_s"])


def test_the_manifest_says_what_produced_a_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads((run.folder / "manifest.json").read_text())
    assert {"kind", "command", "commit", "versions", "hardware", "seeds", "started", "data_hashes"} <= set(found)
    assert (found["kind"], found["command"], found["seeds"]) == ("distill", "stillroom x", [3])
    assert found["versions"]["python"] == sys.version.split()[0]
    assert {"stillroom", "torch", "transformers", "tokenizers", "numpy"} <= set(found["versions"])
    assert {"cpu", "cores", "gpu", "system"} <= set(found["hardware"])

    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(lab_run.subprocess, "run", no_git)
    assert manifest("distill", [], [])["commit"] == "unknown"


def test_the_revision_tells_a_changed_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    module = tmp_path / "run.py"
    module.write_text("a = 1\n")
    git("add", "run.py")
    git("commit", "-qm", "first")
    monkeypatch.setattr(lab_run, "__file__", str(module))
    head = git("rev-parse", "HEAD")
    assert lab_run.commit() == head
    (tmp_path / "a-new-file").write_text("not part of the revision")
    assert lab_run.commit() == head
    module.write_text("a = 2\n")
    assert lab_run.commit() == head + "+changes"

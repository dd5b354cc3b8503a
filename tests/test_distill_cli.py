"""Manners of the command line: one clear line for a mistake, clean output for a program, silence in a pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_distill import FLAGS, CommandLine, write_student

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory holds sums.jsonl with columns prompt and gold."""
    text = "".join(json.dumps({"prompt": f"What is {a} + 1?", "gold": str(a + 1)}) + "\n" for a in range(60))
    (tmp_path / "sums.jsonl").write_text(text)
    (tmp_path / "odd.yaml").write_text("problms: 3\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    monkeypatch.chdir(tmp_path)


MISTAKES = [
    ("--task aritmetic", "did you mean arithmetic"),
    ("--task arithmetic:hihg=2", "did you mean high"),
    ("--task jsonl:none.jsonl", "none.jsonl"),
    ("--task ./none.py:problems", "none.py"),
    ("--task jsonl:sums.jsonl --field qestion=prompt", "did you mean question"),
    ("--task jsonl:sums.jsonl --field question=promt", "no column 'promt'; it has prompt, gold"),
    ("--task jsonl:sums.jsonl --field question", "--field question=prompt"),
    ("--task jsonl:sums.jsonl --field question=prompt --field answer=gold", "give another teacher: --teacher replay"),
    ("--task recorded", "give --teacher replay:FILE"),
    ("--layout gsm8k", "'arithmetic' has none"),
    ("--method sfft", "core recipes: dpo, grpo, ppo, rft, sft, simpo, vote"),
    ("--method hft", "has no page yet"),
    ("--adapt lorra", "did you mean lora"),
    ("--format thnk", "did you mean think"),
    ("--select corect", "did you mean correct"),
    ("--teacher programme", "give program, replay:FILE"),
    ("--teacher replay:none.jsonl", "no recording at none.jsonl"),
    ("--teacher local:./none", "no checkpoint at ./none"),
    ("--teacher openai:m", "openai:NAME@URL"),
    ("--teacher openai:m@http://127.0.0.1:9/v1 --budget-usd 1", "add --price IN,OUT"),
    ("--price 3", "for example --price 0.3,1.2"),
    ("--price a,b", "for example --price 0.3,1.2"),
    ("--price 0.3,1.2", "only servers cost money"),
    ("--student ./none", "no checkpoint at ./none"),
    ("--student proxy:none", "unknown proxy 'none'"),
    ("--chat-template none.jinja", "cannot read the chat template none.jinja"),
    ("--device none", "device 'none' cannot be used here"),
    ("--problems 0", "problems: Input should be greater than or equal to 1 (got 0)"),
    ("--max-new-tokens 4000", "lower --max-new-tokens"),
    ("--config none.yaml", "cannot read the configuration none.yaml"),
    ("--config list.yaml", "holds no settings"),
    ("--config odd.yaml", "unknown setting 'problms'; did you mean 'problems'?"),
]


@pytest.mark.parametrize(("flags", "told"), MISTAKES, ids=[flags for flags, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_the_folder_free(
    flags: str, told: str, student: Path, rows: None, stillroom: CommandLine
) -> None:
    words = flags.split()
    given = {word for word in words if word.startswith("--")}
    rest = [word for i in range(0, len(FLAGS), 2) if FLAGS[i] not in given for word in FLAGS[i : i + 2]]
    if "--student" not in given:
        rest += ["--student", str(student)]
    said = stillroom("distill", *words, *rest, "--out", "run")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("stillroom: ")
    assert said.err.count("\n") == 1
    assert told in said.err
    # The mended command may use the same name.
    assert not Path("run/config.yaml").exists()


def test_style_is_for_the_program(student: Path, rows: None, stillroom: CommandLine) -> None:
    Path("run.yaml").write_text("style: {verbosity: 1}\nteacher: 'replay:x.jsonl'\n")
    said = stillroom("distill", "--config", "run.yaml", "--student", student)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "style has no effect on teacher 'replay:x.jsonl'" in said.err


def test_nothing_selected_says_where_to_look(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("distill", "--student", student, *FLAGS, "--select", "max-tokens=1", "--out", tmp_path / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "nothing is left to train on" in said.err
    assert f"stillroom traces stats {tmp_path / 'run' / 'traces'}" in said.err


def test_run_folders(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    words = ["distill", "--student", student, *FLAGS, "--out", tmp_path / "run"]
    assert stillroom(*words).code == 0
    again = stillroom(*words)
    assert again.code == 2
    assert f"stillroom resume {tmp_path / 'run'}" in again.err
    for folder in (tmp_path / "none", student):
        said = stillroom("resume", folder)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "is no run folder" in said.err
    (tmp_path / "file").write_text("")
    said = stillroom(*words[:-1], tmp_path / "file" / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "give another --out" in said.err


@pytest.mark.parametrize("flags", [["--preset", "huge"], ["--arms", "vrt,none"], ["--arms", "vrt"]])
def test_mistakes_in_experiments(flags: list[str], stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("run", "dart-math", *flags, "--out", tmp_path / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_json_is_all_there_is_on_standard_output(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("distill", "--student", student, *FLAGS, "--json", "--out", tmp_path / "run")
    assert said.err == ""
    result = json.loads(said.out)
    assert set(result["arms"]) == {"base", "student", "teacher"}
    assert Path(result["student"]).is_dir()
    resumed = stillroom("resume", tmp_path / "run", "--json")
    assert json.loads(resumed.out) == result


def test_the_table_ends_with_the_report(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("distill", "--student", student, *FLAGS, "--out", tmp_path / "run")
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["base", "student", "teacher"]
    assert lines[-1] == f"report:  {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_dry_run_predicts_and_leaves_nothing(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    words = ["distill", "--student", student, "--max-new-tokens", "8", "--dry-run", "--out", tmp_path / "run"]
    words += ["--problems", "2000", "--eval-problems", "40", "--epochs", "2", "--batch-size", "10"]
    said = stillroom(*words, "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert (found["tried"], found["correct"], found["judged"], found["problems"]) == (20, 20, 20, 2000)
    # Twenty problems stand for two thousand: a hundred times their tokens; two models answer forty problems each.
    assert found["teacher_tokens"] % 100 == 0
    assert found["evaluated_tokens"] <= 2 * 40 * 8
    assert found["usd"] is None
    assert 0 < found["hours"] < 1
    assert 0 < found["memory_gib"] < 1
    assert "the whole run, 2000 problems:" in stillroom(*words).out
    assert not (tmp_path / "run").exists()


def test_tensorboard_events(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    said = stillroom("distill", "--student", student, *FLAGS, "--tensorboard", "--out", tmp_path / "run")
    assert said.code == 0
    events = loading.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in logged if row["stage"] == "train"]
    assert [event.value for event in events.Scalars("train/student/loss")] == pytest.approx(losses)


def test_a_reader_that_leaves_early() -> None:
    """``stillroom list | head -1``, in a process of its own."""
    command = [sys.executable, "-c", "from stillroom.cli import main; main()", "list"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"1\t")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_mistake_in_a_bench(stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("bench", "verifier", "--data", tmp_path, "--out", tmp_path / "out.json")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "gsm8k/responses_llama2_7b.jsonl" in said.err

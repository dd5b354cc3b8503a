"""The commands, end to end, on shards and on JSON lines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stillroom.cli.traces import app
from stillroom.errors import UserError
from stillroom.tasks.base import Task
from stillroom.traces import store
from stillroom.types import Message, Problem, Segment, Split, Trace, Verdict

TEST = [Problem(id="leak", task="sum", messages=(Message(role="user", content="question 2"),), reference="2")]


def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
    if split == "test":
        return TEST
    if split == "dev":
        raise UserError("no dev split")
    asked = [(Message(role="user", content=f"question {i}"),) for i in range(4)]
    return [Problem(id=f"sum/{i}", task="sum", messages=asked[i], reference=str(i)) for i in range(4)]


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    if text == "hang":
        return Verdict(correct=None, reason="timeout")
    correct = text.strip() == problem.reference if strict else problem.reference in text
    return Verdict(correct=correct, score=float(correct), answer=text, reason="compared")


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    import stillroom.tasks

    made = Task(name="sum", summary="", problems=problems, verify=verify)
    monkeypatch.setattr(stillroom.tasks, "load_task", lambda spec, *, fields: made, raising=False)


def trace(number: int, answer: str, index: int = 0, **other: object) -> Trace:
    taught = (Segment(role="user", text=f"question {number}"), Segment(role="assistant", text=answer, weight=1.0))
    base = {"id": f"{number}.{index}", "problem_id": f"sum/{number}", "task": "sum", "asked": (), "taught": taught}
    return Trace.model_validate(base | {"index": index} | other)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    store.write_shard(folder, "a", [trace(0, "0"), trace(0, "0", 1), trace(1, "so 1")])
    store.write_shard(folder, "b", [trace(2, "2"), trace(3, "hang"), trace(3, "", 1, finish="error")])
    return folder


def run(*args: str | Path) -> Any:
    done = CliRunner().invoke(app, [*map(str, args), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def graded(pool: Path, *more: str) -> Path:
    out = pool.parent / "graded.parquet"
    run("grade", pool, "--task", "sum", "--out", out, *more)
    return out


def test_grade_replaces_every_verdict_and_counts_what_it_could_not_judge(pool: Path) -> None:
    out = pool.parent / "graded.parquet"
    counts = run("grade", pool, "--task", "sum", "--out", out)
    assert counts == {
        "judged": 4, "correct": 3, "unjudged": 2, "changed": 4, "unknown_problem": 0, "out": str(out)
    }  # fmt: skip
    verdicts = [t.verdict for t in store.read(out)]
    assert [v and v.correct for v in verdicts] == [True, True, False, True, None, None]
    assert [v and v.reason for v in verdicts[4:]] == ["timeout", "no response: error"]
    assert run("grade", pool, "--task", "sum", "--out", out, "--lenient")["correct"] == 4


def test_grade_finds_recorded_answers_by_their_question(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"prompt": "Question 1", "response": "1"}\n{"prompt": "else", "response": "1"}\n{bad\n')
    counts = run("grade", path, "--task", "sum", "--out", tmp_path / "o.parquet")
    assert (counts["correct"], counts["unjudged"], counts["unknown_problem"]) == (1, 1, 1)
    path.write_text('{"prompt": "else", "response": "1"}\n')
    with pytest.raises(UserError, match="by id or by question"):
        run("grade", path, "--task", "sum", "--out", tmp_path / "o.parquet")


def test_stats(pool: Path) -> None:
    out = pool.parent / "stats.csv"
    totals = run("stats", graded(pool), "--problems", "--out", out)
    assert (totals["n_traces"], totals["n_judged"], totals["accuracy"]) == (6, 4, 0.75)
    assert [row["pass_rate"] for row in totals["problems"]] == [1, 0, 1, None]
    assert out.read_text().count("\n") == 5


def test_dedup_and_decontaminate_write_what_is_left_untouched(pool: Path) -> None:
    out = pool.parent / "out.parquet"
    found = run("dedup", pool, "--out", out)
    assert found["duplicates"] == [{"id": "0.1", "duplicate_of": "0.0"}]
    assert store.read(out) == [t for t in store.read(pool) if t.id != "0.1"]
    found = run("decontaminate", pool, "--against", "sum", "--out", out)
    assert [(row["id"], row["evaluation_id"]) for row in found["contaminated"]] == [("2.0", "leak")]
    assert store.read(out) == [t for t in store.read(pool) if t.id != "2.0"]


def test_select_writes_the_kept_and_the_reasons(pool: Path) -> None:
    out = pool.parent / "train.parquet"
    source = graded(pool)
    rules = "finished,correct,unique,decontaminated=exact"
    funnel = run("select", source, "--rules", rules, "--against", "sum", "--out", out)
    dropped = {"failed": 1, "wrong": 1, "unjudged": 1, "duplicate": 1, "contaminated": 1}
    assert funnel == {"input": 6, "kept": 1, "dropped": dropped}
    assert store.read(out) == store.read(source)[:1]
    reasons = (pool.parent / "train.dropped.csv").read_text().splitlines()
    assert reasons[0] == "id,reason,detail"
    assert len(reasons) == 6


def test_select_from_json_lines(tmp_path: Path) -> None:
    path, out = tmp_path / "r.jsonl", tmp_path / "o.parquet"
    path.write_text("".join(json.dumps({"prompt": "q", "response": "x" * n}) + "\n" for n in (3, 1, 2)))
    run("select", path, "--rules", "shortest=2", "--out", out)
    assert [store.response_of(t) for t in store.read(out)] == ["x", "xx"]


def test_export(pool: Path) -> None:
    out = pool.parent / "data"
    done = run("export", graded(pool), "--layout", "preference", "--out", out, "--licence", "sum=MIT")
    assert (done["traces"], done["rows"]) == (6, 0)
    assert "| sum | MIT |" in (out / "README.md").read_text()
    with pytest.raises(UserError, match="no such task"):
        run("export", pool, "--out", out, "--licence", "other=MIT")


@pytest.mark.parametrize(
    "args",
    [
        ("select", "--rules", "corect"),
        ("select", "--rules", "correct", "--out", "x.json"),
        ("dedup", "--out", "x.csv"),
        ("stats", "--out", "x.txt"),
        ("decontaminate", "--against", "sum", "--split", "eval"),
        ("export", "--out", "x", "--licence", "MIT"),
        ("grade", "--task", "sum", "--out", "x.parquet", "--field", "question"),
    ],
)
def test_mistakes_are_user_errors(pool: Path, args: tuple[str, ...]) -> None:
    with pytest.raises(UserError):
        CliRunner().invoke(app, [args[0], str(pool), *args[1:]], catch_exceptions=False)


def test_a_pipe_gets_tab_separated_lines_without_control_characters(tmp_path: Path) -> None:
    path = store.write_shard(tmp_path, "s", [trace(0, "0", sampler="evil\x1b[2J\u202e")])
    done = CliRunner().invoke(app, ["stats", str(path)])
    assert "n_traces\t1" in done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


@pytest.mark.parametrize("command", ["stats", "grade", "dedup", "decontaminate", "select", "export", "view"])
def test_every_command_shows_an_example(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert f"stillroom traces {command}" in " ".join(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from stillroom.cli.traces import app; from typer.main import get_command; get_command(app);"
        "print([m for m in ('torch', 'polars', 'pyarrow', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_real_recorded_answers(tmp_path: Path) -> None:
    data = Path(os.environ.get("STILLROOM_DATA", "../shared/data")) / "gsm8k/responses_mistral_7b.jsonl"
    if not data.exists():
        pytest.skip(f"{data} is absent")
    totals = run("stats", data)
    assert totals["n_traces"] == totals["n_judged"] == 7000
    assert totals["n_correct"] == sum(json.loads(line)["result"] for line in data.read_text().splitlines())

"""The main job: what a run leaves behind, and the four kinds of real input."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import fixtures_models
from fixtures_distill import FLAGS, CommandLine, small, write_student
from fixtures_models import all_states
from samplers import fault_server
from stillroom.chat import ask, get_format
from stillroom.errors import BudgetExceeded, UserError
from stillroom.io import read_json, read_lines
from stillroom.lab.config import load_config, parse_config
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy
from stillroom.samplers.records import question_key
from stillroom.tasks import load_task
from stillroom.traces import store
from stillroom.workbench import distill, resume

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def finished(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; nobody writes to it."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    distill(small(student, samples=2, select="correct,finished,unique,decontaminated=exact,shortest=1"), folder)
    return folder


@pytest.fixture(scope="module")
def rejected(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of rejection tuning."""
    folder = tmp_path_factory.mktemp("runs") / "rft"
    distill(small(student, method="rft", problems=4, eval_problems=3, train={"steps": 2}), folder)
    return folder


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- what a run leaves behind ------------------------------------------------------------------------------------


def test_the_student_opens_in_plain_transformers_with_the_same_logits(finished: Path) -> None:
    folder = finished / "student"
    ours = load_policy(folder)
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Modulo 7: 3 +5"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(all_states(ours, ids)[0]), model(ids).logits[0], rtol=1e-5, atol=1e-5)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not list(folder.glob("*.bin"))


def test_the_student_learned_something_from_the_traces(finished: Path, student: Path) -> None:
    losses = [row["loss"] for row in read_lines(finished / "metrics.jsonl") if row["stage"] == "train"]
    assert losses[-1] < losses[0]
    before, after = (load_policy(path).model.state_dict() for path in (student, finished / "student"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_model_card_tells_lineage_licences_and_scores(finished: Path, student: Path) -> None:
    card = (finished / "student" / "README.md").read_text(encoding="utf-8")
    result = read_json(finished / "result.json")
    (score,) = (arm["accuracy"]["value"] for arm in result["arms"] if arm["name"] == "student")
    assert f"| student | {score:.1%} |" in card
    for told in (f"base: `{student}`", "teacher: `program`", "licence of the problems: Apache-2.0", "method: `sft`"):
        assert told in card
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_traces_are_kept_with_their_verdicts_and_the_selection_with_its_reasons(finished: Path) -> None:
    pool = store.read(finished / "traces" / "pool")
    kept = store.read(finished / "traces" / "selected-student.parquet")
    assert len(pool) == 24
    assert all(trace.verdict is not None and trace.verdict.correct for trace in pool)
    assert len({trace.problem_id for trace in kept}) == len(kept) <= 12
    selection = read_json(finished / "result.json")["selection"]
    assert selection["input"] == 24
    assert selection["kept"] == len(kept)
    assert sum(selection["dropped"].values()) == 24 - len(kept) > 0
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert all(reason in report for reason in selection["dropped"])


def test_the_manifest_tells_what_made_the_run(finished: Path) -> None:
    manifest = read_json(finished / "manifest.json")
    assert manifest["data_hashes"] == read_json(finished / "state.json")["problems"]["result"]["hashes"]
    assert re.fullmatch(r"[0-9a-f]{16}", manifest["data_hashes"]["problems"])
    assert {"python", "torch", "transformers", "stillroom"} <= manifest["versions"].keys()


def test_a_config_runs_again_to_the_same_metrics(finished: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("distill", "--config", finished / "config.yaml", "--out", tmp_path / "again")
    assert said.code == 0
    for name in ("metrics.jsonl", "student/model.safetensors", "traces/pool/chunk-00000.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes(), name


def test_the_seed_decides_the_run(finished: Path, tmp_path: Path) -> None:
    values = {**load_config(finished / "config.yaml"), "seed": 1}
    distill(parse_config(values), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() != (finished / "metrics.jsonl").read_bytes()


def test_costs_are_counted(finished: Path) -> None:
    """6 N x computed tokens; computed tokens are the rectangles of the batches, real tokens / fill."""
    cost = read_json(finished / "result.json")["cost"]
    done = read_json(finished / "state.json")["train:student"]["result"]
    parameters = sum(p.numel() for p in load_policy(finished / "student").model.parameters())
    assert done["parameters"] == parameters
    assert cost["flops"] == 6 * parameters * done["computed_tokens"]

    pool = store.read(finished / "traces" / "pool")
    tokenizer = AutoTokenizer.from_pretrained(str(finished / "student"))
    assert cost["teacher_tokens"] == sum(
        len(tokenizer(t.taught[-1].text, add_special_tokens=False)["input_ids"]) for t in pool
    )
    answers = store.read(finished / "evals")
    assert cost["student_tokens"] == sum(t.usage.completion_tokens for t in answers) > 0

    steps = [row for row in read_lines(finished / "metrics.jsonl") if row["stage"] == "train"]
    assert cost["updates"] == len(steps) == 4
    assert cost["trained_tokens"] == sum(row["trained_tokens"] for row in steps)
    assert cost["usd"] is None


def test_computed_tokens_by_hand(student: Path, tmp_path: Path) -> None:
    """One step over all rows, without padding; every response token and its end is trained."""
    distill(small(student, problems=4, train={"steps": 1, "batch_size": 4}), tmp_path / "run")
    kept = store.read(tmp_path / "run" / "traces" / "selected-student.parquet")
    tokenizer = AutoTokenizer.from_pretrained(str(student))

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    rows = [f"<|im_start|>user\n{t.taught[0].text}<|im_end|>\n<|im_start|>assistant\n" for t in kept]
    whole = [count(f"{row}{t.taught[-1].text}<|im_end|>\n") for row, t in zip(rows, kept, strict=True)]
    (step,) = (row for row in read_lines(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "train")
    assert step["trained_tokens"] == sum(count(t.taught[-1].text) + 1 for t in kept)
    done = read_json(tmp_path / "run" / "state.json")["train:student"]["result"]
    assert done["computed_tokens"] == sum(whole)
    assert step["fill"] == 1


# --- the documented files ----------------------------------------------------------------------------------------


def documented(heading: str) -> dict[str, set[str]]:
    """Rows of the table under a heading of docs/metrics.md: first cell → names in the second."""
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", part, re.MULTILINE)
    return {name: set(re.findall(r"`([\w-]+)`", cell)) for name, cell in rows}


def test_metrics_have_the_documented_keys(finished: Path, rejected: Path) -> None:
    stages = documented("metrics.jsonl")
    seen = set()
    for folder in (finished, rejected):
        for row in read_lines(folder / "metrics.jsonl"):
            assert set(row) == {"stage", "step"} | stages[row["stage"]]
            assert isinstance(row["step"], int)
            seen.add(row["stage"])
    # No recipe here reinforces; tests/methods/test_core_rl.py has one that does.
    assert seen == set(stages) - {"rl"}


def test_timing_and_result_have_the_documented_keys(finished: Path, rejected: Path) -> None:
    for folder in (finished, rejected):
        assert all(set(row) == set(documented("timing.jsonl")) for row in read_lines(folder / "timing.jsonl"))
        result = read_json(folder / "result.json")
        assert set(result) == set(documented("result.json of distill"))
        assert all(set(arm) == set(documented("An arm")) for arm in result["arms"])
        assert set(result["cost"]) == set(documented("Cost"))


# --- methods -----------------------------------------------------------------------------------------------------


def test_rejection_tuning_keeps_both_pools(rejected: Path) -> None:
    taught = store.read(rejected / "traces" / "pool")
    own = store.read(rejected / "traces" / "own")
    assert {t.source for t in taught} == {"teacher"}
    assert {t.source for t in own} == {"student"}
    assert len(own) == 8 * 4
    assert (rejected / "warm" / "model.safetensors").is_file()
    selection = read_json(rejected / "result.json")["selection"]
    teachers = read_json(rejected / "state.json")["select:selected-teacher"]["result"]
    assert selection["input"] == teachers["kept"] + len(own)
    assert sum(selection["dropped"].values()) == selection["input"] - selection["kept"]
    report = (rejected / "report.html").read_text(encoding="utf-8")
    assert all(reason in report for reason in selection["dropped"])
    reasons = pl.read_parquet(rejected / "traces" / ".selected-student-dropped.parquet")
    assert Counter(reasons["reason"]) == selection["dropped"]
    # What the student wrote is the student's cost.
    cost = read_json(rejected / "result.json")["cost"]
    assert cost["teacher_tokens"] == sum(t.usage.prompt_tokens + t.usage.completion_tokens for t in taught)
    answers = store.read(rejected / "evals")
    assert cost["student_tokens"] == sum(t.usage.completion_tokens for t in [*own, *answers])


# --- files and own code ------------------------------------------------------------------------------------------

SUMS = [{"prompt": f"What is {a} + {b}?", "gold": str(a + b)} for a in range(9) for b in range(9)]


def recording(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Answers to SUMS; every third is wrong."""
    answers = [
        {"question": row["prompt"], "response": f"The answer is \\boxed{{{int(row['gold']) + (i % 3 == 0)}}}."}
        for i, row in enumerate(rows)
    ]
    return write_rows(path, answers)


def test_a_file_with_mapped_columns_and_bad_rows(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "sums.jsonl", [*SUMS, {"prompt": "no answer"}])
    with open(path, "a", encoding="utf-8") as file:
        file.write("not json\n")
    teacher = recording(tmp_path / "responses.jsonl", SUMS)
    words: list[object] = ["distill", "--student", student, *FLAGS, "--task", f"jsonl:{path}"]
    words += ["--field", "question=prompt", "--field", "answer=gold", "--teacher", f"replay:{teacher}"]
    assert stillroom(*words, "--out", tmp_path / "run").code == 0
    rejects = list(read_lines(tmp_path / "run" / "rejects.jsonl"))
    assert [reject["row"] for reject in rejects] == [82, 83]
    assert all(reject["reason"] for reject in rejects)
    result = read_json(tmp_path / "run" / "result.json")
    assert any("2 rows of the problem file" in alarm["text"] for alarm in result["alarms"])
    assert {"problems", "recording"} == set(read_json(tmp_path / "run" / "manifest.json")["data_hashes"])
    traces = store.read(tmp_path / "run" / "traces" / "pool")
    assert {t.source for t in traces} == {"recorded"}
    assert result["selection"]["kept"] == sum(1 for t in traces if t.verdict is not None and t.verdict.correct)

    said = stillroom(*words, "--strict", "--out", tmp_path / "strict")
    assert said.code == 2
    assert "row 82" in said.err


def test_own_code(student: Path, stillroom: CommandLine, tmp_path: Path) -> None:
    rows = [{"question": row["prompt"], "answer": row["gold"]} for row in SUMS]
    (tmp_path / "mine.py").write_text(f"def problems():\n    return {rows!r}\n")
    teacher = recording(tmp_path / "responses.jsonl", SUMS)
    said = stillroom(
        *("distill", "--student", student, *FLAGS, "--task", f"{tmp_path / 'mine.py'}:problems"),
        *("--teacher", f"replay:{teacher}", "--out", tmp_path / "run"),
    )
    assert said.code == 0
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


LAYOUTS = {
    "gsm8k": "gsm8k/train.jsonl",
    "math": "math/train.json",
    "aqua": "aqua",
    "commonsenseqa": "commonsenseqa",
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with room for real questions."""
    layout = fixtures_models.ProxyLayout(
        vocabulary=320, hidden=16, layers=1, heads=2, kv_heads=1, mlp=32, positions=4096
    )
    return write_student(tmp_path_factory.mktemp("student") / "wide", layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_layouts(layout: str, data_dir: Path, wide: Path, tmp_path: Path) -> None:
    """Gold answers as the recorded teacher: every one must be found, accepted and trained on."""
    path = data_dir / LAYOUTS[layout]
    if path.is_dir():
        path = sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".json"))[0]
    spec = f"jsonl:{path}"
    problems = load_task(spec, layout=layout).problems("train", 6, 0)
    rows = [
        {
            "question": ask(problem, get_format("answer-only"))[-1].content,
            "response": f"\\boxed{{{problem.reference}}}",
        }
        for problem in problems
    ]
    teacher = write_rows(tmp_path / "gold.jsonl", rows)
    changes = {"task": spec, "layout": layout, "teacher": f"replay:{teacher}", "problems": 6, "eval_problems": 3}
    result = distill(small(wide, **changes, max_new_tokens=4, train={"steps": 1}), tmp_path / "run")
    assert result.arms["teacher"].accuracy.value == 1.0
    assert result.arms["teacher"].accuracy.n == len(problems) == 6
    assert result.selection["kept"] == 6


# --- recorded traces ---------------------------------------------------------------------------------------------


def test_a_real_recording_brings_its_own_problems(data_dir: Path, wide: Path, tmp_path: Path) -> None:
    teacher = data_dir / "gsm8k" / "responses_llama2_7b.jsonl"
    changes = {"task": "recorded", "teacher": f"replay:{teacher}", "problems": 30, "eval_problems": 3}
    result = distill(small(wide, **changes, max_new_tokens=4, train={"steps": 1}), tmp_path / "run")
    accuracy = result.arms["teacher"].accuracy
    assert accuracy.n == 30
    recorded: dict[str, bool] = {}
    for row in map(json.loads, teacher.read_text(encoding="utf-8").splitlines()):
        recorded.setdefault(question_key(row["prompt"]), row["result"])
    traces = store.read(tmp_path / "run" / "traces" / "pool")
    verdicts = [(t.verdict.correct if t.verdict else None, recorded[question_key(t.asked[-1].content)]) for t in traces]
    assert sum(ours is theirs for ours, theirs in verdicts) >= 29


def test_an_earlier_run_is_a_recording(finished: Path, student: Path, tmp_path: Path) -> None:
    """The same problems and the same answers: the same traces are trained, to the same weights."""
    values = load_config(finished / "config.yaml")
    again = {**values, "teacher": f"replay:{finished / 'traces' / 'pool'}"}
    distill(parse_config(again), tmp_path / "run")
    first, second = (store.read(run / "traces" / "selected-student.parquet") for run in (finished, tmp_path / "run"))
    assert [t.taught[-1].text for t in first] == [t.taught[-1].text for t in second]
    assert {t.source for t in second} == {"recorded"}
    weights = "student/model.safetensors"
    assert (finished / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()


def test_another_recording_is_refused_on_resume(student: Path, tmp_path: Path) -> None:
    teacher = recording(tmp_path / "responses.jsonl", SUMS)
    task = write_rows(tmp_path / "sums.jsonl", [{"question": r["prompt"], "answer": r["gold"]} for r in SUMS])
    changes = {"task": f"jsonl:{task}", "teacher": f"replay:{teacher}", "max_new_tokens": 4}
    distill(small(student, **changes), tmp_path / "run")
    recording(teacher, SUMS[:-1])
    with pytest.raises(UserError, match=r"recording .* changed since"):
        resume(tmp_path / "run")
    recording(teacher, SUMS)
    write_rows(task, [{"question": r["prompt"], "answer": r["gold"] + "0"} for r in SUMS])
    with pytest.raises(UserError, match=r"problems of .* changed since"):
        resume(tmp_path / "run")


# --- a server ----------------------------------------------------------------------------------------------------


def add(body: dict[str, Any]) -> str:
    """What a good teacher would say to one of SUMS."""
    found = re.search(r"What is (\d+) \+ (\d+)\?", body["messages"][-1]["content"])
    assert found is not None
    return f"Adding gives \\boxed{{{int(found[1]) + int(found[2])}}}."


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(fault_server, "answer_to", add)
    rows = [{"question": row["prompt"], "answer": row["gold"]} for row in SUMS]
    return {"task": f"jsonl:{write_rows(tmp_path / 'sums.jsonl', rows)}", "max_new_tokens": 16}


def test_a_server_with_faults(student: Path, sums: dict[str, Any], tmp_path: Path) -> None:
    faults = {1: "429", 3: "malformed", 5: "empty", 8: "400"}
    with fault_server.serving(lambda i, body: faults.get(i, "ok")) as server:
        changes = {"teacher": f"openai:m@{server.url}", "price": [1.0, 2.0], "budget_usd": 1.0, "concurrency": 2}
        result = distill(small(student, **sums, **changes), tmp_path / "run")
        asked = len(server.requests)
        assert asked == 12 + 3
        teacher = result.arms["teacher"]
        # A request that the server refused for good is one unjudged row, never a wrong one.
        assert (teacher.accuracy.value, teacher.accuracy.n, teacher.unjudged) == (1.0, 11, 1)
        assert any("1 of 12 sampled responses could not be judged" in alarm.text for alarm in result.alarms)
        traces = store.read(tmp_path / "run" / "traces" / "pool")
        tokens = [(t.usage.prompt_tokens, t.usage.completion_tokens) for t in traces]
        assert result.cost["usd"] == pytest.approx(sum(a + 2 * b for a, b in tokens) / 1e6)
        resume(tmp_path / "run")
        assert len(server.requests) == asked


def test_a_spent_budget_stops_and_a_resumed_run_pays_nothing_twice(
    student: Path, sums: dict[str, Any], tmp_path: Path
) -> None:
    with fault_server.serving() as server:
        answers = tmp_path / "answers"
        changes = {"teacher": f"openai:m@{server.url}", "concurrency": 1, "answers": str(answers)}
        with pytest.raises(BudgetExceeded):
            distill(small(student, **sums, **changes, budget_tokens=200), tmp_path / "poor")
        assert 0 < server.billed_tokens <= 200
        paid = set(server.sent)
        assert len(paid) == len(server.sent)
        # The same folder of answers and a larger budget: only what is missing is asked for.
        distill(small(student, **sums, **changes, budget_tokens=50_000), tmp_path / "rich")
        assert len(server.sent) == len(set(server.sent)) == 12
        assert paid < set(server.sent)


def test_a_run_that_was_interrupted_at_the_server_pays_nothing_twice(
    student: Path, sums: dict[str, Any], tmp_path: Path
) -> None:
    def out_of_order(i: int, body: dict[str, Any]) -> str:
        return "401" if i == 5 and not mended else "ok"

    mended: list[bool] = []
    with fault_server.serving(out_of_order) as server:
        changes = {"teacher": f"openai:m@{server.url}", "concurrency": 1}
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            distill(small(student, **sums, **changes), tmp_path / "run")
        assert len(server.sent) == 5
        mended.append(True)
        result = resume(tmp_path / "run")
        assert len(server.sent) == len(set(server.sent)) == 12
        assert result.arms["teacher"].accuracy.n == 12  # type: ignore[union-attr]


# --- a checkpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fixtures_models.qwen2_policy, fixtures_models.llama_policy])
def test_both_layouts_with_their_own_tokenizer_and_template(make: Any, tmp_path: Path) -> None:
    policy: Policy = make()
    save_policy(policy, tmp_path / "base", sidecar=Sidecar(chat_format="boxed"))
    result = distill(small(tmp_path / "base", task="arithmetic:high=1", problems=6, eval_problems=3), tmp_path / "run")
    folder = Path(result.student)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer.chat_template == policy.tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    assert model.config.model_type == policy.model.config.model_type
    ours = load_policy(folder)
    assert ours.stop_ids == policy.stop_ids
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(all_states(ours, ids)[0]), model(ids).logits[0], rtol=1e-5, atol=1e-5)

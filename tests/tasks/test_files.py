"""Tasks from files, own code, hub ids and names."""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillroom.errors import DataError, MissingExtraError, UserError
from stillroom.tasks import Loaded, list_tasks, load, load_task, validate, write_rejects
from stillroom.tasks.base import Task, split_of
from stillroom.tasks.loading import MODULES
from stillroom.types import Problem


def rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(start, start + n)]


def write(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def all_problems(task: Task) -> list[Problem]:
    return [problem for split in ("train", "dev", "test") for problem in task.problems(split, None, 0)]


def one(loaded: Loaded) -> Problem:
    (problem,) = all_problems(loaded.task)
    return problem


# --- formats and splits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".array.json", ".csv", ".parquet"])
def test_every_format_gives_the_same_problems(tmp_path: Path, suffix: str) -> None:
    path, values = tmp_path / f"mine{suffix}", rows(50)
    if suffix == ".array.json":
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    elif suffix == ".csv":
        lines = ["question,answer", *(f'"{row["question"]}",{row["answer"]}' for row in values)]
        path.write_text("\n".join(lines), encoding="utf-8-sig")
    elif suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(values), path)
    else:
        write(path, values)
    loaded = load(f"jsonl:{path}")
    assert loaded.rejects == ()
    found = {(p.messages[0].content, p.reference, p.split) for p in all_problems(loaded.task)}
    assert {(question, gold) for question, gold, _ in found} == {(row["question"], row["answer"]) for row in values}
    assert all(p.split == split_of(p) for p in all_problems(loaded.task))
    assert {split for _, _, split in found} == {"train", "dev", "test"}


def test_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    task = load_task(f"jsonl:{write(tmp_path / 'a.jsonl', rows(60))}")
    backwards = load_task(f"jsonl:{write(tmp_path / 'b.jsonl', rows(60))}")
    everything = task.problems("train", None, 3)
    assert task.problems("train", 5, 3) == everything[:5]
    assert task.problems("train", 10_000, 3) == everything
    assert [p.id for p in task.problems("train", None, 4)] != [p.id for p in everything]
    assert sorted(p.id for p in task.problems("train", None, 4)) == sorted(p.id for p in everything)
    assert len(backwards.problems("train", None, 3)) == len(everything)


def test_an_evaluation_file_is_the_test_split_and_leaves_training(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows(40))
    held = write(tmp_path / "held.jsonl", rows(10, start=35))
    loaded = load(f"jsonl:{train}", eval_file=held)
    assert len(loaded.task.problems("test", None, 0)) == 10
    assert len(all_problems(loaded.task)) == 45
    assert [(r.source, r.row) for r in loaded.rejects] == [("train.jsonl", row) for row in range(36, 41)]
    assert loaded.rejects[0].reason == "duplicate of held.jsonl row 1"
    assert loaded.task.problems("dev", None, 0)
    with pytest.raises(UserError, match="goes with --task jsonl:FILE"):
        load("arithmetic", eval_file=held)


# --- rows that cannot be used ------------------------------------------------------------------------------------


def test_bad_rows_are_numbered_and_explained(tmp_path: Path) -> None:
    lines = [
        b'{"question": "What is 1 + 1?", "answer": 2}',
        b'{"question": "broken',
        b'{"question": "caf\xe9?", "answer": "x"}',
        b"",
        b'{"question": null, "answer": "1"}',
        b'{"question": "no answer?"}',
        b"[1, 2]",
        b'{"question": "What is 1 + 1?", "answer": "2"}',
        b'{"question": "What is 1 + 1?", "answer": "3"}',
        b'{"question": "' + b"x" * 1_100_000 + b'", "answer": "1"}',
        b'{"question": "lone \\ud800?", "answer": "1"}',
        b'{"question": "NaN?", "answer": NaN}',
        b'{"question": "  ", "answer": "1"}',
        b"[" * 100_000,
        b'{"question": "What is 2 + 2?", "answer": "4"}',
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(lines))
    loaded = load(f"jsonl:{path}")
    assert {p.reference for p in all_problems(loaded.task)} == {"2", "4"}
    reasons = {reject.row: reject.reason for reject in loaded.rejects}
    expected = {
        2: "not JSON",
        3: "not UTF-8 at byte 18",
        5: "question is null",
        6: "no column 'answer'",
        7: "not an object but list",
        8: "duplicate of mixed.jsonl row 1",
        9: "same question as mixed.jsonl row 1, but another answer ('3', not '2')",
        10: "longer than 1,048,576 bytes",
        11: "question is not valid UTF-8",
        12: "answer is nan",
        13: "question is empty",
        14: "nested too deep",
    }
    assert reasons.keys() == expected.keys()
    for row, reason in expected.items():
        assert reasons[row].startswith(reason), (row, reasons[row])

    with pytest.raises(DataError, match="12 of 14 rows are unusable") as caught:
        load(f"jsonl:{path}", strict=True)
    assert str(caught.value).count("mixed.jsonl row") >= 5
    with pytest.warns(UserWarning, match="12 unusable rows left out, the first is mixed.jsonl row 2"):
        load_task(f"jsonl:{path}")

    report = tmp_path / "run" / "rejects.jsonl"
    write_rejects(report, loaded.rejects)
    written = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [row["row"] for row in written] == sorted(expected)
    assert set(written[0]) == {"source", "row", "reason"}


def test_bad_csv_cells(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b'question,answer\n"What is 1 + 1?",2\ntoo,many,cells\n"caf\xe9?",1\n"What is\n2 + 2?",4\n')
    loaded = load(f"jsonl:{path}")
    assert {p.reference for p in all_problems(loaded.task)} == {"2", "4"}
    assert [(r.row, r.reason) for r in loaded.rejects] == [
        (2, "3 cells under 2 columns"),
        (3, "question is not valid UTF-8"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "there are no rows"),
        ("all-bad.jsonl", b"nonsense\n", "1 of 1 rows are unusable"),
        ("cut.json", b'[{"question": "a"', "cut.json is not JSON"),
        ("broken.parquet", b"PAR1 and then nothing", "no readable Parquet"),
        ("notes.txt", b"hello", "give a file that ends in"),
        ("columns.jsonl", b'{"frage": "1+1", "antwort": "2"}\n', "--field question=COLUMN"),
    ],
)
def test_files_that_are_no_task(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(f"jsonl:{path}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(b'{"question": "What is 1 + 1?", "answer": "2"}\n' + data)
    loaded = load(f"jsonl:{path}")
    assert loaded.task.name == "fuzz"
    assert all(reject.row > 1 and reject.reason for reject in loaded.rejects)


# --- layouts -----------------------------------------------------------------------------------------------------


def test_fields_are_mapped_and_misspelt_ones_named(tmp_path: Path) -> None:
    row = {"frage": "Which?", "antwort": "B", "nr": 7, "stufe": "Level 3", "wahl": ["x", "y"]}
    path = write(tmp_path / "de.jsonl", [row])
    fields = {"question": "frage", "answer": "antwort", "id": "nr", "level": "stufe", "options": "wahl"}
    problem = one(load(f"jsonl:{path}", fields=fields))
    assert (problem.messages[0].content, problem.reference, problem.id) == ("Which?", "B", "7")
    assert (problem.level, problem.options) == (3, ("x", "y"))
    with pytest.raises(UserError, match="did you mean question"):
        load(f"jsonl:{path}", fields={"qestion": "frage"})
    with pytest.raises(DataError, match="no column 'antword'; it has frage, antwort"):
        load(f"jsonl:{path}", fields={"question": "frage", "answer": "antword"})
    with pytest.raises(UserError, match="unknown layout 'gsmk8'; did you mean gsm8k"):
        load(f"jsonl:{path}", layout="gsmk8")


@pytest.mark.parametrize(
    ("layout", "row", "expected"),
    [
        (
            "gsm8k",
            {"question": "How many?", "answer": "48/2 = <<48/2=24>>24\nso 72\n#### 1,072"},
            {"reference": "1,072", "meta": {"solution": "48/2 = <<48/2=24>>24\nso 72"}},
        ),
        (
            "math",
            {"problem": "Find $x$.", "answer": "\\frac12", "difficulty": 5.0, "type": "Algebra"},
            {"reference": "\\frac12", "level": 5, "meta": {"type": "Algebra"}},
        ),
        (
            "math",
            {"problem": "Find $x$.", "solution": "So $\\boxed{\\frac{1}{2}}$.", "level": "Level 2"},
            {"reference": "\\frac{1}{2}", "level": 2, "meta": {"solution": "So $\\boxed{\\frac{1}{2}}$."}},
        ),
        (
            "aqua",
            {"question": "Which?", "options": ["A)1/2", "B)None of these"], "rationale": "So B.", "correct": "B"},
            {"reference": "B", "options": ("1/2", "None of these"), "meta": {"solution": "So B."}},
        ),
        (
            "commonsenseqa",
            {
                "answerKey": "B",
                "id": "q1",
                "question": {
                    "stem": "Where?",
                    "choices": [{"label": "A", "text": "bank"}, {"label": "B", "text": "mall"}],
                },
            },
            {"reference": "B", "options": ("bank", "mall"), "id": "q1"},
        ),
        (
            "commonsenseqa",
            {
                "id": "q1",
                "question": "Where?",
                "choices": {"label": ["A", "B"], "text": ["bank", "mall"]},
                "answerKey": "B",
            },
            {"reference": "B", "options": ("bank", "mall"), "id": "q1"},
        ),
        ("plain", {"question": "2 + 2?", "answer": 4}, {"reference": "4"}),
        (
            "plain",
            {"question": "Which?", "answer": "mall", "options": ["bank", "mall"]},
            {"reference": "B", "options": ("bank", "mall")},
        ),
    ],
)
def test_layouts_are_recognised_and_read(
    tmp_path: Path, layout: str, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    path = write(tmp_path / "one.jsonl", [row])
    problem = one(load(f"jsonl:{path}"))
    assert problem == one(load(f"jsonl:{path}", layout=layout))
    assert {key: getattr(problem, key) for key in expected} == expected


# --- own code ----------------------------------------------------------------------------------------------------

MINE = """
from dataclasses import dataclass
from stillroom.tasks.base import Task, question
from stillroom.tasks.math import verify
from stillroom.types import Problem

rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(20)]
held = [
    Problem(id="a", task="", messages=question("1?"), reference="1", split="test"),
    Problem(id="b", task="", messages=question("2?"), reference="2", split="train"),
]

def made():
    return (row for row in rows)

def whole():
    return Task(name="whole", summary="", problems=lambda split, n, seed: held, verify=verify)

whole_task = whole()
number = 3
wrong = [1]

def fails():
    return 1 / 0
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_own_code(mine: Path) -> None:
    assert len(all_problems(load_task(f"{mine}:rows"))) == 20
    assert len(all_problems(load_task(f"{mine}:made"))) == 20
    assert load_task(f"{mine}:whole").name == load_task(f"{mine}:whole_task").name == "whole"
    held = load_task(f"{mine}:held")
    assert [p.id for p in held.problems("test", None, 0)] == ["a"]
    assert [p.id for p in held.problems("train", None, 0)] == ["b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("row", "unknown name in mine.py 'row'; did you mean rows"),
        ("number", "mine.py:number is a int; make it a Task or a list"),
        ("wrong", "mine.py:wrong holds a int"),
        ("fails", "mine.py failed at line 24: ZeroDivisionError"),
        ("", "names a file only"),
    ],
)
def test_own_code_mistakes(mine: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(f"{mine}:{name}")


def test_own_code_that_does_not_compile(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("x = 1\ndef f(:\n", encoding="utf-8")
    with pytest.raises(UserError, match="failed at line 2: SyntaxError"):
        load(f"{path}:f")
    with pytest.raises(UserError, match="no file"):
        load(f"{tmp_path / 'other.py'}:f")


# --- the hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for the package `datasets` that records what it was asked for."""
    calls: list[tuple[Any, ...]] = []
    sets = {"train": rows(30), "validation": rows(5, 100), "test": rows(5, 200)}

    def load_dataset(ident: str, config: str | None, *, revision: str | None, split: str | None) -> Any:
        calls.append((ident, config, revision, split))
        if ident == "no/such":
            raise FileNotFoundError("no such data set")
        return sets[split] if split else {"extra": rows(1)} | sets if ident == "odd" else sets

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return calls


def test_hub_ids(hub: list[tuple[Any, ...]], tmp_path: Path) -> None:
    task = load_task("hf:openai/gsm8k:main@abc123")
    assert hub == [("openai/gsm8k", "main", "abc123", None)]
    assert [len(task.problems(split, None, 0)) for split in ("train", "dev", "test")] == [30, 5, 5]
    cut = load_task("hf:openai/gsm8k/train")
    assert hub[-1] == ("openai/gsm8k", None, None, "train")
    local = load_task(f"jsonl:{write(tmp_path / 'x.jsonl', rows(30))}")
    shown = [[(p.messages, p.reference, p.split) for p in all_problems(task)] for task in (cut, local)]
    assert sorted(shown[0], key=str) == sorted(shown[1], key=str)
    with pytest.raises(UserError, match="has a split 'extra'; choose one: /extra"):
        load("hf:odd")
    with pytest.raises(UserError, match="no such data set"):
        load("hf:no/such")
    with pytest.raises(UserError, match="write hf:ID"):
        load("hf:a b")


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"stillroom\[hub\]"):
        load("hf:openai/gsm8k:main")


# --- names -------------------------------------------------------------------------------------------------------


def test_the_list_agrees_with_what_modules_register() -> None:
    from stillroom.tasks.registry import REGISTRY

    for module in set(MODULES.values()):
        importlib.import_module(f"stillroom.tasks.{module}")
    ours = {name: info for name, info in REGISTRY.items() if info.factory.__module__.startswith("stillroom.tasks.")}
    assert set(ours) == set(MODULES)
    assert all(info.factory.__module__ == f"stillroom.tasks.{MODULES[name]}" for name, info in ours.items())
    assert [info.name for info in list_tasks()] == list(MODULES)
    assert all(info.summary and info.world and info.licence for info in list_tasks())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("arithmetik", "unknown task 'arithmetik'; did you mean arithmetic"),
        ("arithmetic:modulu=7", "did you mean modulus"),
        ("arithmetic:modulus=x", "modulus=x of task 'arithmetic' is no int; the default is modulus=7"),
        ("arithmetic:modulus", "write key=value"),
        ("arithmetic:low=1,low=2", "stands twice"),
        ("gsm8k:n=1", "has no options"),
        ("mine.jsonl", "write jsonl:mine.jsonl"),
        ("jsonl:absent.jsonl", "no file 'absent.jsonl'"),
        ("./mine.py", "./mine.py:NAME"),
    ],
)
def test_specs_that_name_nothing(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(spec)


def test_options_reach_the_factory_typed() -> None:
    task = load_task("arithmetic:modulus=11,high=2")
    assert task.levels == (1, 2)
    assert task.problems("train", 1, 0)[0].meta["modulus"] == 11
    with pytest.raises(UserError, match="describe rows"):
        load("arithmetic", layout="plain")


def test_a_real_set_that_is_absent_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLROOM_DATA", str(tmp_path))
    with pytest.raises(UserError, match="hf:openai/gsm8k:main"):
        load("gsm8k")


@pytest.mark.parametrize(
    ("name", "sizes", "rejected"),
    [
        ("gsm8k", (6_747, 726, 1_319), 0),
        ("math", (6_757, 713, 500), 4),
        ("math500", (0, 0, 500), 0),
        ("aqua", (207, 29, 18), 0),
        ("commonsenseqa", (968, 122, 131), 0),
    ],
)
def test_real_sets(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, sizes: tuple[int, ...], rejected: int
) -> None:
    monkeypatch.setenv("STILLROOM_DATA", str(data_dir))
    loaded = load(name)
    assert tuple(len(loaded.task.problems(split, None, 0)) for split in ("train", "dev", "test")) == sizes
    assert len(loaded.rejects) == rejected
    report = validate(loaded.task, 60, split="test")
    assert (report.ok, report.failures, report.uncorrupted) == (True, (), 0)


# --- validate ----------------------------------------------------------------------------------------------------


def test_validate_tells_a_verifier_that_is_wrong(tmp_path: Path) -> None:
    from dataclasses import replace

    from stillroom.types import Verdict

    task = load_task(f"jsonl:{write(tmp_path / 'a.jsonl', rows(40))}")
    assert validate(task, 10).ok
    assert validate(replace(task, corrupt=None), 10).ok  # another problem's answer serves
    generous = replace(task, verify=lambda problem, text, *, strict=True: Verdict(correct=True, score=1.0))
    stingy = replace(task, verify=lambda problem, text, *, strict=True: Verdict(correct=False, score=0.0))
    assert (validate(generous, 10).corrupted_accepted, validate(generous, 10).gold_refused) == (10, 0)
    assert (validate(stingy, 10).corrupted_accepted, validate(stingy, 10).gold_refused) == (0, 10)
    assert not validate(generous, 10).ok
    with pytest.raises(UserError, match="no test problem"):
        validate(replace(task, problems=lambda split, n, seed: []), 5, split="test")

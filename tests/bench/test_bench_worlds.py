"""`stillroom bench worlds`: it finds what is broken, and what it finds is in the file; digests of all tasks."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillroom.bench import hostile, parsers, worlds
from stillroom.cli.app import app
from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.tasks import list_tasks, load_task
from stillroom.tasks.base import Task, question
from stillroom.tasks.checks import first_digest
from stillroom.types import Problem, Verdict

DIGESTS = json.loads((Path(__file__).parents[1] / "data" / "digests.json").read_text(encoding="utf-8"))
PUZZLES = {info.name for info in list_tasks() if info.world == "puzzles"}  # they have a file and a test of their own


@pytest.mark.parametrize("name", [info.name for info in list_tasks() if info.name not in PUZZLES])
def test_the_first_problems_of_each_task_are_those_that_results_rest_on(name: str) -> None:
    try:
        task = load_task(name)
    except UserError as error:
        pytest.skip(str(error))
    ten, hundred = DIGESTS[name].split()  # absent: stillroom tasks digest NAME
    assert first_digest(task, 10) == ten
    if task.world not in worlds.FEWER:
        assert first_digest(task, 100) == hundred


def test_a_digest_sees_every_part_of_a_problem() -> None:
    task = load_task("arithmetic")
    problems = task.problems("train", 10, 0)

    def changed(**update: object) -> str:
        spoilt = [problems[0].model_copy(update=update), *problems[1:]]
        return first_digest(Task(name="x", summary="", problems=lambda *_: spoilt, verify=task.verify), 10)

    same = changed()
    others = [
        changed(messages=question("2 + 2?")),
        changed(reference="99"),
        changed(level=9),
        changed(options=("a", "b")),
    ]
    assert len({same, *others, changed(assets={"a": "b"}), changed(id="y")}) == 7


def test_a_small_world_passes_and_its_file_says_what_was_done(tmp_path: Path) -> None:
    command = ["bench", "worlds", "--only", "sums", "--problems", "40", "--hostile", "300", "--out", str(tmp_path)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = read_json(tmp_path / "sums.json")
    assert result["passed"] is True
    assert (result["solutions"], result["solutions_verified"], result["gold_refused"]) == (40, 40, 0)
    assert (result["corrupted"], result["corrupted_accepted"]) == (40, 0)
    assert result["splits"]["overlaps"] == {}
    assert (result["hostile"]["responses"], result["hostile"]["sandboxed"], result["hostile"]["crashes"]) == (
        300,
        False,
        0,
    )
    assert {"command", "commit", "hardware", "versions", "digest", "problems_per_s"} <= set(result)


def broken(verify: object, **changes: object) -> Task:
    sums = load_task("sums")
    return Task(**{**vars(sums), "verify": verify, **changes})  # type: ignore[arg-type]


def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sums = load_task("sums")
    written = tmp_path / "touched"

    def crashes(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        if len(text) > 500:
            raise RecursionError("too deep")
        return sums.verify(problem, text, strict=strict)

    def touches(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        if "SELECT" in text:
            written.write_text("x")
        return sums.verify(problem, text, strict=strict)

    def accepts(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        return Verdict(correct=True, score=1.0)

    def refuses(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        return Verdict(correct=False, score=0.0)

    same = sums.problems("train", 30, 0)
    cases = {
        "crashes": broken(crashes),
        "touches": broken(touches),
        "accepts": broken(accepts),
        "refuses": broken(refuses),
        "leaks": broken(sums.verify, problems=lambda split, n, seed: same[:n]),
    }
    monkeypatch.setattr(worlds, "load_task", cases.__getitem__)
    found = {name: worlds.measure(name, problems=20, hostile=300) for name in cases}
    assert not any(result["passed"] for result in found.values())
    assert "too deep" in found["crashes"]["hostile"]["first_crashes"][0]
    assert found["touches"]["hostile"]["touched"]["open"] > 0
    assert found["accepts"]["corrupted_accepted"] == 20
    assert found["refuses"]["solutions_verified"] == 0
    assert set(found["leaks"]["splits"]["overlaps"]) == {"train-dev", "train-test", "dev-test"}


def test_hostile_responses_are_the_same_every_time_and_hold_what_they_promise() -> None:
    golds = ["<think>\n1+1\n</think>\n\\boxed{2}"]
    one, two = (list(hostile.responses(golds, 600, 7)) for _ in range(2))
    assert one == two
    assert list(hostile.responses(golds, 50, 7)) == one[:50]
    assert list(hostile.responses(golds, 50, 8)) != one[:50]
    together = "\n".join(one)
    for text in ("9**9**9", "DROP TABLE", "(a+)+$", "<think><", "9" * 150, "\x00", "__import__"):
        assert text in together
    assert max(map(len, one)) >= hostile.LONGEST
    assert "" in one


def test_the_watch_hears_files_and_connections_only_while_it_is_on(tmp_path: Path) -> None:
    with worlds.watched() as seen:
        assert seen == {}
        (tmp_path / "x").write_text("x")
        sys.audit("socket.connect", None, ("192.0.2.1", 80))
    (tmp_path / "y").write_text("y")
    assert seen == {"open": 1, "socket.connect": 1}


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean sums"):
        worlds.measure("sumz")


def test_readers_of_what_models_write_meet_hostile_responses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["bench", "parsers", "--hostile", "50", "--out", str(tmp_path / "parsers.json")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = read_json(tmp_path / "parsers.json")
    assert {name: told["responses"] for name, told in result["readers"].items()} == dict.fromkeys(parsers.READERS, 50)

    def breaks(text: str) -> None:
        open("/dev/null").close()
        raise ValueError(text[:1])

    monkeypatch.setattr(parsers, "READERS", {"breaks": breaks})
    assert CliRunner().invoke(app, command).exit_code == 1
    told = read_json(tmp_path / "parsers.json")["readers"]["breaks"]
    assert (told["crashes"], told["touched"], len(told["first_crashes"])) == (50, {"open": 50}, 20)

"""`stillroom judge`: over a server, on files, on recorded verdicts; mistakes are one line."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")

from test_judge_files import ARENA, GSM8K, LLMBAR, SCIENCE, write

from fixtures_distill import CommandLine
from samplers import fault_server
from samplers.fault_server import serving


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def a_server_that_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """It always prefers the first place, finds every verdict biased, and then changes its mind."""

    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if "caused by this bias" in asked:
            return "<think>\nthe first place\n</think>\nYes"
        return "Output (b)" if "the first place" in asked else "Output (a)"

    monkeypatch.setattr(fault_server, "answer_to", answer)


def test_pairs_over_a_server_in_both_orders(tmp_path: Path, stillroom: CommandLine) -> None:
    rows = write(tmp_path, LLMBAR, {**LLMBAR, "input": "Say hello!", "label": 2})
    with serving() as server:
        words = ("judge", "pairs", rows, "--judge", f"openai:m@{server.url}", "--out", tmp_path / "out", "--json")
        code, out, err = stillroom(*words)
        assert (code, err) == (0, "")
        assert len(server.requests) == 4
        assert stillroom(*words).code == 0
        assert len(server.requests) == 4  # what was received is never asked for again
    found = json.loads(out)
    assert found["first_place"] == 1.0
    assert found["scores"]["all"] == {
        "n": 2,
        "dropped": 0,
        "accuracy": 0.5,
        "accuracy_b": 0.5,
        "consistency": 0.0,
        "agreement": 0.0,
    }
    assert len((tmp_path / "out" / "pairs.jsonl").read_text().splitlines()) == 2


def test_llmbar_s_419_pairs_in_both_orders(data_dir: Path, tmp_path: Path, stillroom: CommandLine) -> None:
    with serving() as server:
        judge = f"openai:m@{server.url}"
        said = stillroom("judge", "pairs", data_dir / "llmbar", "--judge", judge, "--out", tmp_path, "--json")
        assert said.code == 0, said.err
        assert len(server.requests) == 2 * 419
    scores = json.loads(said.out)["scores"]
    assert {name: score["n"] for name, score in scores.items()} == {
        "Natural": 100,
        "GPTInst": 92,
        "GPTOut": 47,
        "Manual": 46,
        "Neighbor": 134,
        "all": 419,
    }
    assert scores["all"]["consistency"] == scores["all"]["agreement"] == 0.0
    assert scores["all"]["accuracy"] + scores["all"]["accuracy_b"] == pytest.approx(1.0)


def test_biases_and_debiasing_over_a_server(tmp_path: Path, stillroom: CommandLine) -> None:
    rows = [write(tmp_path, row, name=f"{n}.json") for n, row in enumerate((GSM8K, ARENA, SCIENCE))]
    with serving() as server:
        judge = f"openai:m@{server.url}"
        measured = stillroom("judge", "bias", *rows, "--judge", judge, "--json")
        assert measured.code == 0, measured.err
        assert json.loads(measured.out)["biases"]["position"]["agreement"] == 0.0
        helped = stillroom(
            *("judge", "debias", *rows, "--judge", judge, "--detector", judge, "--json", "--out", tmp_path / "kept")
        )
        assert helped.code == 0, helped.err
    position = next(r for r in json.loads(helped.out)["biases"] if r["bias"] == "position")
    assert (position["before"]["accuracy_b"], position["after"]["accuracy_b"]) == (0.0, 1.0)
    assert position["biased"]["wrong_to_right"] == 1
    assert (tmp_path / "kept" / "debias.jsonl").is_file()


def test_tables_for_people(tmp_path: Path, stillroom: CommandLine) -> None:
    rows = write(tmp_path, GSM8K, {**GSM8K, "gemma_answer": "so it is 4"})
    said = stillroom("judge", "bias", rows)
    assert said.code == 0
    assert "left out: 1 of rows.json: a side that should be wrong ends in the right number: rows 2" in said.out
    with serving() as server:
        judge = f"openai:m@{server.url}"
        assert "Acc(D_bias)" in stillroom("judge", "bias", rows, "--judge", judge).out
        assert "insisted" in stillroom("judge", "debias", rows, "--judge", judge, "--detector", judge).out
        assert (
            "first place was chosen in 100.0 %"
            in stillroom("judge", "pairs", write(tmp_path, LLMBAR), "--judge", judge).out
        )


def test_recorded_verdicts_are_scored_without_a_judge(data_dir: Path, stillroom: CommandLine) -> None:
    table = data_dir / "rbd_bias4_eval" / "reasoning_supervision_test.csv"
    said = stillroom("judge", "bias", table)
    assert said.code == 0
    for part in ("407/500 = 81.4 %", "215/250 = 86.0 %", "215/273 = 78.8 %"):
        assert part in said.out
    assert json.loads(stillroom("judge", "bias", table, "--json").out)["all"]["true_yes"] == 215


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pairs", "FILE"], "say who judges: --judge"),
        (["pairs", "FILE", "--judge", "nobody"], "unknown sampler 'nobody'"),
        (["pairs", "nowhere", "--judge", "local:x"], "there is no file or folder nowhere"),
        (["debias", "FILE", "--judge", "openai:m@http://127.0.0.1:1/v1"], "needs a detector"),
        (["bias", "FILE"], "layout that is not known"),
        (["pairs", "FILE", "--judge", "openai:m@http://127.0.0.1:1/v1", "--price", "1"], "is not IN,OUT"),
        (["pairs", "FILE", "--judge", "openai:m@http://127.0.0.1:1/v1", "--budget-usd", "1"], "--price"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, tmp_path: Path, stillroom: CommandLine) -> None:
    path = write(tmp_path, LLMBAR)
    code, out, err = stillroom("judge", *[path if word == "FILE" else word for word in words])
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1
    assert out == ""

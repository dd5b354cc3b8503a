"""The speed harness with two tiny sides: what is compared, what stops a measurement, and what a result file holds."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stillroom.bench import speed
from stillroom.bench.speed.pairing import Bar, Round, Side, SideError, compare, measure
from stillroom.bench.speed.report import BarResult, page, read_results
from stillroom.bench.speed.training import LENGTHS, ROWS, own_shapes, sums, training_flop
from stillroom.cli.app import app
from stillroom.errors import DataError, UserError

ROOT = Path(__file__).parents[2]
SIDE = """
import os, sys

def count(job):
    print("libraries print what they like")
    rounds = []

    def one_round():
        rounds.append(1)
        total = sum(range(job["upto"]))
        return {"amount": job["amount"], "total": total, "round": len(rounds), "threads": os.environ["OMP_NUM_THREADS"]}

    return one_round

def garbage(job):
    os.write(int(job["answers"]), b"hello\\n")
    return lambda: {"amount": 1}

def crash(job):
    raise RuntimeError("no such weights")

def crash_later(job):
    def one_round():
        sys.exit("out of tokens")
    return one_round

def idle(job):
    return lambda: {"amount": 0}

def child(job):
    import subprocess
    burn = "import time\\nwhile time.process_time() < 0.3: pass"
    def one_round():
        subprocess.run([sys.executable, "-c", burn], check=True)
        return {"amount": 1, "total": 1}
    return one_round
"""


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    (tmp_path / "side.py").write_text(SIDE, encoding="utf-8")
    return tmp_path


def bar(sides: Path, *peers: Side, ours: str = "count", equal: Mapping[str, float] | None = None) -> Bar:
    return Bar(
        name="counting",
        title="counting",
        kind="pass",
        target=0.0,
        unit="things / CPU-s",
        ours=Side("ours", str(sides / "side.py"), ours),
        peers=peers or (Side("peer", "side.py", "count"),),
        job=lambda folder: {"upto": 20_000, "amount": 10},
        equal=equal or {},
    )


def run(found: Bar, sides: Path, rounds: int = 2) -> dict[str, Any]:
    return measure(found, rounds=rounds, peers=sides, python=Path(sys.executable))


def test_both_sides_run_once_to_warm_up_and_once_per_round(sides: Path) -> None:
    seen: list[int] = []
    found = bar(sides, equal={"total": 0, "round": 0})
    result = measure(found, rounds=2, peers=sides, python=Path(sys.executable), on_round=seen.append)
    assert seen == [0, 1, 2]
    assert [side["facts"]["round"] for side in result["sides"]] == [3, 3]
    assert {side["facts"]["threads"] for side in result["sides"]} == {"1"}
    assert all(side["cpu_s"] > 0 and side["wall_s"] > 0 and side["peak_mb"] > 1 for side in result["sides"])
    assert result["rounds"] == len(result["ratios"]) == 2
    assert result["peer_versions"]["python"] == sys.version.split()[0]


def test_settings_of_a_side_stand_on_top_of_the_job(sides: Path) -> None:
    result = run(bar(sides, Side("peer", "side.py", "count", {"amount": 70})), sides)
    assert [side["amount"] for side in result["sides"]] == [10, 70]


def test_seconds_of_children_count(sides: Path) -> None:
    result = run(bar(sides, Side("peer", "side.py", "child")), sides, rounds=1)
    assert result["sides"][1]["cpu_s"] >= 0.3


def test_unequal_facts_stop_the_measurement(sides: Path) -> None:
    other = Side("peer", "side.py", "count", {"upto": 19_999})
    with pytest.raises(SideError, match=r"bar 'counting': total is 199990000 here and 199970001 with peer"):
        run(bar(sides, other, equal={"total": 0}), sides)
    assert run(bar(sides, other, equal={"total": 1e-3}), sides)["rounds"] == 2


def test_a_fact_that_neither_side_gives_is_not_equal(sides: Path) -> None:
    with pytest.raises(SideError, match="loss is None here and None with peer"):
        run(bar(sides, equal={"loss": 1e-5}), sides)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("crash", "peer: the process stopped with exit code 1\n(.|\n)*no such weights"),
        ("crash_later", "peer: the process stopped with exit code 1\n(.|\n)*out of tokens"),
        ("idle", "peer: a round gave the amount 0; it must be a number above 0"),
        ("absent", "peer: the process stopped(.|\n)*absent"),
    ],
)
def test_a_side_that_fails_says_how(sides: Path, function: str, message: str) -> None:
    with pytest.raises(SideError, match=message):
        run(bar(sides, Side("peer", "side.py", function)), sides)


def test_a_process_that_does_not_keep_to_the_protocol_is_named(sides: Path) -> None:
    python = sides / "python"
    python.write_text("#!/bin/sh\nread job\necho hello\nread more\n", encoding="utf-8")
    python.chmod(0o755)
    with pytest.raises(SideError, match=r"peer: expected an answer with 'ready' and got 'hello\\n'"):
        measure(bar(sides), rounds=1, peers=sides, python=python)


def test_without_the_peers_environment_the_command_that_makes_it_is_named(sides: Path) -> None:
    with pytest.raises(UserError, match="make peers"):
        measure(bar(sides), rounds=1, peers=sides, python=sides / "absent")


def rounds_of(*rates: tuple[float, float, float]) -> list[list[Round]]:
    """Rounds of one CPU second each, two on the clock for ours."""
    return [
        [Round(r, 1.0, 2.0 if at == 0 else 1.0, 5.0, {"flop": 8.0 * r}) for at, r in enumerate(row)] for row in rates
    ]


def test_the_median_of_the_ratios_within_rounds_counts_against_the_fastest_peer(sides: Path) -> None:
    found = bar(sides, Side("slow", "side.py", "count"), Side("fast", "side.py", "count"))
    result = compare(found, rounds_of((6, 1, 2), (20, 1, 5), (8, 4, 4)))
    # Ours / fast: 3, 4, 2; the ratio of the medians would be 8 / 4 = 2.
    assert (result["ratio"], result["ratios"], result["peer_label"]) == (3.0, [3.0, 4.0, 2.0], "fast")
    assert (result["ours"], result["peer"], result["ratio_wall"]) == (8, 4, 1.5)
    assert result["flop_per_unit"] == 8.0
    assert [side["ratio"] for side in result["sides"]] == [1.0, 6.0, 3.0]


def test_a_peer_that_is_only_shown_is_not_compared_with_the_target(sides: Path) -> None:
    found = bar(sides, Side("slow", "side.py", "count"), Side("fast", "side.py", "count", counts=False))
    result = compare(found, rounds_of((6, 2, 3)))
    assert (result["ratio"], result["peer_label"]) == (3.0, "slow")
    assert [side["counts"] for side in result["sides"]] == [True, True, False]


def test_a_missed_pass_bar_fails_and_a_missed_aim_does_not(sides: Path) -> None:
    slow = rounds_of((1, 2, 2))
    peers = (Side("peer", "side.py", "count"), Side("other", "side.py", "count"))
    assert [compare(_like(bar(sides, *peers), kind, 1.0), slow)["passed"] for kind in ("pass", "aim")] == [False, True]
    assert compare(_like(bar(sides, *peers), "pass", 0.5), slow)["passed"]


def _like(found: Bar, kind: Any, target: float) -> Bar:
    return Bar(found.name, found.title, kind, target, found.unit, found.ours, found.peers, found.job)


def test_the_command_writes_a_file_per_bar_and_fails_on_a_missed_one(
    sides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = bar(sides)
    missed = Bar("never", "never", "pass", 1e9, passed.unit, passed.ours, passed.peers, passed.job)
    monkeypatch.setattr(speed, "bars", lambda: (passed, missed))
    monkeypatch.setattr("stillroom.bench.speed.pairing.PEER_PYTHON", Path(sys.executable))
    common = ["bench", "speed", "--rounds", "1", "--peers", str(sides), "--out", str(sides / "results")]
    first = CliRunner().invoke(app, [*common, "--only", "counting"])
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("counting: ")
    every = CliRunner().invoke(app, [*common, "--json"])
    assert every.exit_code == 1
    assert [result["bar"] for result in json.loads(every.stdout)] == ["counting", "never"]
    assert [result.bar for result in read_results(sides / "results")] == ["counting", "never"]
    text = page(sides / "results")
    assert "| `never` |" in text
    assert "**missed**" in text


def test_an_unknown_bar_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean sft-trl"):
        speed.bar("sft_trl")


def test_every_bar_has_its_own_name_and_its_sides_exist() -> None:
    found = speed.bars()
    assert len({known.name for known in found}) == len(found)
    for known in found:
        assert (ROOT / "src/stillroom/bench/speed" / known.ours.file).is_file(), known.name
        labels = [known.ours.label, *(side.label for side in known.peers)]
        assert len(set(labels)) == len(labels), known.name
        for side in known.peers:
            text = (ROOT / "bench/peers" / side.file).read_text(encoding="utf-8")
            assert f"def {side.function}(" in text, side.label
            assert "stillroom" not in text.lower(), side.file


def test_published_results_have_five_rounds_or_more_and_name_their_bar() -> None:
    for result in read_results(ROOT / "results" / "speed"):
        assert (ROOT / "results" / "speed" / f"{result.bar}.json").is_file()
        assert "+changes" not in result.commit, result.bar
        if isinstance(result, BarResult):
            known = speed.bar(result.bar)
            assert (result.kind, result.target, result.unit) == (known.kind, known.target, known.unit)
            assert result.rounds >= 5, result.bar


def test_a_file_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"bar": "x"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json is no result of `stillroom bench`"):
        page(tmp_path)


def test_the_page_without_results_says_so(tmp_path: Path) -> None:
    assert page(tmp_path).endswith("No figures are published yet.\n")


def test_operations_of_one_row_by_hand() -> None:
    # 10 weights, 3 tokens: 6 * 10 * 3 = 180; 2 layers of width 4: 6 * 2 * 4 * 9 = 432.
    assert training_flop(10, 2, 4, [3]) == 612
    assert training_flop(10, 2, 4, [3, 3]) == 1224


def test_the_products_of_a_step_are_six_operations_a_weight_and_token() -> None:
    # 0.41 M weights of the layout, norms and biases aside, each in one product forward and two backward.
    matrices = 3 * (2 * 96 * 96 + 2 * 96 * 48 + 3 * 96 * 288) + 96 * 512
    assert sum(2 * m * k * n for m, k, n in own_shapes()) == 6 * matrices * ROWS * sum(LENGTHS) // 2


def test_worked_sums_are_right_and_of_the_length_asked_for() -> None:
    import random

    text = sums(random.Random(0), 200)
    assert len(text) == 200
    for step in text.split(";")[:-1]:
        left, result = step.split("=")
        sign = "-" if "-" in left else "+"
        a, b = map(int, left.split(sign))
        assert int(result) == (a - b if sign == "-" else (a + b) % 1000)

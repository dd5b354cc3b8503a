"""The benches of the verifier: hard pairs, agreement with math-verify, and what is published about both."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from stillroom.bench import hard_pairs, math_verify_agreement
from stillroom.bench.hard_pairs import OWN, TRACKER, ask_math_verify, table
from stillroom.bench.math_verify_agreement import REWRITINGS, measure
from stillroom.bench.speed import grading
from stillroom.bench.speed.pairing import Bar
from stillroom.bench.verifier import FILES
from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.tasks.math import compare_all

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "verifier"


def test_published_hard_pairs_are_what_we_say_today() -> None:
    rows = read_json(PUBLISHED / "hard-pairs.json")["pairs"]
    pairs = [*TRACKER, *OWN]
    assert [(row["gold"], row["answer"], row["equal"]) for row in rows] == [(p.gold, p.answer, p.equal) for p in pairs]
    ours = compare_all([(pair.gold, pair.answer) for pair in pairs])
    assert [row["ours"] for row in rows] == [comparison.equal for comparison in ours]
    exchanged = compare_all([(pair.answer, pair.gold) for pair in pairs if pair.symmetric])
    assert [row["ours_exchanged"] for row in rows if row["symmetric"]] == [c.equal for c in exchanged]


def test_hard_pairs_ask_in_both_directions() -> None:
    assert len(TRACKER) == 15
    assert len(OWN) >= 60
    assert 0.4 < sum(pair.equal for pair in OWN) / len(OWN) < 0.6
    assert sum(pair.symmetric for pair in OWN) / len(OWN) > 0.9


def test_the_table_marks_wrong_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_pairs, "TRACKER", TRACKER[:1])
    monkeypatch.setattr(hard_pairs, "OWN", [])
    result = hard_pairs.measure()
    assert result["passed"]
    assert result["tracker"]["ours"] == 2
    (row,) = result["pairs"]
    row |= {"math_verify": True, "math_verify_exchanged": False}
    assert table(result).splitlines()[-1].split(" | ")[3:6] == ["≠", "≠", "**=** / ≠"]


def test_published_agreement_leaves_nothing_open() -> None:
    found = read_json(PUBLISHED / "math-verify-agreement.json")
    assert found["passed"]
    assert found["sets"]["gsm8k, recorded answers"]["pairs"] > 13_000
    assert {row["who_is_right"] for row in found["differences"]} == {"ours"}
    ours = compare_all([(f"${row['gold']}$", f"\\boxed{{{row['answer']}}}") for row in found["differences"]])
    assert [comparison.equal for comparison in ours] == [row["ours"] for row in found["differences"]]


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_difference_that_nobody_has_read_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        write_lines(tmp_path / "gsm8k" / name, [{"gold": "7", "response": "#### 7"}, {"gold": "7", "response": "?"}])
    with pytest.raises(UserError, match=r"math500\.jsonl"):
        measure(tmp_path)
    rows = [{"answer": "\\pi", "solution": "\\boxed{\\pi}"}, {"answer": "52_8", "solution": "\\boxed{52_8}"}]
    write_lines(tmp_path / "math" / "math500.jsonl", rows)
    found = measure(tmp_path)
    assert found["sets"]["gsm8k, recorded answers"] == {
        "pairs": 2,
        "ours_equal": 2,
        "math_verify_equal": 2,
        "agree": 2,
    }
    assert found["passed"]
    assert found["who_is_right"] == {"ours": len(found["differences"])}
    monkeypatch.setattr(math_verify_agreement, "ADJUDICATED", {})
    again = measure(tmp_path)
    assert again["who_is_right"] == {"undecided": len(found["differences"])}
    assert not again["passed"]


@pytest.mark.parametrize(
    ("name", "gold", "rewritten"),
    [
        ("slashes", r"\frac{a}{2}", "(a)/(2)"),
        ("plain spelling", r"2\sqrt{3}+\pi", "2 sqrt(3)+pi"),
        ("assigned", "5", "x = 5"),
        ("assigned", "y=5", "y=5"),
        ("no spaces", r"\sin 2 + 3", r"\sin 2+3"),
        ("next digit", "1.29", "1.20"),
        ("next digit", "x", "x"),
    ],
)
def test_rewritings(name: str, gold: str, rewritten: str) -> None:
    assert REWRITINGS[name](gold) == rewritten


def peer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_grading", ROOT / "bench" / "peers" / "grading.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("bar", grading.BARS, ids=lambda bar: bar.name)
def test_both_sides_of_a_bar_find_the_truth(bar: Bar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "SETS", 1)
    job = json.loads(json.dumps(bar.job(tmp_path)))
    job["sets"] = [job["sets"][0][:24]]
    for side in (grading.grade, peer().grade):
        result = side({**job, "passes": 1})()
        assert (result["amount"], result["rows"], result["right"]) == (24, 24, 24)


def test_math_verify_is_asked_as_shipped() -> None:
    assert ask_math_verify("$\\frac12$", "\\boxed{0.5}") is True
    assert ask_math_verify("$\\frac12$", "\\boxed{0.25}") is False

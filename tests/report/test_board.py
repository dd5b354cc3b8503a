import json
from pathlib import Path

import pytest

from stillroom.errors import DataError, UserError
from stillroom.report import board


def write(folder: Path, number: int, verdict: str, **more: object) -> None:
    claims = folder / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    value = {"method": f"method-{number}", "number": number, "verdict": verdict, "seeds": [0, 1, 2], **more}
    (claims / f"{number}-x.json").write_text(json.dumps(value))


def test_a_line_per_claim_by_number(tmp_path: Path) -> None:
    contrast = {"text": "more is better", "metric": "accuracy", "arms": ["a", "b"], "effect": 0.042}
    write(tmp_path, 53, "refuted", cpu_s=96.0, command="stillroom run dart-math --seeds 3", claims=[
        contrast | {"interval": [0.01, 0.074], "seeds": [0.05, -0.01, 0.0]}, {"text": "second", "verdict": "void"},
    ])  # fmt: skip
    write(tmp_path, 7, "supported")
    lines = board(tmp_path).splitlines()
    assert "2 of 83 methods measured: 1 supported, 1 refuted, 0 inconclusive, 0 void." in lines
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert rows == [
        "| 7 | method-7 | **supported** |  |  |  | – |  |  |",
        "| 53 | method-53 | **refuted** | more is better | a − b | accuracy | +4.2 pp [+1.0 pp, +7.4 pp] | + − 0 | 1 min 36 s |",  # noqa: E501
        "|  |  | **void** | second |  |  | – |  |  |",
    ]
    assert "- 53 method-53: `stillroom run dart-math --seeds 3`" in lines


def test_a_metric_says_where_it_was_measured(tmp_path: Path) -> None:
    contrast = {"text": "t", "arms": ["a", "b"], "effect": 0.5}
    write(tmp_path, 3, "supported", claims=[
        contrast | {"metric": "tokens", "kind": "saving"},
        contrast | {"metric": "source:accuracy", "kind": "superiority", "at_lr": None},
        contrast | {"metric": "accuracy", "kind": "superiority", "at_lr": 3e-4},
        contrast | {"metric": "tokens", "kind": "superiority"},
    ])  # fmt: skip
    cells = [[c.strip() for c in line.split("|")] for line in board(tmp_path).splitlines() if "a − b" in line]
    assert [(row[6], row[7]) for row in cells] == [
        ("tokens saved", "+50.0 pp"),
        ("source:accuracy", "+50.0 pp"),
        ("accuracy on dev at rate 0.0003", "+50.0 pp"),
        ("tokens", "+0.5"),
    ]


def test_texts_stay_text(tmp_path: Path) -> None:
    hostile = "a | b <script> [x](javascript:1) `c` **d**\n# e \u202e"
    write(tmp_path, 1, "void", claims=[{"text": hostile}], command="run `x` | <y>")
    page = board(tmp_path)
    assert r"a \| b &lt;script&gt; \[x\](javascript:1) \`c\` \*\*d\*\* \# e ⟨U+202E⟩" in page
    assert "`` run `x` | <y> ``" in page


def test_no_results_yet(tmp_path: Path) -> None:
    assert "0 of 83 methods measured" in board(tmp_path)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results folder"):
        board(tmp_path / "absent")
    write(tmp_path, 2, "void", claims=3)
    with pytest.raises(DataError, match=r"2-x\.json: claims"):
        board(tmp_path)
    (tmp_path / "claims" / "2-x.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        board(tmp_path)

"""`stillroom bench sandbox`: every state is measured and the file says whether the bar is met."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillroom.bench import sandbox
from stillroom.cli.app import app
from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.synth.sandbox import Sandbox


def test_it_writes_the_cost_of_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        Sandbox().close()
    except UserError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(sandbox, "STATES_MB", (0, 2))
    found = CliRunner().invoke(app, ["bench", "sandbox", "--copies", "20", "--out", str(tmp_path / "sandbox.json")])
    result = read_json(tmp_path / "sandbox.json")
    assert found.exit_code == (0 if result["passed"] else 1)
    assert [state["megabytes"] for state in result["states"]] == [0, 2]
    assert all(0 < state["p50_ms"] <= state["p95_ms"] <= state["max_ms"] for state in result["states"])

"""The trace pipeline finds exactly what was planted; the peer's row function gives the same rows."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from stillroom.bench.speed.synthetic_traces import Counts, write, write_evaluation
from stillroom.bench.speed.traces import REASONS, RULES, map_columns
from stillroom.tasks import load_task
from stillroom.traces import dedup, select, stats
from stillroom.traces.pool import Pool

PEERS = Path(__file__).parents[2] / "bench" / "peers"
PROBLEMS = 700


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def planted(folder: Path) -> Counts:
    return write(folder, PROBLEMS)


def test_a_selection_finds_what_was_planted(folder: Path, planted: Counts) -> None:
    evaluation = load_task(write_evaluation(folder)).problems("test", None, 0)
    pool = Pool(folder / "traces")
    choice = select.choose(pool, select.parse(RULES, against=evaluation))
    expected = asdict(planted)
    assert min(expected.values()) > 0
    assert choice.counts == {reason: expected[name] for reason, name in REASONS.items()}
    assert len(choice.rows) == planted.kept
    assert pool.height - dedup.exact(pool).height == planted.distinct
    totals = stats.summary(pool.lazy)
    assert (totals.n_traces, totals.n_problems, totals.n_correct) == (8 * PROBLEMS, PROBLEMS, planted.correct)


def test_traces_depend_on_the_seed_and_the_block_alone(folder: Path, planted: Counts, tmp_path: Path) -> None:
    assert write(tmp_path, PROBLEMS) == planted
    assert [shard.read_bytes() for shard in sorted((tmp_path / "traces").iterdir())] == [
        shard.read_bytes() for shard in sorted((folder / "traces").iterdir())
    ]
    assert write(tmp_path, PROBLEMS, seed=1) != planted


def test_a_row_function_gives_the_same_rows(folder: Path, planted: Counts) -> None:
    pytest.importorskip("datasets")
    write_evaluation(folder)
    spec = importlib.util.spec_from_file_location("datasets_map", PEERS / "datasets_map.py")
    assert spec is not None
    assert spec.loader is not None
    peer: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    job = {"traces": str(folder / "traces"), "evaluation": str(folder / "evaluation.jsonl"), "n": 8}
    ours = map_columns(job)()
    assert ours == peer.map_rows(job | {"batched": True})()
    assert ours["repeated"] == planted.rows - planted.distinct
    assert ours["leaked"] > planted.contaminated

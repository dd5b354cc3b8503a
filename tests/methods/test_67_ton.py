"""TON: the smoke run with its account, the format reward by hand, and the same path for words."""

from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import small, write_student
from fixtures_rollouts import make_rollout
from stillroom.chat import get_format
from stillroom.io import read_lines
from stillroom.learn.rl.rewards import whole_layout
from stillroom.methods.m67_ton import GRPO, account
from stillroom.traces import store
from stillroom.types import Finish, Verdict
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

ARMS = "think,grpo,both,ton"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("ton") / "run"
    return run_page("ton", folder, preset="smoke", arms=ARMS, jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS.split(","))
    assert len(result.claims) == 3
    assert [gate.name for gate in seed.gates] == ["accuracy of the weakest arm"]
    assert all(set(arm.measures) == {"counting", "choosing"} for arm in seed.arms.values())
    rows = [row for row in read_lines(folder / "seed-0" / "metrics.jsonl") if row["stage"] == "rl"]
    assert {row["arm"] for row in rows} == {"grpo", "ton"}
    for row in rows:
        assert {"skipped", "tokens", "mixed", "bare", "term_layout", "term_correct", "loss"} <= row.keys()
        assert any(name.startswith("skipped_level_") for name in row)
        assert 0 <= row["skipped"] <= 1


def test_arms_differ_in_the_thoughts_that_they_are_shown(smoke: tuple[Any, Path]) -> None:
    """The same traces, of which dropout empties some; images in the text of every one."""
    (traces,) = [store.read(path) for path in (smoke[1] / "seed-0" / "traces").glob("selected-right.parquet")]
    assert traces
    assert all("![](scene:" in trace.taught[0].text for trace in traces)
    assert GRPO.kl.weight == 0.04


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\n\n</think>\n\\boxed{3}", 1),
        ("<think></think>\\boxed{3}", 1),
        ("<think>\nred\n1 a\n= 1\n</think>\n\\boxed{1}", 1),
        ("<think>\n...\n</think>\n\\boxed{3} indeed", 0),
        ("so <think>\n\n</think>\n\\boxed{3}", 0),
        ("\\boxed{3}", 0),
        ("<think>\n\\boxed{3}", 0),
        ("<think>a<think>b</think></think>\\boxed{3}", 0),
        ("<think>\n\n</think>\n\\boxed{{3}}", 0),
        ("<think>\n\n</think>\n\\boxed{3}\\boxed{4}", 0),
        ("<think>" * 500 + "</think>", 0),
        ("", 0),
    ],
)
def test_the_format_reward_by_hand(text: str, expected: float) -> None:
    term = whole_layout(get_format("think"))
    assert term.score(make_rollout(text=text), Verdict(correct=True)) == expected
    assert term.score(make_rollout(text=text, finish=Finish.LENGTH), Verdict(correct=True)) == 0


def test_the_account_by_hand() -> None:
    empty, full, bare = (
        "<think>\n\n</think>\n\\boxed{3}",
        "<think>\na\n</think>\n\\boxed{3}",
        "<think>..</think>\\boxed{3}",
    )
    rollouts = [
        make_rollout(0, (1, 2), empty),
        make_rollout(0, (1, 2, 3, 4), full),
        make_rollout(1, (1, 2), empty),
        make_rollout(1, (1, 2, 3, 4), empty),
        make_rollout(2, (1,) * 8, bare),
    ]
    found = account(rollouts)
    assert found["skipped"] == found["skipped_level_0"] == 3 / 5
    assert found["tokens"] == 20 / 5
    assert found["mixed"] == 1 / 3
    assert found["bare"] == 1 / 5


def test_a_student_that_reads_text_alone_takes_the_same_path(tmp_path: Path) -> None:
    config = small(write_student(tmp_path / "student"), task="arithmetic", method="ton", train={"steps": 1})
    result = distill(config, tmp_path / "run")
    rows = [row for row in read_lines(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "rl"]
    assert len(rows) == 1
    assert all("skipped" in row for row in rows)
    assert set(result.arms) >= {"base", "student"}

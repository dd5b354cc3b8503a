import json
from pathlib import Path

import pytest
from fake_run import trace, write

from stillroom.errors import DataError, UserError
from stillroom.report import load
from stillroom.report.views import choose, view
from stillroom.traces import store
from stillroom.types import Message, Segment


def test_a_whole_run(tmp_path: Path) -> None:
    data = load(write(tmp_path / "run", n=200))
    assert data.finished
    assert [arm.name for arm in data.result.arms] == ["base", "student", "teacher"]
    assert data.n_traces == len(data.traces) > 500
    assert {view.shelf for view in data.traces} == {"traces", "eval base", "eval student", "eval teacher"}
    loss = next(curve for curve in data.curves if curve.metric == "loss")
    assert [step for step, _ in loss.points] == list(range(1, 401))
    assert [(alarm.level, alarm.step) for alarm in data.alarms] == [("error", 212)]


def test_an_empty_folder_is_an_unfinished_run(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert not data.finished
    assert data.traces == ()
    assert data.curves == ()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder at"):
        load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"result\.json is not JSON"),
        ("[]", "holds a list where an object belongs"),
        ('{"arms": [{"name": 3}]}', r"result\.json: arms\.0\.name"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_malformed_result_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    arms = [{"name": "a", "accuracy": {"value": float("nan"), "low": 0.0}}, {"name": "b"}]
    (tmp_path / "result.json").write_text(json.dumps({"arms": arms, "a newer key": 1}))
    first, second = load(tmp_path).result.arms
    assert first.accuracy.value is None
    assert first.accuracy.low == 0.0
    assert second.accuracy.value is None


def test_metrics_survive_what_a_kill_leaves(tmp_path: Path) -> None:
    lines = [
        '{"stage": "train", "step": 2, "loss": 1.5}',
        '{"stage": "train", "step": 1, "loss": 2.5, "note": "text", "flag": true}',
        '{"stage": "train", "st{"stage": "train", "step": 3, "loss": 1.0}',
        '{"stage": "train", "step": 3, "loss": 1e999}',
        '{"stage": "train", "step": 4, "loss": ' + "9" * 400 + "}",
        '{"stage": "train", "step": 4, "loss": 0.5}',
        "[1]",
        '{"stage": "train", "step": 5, "lo',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    data = load(tmp_path)
    assert [(c.metric, c.points) for c in data.curves] == [("loss", ((1.0, 2.5), (2.0, 1.5), (4.0, 0.5)))]
    assert [alarm.text for alarm in data.alarms] == [
        "loss: 2 values were not a finite number (not drawn)",
        "metrics.jsonl: 2 lines could not be read",
    ]


def test_pass_rates_leave_the_unjudged_out(tmp_path: Path) -> None:
    verdicts = [("p0", True), ("p0", False), ("p0", None), ("p1", None), ("p2", True)]
    made = [trace(f"t{i}", "x", problem=problem, correct=correct) for i, (problem, correct) in enumerate(verdicts)]
    store.write_shard(tmp_path / "traces", "a", made)
    assert sorted(load(tmp_path).pass_rates) == [0.5, 1.0]


def test_the_parent_may_lie_outside_the_sample_and_in_another_file(tmp_path: Path) -> None:
    store.write_shard(tmp_path / "traces", "a", [trace("old", "the answer is 4")])
    store.write_shard(tmp_path / "traces", "b", [trace("new", "the answer is 5", parents=("old",))])
    new = next(view for view in load(tmp_path).traces if view.id == "new")
    assert new.diff == (("same", "the answer is "), ("removed", "4"), ("added", "5"))


def test_the_same_trace_in_two_shards_is_shown_once(tmp_path: Path) -> None:
    for name in ("all", "kept"):
        store.write_shard(tmp_path / "traces", name, [trace("t0", "x")])
    assert load(tmp_path).n_traces == 1


def test_problems_stand_in_the_order_people_expect(tmp_path: Path) -> None:
    store.write_shard(tmp_path / "traces", "a", [trace(f"t{i}", "x", problem=f"p/{i}") for i in (10, 9, 1)])
    assert [view.problem for view in load(tmp_path).traces] == ["p/1", "p/9", "p/10"]


def test_rare_kinds_are_drawn_first() -> None:
    kinds = ["common"] * 5000 + ["rare"] * 3
    chosen = choose(kinds, 100)
    assert len(chosen) == len(set(chosen)) == 100
    assert {5000, 5001, 5002} <= set(chosen)
    assert choose(kinds[:50], 100) == list(range(50))


def test_what_was_taught_is_shown_where_it_differs_from_what_was_asked() -> None:
    plain = trace("t0", "five")
    assert view(plain, "traces").context == ()
    swapped = plain.model_copy(update={"asked": (Message(role="user", content="a hint"),)})
    assert view(swapped, "traces").context == (("user", "What is 2 + 3?"),)
    split = (Segment(role="user", text="q"), Segment(role="assistant", text="a"), Segment(role="assistant", text="b"))
    assert view(plain.model_copy(update={"taught": split}), "traces").response == "ab"


def test_an_experiment_holds_a_run_folder_per_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        store.write_shard(folder / "traces", "pool", [trace("t0", "x", correct=seed == 0)])
        store.write_shard(folder / "evals", "sft", [trace("e0", "y")])
        rows = [{"stage": "train", "arm": "sft", "step": step, "loss": seed + 1.0 / step} for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load(tmp_path)
    assert [(curve.arm, curve.seed) for curve in data.curves] == [("sft", "0"), ("sft", "1")]
    assert [view.shelf for view in data.traces] == [
        "seed 0: traces",
        "seed 0: eval sft",
        "seed 1: traces",
        "seed 1: eval sft",
    ]
    assert sorted(data.pass_rates) == [0.0, 1.0]


def test_files_that_start_with_a_dot_are_not_traces(tmp_path: Path) -> None:
    store.write_shard(tmp_path / "traces", "a", [trace("t0", "x")])
    (tmp_path / "traces" / ".a-dropped.parquet").write_bytes(b"bookkeeping")
    assert load(tmp_path).n_traces == 1

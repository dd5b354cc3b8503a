"""Abduction: the smoke run, its accounts, and the recipe on a user's own models; the parts: tests/infer."""

from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import small, write_student
from fixtures_texts import TextSampler
from stillroom.errors import UserError
from stillroom.lab.distill import set_up
from stillroom.lab.run import Run
from stillroom.methods.m76_consistency_abduction import ARMS, MISSED, at_home, consistency_abduction, experiment
from stillroom.samplers.base import Prompt
from stillroom.tasks.shifted_shapes import SHAPES, WEATHERS
from stillroom.traces import store
from stillroom.workbench import experiment as run_page

CHOSEN = ("best-single", "majority", "plurality", "hs", "ip", "upper-bound", "all-seen-ip")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("abduction") / "run"
    return run_page("abduction", folder, preset="smoke", arms=",".join(CHOSEN), jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(CHOSEN)
    assert len(result.claims) == len(experiment.contrasts)
    assert len(result.gates) == 3
    assert all(arm.updates == 0 for arm in seed.arms.values())
    assert (folder / "report.html").is_file()


def test_every_arm_accounts_for_both_regimes(smoke: tuple[Any, Path]) -> None:
    arms = smoke[0].seeds[0].arms
    for name, arm in arms.items():
        for regime in ("mild", "heavy"):
            found = arm.account[regime]
            assert found["n"] == 30
            assert {"accuracy", "f1", "precision", "recall", "coverage"} <= found.keys()
            assert (found["contradictions"] is not None) == (name in ("hs", "ip", "all-seen-ip"))
            assert len(found["gaps"]) == (5 if "ip" in name else 0)
        both = (arm.account["mild"]["accuracy"] + arm.account["heavy"]["accuracy"]) / 2
        assert both == pytest.approx(arm.score.accuracy.value)
    assert all(arm.score.accuracy.value <= arms["upper-bound"].score.accuracy.value for arm in arms.values())


def test_hypotheses_keep_within_delta_and_say_whom_they_believe(smoke: tuple[Any, Path]) -> None:
    traces = store.read(smoke[1] / "seed-0" / "evals" / "ip.parquet")
    for level in {trace.level for trace in traces}:
        labels = [trace.meta["labels"] for trace in traces if trace.level == level and trace.meta["labels"]]
        assert sum(len(found) > 1 for found in labels) <= 0.3 * len(labels)  # type: ignore[arg-type]
    for trace in traces:
        answer = trace.verdict.answer if trace.verdict else None
        assert (answer is None) == (trace.meta["believed"] == [])
        assert answer is None or answer in trace.meta["labels"]  # type: ignore[operator]
        assert set(trace.meta["believed"]) | set(trace.meta["errors"]) <= set(WEATHERS)  # type: ignore[arg-type]


def test_a_model_knows_its_own_weather_only() -> None:
    home = at_home(240, 0, MISSED)
    assert tuple(home.models) == tuple(WEATHERS)
    assert home.classes == SHAPES
    assert [rules.epsilon for rules in home.rules] == [0.0, 0.1, 0.3]


def test_the_recipe_asks_a_user_s_models(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", kind="distill", config={}, command=["x"], seeds=[0])
    still = set_up(run, small(write_student(tmp_path / "student"), method="sft"))

    def right(prompt: Prompt, number: int) -> str:
        assert prompt.problem is not None
        return f"\\boxed{{{prompt.problem.reference}}}"

    knows, guesses = TextSampler(right), TextSampler(lambda prompt, number: "\\boxed{1}")
    way = consistency_abduction(still, {"knows": knows, "guesses": guesses})
    found = still.measure(way, name="abduction")
    assert way.classes is not None
    known = [problem.reference in way.classes for problem in still.test]  # an answer that nobody gave at home is none
    assert 0 < sum(known) == round((found.accuracy.value or 0) * len(known))
    with pytest.raises(UserError, match="at least two"):
        consistency_abduction(still, {"knows": knows})
    run.close()


def test_arms_are_those_of_the_specification() -> None:
    assert {"best-single", "rules-only", "majority", "plurality", "most-confident", "hs", "ip", "upper-bound"} <= set(
        ARMS
    )
    assert set(experiment.default_arms) <= set(ARMS)
    assert experiment.student is None

"""RBD: the smoke run, and what the specification must have; pairs, labels and the loop have tests of their own.

Its judges are programs here: raters of the world of verdicts, whose bias is a rule instead of something learned.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from fixtures_distill import LAYOUT, small, write_student
from stillroom.errors import UserError
from stillroom.judge.asking import Judge
from stillroom.judge.samplers import FunctionSampler
from stillroom.judge.wording import SUMS
from stillroom.lab.classifier import load_classifier
from stillroom.lab.proxies import RECIPES
from stillroom.lab.run import Run
from stillroom.methods import m01_reasoning_bias_detector as page
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.pictures import encode
from stillroom.tasks.paired import BIASES
from stillroom.traces import store
from stillroom.types import Message
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

ARMS = ("none", "rbd", "shuffled", "label-feedback", "label-detector", "classifier")
BASES = [*page.JUDGES.values(), *page.SIZES.values(), page.experiment.student]


def rater(messages: Sequence[Message], rng: Random) -> str:
    """Follows the longest candidate, or the majority."""
    lines = [line for line in messages[-1].content.split("\n") if line[1:2] == ":"]
    majority = messages[-1].content.partition("most say ")[2][:1]
    return f"\\boxed{{{majority or max(lines, key=len)[0]}}}"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("rbd")
    write_student(folder / "cache" / "proxies" / "verdicts-0.4m", LAYOUT.model_copy(update={"positions": 256}))
    frozen = page.frozen

    def scripted(model: str, warning: bool = False) -> Judge:
        return Judge(FunctionSampler(model, rater), SUMS) if model in page.JUDGES.values() else frozen(model, warning)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(folder / "cache"))
        patch.setattr(page, "frozen", scripted)
        yield run_page("rbd", folder / "run", preset="smoke", arms=",".join(ARMS), jobs=0), folder / "run"


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    assert {claim.arms for claim in result.claims} == {("rbd", "none"), ("rbd", "label-feedback"), ("rbd", "shuffled")}
    assert all(set(arm.measures) == {"clean", "unseen", "unseen-clean"} for arm in seed.arms.values())
    assert {name for name, arm in seed.arms.items() if arm.updates} == {"rbd", "label-detector", "classifier"}
    assert (folder / "report.html").is_file()


def test_every_bias_is_accounted_for_with_both_judges(smoke: tuple[Any, Path]) -> None:
    for arm in smoke[0].seeds[0].arms.values():
        assert [(r["evaluator"], r["bias"]) for r in arm.account["biases"]] == [
            (j, b) for j in page.JUDGES for b in BIASES
        ]
        for report in arm.account["biases"]:
            assert report["before"]["n"] + report["before"]["dropped"] == 2
            assert {"flagged", "insisted", "right_to_wrong", "wrong_to_right", "malformed"} <= report["clean"].keys()


def test_gates_are_the_base_the_judge_s_accuracy_and_the_loss_by_each_cue(smoke: tuple[Any, Path]) -> None:
    gates = smoke[0].gates
    assert len(gates) == 1 + 2 * len(page.LEVELS)
    assert {(gate.low, gate.high) for gate in gates} == {(0.85, 1.0), (0.15, 1.0)}


def test_a_detector_learns_from_agreeing_analyses_alone(smoke: tuple[Any, Path]) -> None:
    folder = smoke[1] / "seed-0"
    run, _ = Run.open(folder)
    made = run.result_of("supervision")
    run.close()
    assert made is not None
    traces = store.read(folder / "traces" / "supervision.parquet")
    assert made["verdicts"] + made["dropped"] == 16
    assert made["kept"] == sum(trace.meta["said"] == trace.meta["label"] for trace in traces)
    for trace in traces:
        user, target = trace.taught
        assert (user.weight, target.weight) == (0.0, 1.0)
        assert target.text.index("</think>") < target.text.index("\\boxed{")
        assert "ok" not in user.text  # marks are the teacher's; the question holds none


def test_a_classifier_says_yes_or_no_without_an_analysis(smoke: tuple[Any, Path]) -> None:
    folder = smoke[1] / "seed-0" / "classifier"
    sampler = load_classifier(folder)
    traces = store.read(smoke[1] / "seed-0" / "traces" / "supervision.parquet")
    prompts = [Prompt(messages=trace.asked, seed=at) for at, trace in enumerate(traces)]
    answers = [answer.text for (answer,) in sampler.sample(prompts, SamplingParams(max_new_tokens=8))]
    assert set(answers) <= {"\\boxed{Yes}", "\\boxed{No}"}
    # One by one, without any padding, and by the state that the plain module gives.
    for prompt, said in zip(prompts, answers, strict=True):
        ids = torch.tensor([encode(sampler.policy, prompt.messages).ids])
        state = sampler.policy.model.model(ids).last_hidden_state[0, -1]
        assert said == ("\\boxed{Yes}" if sampler.head(state) > 0 else "\\boxed{No}")


@pytest.mark.parametrize("name", BASES)
def test_every_base_has_a_declared_diet(name: str) -> None:
    recipe = RECIPES[name.removeprefix("proxy:")]
    assert all(ingredient.task.startswith("verdicts:part=") for ingredient in recipe.diet)
    assert not any("part=detect" in ingredient.task for ingredient in recipe.diet)  # no base reads a detector's words


def test_the_recipe_makes_a_judge_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes a judge, not a model"):
        distill(small(write_student(tmp_path / "student"), method="rbd"), tmp_path / "run")


def test_arms_are_those_of_the_specification() -> None:
    assert set(page.ARMS) == {
        *(
            "none",
            "warning",
            "classifier",
            "label-detector",
            "label-feedback",
            "rbd",
            "unfiltered",
            "shuffled",
            "always",
        ),
        *("rounds-2", "rounds-3", "rbd-small", "rbd-large"),
    }

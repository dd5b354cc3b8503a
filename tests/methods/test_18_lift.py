"""LIFT: the smoke run, the recipe on a user's task, and its refusal of random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures_distill import small, write_student
from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.adapt.matrices import matrices
from stillroom.methods.m18_lift import OPTIMIZER, experiment
from stillroom.models.policy import load_policy, resolve_student
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

STUDENT = resolve_student(experiment.student)


ARMS = ("base", "full", "lora", "lift", "noise-lift")
"""One of a kind: the other arms differ in a number or a score, which tests/learn covers."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("lift") / "run"
    return run_page("lift", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    # Contrasts with other arms are left out.
    assert len(result.claims) == 3
    assert {gate.name.split()[0] for gate in seed.gates} == {"what", "spectral", "accuracy"}
    assert all(set(arm.measures) == {"source"} for arm in seed.arms.values())
    assert read_json(folder / "result.json")["verdict"] == result.verdict


def test_every_arm_says_what_moved_and_what_it_cost(smoke: tuple[Any, Path]) -> None:
    arms = smoke[0].seeds[0].arms
    trained = {name: arm.training["adapt"] for name, arm in arms.items() if arm.updates}
    assert {name for name in arms if name not in trained} == {"base", "noise-lift"}
    linear = sum(matrix.weight.numel() for matrix in matrices(load_policy(STUDENT)))
    assert trained["lift"]["trainable"] == pytest.approx(0.05 * linear, rel=0.01)
    assert 0 < arms["lift"].account["entries"] <= trained["lift"]["trainable"]
    assert trained["lift"]["optimizer_bytes"] < 0.1 * trained["full"]["optimizer_bytes"]
    assert arms["full"].account["entries"] > 0.5 * load_policy(STUDENT).num_parameters()
    # A LoRA update has the adapter's rank, a sparse one of as few entries a far higher one.
    assert arms["lora"].account["rank"] < 0.1
    assert arms["lift"].account["rank"] > 0.5
    assert arms["noise-lift"].account["loss"] > arms["noise-lift"].account["loss_before"]


def test_a_trained_model_differs_from_the_base_in_chosen_entries_alone(smoke: tuple[Any, Path]) -> None:
    base = load_policy(STUDENT)
    expected = Masked().attach(base, OPTIMIZER, seed=0).tensors()
    tuned = load_policy(smoke[1] / "seed-0" / "lift").model.state_dict()
    moved = 0
    for name, before in load_policy(STUDENT).model.state_dict().items():
        at = expected.get(f"at.{name}")
        changed = (tuned[name] != before).flatten().nonzero().flatten()
        moved += len(changed)
        assert set(changed.tolist()) <= set([] if at is None else at.tolist()), name
    assert moved > 0


def test_another_choice_of_weights_is_refused(tmp_path: Path) -> None:
    config = small(Path(STUDENT), method="lift", adapt="lora", max_new_tokens=32)
    with pytest.raises(UserError, match=r"adapt 'lora' has no effect.*masked-lift.*leave --adapt out"):
        distill(config, tmp_path / "run")


def test_the_recipe_trains_a_users_student(tmp_path: Path) -> None:
    config = small(Path(STUDENT), method="lift", max_new_tokens=32, train={"steps": 2})
    distill(config, tmp_path / "run")
    before, after = (
        load_policy(STUDENT).model.state_dict(),
        load_policy(tmp_path / "run" / "student").model.state_dict(),
    )
    changed = sum(int((after[name] != before[name]).sum()) for name in before if before[name].ndim == 2)
    total = sum(matrix.weight.numel() for matrix in matrices(load_policy(STUDENT)))
    assert 0 < changed <= 0.051 * total
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_random_weights_are_refused(tmp_path: Path) -> None:
    config = small(write_student(tmp_path / "random"), method="lift")
    with pytest.raises(UserError, match="no principal weights to find"):
        distill(config, tmp_path / "run")

"""Which weights move: what is frozen stays bit for bit, what is saved comes back, and every fitting pair trains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from fixtures_models import fresh, llama_policy, qwen2_policy, rows, taught
from stillroom.errors import CheckpointError, UserError
from stillroom.learn.adapt import base as base_module
from stillroom.learn.adapt.base import AdamW, Adapt, Freeze, Full
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.batches import Row
from stillroom.learn.learner import Learner, refusal
from stillroom.learn.objectives.base import Objective
from stillroom.learn.objectives.contrast import DPO, PRO, REDI, RRHF, SimPO
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.training import TrainConfig, train
from stillroom.models.policy import Policy, Sidecar, load_policy

SIDECAR = Sidecar(chat_format="think")
CONFIG = TrainConfig(steps=6, batch_size=4, lr=5e-3)
BASES = pytest.mark.parametrize("make", [qwen2_policy, llama_policy])


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[5, 9, 2, 7, 11, 30]])).logits
    return found


def steps(learner: Learner, count: int = 2, lr: float = 1e-2) -> None:
    for _ in range(count):
        learner.forward_backward(rows(learner.policy, 4))
        learner.step(lr)


def test_freezing_leaves_all_other_tensors_alone() -> None:
    policy = fresh(qwen2_policy())
    before = weights(policy)
    learner = Learner(policy, SFT(), adapt=Freeze(train=("*.layers.1.mlp.*", "model.norm.weight")))
    steps(learner)
    moved = {name for name, tensor in weights(policy).items() if not torch.equal(tensor, before[name])}
    expected = {name for name in before if ".layers.1.mlp." in name or name == "model.norm.weight"}
    assert moved == expected
    found = learner.report()
    assert found.trainable == sum(before[name].numel() for name in expected)
    assert found.total == sum(p.numel() for p in policy.model.parameters())
    assert found.share == found.trainable / found.total
    # Two moments in float32 and a step counter a tensor.
    assert found.optimizer_bytes == 8 * found.trainable + 4 * len(expected)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"train=\*\.mpl\.\* matches none of the \d+ tensors.*names like 'model\."):
        Learner(fresh(qwen2_policy()), SFT(), adapt=Freeze(train=("*.mpl.*",)))


@BASES
def test_an_adapter_moves_nothing_but_itself_until_it_is_merged(make: Any, tmp_path: Path) -> None:
    base = make()
    policy = fresh(base)
    learner = Learner(policy, SFT(), adapt=LoRA(rank=2))
    torch.testing.assert_close(logits(policy.model), logits(base.model), rtol=0, atol=0)
    steps(learner)
    trained = logits(policy.model)
    assert not torch.allclose(trained, logits(base.model), atol=1e-3)
    plain = {n.replace(".base_layer.", "."): t for n, t in weights(policy).items() if ".lora_" not in n}
    assert all(torch.equal(plain[name], tensor) for name, tensor in weights(base).items())
    # A checkpoint of plain layout, tied as before, that says what the policy said.
    learner.export(tmp_path / "student", sidecar=SIDECAR)
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "student")), trained, rtol=1e-4, atol=1e-5
    )
    assert set(weights(load_policy(tmp_path / "student"))) == set(weights(base))
    # rank * (inputs + outputs) of every linear module but the head, by hand from the layout.
    linear = [m for n, m in base.model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert learner.report().trainable == sum(2 * (m.in_features + m.out_features) for m in linear)


def test_adapters_begin_alike_from_a_seed_and_a_rank_of_none_is_refused() -> None:
    def start(seed: int) -> torch.Tensor:
        policy = fresh(qwen2_policy())
        torch.manual_seed(seed + 17)  # must not matter
        Learner(policy, SFT(), adapt=LoRA(rank=2), seed=seed)
        return next(p for n, p in policy.model.named_parameters() if ".lora_A." in n).detach()

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    with pytest.raises(UserError, match="rank=0"):
        LoRA(rank=0)


@pytest.mark.parametrize("adapt", [Freeze(train=("*.mlp.*",)), LoRA(rank=2)], ids=lambda a: a.name)
def test_three_and_three_steps_are_six_bit_for_bit(adapt: Adapt, tmp_path: Path) -> None:
    base = qwen2_policy()
    examples = rows(base, 10)
    straight = Learner(fresh(base), SFT(), adapt=adapt, seed=3)
    expected = list(train(straight, examples, CONFIG, seed=0))
    first = Learner(fresh(base), SFT(), adapt=adapt, seed=3)
    found = []
    for report in train(first, examples, CONFIG, seed=0):
        found.append(report)
        if report.step == 3:
            break
    first.save(tmp_path / "step-3", sidecar=SIDECAR)
    # The folder is a checkpoint of plain layout, whatever is being trained.
    assert set(weights(load_policy(tmp_path / "step-3"))) == set(weights(base))
    second, _ = Learner.restore(tmp_path / "step-3", SFT(), adapt=adapt, seed=3)
    found += list(train(second, examples, CONFIG, seed=0))
    assert found == expected
    ours, theirs = weights(second.policy), weights(straight.policy)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_adapter_of_another_rank_is_refused(tmp_path: Path) -> None:
    learner = Learner(fresh(qwen2_policy()), SFT(), adapt=LoRA(rank=2))
    steps(learner)
    learner.save(tmp_path / "a", sidecar=SIDECAR)
    for other in (LoRA(rank=3), Full()):
        with pytest.raises(CheckpointError, match=r"/a: optimizer\.safetensors"):
            Learner.restore(tmp_path / "a", SFT(), adapt=other)


@pytest.mark.parametrize("together", [1, 3_000, base_module.TOGETHER])
def test_a_step_reports_the_norm_of_the_change(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "TOGETHER", together)
    for adapt in (Full(), Freeze(train=("*.mlp.*",)), LoRA(rank=2), Masked(density=0.2)):
        policy = fresh(qwen2_policy(), torch.float64)
        learner = Learner(policy, SFT(), adapt=adapt)
        for _ in range(3):
            before = weights(policy)
            learner.forward_backward(rows(policy, 4))
            report = learner.step(1e-2)
            # Tied tensors once.
            change = {t.data_ptr(): (t - before[n]).square().sum() for n, t in policy.model.state_dict().items()}
            assert report.update_norm == pytest.approx(float(sum(change.values()).sqrt()), rel=1e-5)  # type: ignore[union-attr]


# --- every objective with every choice of weights

OBJECTIVES: list[Objective] = [SFT(), REDI(), REDI(alpha=1.0, name="symmetric"), SimPO(), DPO(), RRHF(), PRO()]
SCORES = ("lift", "magnitude", "random", "block", "gradient", "momentum", "adam-update", "movement", "hessian")
ADAPTS: list[Adapt] = [
    Full(),
    Freeze(train=("*.mlp.*",)),
    LoRA(rank=2),
    *(Masked(score=score, density=0.1, refresh_every=1) for score in SCORES),
]


def compared(policy: Policy, objective: Objective) -> list[Row]:
    if objective.compares == "rows":
        return rows(policy, 2)
    sides = (("4", 1.0), ("5 or so", 0.0)) if objective.compares == "pairs" else (("4", 2.0), ("5", 1.0), ("6 6", 0.0))
    return [Row(f"{g}/{s}", taught(policy, f"{g}?", t), f"g{g}", s) for g in range(2) for t, s in sides]


@pytest.mark.parametrize("adapt", ADAPTS, ids=lambda a: a.name)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_every_pair_trains_two_steps_or_is_refused_with_the_reason(objective: Objective, adapt: Adapt) -> None:
    base = qwen2_policy()
    reason = refusal(objective, adapt, reference=False)
    needs_reference = objective.name == "dpo" and adapt.name != "lora"
    if needs_reference:
        expected = f"objective 'dpo' needs reference, which adapt {adapt.name!r} does not provide; give Learner"
        assert reason is not None
        assert reason.startswith(expected)
        with pytest.raises(UserError, match="objective 'dpo' needs reference"):
            Learner(fresh(base), objective, adapt=adapt)
    else:
        assert reason is None
    policy = fresh(base)
    before = weights(policy)
    learner = Learner(policy, objective, adapt=adapt, reference=base if needs_reference else None)
    examples = compared(policy, objective)
    losses = []
    for _ in range(2):
        losses.append(learner.forward_backward(examples))
        assert learner.step(1e-3).update_norm > 0
    after = weights(policy)
    assert any(not torch.equal(after[name], before[name]) for name in before if name in after) or adapt.name == "lora"
    # The objective goes down on its own batch.
    assert learner.forward_backward(examples) < losses[0]


def test_a_decay_that_would_move_what_is_masked_is_refused() -> None:
    with pytest.raises(UserError, match=r"weight_decay=0\.1 would move entries outside the mask"):
        Learner(fresh(qwen2_policy()), SFT(), adapt=Masked(), optimizer=AdamW(weight_decay=0.1))

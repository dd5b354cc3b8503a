"""The same advantages as TRL's trainers on the same rewards, by their own code; skipped where TRL is absent."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stillroom.learn.rl.advantages import RLOO, Advantage, Group, Scores
from stillroom.learn.rl.kl import divergence

G = 4
REWARDS: list[float | None] = [1.0, 0.0, 0.1, 1.1, 0.0, 0.0, 0.0, 0.0, 0.5, None, -1.0, 2.0, 1.0, None, 1.0, 0.25]
COMPLETIONS = [[5] * (1 + i % 3) for i in range(len(REWARDS))]


class Stub(SimpleNamespace):
    """A trainer without all that generation needs: what is not given is off."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def advantages(trainer: str, monkeypatch: pytest.MonkeyPatch, beta: float = 0.0, **settings: Any) -> list[float]:
    """What a trainer of TRL makes of the rewards."""
    module = pytest.importorskip(f"trl.trainer.{trainer.lower()}_trainer")
    # Both speak to a process group that is not there.
    monkeypatch.setattr(module, "gather_object", lambda found: found)
    monkeypatch.setattr(module, "gather", lambda found: found)
    completions = ["x"] * len(REWARDS)
    prompt_ids = [[1, 2]] * len(REWARDS)
    generated = (prompt_ids, COMPLETIONS, completions)
    if trainer == "GRPO":
        generated = (prompt_ids, COMPLETIONS, None, completions, None, None, None, None)  # type: ignore[assignment]

    def logp(model: Any, ids: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None, None]:
        given = policy_logp(len(COMPLETIONS), 3) if model is stub.model else reference_logp(len(COMPLETIONS), 3)
        return given, None, None

    stub = Stub(
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        ref_model=SimpleNamespace(),
        accelerator=SimpleNamespace(
            device="cpu", process_index=0, gather=lambda found: found, reduce=lambda found, **_: found
        ),
        args=SimpleNamespace(
            per_device_train_batch_size=len(REWARDS),
            gradient_checkpointing_kwargs=None,
            steps_per_generation=1,
            gradient_accumulation_steps=1,
        ),
        num_iterations=1,
        num_generations=G,
        beta=beta,
        reward_weights=torch.ones(1),
        reward_funcs=[None],
        reward_func_names=["mine"],
        multi_objective_aggregation="sum_then_normalize",
        _tokenizer=SimpleNamespace(pad_token_id=0),
        _generate=lambda prompts: generated,
        _get_per_token_logps_and_entropies=logp,
        _calculate_rewards=lambda *_: torch.tensor([[float("nan") if r is None else r] for r in REWARDS]),
        _metrics={"train": defaultdict(list)},
        _logs={"prompt": [], "completion": [], "rewards": defaultdict(list), "advantages": [], "extra": {}},
        _pending_extra_logs={},
        _pending_metrics={},
        **settings,
    )
    trainer_class = getattr(module, f"{trainer}Trainer")
    method = trainer_class._generate_and_score_completions
    found = getattr(method, "__wrapped__", method)(stub, [{"prompt": f"p{i // G}"} for i in range(len(REWARDS))])
    return [float(a) for a in found["advantages"]]


def policy_logp(rows: int, width: int) -> torch.Tensor:
    return -0.5 - 0.25 * (torch.arange(rows * width) % 5).float().view(rows, width)


def reference_logp(rows: int, width: int) -> torch.Tensor:
    return -1.0 - 0.125 * (torch.arange(rows * width) % 7).float().view(rows, width)


def ours(advantage: Advantage, token_rewards: list[list[float]] | None = None) -> list[float]:
    lengths = [len(ids) for ids in COMPLETIONS]
    groups = [i // G for i in range(len(REWARDS))]
    found = advantage(Scores(REWARDS, groups, lengths, token_rewards))
    for row, length in zip(found.tokens, lengths, strict=True):
        assert row.tolist() == [row[0]] * length
    return [float(row[0]) for row in found.tokens]


@pytest.mark.parametrize(("std", "scale"), [(True, "group"), (False, "none")])
def test_group_advantages_are_those_of_the_grpo_trainer(std: bool, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ours(Group(std=std)) == pytest.approx(advantages("GRPO", monkeypatch, scale_rewards=scale), abs=1e-5)


def test_leave_one_out_advantages_are_those_of_the_rloo_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ours(RLOO()) == pytest.approx(advantages("RLOO", monkeypatch), abs=1e-5)


def test_a_kl_penalty_in_the_reward_is_that_of_the_rloo_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = divergence("k1", policy_logp(len(COMPLETIONS), 3), reference_logp(len(COMPLETIONS), 3)).tolist()
    penalties = [[-0.3 * d for d in row[: len(ids)]] for row, ids in zip(apart, COMPLETIONS, strict=True)]
    assert ours(RLOO(), penalties) == pytest.approx(advantages("RLOO", monkeypatch, beta=0.3), abs=1e-5)
    assert ours(RLOO(), penalties) != pytest.approx(ours(RLOO()), abs=1e-2)

"""The same losses and gradients as TRL's trainers on the same batch; skipped where TRL is absent."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fixtures_models import fresh, qwen2_policy, taught
from stillroom.learn.batches import Row, examples
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.contrast import DPO, SimPO
from stillroom.models.policy import Policy

BETA = 0.3


def pair_rows(policy: Policy, count: int = 5) -> list[Row]:
    found = []
    for g in range(count):
        for score, words in ((1.0, 1 + g), (0.0, 1 + (2 * g + 1) % 6)):
            tokens = taught(policy, f"what is {g}?", " ".join(f"{g}+{k}" for k in range(words)))
            found.append(Row(f"{g}/{score}", tokens, f"g{g}", score))
    return found


def as_trl(row: Row) -> tuple[list[int], list[int]]:
    """Prompt and completion ids. The template's line end after the end token is neither: it is left out here."""
    trained = [t for t, weight in enumerate(row.tokens.weights) if weight]
    return row.tokens.ids[: trained[0]], row.tokens.ids[trained[0] : trained[-1] + 1]


@pytest.fixture(scope="module")
def dpo_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    policy, reference = fresh(qwen2_policy()), fresh(qwen2_policy())
    _shifted(reference)
    rows = [{"prompt": "what is 1?", "chosen": "1+0", "rejected": "1"}]
    folder: Path = tmp_path_factory.mktemp("trl")
    # A preference trainer reads its data at construction; the losses below get batches of their own.
    os.environ.setdefault("HF_DATASETS_CACHE", str(folder / "cache"))
    trainer = trl.DPOTrainer(
        model=policy.model,
        ref_model=reference.model,
        args=trl.DPOConfig(
            output_dir=str(folder),
            beta=BETA,
            use_cpu=True,
            report_to=[],
            per_device_train_batch_size=1,
            max_length=None,
            disable_dropout=True,
            gradient_checkpointing=False,
            bf16=False,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    return trainer


def _shifted(reference: Policy) -> None:
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(1.1)


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_dpo_loss_and_gradient(dpo_trainer: Any) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    policy, reference = fresh(qwen2_policy()), fresh(qwen2_policy())
    _shifted(reference)
    rows = pair_rows(policy)
    collated = DataCollatorForPreference(pad_token_id=policy.pad_id)(
        [
            {
                "prompt_ids": as_trl(chosen)[0],
                "chosen_ids": as_trl(chosen)[1],
                "rejected_ids": as_trl(rejected)[1],
            }
            for chosen, rejected in examples(rows)
        ]
    )
    dpo_trainer.model.zero_grad()
    dpo_trainer.model.eval()
    theirs = dpo_trainer.compute_loss(dpo_trainer.model, collated)
    theirs.backward()
    ours = Learner(policy, DPO(beta=BETA), reference=reference).forward_backward(rows)
    assert ours == pytest.approx(float(theirs.detach()), abs=1e-5)
    torch.testing.assert_close(gradient(policy.model), gradient(dpo_trainer.model), rtol=1e-5, atol=1e-5)


def test_simpo_loss_and_gradient() -> None:
    cpo = pytest.importorskip("trl.experimental.cpo")
    policy, theirs_policy = fresh(qwen2_policy()), fresh(qwen2_policy())
    rows = pair_rows(policy)
    settings = SimpleNamespace(
        alpha=0.0,
        beta=2.5,
        loss_type="simpo",
        simpo_gamma=0.8,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    means = []
    for side in (0, 1):
        chosen = [pair[side] for pair in examples(rows)]
        width = max(len(row.tokens.ids) for row in chosen)
        ids = torch.full((len(chosen), width), policy.pad_id)
        labels = torch.full((len(chosen), width), -100)
        for i, row in enumerate(chosen):
            ids[i, : len(row.tokens.ids)] = torch.tensor(row.tokens.ids)
            for t, weight in enumerate(row.tokens.weights):
                if weight:
                    labels[i, t] = row.tokens.ids[t]
        logits = theirs_policy.model(ids).logits
        means.append(cpo.CPOTrainer.get_batch_logps(logits, labels, average_log_prob=True))
    losses, _, _ = cpo.CPOTrainer.cpo_loss(settings, *means)
    theirs = losses.mean()
    theirs.backward()
    ours = Learner(policy, SimPO(beta=2.5, gamma=0.8)).forward_backward(rows)
    assert ours == pytest.approx(float(theirs.detach()), abs=1e-5)
    torch.testing.assert_close(gradient(policy.model), gradient(theirs_policy.model), rtol=1e-5, atol=1e-5)

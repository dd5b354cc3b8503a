"""TRL's `DPOTrainer` as a side: all pairs once in the given order, from the same weights every round.

Settings: `precompute` has the trainer compute the reference's log-probabilities before the rounds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import torch
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(1)
    disable_caching()
    disable_progress_bars()
    model, reference = (
        AutoModelForCausalLM.from_pretrained(job[key], dtype=torch.float32) for key in ("model", "reference")
    )
    pairs, size = job["pairs"], job["batch"]
    steps = -(-len(pairs) // size)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(Path(job["model"]).parent / "trainer"),
            beta=job["beta"],
            max_length=None,
            precompute_ref_log_probs=job.get("precompute", False),
            per_device_train_batch_size=size,
            max_steps=steps,
            train_sampling_strategy="sequential",
            learning_rate=job["lr"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=steps,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [{key: pair[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs]
        ),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
    )
    for pair, row in zip(pairs, trainer.train_dataset, strict=True):
        for key in ("prompt_ids", "chosen_ids", "rejected_ids"):
            if list(row[key]) != pair[key]:
                raise ValueError(f"{key} differ: {row[key]} beside {pair[key]}")
    with torch.no_grad():
        first_loss = float(trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def one_round() -> dict[str, Any]:
        model.load_state_dict(start)
        trainer.optimizer = trainer.lr_scheduler = None
        done = trainer.train()
        return {"amount": len(pairs), "first_loss": first_loss, "mean_loss": done.training_loss}

    return one_round

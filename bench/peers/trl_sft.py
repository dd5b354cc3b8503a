"""TRL's `SFTTrainer` as a side: all rows once in the given order, from the same weights every round.

Settings: `lines` packs rows into lines of 512 (`packing=True`) and gives that many lines at a time to the model; the
steps are as many as without, so that a step holds as many rows on average.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import torch
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    disable_caching()
    disable_progress_bars()
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows, size, lines = job["rows"], job["batch"], job.get("lines")
    columns = {
        "input_ids": [row["ids"] for row in rows],
        "labels": [[-100] * row["prompt"] + row["ids"][row["prompt"] :] for row in rows],
    }
    steps = -(-len(rows) // size)

    def trainer_of(columns: dict[str, Any], batch: int, accumulate: int) -> Any:
        return SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=str(Path(job["model"]).parent / "trainer"),
                packing=lines is not None,
                max_length=512,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulate,
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
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
        )

    first = trainer_of({name: values[:size] for name, values in columns.items()}, size, 1)
    first_loss = _loss(first, next(iter(first.get_train_dataloader())))
    if lines is None:
        trainer = trainer_of(columns, size, 1)
    else:
        packed = len(trainer_of(columns, 1, 1).train_dataset)
        per_step = -(-packed // steps)
        at_once = min(lines, per_step)
        trainer = trainer_of(columns, at_once, -(-per_step // at_once))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def one_round() -> dict[str, Any]:
        model.load_state_dict(start)
        trainer.optimizer = trainer.lr_scheduler = None
        done = trainer.train()
        return {
            "amount": sum(len(row["ids"]) for row in rows),
            "first_loss": first_loss,
            "mean_loss": done.training_loss,
        }

    return one_round


def _loss(trainer: Any, batch: dict[str, Any]) -> float:
    import torch

    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))

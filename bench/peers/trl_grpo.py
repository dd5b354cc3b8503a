"""TRL's `GRPOTrainer` as a side: generation, rewards and an update per step, from the same weights every round.

The job holds `texts`, the prompts; `samples` per prompt; `batch`, the rows of a step; `new_tokens`; `end_ids`, which
end an answer; `lr`. The reward costs nothing and differs within a group.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import torch
    from datasets import Dataset, disable_caching, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    disable_caching()
    disable_progress_bars()
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    steps = len(job["texts"]) * job["samples"] // job["batch"]
    # No token has the number -1: without ends every row runs its length.
    ends = job["end_ids"] or [-1]
    lengths: list[int] = []

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [sum(ids) % 97 / 97 for ids in completion_ids]

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(Path(job["model"]).parent / "trainer"),
            num_generations=job["samples"],
            per_device_train_batch_size=job["batch"],
            max_completion_length=job["new_tokens"],
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            use_vllm=False,
            generation_kwargs={"eos_token_id": ends},
            max_steps=steps,
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
        train_dataset=Dataset.from_dict({"prompt": job["texts"]}),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
    )
    trainer.eos_token_ids = ends
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def one_round() -> dict[str, Any]:
        model.load_state_dict(start)
        trainer.optimizer = trainer.lr_scheduler = None
        lengths.clear()
        trainer.train()
        return {"amount": sum(lengths), "mean_length": sum(lengths) / len(lengths), "steps": steps}

    return one_round

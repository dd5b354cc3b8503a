"""A plain training loop over padded batches, and plain matrix products: what needs no framework."""

import time
from collections.abc import Callable
from typing import Any


def train(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """All rows once in padded batches, AdamW, clipped to 1, from the same weights every round.

    Settings: `trained_only` computes logits for the tokens that are trained, not for all.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows, size, pad = job["rows"], job["batch"], job["pad_id"]
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]

    def loss_of(batch: list[dict[str, Any]]) -> torch.Tensor:
        width = max(len(row["ids"]) for row in batch)
        ids = torch.full((len(batch), width), pad)
        labels = torch.full((len(batch), width), -100)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for at, row in enumerate(batch):
            length = len(row["ids"])
            ids[at, :length] = torch.tensor(row["ids"])
            labels[at, row["prompt"] : length] = ids[at, row["prompt"] : length]
            mask[at, :length] = 1
        if not job.get("trained_only"):
            return model(input_ids=ids, attention_mask=mask, labels=labels).loss
        hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        kept = targets != -100
        return cross_entropy(model.lm_head(hidden[kept]), targets[kept])

    def one_round() -> dict[str, Any]:
        model.load_state_dict(start)
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=job["lr"], weight_decay=0.0, fused=True)
        losses = []
        for batch in batches:
            loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return {
            "amount": sum(len(row["ids"]) for row in rows),
            "first_loss": losses[0],
            "mean_loss": sum(losses) / len(losses),
        }

    return one_round


def products(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Products of the job's `shapes` [m, k, n] in float32 for about a second; the amount is in 10^9 operations."""
    import torch

    torch.set_num_threads(1)
    pairs = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in job["shapes"]]
    work = sum(2 * m * k * n for m, k, n in job["shapes"]) / 1e9

    def one_round() -> dict[str, Any]:
        amount, end = 0.0, time.perf_counter() + 1.0
        while time.perf_counter() < end:
            for a, b, out in pairs:
                torch.mm(a, b, out=out)
            amount += work
        return {"amount": amount}

    return one_round

"""Training beside TRL and a plain loop, the same rows in the same steps, and beside what the machine can multiply."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stillroom.bench.speed.pairing import Bar, Side
from stillroom.bench.speed.sampling import layout, write_checkpoint

STEPS = 8
ROWS = 32
"""Per optimiser step of fine-tuning."""
LENGTHS = (24, 130)
"""Shortest and longest row in tokens, evenly spread: 77 on average."""
PAIRS = 8
"""Per optimiser step of DPO."""
BETA = 0.1
LR = 1e-3


def sums(rng: random.Random, length: int) -> str:
    """Worked sums in exactly `length` characters."""
    text, value = "", rng.randrange(100)
    while len(text) < length:
        other = rng.randrange(1, 100)
        sign = rng.choice("+-") if value >= other else "+"
        result = (value + other if sign == "+" else value - other) % 1000
        text += f"{value}{sign}{other}={result};"
        value = result
    return text[:length]


def sft_job(folder: Path) -> dict[str, Any]:
    """Weights and shuffled rows, a token per character; the first quarter of a row is read, the rest trained."""
    rng = random.Random(0)
    policy = write_checkpoint(folder / "model", "0.4m")
    rows = []
    for _ in range(STEPS * ROWS):
        text = sums(rng, rng.randint(*LENGTHS))
        ids: Any = policy.tokenizer.convert_tokens_to_ids(list(text))
        rows.append({"ids": ids, "prompt": len(ids) // 4})
    return {"model": str(folder / "model"), "pad_id": policy.pad_id, "rows": rows, "batch": ROWS, "lr": LR}


def dpo_job(folder: Path) -> dict[str, Any]:
    """Weights of policy and reference, and pairs: a prompt with a right chain of sums and one with a wrong end.

    The reference is not where the policy starts, or the first loss would be log 2 whatever is computed.
    """
    import torch

    from stillroom.models.policy import Sidecar, save_policy

    rng = random.Random(1)
    policy = write_checkpoint(folder / "model", "0.4m")
    tokenizer: Any = policy.tokenizer

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    pairs = []
    for _ in range(STEPS * PAIRS):
        prompt = f"<|im_start|>user\n{sums(rng, 24)}<|im_end|>\n<|im_start|>assistant\n"
        chosen, rejected = (sums(rng, rng.randint(30, 90)) + tokenizer.eos_token for _ in range(2))
        whole = ids(prompt)
        pairs.append(
            {
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "prompt_ids": whole,
                "chosen_ids": ids(prompt + chosen)[len(whole) :],
                "rejected_ids": ids(prompt + rejected)[len(whole) :],
            }
        )
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.05)
    save_policy(policy, folder / "reference", sidecar=Sidecar(chat_format="think"))
    return {
        "model": str(folder / "model"),
        "reference": str(folder / "reference"),
        "pairs": pairs,
        "batch": PAIRS,
        "lr": LR,
        "beta": BETA,
    }


def training_flop(weights: int, layers: int, hidden: int, lengths: Sequence[int]) -> float:
    """Operations to train on rows: 6 N per token, and for attention 6 d L² a row and layer (the causal half).

    N counts every weight, the tied embedding once, for its product at the output. A forward pass alone is a third.
    """
    return 6.0 * weights * sum(lengths) + 6.0 * layers * hidden * sum(length * length for length in lengths)


def own_shapes() -> list[list[int]]:
    """Every product of one optimiser step as [m, k, n]: forward, and both of the backward pass."""
    shape, tokens = layout("0.4m"), ROWS * sum(LENGTHS) // 2
    narrow = shape.hidden * shape.kv_heads // shape.heads
    pairs = [
        *[(shape.hidden, shape.hidden)] * 2,
        *[(shape.hidden, narrow)] * 2,
        *[(shape.hidden, shape.mlp)] * 2,
        (shape.mlp, shape.hidden),
    ] * shape.layers + [(shape.hidden, shape.vocabulary)]
    return [product for k, n in pairs for product in ([tokens, k, n], [tokens, n, k], [k, tokens, n])]


def sft(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side of fine-tuning: all rows once, from the same weights every round."""
    from stillroom.chat import Tokenised
    from stillroom.learn.batches import Row
    from stillroom.learn.learner import Learner
    from stillroom.learn.objectives.sft import SFT
    from stillroom.models.policy import load_policy

    policy = load_policy(job["model"])
    rows = []
    for number, row in enumerate(job["rows"]):
        trained = [float(at >= row["prompt"]) for at in range(len(row["ids"]))]
        rows.append(Row(str(number), Tokenised(row["ids"], trained)))
    start = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    lengths = [len(row["ids"]) for row in job["rows"]]
    config = policy.model.config
    flop = training_flop(policy.num_parameters(), config.num_hidden_layers, config.hidden_size, lengths)

    def one_round() -> dict[str, Any]:
        policy.model.load_state_dict(start)
        learner = Learner(policy, SFT())
        losses = _steps(learner, rows, job["batch"], job["lr"])
        return {"amount": sum(lengths), "first_loss": losses[0], "mean_loss": sum(losses) / len(losses), "flop": flop}

    return one_round


def sft_flop(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """The same work, counted in operations (10^9)."""
    train = sft(job)

    def one_round() -> dict[str, Any]:
        done = train()
        return {**done, "amount": done["flop"] / 1e9}

    return one_round


def dpo(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side of DPO: all pairs once, from the same weights every round."""
    from stillroom.chat import Tokenised
    from stillroom.learn.batches import Row
    from stillroom.learn.learner import Learner
    from stillroom.learn.objectives.contrast import DPO
    from stillroom.models.policy import load_policy

    policy, reference = load_policy(job["model"]), load_policy(job["reference"])
    rows = []
    for number, pair in enumerate(job["pairs"]):
        for score, key in ((1.0, "chosen_ids"), (0.0, "rejected_ids")):
            ids = pair["prompt_ids"] + pair[key]
            trained = [0.0] * len(pair["prompt_ids"]) + [1.0] * len(pair[key])
            rows.append(Row(f"{number}/{key}", Tokenised(ids, trained), str(number), score))
    start = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    config, lengths = policy.model.config, [len(row.tokens.ids) for row in rows]
    trained_flop = training_flop(policy.num_parameters(), config.num_hidden_layers, config.hidden_size, lengths)

    def one_round() -> dict[str, Any]:
        policy.model.load_state_dict(start)
        learner = Learner(policy, DPO(beta=job["beta"]), reference=reference)
        losses = _steps(learner, rows, 2 * job["batch"], job["lr"])
        return {
            "amount": len(job["pairs"]),
            "first_loss": losses[0],
            "mean_loss": sum(losses) / len(losses),
            # The reference reads every token once more.
            "flop": trained_flop * 4 / 3,
        }

    return one_round


def _steps(learner: Any, rows: Sequence[Any], batch: int, lr: float) -> list[float]:
    """The loss of every optimiser step over the rows in order."""
    losses = []
    for at in range(0, len(rows), batch):
        losses.append(learner.forward_backward(rows[at : at + batch]))
        learner.step(lr)
    return losses


_PLAIN = (
    Side("plain loop, padded", "plain_loop.py", "train"),
    Side("plain loop, padded, logits of trained tokens only", "plain_loop.py", "train", {"trained_only": True}),
)
_ROWS_A_STEP = f"Fine-tuning, {ROWS} rows of {LENGTHS[0]} to {LENGTHS[1]} tokens a step, 0.4 M weights"
_SFT_LIMIT = "products of this width run at a fraction of the large-matrix rate; the rest is calls per layer and norms"

BARS = (
    Bar(
        name="sft-trl",
        title=f"{_ROWS_A_STEP}, beside TRL",
        kind="pass",
        target=2.0,
        unit="real tokens / CPU-s",
        ours=Side("Stillroom", "training.py", "sft"),
        peers=(
            Side("SFTTrainer, padded", "trl_sft.py", "train"),
            Side("SFTTrainer, packing, a line of 512 at a time", "trl_sft.py", "train", {"lines": 1}),
            Side("SFTTrainer, packing, all lines at once", "trl_sft.py", "train", {"lines": 5}),
        ),
        job=sft_job,
        # The first batch is the same; packed rows meet in another order afterwards.
        equal={"first_loss": 1e-5, "mean_loss": 2e-2},
        limit=_SFT_LIMIT,
    ),
    Bar(
        name="sft-plain",
        title=f"{_ROWS_A_STEP}, beside a plain loop",
        kind="pass",
        target=1.4,
        unit="real tokens / CPU-s",
        ours=Side("Stillroom", "training.py", "sft"),
        peers=_PLAIN,
        job=sft_job,
        equal={"first_loss": 1e-5, "mean_loss": 1e-4},
        limit=_SFT_LIMIT,
    ),
    Bar(
        name="gemm",
        title="Operations counted in fine-tuning beside what a plain matrix product reaches, float32, one thread",
        kind="aim",
        target=0.55,
        unit="GFLOP / CPU-s",
        ours=Side("Stillroom, fine-tuning", "training.py", "sft_flop"),
        peers=(
            Side("torch.mm, 2048 × 2048 × 2048", "plain_loop.py", "products", {"shapes": [[2048, 2048, 2048]]}),
            Side("torch.mm, the model's own shapes, both passes", "plain_loop.py", "products", counts=False),
        ),
        job=lambda folder: {**sft_job(folder), "shapes": own_shapes()},
        limit=_SFT_LIMIT,
    ),
    Bar(
        name="dpo-trl",
        title=f"DPO, {PAIRS} pairs a step with a reference model, 0.4 M weights, beside TRL",
        kind="pass",
        target=2.0,
        aim=2.5,
        unit="pairs / CPU-s",
        ours=Side("Stillroom", "training.py", "dpo"),
        peers=(
            Side("DPOTrainer", "trl_dpo.py", "train"),
            Side(
                "DPOTrainer, reference computed beforehand and not counted",
                "trl_dpo.py",
                "train",
                {"precompute": True},
                counts=False,
            ),
        ),
        job=dpo_job,
        equal={"first_loss": 1e-5, "mean_loss": 1e-4},
        limit=_SFT_LIMIT,
    ),
)

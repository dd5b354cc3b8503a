"""Sampling beside transformers' `generate`: rows that all run their length, rollouts that stop, and one row alone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.bench.speed.pairing import Bar, Side

if TYPE_CHECKING:
    from stillroom.models.policy import Policy
    from stillroom.models.proxies import ProxyLayout

NEW_TOKENS = 64
ENDS = 11
"""Tokens that end an answer in `rollouts`; with these random weights the mean length is half of the maximum."""
STATES = "keys and values are read anew for every token"


def layout(size: str) -> "ProxyLayout":
    """The committed proxies' layout (``0.4m``) or the same, wider (``1m``: 1.0 million weights)."""
    from stillroom.models.proxies import ProxyLayout

    return ProxyLayout() if size == "0.4m" else ProxyLayout(hidden=160, mlp=480)


def write_checkpoint(folder: Path, size: str) -> "Policy":
    """A checkpoint of random weights with the committed proxies' tokenizer, for both sides to load."""
    from transformers import AutoTokenizer

    from stillroom.models.policy import Sidecar, save_policy
    from stillroom.models.proxies import blank_policy, proxy_path

    tokenizer: Any = AutoTokenizer.from_pretrained(str(proxy_path("student-0.4m")))
    policy = blank_policy(layout(size), tokenizer, seed=0, chat_format="think")
    save_policy(policy, folder, sidecar=Sidecar(chat_format="think"))
    return policy


def job(folder: Path, *, size: str, prompts: int, samples: int, batch: int, ends: int = 0) -> dict[str, Any]:
    """Weights and prompts.

    Args:
        prompts: how many; questions of the arithmetic task.
        samples: per prompt.
        batch: rows that are sampled together.
        ends: how many tokens end an answer, none: every row runs its length. Random weights give all tokens nearly the
            same probability, so that lengths follow a geometric distribution on either side.
    """
    from stillroom.chat import ask, get_format, render_chat
    from stillroom.seeds import derive_rng
    from stillroom.tasks import load_task

    policy = write_checkpoint(folder / "model", size)
    asked = [ask(problem, get_format("think")) for problem in load_task("arithmetic").problems("train", prompts, 0)]
    texts = [render_chat(policy.tokenizer, messages, generate=True) for messages in asked]
    return {
        "model": str(folder / "model"),
        "messages": [[message.model_dump(mode="json") for message in messages] for messages in asked],
        "texts": texts,
        "prompt_ids": [policy.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
        "pad_id": policy.pad_id,
        "end_ids": sorted(derive_rng("ends", ends).sample(range(256), ends)),
        "samples": samples,
        "batch": batch,
        "new_tokens": NEW_TOKENS,
    }


def sample(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side: text, tokens and log-probabilities of every answer."""
    import dataclasses

    from stillroom.models.policy import load_policy
    from stillroom.samplers.base import Prompt, SamplingParams
    from stillroom.samplers.local import LocalSampler
    from stillroom.types import Message

    # An answer ends with the job's tokens and no others: the model's own end token is a token like any other here.
    policy = dataclasses.replace(load_policy(job["model"]), stop_ids=frozenset(job["end_ids"]))
    sampler = LocalSampler(policy, batch_rows=job["batch"])
    params = SamplingParams(n=job["samples"], max_new_tokens=job["new_tokens"])
    asked = [tuple(Message(**message) for message in messages) for messages in job["messages"]]
    together = max(1, job["batch"] // job["samples"])
    seed = 0

    def one_round() -> dict[str, Any]:
        nonlocal seed
        seed += 1
        prompts = [Prompt(messages=messages, seed=seed * len(asked) + i) for i, messages in enumerate(asked)]
        parts = [prompts[at : at + together] for at in range(0, len(prompts), together)]
        answers = [answer for part in parts for group in sampler.sample(part, params) for answer in group]
        lengths = [len(answer.token_ids or ()) for answer in answers]
        return {
            "amount": sum(lengths),
            "mean_length": sum(lengths) / len(lengths),
            "prompt_tokens": sum(answer.usage.prompt_tokens for answer in answers),
            "flop": 2 * policy.num_parameters() * sum(lengths),
        }

    return one_round


def _peer(label: str, *, counts: bool = True, **settings: Any) -> Side:
    return Side(label, "generate.py", "sample", settings, counts)


def _full(size: str) -> Bar:
    return Bar(
        name=f"sampling-full-{size}",
        title=f"128 prompts × {NEW_TOKENS} new tokens, no ends, temperature 1, {size[:-1]} M weights",
        kind="pass",
        target=1.7,
        aim=3.0,
        unit="tokens / CPU-s",
        ours=Side("Stillroom, with log-probabilities", "sampling.py", "sample"),
        peers=(
            _peer("generate, dynamic cache", cache="dynamic"),
            _peer("generate, static cache", cache="static"),
            _peer("generate, dynamic cache, 2 batches of 64", cache="dynamic", batch=64),
            _peer("generate, dynamic cache, with log-probabilities", cache="dynamic", scores=True, counts=False),
        ),
        job=lambda folder: job(folder, size=size, prompts=128, samples=1, batch=128),
        equal={"mean_length": 0, "prompt_tokens": 0},
        limit=STATES,
    )


def _rollouts(size: str) -> Bar:
    return Bar(
        name=f"sampling-rollouts-{size}",
        title=f"32 prompts × 8 samples that end at half of {NEW_TOKENS} tokens on average, {size[:-1]} M weights",
        kind="pass",
        target=3.0,
        aim=5.0,
        unit="tokens / CPU-s",
        ours=Side("Stillroom, with log-probabilities", "sampling.py", "sample"),
        peers=(
            _peer("generate, dynamic cache, 256 rows", cache="dynamic"),
            _peer("generate, dynamic cache, 4 batches of 64", cache="dynamic", batch=64),
            _peer("generate, static cache, 256 rows", cache="static"),
            _peer(
                "generate, dynamic cache, 256 rows, with log-probabilities", cache="dynamic", scores=True, counts=False
            ),
        ),
        job=lambda folder: job(folder, size=size, prompts=32, samples=8, batch=256, ends=ENDS),
        # Equal in distribution: five standard errors of the difference of two means.
        equal={"mean_length": 0.25, "prompt_tokens": 0},
        limit=STATES,
    )


def _one(size: str) -> Bar:
    return Bar(
        name=f"sampling-one-{size}",
        title=f"one row at a time × {NEW_TOKENS} new tokens, no ends, temperature 1, {size[:-1]} M weights",
        kind="pass",
        target=4.0,
        aim=6.0,
        unit="tokens / CPU-s",
        ours=Side("Stillroom, with log-probabilities", "sampling.py", "sample"),
        peers=(
            _peer("generate, dynamic cache", cache="dynamic"),
            _peer("generate, static cache", cache="static"),
            _peer("generate, dynamic cache, with log-probabilities", cache="dynamic", scores=True, counts=False),
        ),
        job=lambda folder: job(folder, size=size, prompts=8, samples=1, batch=1),
        equal={"mean_length": 0, "prompt_tokens": 0},
        limit="calls per token: what is computed for one row takes less time than starting to compute it",
    )


BARS = tuple(make(size) for make in (_full, _rollouts, _one) for size in ("0.4m", "1m"))

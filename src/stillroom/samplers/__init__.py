"""Where responses come from: one protocol, and one factory from a spec string to a sampler."""

from collections.abc import Mapping
from pathlib import Path

from stillroom.chat import ChatFormat, get_format
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, Sampler, SamplingParams, response_seed
from stillroom.tasks.base import Style, Task

__all__ = ["Prompt", "Sampler", "SamplingParams", "make_sampler", "response_seed"]


def make_sampler(
    spec: str,
    *,
    task: Task | None = None,
    style: Style | None = None,
    chat_format: ChatFormat | None = None,
    fields: Mapping[str, str] | None = None,
    folder: Path | None = None,
    price: tuple[float, float] | None = None,
    budget_usd: float | None = None,
    budget_tokens: int | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    concurrency: int = 8,
    timeout_s: float = 300.0,
    max_retries: int = 5,
    device: str = "cpu",
    batch_rows: int = 256,
) -> Sampler:
    """The sampler that a spec names: ``program``, ``replay:FILE``, ``openai:NAME@URL`` or ``local:PATH``.

    Args:
        task: program: whose solver to use; the other samplers take no notice of it.
        style: program: how the solver writes.
        chat_format: layout of thought and answer; default: the task's, else ``think``.
        fields: replay: what → column.
        folder: openai: holds the cache of answers and the ledger of the budget; keep it to pay for nothing twice.
        price: openai: US dollars per million prompt and completion tokens.
        budget_usd, budget_tokens: openai: limits over all runs that share `folder`.
        api_key_env, concurrency, timeout_s, max_retries: openai: as `OpenAISampler` says.
        device, batch_rows: local: where the model runs, and rows per batch.

    Raises:
        UserError: an unknown kind; a style, field, price or budget that this kind of sampler has no use for.
    """
    kind, _, rest = spec.partition(":")
    if kind not in ("program", "replay", "openai", "local") or (kind == "program") != (not rest):
        raise UserError(f"unknown sampler {spec!r}; give program, replay:FILE, openai:NAME@URL or local:PATH")
    for option, value, owner in (
        ("style", style, "program"),
        ("fields", fields, "replay"),
        ("price", price, "openai"),
        ("budget_usd", budget_usd, "openai"),
        ("budget_tokens", budget_tokens, "openai"),
    ):
        if value is not None and kind != owner:
            raise UserError(
                f"{option}={value!r} has no effect on {spec!r}: only {owner} samplers know it; leave it out"
            )
    layout = chat_format or get_format(task.chat_format if task else "think")

    if kind == "program":
        from stillroom.samplers.program import ProgramSampler

        if task is None:
            raise UserError("the program teacher solves a task's problems: give a task")
        return ProgramSampler(task, style, layout)
    if kind == "replay":
        from stillroom.samplers.replay import ReplaySampler

        return ReplaySampler(rest, fields, layout)
    if kind == "openai":
        from stillroom.samplers.budget import Budget, Price
        from stillroom.samplers.cache import ResponseCache
        from stillroom.samplers.openai import OpenAISampler, parse_spec

        model, base_url = parse_spec(spec)
        if folder is None:
            raise UserError(f"{spec!r} needs a folder for its answers and its ledger")
        return OpenAISampler(
            model,
            base_url,
            budget=Budget(folder / "ledger.jsonl", usd=budget_usd, tokens=budget_tokens),
            cache=ResponseCache(folder),
            price=None if price is None else Price(*price),
            api_key_env=api_key_env,
            concurrency=concurrency,
            timeout_s=timeout_s,
            max_retries=max_retries,
            chat_format=layout,
        )
    from stillroom.models.policy import load_policy
    from stillroom.samplers.local import LocalSampler

    return LocalSampler(load_policy(rest, device=device), batch_rows=batch_rows)

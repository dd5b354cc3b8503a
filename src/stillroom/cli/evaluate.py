"""`stillroom eval` and `stillroom chat`: measure a model, talk to a model."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="proxy:NAME, a checkpoint folder, or a hub id.")],
    task: Annotated[
        str, typer.Option(help="NAME[:option=value], jsonl:FILE, gym:NAME, ./file.py:NAME.")
    ] = "arithmetic",
    problems: Annotated[int, typer.Option(min=1, help="How many problems.")] = 300,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    n: Annotated[int, typer.Option("--n", min=1, help="Answers per problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    chat_format: Annotated[str | None, typer.Option("--format", help="think, boxed, hash or answer-only.")] = None,
    layout: Annotated[str | None, typer.Option(help="For files: gsm8k, math, aqua, commonsenseqa or plain.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    out: Annotated[Path | None, typer.Option(metavar="FILE.parquet", help="Keep the answers as traces.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on a task: accuracy with its interval, by level, tokens per answer, format failures.

    Example: stillroom eval proxy:student-0.4m --task arithmetic --problems 100
    """
    from stillroom.chat import get_format
    from stillroom.cli.show import arms_table, emit, emit_json
    from stillroom.errors import unknown_name
    from stillroom.lab.evaluate import evaluate as measure
    from stillroom.lab.evaluate import score
    from stillroom.models.policy import load_policy, resolve_student
    from stillroom.samplers.local import LocalSampler
    from stillroom.tasks import load_task

    if split not in ("train", "dev", "test"):
        raise unknown_name("split", split, ("train", "dev", "test"))
    found = load_task(task, layout=layout)
    policy = load_policy(resolve_student(model), device=device)
    layout_name = chat_format or (policy.sidecar.chat_format if policy.sidecar else found.chat_format)
    chosen = found.problems(split, problems, seed)  # type: ignore[arg-type]
    traces = measure(
        found,
        chosen,
        LocalSampler(policy),
        get_format(layout_name),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        n=n,
        seed=seed,
    )
    if out is not None:
        from stillroom.traces.store import tables, write_tables

        write_tables(out, tables(traces))
    result = score(model, traces, chosen)
    if as_json:
        emit_json(result.model_dump(mode="json"))
        return
    emit(arms_table({"model": result}))
    if result.majority_baseline is not None:
        emit(f"always giving the most frequent answer would reach {100 * result.majority_baseline:.1f} %")


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="proxy:NAME, a checkpoint folder, or a hub id.")],
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Talk to a model, one line a turn; reads standard input, so it can be piped.

    Example: echo 'Modulo 7, from left to right: 3 +5 *4' | stillroom chat proxy:student-0.4m
    """
    import sys

    from stillroom.cli.show import emit
    from stillroom.models.policy import load_policy, resolve_student
    from stillroom.samplers.base import Prompt, SamplingParams
    from stillroom.samplers.local import LocalSampler
    from stillroom.types import Message

    sampler = LocalSampler(load_policy(resolve_student(model), device=device))
    params = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens)
    history: tuple[Message, ...] = ()
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        history = (*history, Message(role="user", content=line.rstrip("\n")))
        answer = sampler.sample([Prompt(messages=history, seed=len(history))], params)[0][0].text
        history = (*history, Message(role="assistant", content=answer))
        # Control characters of a model's answer must not reach the terminal as commands.
        emit("".join(c if c.isprintable() or c == "\n" else f"⟨U+{ord(c):04X}⟩" for c in answer))

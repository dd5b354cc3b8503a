"""`stillroom eval` and `stillroom chat`: measure a model, talk to a model."""

from pathlib import Path
from typing import Annotated, Any

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
    chat_format: Annotated[
        str | None, typer.Option("--format", help="think, boxed, hash, plain or answer-only.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="For files: gsm8k, math, aqua, commonsenseqa, ifeval, protoqa, simplebench or plain."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="single, vote:n=8, iterate:rounds=10, vote:n=4/iterate; several give a curve."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.parquet", help="Keep the answers as traces.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep result, answers and a report in this new folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on a task: accuracy with its interval, by level, tokens per answer, format failures.

    With --strategy, once for each, the accuracy–token curve: what it answers, in how many calls, in what context.

    Example: stillroom eval proxy:student-0.4m --task arithmetic --problems 100
    """
    from stillroom.chat import get_format
    from stillroom.cli.show import arms_table, emit, emit_json, strategies_table
    from stillroom.errors import UserError, unknown_name
    from stillroom.infer.specs import make_strategy
    from stillroom.lab.evaluate import evaluate as measure
    from stillroom.lab.evaluate import score, write_evaluation
    from stillroom.models.policy import load_policy, resolve_student
    from stillroom.samplers.local import LocalSampler
    from stillroom.tasks import load_task

    if split not in ("train", "dev", "test"):
        raise unknown_name("split", split, ("train", "dev", "test"))
    if report is not None and report.exists():
        raise UserError(f"{report} exists already; give --report a new folder")
    if strategy and len(set(strategy)) < len(strategy):
        raise UserError("a strategy stands twice; give each --strategy once")
    found = load_task(task, layout=layout)
    policy = load_policy(resolve_student(model), device=device)
    plain = LocalSampler(policy)
    samplers = {spec: make_strategy(spec, plain) for spec in strategy or ()} or {model: plain}
    layout_name = chat_format or (policy.sidecar.chat_format if policy.sidecar else found.chat_format)
    chosen = found.problems(split, problems, seed)  # type: ignore[arg-type]
    chat_layout = get_format(layout_name)
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "n": n, "seed": seed}
    answers = {name: measure(found, chosen, sampler, chat_layout, **how) for name, sampler in samplers.items()}
    scores = {name: score(name, traces, chosen) for name, traces in answers.items()}
    if out is not None:
        from stillroom.traces.store import tables, write_tables

        write_tables(out, tables(trace for traces in answers.values() for trace in traces))
    if report is not None:
        from stillroom.report import build

        write_evaluation(report, f"{model} on {task}", task, answers, scores)
        build(report)
    result = next(iter(scores.values()))
    if as_json:
        shown = [one.model_dump(mode="json") for one in scores.values()]
        emit_json(shown if strategy and len(strategy) > 1 else shown[0])
        return
    emit(strategies_table(scores) if strategy else arms_table({"model": result}))
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

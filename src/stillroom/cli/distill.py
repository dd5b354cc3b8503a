"""`stillroom distill`: the main job."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from stillroom.errors import UserError


def distill(
    task: Annotated[
        str | None, typer.Option(help="NAME[:option=value], jsonl:FILE, hf:ID, gym:NAME or ./file.py:NAME.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="program, replay:FILE, openai:NAME@URL or local:PATH.")] = None,
    student: Annotated[str | None, typer.Option(help="proxy:NAME, a checkpoint folder, or a hub id.")] = None,
    method: Annotated[str | None, typer.Option(help="A core recipe or a method of `stillroom list`.")] = None,
    adapt: Annotated[
        str | None,
        typer.Option(help="What moves: full, lora[:rank=16], masked[:score=lift], freeze:PATTERN, groups:A,B."),
    ] = None,
    problems: Annotated[int | None, typer.Option(help="Training problems.")] = None,
    eval_problems: Annotated[int | None, typer.Option(help="Held-out problems.")] = None,
    samples: Annotated[int | None, typer.Option(help="Teacher responses per problem.")] = None,
    select: Annotated[str | None, typer.Option(help="Selection rules, e.g. correct,unique,shortest=2.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the selected traces.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per optimiser step.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer, of teacher and student.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the teacher.")] = None,
    chat_format: Annotated[
        str | None, typer.Option("--format", help="think, boxed, hash, plain or answer-only.")
    ] = None,
    chat_template: Annotated[Path | None, typer.Option(help="Jinja file that replaces the student's template.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="For files, WHAT=COLUMN: question, answer, id, level, options.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="For files: gsm8k, math, aqua, commonsenseqa, ifeval, protoqa, simplebench or plain."),
    ] = None,
    eval_file: Annotated[str | None, typer.Option(help="File with the held-out problems.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row of a file.")] = False,
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="US dollars per million prompt and completion tokens.")
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Never spend more on the server.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Never use more tokens of the server.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests in flight.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Folder that keeps the server's answers over runs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="config.yaml of an earlier run; flags given here go on top.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/distill-DATE-TIME.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try 20 problems; predict tokens, money, hours and memory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Distil a reasoning student: sample the teacher, verify, select, fine-tune, evaluate before and after.

    Example: stillroom distill --task arithmetic:high=4 --problems 800 --out runs/first
    """
    from stillroom.cli.show import arms_table, emit, emit_json, progress_bars
    from stillroom.lab.config import load_config, parse_config

    values: dict[str, Any] = load_config(config) if config else {}
    given = {
        "task": task,
        "teacher": teacher,
        "student": student,
        "method": method,
        "adapt": adapt,
        "problems": problems,
        "eval_problems": eval_problems,
        "samples": samples,
        "select": select,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "chat_format": chat_format,
        "chat_template": str(chat_template) if chat_template else None,
        "fields": _pairs(field) if field else None,
        "layout": layout,
        "eval_file": eval_file,
        "strict": strict or None,
        "price": _price(price),
        "budget_usd": budget_usd,
        "budget_tokens": budget_tokens,
        "concurrency": concurrency,
        "answers": str(answers) if answers else None,
        "seed": seed,
        "device": device,
        "tensorboard": tensorboard or None,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    training = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    values["train"] = {**values.get("train", {}), **{k: v for k, v in training.items() if v is not None}}
    settings = parse_config(values)
    folder = out or Path("runs") / f"distill-{datetime.now():%Y%m%d-%H%M%S}"

    if dry_run:
        from stillroom.lab.dry_run import dry_run as predict

        prediction = predict(settings, folder)
        emit_json(prediction.model_dump()) if as_json else emit(prediction.text())
        return

    from stillroom import workbench

    with progress_bars(quiet=as_json) as progress:
        result = workbench.distill(settings, folder, progress=progress)
    if as_json:
        emit_json(result.model_dump(mode="json"))
        return
    emit(arms_table(result.arms))
    emit("(the teacher's row is over the training problems)")
    for alarm in result.alarms:
        emit(f"{alarm.level}: {alarm.text}")
    emit(f"student: {result.student}")
    emit(f"report:  {folder / 'report.html'}")


def _pairs(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, separator, column = item.partition("=")
        if not separator or not column:
            raise UserError(f"--field {item!r} is not WHAT=COLUMN; for example --field question=prompt")
        found[name] = column
    return found


def _price(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        prices = [float(part) for part in text.split(",")]
    except ValueError:
        prices = []
    if len(prices) != 2 or min(prices) < 0:
        raise UserError(f"--price {text!r} is not IN,OUT in US dollars per million tokens; for example --price 0.3,1.2")
    return prices

"""`stillroom tasks …`: what tasks there are, what they look like, and whether their gold answers hold."""

import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="tasks", help="List tasks, look at problems, check gold answers.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Spec = Annotated[str, typer.Argument(metavar="TASK", help="NAME[:option=value], jsonl:FILE, gym:NAME, ./file.py:NAME.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the built-in tasks.

    Example: stillroom tasks list
    """
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.tasks import list_tasks

    found = list_tasks()
    if as_json:
        keys = ("name", "summary", "world", "levels", "source", "licence")
        emit_json([{key: getattr(info, key) for key in keys} for info in found])
        return
    rows = [["name", "levels", "source"]]
    for info in found:
        span = f"{min(info.levels)}-{max(info.levels)}" if info.levels else ""
        rows.append([info.name, span, info.source])
    lines = aligned(rows).splitlines()
    emit("\n".join([lines[0], *(f"{line}  {info.summary}" for line, info in zip(lines[1:], found, strict=True))]))


@app.command()
def sample(
    task: Spec,
    n: Annotated[int, typer.Option("--n", min=1, help="How many problems.")] = 3,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    render: Annotated[bool, typer.Option("--render", help="Also write each problem's picture as a PNG file.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures go.")] = Path("."),
    as_json: AsJson = False,
) -> None:
    """Show problems with their gold answers, and the solver's steps where the task has a solver.

    Example: stillroom tasks sample sudoku --n 2 --render
    """
    from stillroom.cli.show import emit, emit_json
    from stillroom.errors import unknown_name
    from stillroom.io import write_atomic
    from stillroom.seeds import derive_rng
    from stillroom.tasks import load_task
    from stillroom.tasks.base import Style

    if split not in ("train", "dev", "test"):
        raise unknown_name("split", split, ("train", "dev", "test"))
    found = load_task(task)
    problems = found.problems(split, n, seed)  # type: ignore[arg-type]
    pictures: dict[str, Path] = {}
    if render and found.render is not None:
        for problem in problems:
            pictures[problem.id] = out / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', problem.id)}.png"
            write_atomic(pictures[problem.id], found.render(problem))
    if as_json:
        emit_json([problem.model_dump(mode="json") for problem in problems])
        return
    for problem in problems:
        emit(f"── {problem.id}, level {problem.level}")
        emit("\n".join(message.content for message in problem.messages))
        for i, option in enumerate(problem.options):
            emit(f"({chr(65 + i)}) {option}")
        if found.solve is not None:
            emit(found.solve(problem, Style(), derive_rng("show", problem.id)).thought)
        emit(f"gold: {problem.reference}")
        if problem.id in pictures:
            emit(f"picture: {pictures[problem.id]}")
    if render and not pictures:
        emit(f"task {found.name!r} has no pictures: the text above is all that is asked")


@app.command()
def validate(
    task: Spec,
    n: Annotated[int, typer.Option("--n", min=1, help="How many problems.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Check that every gold answer scores full marks and a corrupted one does not; exit code 1 when not.

    Example: stillroom tasks validate arithmetic --n 500
    """
    from stillroom import tasks
    from stillroom.cli.show import emit, emit_json

    report = tasks.validate(tasks.load_task(task), n)
    if as_json:
        emit_json(report.model_dump())
    else:
        emit(
            f"{report.checked} problems: {report.gold_refused} gold answers refused, "
            f"{report.corrupted_accepted} wrong answers accepted, {report.uncorrupted} without a wrong answer to try"
        )
        for line in report.failures:
            emit(line)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def digest(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help="These; default: all built-in.")
    ] = None,
) -> None:
    """Print hashes of each task's first 10 and first 100 problems as JSON, so that a generator's change is seen.

    Example: stillroom tasks digest arithmetic facts
    """
    from stillroom.cli.show import emit_json
    from stillroom.errors import UserError
    from stillroom.tasks import list_tasks, load_task
    from stillroom.tasks.checks import first_digest

    found = {}
    for name in names or [info.name for info in list_tasks()]:
        try:
            task = load_task(name)
        except UserError as error:  # a data set that is not here
            if names:
                raise
            typer.echo(f"{name} left out: {error}", err=True)
            continue
        found[name] = f"{first_digest(task, 10)} {first_digest(task, 100)}"
    emit_json(found)

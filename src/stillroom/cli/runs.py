"""`stillroom run`, `resume` and `view`: experiments and run folders."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def run(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Name, alias or number; or ./my_method.py.")],
    preset: Annotated[str, typer.Option(help="smoke (seconds) or proxy (minutes).")] = "proxy",
    arms: Annotated[str | None, typer.Option(help="Comma-separated names, or all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, help="Seeds at the same time, a process each; 0: in this one.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/METHOD-DATE-TIME.")] = None,
    publish: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the claim file here, as in results/claims.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a method's experiment: arms, equal budgets, seeds, and a verdict by the declared rule.

    Example: stillroom run dart-math --preset smoke
    """
    from stillroom import workbench
    from stillroom.cli.show import progress_bars

    folder = out or Path("runs") / f"{Path(method).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    with progress_bars(quiet=as_json) as progress:
        result = workbench.experiment(
            method, folder, preset=preset, arms=arms, seeds=seeds, jobs=jobs, progress=progress
        )
    if publish is not None:
        workbench.publish(folder, publish)
    _show_experiment(result, as_json)


def resume(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that was cut off.")],
    as_json: AsJson = False,
) -> None:
    """Continue a run that was cut off; the numbers equal those of an uninterrupted run.

    Example: stillroom resume runs/first
    """
    from stillroom import workbench
    from stillroom.cli.show import arms_table, emit, emit_json, progress_bars
    from stillroom.lab.distill import DistillResult

    with progress_bars(quiet=as_json) as progress:
        result = workbench.resume(folder, progress=progress)
    if not isinstance(result, DistillResult):
        _show_experiment(result, as_json)
    elif as_json:
        emit_json(result.model_dump(mode="json"))
    else:
        emit(arms_table(result.arms))
        emit(f"report:  {folder / 'report.html'}")


def view(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: AsJson = False,
) -> None:
    """Build the report of a run again and say where it is; works for unfinished runs too.

    Example: stillroom view runs/first
    """
    from stillroom.cli.show import emit, emit_json
    from stillroom.report import build

    path = build(folder)
    emit_json({"report": str(path)}) if as_json else emit(
        f"{path}  (every trace: stillroom traces view {folder}/traces)"
    )


def _show_experiment(result: "object", as_json: bool) -> None:
    from stillroom.cli.show import emit, emit_json
    from stillroom.lab.experiment import ExperimentResult

    assert isinstance(result, ExperimentResult)
    if as_json:
        emit_json(result.model_dump(mode="json"))
        return
    emit(result.table())

"""The main jobs as Python calls: what the command line does, without the printing.

from stillroom import DistillConfig, distill
result = distill(DistillConfig(task="arithmetic", problems=1200), "runs/first")
print(result.arms["student"].accuracy.value, result.gain)
"""

from pathlib import Path

from stillroom.errors import UserError
from stillroom.io import write_json
from stillroom.lab.config import DistillConfig, load_config, parse_config
from stillroom.lab.distill import DistillResult, run_distill
from stillroom.lab.experiment import ExperimentResult, claim_file, run_experiment
from stillroom.lab.run import Run, command_line
from stillroom.lab.still import Progress, no_progress
from stillroom.methods.registry import get_experiment, get_recipe
from stillroom.report import build


def distill(config: DistillConfig, out: str | Path, *, progress: Progress = no_progress) -> DistillResult:
    """Distil a student into the new run folder `out`.

    Raises:
        UserError: `out` holds a run already; a task, teacher, student or method that does not exist or does not fit.
        BudgetExceeded: before the first request that could cost more than what is left.
        TrainingStopped: nothing to train on, or a loss that is not finite.
    """
    recipe = get_recipe(config.method)
    if recipe.kind != "model":
        raise UserError(
            f"method {recipe.name!r} makes a {recipe.kind}, not a model; see `stillroom show {recipe.name}`"
        )
    values = config.model_dump(mode="json", exclude_none=True)
    run = Run.create(Path(out), kind="distill", config=values, command=command_line(), seeds=[config.seed])
    try:
        return _work(run, config, progress)
    except UserError:
        if not run.stages():
            run.discard()
        raise
    finally:
        run.close()


def resume(folder: str | Path, *, progress: Progress = no_progress) -> DistillResult | ExperimentResult:
    """Continue a run that was cut off; the result equals that of an uninterrupted one."""
    run, values = Run.open(Path(folder))
    try:
        kind = values.pop("kind", None)
        if kind == "experiment":
            return _experiment(run, values, progress)
        if kind != "distill":
            raise UserError(f"{folder} holds a run of kind {kind!r}, which cannot be resumed")
        return _work(run, parse_config(values), progress)
    finally:
        run.close()


def experiment(
    method: str,
    out: str | Path,
    *,
    preset: str = "proxy",
    arms: str | None = None,
    seeds: int = 1,
    jobs: int = 1,
    progress: Progress = no_progress,
) -> ExperimentResult:
    """Run a method's experiment into the new run folder `out`.

    Args:
        method: name, alias or number, or the path of a page of your own.
        preset: ``smoke`` (seconds, for tests) or ``proxy``.
        arms: comma-separated names, ``all``, or None for the page's default arms.
        seeds: number of seeds, from 0.
        jobs: seeds that run at the same time, each in a process of its own; 0: in this process.
    """
    values: dict[str, object] = {"method": method, "preset": preset, "arms": arms, "seeds": seeds, "jobs": jobs}
    get_experiment(method)
    run = Run.create(Path(out), kind="experiment", config=values, command=command_line(), seeds=list(range(seeds)))
    try:
        return _experiment(run, values, progress)
    except UserError:
        if not any(run.folder.glob("seed-*")):
            run.discard()
        raise
    finally:
        run.close()


def publish(folder: Path, target: Path) -> None:
    """Write the claim file of a finished experiment, as it stands in `results/claims`."""
    values = load_config(folder / "config.yaml")
    write_json(target, claim_file(folder, get_experiment(str(values["method"]))))


def _work(run: Run, config: DistillConfig, progress: Progress) -> DistillResult:
    result = run_distill(run, config, get_recipe(config.method).run, progress)
    progress("report", 0, 1)
    build(run.folder)
    progress("report", 1, 1)
    return result


def _experiment(run: Run, values: dict[str, object], progress: Progress) -> ExperimentResult:
    page = get_experiment(str(values["method"]))
    result = run_experiment(
        run,
        page,
        preset=str(values["preset"]),
        arms=None if values["arms"] is None else str(values["arms"]),
        seeds=int(str(values["seeds"])),
        jobs=int(str(values["jobs"])),
        progress=progress,
    )
    build(run.folder)
    return result

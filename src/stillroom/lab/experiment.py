"""What an experiment runs in: arms on shared problems and a shared pool, seeds as processes, contrasts, a verdict."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from stillroom.chat import get_format
from stillroom.errors import UserError, unknown_name
from stillroom.io import read_json, write_json
from stillroom.lab.contrast import Compared, Contrast, Outcomes, Verdict, compare, overall
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.run import Run
from stillroom.lab.still import Progress, Still, no_progress
from stillroom.learn.training import TrainConfig
from stillroom.models.policy import load_policy, resolve_student
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.samplers.program import ProgramSampler
from stillroom.tasks import load_task
from stillroom.tasks.base import Style, majority_baseline
from stillroom.traces import store
from stillroom.types import Noun, Trace

TOLD = ("peak_context", "valid_steps")
"""Metrics that a trace's `meta` tells."""


class Gate(Noun):
    """A condition under which the comparison means anything; a failed gate makes the claim void."""

    name: str
    value: float
    low: float
    high: float

    @property
    def ok(self) -> bool:
        return self.low <= self.value <= self.high


def floor_gate(still: Still, scores: Mapping[str, ArmScore], *, arm: str | None = None, ceiling: float = 1.0) -> Gate:
    """An arm must have learned the task: 0.1 above always giving the most frequent answer.

    Args:
        arm: which; None: the weakest.
        ceiling: of that accuracy, above which there would be nothing left to gain.
    """
    floor = (majority_baseline(still.test) or 0.0) + 0.1
    reached = {name: score.accuracy.value or 0.0 for name, score in scores.items()}
    value = min(reached.values()) if arm is None else reached[arm]
    return Gate(name=f"accuracy of {arm or 'the weakest arm'}", value=value, low=floor, high=ceiling)


def pass_rate_gate(traces: Sequence[Trace], level: int, low: float, high: float) -> Gate:
    """The teacher's pass rate at one level must lie in a band, or there is no difficulty to be aware of."""
    judged = [t.verdict.correct for t in traces if t.level == level and t.verdict and t.verdict.correct is not None]
    rate = sum(judged) / max(1, len(judged))
    return Gate(name=f"teacher's pass rate at level {level}", value=rate, low=low, high=high)


@dataclass(frozen=True)
class Setup:
    """One size of an experiment."""

    arms: Mapping[str, Callable[[Still], Path | Sampler]]
    """Name → recipe, which returns a model or a way to answer (a sampler made of samplers); they differ in one
    thing."""
    problems: int
    eval_problems: int
    dev_problems: int
    train: TrainConfig = field(default_factory=TrainConfig)
    lr_trials: tuple[float, ...] = ()
    """Learning rates that every arm tries; each keeps the one that is best on dev. Empty: the configuration's own."""
    measure: Measure = field(default_factory=Measure)
    """The main measurement of every arm."""
    measures: tuple[Measure, ...] = ()
    """Further ones, each with a name."""


@dataclass(frozen=True)
class Experiment:
    """A page's experiment. Everything that decides the verdict is declared here, before anything runs."""

    number: int | None
    name: str
    home: str
    """The page's ``__name__``, or the path of a page of your own; seeds are processes that import it again."""
    task: str
    teacher: str
    """``program`` or ``proxy:NAME``."""
    student: str | None
    """None: no arm trains or asks a student."""
    params: SamplingParams
    presets: Mapping[str, Setup]
    default_arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    gates: Callable[[Still, Mapping[str, ArmScore]], list[Gate]]
    style: Style | None = None
    """How the program teacher writes."""
    chat_format: str = "think"
    budget: str = ""
    """What the arms share and what is matched, in words."""
    proxy_note: str = ""
    """Why the proxy may differ from the paper."""


class ArmResult(Noun):
    """One arm in one seed."""

    score: ArmScore
    measures: dict[str, ArmScore] = Field(default_factory=dict)
    """Further measurements by name."""
    lr: float | None = None
    """None: this arm trains nothing itself."""
    trials: dict[str, float | None] = Field(default_factory=dict)
    """Learning rate → accuracy on dev."""
    trained_tokens: int = 0
    updates: int = 0
    training: dict[str, Any] = Field(default_factory=dict)
    """Objective, choice of weights, first and last diagnostics of the chosen checkpoint."""
    alarms: dict[str, str] = Field(default_factory=dict)
    """Learning rate → the alarm of that trial."""
    account: dict[str, Any]
    """What the arm's data cost and how it covers the problems."""


class SeedResult(Noun):
    seed: int
    arms: dict[str, ArmResult]
    gates: tuple[Gate, ...]
    majority_baseline: float | None
    cpu_s: float
    wall_s: float


class ExperimentResult(Noun):
    """What `stillroom run` measured; written to ``result.json``."""

    method: str
    number: int | None
    preset: str
    verdict: Verdict
    claims: tuple[Compared, ...]
    gates: tuple[Gate, ...]
    seeds: tuple[SeedResult, ...]

    def table(self) -> str:
        """Arms with their accuracy over all seeds, contrasts, gates and the verdict, as text."""
        lines = []
        for name in self.seeds[0].arms:
            values = [s.arms[name].score.accuracy.value or 0.0 for s in self.seeds]
            shown = ", ".join(f"{100 * value:.1f}" for value in values)
            lines.append(f"{name:<24} {100 * sum(values) / len(values):5.1f} %   by seed: {shown}")
        for found in self.claims:
            low, high = found.interval
            lines.append(f"{found.verdict}: {found.text}: {found.effect:+.3f} [{low:+.3f}, {high:+.3f}]")
        for gate in self.gates:
            state = "holds" if gate.ok else "FAILED"
            lines.append(f"gate {state}: {gate.name}: {gate.value:.3f} in [{gate.low:.3f}, {gate.high:.3f}]")
        cpu = max(s.cpu_s for s in self.seeds)
        return "\n".join([*lines, f"verdict: {self.verdict} ({len(self.seeds)} seeds, at most {cpu:.0f} CPU-s a seed)"])


def run_experiment(
    run: Run,
    page: Experiment,
    *,
    preset: str,
    arms: str | None,
    seeds: int,
    jobs: int,
    progress: Progress = no_progress,
) -> ExperimentResult:
    """Run the arms of a page in every seed, each seed a process, and judge the contrasts.

    Args:
        jobs: seeds at the same time, a process each; 0: one after the other in this process, for tests and debuggers.

    Raises UserError for an unknown preset or arm. Seeds that are finished are not run again.
    """
    if preset not in page.presets:
        raise unknown_name("preset", preset, page.presets)
    known = page.presets[preset].arms
    chosen = list(known) if arms == "all" else arms.split(",") if arms else list(page.default_arms)
    for arm in chosen:
        if arm not in known:
            raise unknown_name("arm", arm, known)
    contrasts = [c for c in page.contrasts if {c.arm, c.over} <= set(chosen)]
    if not contrasts:
        raise UserError(f"arms {','.join(chosen)} leave no contrast to judge; try --arms all")
    work = [(page.home, preset, tuple(chosen), seed, str(run.folder / f"seed-{seed}")) for seed in range(seeds)]
    progress("seeds", 0, seeds)
    # Threads of one process starve each other on few cores: one process a seed, one torch thread each.
    if jobs:
        with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as pool:
            for done, future in enumerate(as_completed([pool.submit(_seed, *args) for args in work]), start=1):
                future.result()
                progress("seeds", done, seeds)
    else:
        for done, args in enumerate(work, start=1):
            _seed(*args)
            progress("seeds", done, seeds)
    results = [
        SeedResult.model_validate(read_json(run.folder / f"seed-{seed}" / "result.json")) for seed in range(seeds)
    ]
    folders = [run.folder / f"seed-{seed}" / "evals" for seed in range(seeds)]
    compared = [
        compare(c, {arm: [_outcomes(folder, c, arm) for folder in folders] for arm in (c.arm, c.over)})
        for c in contrasts
    ]
    gates = [gate for result in results for gate in result.gates]
    result = ExperimentResult(
        method=page.name,
        number=page.number,
        preset=preset,
        verdict=overall(compared, gates=[gate.ok for gate in gates]),
        claims=tuple(compared),
        gates=tuple(gates),
        seeds=tuple(results),
    )
    write_json(run.folder / "result.json", {**result.model_dump(mode="json"), **_for_report(page, result)})
    return result


def _seed(home: str, preset: str, arms: Sequence[str], seed: int, folder: str) -> None:
    """One seed in a process of its own; picks up where a killed one stopped."""
    import torch

    torch.set_num_threads(1)
    _end_with_parent()
    page = load_page(home)
    path = Path(folder)
    if (path / "result.json").exists():
        return
    if (path / "config.yaml").exists():
        run, _ = Run.open(path)
    else:
        config = {"method": page.name, "preset": preset, "arms": ",".join(arms), "seed": seed}
        run = Run.create(path, kind="seed", config=config, command=["seed", str(seed)], seeds=[seed])
    wall, cpu = time.perf_counter(), time.process_time()
    setup = page.presets[preset]
    still = _still(run, page, setup, seed)
    results: dict[str, ArmResult] = {}
    for arm in arms:
        still.arm = arm
        results[arm] = _arm(run, still, setup, arm)
    scores = {arm: result.score for arm, result in results.items()}
    result = SeedResult(
        seed=seed,
        arms=results,
        gates=tuple(page.gates(still, scores)),
        majority_baseline=majority_baseline(still.test),
        cpu_s=time.process_time() - cpu + run.seconds(earlier=True)["cpu_s"],
        wall_s=time.perf_counter() - wall + run.seconds(earlier=True)["wall_s"],
    )
    write_json(path / "result.json", result.model_dump(mode="json"))
    run.close()


def _arm(run: Run, still: Still, setup: Setup, arm: str) -> ArmResult:
    """Run one arm, or read back what it left, and measure it."""
    model = setup.arms[arm](still)  # or a way to answer
    found = still.measure(model, name=arm, how=setup.measure)
    further = {how.name: still.measure(model, name=f"{arm}.{how.name}", how=how) for how in setup.measures}
    trained = run.result_of(f"train:{arm}") or {}
    rates = trained.get("trials") or ()
    trials = {rate: run.result_of(f"trial:{arm}-{rate}") or {} for rate in rates}
    return ArmResult(
        score=found,
        measures=further,
        lr=trained.get("lr"),
        trials=trained.get("trials", {}),
        trained_tokens=trained.get("trained_tokens", 0),
        updates=trained.get("steps", 0),
        training={key: trained[key] for key in ("objective", "adapt", "logp_start", "diagnostics") if key in trained},
        alarms={rate: trial["alarm"] for rate, trial in trials.items() if trial.get("alarm")},
        account=run.result_of(f"account:{arm}") or {},
    )


def _end_with_parent() -> None:
    """A seed whose experiment was killed must not go on working, holding its run folder."""
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _still(run: Run, page: Experiment, setup: Setup, seed: int) -> Still:
    task = load_task(page.task)
    student = resolve_student(page.student) if page.student else ""
    chat_format = get_format(page.chat_format)
    if page.teacher == "program":
        teacher: Any = ProgramSampler(task, page.style, chat_format)
    else:
        teacher = LocalSampler(load_policy(resolve_student(page.teacher)))
    return Still(
        run=run,
        task=task,
        problems=task.problems("train", setup.problems, seed),
        dev=task.problems("dev", setup.dev_problems, 0),
        test=task.problems("test", setup.eval_problems, 0),
        teacher=teacher,
        student=student,
        chat_format=chat_format,
        params=page.params,
        train_config=setup.train,
        select_rules="correct,finished",
        seed=seed,
        lr_trials=setup.lr_trials,
        recipe=page.name,
    )


def load_page(home: str) -> Experiment:
    """The `experiment` of a page, by module name or by the path of a page of your own."""
    if home.endswith(".py"):
        spec = spec_from_file_location(Path(home).stem, home)
        if spec is None or spec.loader is None or not Path(home).is_file():
            raise UserError(f"there is no page {home}")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = import_module(home)
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        raise UserError(f"{home} has no `experiment`; a page defines experiment = Experiment(...)")
    return found


def _outcomes(folder: Path, contrast: Contrast, arm: str) -> Outcomes:
    """What a contrast looks at, per problem: the mean over a problem's judged answers."""
    measure, _, metric = contrast.metric.rpartition(":")
    name = f"{arm}.{measure}" if measure else arm if contrast.at_lr is None else f"dev-{arm}-{contrast.at_lr:g}"
    column = {
        "accuracy": pl.col("correct").mean(),
        "solved": pl.col("correct").any().cast(pl.Float64),
        "tokens": pl.col("completion_tokens").mean(),
        **{name: pl.col(name).mean() for name in TOLD},
    }
    if metric not in column:
        raise unknown_name("metric", metric, column)
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise UserError(
            f"contrast {contrast.text!r} compares {contrast.metric!r} of {name!r}, which was not measured; an "
            "experiment declares further measurements and learning-rate trials in its Setup"
        )
    told = [pl.col("meta").str.json_path_match(f"$.{name}").cast(pl.Float64).alias(name) for name in TOLD]
    found = store.scan(path).select("problem_id", "level", "correct", "completion_tokens", *told)
    by_problem = found.drop_nulls("correct").group_by("problem_id")
    frame = by_problem.agg(pl.col("level").first(), column[metric].alias("value")).drop_nulls("value").collect()
    return Outcomes(
        values=dict(frame.select("problem_id", "value").iter_rows()),
        level=dict(frame.select("problem_id", "level").iter_rows()),
    )


def _for_report(page: Experiment, result: ExperimentResult) -> dict[str, Any]:
    """The same result in the words of the report (docs/report.md)."""
    arms = [
        {**found.model_dump(mode="json"), "name": label, "seed": seed.seed}
        for name in result.seeds[0].arms
        for seed in result.seeds
        for label, found in (
            (name, seed.arms[name].score),
            *((f"{name} ({measure})", found) for measure, found in seed.arms[name].measures.items()),
        )
    ]
    totals = [arm for seed in result.seeds for arm in seed.arms.values()]
    return {
        "kind": "experiment",
        "title": f"{page.name}: {result.verdict}",
        "task": page.task,
        "arms": arms,
        "cost": {
            "trained_tokens": sum(arm.trained_tokens for arm in totals),
            "updates": sum(arm.updates for arm in totals),
            "cpu_s": sum(seed.cpu_s for seed in result.seeds),
            "wall_s": sum(seed.wall_s for seed in result.seeds),
        },
        "alarms": [
            *(
                {
                    "level": "error",
                    "text": f"gate failed: {g.name} is {g.value:.3f}, not in [{g.low:.3f}, {g.high:.3f}]",
                }
                for g in result.gates
                if not g.ok
            ),
            *(
                {"level": "warning", "text": f"{name}, seed {seed.seed}, learning rate {rate}: {alarm}"}
                for seed in result.seeds
                for name, arm in seed.arms.items()
                for rate, alarm in arm.alarms.items()
            ),
        ],
    }


def claim_file(folder: Path, page: Experiment) -> dict[str, Any]:
    """The published claim of a finished experiment (`results/claims/NN-name.json`)."""
    path = folder / "result.json"
    if not path.is_file():
        raise UserError(f"{folder} has no result yet; continue it with `stillroom resume {folder}`")
    result = read_json(path)
    about = read_json(folder / "manifest.json")
    cpu, wall = ([seed[key] for seed in result["seeds"]] for key in ("cpu_s", "wall_s"))
    return {
        "method": page.name,
        "number": page.number,
        "verdict": result["verdict"],
        "claims": [
            {**c, "signs": ["+" if e > 0 else "-" if e < 0 else "0" for e in c["seeds"]]} for c in result["claims"]
        ],
        "gates": result["gates"],
        "seeds": [seed["seed"] for seed in result["seeds"]],
        "arms": {
            name: [
                {
                    key: seed["arms"][name][key]
                    for key in (
                        *("score", "measures", "lr", "trials", "trained_tokens", "updates"),
                        *("training", "alarms", "account"),
                    )
                }
                for seed in result["seeds"]
            ]
            for name in result["seeds"][0]["arms"]
        },
        "majority_baseline": result["seeds"][0]["majority_baseline"],
        "budget": page.budget,
        "proxy_note": page.proxy_note,
        "preset": result["preset"],
        "command": about["command"],
        "commit": about["commit"],
        "hardware": about["hardware"],
        "versions": about["versions"],
        "cpu_s": sum(cpu),
        "wall_s": sum(wall),
        "cpu_s_by_seed": cpu,
        "wall_s_by_seed": wall,
    }

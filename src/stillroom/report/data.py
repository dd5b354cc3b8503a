"""What a report shows, and how it is read from a run folder.

Every part may be absent, because a run may have stopped anywhere; what is there must have the right types.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from stillroom.errors import DataError, UserError
from stillroom.report.sawtooth import Context, read_contexts
from stillroom.report.views import TRACES, Shelf, TraceView, sample_views


class Part(BaseModel):
    """Frozen; keys that this version does not know are passed over, so that a newer run folder can still be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _known(value: Any) -> Any:
    """NaN and infinity measure nothing: None."""
    parts = value if isinstance(value, list | tuple) else [value]
    finite = all(not isinstance(part, float) or math.isfinite(part) for part in parts)
    return value if finite else None


Real = Annotated[float | None, BeforeValidator(_known)]


class Estimate(Part):
    """A share or mean with its interval and the number of cases behind it."""

    value: Real = None
    low: Real = None
    high: Real = None
    n: int | None = None


class Tokens(Part):
    """Tokens per answer."""

    mean: Real = None
    p50: Real = None
    p90: Real = None


class Peak(Part):
    """Of what a model had before it at once, in tokens."""

    mean: Real = None
    max: Real = None


class Arm(Part):
    """What one arm measured, in one seed if it says which."""

    name: str
    seed: int | None = None
    accuracy: Estimate = Estimate()
    by_level: dict[str, Estimate] = Field(default_factory=dict)
    tokens: Tokens = Tokens()
    calls: Real = None
    """Of a model, per answer."""
    peak_context: Peak | None = None
    truncated: Real = None
    format_failures: Real = None
    unjudged: int | None = None
    """Answers without a verdict; they are in no mean."""
    majority_baseline: Real = None


class Cost(Part):
    """The budget vector of the whole run."""

    teacher_tokens: Real = None
    student_tokens: Real = None
    trained_tokens: Real = None
    updates: Real = None
    flops: Real = None
    usd: Real = None
    cpu_s: Real = None
    wall_s: Real = None


class Selection(Part):
    """Traces before and after selection, and why the others went."""

    input: int | None = None
    kept: int | None = None
    dropped: dict[str, int] = Field(default_factory=dict)


class Alarm(Part):
    level: Literal["warning", "error"] = "warning"
    text: str
    step: int | None = None


class Claim(Part):
    """One contrast and what became of it."""

    text: str = ""
    verdict: str | None = None
    metric: str | None = None
    kind: str | None = None
    at_lr: Real = None
    arms: tuple[str, ...] = ()
    effect: Real = None
    interval: Annotated[tuple[float, float] | None, BeforeValidator(_known)] = None
    seeds: tuple[float | str, ...] = Field((), validation_alias=AliasChoices("seeds", "signs"))
    """The effect in each seed, or only its sign as ``+``, ``-`` or ``0``."""

    @property
    def measured(self) -> str:
        """The metric in words: where it is not the arm's best on test, and whether it is a saving."""
        where = "" if self.at_lr is None else f" on dev at rate {self.at_lr:g}"
        return f"{self.metric or ''}{' saved' if self.kind == 'saving' else ''}{where}"

    @property
    def percent(self) -> bool:
        """Whether the effect is a difference of shares, or a share itself."""
        return self.kind == "saving" or (self.metric or "").rpartition(":")[2] in ("accuracy", "solved")


class Result(Part):
    """`result.json`."""

    kind: str | None = None
    title: str | None = None
    task: str | None = None
    arms: tuple[Arm, ...] = ()
    cost: Cost = Cost()
    selection: Selection | None = None
    alarms: tuple[Alarm, ...] = ()
    claims: tuple[Claim, ...] = ()
    verdict: str | None = None


class Curve(NamedTuple):
    """One metric of one arm and seed: points ``(step, value)`` by rising step."""

    stage: str
    metric: str
    arm: str
    seed: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ReportData:
    """All that the report is made from."""

    name: str
    finished: bool = False
    result: Result = field(default_factory=Result)
    curves: tuple[Curve, ...] = ()
    config: str = ""
    """The resolved configuration, as YAML text."""
    manifest: dict[str, JsonValue] = field(default_factory=dict)
    traces: tuple[TraceView, ...] = ()
    n_traces: int = 0
    """How many traces the run has; `traces` is a sample of them."""
    contexts: tuple[Context, ...] = ()
    """Of one problem and seed, arm by arm, where answers took several calls."""
    pass_rates: tuple[float, ...] = ()
    """Per problem: the share of its judged traces that are correct."""
    alarms: tuple[Alarm, ...] = ()
    """Found while reading, beside those that the run itself raised."""


def load(run_folder: Path) -> ReportData:
    """Read a run folder, finished or not.

    Raises:
        UserError: no such folder. DataError: a file in it has the wrong form; the message names it.
    """
    folder = Path(run_folder)
    if not folder.is_dir():
        raise UserError(f"no run folder at {str(folder)!r}; give the folder that a run has written")
    result, finished = Result(), (folder / "result.json").exists()
    if finished:
        try:
            result = Result.model_validate(_json_object(folder / "result.json"))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{folder / 'result.json'}: {place}: {first['msg']}") from error
    manifest = _json_object(folder / "manifest.json") if (folder / "manifest.json").exists() else {}
    config = folder / "config.yaml"
    curves, alarms, shelves = [], [], []
    contexts: tuple[Context, ...] = ()
    # An experiment keeps each seed as a run folder of its own inside it.
    for part in [folder, *sorted(folder.glob("seed-*/"))]:
        contexts = contexts or read_contexts(part)
        seed = "" if part == folder else part.name.removeprefix("seed-")
        found, raised = read_curves(part / "metrics.jsonl", seed)
        curves += found
        alarms += raised
        shelves += _shelves(part, f"seed {seed}: " if seed else "")
    sample = sample_views(shelves)
    return ReportData(
        name=folder.resolve().name,
        finished=finished,
        result=result,
        curves=tuple(curves),
        config=config.read_text(encoding="utf-8", errors="replace") if config.exists() else "",
        manifest=manifest,
        traces=sample.views,
        n_traces=sample.total,
        contexts=contexts,
        pass_rates=sample.pass_rates,
        alarms=tuple(alarms),
    )


def _json_object(path: Path) -> dict[str, JsonValue]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__} where an object belongs")
    return value


def _shelves(folder: Path, prefix: str) -> list[Shelf]:
    """The shards of a run folder; names that start with a dot are the run's own bookkeeping."""
    found = [(TRACES, path) for path in sorted(folder.glob("traces/*.parquet"))]
    found += [(f"eval {path.stem}", path) for path in sorted(folder.glob("evals/*.parquet"))]
    return [Shelf(prefix + name, path) for name, path in found if not path.name.startswith(".")]


_LABELS = ("stage", "arm", "seed", "step")


def read_curves(path: Path, seed: str = "") -> tuple[list[Curve], list[Alarm]]:
    """The curves of a `metrics.jsonl` and alarms for what could not be drawn: lines torn by a kill, NaN, infinity.

    Args:
        seed: the seed of rows that do not name theirs.
    """
    points: dict[tuple[str, str, str, str], dict[float, float]] = {}
    torn = 0
    not_finite: Counter[str] = Counter()
    first_step: dict[str, float] = {}
    if not path.exists():
        return [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                torn += 1
                continue
            step = _number(row.get("step")) if isinstance(row, dict) else None
            if step is None or not math.isfinite(step):
                continue
            stage, arm, own = (str(row[key]) if row.get(key) is not None else "" for key in _LABELS[:3])
            for metric, given in row.items():
                value = None if metric in _LABELS else _number(given)
                if value is None:
                    continue
                if math.isfinite(value):
                    points.setdefault((stage, metric, arm, own or seed), {})[step] = value
                else:
                    not_finite[metric] += 1
                    first_step.setdefault(metric, step)
    where = f"seed {seed}: " if seed else ""
    alarms = [
        Alarm(
            level="error",
            text=f"{where}{metric}: {count} value{'s were' if count > 1 else ' was'} not a finite number (not drawn)",
            step=int(first_step[metric]),
        )
        for metric, count in not_finite.items()
    ]
    if torn:
        alarms.append(Alarm(text=f"{where}{path.name}: {torn} line{'s' if torn > 1 else ''} could not be read"))
    curves = (Curve(*key, tuple(sorted(drawn.items()))) for key, drawn in points.items())
    return [curve for curve in curves if len(curve.points) > 1], alarms


def _number(value: Any) -> float | None:
    """As a float; None for what is no number. A magnitude that no axis can hold counts as infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) < 1e30:
        return math.nan if value != value else math.inf
    return float(value)

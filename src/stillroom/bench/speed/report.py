"""The page of speed: tables made from the files in `results/speed/`, so that no figure is written by hand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillroom.errors import DataError
from stillroom.io import read_json
from stillroom.report.board import cell

_HEAD = """# Speed

How fast Stillroom is beside the libraries that people use for the same work: same weights, data and tokens, every side
in a process of its own with one thread, one round each in turn, the order turned round every time. A ratio is taken
within a round, in CPU seconds, and the median over the rounds counts; where a peer has several settings, the fastest
is the one that we are compared with, and all are shown. Sides that disagree on what they computed (first loss, tokens
read, lengths) stop the measurement.

Run it again from a checkout; without `--only` every bar is measured:

```bash
make peers
stillroom bench speed --only sft-trl --rounds 5 --out results/speed
```

Each result is the file that its command wrote, `results/speed/BAR.json`. Tiny models measure what a framework costs;
nothing here foretells a GPU.
"""
_COUNTED = """
## Operations

Counted, not estimated from time: 6 N per token that is read or trained, with N all weights and the tied embedding once,
plus 6 d L² per row of L tokens and layer for causal attention of width d; DPO reads every token once more for the
reference, a third on top; 2 N per sampled token, reading the prompt not counted. A share is of `torch.mm` in float32 on
one thread, 2048 × 2048 × 2048, and of the same at the model's own shapes.
"""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SideResult(_Part):
    """One side over all rounds: medians, and the ratio of our rate to its rate within each round."""

    label: str
    counts: bool
    rate: float = Field(gt=0)
    rate_wall: float = Field(gt=0)
    ratio: float = Field(gt=0)
    ratio_wall: float = Field(gt=0)
    ratios: tuple[float, ...] = Field(min_length=1)
    amount: float = Field(gt=0)
    cpu_s: float = Field(gt=0)
    wall_s: float = Field(gt=0)
    peak_mb: float = Field(gt=0)


class _Result(_Part):
    """What every file in `results/speed/` says."""

    bar: str
    title: str
    kind: Literal["pass", "aim"]
    target: float
    unit: str
    ours: float = Field(gt=0)
    passed: bool
    command: str
    commit: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]


class BarResult(_Result):
    """A comparison with peers: ratios and rates."""

    aim: float | None
    least_ours: float | None
    """Rate of ours that is asked for too."""
    ratio: float = Field(gt=0)
    ratio_wall: float = Field(gt=0)
    peer: float = Field(gt=0)
    peer_label: str
    flop_per_unit: float | None
    rounds: int = Field(ge=1)
    sides: tuple[SideResult, ...] = Field(min_length=2)
    """Ours first."""
    limit: str
    peer_versions: Mapping[str, str]


class OwnResult(_Result):
    """A bar without a peer: seconds, or times the seconds of a smaller job, of which `target` is the most."""

    wall_s: float = Field(gt=0)
    cpu_s: float = Field(gt=0)
    peak_gb: float = Field(gt=0)


def read_results(folder: Path) -> list[BarResult | OwnResult]:
    """Every result of a folder by name; raises DataError, naming the file, when one has another form."""
    found: list[BarResult | OwnResult] = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_json(path)
            form = BarResult if "sides" in content else OwnResult
            found.append(form.model_validate(content))
        except (ValidationError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no result of `stillroom bench`: {error}") from error
    return found


def page(folder: Path) -> str:
    """The page as Markdown."""
    found = read_results(folder)
    if not found:
        return f"{_HEAD}\nNo figures are published yet.\n"
    bars = [result for result in found if isinstance(result, BarResult)]
    own = [result for result in found if isinstance(result, OwnResult)]
    parts = [_HEAD]
    if bars:
        parts += ["## Beside peers\n", _bars(bars), _limits(bars)]
    if any(result.flop_per_unit for result in bars):
        parts += [_COUNTED, _operations(bars)]
    if own:
        parts += ["\n## Large jobs\n", _own(own)]
    if bars:
        parts += ["\n## Every side\n", *(_sides(result) for result in bars)]
    return "\n".join([*parts, "\n## Made with\n", *_made_with(found)]) + "\n"


def _bars(results: Sequence[BarResult]) -> str:
    rows = [
        [
            f"`{result.bar}`",
            cell(result.title),
            _number(result.ours),
            _number(result.peer),
            cell(result.unit),
            f"**{result.ratio:.2f}**",
            f"{result.ratio_wall:.2f}",
            f"{result.target:g}",
            "" if result.aim is None else f"{result.aim:g}",
            _verdict(result),
        ]
        for result in results
    ]
    head = ("bar", "what", "ours", "fastest peer", "unit", "ratio", "on the clock", "target", "aim", "verdict")
    return _table(head, rows, numbers=(2, 3, 5, 6, 7, 8))


def _verdict(result: BarResult) -> str:
    if result.kind == "aim":
        return "aim reached" if result.ratio >= result.target else "aim not reached"
    asked = "" if result.least_ours is None else f" (ours at least {_number(result.least_ours)})"
    return ("passed" if result.passed else "**missed**") + asked


def _own(results: Sequence[OwnResult]) -> str:
    rows = [
        [
            f"`{result.bar}`",
            cell(result.title),
            _number(result.ours),
            f"{result.target:g}",
            cell(result.unit),
            f"{result.wall_s:,.0f}",
            f"{result.cpu_s:,.0f}",
            f"{result.peak_gb:.2f}",
            "passed" if result.passed else "**missed**",
            f"`{result.command}`",
        ]
        for result in results
    ]
    head = ("bar", "what", "ours", "target", "unit", "wall s", "CPU s", "peak GB", "verdict", "command")
    return _table(head, rows, numbers=(2, 3, 5, 6, 7))


def _operations(results: Sequence[BarResult]) -> str:
    peak = next((result for result in results if result.bar == "gemm"), None)
    products = peak.sides[1:] if peak else ()
    rows = []
    for result in results:
        if result.flop_per_unit is None:
            continue
        # The bar `gemm` counts operations to begin with.
        rate = result.ours if result is peak else result.flop_per_unit * result.ours / 1e9
        each = "" if result is peak else _number(result.flop_per_unit / 1e6)
        rows.append([f"`{result.bar}`", each, f"{rate:.1f}", *(f"{rate / side.rate:.1%}" for side in products)])
    shares = [f"of {_number(side.rate)} GFLOP / CPU-s: {cell(side.label)}" for side in products]
    head = ("bar", "MFLOP per unit", "GFLOP / CPU-s", *shares)
    return _table(head, rows, numbers=range(1, len(head)))


def _limits(results: Sequence[BarResult]) -> str:
    limits: dict[str, list[str]] = {}
    for result in results:
        limits.setdefault(result.limit, []).append(f"`{result.bar}`")
    lines = [f"- {', '.join(bars)}: {cell(limit)}" for limit, bars in limits.items() if limit]
    return "\n".join(["\nWhat limits our figures:\n", *lines])


def _sides(result: BarResult) -> str:
    rows = [
        [
            cell(side.label) + ("" if side.counts else " (shown only)"),
            _number(side.rate),
            f"{side.ratio:.2f}" if number else "",
            f"{min(side.ratios):.2f} to {max(side.ratios):.2f}" if number else "",
            f"{side.cpu_s:.2f}",
            f"{side.wall_s:.2f}",
            f"{side.peak_mb:,.0f}",
        ]
        for number, side in enumerate(result.sides)
    ]
    head = ("side", cell(result.unit), "ours / it", "of single rounds", "CPU s a round", "wall s", "peak MiB")
    command = f"\n{result.rounds} rounds, commit `{result.commit}`: `{result.command}`\n"
    return "\n".join([f"### {result.bar}\n", _table(head, rows, numbers=range(1, 7)), command])


def _made_with(results: Iterable[BarResult | OwnResult]) -> Iterable[str]:
    """A line per machine and set of versions, with the bars that it made."""
    made: dict[str, list[str]] = {}
    for result in results:
        machine = f"{result.hardware.get('cpu')}, {result.hardware.get('cores')} cores, {result.hardware.get('system')}"
        peers = f"; peers: {_versions(result.peer_versions)}" if isinstance(result, BarResult) else ""
        line = f"{cell(machine)}; ours: {_versions(result.versions)}{peers}"
        made.setdefault(line, []).append(f"`{result.bar}`")
    return [f"- {', '.join(names)}: {line}" for line, names in made.items()]


def _versions(versions: Mapping[str, str]) -> str:
    return cell(", ".join(f"{name} {version}" for name, version in sorted(versions.items())))


def _number(value: float) -> str:
    """Three or more digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int]) -> str:
    right = set(numbers)
    rule = ["--:" if at in right else "---" for at in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))

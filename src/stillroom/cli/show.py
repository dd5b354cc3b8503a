"""What commands print: progress bars on a terminal, nothing when piped, tables, JSON."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stillroom.lab.evaluate import ArmScore, Estimate
    from stillroom.lab.still import Progress


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator["Progress"]:
    """A bar per stage on standard error; nothing at all when it is no terminal."""
    from stillroom.lab.still import no_progress

    if quiet or not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield advance


def emit(text: str) -> None:
    """Print, and leave quietly when the reader has gone (``stillroom list | head``)."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would raise once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def emit_json(value: Any) -> None:
    emit(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def arms_table(arms: Mapping[str, "ArmScore"]) -> str:
    """Accuracy with its interval, by level, tokens per answer and format failures, as aligned text."""
    levels = list(dict.fromkeys(level for score in arms.values() for level in score.by_level))
    head = ["", "accuracy", "95 % interval", *(f"level {level}" for level in levels), "tokens", "no answer", "cut"]
    rows = [head]
    for name, score in arms.items():
        accuracy = score.accuracy
        rows.append(
            [
                name,
                _percent(accuracy.value),
                "" if accuracy.low is None else f"{_percent(accuracy.low)} to {_percent(accuracy.high)}",
                *(_percent(score.by_level[level].value) if level in score.by_level else "" for level in levels),
                "" if score.tokens.mean is None else f"{score.tokens.mean:.0f}",
                _percent(score.format_failures),
                _percent(score.truncated),
            ]
        )
    return aligned(rows)


def strategies_table(found: Mapping[str, "ArmScore"]) -> str:
    """The accuracy–token curve as aligned text: a line per strategy, with what an answer cost."""
    head = ["strategy", "accuracy", "95 % interval", "tokens", "calls", "peak context", "GFLOP", "stopped"]
    rows = [head]
    for name, score in found.items():
        accuracy, peak = score.accuracy, score.peak_context
        rows.append(
            [
                name,
                _percent(accuracy.value),
                "" if accuracy.low is None else f"{_percent(accuracy.low)} to {_percent(accuracy.high)}",
                "" if score.tokens.mean is None else f"{score.tokens.mean:.0f}",
                "" if score.calls is None else f"{score.calls:.1f}",
                "" if peak is None else f"{peak.max}",
                "" if score.flops is None else f"{score.flops / 1e9:.3g}",
                ", ".join(f"{reason} {count}" for reason, count in score.stops.items()),
            ]
        )
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Columns padded to their widest cell; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def interval(estimate: "Estimate") -> str:
    """``93.0 % (89.5 % to 95.4 %)``."""
    if estimate.value is None:
        return "not measured"
    return f"{_percent(estimate.value)} ({_percent(estimate.low)} to {_percent(estimate.high)})"

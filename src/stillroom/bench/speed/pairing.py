"""Measuring one bar: our side and the peers' in processes of their own, round by round in turn, compared pair by pair.

A *bar* says what is compared and how much faster we have to be. Each round runs every side once, the order is turned
round every time, and a ratio is taken within a round, so that a machine that is busy for a while slows both alike. What
counts is the median over the rounds of the ratio in CPU seconds; wall seconds and peak memory stand beside it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from stillroom.bench.speed.serving import ENVIRONMENT
from stillroom.errors import StillroomError, UserError
from stillroom.lab.run import command_line, commit, hardware, versions

HERE = Path(__file__).parent
PEER_PYTHON = Path(".venv-peers/bin/python")
"""Interpreter of the peers' environment, from the root of a checkout; `make peers` makes it."""


class SideError(StillroomError, RuntimeError):
    """A side stopped, answered out of turn, or did other work than the side that it is compared with."""


@dataclass(frozen=True)
class Side:
    """What runs: ``FUNCTION`` of a file, given the bar's job with `settings` on top (see `serving`)."""

    label: str
    file: str
    """Ours beside this module, a peer's in the folder of the peers."""
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = True
    """False for a peer that is shown beside the others but not compared with the target."""


@dataclass(frozen=True)
class Bar:
    """One comparison."""

    name: str
    """Of the result file."""
    title: str
    kind: Literal["pass", "aim"]
    """A ``pass`` bar that is missed makes the command fail; an ``aim`` is reported only."""
    target: float
    """Least ratio of our rate to the fastest peer's."""
    unit: str
    """Of the rates: what `amount` counts per CPU second, e.g. ``tokens / CPU-s``."""
    ours: Side
    peers: tuple[Side, ...]
    job: Callable[[Path], dict[str, Any]]
    """Writes what all sides read (weights, rows) into a folder and returns the job, which is JSON."""
    aim: float | None = None
    """What we hope for beyond the target."""
    least_ours: float | None = None
    """A ``pass`` bar also needs this rate of our own, in `unit`."""
    equal: Mapping[str, float] = field(default_factory=dict)
    """Facts that every side must agree on, with the largest relative difference; 0: equal."""
    limit: str = ""
    """What limits our figure, for the reader."""


class Round(NamedTuple):
    """What one round of one side gave and cost."""

    amount: float
    cpu_s: float
    wall_s: float
    peak_mb: float
    facts: dict[str, Any]


class Worker:
    """A side in a process of its own; a context manager, ready when entered.

    Raises:
        SideError: with the end of what the process wrote to standard error, when it stops or answers anything else
            than the protocol says.
    """

    def __init__(self, python: Path, file: Path, side: Side, job: Mapping[str, Any]) -> None:
        self.label = side.label
        self.versions: dict[str, str] = {}
        self._job = {**job, **side.settings}
        self._command = [str(python), str(HERE / "serving.py"), str(file), side.function]
        self._stack = ExitStack()

    def __enter__(self) -> "Worker":
        self._errors = self._stack.enter_context(tempfile.TemporaryFile())
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **ENVIRONMENT},
            encoding="utf-8",
        )
        self._stack.callback(self._end)
        try:
            self.versions = self._ask(json.dumps(self._job), "ready")["ready"]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def round(self) -> Round:
        """Do one round of work."""
        answer = self._ask("go", "result")
        facts = dict(answer["result"])
        amount = facts.pop("amount", None)
        if not isinstance(amount, int | float) or not amount > 0:
            raise SideError(f"{self.label}: a round gave the amount {amount!r}; it must be a number above 0")
        return Round(amount, answer["cpu_s"], answer["wall_s"], answer["peak_mb"], facts)

    def _ask(self, line: str, key: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._stopped() from None
        found = self._process.stdout.readline()
        if not found:
            raise self._stopped()
        try:
            answer = json.loads(found)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or key not in answer:
            raise SideError(f"{self.label}: expected an answer with {key!r} and got {found[:200]!r}")
        return answer

    def _stopped(self) -> SideError:
        code = self._process.wait()
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace").strip()[-2000:]
        return SideError(f"{self.label}: the process stopped with exit code {code}\n{tail}")

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A side that reads the end of its input leaves in good order, with its temporary files.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def measure(
    bar: Bar,
    *,
    rounds: int,
    peers: Path,
    python: Path | None = None,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measure a bar: one round to warm up, then `rounds` that count.

    Args:
        peers: folder of the peers' files.
        python: the peers' interpreter; None: `PEER_PYTHON`.
        on_round: called with the number of rounds done.

    Returns:
        The result file: what was compared and with what (see `compare`), and command, commit, versions and hardware.

    Raises:
        UserError: the peers' environment is not there.
        SideError: a side failed, or two sides disagree on a fact that must be equal.
    """
    python = python or PEER_PYTHON
    if not python.is_file():
        raise UserError(f"there is no interpreter for the peers at {python}; run `make peers` in a checkout")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillroom-speed-")))
        job = bar.job(folder)
        ours = stack.enter_context(Worker(Path(sys.executable), HERE / bar.ours.file, bar.ours, job))
        others = [stack.enter_context(Worker(python, (peers / side.file).resolve(), side, job)) for side in bar.peers]
        workers = [ours, *others]
        done: list[list[Round]] = []
        for number in range(rounds + 1):
            order = workers if number % 2 == 0 else workers[::-1]
            found = {worker.label: worker.round() for worker in order}
            in_order = [found[worker.label] for worker in workers]
            for worker, other in zip(others, in_order[1:], strict=True):
                _require_equal(bar, in_order[0].facts, worker.label, other.facts)
            if number:
                done.append(in_order)
            if on_round is not None:
                on_round(number)
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "versions": versions(),
        "peer_versions": {name: version for worker in others for name, version in worker.versions.items()},
        # Of the sides, not of this process, which only waits for them.
        "hardware": {**hardware(), "torch_threads": 1},
        **compare(bar, done),
    }


def compare(bar: Bar, done: Sequence[Sequence[Round]]) -> dict[str, Any]:
    """The result of the rounds.

    Args:
        done: per round our side first, then the peers in the bar's order.

    Returns:
        ``ratio`` and ``ratios`` against the fastest peer that counts, in CPU seconds (``ratio_wall``: on the clock);
        ``ours`` and ``peer``, the median rates in ``unit``; ``sides`` with what each did and cost; ``flop_per_unit``
        where our side counts floating-point operations (the fact ``flop``).
    """
    sides = [
        _side(side, [found[0] for found in done], [found[at] for found in done])
        for at, side in enumerate((bar.ours, *bar.peers))
    ]
    best = max((side for side in sides[1:] if side["counts"]), key=lambda side: float(side["rate"]))
    flops = [found[0].facts["flop"] / found[0].amount for found in done if "flop" in found[0].facts]
    return {
        "bar": bar.name,
        "title": bar.title,
        "kind": bar.kind,
        "target": bar.target,
        "aim": bar.aim,
        "least_ours": bar.least_ours,
        "unit": bar.unit,
        "ratio": best["ratio"],
        "ratio_wall": best["ratio_wall"],
        "ratios": best["ratios"],
        "ours": sides[0]["rate"],
        "peer": best["rate"],
        "peer_label": best["label"],
        "passed": bar.kind == "aim" or (best["ratio"] >= bar.target and sides[0]["rate"] >= (bar.least_ours or 0)),
        "flop_per_unit": median(flops) if flops else None,
        "rounds": len(done),
        "sides": sides,
        "limit": bar.limit,
    }


def _side(side: Side, ours: Sequence[Round], found: Sequence[Round]) -> dict[str, Any]:
    """Medians of a side over its rounds, and of the ratio of our rate to its rate within each round."""
    ratios = [(a.amount / a.cpu_s) / (b.amount / b.cpu_s) for a, b in zip(ours, found, strict=True)]
    walls = [(a.amount / a.wall_s) / (b.amount / b.wall_s) for a, b in zip(ours, found, strict=True)]
    return {
        "label": side.label,
        "counts": side.counts,
        "settings": dict(side.settings),
        "rate": median(one.amount / one.cpu_s for one in found),
        "rate_wall": median(one.amount / one.wall_s for one in found),
        "ratio": median(ratios),
        "ratio_wall": median(walls),
        "ratios": ratios,
        "amount": median(one.amount for one in found),
        "cpu_s": median(one.cpu_s for one in found),
        "wall_s": median(one.wall_s for one in found),
        "peak_mb": median(one.peak_mb for one in found),
        "facts": found[-1].facts,
    }


def _require_equal(bar: Bar, ours: Mapping[str, Any], label: str, theirs: Mapping[str, Any]) -> None:
    for name, tolerance in bar.equal.items():
        a, b = ours.get(name), theirs.get(name)
        if tolerance and isinstance(a, int | float) and isinstance(b, int | float):
            same = abs(a - b) <= tolerance * max(abs(a), abs(b))
        else:
            same = a is not None and a == b
        if not same:
            raise SideError(
                f"bar {bar.name!r}: {name} is {a!r} here and {b!r} with {label}; they do not do the same work"
            )

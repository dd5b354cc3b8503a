"""One side of a measurement: a process that prepares once and then does one round of work per line it reads.

    PYTHON serving.py FILE.py FUNCTION

FILE defines ``FUNCTION(job: dict) -> Callable[[], dict]``. The outer call prepares (imports, loads); the function that
it returns does one round and gives ``{"amount": units of work done, ...facts}``. The job is one JSON line on standard
input; every line after it starts a round. Answers are JSON lines: first ``{"ready": versions}``, then one per round
with what the round gave and what it cost.

This file runs under the peers' interpreter too, so it needs the standard library alone.
"""

import gc
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""One thread, no network. Models this small lose to thread hand-over, and shared cores make it worse."""

PACKAGES = (
    "accelerate",
    "datasets",
    "datasketch",
    "duckdb",
    "math-verify",
    "numpy",
    "polars",
    "pyarrow",
    "rensa",
    "stillroom",
    "torch",
    "transformers",
    "trl",
)
"""Whose versions are worth a line in the result."""

_TICKS = os.sysconf("SC_CLK_TCK")


def serve(path: Path, function: str, requests: TextIO, answers: TextIO) -> None:
    """Prepare the side that `path` defines and do one round per line of `requests` after the first."""
    job = json.loads(requests.readline())
    work = _load(path, function)(job)
    _answer(answers, {"ready": _versions()})
    for _ in requests:
        _answer(answers, _measured(work))


def _load(path: Path, function: str) -> Callable[[dict[str, Any]], Callable[[], dict[str, Any]]]:
    spec = importlib.util.spec_from_file_location(f"side_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and worker processes look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    prepare: Callable[[dict[str, Any]], Callable[[], dict[str, Any]]] = getattr(module, function)
    return prepare


def _measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """One round: its result, CPU seconds of this process and all its children, wall seconds, peak memory."""
    gc.collect()
    for process in _family():
        # Sets the peak back to what is resident now; not every container allows it.
        with suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")
    cpu, wall = _cpu_s(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    return {"result": result, "cpu_s": cpu, "wall_s": wall, "peak_mb": _peak_mb()}


def _cpu_s() -> float:
    """User and system seconds of this process, of children that ended, and of those that still live."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in ended) + sum(_live_cpu_s(p) for p in _children(os.getpid()))


def _live_cpu_s(process: int) -> float:
    """The same of a child that lives (to a clock tick), with its own children."""
    try:
        # Fields are counted from behind the name, which may hold spaces and brackets.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(int(field) for field in fields[11:15]) / _TICKS
    return own + sum(_live_cpu_s(child) for child in _children(process))


def _peak_mb() -> float:
    """Sum over the family of the largest resident size since the round began, in MiB."""
    total = 0.0
    for process in _family():
        with suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) / 1024
    return total


def _family() -> Iterator[int]:
    """This process and every live one below it."""
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += _children(process)


def _children(process: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def main() -> None:
    os.environ.update(ENVIRONMENT)
    # The folder of this file must not shadow packages of the same names as the sides in it.
    sys.path.pop(0)
    # Whatever libraries print goes to standard error; the answers keep the real standard output for themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.argv[2], sys.stdin, answers)


if __name__ == "__main__":
    main()

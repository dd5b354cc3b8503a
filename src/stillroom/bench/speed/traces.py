"""The trace pipeline: beside `datasets.map` on a row function, and alone on as many traces as one wants.

`BARS` are measured by `stillroom bench speed`, `measure_scale` by `stillroom bench traces`.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stillroom.bench.speed.pairing import Bar, Side
from stillroom.bench.speed.synthetic_traces import KEPT_PER_PROBLEM, Counts, write, write_evaluation
from stillroom.lab.run import command_line, commit, hardware, versions

NGRAM = 8
RULES = f"correct,finished,unique,near-unique,decontaminated={NGRAM},shortest={KEPT_PER_PROBLEM}"
WALL_S = 240.0
"""At most, for statistics and selection of a million traces."""
PEAK_GB = 3.0
TIMES = 11.0
"""At most, as many times the seconds of the first size, per tenfold size."""
REASONS = {
    "wrong": "wrong",
    "truncated": "truncated",
    "duplicate": "duplicate",
    "near duplicate": "near_duplicate",
    "contaminated": "contaminated",
    "not shortest": "not_shortest",
}
"""Reason of a selection -> what was planted for it, in `Counts`."""


def map_job(folder: Path) -> dict[str, Any]:
    """80,000 traces, and the evaluation problems that some of them leak."""
    write(folder, 10_000)
    write_evaluation(folder)
    return {"traces": str(folder / "traces"), "evaluation": str(folder / "evaluation.jsonl"), "n": NGRAM}


def map_columns(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side: of every trace the length of its response, whether it repeats another, and the n-gram it leaks."""
    import numpy as np

    from stillroom.traces.decontaminate import Finder
    from stillroom.traces.dedup import Exact
    from stillroom.traces.pool import Pool
    from stillroom.types import Message, Problem

    texts = map(json.loads, Path(job["evaluation"]).read_text(encoding="utf-8").splitlines())
    problems = [
        Problem(id=f"e{i}", task="evaluation", messages=(Message(role="user", content=text),), reference="1")
        for i, text in enumerate(texts)
    ]

    def work() -> dict[str, Any]:
        pool, repeats, leaks = Pool(job["traces"]), Exact(), Finder(problems, n=job["n"])
        lengths: list[int] = []
        for chunk in pool.texts():
            repeats.add(chunk)
            leaks.add(chunk)
            lengths += chunk.response.str.len_chars().to_list()
        rows = np.arange(pool.height)
        repeated = np.isin(rows, repeats.found(pool, rows)["row"].to_numpy()).tolist()
        found = dict(leaks.found(pool, rows).select("row", "match").iter_rows())
        return summed((length, repeated[row], found.get(row, "")) for row, length in enumerate(lengths))

    return work


def summed(rows: Iterable[tuple[int, bool, str]]) -> dict[str, Any]:
    """What both sides report of their rows: how many, how many repeat or leak, and a digest of them all."""
    done = list(rows)
    lines = "\n".join(f"{length} {repeated:d} {match}" for length, repeated, match in done)
    return {
        "amount": float(len(done)),
        "repeated": sum(repeated for _, repeated, _ in done),
        "leaked": sum(match != "" for _, _, match in done),
        "digest": hashlib.blake2b(lines.encode(), digest_size=16).hexdigest(),
    }


BARS = (
    Bar(
        name="traces-map",
        title="Length, repetition and contamination of each trace: whole columns beside datasets.map",
        kind="pass",
        target=10.0,
        unit="traces / CPU-s",
        ours=Side("Stillroom, columns from Parquet", "traces.py", "map_columns"),
        peers=(
            Side("datasets.map, a row at a time", "datasets_map.py", "map_rows", {"batched": False}),
            Side("datasets.map, batched", "datasets_map.py", "map_rows", {"batched": True}, counts=False),
        ),
        job=map_job,
        equal={"repeated": 0, "leaked": 0, "digest": 0},
        limit="reading and decompressing the texts, and white-space normalisation by a regular expression",
    ),
)


def measure_scale(problems: Sequence[int], *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Statistics and selection of made-up traces, each through the command line in a process of its own.

    Args:
        problems: sizes in order, eight traces of about 1 KB each; the later ones are compared with the first.
        seed: of the traces.

    Yields:
        One result file per size: seconds on the clock and of the CPU, peak memory, and what was found beside what was
        planted; ``passed`` when all of it was found and the bars of time and memory hold.
    """
    first: dict[str, Any] | None = None
    for size in problems:
        with tempfile.TemporaryDirectory(prefix="stillroom-traces-") as scratch:
            folder = Path(scratch)
            against, traces = write_evaluation(folder, seed), folder / "traces"
            # In a process of its own: a child's peak memory counts what its parent held when it was born.
            with get_context("spawn").Pool(1) as writer:
                planted = writer.apply(write, (folder, size, seed))
            steps = [
                _step("stats", traces, "--out", folder / "problems.parquet"),
                _step("select", traces, "--rules", RULES, "--against", against, "--out", folder / "kept.parquet"),
            ]
        result = _scale(planted, steps, first)
        first = first or result
        yield result


def _step(command: str, traces: Path, *options: str | Path) -> dict[str, Any]:
    """One command in a process of its own: what it printed and what it cost."""
    arguments = ["traces", command, str(traces), *map(str, options), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from stillroom.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {
        "command": command,
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
        "printed": json.loads(printed),
    }


def _scale(planted: Counts, steps: Sequence[dict[str, Any]], first: dict[str, Any] | None) -> dict[str, Any]:
    totals, selection = (step["printed"] for step in steps)
    found = {
        "rows": totals["n_traces"],
        "problems": totals["n_problems"],
        "correct": totals["n_correct"],
        "kept": selection["kept"],
        **{name: selection["dropped"].get(reason, 0) for reason, name in REASONS.items()},
    }
    wall_s, cpu_s = (sum(step[name] for step in steps) for name in ("wall_s", "cpu_s"))
    peak_gb = max(step["peak_gb"] for step in steps)
    expected = {name: count for name, count in asdict(planted).items() if name in found}
    result: dict[str, Any] = {
        "bar": f"traces-{planted.rows / 1e6:g}m",
        "title": f"Statistics, duplicates, contamination, selection of {planted.rows / 1e6:g} million traces of 1 KB",
        "kind": "pass",
        "command": " ".join(command_line()),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "rules": RULES,
        "rows": planted.rows,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_gb": peak_gb,
        "peak_gb_target": PEAK_GB,
        "steps": [{name: value for name, value in step.items() if name != "printed"} for step in steps],
        "planted": expected,
        "found": found,
    }
    if first is None:
        result |= {"target": WALL_S * max(planted.rows / 1e6, 1.0), "ours": wall_s, "unit": "s, at most"}
    else:
        tenfold = planted.rows / first["rows"] / 10
        result |= {
            "target": TIMES * tenfold,
            "ours": cpu_s / first["cpu_s"],
            "ours_wall": wall_s / first["wall_s"],
            "unit": f"times the CPU seconds of {first['bar']}, at most",
        }
    return result | {"passed": found == expected and peak_gb <= PEAK_GB and result["ours"] <= result["target"]}

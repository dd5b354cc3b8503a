"""Kill a main job at random moments, resume it, and compare what comes out with an uninterrupted run, bit for bit.

The job is a smoke run of rejection tuning, because it holds every kind of stage: a teacher's and a student's pool, two
selections, two trainings with a checkpoint after every step, two evaluations. Each attempt is a process of its own that
gets SIGKILL; a moment is drawn uniformly from the time between the start of the run folder and the end of the job.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.seeds import derive_rng

JOB: dict[str, Any] = {
    "method": "rft",
    "problems": 96,
    "eval_problems": 48,
    "max_new_tokens": 48,
    "train": {"steps": 12, "batch_size": 8},
    "checkpoint_every_s": 0,
}
COMPARED = ("metrics.jsonl", "student/*.safetensors", "warm/*.safetensors", "traces/**/*.parquet", "evals/*.parquet")
"""Files of a run folder that must be equal byte for byte."""
_STILLROOM = [sys.executable, "-c", "from stillroom.cli import main; main()"]


def measure(moments: int, seed: int, *, on_moment: Callable[[int, str], None] | None = None) -> dict[str, Any]:
    """Kill `moments` runs, resume each, compare; a run that ended before its moment came is not counted.

    Args:
        moments: how many kills.
        seed: of the moments.
        on_moment: called after each with its number from 1 and what became of it.

    Raises:
        UserError: no SIGKILL on this system; the code changed meanwhile.
    """
    if os.name != "posix":
        raise UserError("this bench sends SIGKILL and needs Linux or macOS")
    rng = derive_rng("kill-resume", seed)
    revision = commit()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "job.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")
        whole = folder / "whole"
        length_s = _run(folder, whole, kill_after_s=None)
        expected = fingerprints(whole)
        for number in count(1):
            if len(rows) == moments:
                break
            moment_s = rng.uniform(0.0, length_s)
            cut = folder / f"cut-{number}"
            started = time.perf_counter()
            # A busy machine may finish early: a longer run moves the later moments.
            length_s = max(length_s, _run(folder, cut, kill_after_s=moment_s))
            if (cut / "report.html").exists():
                continue
            stages = list(read_json(cut / "state.json")) if (cut / "state.json").exists() else []
            left = len(list(cut.glob("checkpoints/*/step-*")))
            subprocess.run([*_STILLROOM, "resume", str(cut)], check=True, stdout=subprocess.DEVNULL)
            found = fingerprints(cut)
            differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            rows.append(
                {
                    "moment_s": round(moment_s, 3),
                    "after_stage": stages[-1] if stages else None,
                    "stages_done": len(stages),
                    "checkpoints": left,
                    "equal": not differ,
                    "different_files": differ,
                    "seconds": round(time.perf_counter() - started, 1),
                }
            )
            if on_moment is not None:
                on_moment(len(rows), f"after {rows[-1]['after_stage']}: {differ or 'equal'}")
    if commit() != revision:
        raise UserError(f"the code changed under the bench (it was {revision}); run it again, in a checkout of its own")
    equal = sum(row["equal"] for row in rows)
    return {
        "command": " ".join(command_line()),
        "commit": revision,
        "versions": versions(),
        "hardware": hardware(),
        "job": JOB,
        "compared": COMPARED,
        "seed": seed,
        "moments": moments,
        "equal": equal,
        "passed": equal == moments,
        "kills": rows,
    }


def fingerprints(run: Path) -> dict[str, str]:
    """Path within the run folder → hash, of every file that must be equal."""
    files = sorted(path for pattern in COMPARED for path in run.glob(pattern))
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _run(folder: Path, out: Path, kill_after_s: float | None) -> float:
    """Run the job, at most that long after its folder appeared; returns the seconds from then to its end."""
    process = subprocess.Popen(
        [*_STILLROOM, "distill", "--config", str(folder / "job.yaml"), "--out", str(out)], stdout=subprocess.DEVNULL
    )
    try:
        while not (out / "config.yaml").exists():
            if process.poll() is not None:
                raise RuntimeError(f"the job ended with code {process.returncode} before it began")
            time.sleep(0.002)
        started = time.perf_counter()
        try:
            code = process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            return 0.0
        if code:
            raise RuntimeError(f"the job failed with code {code}")
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()

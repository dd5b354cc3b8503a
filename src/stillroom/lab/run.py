"""The run folder: what was asked, what was measured, which stages are done, and how to go on after a kill.

    config.yaml     the resolved configuration; `stillroom distill --config` runs it again
    manifest.json   command, code revision, versions, hardware, seeds, data hashes
    state.json      stages that are done, each with what the next ones need and the length of metrics.jsonl
    metrics.jsonl   one JSON object a line: stage, step and numbers (docs/metrics.md); nothing that depends on the clock
    timing.jsonl    wall and process seconds per stage and attempt
    traces/ evals/  Parquet;  student/  the model;  result.json  report.html

A stage is done when `state.json` says so, and that file is replaced atomically. What a killed stage left behind is
either a whole chunk or checkpoint, which the stage picks up, or is written again.
"""

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from stillroom.errors import UserError
from stillroom.io import append_line, read_json, read_lines, write_atomic, write_json


class Metrics:
    """`metrics.jsonl`, rewound to a known length when a stage starts again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def length(self) -> int:
        """Bytes written, all of them on disk: a checkpoint that counts on them outlives a loss of power."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def rewind(self, length: int) -> None:
        """Forget everything after `length` bytes: a stage that runs again writes it again."""
        with open(self.path, "r+b") as file:
            file.truncate(length)

    def log(self, *, stage: str, step: int, **values: float | int | str | None) -> None:
        """Append one record; see docs/metrics.md for the names."""
        # Waiting for the disk at every step would take a fiftieth of a tiny model's training.
        append_line(self.path, {"stage": stage, "step": step, **values}, sync=False)

    def read(self) -> list[dict[str, Any]]:
        return list(read_lines(self.path))


class Run:
    """A run folder that this process works in; use `create` or `open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = open(folder / ".lock", "w")  # noqa: SIM115 - held as long as the run is worked on
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another process is working on {folder}; wait for it or stop it") from error
        # Tells stages of this attempt from those that an earlier one finished.
        self._id = time.time_ns()
        self.metrics = Metrics(folder / "metrics.jsonl")
        state = folder / "state.json"
        self._done: dict[str, dict[str, Any]] = read_json(state) if state.exists() else {}

    @classmethod
    def create(cls, folder: Path, *, kind: str, config: dict[str, Any], command: list[str], seeds: list[int]) -> "Run":
        """A new folder; raises UserError when it holds a run already."""
        if (folder / "config.yaml").exists():
            raise UserError(
                f"{folder} already holds a run; continue it with `stillroom resume {folder}` or give another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "manifest.json", manifest(kind, command, seeds))
            write_atomic(folder / "config.yaml", yaml.safe_dump({"kind": kind, **config}, sort_keys=False))
        except OSError as error:
            raise UserError(f"cannot write to the run folder {folder}: {error.strerror}; give another --out") from error
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> tuple["Run", dict[str, Any]]:
        """An existing run and its configuration (with its ``kind``)."""
        path = folder / "config.yaml"
        if not path.is_file():
            raise UserError(f"{folder} is no run folder: it has no config.yaml")
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if not isinstance(config, dict) or "kind" not in config:
            raise UserError(f"{folder} is no run folder: its config.yaml was not written by a run")
        return cls(folder), config

    def result_of(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left for later ones; None while it is not done."""
        found = self._done.get(stage)
        return None if found is None else dict(found["result"])

    def stages(self) -> list[str]:
        """Names of the finished stages, in the order in which they finished."""
        return list(self._done)

    @contextmanager
    def stage(self, name: str, *, keep_bytes: int = 0) -> Iterator[dict[str, Any]]:
        """Work on a stage that is not done; what is put into the yielded dict is what `result_of` will give.

        Starting rewinds the metrics to where the last finished stage ended, or to `keep_bytes` when the stage goes on
        from a checkpoint of its own that was taken later.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        finished = max((entry["metrics_bytes"] for entry in self._done.values()), default=0)
        self.metrics.rewind(max(finished, keep_bytes))
        result: dict[str, Any] = {}
        yield result
        self._done[name] = {"metrics_bytes": self.metrics.length, "result": result}
        # Not sorted: the order of the stages is part of the state.
        write_atomic(self.folder / "state.json", json.dumps(self._done, indent=2))
        append_line(
            self.folder / "timing.jsonl",
            {
                "stage": name,
                "wall_s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
                "attempt": self._id,
            },
        )

    def discard(self) -> None:
        """Free the folder's name: the mended command may use it when nothing was done before the mistake was found."""
        for name in ("config.yaml", "manifest.json", "metrics.jsonl"):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process work on the folder."""
        self._lock.close()

    def seconds(self, *, earlier: bool = False) -> dict[str, float]:
        """Seconds of all finished stages; with `earlier`, only of those that an earlier attempt finished."""
        rows = [row for row in read_lines(self.folder / "timing.jsonl") if not earlier or row["attempt"] != self._id]
        return {key: sum(row[key] for row in rows) for key in ("wall_s", "cpu_s")}


def manifest(kind: str, command: list[str], seeds: list[int]) -> dict[str, Any]:
    """What is needed to know, later, what produced a result."""
    return {
        "kind": kind,
        "command": " ".join(command),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "seeds": seeds,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {},
    }


def commit() -> str:
    """Revision of the code, with ``+changes`` when the tree differs from it; ``unknown`` outside a checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", str(here)],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found + ("+changes" if changed else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in ("stillroom", "torch", "transformers", "tokenizers", "numpy", "polars", "pyarrow", "math-verify"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def hardware() -> dict[str, Any]:
    """The machine in the words that matter for speed."""
    import torch

    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def command_line() -> list[str]:
    """The command as the user gave it."""
    return ["stillroom", *sys.argv[1:]]


def show(value: Any) -> str:
    """Compact JSON for messages."""
    return json.dumps(value, ensure_ascii=False)

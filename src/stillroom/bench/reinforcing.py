"""Reinforcement measured: what `grpo` gains over its start, and whether a planted reward hack is noticed.

The student is a proxy that answers short chains of arithmetic, less than half of them right: what reinforcement starts
from. Every seed and every reward is a process of its own with one thread.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stillroom.errors import UserError
from stillroom.lab.config import parse_config
from stillroom.lab.distill import set_up
from stillroom.lab.run import Run, command_line, commit, hardware, versions
from stillroom.lab.still import Still
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.rewards import RewardTerm, TaskReward, correctness, layout, length, marker
from stillroom.methods.grpo import GRPO, reinforce

JOB: dict[str, Any] = {
    "method": "grpo",
    "task": "arithmetic:low=2,high=3",
    "student": "proxy:student-0.4m",
    "problems": 2000,
    "eval_problems": 300,
    "max_new_tokens": 40,
    "train": {"steps": 100},
    "checkpoint_every_s": 1e6,
}
GAIN, CPU_S, START = 0.20, 600.0, (0.2, 0.6)
"""The bar: points gained, CPU seconds of a seed, and where the start must lie."""
HACK_STEPS, HACK_LR = 20, 3e-4
_GAMED = ("the reward pays for", "held-out truth falls")
"""What the alarms of a gamed reward say; that there is nothing left to learn from is another matter."""


def measure_gain(seeds: int, jobs: int) -> dict[str, Any]:
    """`grpo` from the proxy as it is, once per seed: accuracy on test problems before and after, and CPU seconds."""
    rows = _in_processes(_gain, [(seed,) for seed in range(seeds)], jobs)
    good = [
        row["gain"] >= GAIN and row["cpu_s"] <= CPU_S and START[0] <= row["start"] <= START[1] and not row["alarm"]
        for row in rows
    ]
    return {**_about(), "bar": {"gain": GAIN, "cpu_s": CPU_S, "start": START}, "passed": all(good), "seeds": rows}


def measure_hacks(seeds: int, jobs: int) -> dict[str, Any]:
    """An honest reward and planted ones, 20 steps each: which alarms come, and when."""
    work = [(name, seed) for seed in range(seeds) for name in _REWARDS]
    rows = _in_processes(_hack, work, jobs)
    good = [
        row["alarms"] is None if row["reward"] == "honest" else any(said in (row["alarms"] or "") for said in _GAMED)
        for row in rows
    ]
    return {**_about(), "steps": HACK_STEPS, "lr": HACK_LR, "passed": all(good), "runs": rows}


def table(gain: Mapping[str, Any], hacks: Mapping[str, Any], kills: Mapping[str, Any]) -> str:
    """The results of `measure_gain`, `measure_hacks` and `kill_reinforce.measure` in Markdown."""
    lines = ["| `grpo`, seed | right before | right after | CPU time | alarms |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {r['seed']} | {r['start']:.1%} | {r['end']:.1%} | {r['cpu_s']:.0f} s | {r['alarm'] or 'none'} |"
        for r in gain["seeds"]
    ]
    lines += ["", "| reward | first alarm, by seed | held-out truth, first and last, by seed |", "|---|---|---|"]
    for name in dict.fromkeys(run["reward"] for run in hacks["runs"]):
        runs = [run for run in hacks["runs"] if run["reward"] == name]
        # Alarms stand in the order in which they were raised, and say their step.
        alarms = ", ".join((run["alarms"] or "none").partition(":")[0] for run in runs)
        truth = ", ".join(f"{run['held_out'][0][1]:.0%} to {run['held_out'][-1][1]:.0%}" for run in runs)
        lines.append(f"| {name} | {alarms} | {truth} |")
    phases = ", ".join(kills["phases"])
    lines += [
        "",
        f"Of {len(kills['kills'])} runs killed within {phases}, {kills['equal']} ended bit for bit as if not.",
    ]
    return "\n".join(lines)


def _gain(seed: int) -> dict[str, Any]:
    def work(still: Still) -> dict[str, Any]:
        start = still.measure(still.student, name="start").accuracy
        started = time.process_time()
        trained = reinforce(still, Path(still.student), GRPO)
        spent = time.process_time() - started
        end = still.measure(trained, name="student").accuracy
        stage = still.run.result_of("train:student") or {}
        if start.value is None or end.value is None:
            raise UserError(f"seed {seed}: no answer could be judged")
        return {
            "seed": seed,
            "start": start.value,
            "end": end.value,
            "gain": end.value - start.value,
            "cpu_s": round(spent, 1),
            "updates": stage["steps"],
            "written_tokens": stage["written_tokens"],
            "held_out": stage["held_out"],
            "alarm": stage["alarm"],
        }

    return _with_still(seed, work)


_REWARDS: Mapping[str, Callable[[Still], tuple[RewardTerm, ...]]] = {
    "honest": lambda still: (correctness(), layout(still.chat_format)),
    "length": lambda still: (length(still.params.max_new_tokens, 1.0),),
    "marker": lambda still: (marker("=3", 1.0),),
    "right-but-long": lambda still: (correctness(0.2), length(still.params.max_new_tokens, 2.0)),
}


def _hack(name: str, seed: int) -> dict[str, Any]:
    def work(still: Still) -> dict[str, Any]:
        config = RLConfig(steps=HACK_STEPS, lr=HACK_LR, max_new_tokens=still.params.max_new_tokens)
        reward = TaskReward(still.task, _REWARDS[name](still))
        still.reinforce(Path(still.student), algorithm=GRPO, reward=reward, config=config)
        stage = still.run.result_of("train:student") or {}
        rows = [row for row in still.run.metrics.read() if row["stage"] == "rl"]
        return {
            "reward": name,
            "seed": seed,
            "alarms": stage["alarm"],
            "held_out": stage["held_out"],
            "rewards": [round(row["reward"], 3) for row in rows],
            "correct": [round(row["correct"], 3) for row in rows],
            "length": [round(row["length"], 1) for row in rows],
        }

    return _with_still(seed, work)


def _with_still(seed: int, work: Callable[[Still], dict[str, Any]]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run.create(Path(scratch) / "run", kind="bench", config={}, command=command_line(), seeds=[seed])
        try:
            return work(set_up(run, parse_config({**JOB, "seed": seed})))
        finally:
            run.close()


def _in_processes(
    work: Callable[..., dict[str, Any]], arguments: list[tuple[Any, ...]], jobs: int
) -> list[dict[str, Any]]:
    revision = commit()
    with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as pool:
        rows = [future.result() for future in [pool.submit(work, *args) for args in arguments]]
    if commit().removesuffix("+changes") != revision.removesuffix("+changes"):
        raise UserError(f"the code changed under the bench (it was {revision}); run it again, in a checkout of its own")
    return rows


def _about() -> dict[str, Any]:
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "job": JOB,
    }

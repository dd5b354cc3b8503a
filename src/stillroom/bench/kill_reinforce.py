"""Kill reinforcement inside each of its phases, go on, and compare with an uninterrupted run, bit for bit.

The run is a short `grpo` with a reward that remembers earlier answers, several optimiser steps to a batch, and a
checkpoint after every step. A process of its own says over a pipe which phase it enters; SIGKILL comes after a delay
drawn uniformly from what that phase took in the uninterrupted run. A kill that came too late, when the process already
spoke of a later phase, is not counted.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.bench.kill_resume import COMPARED, fingerprints
from stillroom.errors import UserError
from stillroom.lab.config import parse_config
from stillroom.lab.distill import set_up
from stillroom.lab.run import Run, command_line, commit, hardware, versions
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine, RLStep
from stillroom.learn.rl.rewards import Reward, Scored, TaskReward
from stillroom.learn.rl.rollouts import Rollout
from stillroom.methods.grpo import GRPO
from stillroom.seeds import derive_rng, digest

PHASES = ("rollouts", "rewards", "update", "checkpoint")
JOB: dict[str, Any] = {
    "method": "grpo",
    "task": "arithmetic:low=2,high=3",
    "student": "proxy:student-0.4m",
    "problems": 64,
    "eval_problems": 16,
    "max_new_tokens": 40,
    "checkpoint_every_s": 0,
}
STEPS, PROBLEMS, SAMPLES = 5, 5, 8
CONFIG: dict[str, Any] = {"steps": STEPS, "problems": PROBLEMS, "minibatches": 2, "held_out_every": 2}
_HEAVY = ["stillroom.lab.distill", "stillroom.learn.learner", "transformers.models.qwen2.modeling_qwen2"]


class Event(NamedTuple):
    """What the run is about to do."""

    step: int
    """From 0."""
    phase: str
    batch: str
    """Digest of the step's rollouts and rewards, before the update."""


class Seen(NamedTuple):
    """What came over the pipe, and when."""

    events: list[Event]
    at_s: list[float]

    def batches(self) -> dict[int, str]:
        """Step → digest of its rollouts and rewards."""
        return {event.step: event.batch for event in self.events if event.phase == "update"}


class Memory:
    """A reward that depends on what it saw before: a tenth for an answer that is not among the last ones."""

    LAST = 200

    def __init__(self, inner: Reward) -> None:
        self._inner = inner
        self._texts: list[str] = []

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        found = []
        for rollout, scored in zip(rollouts, self._inner(rollouts), strict=True):
            new = float(rollout.response.text not in self._texts)
            self._texts = [*self._texts, rollout.response.text][-self.LAST :]
            reward = None if scored.reward is None else scored.reward + 0.1 * new
            found.append(Scored(reward, scored.correct, scored.raw, {**scored.terms, "new": new}))
        return found

    def state(self) -> dict[str, Any]:
        return {"texts": self._texts}

    def load(self, state: dict[str, Any]) -> None:
        self._texts = list(state["texts"])


def measure(moments: int, seed: int, *, on_moment: Callable[[int, str], None] | None = None) -> dict[str, Any]:
    """Kill a run `moments` times in each phase, go on, compare.

    Args:
        moments: kills per phase.
        seed: of steps and moments.
        on_moment: called after each kill with its number from 1 and what became of it.

    Raises:
        UserError: no SIGKILL on this system; the code changed meanwhile.
    """
    if os.name != "posix":
        raise UserError("this bench sends SIGKILL and needs Linux or macOS")
    # Processes fork from a server that has imported what all of them need, and has done nothing else.
    multiprocessing.set_forkserver_preload(_HEAVY)
    rng, revision = derive_rng("kill-reinforce", seed), commit()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = _train(folder / "whole")
        expected, batches = fingerprints(folder / "whole"), whole.batches()
        took_s = {event[:2]: b - a for event, a, b in zip(whole.events, whole.at_s, whole.at_s[1:], strict=False)}
        for phase in PHASES:
            kills = missed = 0
            while kills < moments:
                # The last step has no checkpoint of its own.
                step = rng.randrange(STEPS - 1)
                moment_s = rng.uniform(0.0, took_s[step, phase])
                cut = folder / f"{phase}-{kills + missed}"
                if _train(cut, kill=(step, phase, moment_s)).events[-1][:2] != (step, phase):
                    missed += 1
                    continue
                kills += 1
                again = _train(cut)
                found = fingerprints(cut)
                differ = sorted(
                    name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
                )
                first = again.events[0].step
                rows.append(
                    {
                        "phase": phase,
                        "step": step,
                        "moment_ms": round(1000 * moment_s, 2),
                        "resumed_at_step": first,
                        "same_next_batch": again.batches()[first] == batches[first],
                        "same_later_batches": all(again.batches()[at] == batches[at] for at in range(first, STEPS)),
                        "different_files": differ,
                        "missed_before": missed,
                    }
                )
                if on_moment is not None:
                    on_moment(len(rows), f"{phase} of step {step}: {differ or 'equal'}")
    if commit() != revision:
        raise UserError(f"the code changed under the bench (it was {revision}); run it again, in a checkout of its own")
    equal = sum(row["same_next_batch"] and row["same_later_batches"] and not row["different_files"] for row in rows)
    return {
        "command": " ".join(command_line()),
        "commit": revision,
        "versions": versions(),
        "hardware": hardware(),
        "job": JOB,
        "reinforcement": {**CONFIG, "samples": SAMPLES},
        "compared": COMPARED,
        "seed": seed,
        "moments": moments,
        "phases": PHASES,
        "files": len(expected),
        "equal": equal,
        "passed": equal == len(rows),
        "kills": rows,
    }


def _train(folder: Path, kill: tuple[int, str, float] | None = None) -> Seen:
    """Start the run, or go on with it, in a process; returns what it said until it ended.

    Args:
        kill: step, phase, and how many seconds after its start SIGKILL is sent.
    """
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(folder, there))
    process.start()
    there.close()
    seen, killed = Seen([], []), False
    with here, suppress(EOFError):
        while True:
            event = here.recv()
            seen.events.append(event)
            seen.at_s.append(time.perf_counter())
            if kill is not None and not killed and event[:2] == kill[:2]:
                time.sleep(kill[2])
                process.kill()
                killed = True
    process.join()
    if not killed and process.exitcode:
        raise RuntimeError(f"the run failed with code {process.exitcode}; its traceback stands above")
    return seen


def _child(folder: Path, events: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    if (folder / "config.yaml").exists():
        run, _ = Run.open(folder)
    else:
        run = Run.create(folder, kind="bench", config={}, command=command_line(), seeds=[0])
    still = set_up(run, parse_config(JOB))
    still.reinforce(
        Path(still.student),
        algorithm=GRPO,
        reward=Memory(TaskReward(still.task)),
        config=RLConfig(max_new_tokens=still.params.max_new_tokens, **CONFIG),
        samples=SAMPLES,
        drive=lambda engine: aloud(engine, events.send),
    )
    run.close()


def aloud(engine: Engine, say: Callable[[Event], None]) -> Iterator[RLStep]:
    """`Engine.steps`, with a word before each phase."""
    while engine.step < engine.config.steps:
        at = engine.step
        say(Event(at, "rollouts", ""))
        rollouts = engine.sample(engine.plan())
        say(Event(at, "rewards", ""))
        batch = engine.weigh(rollouts, engine.reward(rollouts))
        said = [f"{r.id} {r.ids} {s.reward}" for r, s in zip(rollouts, batch.scored, strict=True)]
        say(Event(at, "update", digest(*said)))
        step = engine.update(batch)
        say(Event(at, "checkpoint", ""))
        yield step

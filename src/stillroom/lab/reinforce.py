"""Reinforcement learning as a stage of a run: checkpoints in between, metrics of every step, alarms in the result."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.lab.checkpoints import Checkpoints
from stillroom.learn.adapt.base import AdamW, Adapt
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import Reference
from stillroom.learn.rl.algorithm import Algorithm, heads, objectives
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine, HeldOut, RLStep
from stillroom.learn.rl.rewards import Reward, Stateful
from stillroom.learn.rl.rollouts import Variant
from stillroom.models.policy import Sidecar, load_policy
from stillroom.seeds import derive_seed

if TYPE_CHECKING:
    from stillroom.lab.still import Still

Drive = Callable[[Engine], Iterator[RLStep]]
"""A page's own loop over an engine: a generator that goes on until `config.steps` and yields every step."""

Further = Callable[[Learner, Path | None], Mapping[str, Learner]]
"""Makes a page's further learners, by name: anew, or from the parts of a checkpoint folder (`Learner.restore`)."""

HELD_OUT = 64
"""Dev problems on which the truth is looked at (ours)."""


@dataclass(frozen=True)
class Reinforcement:
    """What is reinforced how, but for the learning rate."""

    start: Path
    reward: Reward
    algorithm: Algorithm
    config: RLConfig
    variants: tuple[Variant, ...]
    adapt: Adapt
    optimizer: AdamW | None
    drive: Drive
    memories: Mapping[str, Stateful]
    further: Further | None

    def remembered(self) -> str:
        """What reward and memories hold, as JSON text."""
        return json.dumps([part.state() for part in self._stateful()])

    def restore(self, remembered: str) -> None:
        """Take it up again: every trial starts from the same."""
        for part, state in zip(self._stateful(), json.loads(remembered), strict=True):
            part.load(state)

    def _stateful(self) -> list[Stateful]:
        rewards = [self.reward] if isinstance(self.reward, Stateful) else []
        return [*rewards, *self.memories.values()]


def run_reinforcement(still: "Still", plan: Reinforcement, target: Path, stage: str, lr: float) -> None:
    """One training run as a stage; a run that was cut off goes on from its last checkpoint, step by whole step."""
    if still.run.result_of(stage) is not None:
        return
    config = plan.config.model_copy(update={"lr": lr})
    checkpoints = Checkpoints(still.run.folder / "checkpoints" / target.name, still.checkpoint_every_s)
    sidecar = Sidecar(chat_format=still.chat_format.name, base=still.student, recipe=still.recipe)
    saved = checkpoints.newest()
    learner, extra = _learner(still, plan, saved)
    engine = Engine(
        learner,
        problems=still.problems,
        variants=plan.variants,
        reward=plan.reward,
        algorithm=plan.algorithm,
        config=config,
        seed=derive_seed("reinforce", still.seed),
        reference=_reference(still, plan),
        held_out=HeldOut(still.task, still.dev[:HELD_OUT], plan.variants[0].ask),
        memories=plan.memories,
        further=plan.further(learner, saved) if plan.further else {},
    )
    if extra:
        engine.load(extra["engine"])
    with still.run.stage(stage, keep_bytes=int(extra.get("metrics_bytes", 0))) as result:
        written, computed = int(extra.get("written_tokens", 0)), int(extra.get("computed_tokens", 0))
        step = None
        for step in plan.drive(engine):
            written += step.written_tokens
            computed += sum(update.computed_tokens for update in step.updates)
            still.run.metrics.log(stage="rl", arm=target.name, step=step.step, **step.metrics)
            still.progress(f"reinforce {target.name}", step.step, config.steps)
            if step.step < config.steps and checkpoints.due():
                position = {
                    "metrics_bytes": still.run.metrics.length,
                    "written_tokens": written,
                    "computed_tokens": computed,
                    "engine": engine.state(),
                }
                save = partial(learner.save, sidecar=sidecar, extra=position, also=engine.further)
                checkpoints.write(step.step, save)
        learner.export(target, sidecar=sidecar)
        result.update(
            steps=learner.steps,
            rl_steps=engine.step,
            trained_tokens=learner.trained_tokens,
            computed_tokens=computed,
            written_tokens=written,
            parameters=learner.policy.num_parameters(),
            lr=lr,
            trials={},
            objective=learner.objective.name,
            adapt=learner.report().model_dump(mode="json"),
            diagnostics=step.metrics if step else {},
            held_out=engine.watch.held_out_shares(),
            alarm="; ".join(engine.watch.alarms.values()) or None,
        )
    checkpoints.remove()


def _learner(still: "Still", plan: Reinforcement, saved: Path | None) -> tuple[Learner, dict[str, Any]]:
    """A learner at its start, or where a checkpoint left it."""
    first = objectives(plan.algorithm, plan.config.temperature)[0].objective
    how: dict[str, Any] = {
        "adapt": plan.adapt,
        "optimizer": plan.optimizer,
        "heads": heads(plan.algorithm),
        "seed": derive_seed("learner", still.seed),
    }
    if saved is not None:
        return Learner.restore(saved, first, device=still.device, **how)
    return Learner(load_policy(plan.start, device=still.device), first, **how), {}


def _reference(still: "Still", plan: Reinforcement) -> Reference | None:
    """The policy as it was at the start, where something compares with it."""
    if plan.algorithm.kl.place == "off":
        return None
    from contextlib import nullcontext

    policy = load_policy(plan.start, device=still.device)
    return lambda: nullcontext(policy)

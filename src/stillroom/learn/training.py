"""The training loop as an iterator: epochs over rows in a planned order, one report per optimiser step."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from stillroom.errors import TrainingStopped
from stillroom.learn.batches import Row, examples, plan, width
from stillroom.learn.learner import Learner, StepReport
from stillroom.learn.schedules import Schedule, rate
from stillroom.types import Noun


class TrainConfig(Noun):
    """How to fine-tune. Defaults are our choice for a pre-trained checkpoint unless a source is named."""

    epochs: float = Field(3.0, gt=0)
    """Passes over the data; a fraction stops within a pass. Ignored when `steps` is given."""
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    """Examples per optimiser step; a pair or group is one example."""
    lr: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    warmup: float = Field(0.03, ge=0, le=1)
    """Share of the steps with a rising rate (DART-Math: 0.03)."""
    too_long: Literal["drop", "stop"] = "drop"
    """What to do with an example that exceeds the model's positions: drop and count it, or stop. Never truncated."""

    def total_steps(self, examples: int) -> int:
        """Optimiser steps for that many examples."""
        per_epoch = -(-examples // self.batch_size)
        return self.steps if self.steps is not None else max(1, round(self.epochs * per_epoch))


def train(learner: Learner, rows: Sequence[Row], config: TrainConfig, *, seed: int) -> Iterator[StepReport]:
    """Train from the learner's own step counter to the end; every step is reported after it was taken.

    The data position is that counter alone: step s always sees the same examples, so a restored learner continues where
    it stood.

    Raises:
        TrainingStopped: when there are no rows.
    """
    if not rows:
        raise TrainingStopped("there is nothing to train on: no example was left")
    whole = [(row,) for row in rows] if learner.objective.compares == "rows" else examples(rows)
    lengths = [width(example) for example in whole]
    per_epoch = -(-len(whole) // config.batch_size)
    total = config.total_steps(len(whole))
    epoch, batches = -1, []
    while learner.steps < total:
        wanted, at = divmod(learner.steps, per_epoch)
        if wanted != epoch:
            epoch, batches = wanted, plan(lengths, config.batch_size, seed=seed, epoch=wanted)
        learner.forward_backward([row for i in batches[at] for row in whole[i]])
        yield learner.step(rate(config.schedule, learner.steps, total, peak=config.lr, warmup=config.warmup))

"""How to reinforce: sizes, rates and limits of the engine."""

from pydantic import Field

from stillroom.learn.rl.batch import Overlong
from stillroom.learn.schedules import Schedule
from stillroom.samplers.base import SamplingParams
from stillroom.types import Noun


class RLConfig(Noun):
    """Defaults are our choice for a proxy of half a million weights; a recipe names its source where it has one."""

    steps: int = Field(100, ge=1)
    """Of the engine: rollouts, rewards and an update."""
    problems: int = Field(16, ge=1)
    """Groups of a step; how many rollouts each has, the variants say."""
    temperature: float = Field(1.0, gt=0)
    """Of the rollouts, and of the log-probabilities in the loss."""
    max_new_tokens: int = Field(64, ge=1)
    epochs: int = Field(1, ge=1)
    """Passes over the rollouts of a step."""
    minibatches: int = Field(1, ge=1)
    """Optimiser steps of a pass."""
    lr: float = Field(1e-3, gt=0)
    schedule: Schedule = "constant"
    warmup: float = Field(0.0, ge=0, le=1)
    """Share of the steps with a rising rate."""
    overlong: Overlong = "keep"
    """What becomes of responses that hit the limit on new tokens."""
    held_out_every: int = Field(5, ge=1)
    """Steps between two looks at the held-out truth."""

    @property
    def params(self) -> SamplingParams:
        """Of the rollouts."""
        return SamplingParams(temperature=self.temperature, max_new_tokens=self.max_new_tokens)

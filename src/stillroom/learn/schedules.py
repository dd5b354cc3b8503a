"""Learning-rate schedules as functions of the step."""

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def rate(schedule: Schedule, step: int, total: int, *, peak: float, warmup: float = 0.03) -> float:
    """Learning rate of step `step` (from 0) of `total`: linear warm-up over the share `warmup`, then down to 0."""
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return peak * (step + 1) / ramp
    done = (step - ramp) / max(1, total - ramp)
    if schedule == "constant":
        return peak
    return peak * (1 - done) if schedule == "linear" else peak * 0.5 * (1 + math.cos(math.pi * done))

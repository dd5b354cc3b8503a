"""Simple preference optimisation (SimPO) on the student's own right and wrong answers.

Meng et al., "SimPO: Simple Preference Optimization with a Reference-Free Reward", https://arxiv.org/abs/2405.14734.
Like `dpo` in everything but the loss: the length-normalised log-probability is the reward, a margin stands in for the
reference. beta 2 and gamma 1 are in the paper's range; the rest is as in `dpo`.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.learn.objectives.contrast import SimPO
from stillroom.methods.dpo import prefer
from stillroom.methods.registry import recipe


@recipe("simpo", kind="model", summary="prefer the student's own right answers to its wrong ones by a margin (SimPO)")
def simpo(still: Still) -> Path:
    """Warm up on the teacher, pair the warm student's answers, train it on the pairs."""
    return prefer(still, SimPO())

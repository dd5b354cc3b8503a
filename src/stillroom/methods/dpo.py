"""Direct preference optimisation (DPO) on the student's own right and wrong answers.

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
https://arxiv.org/abs/2305.18290. A student warmed up on the teacher's traces answers every training problem k times; of
each problem with a right and a wrong answer, one pair trains the warm student, which is also the reference. Without
human preferences the verifier says which answer is better. beta is the paper's 0.1; k = 8 at temperature 1, one pass
over the pairs, and a twentieth of the first stage's learning rate are our choice.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.learn.objectives.base import Objective
from stillroom.learn.objectives.contrast import DPO
from stillroom.methods.registry import recipe
from stillroom.synth.rejection import FixedTrials

K = 8
"""Answers per problem."""
TEMPERATURE = 1.0
"""Of the student's own answers."""
RATE = 0.05
"""Learning rate of the second stage, as a share of the first one's."""


@recipe("dpo", kind="model", summary="prefer the student's own right answers to its wrong ones, near a reference (DPO)")
def dpo(still: Still) -> Path:
    """Warm up on the teacher, pair the warm student's answers, train it on the pairs with itself as reference."""
    return prefer(still, DPO())


def prefer(still: Still, objective: Objective) -> Path:
    """Train on pairs of the warm student's own answers with this objective."""
    taught = still.select(still.sample(FixedTrials(still.samples)), still.default_rules(), name="teacher")
    warm = still.fine_tune(taught, name="warm")
    own = still.sample(FixedTrials(K), pool="own", student=warm, temperature=TEMPERATURE)
    config = still.train_config
    second = config.model_copy(update={"epochs": 1.0, "steps": None, "lr": RATE * config.lr, "warmup": 0.1})
    return still.fine_tune(still.pairs(own), start=warm, objective=objective, train=second)

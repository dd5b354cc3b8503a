"""Rejection-sampling fine-tuning (RFT): the student learns from its own correct answers.

Yuan et al., "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models",
https://arxiv.org/abs/2308.01825. A student warmed up on the teacher's traces answers every training problem k times;
correct and distinct answers join the teacher's traces, and the untrained student is fine-tuned on both. The paper draws
k = 100 at temperature 0.7 and keeps distinct lists of equations; k = 8 and distinct texts are our choice.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.methods.registry import recipe
from stillroom.synth.rejection import FixedTrials

K = 8
"""Answers per problem (our choice; 100 in the paper)."""
TEMPERATURE = 0.7
"""Of the student's own answers (the paper's)."""


@recipe(
    "rft", kind="model", summary="rejection tuning: add the student's own correct, distinct answers and train again"
)
def rft(still: Still) -> Path:
    """Warm up on the teacher, sample the warm student, train the base on what both got right."""
    rules = still.default_rules()
    taught = still.select(still.sample(FixedTrials(still.samples)), rules, name="teacher")
    warm = still.fine_tune(taught, name="warm")
    own = still.sample(FixedTrials(K), pool="own", student=warm, temperature=TEMPERATURE)
    return still.fine_tune(still.select([*taught, *own], rules))

"""Self-consistency: several answers of one model, and the one that most of them agree on.

Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
https://arxiv.org/abs/2203.11171. Nothing is trained: the untrained student, or a checkpoint that another arm has made,
is asked n times at a temperature above 0. The paper draws 40 answers; n = 8 is ours, the temperature is the paper's.
"""

from pathlib import Path

from stillroom.infer.vote import Vote, Weigh
from stillroom.lab.still import Still
from stillroom.methods.registry import recipe

N = 8
"""Answers that vote (our choice; 40 in the paper)."""
TEMPERATURE = 0.7


@recipe("vote", kind="strategy", summary="answer several times and give the answer that most of them agree on")
def vote(still: Still, model: Path | None = None, *, n: int = N, weigh: Weigh | None = None) -> Vote:
    """The untrained student's vote, or a checkpoint's."""
    return Vote(still.local(still.student if model is None else model), n, weigh=weigh, temperature=TEMPERATURE)

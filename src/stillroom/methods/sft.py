"""Supervised fine-tuning on the teacher's verified traces, a fixed number of responses per problem.

The plainest distillation, and the arm that everything else is compared with: draw `samples` responses to every problem
(one by default), keep what the selection rules keep, train on the response tokens with a token-mean cross-entropy.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.methods.registry import recipe
from stillroom.synth.rejection import FixedTrials


@recipe("sft", kind="model", summary="fine-tune on the teacher's verified traces")
def sft(still: Still) -> Path:
    """Sample, select, fine-tune."""
    traces = still.sample(FixedTrials(still.samples))
    return still.fine_tune(still.select(traces, still.default_rules()))

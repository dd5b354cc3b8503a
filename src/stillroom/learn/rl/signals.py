"""What the policy, its reference and its value head say of rollouts, token by token and without a gradient."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from stillroom.learn.batches import Batch, Row, collate, split
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import Reference, View
from stillroom.learn.rl.batch import Floats
from stillroom.learn.rl.kl import Estimator, divergence


def token_logp(
    learner: Learner, rows: Sequence[Row], temperature: float, reference: Reference | None = None
) -> list[Floats]:
    """Log-probability, under logits / temperature, of every token of a row that carries a weight.

    Args:
        reference: opens the policy to ask; None: the one in training.
    """
    if reference is None:
        return _read(learner, rows, lambda batch: learner.view().logp_trained(batch, temperature)[0])
    with reference() as policy:
        return _read(learner, rows, lambda batch: View(policy).logp_trained(batch, temperature)[0])


def token_values(learner: Learner, rows: Sequence[Row]) -> list[Floats]:
    """The value head's estimate before every token of a row that carries a weight."""

    def read(batch: Batch) -> torch.Tensor:
        view = learner.view()
        values: torch.Tensor = view.head("value")(view.states(batch))
        return values

    return _read(learner, rows, read)


def token_divergence(estimator: Estimator, logp: Floats, logp_ref: Floats) -> Floats:
    """Of a rollout's tokens between the sampling policy and the reference."""
    found: Floats = divergence(estimator, torch.from_numpy(logp), torch.from_numpy(logp_ref)).numpy()
    return found


def _read(learner: Learner, rows: Sequence[Row], read: Callable[[Batch], torch.Tensor]) -> list[Floats]:
    """What `read` makes of the N weighted tokens of a batch, by row."""
    found: list[Floats] = [np.zeros(0)] * len(rows)
    # Batches are cut by length, so rows come back in another order: their number is their name here.
    numbered = [(row._replace(id=str(number)),) for number, row in enumerate(rows)]
    with torch.no_grad():
        for part in split(numbered, learner.micro_tokens):
            policy = learner.policy
            batch = collate(part, policy.pad_id, policy.device, vision=policy.vision)
            values_N = read(batch).double().cpu()
            counts = (batch.weights_LT > 0).sum(1).tolist()
            for name, values in zip(batch.row_ids, values_N.split(counts), strict=True):
                found[int(name)] = values.numpy()
    return found

"""The importance probe: as many entries and as much noise for every score, and the loss of the learner."""

from typing import get_args

import pytest
import torch

from fixtures_models import fresh, llama_policy, qwen2_policy, rows
from stillroom.errors import UserError
from stillroom.learn.adapt.importance import mean_loss, perturb
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.adapt.matrices import matrices
from stillroom.learn.adapt.scores import ScoreName, largest, principal
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT


@pytest.mark.parametrize("score", get_args(ScoreName))
def test_every_score_meets_as_many_entries_with_noise_of_the_same_size(score: ScoreName) -> None:
    policy = fresh(llama_policy())
    before = {m.name: m.weight.detach().clone() for m in matrices(policy)}
    batches = [rows(policy, 3), rows(policy, 2)]
    changed = perturb(policy, score, 0.05, seed=4, batches=batches)
    assert changed == sum(Masked(density=0.05).budget(*old.shape) for old in before.values())
    noise = []
    for matrix in matrices(policy):
        difference = (matrix.weight.detach() - before[matrix.name]).flatten()
        at = difference.nonzero().flatten()
        assert len(at) == Masked(density=0.05).budget(*matrix.weight.shape)
        if score == "lift":
            assert at.tolist() == largest(principal(before[matrix.name]).abs(), len(at)).tolist()
        noise += (difference[at] / before[matrix.name].std()).tolist()
        assert matrix.weight.grad is None
    assert float(torch.tensor(noise).std()) == pytest.approx(0.3, rel=0.15)


def test_a_probe_is_the_same_every_time() -> None:
    found = []
    for seed in (1, 1, 2):
        policy = fresh(qwen2_policy())
        perturb(policy, "random", 0.1, seed=seed)
        found.append(mean_loss(policy, rows(policy, 4)))
    assert found[0] == found[1] != found[2]


def test_the_loss_is_that_of_the_learner() -> None:
    policy = fresh(qwen2_policy())
    examples = rows(policy, 6)
    expected = Learner(fresh(qwen2_policy()), SFT()).forward_backward(examples)
    assert mean_loss(policy, examples) == pytest.approx(expected, rel=1e-5)
    assert mean_loss(policy, examples, micro_tokens=1) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_score_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match="'movement' needs a gradient; give batches"):
        perturb(fresh(qwen2_policy()), "movement", 0.1, seed=0)

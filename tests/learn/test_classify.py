"""A classification head: its loss by hand, and what a trained classifier says of questions."""

import math
from collections.abc import Sequence

import pytest
import torch

from fixtures_models import fresh, qwen2_policy, rows
from stillroom.errors import UserError
from stillroom.learn.batches import Row, collate
from stillroom.learn.heads import ValueHead
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import View
from stillroom.learn.objectives.classify import Classify


def asked(labels: Sequence[float]) -> list[Row]:
    """Rows with a weight on the first taught token alone."""
    found = []
    for row, label in zip(rows(qwen2_policy(), len(labels)), labels, strict=True):
        at = next(i for i, weight in enumerate(row.tokens.weights) if weight > 0)
        tokens = row.tokens._replace(ids=row.tokens.ids[: at + 1], weights=[0.0] * at + [1.0])
        found.append(row._replace(tokens=tokens, signals={"label": [label] * (at + 1)}))
    return found


def test_the_loss_by_hand() -> None:
    """Values 2 and -1 for true and false statements, and 0.5 for a false one."""
    policy = fresh(qwen2_policy(), torch.float64)
    batch = collate([(row,) for row in asked([1.0, 0.0, 0.0])], policy.pad_id)
    values = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    found = Classify()(View(policy, heads={"label": lambda states: values}), batch)
    expected = math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0)) + math.log1p(math.exp(0.5))
    assert float(found.total) == pytest.approx(expected, rel=1e-12)
    assert Classify().denominator(batch) == 3
    assert Classify().summary(found.tokens) == {"accuracy": pytest.approx(2 / 3)}


def test_the_state_is_that_of_the_question_alone() -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    (row,) = asked([1.0])
    other = row._replace(tokens=row.tokens._replace(ids=[*row.tokens.ids[:-1], row.tokens.ids[-1] + 1]))
    states = [View(policy).states(collate([(one,)], policy.pad_id)) for one in (row, other)]
    torch.testing.assert_close(*states, rtol=1e-9, atol=1e-12)


def test_a_row_without_a_label_and_a_learner_without_a_head_are_refused() -> None:
    policy = fresh(qwen2_policy())
    with pytest.raises(UserError, match="head"):
        Learner(policy, Classify())
    learner = Learner(policy, Classify(), heads={"label": ValueHead()})
    (row,) = asked([1.0])
    with pytest.raises(UserError, match="label"):
        learner.forward_backward([row._replace(signals={})])


def test_a_head_learns_to_tell_questions_apart() -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, Classify(), heads={"label": ValueHead()})
    data = asked([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    for _ in range(60):
        learner.forward_backward(data)
        report = learner.step(1e-2)
    assert report.diagnostics["accuracy"] == 1.0
    assert report.loss < 0.1
    assert learner.head("label").weight.shape == (1, policy.model.config.hidden_size)

"""Advantages and divergences against arithmetic by hand, in float64."""

import math

import pytest
import torch

from stillroom.errors import UserError
from stillroom.learn.rl.advantages import GAE, RLOO, Group, Reinforce, Scores
from stillroom.learn.rl.kl import KL, divergence

SCORES = Scores(rewards=[1.0, 0.0, 4.0, None, 2.0, 2.0], groups=[0, 0, 0, 0, 1, 1], lengths=[1, 2, 1, 3, 1, 1])


def test_group_by_hand() -> None:
    # Mean 5/3; squared distances 4/9, 25/9, 49/9, over n - 1 = 2.
    spread = math.sqrt((4 / 9 + 25 / 9 + 49 / 9) / 2) + 1e-4
    found = Group()(SCORES)
    assert [row.tolist() for row in found.tokens[:2]] == [
        pytest.approx([(1 - 5 / 3) / spread], rel=1e-12),
        pytest.approx([(0 - 5 / 3) / spread] * 2, rel=1e-12),
    ]
    assert found.tokens[3].tolist() == [0, 0, 0]
    assert found.tokens[4].tolist() == [0]
    assert found.trains == [True, True, True, False, True, True]
    assert Group(drop_equal=True)(SCORES).trains == [True, True, True, False, False, False]
    assert Group(std=False)(SCORES).tokens[2].tolist() == pytest.approx([4 - 5 / 3], rel=1e-12)


def test_leave_one_out_and_reinforce_by_hand() -> None:
    found = RLOO()(SCORES)
    assert [row[0] for row in found.tokens] == pytest.approx([1 - 2.0, 0 - 2.5, 4 - 0.5, 0, 0, 0], rel=1e-12)
    assert RLOO()(Scores([3.0], [0], [2])).trains == [False]
    assert [row[0] for row in Reinforce()(SCORES).tokens] == [1, 0, 4, 0, 2, 2]
    assert Reinforce("mean")(SCORES).tokens[2].tolist() == pytest.approx([4 - 9 / 5], rel=1e-12)
    # What tokens earned besides belongs to the response.
    with_tokens = Scores([1.0, 0.0], [0, 0], [2, 1], token_rewards=[[-0.25, -0.5], [0.125]])
    assert Reinforce()(with_tokens).tokens[0].tolist() == [0.25, 0.25]
    assert RLOO()(with_tokens).tokens[1].tolist() == [0.125 - 0.25]


def test_generalised_advantages_by_hand() -> None:
    scores = Scores([2.0, None], [0, 1], [3, 1], token_rewards=[[0.5, 0, 0], [9]], values=[[1.0, 0.5, 0.25], [3.0]])
    last = 2 - 0.25
    middle = 0.9 * 0.25 - 0.5 + 0.9 * 0.8 * last
    first = 0.5 + 0.9 * 0.5 - 1.0 + 0.9 * 0.8 * middle
    found = GAE(gamma=0.9, lam=0.8, whiten=False)(scores)
    assert found.tokens[0].tolist() == pytest.approx([first, middle, last], rel=1e-12)
    assert found.returns is not None
    assert found.returns[0].tolist() == pytest.approx([first + 1, middle + 0.5, last + 0.25], rel=1e-12)
    assert (found.tokens[1].tolist(), found.trains) == ([0], [True, False])
    mean = (first + middle + last) / 3
    variance = sum((a - mean) ** 2 for a in (first, middle, last)) / 2
    white = GAE(gamma=0.9, lam=0.8)(scores).tokens[0]
    expected = [(a - mean) / math.sqrt(variance + 1e-8) for a in (first, middle, last)]
    assert white.tolist() == pytest.approx(expected, rel=1e-12)


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="GAE needs the value of every token"):
        GAE()(Scores([1.0], [0], [2]))
    with pytest.raises(UserError, match="the reward of row 0 is nan"):
        Group()(Scores([math.nan], [0], [1]))
    with pytest.raises(UserError, match="values do not have one number per token"):
        GAE()(Scores([1.0], [0], [2], values=[[1.0]]))
    with pytest.raises(UserError, match="row 1 of the scores has no token"):
        RLOO()(Scores([1.0, 1.0], [0, 0], [2, 0]))


def test_estimators_of_the_divergence_by_hand() -> None:
    logp, reference = torch.tensor([-1.0, -2.0]).double(), torch.tensor([-1.5, -0.5]).double()
    assert divergence("k1", logp, reference).tolist() == [0.5, -1.5]
    assert divergence("k2", logp, reference).tolist() == [0.125, 1.125]
    expected = [math.exp(-0.5) - 1 + 0.5, math.exp(1.5) - 1 - 1.5]
    assert divergence("k3", logp, reference).tolist() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(UserError, match="no effect"):
        KL(weight=0.1)

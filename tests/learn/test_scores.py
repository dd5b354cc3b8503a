"""Scores of single entries against a float64 decomposition and numbers worked by hand."""

import pytest
import torch

from stillroom.errors import UserError
from stillroom.learn.adapt.scores import Statistics, get_score, largest, observe, principal

W = torch.tensor([[3.0, -1.0, 0.5], [-2.0, 4.0, 0.0]])
G = torch.tensor([[0.1, -0.4, 0.2], [0.3, 0.0, -0.5]])


@pytest.mark.parametrize(("shape", "rank"), [((24, 40), 3), ((40, 24), 5), ((16, 16), 1), ((33, 17), None)])
def test_principal_scores_are_those_of_a_float64_decomposition(shape: tuple[int, int], rank: int | None) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, s, vt = torch.linalg.svd(weight.double(), full_matrices=False)
    kept = min(shape) // 8 if rank is None else rank
    expected = sum(s[i] * torch.outer(u[:, i], vt[i]) for i in range(kept)).abs()  # type: ignore[union-attr]
    found = get_score("lift", rank).of(weight, None, {}, 0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    k = weight.numel() // 20
    assert set(largest(found, k).tolist()) == set(torch.topk(expected.flatten(), k).indices.tolist())


def test_half_precision_is_decomposed_in_float32() -> None:
    weight = torch.randn((12, 20), generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    assert torch.equal(principal(weight, 2), principal(weight.float(), 2))


def test_the_full_rank_is_plain_magnitude() -> None:
    torch.testing.assert_close(get_score("lift", 99).of(W, None, {}, 0), get_score("magnitude").of(W, None, {}, 0))


def test_one_large_entry_outside_the_principal_part_is_passed_over() -> None:
    """The point of LIFT: a lone large entry is not principal, a smaller one on the dominant direction is."""
    weight = 0.5 * torch.ones(16, 16)
    weight[0, 0] = 1.0
    weight[3:6, 3:6] += 0.3
    assert largest(get_score("magnitude").of(weight, None, {}, 0), 1).tolist() == [0]
    assert largest(get_score("lift", 1).of(weight, None, {}, 0), 1).tolist() != [0]


def test_gradient_scores_by_hand() -> None:
    """Two observations, of G and of -2 G; the moments decay by 0.9 and 0.95."""
    first = 0.9 * (0.1 * G) + 0.1 * (-2 * G)
    second = 0.95 * (0.05 * G**2) + 0.05 * 4 * G**2
    expected = {
        "gradient": (2 * G).abs(),
        "momentum": first.abs(),
        "hessian": second,
        "adam-update": first.abs() / (second.sqrt() + 1e-6),
        "movement": -0.01 * G * W + 0.01 * 2 * G * W,
    }
    for name, value in expected.items():
        score = get_score(name)  # type: ignore[arg-type]
        statistics: Statistics = {}
        for gradient in (G, -2 * G):
            observe(score, statistics, W, gradient)
        assert score.needs_gradient
        torch.testing.assert_close(score.of(W, -2 * G, statistics, 0), value)


def test_only_scores_that_need_them_keep_dense_statistics() -> None:
    kept = {
        "lift": 0,
        "magnitude": 0,
        "gradient": 0,
        "momentum": 1,
        "adam-update": 2,
        "movement": 1,
        "hessian": 1,
        "random": 0,
        "block": 0,
    }
    for name, count in kept.items():
        statistics: Statistics = {}
        observe(get_score(name), statistics, W, G)  # type: ignore[arg-type]
        assert len(statistics) == count, name


def test_random_entries_follow_the_seed_alone() -> None:
    score = get_score("random")
    weight = torch.zeros(30, 30)
    one, again, other = (set(largest(score.of(weight, None, {}, seed), 45).tolist()) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one & other) < 20


def test_a_block_is_a_cross_of_whole_rows_and_columns() -> None:
    """r rows and r columns of an m x n matrix hold (m + n) r - r^2 entries."""
    score = get_score("block").of(torch.zeros(6, 9), None, {}, 5)
    mask = torch.zeros(54, dtype=torch.bool)
    mask[largest(score, (6 + 9) * 2 - 4)] = True
    assert sorted(mask.view(6, 9).sum(dim=1).tolist()) == [2, 2, 2, 2, 9, 9]
    assert sorted(mask.view(6, 9).sum(dim=0).tolist()) == [2] * 7 + [6, 6]


@pytest.mark.parametrize("k", [1, 2, 4, 5, 6])
def test_ties_are_cut_to_the_exact_number_first_come_first(k: int) -> None:
    """5 is the largest, three entries share 2: they are taken in order."""
    found = largest(torch.tensor([[2.0, 1.0, 5.0], [2.0, 0.0, 2.0]]), k).tolist()
    assert found == sorted([2, 0, 3, 5, 1, 4][:k])


def test_what_has_no_effect_or_no_gradient_is_refused() -> None:
    with pytest.raises(UserError, match="filter_rank=4 has no effect on score 'random'"):
        get_score("random", 4)
    with pytest.raises(UserError, match="filter_rank=0 keeps nothing"):
        get_score("lift", 0)
    with pytest.raises(UserError, match="unknown score 'magnitud'; did you mean magnitude"):
        get_score("magnitud")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="needs a gradient"):
        get_score("gradient").of(W, None, {}, 0)

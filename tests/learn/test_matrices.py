"""Spectra and changes of weight matrices."""

import pytest
import torch

from fixtures_models import fresh, neox_policy, qwen2_policy
from stillroom.errors import UserError
from stillroom.learn.adapt.matrices import matrices, require_spectrum, spectral_excess, weight_change


def test_the_change_of_two_weight_maps_by_hand() -> None:
    """One matrix changed by a rank-1 difference of norm 5, another in one entry, a third and a vector not."""
    before = {"a": torch.eye(4), "b": torch.eye(3, 5), "same": torch.ones(2, 2), "norm": torch.ones(4)}
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["a"][0, :2] += torch.tensor([3.0, 4.0])
    after["b"][1, 4] += 12.0
    after["norm"] += 1
    found = weight_change(before, after)
    assert (found.changed, found.entries) == (2, 3)
    assert found.rank == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert found.norm == pytest.approx(13.0)
    assert found.relative_norm == pytest.approx(13.0 / (4 + 3) ** 0.5)


def test_a_sparse_change_may_have_full_rank_and_a_tied_one_counts_once() -> None:
    tied = torch.eye(6)
    before = {"embed": tied, "head": tied}
    after = {"embed": tied + 0.1 * torch.eye(6), "head": tied + 0.1 * torch.eye(6)}
    found = weight_change(before, after)
    assert (found.changed, found.entries, found.rank) == (1, 6, 1.0)
    assert weight_change(before, before).rank == 0.0
    with pytest.raises(UserError, match="different layouts: embed"):
        weight_change(before, {"embed": torch.eye(5)})


def test_rounding_does_not_count_as_rank() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(13)
        weight, left, right = torch.randn(40, 60), torch.randn(40, 3), torch.randn(3, 60)
    assert weight_change({"w": weight}, {"w": weight + 0.01 * left @ right}).rank == pytest.approx(3 / 40)


def test_random_weights_have_no_principal_part_and_are_refused() -> None:
    policy = fresh(qwen2_policy())
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(11)
        for matrix in matrices(policy):
            matrix.weight.normal_(std=0.05)
    assert spectral_excess(policy) == pytest.approx(1.0, abs=0.08)
    with pytest.raises(UserError, match="no principal weights to find; start from a pre-trained student"):
        require_spectrum(policy)


def test_a_strong_direction_in_every_matrix_is_enough() -> None:
    """Rank-1 parts that hold half of the energy beside Gaussian noise."""
    policy = fresh(qwen2_policy())
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(12)
        for matrix in matrices(policy):
            m, n = matrix.weight.shape
            matrix.weight.normal_()
            matrix.weight.add_(torch.outer(torch.randn(m), torch.randn(n)))
    assert spectral_excess(policy) > 1.5
    require_spectrum(policy)


def test_the_parts_of_a_fused_matrix_fill_it_exactly() -> None:
    policy = neox_policy()
    parts = [matrix for matrix in matrices(policy) if "layers.1" in matrix.name and "query_key_value" in matrix.name]
    assert len(parts) == 3
    weight = parts[0].weight
    whole = [matrix.places(torch.arange(matrix.of(weight).numel())) for matrix in parts]
    assert torch.cat(whole).sort().values.tolist() == list(range(weight.numel()))
    for matrix, flat in zip(parts, whole, strict=True):
        assert torch.equal(weight.flatten()[flat], matrix.of(weight).flatten())

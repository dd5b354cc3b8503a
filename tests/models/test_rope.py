"""Interpolated positions: a token at position 2p of the copy is rotated as one at p of the model itself."""

import pytest
import torch

from fixtures_models import gemma_policy, llama_policy, qwen2_policy
from stillroom.errors import UserError
from stillroom.models.llama import known_parts
from stillroom.models.policy import Policy
from stillroom.models.rope import interpolated


def logits(policy: Policy, ids: list[int], positions: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return policy.model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions])).logits[0]


@pytest.mark.parametrize("policy", [qwen2_policy(), llama_policy()], ids=lambda policy: policy.source)
def test_positions_are_squeezed_together(policy: Policy) -> None:
    ids, copy = [5, 9, 7, 30, 11], interpolated(policy, 2)
    assert torch.allclose(logits(copy, ids, [0, 2, 4, 6, 8]), logits(policy, ids, [0, 1, 2, 3, 4]), atol=1e-5)
    assert not torch.allclose(logits(copy, ids, [0, 1, 2, 3, 4]), logits(policy, ids, [0, 1, 2, 3, 4]), atol=1e-3)
    assert torch.equal(logits(interpolated(policy, 1), ids, [0, 1, 2, 3, 4]), logits(policy, ids, [0, 1, 2, 3, 4]))


def test_the_fast_path_reads_them() -> None:
    plain, squeezed = known_parts(qwen2_policy().model), known_parts(interpolated(qwen2_policy(), 4).model)
    assert plain is not None
    assert squeezed is not None
    assert torch.allclose(squeezed.frequencies, plain.frequencies / 4)


def test_what_cannot_be_interpolated_is_refused() -> None:
    with pytest.raises(UserError, match="'gemma' cannot be interpolated"):
        interpolated(gemma_policy(), 2)
    with pytest.raises(UserError, match="cannot be interpolated"):
        interpolated(interpolated(qwen2_policy(), 2), 2)
    with pytest.raises(UserError, match=r"factor 0\.5"):
        interpolated(qwen2_policy(), 0.5)

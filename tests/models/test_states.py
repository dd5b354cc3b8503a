"""The fast path of training: hidden states and gradients of the module, whatever rows have in common."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_models import called, fresh, llama_policy, qwen2_policy
from stillroom.models import llama_states
from stillroom.models.llama_states import Lines
from stillroom.models.policy import Policy

KNOWN = pytest.mark.parametrize("policy", [qwen2_policy, llama_policy])


def laid(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and row numbers, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    number = torch.tensor([[i] * len(row) + [-1] * (width - len(row)) for i, row in enumerate(rows)])
    return ids, number


def states_and_gradients(policy: Policy, rows: list[list[int]], wanted: torch.Tensor) -> list[torch.Tensor]:
    ids, number = laid(rows)
    states = policy.states(ids, number, wanted)
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=states.dtype)
    (states * weights).sum().backward()
    return [states.detach(), *(p.grad for p in policy.model.base_model.parameters() if p.grad is not None)]


@KNOWN
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_states_and_gradients_are_those_of_the_module(policy: Callable[[], Policy], data: st.DataObject) -> None:
    ids = st.lists(st.integers(2, 9), min_size=1, max_size=6)
    starts = data.draw(st.lists(ids, min_size=1, max_size=3))
    rows = [data.draw(st.sampled_from(starts)) + data.draw(ids) for _ in range(data.draw(st.integers(1, 7)))]
    real = laid(rows)[1] >= 0
    seed = data.draw(st.integers(0, 99))
    wanted = real & (torch.rand(real.shape, generator=torch.Generator().manual_seed(seed)) < 0.6)
    wanted[0, 0] = True
    fast, module = fresh(policy(), torch.float64), called(fresh(policy(), torch.float64))
    assert fast.skips_padding
    assert not module.skips_padding
    for ours, theirs in zip(
        states_and_gradients(fast, rows, wanted), states_and_gradients(module, rows, wanted), strict=True
    ):
        # The module takes norms in float32 whatever its weights are.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_gradients_are_differences_of_the_loss() -> None:
    """In float64, where the module itself is not exact."""
    policy = fresh(qwen2_policy(), torch.float64)
    rows = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 9, 4, 4], [11, 3]]
    ids, number = laid(rows)
    wanted = (number >= 0) & (ids != 3)

    def loss() -> torch.Tensor:
        return policy.states(ids, number, wanted).square().mul(torch.arange(16)).sum()

    loss().backward()
    for name, parameter in policy.model.base_model.named_parameters():
        direction = torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64
        )
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-6 * direction
                values.append(float(loss()))
                parameter -= sign * 1e-6 * direction
        assert parameter.grad is not None
        slope = float((parameter.grad * direction).sum())
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_frozen_weights_get_no_gradient() -> None:
    policy = fresh(qwen2_policy())
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_("mlp.up_proj" in name or "layers.0.self_attn.k_proj" in name)
    ids, number = laid([[5, 6, 7], [5, 8]])
    policy.states(ids, number, number >= 0).sum().backward()
    got = {name for name, parameter in policy.model.named_parameters() if parameter.grad is not None}
    assert got == {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert len(got) == 4


def test_what_rows_have_in_common_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fresh(qwen2_policy())
    prompt = list(range(2, 42))
    seen, attend = [], Lines.attend

    def counting(lines: Lines, turned: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append(len(turned))
        return attend(lines, turned, *others)

    monkeypatch.setattr(Lines, "attend", counting)
    ids, number = laid([[*prompt, 50 + i, 60] for i in range(8)])
    policy.states(ids, number, number >= 0)
    assert set(seen) == {40 + 8 * 2}


def test_what_nobody_asks_for_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of many blocks, in groups of unlike length, of which the last layer makes what is wanted alone."""
    monkeypatch.setattr(llama_states, "BLOCK", 4)
    policy = fresh(qwen2_policy())
    policy.model.double()
    ids, number = laid([[2 + i % 50 for i in range(40)], [3 + i % 40 for i in range(38)], [4, 5, 6, 7, 8]])
    real = number >= 0
    wanted = real & (torch.arange(40) >= torch.tensor([[29], [23], [9]]))
    found = []
    for asked in (wanted, real):
        states = policy.states(ids, number, asked)[wanted[asked]]
        (states * torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)).sum().backward()
        found.append([states.detach(), *(p.grad for p in policy.model.parameters() if p.grad is not None)])
        policy.model.zero_grad()
    assert len(found[0]) > 10
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right)


def test_the_first_layer_reads_each_entry_of_the_vocabulary_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fresh(qwen2_policy())
    seen, embed = [], torch.nn.functional.embedding

    def counting(ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append(sorted(ids.tolist()))
        return embed(ids, weight)

    monkeypatch.setattr(torch.nn.functional, "embedding", counting)
    ids, number = laid([[5, 6, 5, 7], [6, 6, 9]])
    policy.states(ids, number, number >= 0)
    assert seen == [[5, 6, 7, 9]]


@pytest.mark.parametrize("shift", [0.0, 40.0, -40.0, 300.0, -300.0, 2e4, torch.nan])
def test_attention_is_a_softmax_wherever_its_scores_lie(shift: float) -> None:
    scores = 5 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    scores[:, 1, 4:] = -torch.inf
    scores[1] += shift
    expected = (scores.double() * math.log(2)).softmax(-1).float()
    torch.testing.assert_close(llama_states._softmax2(scores), expected, rtol=2e-5, atol=1e-7, equal_nan=True)

"""Log-probabilities in slices: the values and gradients of all at once, in a fraction of the memory."""

import pytest
import torch

from fixtures_models import fresh, llama_policy, neox_policy, qwen2_policy
from stillroom.learn.objectives import logp as module
from stillroom.learn.objectives.logp import token_logp, token_scores


@pytest.mark.parametrize("make", [qwen2_policy, llama_policy, neox_policy])
@pytest.mark.parametrize("at_once", [1, 700, 5_000])
def test_slices_change_neither_values_nor_gradients(make, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    policy = fresh(make(), torch.float64)
    width, size = policy.model.config.hidden_size, policy.model.get_output_embeddings().out_features
    states = torch.randn(21, width, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(size, (21,), generator=generator)
    weights = torch.randn(21, generator=generator, dtype=torch.float64)
    found = []
    for limit in (1 << 30, at_once):
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", limit)
        values = token_logp(policy, states, targets)
        head = policy.model.get_output_embeddings().weight
        found.append((values, *torch.autograd.grad((values * weights).sum(), [states, head])))
    for whole, sliced in zip(*found, strict=True):
        torch.testing.assert_close(sliced, whole, rtol=1e-10, atol=1e-12)
    expected = (states @ policy.model.get_output_embeddings().weight.t()).log_softmax(-1)
    torch.testing.assert_close(found[1][0], expected.gather(1, targets[:, None])[:, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropies_and_their_gradients_in_slices(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside PyTorch's own derivative of the formula, with the log-probabilities pulling at the same logits."""
    generator = torch.Generator().manual_seed(1)
    policy = fresh(qwen2_policy(), torch.float64)
    head = policy.model.get_output_embeddings().weight
    states = torch.randn(21, head.shape[1], generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(len(head), (21,), generator=generator)
    pull_logp, pull_entropy = torch.randn(2, 21, generator=generator, dtype=torch.float64)
    logp_NV = (states @ head.t() / temperature).log_softmax(-1)
    entropy = -(logp_NV.exp() * logp_NV).sum(-1)
    loss = (logp_NV.gather(1, targets[:, None])[:, 0] * pull_logp + entropy * pull_entropy).sum()
    expected = (entropy, *torch.autograd.grad(loss, [states, head]))
    for limit in (1 << 30, 5 * len(head), 1):
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", limit)
        found = token_scores(policy, states, targets, temperature)
        loss = (found.logp_N * pull_logp + found.entropy_N * pull_entropy).sum()
        for one, other in zip((found.entropy_N, *torch.autograd.grad(loss, [states, head])), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_no_tensor_is_as_large_as_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fresh(qwen2_policy())
    size = policy.model.get_output_embeddings().out_features
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 10 * size)
    states = torch.randn(400, policy.model.config.hidden_size).requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        token_logp(policy, states, torch.zeros(400, dtype=torch.long)).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest < 400 * size * 4 / 4


def test_an_unlikely_target_keeps_its_likelihood_and_gradient() -> None:
    """A share far below the smallest number is still the logarithm that it is, beside PyTorch's own in float64."""
    logits = torch.tensor([[400.0, -400.0, 0.0], [3.0, 2.0, 1.0], [-9e4, -9e4, 9e4], [0.0, -torch.inf, 1.0]])
    targets, pull = torch.tensor([1, 0, 2, 2]), torch.tensor([0.5, -1.5, 2.0, 1.0])
    found = []
    for given in (logits.clone().requires_grad_(), logits.double().requires_grad_()):
        logp = (
            module._Target.apply(given, targets)
            if given.dtype == torch.float32
            else given.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        )
        found.append((logp.double(), torch.autograd.grad((logp * pull).sum(), given)[0].double()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert found[0][0][0] == -800.0

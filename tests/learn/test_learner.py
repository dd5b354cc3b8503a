"""The learner: losses against written-out arithmetic, unchanged by batching, and restored bit for bit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import pytest
import torch

from fixtures_models import called, fresh, llama_policy, qwen2_policy, rows, taught
from stillroom.chat import Tokenised
from stillroom.errors import CheckpointError, TrainingStopped, UserError
from stillroom.learn.adapt.base import AdamW
from stillroom.learn.batches import Batch, Row
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import LossSum, View
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.training import TrainConfig, train
from stillroom.models.policy import Policy, Sidecar, load_policy
from stillroom.seeds import derive_rng

SIDECAR = Sidecar(chat_format="think")
CONFIG = TrainConfig(steps=8, batch_size=4, lr=5e-3)


def weighted_rows(policy: Policy) -> list[Row]:
    """With weights other than 0 and 1, and turns of which only some are trained."""
    found = rows(policy, 7)
    return [
        Row(row.id, Tokenised(row.tokens.ids, [w * (0.3 + 0.2 * (i % 4)) for i, w in enumerate(row.tokens.weights)]))
        for row in found
    ]


def written_out(policy: Policy, examples: Sequence[Row]) -> float:
    """``- sum_t w_t log p(y_t | y_<t) / sum_t w_t``, token by token."""
    total = weight_sum = 0.0
    for row in examples:
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([row.tokens.ids])).logits[0].tolist()
        for t in range(1, len(row.tokens.ids)):
            before, token, weight = logits_TV[t - 1], row.tokens.ids[t], row.tokens.weights[t]
            log_total = max(before) + math.log(math.fsum(math.exp(x - max(before)) for x in before))
            total -= weight * (before[token] - log_total)
            weight_sum += weight
    return total / weight_sum


def gradient(policy: Policy) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("make", [qwen2_policy, llama_policy])
def test_the_sft_loss_is_the_written_out_sum(make: object) -> None:
    policy = fresh(make(), torch.float64)  # type: ignore[operator]
    examples = weighted_rows(policy)
    loss = Learner(policy, SFT()).forward_backward(examples)
    # Weights are stored as float32.
    assert loss == pytest.approx(written_out(policy, examples), rel=1e-6)


def test_the_gradient_is_that_of_the_loss() -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    examples = weighted_rows(policy)[:3]
    Learner(policy, SFT()).forward_backward(examples)
    parameter = policy.model.base_model.layers[1].mlp.up_proj.weight
    step = 3e-3  # the norms compute in float32: a smaller one would measure their rounding
    for at in ((0, 0), (5, 3)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[at] += sign * step
                values.append(written_out(policy, examples))
                parameter[at] -= sign * step
        assert float(parameter.grad[at]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-2)


def test_how_a_batch_is_cut_ordered_and_padded_changes_nothing() -> None:
    base = qwen2_policy()
    examples = weighted_rows(base)
    whole = fresh(base, torch.float64)
    expected = Learner(whole, SFT(), micro_tokens=1 << 20).forward_backward(examples)
    # The module takes norms in float32, so that its packed lines are compared with its own.
    module = called(fresh(base, torch.float64))
    assert Learner(module, SFT(), micro_tokens=1 << 20).forward_backward(examples) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient(module), gradient(whole), rtol=1e-3, atol=1e-6)
    for micro_tokens, order in ((1, 1), (60, 1), (60, -1), (150, -1), (1 << 20, -1)):
        policy = fresh(base, torch.float64)
        loss = Learner(policy, SFT(), micro_tokens=micro_tokens).forward_backward(examples[::order])
        assert loss == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(gradient(policy), gradient(whole), rtol=1e-6, atol=1e-9)
        packed = called(fresh(base, torch.float64))
        loss = Learner(packed, SFT(), micro_tokens=micro_tokens).forward_backward(examples[::order])
        assert loss == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(gradient(packed), gradient(module), rtol=1e-6, atol=1e-9)
    # A long row without a weight only pads the others.
    policy = fresh(base, torch.float64)
    longest = max(len(row.tokens.ids) for row in examples)
    mute = taught(base, "9 + " * longest, "1", weight=0.0)
    assert len(mute.ids) > 2 * longest
    loss = Learner(policy, SFT(), micro_tokens=1 << 20).forward_backward([*examples, Row("mute", mute)])
    assert loss == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient(policy), gradient(whole), rtol=1e-6, atol=1e-9)


def corrupt(batch: Sequence[Row], step: int, rng: Random) -> list[Row]:
    """One input token of every row is replaced; what is predicted stays (masked-thought training does this)."""
    found = []
    for row in batch:
        ids = list(row.tokens.ids)
        at = rng.randrange(1, len(ids))
        weights = [0.0 if t == at else w for t, w in enumerate(row.tokens.weights)]
        ids[at] = 7 + step
        found.append(row._replace(tokens=Tokenised(ids, weights)))
    return found


@dataclass(frozen=True)
class Surprise:
    """Tokens weigh as much as another model is surprised by them."""

    judge: Policy

    def __call__(self, batch: Sequence[Row], step: int, rng: Random) -> list[Row]:
        found = []
        for row in batch:
            with torch.no_grad():
                logp = self.judge.model(torch.tensor([row.tokens.ids])).logits[0].log_softmax(-1)
            surprise = [0.0, *(-float(logp[t - 1, row.tokens.ids[t]]) for t in range(1, len(row.tokens.ids)))]
            weights = [w * s for w, s in zip(row.tokens.weights, surprise, strict=True)]
            found.append(row._replace(tokens=Tokenised(row.tokens.ids, weights)))
        return found


def test_transforms_see_the_whole_batch_before_it_is_cut(tmp_path: Path) -> None:
    base = qwen2_policy()
    transforms = (corrupt, Surprise(base))
    examples = rows(base, 6)

    def learner(micro_tokens: int, seed: int = 5) -> Learner:
        policy = fresh(base, torch.float64)
        return Learner(policy, SFT(), transforms=transforms, seed=seed, micro_tokens=micro_tokens)

    whole, cut = learner(1 << 20), learner(1)
    for _ in range(2):
        expected = whole.forward_backward(examples)
        assert cut.forward_backward(examples) == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(gradient(cut.policy), gradient(whole.policy), rtol=1e-6, atol=1e-9)
        whole.step(1e-2)
        cut.step(1e-2)
    assert learner(1 << 20, seed=6).forward_backward(examples) != learner(1 << 20).forward_backward(examples)
    # By hand: the weighted loss of the transformed rows.
    changed: Sequence[Row] = examples
    for number, transform in enumerate(transforms):
        changed = transform(changed, 0, derive_rng("transform", 5, number, 0))
    assert changed[0].tokens.ids != examples[0].tokens.ids
    loss = learner(1 << 20).forward_backward(examples)
    assert loss == pytest.approx(written_out(fresh(base, torch.float64), changed), rel=1e-6)
    # A restored learner draws what the uninterrupted one would have drawn.
    policy = fresh(base)
    straight = Learner(policy, SFT(), transforms=transforms, seed=5)
    straight.forward_backward(examples)
    straight.step(1e-2)
    straight.save(tmp_path / "step-1", sidecar=SIDECAR)
    again, _ = Learner.restore(tmp_path / "step-1", SFT(), transforms=transforms, seed=5)
    assert again.forward_backward(examples) == straight.forward_backward(examples)


def test_two_batches_before_a_step_add_up() -> None:
    base = qwen2_policy()
    examples = weighted_rows(base)
    policy = fresh(base, torch.float64)
    learner = Learner(policy, SFT())
    learner.forward_backward(examples[:3])
    first = gradient(policy).clone()
    learner.forward_backward(examples[3:])
    alone = fresh(base, torch.float64)
    Learner(alone, SFT()).forward_backward(examples[3:])
    torch.testing.assert_close(gradient(policy), first + gradient(alone), rtol=1e-6, atol=1e-9)


def test_a_step_reports_what_it_did() -> None:
    policy = fresh(qwen2_policy())
    examples = rows(policy, 5)
    learner = Learner(policy, SFT(), micro_tokens=1 << 20)
    loss = learner.forward_backward(examples)
    norm = float(gradient(policy).norm())
    report = learner.step(1e-3)
    lengths = [len(row.tokens.ids) for row in examples]
    trained = sum(w > 0 for row in examples for w in row.tokens.weights)
    assert (report.step, report.lr, report.loss) == (1, 1e-3, loss)
    assert report.grad_norm == pytest.approx(norm, rel=1e-5)
    assert (report.trained_tokens, learner.trained_tokens) == (trained, trained)
    assert (report.real_tokens, report.computed_tokens) == (sum(lengths), sum(lengths))
    assert learner.forward_backward(examples) < loss


def test_the_gradient_is_clipped_to_its_norm() -> None:
    clipped, free = (
        Learner(fresh(qwen2_policy()), SFT(), optimizer=AdamW(eps=1.0, max_grad_norm=norm)) for norm in (0.5, 1e9)
    )
    for learner in (clipped, free):
        learner.forward_backward(rows(learner.policy, 4))
    norm = free.step(1.0).grad_norm
    assert norm > 0.5
    assert clipped.step(1.0).grad_norm == pytest.approx(norm)
    # With so large an epsilon the first step of Adam is g / (|g| + 1).
    start = torch.nn.utils.parameters_to_vector(qwen2_policy().model.parameters())
    moved = start - torch.nn.utils.parameters_to_vector(clipped.policy.model.parameters())
    g = moved / (1 - moved.abs())
    assert g.detach().norm().item() == pytest.approx(0.5, rel=1e-3)


# --- what must not go on


def test_a_batch_without_a_trained_token_stops_with_its_traces() -> None:
    policy = fresh(qwen2_policy())
    mute = Row("trace-17", taught(policy, "a", "b", weight=0.0))
    with pytest.raises(TrainingStopped, match="step 0: no token of traces trace-17 carries a loss weight"):
        Learner(policy, SFT()).forward_backward([mute])


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_step_and_traces(spoilt: float) -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, SFT())
    reports = train(learner, rows(policy, 4), CONFIG, seed=0)
    next(reports)
    with torch.no_grad():
        policy.model.base_model.norm.weight[0] = spoilt
    with pytest.raises(TrainingStopped, match=r"step 1: the loss is (nan|inf) on traces row\d"):
        next(reports)


@dataclass(frozen=True)
class Exploding:
    """A finite loss with an infinite gradient."""

    name: str = "exploding"
    needs: frozenset[str] = frozenset()
    compares: Literal["rows"] = "rows"

    def denominator(self, batch: Batch) -> float:
        return 1.0

    def __call__(self, view: View, batch: Batch) -> LossSum:
        return LossSum((view.logp_trained(batch)[0] * 0.0).abs().sum().sqrt(), {})


def test_a_gradient_that_is_not_finite_stops_before_it_is_applied() -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, Exploding())
    learner.forward_backward(rows(policy, 2))
    with pytest.raises(TrainingStopped, match="step 0: the gradient norm is nan on traces row0, row1"):
        learner.step(1.0)
    start, now = (torch.nn.utils.parameters_to_vector(p.model.parameters()) for p in (qwen2_policy(), policy))
    assert torch.equal(start, now)


@dataclass(frozen=True)
class WithReference(SFT):
    name: str = "with-reference"
    needs: frozenset[str] = frozenset({"reference"})


def test_what_an_objective_needs_is_checked_at_construction() -> None:
    with pytest.raises(UserError, match="objective 'with-reference' needs reference"):
        Learner(qwen2_policy(), WithReference())


def test_steps_and_saves_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    learner = Learner(fresh(qwen2_policy()), SFT())
    with pytest.raises(UserError, match="without forward_backward"):
        learner.step(1.0)
    learner.forward_backward(rows(learner.policy, 2))
    with pytest.raises(UserError, match="the gradient would be lost"):
        learner.save(tmp_path / "half-way", sidecar=SIDECAR)


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(TrainingStopped, match="nothing to train on"):
        next(train(Learner(fresh(qwen2_policy()), SFT()), [], CONFIG, seed=0))


# --- saving and restoring


@pytest.mark.parametrize("make", [qwen2_policy, llama_policy])
def test_four_and_four_steps_are_eight_bit_for_bit(make: object, tmp_path: Path) -> None:
    base: Policy = make()  # type: ignore[operator]
    examples = rows(base, 10)  # three batches an epoch: the cut lies within the second
    straight = Learner(fresh(base), SFT())
    expected = list(train(straight, examples, CONFIG, seed=3))
    assert len(expected) == 8
    assert expected[-1].loss < expected[0].loss

    first = Learner(fresh(base), SFT())
    found = []
    for report in train(first, examples, CONFIG, seed=3):
        found.append(report)
        if report.step == 4:
            break
    first.save(tmp_path / "step-4", sidecar=SIDECAR, extra={"position": 17})
    torch.manual_seed(99)  # another process stands elsewhere
    second, extra = Learner.restore(tmp_path / "step-4", SFT())
    assert extra == {"position": 17}
    found += list(train(second, examples, CONFIG, seed=3))
    assert found == expected
    assert second.trained_tokens == straight.trained_tokens
    ours, theirs = second.policy.model.state_dict(), straight.policy.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert list(train(second, examples, CONFIG, seed=3)) == []


def test_the_random_state_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(5)
    Learner(fresh(qwen2_policy()), SFT()).save(tmp_path / "start", sidecar=SIDECAR)
    expected = torch.rand(3)
    torch.manual_seed(6)
    Learner.restore(tmp_path / "start", SFT())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "learner.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / "step-1"
    learner = Learner(fresh(qwen2_policy()), SFT())
    learner.forward_backward(rows(learner.policy, 2))
    learner.step(1e-3)
    learner.save(path, sidecar=SIDECAR)
    if damage == "cut":
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) // 2])
    else:
        (path / name).unlink()
    with pytest.raises(CheckpointError, match="step-1"):
        Learner.restore(path, SFT())


def test_a_model_without_moments_is_no_training_checkpoint(tmp_path: Path) -> None:
    learner = Learner(fresh(qwen2_policy()), SFT())
    learner.forward_backward(rows(learner.policy, 2))
    learner.step(1e-3)
    learner.save(tmp_path / "a", sidecar=SIDECAR)
    Learner(fresh(qwen2_policy()), SFT()).save(tmp_path / "b", sidecar=SIDECAR)
    (tmp_path / "b" / "optimizer.safetensors").replace(tmp_path / "a" / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the moments of model\."):
        Learner.restore(tmp_path / "a", SFT())
    # The model in it is a checkpoint like any other.
    assert load_policy(tmp_path / "a").fingerprint == learner.policy.fingerprint

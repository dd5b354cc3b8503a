"""Policy and value losses against arithmetic by hand and TRL, and unchanged by how a batch is cut."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixtures_models import called, fresh, qwen2_policy, rows
from stillroom.errors import CheckpointError, UserError
from stillroom.learn.batches import Row
from stillroom.learn.heads import ValueHead
from stillroom.learn.learner import Learner, Term
from stillroom.learn.objectives.policy import LossKL, PolicyGradient
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.objectives.value import ValueLoss
from stillroom.models.policy import Policy, Sidecar

SIDECAR = Sidecar(chat_format="think")
HEADS = {"value": ValueHead()}


def logits(policy: Policy, row: Row) -> torch.Tensor:
    return policy.model(torch.tensor([row.tokens.ids])).logits[0]


def signalled(policy: Policy, count: int = 5) -> list[Row]:
    """Old log-probabilities near the policy's own, so that ratios lie on both sides of the clip."""
    found = []
    for i, row in enumerate(rows(policy, count)):
        with torch.no_grad():
            logp_TV = (logits(policy, row) / 0.7).log_softmax(-1)
        own = [0.0] + [float(logp_TV[t - 1, row.tokens.ids[t]]) for t in range(1, len(row.tokens.ids))]
        places = range(len(own))
        signals = {
            "advantage": [(-1.0) ** (t + i) * (1 + t % 3) for t in places],
            "logp_old": [p + 0.25 * ((t % 5) - 2) for t, p in enumerate(own)],
            "logp_ref": [p - 0.5 + 0.25 * (t % 4) for t, p in enumerate(own)],
            "value_old": [0.25 * (t % 3) for t in places],
            "return": [1.0 - 0.125 * (t % 5) for t in places],
        }
        found.append(row._replace(signals=signals))
    return found


def by_hand(policy: Policy, batch: Sequence[Row], objective: PolicyGradient) -> float:
    """Token by token in Python floats."""
    sums, weights = [], []
    for row in batch:
        with torch.no_grad():
            logp_TV = (logits(policy, row) / objective.temperature).log_softmax(-1).tolist()
        total = weight = 0.0
        for t in range(1, len(row.tokens.ids)):
            logp, a = logp_TV[t - 1][row.tokens.ids[t]], row.signals["advantage"][t]
            if objective.clip is None:
                loss = -a * logp
            else:
                ratio = math.exp(logp - row.signals["logp_old"][t])
                low, high = objective.clip
                loss = -min(ratio * a, max(1 - low, min(1 + high, ratio)) * a)
            if objective.kl is not None:
                apart = logp - row.signals["logp_ref"][t]
                loss += objective.kl.weight * (math.exp(-apart) - 1 + apart)
            loss -= objective.entropy * -sum(math.exp(p) * p for p in logp_TV[t - 1])
            total += row.tokens.weights[t] * loss
            weight += row.tokens.weights[t]
        sums.append(total)
        weights.append(weight)
    if objective.aggregate == "token-mean":
        return sum(sums) / sum(weights)
    if objective.aggregate == "constant":
        assert objective.constant is not None
        return sum(sums) / (len(sums) * objective.constant)
    return sum(s / w for s, w in zip(sums, weights, strict=True)) / len(sums)


OBJECTIVES = [
    PolicyGradient(temperature=0.7),
    PolicyGradient(clip=(0.2, 0.28), aggregate="token-mean", kl=LossKL(weight=0.1), temperature=0.7),
    PolicyGradient(clip=None, aggregate="constant", constant=9.0, entropy=0.05, temperature=0.7),
]


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_the_written_out_one_however_the_batch_is_cut(objective: PolicyGradient) -> None:
    base = qwen2_policy()
    policy = fresh(base, torch.float64)
    batch = signalled(policy)
    expected = by_hand(policy, batch, objective)
    assert Learner(policy, objective).forward_backward(batch) == pytest.approx(expected, rel=1e-6)
    for make, micro_tokens in ((fresh, 1), (fresh, 60), (lambda *a: called(fresh(*a)), 90)):
        other = make(base, torch.float64)
        loss = Learner(other, objective, micro_tokens=micro_tokens).forward_backward(batch[::-1])
        assert loss == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(gradient(other.model), gradient(policy.model), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("loss_type", "objective"),
    [
        ("grpo", PolicyGradient(kl=LossKL(weight=0.04))),
        ("bnpo", PolicyGradient(kl=LossKL(weight=0.04), aggregate="token-mean")),
        ("dr_grpo", PolicyGradient(kl=LossKL(weight=0.04), aggregate="constant", constant=40.0)),
    ],
)
def test_the_loss_and_gradient_are_trls(loss_type: str, objective: PolicyGradient) -> None:
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    ours, theirs = fresh(qwen2_policy()), fresh(qwen2_policy())
    batch = signalled(ours)
    width = max(len(row.tokens.ids) for row in batch)

    def laid(of: Any) -> torch.Tensor:
        return torch.tensor([[*of(row)[1:], *[0.0] * (width - len(row.tokens.ids))] for row in batch])

    ids = laid(lambda row: [float(i) for i in row.tokens.ids]).long()
    first = torch.tensor([[row.tokens.ids[0]] for row in batch])

    def scores(model: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        logp = model(torch.cat([first, ids], 1)).logits[:, :-1].log_softmax(-1)
        return logp.gather(2, ids[..., None])[..., 0], -(logp.exp() * logp).sum(-1).detach(), None

    gathered = SimpleNamespace(
        gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x, num_processes=1
    )
    fake = SimpleNamespace(
        _get_per_token_logps_and_entropies=scores,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.04,
        epsilon_low=0.2,
        epsilon_high=0.2,
        loss_type=loss_type,
        max_completion_length=40.0,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        accelerator=gathered,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
    )
    inputs = {
        "prompt_ids": first,
        "prompt_mask": torch.ones_like(first),
        "completion_ids": ids,
        "completion_mask": laid(lambda row: row.tokens.weights),
        "advantages": laid(lambda row: row.signals["advantage"]),
        "old_per_token_logps": laid(lambda row: row.signals["logp_old"]),
        "ref_per_token_logps": laid(lambda row: row.signals["logp_ref"]),
    }
    loss = trainer._compute_loss(fake, theirs.model, inputs)
    loss.backward()
    assert Learner(ours, objective).forward_backward(batch) == pytest.approx(float(loss.detach()), abs=1e-5)
    torch.testing.assert_close(gradient(ours.model), gradient(theirs.model), rtol=1e-4, atol=1e-5)


def test_value_and_policy_share_a_forward_pass_and_the_value_loss_is_by_hand() -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    batch = signalled(policy)
    learner = Learner(policy, OBJECTIVES[0], heads=HEADS)
    learner.forward_backward(batch, [Term(OBJECTIVES[0]), Term(ValueLoss(), 0.5)])
    report = learner.step(1e-3)
    total = weight = 0.0
    for row in batch:
        for old, due, w in zip(row.signals["value_old"], row.signals["return"], row.tokens.weights, strict=True):
            # The head is 0 to begin with.
            held = old + max(-0.2, min(0.2, 0 - old))
            total += w * 0.5 * max(due**2, (held - due) ** 2)
            weight += w
    assert report.diagnostics["loss_value"] == pytest.approx(0.5 * total / weight, rel=1e-6)
    assert report.diagnostics["explained_variance"] == pytest.approx(0.0)
    assert 0 < report.diagnostics["clip_share"] < 1
    assert report.loss == pytest.approx(by_hand(fresh(qwen2_policy(), torch.float64), batch, OBJECTIVES[0]) + 0.5 * total / weight, rel=1e-6)  # fmt: skip  # noqa: E501


def test_two_optimisers_and_a_head_are_restored_bit_for_bit(tmp_path: Path) -> None:
    """As in ReLIFT: rollouts and teacher rows move one policy, each by an optimiser of its own."""
    policy = fresh(qwen2_policy())
    batch = signalled(policy)
    terms = [Term(OBJECTIVES[0]), Term(ValueLoss())]
    rl, sft = Learner(policy, OBJECTIVES[0], heads=HEADS), Learner(policy, SFT())

    def go(rl: Learner, sft: Learner) -> tuple[float, float]:
        found = (rl.forward_backward(batch, terms),)
        rl.step(1e-3)
        found += (sft.forward_backward(batch[:2]),)  # type: ignore[assignment]
        sft.step(1e-3)
        return found  # type: ignore[return-value]

    go(rl, sft)
    rl.save(tmp_path / "c", sidecar=SIDECAR, also={"sft": sft})
    rl_again, _ = Learner.restore(tmp_path / "c", OBJECTIVES[0], heads=HEADS)
    sft_again, _ = Learner.restore(tmp_path / "c" / "sft", SFT(), policy=rl_again.policy)
    assert [go(rl, sft) for _ in range(2)] == [go(rl_again, sft_again) for _ in range(2)]
    with pytest.raises(CheckpointError, match="the checkpoint has the heads value, and the learner is made with none"):
        Learner.restore(tmp_path / "c", OBJECTIVES[0])
    rl.forward_backward(batch, terms)
    with pytest.raises(UserError, match="a gradient that this learner did not make"):
        sft.forward_backward(batch)


def test_what_is_missing_is_named_with_its_provider() -> None:
    policy = fresh(qwen2_policy())
    bare = rows(policy, 2)
    with pytest.raises(UserError, match=r"traces row\d, row\d have no signal 'advantage'.*Group\(\)"):
        Learner(policy, PolicyGradient()).forward_backward(bare)
    with pytest.raises(UserError, match=r"needs head value.*heads=\{'value': ValueHead\(\)\}"):
        Learner(policy, ValueLoss())
    short = bare[0]._replace(signals={"advantage": [1.0]})
    with pytest.raises(UserError, match="signal 'advantage' of trace row0 has 1 numbers"):
        Learner(policy, PolicyGradient()).forward_backward([short])
    with pytest.raises(UserError, match="give constant=TOKENS"):
        PolicyGradient(aggregate="constant")


@given(
    order=st.permutations(range(5)),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=40, max_size=40),
    micro_tokens=st.integers(1, 200),
    objective=st.sampled_from(OBJECTIVES),
)
@settings(max_examples=15, deadline=None)
def test_no_cut_order_or_weight_changes_the_loss(
    order: list[int], weights: list[float], micro_tokens: int, objective: PolicyGradient
) -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    batch = []
    for number, row in enumerate(signalled(policy)):
        trained = [w * weights[(7 * number + t) % 40] for t, w in enumerate(row.tokens.weights)]
        batch.append(row._replace(tokens=row.tokens._replace(weights=trained)))
    batch = [row for row in batch if any(row.tokens.weights)]
    assume(batch)
    learner = Learner(policy, objective, micro_tokens=micro_tokens)
    found = learner.forward_backward([batch[i] for i in order if i < len(batch)])
    # Signals are float32, and gains and losses may cancel out.
    assert found == pytest.approx(by_hand(policy, batch, objective), rel=1e-5, abs=1e-5)


def test_the_value_loss_by_hand_when_the_head_has_moved() -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    batch = signalled(policy)
    learner = Learner(policy, ValueLoss(clip=0.1), heads=HEADS)
    for _ in range(3):
        learner.forward_backward(batch)
        learner.step(0.05)
    ids = [torch.tensor([row.tokens.ids]) for row in batch]
    total = weight = 0.0
    errors, returns = [], []
    with torch.no_grad():
        head = learner.view().head("value")
        for row, line in zip(batch, ids, strict=True):
            states_TD = policy.model.model(line).last_hidden_state[0]
            value_T = [0.0, *head(states_TD)[:-1].tolist()]
            for t, w in enumerate(row.tokens.weights):
                if not w:
                    continue
                value, old, due = value_T[t], row.signals["value_old"][t], row.signals["return"][t]
                held = old + max(-0.1, min(0.1, value - old))
                total += w * 0.5 * max((value - due) ** 2, (held - due) ** 2)
                weight += w
                errors.append(due - value)
                returns.append(due)
    assert learner.forward_backward(batch) == pytest.approx(total / weight, rel=1e-5)
    found = learner.step(1e-3).diagnostics
    assert found["value_error"] == pytest.approx(sum(e * e for e in errors) / len(errors), rel=1e-5)
    explained = 1 - statistics.pvariance(errors) / statistics.pvariance(returns)
    assert found["explained_variance"] == pytest.approx(explained, rel=1e-4)
    assert found["explained_variance"] != pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("detach", [False, True])
def test_a_detached_head_learns_alone(detach: bool) -> None:
    policy = fresh(qwen2_policy())
    batch = signalled(policy)
    learner = Learner(policy, ValueLoss(), heads={"value": ValueHead(detach=detach)})
    # From a head of zeros no gradient comes to the trunk anyway.
    learner.forward_backward(batch)
    learner.step(0.05)
    before = [p.detach().clone() for p in policy.model.parameters()]
    first = learner.forward_backward(batch)
    learner.step(1e-3)
    moved = [not torch.equal(p, q) for p, q in zip(policy.model.parameters(), before, strict=True)]
    assert any(moved) is not detach
    assert learner.forward_backward(batch) < first

"""Objectives that compare responses, against arithmetic that is written out here, in float64."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fixtures_models import called, fresh, qwen2_policy, rows, taught
from stillroom.chat import Tokenised
from stillroom.errors import TrainingStopped, UserError
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.batches import Batch, Row, collate, examples
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import Objective, Sequences, View
from stillroom.learn.objectives.contrast import DPO, PRO, REDI, RRHF, Collapse, SimPO
from stillroom.models.policy import Policy


@dataclass
class Given:
    """A view in which every row's log-probability is written down, so that only the objective is tested."""

    logp: Sequence[float]
    length: Sequence[float]
    reference: Sequence[float] = ()

    def __post_init__(self) -> None:
        self.leaf = torch.tensor(self.logp, dtype=torch.float64, requires_grad=True)

    def sequences(self, batch: Batch) -> Sequences:
        return Sequences(self.leaf, torch.tensor(self.length, dtype=torch.float64))

    def reference_sequences(self, batch: Batch) -> Sequences:
        return Sequences(torch.tensor(self.reference, dtype=torch.float64), torch.tensor(self.length))


def batch_of(*scores: Sequence[float]) -> Batch:
    """Groups with these scores; tokens do not matter here."""
    rows = [
        Row(f"{g}.{i}", Tokenised([1, 2], [0.0, 1.0]), f"g{g}", score)
        for g, group in enumerate(scores)
        for i, score in enumerate(group)
    ]
    return collate(examples(rows), pad_id=0)


def of(objective: Objective, view: Given, batch: Batch) -> tuple[float, list[float], dict[str, float]]:
    """Loss per group, its gradient by each row's summed log-probability, and the diagnostics."""
    found = objective(view, batch)  # type: ignore[arg-type]
    denominator = objective.denominator(batch)
    loss = found.total / denominator
    loss.backward()
    assert view.leaf.grad is not None
    return float(loss.detach()), view.leaf.grad.tolist(), {k: v / denominator for k, v in found.diagnostics.items()}


PAIRS = batch_of((1, 0), (1, 0))


def pairs() -> Given:
    """Means: -6/3 = -2 against -4/4 = -1, and -3/6 = -0.5 against -10/5 = -2."""
    return Given([-6, -4, -3, -10], [3, 4, 6, 5], reference=[-5, -5, -4, -8])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_redi_by_hand() -> None:
    """-m_w + 0.8 m_l: 2 - 0.8 = 1.2 and 0.5 - 1.6 = -1.1, together 0.05 a pair."""
    loss, gradient, diagnostics = of(REDI(), pairs(), PAIRS)
    assert loss == pytest.approx(0.05, abs=1e-12)
    # Per row: the weight of its side over its own length, over two pairs.
    assert gradient == pytest.approx([-1 / 3 / 2, 0.8 / 4 / 2, -1 / 6 / 2, 0.8 / 5 / 2])
    # Means over pairs: (-2 - 0.5) / 2, (-1 - 2) / 2, their difference, and one pair of two in the right order.
    # A token that both responses begin with gets 1/3 - 0.8/4 > 0 and 1/6 - 0.8/5 > 0: it is pushed up in both pairs.
    assert diagnostics == pytest.approx(
        {"logp_chosen": -1.25, "logp_rejected": -1.5, "margin": 0.25, "prefers_chosen": 0.5, "prefix_down": 0.0}
    )
    # With lengths 6 and 4 instead of 3 and 4: 1/6 - 0.8/4 < 0.
    view = Given([-6, -4, -3, -10], [6, 4, 6, 5])
    assert of(REDI(), view, PAIRS)[2]["prefix_down"] == 0.5


def test_redi_at_its_ends() -> None:
    """alpha 0 is fine-tuning on the chosen, 1 the symmetric loss; both weights can be set."""
    assert of(REDI(alpha=0), pairs(), PAIRS)[0] == pytest.approx((2 + 0.5) / 2)
    assert of(REDI(alpha=1), pairs(), PAIRS)[0] == pytest.approx((2 - 1 + 0.5 - 2) / 2)
    assert of(REDI(alpha=0.5, chosen_weight=3), pairs(), PAIRS)[0] == pytest.approx((6 - 0.5 + 1.5 - 1) / 2)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="0 to 1"):
            REDI(alpha=alpha)
    with pytest.raises(UserError, match="chosen_weight=0"):
        REDI(chosen_weight=0)


def test_simpo_by_hand() -> None:
    """beta (m_w - m_l) - gamma: 2 * -1 - 1 = -3 and 2 * 1.5 - 1 = 2."""
    loss, gradient, _ = of(SimPO(beta=2, gamma=1), pairs(), PAIRS)
    assert loss == pytest.approx(-(math.log(sigmoid(-3)) + math.log(sigmoid(2))) / 2)
    first, second = 1 - sigmoid(-3), 1 - sigmoid(2)
    assert gradient == pytest.approx([-first * 2 / 3 / 2, first * 2 / 4 / 2, -second * 2 / 6 / 2, second * 2 / 5 / 2])


def test_dpo_by_hand() -> None:
    """beta ((l_w - r_w) - (l_l - r_l)): 0.5 * (-1 - 1) = -1 and 0.5 * (1 + 2) = 1.5; lengths do not count."""
    loss, gradient, _ = of(DPO(beta=0.5), pairs(), PAIRS)
    assert loss == pytest.approx(-(math.log(sigmoid(-1)) + math.log(sigmoid(1.5))) / 2)
    first, second = 0.5 * (1 - sigmoid(-1)) / 2, 0.5 * (1 - sigmoid(1.5)) / 2
    assert gradient == pytest.approx([-first, first, -second, second])


def test_symmetric_is_the_limit_of_simpo_and_dpo() -> None:
    """For a small beta their gradients are -beta/2 times that of m_w - m_l, or of l_w - l_l."""
    _, symmetric, _ = of(REDI(alpha=1), pairs(), PAIRS)
    _, simpo, _ = of(SimPO(beta=1e-7, gamma=0), pairs(), PAIRS)
    assert [value / 1e-7 * 2 for value in simpo] == pytest.approx(symmetric, rel=1e-6)
    _, dpo, _ = of(DPO(beta=1e-7), pairs(), PAIRS)
    assert [value / 1e-7 * 2 for value in dpo] == pytest.approx([-0.5, 0.5, -0.5, 0.5], rel=1e-6)


@pytest.mark.parametrize("make", [SimPO, DPO])
def test_a_beta_that_teaches_nothing_is_refused(make: Any) -> None:
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="give more than 0"):
            make(beta=beta)


def test_rrhf_by_hand() -> None:
    """Means -2, -1, -1.5 for scores 2, 1, 1: the second and third are each ahead of the best by 1 and 0.5.

    They are of equal score and not compared with each other; fine-tuning on the best adds 2.
    """
    view = Given([-4, -3, -3], [2, 3, 2])
    loss, gradient, diagnostics = of(RRHF(), view, batch_of((2, 1, 1)))
    assert loss == pytest.approx(1 + 0.5 + 2)
    assert gradient == pytest.approx([-(1 + 1 + 1) / 2, 1 / 3, 1 / 2])
    assert diagnostics == {"logp_chosen": -2.0}


def test_pro_by_hand() -> None:
    """Scores 3, 1, 0 and means -1, -2, -0.5.

    k = 1: gaps 2 and 3, T_11 = 1/3: own -3, others -2 * 2 = -4 and -0.5 * 3 = -1.5.
    k = 2: gap 1, T_22 = 1: own -2, other -0.5. Fine-tuning on the best: beta = 0.05 * 2^2 = 0.2.
    """
    view = Given([-2, -4, -0.5], [2, 2, 1])
    loss, _, _ = of(PRO(), view, batch_of((3, 1, 0)))
    first = -math.log(math.exp(-3) / (math.exp(-3) + math.exp(-4) + math.exp(-1.5)))
    second = -math.log(math.exp(-2) / (math.exp(-2) + math.exp(-0.5)))
    assert loss == pytest.approx(first + second + 0.2 * 1)
    # Responses of equal score are not compared: what is left is fine-tuning.
    assert of(PRO(beta=0.5), Given([-2, -4], [2, 2]), batch_of((1, 1)))[0] == pytest.approx(0.5)


def test_groups_do_not_mix() -> None:
    """Two groups of different size give the mean of what each gives alone."""
    one, two = Given([-4, -3, -3], [2, 3, 2]), Given([-2, -9], [2, 3])
    both = Given([-4, -3, -3, -2, -9], [2, 3, 2, 2, 3])
    for objective in (RRHF(), PRO()):
        alone = of(objective, one, batch_of((2, 1, 1)))[0], of(objective, two, batch_of((5, 1)))[0]
        one.leaf.grad = two.leaf.grad = both.leaf.grad = None
        assert of(objective, both, batch_of((2, 1, 1), (5, 1)))[0] == pytest.approx(sum(alone) / 2)


# --- over a real policy


def compared(policy: Policy, count: int = 4) -> list[Row]:
    """Groups of three of unequal length, with unequal weights."""
    found = []
    for g in range(count):
        for i, score in enumerate((1.0, 0.25, -1.0)):
            tokens = taught(policy, f"what is {g}?", " ".join(f"{g}+{k}" for k in range(1 + (3 * g + 2 * i) % 5)))
            weights = [w * (0.5 + 0.25 * ((g + t) % 3)) for t, w in enumerate(tokens.weights)]
            found.append(Row(f"{g}/{i}", Tokenised(tokens.ids, weights), f"g{g}", score))
    return found


def two_of(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.score != 0.25]


def written_out(policy: Policy, row: Row) -> tuple[float, float]:
    """``sum_t w_t log p(y_t | y_<t)`` and ``sum_t w_t``, token by token."""
    with torch.no_grad():
        logits_TV = policy.model(torch.tensor([row.tokens.ids])).logits[0].tolist()
    total = length = 0.0
    for t in range(1, len(row.tokens.ids)):
        before, token, weight = logits_TV[t - 1], row.tokens.ids[t], row.tokens.weights[t]
        total += weight * (before[token] - max(before) - math.log(math.fsum(math.exp(x - max(before)) for x in before)))
        length += weight
    return total, length


def test_sequences_are_written_out_sums_over_trained_tokens() -> None:
    policy = fresh(qwen2_policy(), torch.float64)
    rows = compared(policy)
    for packed in (False, True):
        batch = collate(examples(rows), policy.pad_id, packed=packed)
        found = View(policy).sequences(batch)
        for name, logp, length in zip(batch.row_ids, found.logp_R.tolist(), found.length_R.tolist(), strict=True):
            expected = written_out(policy, next(row for row in rows if row.id == name))
            assert (logp, length) == pytest.approx(expected, rel=1e-6)


def test_what_a_view_keeps_of_a_batch_is_never_given_for_a_later_one() -> None:
    """A batch that is let go leaves its place in memory to the next; fifty of them shared a place before."""
    policy = qwen2_policy()
    view = View(policy)
    for row in rows(policy, 50):
        batch = collate([(row,)], policy.pad_id, policy.device)
        assert torch.equal(view.sequences(batch).logp_R, View(policy).sequences(batch).logp_R)


def test_the_dpo_loss_and_gradient_of_a_policy() -> None:
    policy, reference = fresh(qwen2_policy(), torch.float64), fresh(qwen2_policy(), torch.float64)
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(1.1)
    rows = two_of(compared(policy))

    def loss() -> float:
        total = 0.0
        for chosen, rejected in examples(rows):
            ratio = [written_out(policy, row)[0] - written_out(reference, row)[0] for row in (chosen, rejected)]
            total -= math.log(sigmoid(0.2 * (ratio[0] - ratio[1])))
        return total / 4

    learner = Learner(policy, DPO(beta=0.2), reference=reference)
    assert learner.forward_backward(rows) == pytest.approx(loss(), rel=1e-6)
    parameter, step = policy.model.base_model.layers[1].mlp.up_proj.weight, 3e-3
    assert parameter.grad is not None
    for at in ((0, 0), (5, 3)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[at] += sign * step
                values.append(loss())
                parameter[at] -= sign * step
        assert float(parameter.grad[at]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-2)
    assert all(p.grad is None for p in reference.model.parameters())


def test_an_adapter_is_its_own_reference() -> None:
    """At the start the ratio is 0 and the loss log 2; afterwards the reference is still the policy from before."""
    policy, untouched = fresh(qwen2_policy(), torch.float64), fresh(qwen2_policy(), torch.float64)
    rows = two_of(compared(policy))
    learner = Learner(policy, DPO(), adapt=LoRA(rank=2))
    assert learner.forward_backward(rows) == pytest.approx(math.log(2), rel=1e-9)
    learner.step(1e-2)
    ours = learner.forward_backward(rows)
    assert ours < math.log(2)
    learner.step(0.0)  # or its gradient would stand in the way of the other's
    explicit = Learner(policy, DPO(), reference=untouched)
    # With an adapter the module is called, whose norms are taken in float32 whatever the weights are.
    assert explicit.forward_backward(rows) == pytest.approx(ours, rel=1e-7)


OBJECTIVES = [REDI(), SimPO(), DPO(), RRHF(), PRO()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
@pytest.mark.parametrize("way", [lambda policy: policy, called], ids=["without padding", "packed"])
def test_cutting_order_padding_and_packing_change_nothing(
    objective: Objective, way: Callable[[Policy], Policy]
) -> None:
    base = qwen2_policy()
    rows = compared(base) if objective.compares == "groups" else two_of(compared(base))

    def run(rows: Sequence[Row], micro_tokens: int) -> tuple[float, torch.Tensor]:
        policy, reference = way(fresh(base, torch.float64)), way(fresh(base, torch.float64))
        with torch.no_grad():
            reference.model.base_model.norm.weight.mul_(1.3)
        learner = Learner(policy, objective, reference=reference, micro_tokens=micro_tokens)
        loss = learner.forward_backward(rows)
        return loss, torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])

    expected, gradient = run(rows, 1 << 20)
    for micro_tokens, order in ((1, 1), (120, -1), (1 << 20, -1)):
        loss, found = run(rows[::order], micro_tokens)
        assert loss == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-9)


def test_a_response_without_a_trained_token_is_named() -> None:
    policy = fresh(qwen2_policy())
    rows = two_of(compared(policy, 2))
    empty = rows[1]._replace(tokens=Tokenised(rows[1].tokens.ids, [0.0] * len(rows[1].tokens.ids)))
    with pytest.raises(TrainingStopped, match=r"no token of traces 0/2 carries a loss weight"):
        Learner(policy, REDI()).forward_backward([rows[0], empty, *rows[2:]])


def test_rows_that_make_no_pair_are_named() -> None:
    policy = fresh(qwen2_policy())
    with pytest.raises(UserError, match=r"'redi' compares 2 rows .*, and traces 0/0, 0/1, 0/2 make a group of 3"):
        Learner(policy, REDI()).forward_backward(compared(policy, 1))


def test_collapse_is_called_once_chosen_responses_fall() -> None:
    watch = Collapse(drop=1.0)
    assert watch.check(1, {"logp_chosen": -2.0}) is None
    assert watch.check(2, {"logp_chosen": -2.9}) is None
    assert watch.check(3, {}) is None
    alarm = watch.check(4, {"logp_chosen": -3.25})
    assert alarm is not None
    assert "step 4" in alarm
    assert "-2.00 to -3.25" in alarm


def test_symmetric_at_a_high_rate_collapses_and_says_so() -> None:
    """The unbounded loss in earnest: chosen and rejected fall together."""
    policy = fresh(qwen2_policy())
    rows = two_of(compared(policy))
    learner, watch, alarms = Learner(policy, REDI(alpha=1.0)), Collapse(), []
    for _ in range(40):
        learner.forward_backward(rows)
        report = learner.step(0.05)
        alarms.append(watch.check(report.step, report.diagnostics))
    assert alarms[0] is None
    assert alarms[-1] is not None

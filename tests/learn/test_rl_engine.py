"""The engine on a model of a few thousand weights: what trains, what it reports, and that it goes on bit for bit."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures_models import fresh, qwen2_policy
from fixtures_scripted import make_problems
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.policy import PolicyGradient
from stillroom.learn.objectives.value import ValueLoss
from stillroom.learn.rl.advantages import GAE, Group
from stillroom.learn.rl.algorithm import Algorithm, heads, objectives
from stillroom.learn.rl.batch import mask
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine, HeldOut
from stillroom.learn.rl.kl import KL
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Asked, Rollout, Variant, plainly
from stillroom.learn.rl.signals import token_logp
from stillroom.models.policy import Policy, Sidecar
from stillroom.tasks.base import Task
from stillroom.types import Message, Problem, Verdict

THINK = get_format("think")
GRPO = Algorithm(Group())
PPO = Algorithm(GAE(), value=ValueLoss(), kl=KL("k1", "reward", 0.1))


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Right when it begins early in the alphabet: a coin that the text decides."""
    right = bool(text) and ord(text[0]) % 2 == 0
    return Verdict(correct=right, score=float(right), answer=text, reason="")


TASK = Task("coin", "", lambda split, n, seed: make_problems(n or 0), verify)


def coin(rollouts: list[Rollout]) -> list[Scored]:
    verdicts = [verify(r.problem, r.response.text) for r in rollouts]
    return [Scored(float(bool(v.correct)), v.correct, v.score) for v in verdicts]


def config(**changes: Any) -> RLConfig:
    return RLConfig(**{"steps": 4, "problems": 3, "max_new_tokens": 5, "lr": 1e-2, "held_out_every": 2, **changes})


def make_engine(policy: Policy | None = None, algorithm: Algorithm = GRPO, **changes: Any) -> Engine:
    policy = policy or fresh(qwen2_policy())
    settings = changes.pop("config", config())
    learner = changes.pop("learner", None) or Learner(
        policy, objectives(algorithm, settings.temperature)[0].objective, heads=heads(algorithm), seed=3
    )
    variant = plainly(THINK, 4)
    values: dict[str, Any] = {
        "problems": make_problems(7),
        "variants": [variant],
        "reward": coin,
        "algorithm": algorithm,
        "config": settings,
        "seed": 5,
        "held_out": HeldOut(TASK, make_problems(4), variant.ask),
    }
    return Engine(learner, **{**values, **changes})


def frozen() -> AbstractContextManager[Policy]:
    return nullcontext(qwen2_policy())


def weights(engine: Engine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine.learner.policy.model.parameters()])


def test_a_step_by_hand() -> None:
    """Its parts are those of the contract: plan, rollouts, advantages from rewards, one update."""
    engine = make_engine()
    plan = engine.plan()
    rollouts = engine.sample(plan)
    batch = engine.weigh(rollouts, coin(rollouts))
    rewards = np.array([s.reward for s in batch.scored]).reshape(3, 4)
    expected = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)
    assert [signals["advantage"][0] for signals in batch.signals] == pytest.approx(expected.flatten().tolist())
    before = weights(engine)
    step = engine.update(batch)
    assert (step.step, engine.step, len(step.updates)) == (1, 1, 1)
    assert not torch.equal(weights(engine), before)
    assert step.metrics["reward"] == pytest.approx(rewards.mean())
    assert step.written_tokens == sum(len(r.ids) for r in rollouts)
    # What was sampled is what is trained: sampler and learner agree on every token.
    gap = step.metrics["logp_gap_max"]
    assert gap is not None
    assert gap < 1e-5
    assert step.metrics["staleness"] == 0


def test_the_same_step_driven_by_hand_or_by_itself() -> None:
    one, other = make_engine(), make_engine()
    steps = list(one.steps())
    by_hand = [other.update(other.collect()) for _ in range(4)]
    assert [s.metrics for s in steps] == [s.metrics for s in by_hand]
    assert torch.equal(weights(one), weights(other))
    assert [s for s in steps if "held_out" in s.metrics] == [steps[1], steps[3]]
    assert [step for step, _ in one.watch.held_out_shares()] == [0, 2, 4]


def test_passes_and_minibatches_make_optimiser_steps_that_grow_stale() -> None:
    engine = make_engine(config=config(epochs=2, minibatches=3))
    (step, *_) = engine.steps()
    assert len(step.updates) == 6
    assert step.metrics["staleness"] == 2.5
    assert [r.trained_tokens for r in step.updates][:3] != [0, 0, 0]
    # Only the first update says whether sampler and learner agree.
    first = step.updates[0].diagnostics["logp_gap_max"]
    assert step.metrics["logp_gap_max"] == first < 1e-5
    assert step.updates[-1].diagnostics["logp_gap_max"] > 1e-3


def test_masked_rollouts_and_unjudged_ones_do_not_train() -> None:
    def doubtful(rollouts: list[Rollout]) -> list[Scored]:
        return [
            Scored(None, flags=frozenset({"unjudged"})) if r.index == 0 else s
            for r, s in zip(rollouts, coin(rollouts), strict=True)
        ]

    engine = make_engine(reward=doubtful)
    batch = engine.collect()
    assert mask(batch, [r.index != 1 for r in batch.rollouts]) == 3
    step = engine.update(batch)
    assert (step.metrics["unjudged"], step.metrics["trained_rollouts"]) == (3, 6)


def test_a_step_without_anything_to_train_on_is_a_step_without_an_update() -> None:
    engine = make_engine(
        algorithm=Algorithm(Group(drop_equal=True)), reward=lambda rollouts: [Scored(1.0)] * len(rollouts)
    )
    before = weights(engine)
    steps = list(engine.steps())
    assert [len(step.updates) for step in steps] == [0, 0, 0, 0]
    assert torch.equal(weights(engine), before)
    assert steps[0].metrics["groups_equal"] == 1
    assert "there is nothing to learn from" in steps[2].alarms[0]


def test_log_probabilities_under_another_prompt_are_computed_anew() -> None:
    def bare(problem: Problem) -> Asked:
        return Asked(problem.messages)

    def hinted(problem: Problem) -> Asked:
        return Asked((Message(role="user", content="hint"), *problem.messages))

    engine = make_engine(variants=[Variant(hinted, 4, taught=bare)])
    batch = engine.collect()
    sampled = [np.array(r.response.logp_policy) for r in batch.rollouts]
    assert not any(np.allclose(s["logp_old"], logp) for s, logp in zip(batch.signals, sampled, strict=True))
    gap = engine.update(batch).metrics["logp_gap_max"]
    assert gap is not None
    assert gap < 1e-5


def test_a_kl_penalty_in_the_reward_stays_with_its_tokens() -> None:
    engine = make_engine(
        algorithm=Algorithm(GAE(lam=1.0, whiten=False), value=ValueLoss(), kl=KL("k1", "reward", 0.5)), reference=frozen
    )
    (_, *_) = [engine.update(engine.collect()) for _ in range(2)]
    batch = engine.collect()
    for rollout, scored, signals in zip(batch.rollouts, batch.scored, batch.signals, strict=True):
        earned = -0.5 * (signals["logp_old"] - signals["logp_ref"])
        assert scored.reward is not None
        earned[-1] += scored.reward
        to_come = np.cumsum(earned[::-1])[::-1]
        np.testing.assert_allclose(signals["return"], to_come, atol=1e-9)
        np.testing.assert_allclose(signals["advantage"], to_come - signals["value_old"], atol=1e-9)
        assert len(signals["logp_ref"]) == len(rollout.ids)
    assert max(abs(s["value_old"]).max() for s in batch.signals) > 0


def test_a_kl_term_in_the_loss_compares_with_the_start() -> None:
    engine = make_engine(algorithm=Algorithm(Group(), kl=KL("k3", "loss", 0.1)), reference=frozen)
    steps = list(engine.steps())
    assert steps[0].metrics["kl_ref"] == pytest.approx(0, abs=1e-6)
    later = steps[-1].metrics["kl_ref"]
    assert later is not None
    assert later > 1e-4
    rows = engine.learner
    assert rows.steps == 4


def test_ppo_learns_values() -> None:
    engine = make_engine(algorithm=PPO, reference=frozen, config=config(steps=8, epochs=2))
    first = engine.collect()
    assert {float(value) for signals in first.signals for value in signals["value_old"]} == {0.0}
    engine.update(first)
    for _ in engine.steps():
        pass
    last = engine.collect()
    values, returns = (np.concatenate([s[name] for s in last.signals]) for name in ("value_old", "return"))
    assert abs(values.mean() - returns.mean()) < 0.5 * abs(returns.mean())


class Remembers:
    """A reward that depends on the order in which it saw answers."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, rollouts: list[Rollout]) -> list[Scored]:
        found = []
        for rollout in rollouts:
            text = rollout.response.text
            found.append(Scored(float(len(set(text) & set("".join(self.seen[-3:])))), None))
            self.seen.append(text)
        return found

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


@pytest.mark.parametrize("algorithm", [GRPO, PPO], ids=["grpo", "ppo"])
def test_two_and_two_steps_are_four_bit_for_bit(algorithm: Algorithm, tmp_path: Path) -> None:
    settings = config(epochs=2, minibatches=2)
    reference = frozen if algorithm is PPO else None
    whole = make_engine(algorithm=algorithm, reward=Remembers(), config=settings, reference=reference)
    metrics = [step.metrics for step in whole.steps()]

    begun = make_engine(algorithm=algorithm, reward=Remembers(), config=settings, reference=reference)
    steps = begun.steps()
    first = [next(steps).metrics for _ in range(2)]
    begun.learner.save(tmp_path / "at-2", sidecar=Sidecar(chat_format="think"), extra=begun.state())

    learner, state = Learner.restore(
        tmp_path / "at-2", objectives(algorithm, 1.0)[0].objective, heads=heads(algorithm), seed=3
    )
    resumed = make_engine(
        algorithm=algorithm, reward=Remembers(), config=settings, reference=reference, learner=learner
    )
    resumed.load(state)
    assert first + [step.metrics for step in resumed.steps()] == metrics
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.state() == whole.state()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"GAE.* needs values"):
        Algorithm(GAE())
    with pytest.raises(UserError, match="a value head has no effect on Group"):
        Algorithm(Group(), value=ValueLoss())
    with pytest.raises(UserError, match="filled in by the engine"):
        Algorithm(Group(), PolicyGradient(temperature=0.5))
    with pytest.raises(UserError, match="a KL term in the loss needs a reference policy"):
        make_engine(algorithm=Algorithm(Group(), kl=KL("k3", "loss", 0.1)))
    with pytest.raises(UserError, match="at least one rollout"):
        make_engine(variants=[])
    with pytest.raises(UserError, match="1 scores for 12 rollouts"):
        make_engine(reward=lambda rollouts: [Scored(1.0)]).collect()


def test_scores_come_back_in_the_order_of_the_rows() -> None:
    """Whatever their lengths and however they are cut into micro-batches."""
    from stillroom.learn.rl.batch import ones, row

    engine = make_engine()
    engine.learner.micro_tokens = 40
    rollouts = engine.sample(engine.plan())
    found = token_logp(engine.learner, [row(r, ones(r), {}) for r in rollouts], 1.0)
    for rollout, logp in zip(rollouts, found, strict=True):
        np.testing.assert_allclose(logp, rollout.response.logp_policy, atol=1e-5)

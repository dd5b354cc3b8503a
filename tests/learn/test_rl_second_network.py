"""Method 24 as a sketch: a discriminator with weights and optimiser of its own learns inside the loop."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fixtures_models import fresh, qwen2_policy, rows
from fixtures_scripted import make_problems
from stillroom.chat import get_format
from stillroom.learn.batches import Batch, Row
from stillroom.learn.heads import ValueHead
from stillroom.learn.learner import Learner, Term
from stillroom.learn.objectives.base import LossSum, View
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.rl.advantages import Group
from stillroom.learn.rl.algorithm import Algorithm, objectives
from stillroom.learn.rl.batch import ones, row
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Also, Engine, RLStep
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Rollout, plainly
from stillroom.learn.rl.signals import token_values
from stillroom.models.policy import Policy, Sidecar

GRPO = Algorithm(Group())
HEADS = {"value": ValueHead()}
SIDECAR = Sidecar(chat_format="think")


class Discriminate:
    """Cross-entropy between signal ``good`` (1 or 0) and what the head says of every token."""

    name = "discriminate"
    needs = frozenset({"head value"})
    compares: Literal["rows"] = "rows"

    def denominator(self, batch: Batch) -> float:
        return float((batch.weights_LT > 0).sum())

    def __call__(self, view: View, batch: Batch) -> LossSum:
        logit_N = view.head("value")(view.states(batch))
        good_N = view.signal(batch, "good").to(logit_N.dtype)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit_N, good_N, reduction="sum")
        return LossSum(loss, {})


def labelled(of: Sequence[Row], good: float) -> list[Row]:
    return [one._replace(signals={"good": [good] * len(one.tokens.ids)}) for one in of]


def quality(critic: Learner, of: Sequence[Row]) -> list[float]:
    """What the discriminator says of rows, as a number without a gradient."""
    return [float(1 / (1 + np.exp(-values.mean()))) for values in token_values(critic, of)]


def as_row(rollout: Rollout) -> Row:
    return row(rollout, ones(rollout), {})


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()])


def make(learner: Learner | None = None, critic: Learner | None = None) -> Engine:
    critic = critic or Learner(fresh(qwen2_policy()), Discriminate(), heads=HEADS)

    def judged(rollouts: Sequence[Rollout]) -> list[Scored]:
        found = quality(critic, [as_row(rollout) for rollout in rollouts])
        # Before the critic has learned anything, it says a half of everything.
        return [
            Scored(q + 0.01 * len(set(r.ids)), None, terms={"quality": q}) for q, r in zip(found, rollouts, strict=True)
        ]

    return Engine(
        learner or Learner(fresh(qwen2_policy()), objectives(GRPO, 1.0)[0].objective),
        problems=make_problems(3),
        variants=[plainly(get_format("think"), 4)],
        reward=judged,
        algorithm=GRPO,
        config=RLConfig(steps=2, problems=2, max_new_tokens=4, lr=1e-2),
        seed=0,
        further={"critic": critic},
    )


def drive(engine: Engine) -> Iterator[RLStep]:
    """Pull towards teacher rows as far as the critic likes them, then teach the critic good from bad."""
    critic = engine.further["critic"]
    teacher = rows(engine.learner.policy, 3)
    while engine.step < engine.config.steps:
        batch = engine.collect()
        pulled = [
            one._replace(tokens=one.tokens._replace(weights=[w * q for w in one.tokens.weights]))
            for one, q in zip(teacher, quality(critic, teacher), strict=True)
        ]
        step = engine.update(batch, also=[Also(pulled, [Term(SFT())])])
        own = [as_row(rollout) for rollout in batch.rollouts]
        critic.forward_backward([*labelled(teacher, 1.0), *labelled(own, 0.0)])
        critic.step(1e-2)
        yield step


def test_qcrd_a_discriminator_learns_inside_the_loop_and_reaches_no_weight_of_the_student() -> None:
    engine = make()
    critic, teacher = engine.further["critic"], rows(engine.learner.policy, 3)
    start = weights(critic.policy)
    qualities = []
    for step in drive(engine):
        assert {"loss_policy-gradient", "loss_sft"} <= step.metrics.keys()
        qualities.append(step.metrics["term_quality"])
    assert (engine.learner.steps, critic.steps) == (2, 2)
    assert not torch.equal(weights(critic.policy), start)
    # It said a half of everything, and has learned to tell the teacher's rows from the student's.
    assert qualities[0] == 0.5
    last = engine.sample(engine.plan())
    assert np.mean(quality(critic, teacher)) > np.mean(quality(critic, [as_row(r) for r in last]))
    before = weights(engine.learner.policy)
    critic.forward_backward(labelled(teacher, 1.0))
    critic.step(1e-2)
    assert torch.equal(weights(engine.learner.policy), before)


def test_student_and_discriminator_go_on_from_one_checkpoint(tmp_path: Path) -> None:
    whole = make()
    expected = [step.metrics for step in drive(whole)]
    begun = make()
    next(steps := drive(begun))
    steps.close()
    begun.learner.save(tmp_path / "one", sidecar=SIDECAR, extra=begun.state(), also=begun.further)

    learner, state = Learner.restore(tmp_path / "one", objectives(GRPO, 1.0)[0].objective)
    critic, _ = Learner.restore(tmp_path / "one" / "critic", Discriminate(), heads=HEADS)
    resumed = make(learner, critic)
    resumed.load(state)
    assert [step.metrics for step in drive(resumed)] == [expected[1]]
    assert torch.equal(weights(critic.policy), weights(whole.further["critic"].policy))

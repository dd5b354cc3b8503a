"""Methods to come, as sketches that run two steps: the engine expresses them without knowing them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures_models import fresh, qwen2_policy, rows
from fixtures_scripted import make_problems
from stillroom.learn.learner import Learner, Term
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.rl.advantages import Group
from stillroom.learn.rl.algorithm import Algorithm, objectives
from stillroom.learn.rl.batch import mask
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Also, Engine, RLStep
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Asked, Rollout, Variant
from stillroom.models.policy import Sidecar
from stillroom.types import Problem

CONFIG = RLConfig(steps=2, problems=2, max_new_tokens=4, lr=1e-2)
GRPO = Algorithm(Group())


def thinking(problem: Problem) -> Asked:
    return Asked(problem.messages)


def not_thinking(problem: Problem) -> Asked:
    return Asked(problem.messages, prefix="<think>\n\n</think>\n")


def by_text(rollouts: Sequence[Rollout]) -> list[Scored]:
    return [Scored(float(len(set(r.response.text))), None) for r in rollouts]


def make_engine(**changes: Any) -> Engine:
    learner = changes.pop("learner", None) or Learner(fresh(qwen2_policy()), objectives(GRPO, 1.0)[0].objective)
    values: dict[str, Any] = {
        "problems": make_problems(3),
        "variants": [Variant(thinking, 4)],
        "reward": by_text,
        "algorithm": GRPO,
        "config": CONFIG,
        "seed": 0,
    }
    return Engine(learner, **{**values, **changes})


def test_raif_two_prompt_variants_in_a_group_and_a_teacher_in_the_same_step() -> None:
    """Method 55: answers without a thought set their group's standard and train nothing; a teacher's rows join."""
    engine = make_engine(variants=[Variant(thinking, 3, "thinking"), Variant(not_thinking, 1, "not-thinking")])
    teacher = rows(engine.learner.policy, 3)

    def drive(engine: Engine) -> Iterator[RLStep]:
        while engine.step < engine.config.steps:
            batch = engine.collect()
            assert {signals["advantage"].shape for signals in batch.signals} == {(len(r.ids),) for r in batch.rollouts}
            assert mask(batch, [r.variant == "thinking" for r in batch.rollouts]) == 2
            yield engine.update(batch, also=[Also(teacher, [Term(SFT())])])

    steps = list(drive(engine))
    assert [step.metrics["trained_rollouts"] for step in steps] == [6, 6]
    assert [len(step.updates) for step in steps] == [1, 1]
    assert {"loss_policy-gradient", "loss_sft"} <= steps[0].metrics.keys()


class Memory:
    """Method 33: what was rewarded before is worth less again, so that the order of answers matters."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        found = []
        for rollout in rollouts:
            novelty = 1.0 / (1 + len(self.seen) - len(set(self.seen) - {rollout.response.text[:1]}))
            found.append(Scored(novelty, None, terms={"novelty": novelty}))
            self.seen.append(rollout.response.text[:1])
        return found

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


def test_memory_r_an_order_dependent_reward_is_restored_from_a_checkpoint(tmp_path: Path) -> None:
    whole = make_engine(reward=Memory())
    expected = [step.metrics for step in whole.steps()]
    begun = make_engine(reward=Memory())
    assert next(begun.steps()).metrics == expected[0]
    begun.learner.save(tmp_path / "one", sidecar=Sidecar(chat_format="think"), extra=begun.state())

    learner, state = Learner.restore(tmp_path / "one", objectives(GRPO, 1.0)[0].objective)
    resumed = make_engine(reward=Memory(), learner=learner)
    resumed.load(state)
    assert [step.metrics for step in resumed.steps()] == [expected[1]]
    forgetful = make_engine(reward=Memory(), learner=Learner.restore(tmp_path / "one", SFT())[0])
    forgetful.load({**state, "reward": {"seen": []}})
    assert next(forgetful.steps()).metrics["reward"] != expected[1]["reward"]


class Buffer:
    """Method 46: problems that nobody solved, until there are enough for a step of fine-tuning."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def state(self) -> dict[str, Any]:
        return {"names": self.names}

    def load(self, state: dict[str, Any]) -> None:
        self.names = list(state["names"])


def test_relift_a_buffer_and_a_second_optimiser_on_the_same_policy(tmp_path: Path) -> None:
    buffer = Buffer()
    engine = make_engine(memories={"hardest": buffer})
    second = Learner(engine.learner.policy, SFT())
    for _ in range(2):
        batch = engine.collect()
        buffer.names += sorted({r.problem.id for r, s in zip(batch.rollouts, batch.scored, strict=True) if s.reward})
        engine.update(batch)
        second.forward_backward(rows(engine.learner.policy, 2))
        second.step(1e-3)
    assert (engine.learner.steps, second.steps, engine.step) == (2, 2, 2)
    engine.learner.save(
        tmp_path / "two", sidecar=Sidecar(chat_format="think"), extra=engine.state(), also={"sft": second}
    )
    learner, state = Learner.restore(tmp_path / "two", SFT())
    restored, _ = Learner.restore(tmp_path / "two" / "sft", SFT(), policy=learner.policy)
    again = make_engine(learner=learner, memories={"hardest": Buffer()})
    again.load(state)
    found = again.memories["hardest"]
    assert isinstance(found, Buffer)
    assert found.names == buffer.names
    assert restored.steps == 2
    for one, other in zip(learner.policy.model.parameters(), engine.learner.policy.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_reward_without_a_verdict_for_any_answer_trains_nothing() -> None:
    engine = make_engine(reward=lambda rollouts: [Scored(None)] * len(rollouts))
    (first, _) = engine.steps()
    assert first.updates == ()
    assert first.metrics["reward"] is None
    assert first.metrics["unjudged"] == pytest.approx(8)

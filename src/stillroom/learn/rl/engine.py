"""The engine of reinforcement learning: small steps that a page drives, or that it drives itself.

    engine = Engine(learner, problems=..., variants=..., reward=..., algorithm=..., config=..., seed=0)
    for step in engine.steps():           # plan → collect → update, until config.steps
        ...
    while engine.step < config.steps:     # the same by hand, where a method puts something in between
        batch = engine.collect(engine.plan())
        mask(batch, ...)                  # sample masks and token weights
        step = engine.update(batch, also=[Also(teacher_rows, [Term(SFT())])])

`collect` samples, scores, and turns rewards into advantages; `update` trains. What a step asks and draws depends on the
seed and the step's number alone, and the engine's state (the step, what a stateful reward and a page's own buffers
remember, what the watch has seen) is plain JSON that travels in the learner's checkpoint: a step that was cut off is
run again whole, with the same result.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from stillroom.errors import UserError
from stillroom.learn.batches import Row
from stillroom.learn.learner import Learner, StepReport, Term
from stillroom.learn.objectives.base import Reference
from stillroom.learn.rl import batch as batches
from stillroom.learn.rl.advantages import Scores
from stillroom.learn.rl.algorithm import Algorithm, objectives
from stillroom.learn.rl.batch import Floats, RolloutBatch
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.rewards import Reward, Scored, Stateful, verify_texts
from stillroom.learn.rl.rollouts import Ask, Plan, Rollout, TokenSampler, Variant, plan_step, roll_out
from stillroom.learn.rl.signals import token_divergence, token_logp, token_values
from stillroom.learn.rl.watch import Watch, summary
from stillroom.learn.schedules import rate
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Task
from stillroom.types import Problem


@dataclass(frozen=True)
class HeldOut:
    """Problems on which the truth is looked at: the task's verifier on greedy answers, whatever the reward says."""

    task: Task
    problems: Sequence[Problem]
    ask: Ask


class Also(NamedTuple):
    """Further rows of an optimiser step under objectives of their own, e.g. a teacher's under `SFT`."""

    rows: Sequence[Row]
    terms: Sequence[Term]


@dataclass(frozen=True)
class RLStep:
    """What one step of the engine did."""

    step: int
    """From 1."""
    updates: tuple[StepReport, ...]
    """Of its optimiser steps; empty when nothing was left to train on."""
    metrics: dict[str, float | None]
    """docs/metrics.md; None where it could not be measured."""
    written_tokens: int = 0
    """Of the rollouts."""
    alarms: tuple[str, ...] = ()
    """New ones."""


@dataclass
class Engine:
    """See the module."""

    learner: Learner
    """Of the policy in training."""
    problems: Sequence[Problem]
    variants: Sequence[Variant]
    """How a group's problem is asked, and how often."""
    reward: Reward
    algorithm: Algorithm
    config: RLConfig
    seed: int
    reference: Reference | None = None
    """Opens the policy that the KL term compares with."""
    held_out: HeldOut | None = None
    memories: Mapping[str, Stateful] = field(default_factory=dict)
    """A page's own buffers, by name: saved and restored with the engine."""
    further: Mapping[str, Learner] = field(default_factory=dict)
    """A page's further learners, by name: saved and restored with the first."""
    sampler: TokenSampler | None = None
    """None: a `LocalSampler` over the policy in training."""
    step: int = 0
    """How many are done."""
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        if sum(variant.count for variant in self.variants) < 1:
            raise UserError("a group needs at least one rollout; give Variant(count=...) of 1 or more")
        kl = self.algorithm.kl
        if kl.place != "off" and self.reference is None:
            raise UserError(f"a KL term in the {kl.place} needs a reference policy; give Engine(reference=...)")
        self._terms = objectives(self.algorithm, self.config.temperature)
        self._sampler = self.sampler or LocalSampler(self.learner.policy)

    def steps(self) -> Iterator[RLStep]:
        """Go on until `config.steps` are done."""
        while self.step < self.config.steps:
            yield self.update(self.collect(self.plan()))

    def plan(self) -> Plan:
        """The problems of the next step."""
        return plan_step(self.problems, self.config.problems, self.step, seed=self.seed)

    def collect(self, plan: Plan | None = None) -> RolloutBatch:
        """Sample, score, and give every token its advantage."""
        if self.step == 0 and self.held_out is not None and not self.watch.truths:
            self._look_at_truth(0)
        rollouts = self.sample(plan or self.plan())
        return self.weigh(rollouts, self.reward(rollouts))

    def sample(self, plan: Plan) -> list[Rollout]:
        """The rollouts of a plan under the policy as it is."""
        return roll_out(
            self._sampler, plan, self.variants, self.config.params, seed=self.seed, version=self.learner.steps
        )

    def weigh(self, rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> RolloutBatch:
        """From rewards to advantages and loss weights."""
        if len(scored) != len(rollouts):
            raise UserError(f"the reward gave {len(scored)} scores for {len(rollouts)} rollouts; give one for each")
        scored = batches.with_overlong(rollouts, scored, self.config.overlong)
        signals = self._signals(rollouts)
        kl, advantage = self.algorithm.kl, self.algorithm.advantage
        penalties = None
        if kl.place == "reward":
            apart = [token_divergence(kl.estimator, given["logp_old"], given["logp_ref"]) for given in signals]
            penalties = [(-kl.weight * tokens).tolist() for tokens in apart]
        found = advantage(
            Scores(
                rewards=[s.reward for s in scored],
                groups=[r.group for r in rollouts],
                lengths=[len(r.ids) for r in rollouts],
                token_rewards=penalties,
                values=[given["value_old"].tolist() for given in signals] if advantage.needs_values else None,
            )
        )
        return batches.put_together(self.step, rollouts, scored, found, signals)

    def _signals(self, rollouts: Sequence[Rollout]) -> list[dict[str, Floats]]:
        """What the update compares with, all under the policy that wrote the rollouts."""
        rows = [batches.row(r, batches.ones(r), {}) for r in rollouts]
        temperature = self.config.temperature
        signals = [{"logp_old": batches.sampled_logp(r)} for r in rollouts]
        elsewhere = [i for i, rollout in enumerate(rollouts) if not rollout.as_asked]
        if elsewhere:
            anew = token_logp(self.learner, [rows[i] for i in elsewhere], temperature)
            for i, logp in zip(elsewhere, anew, strict=True):
                signals[i]["logp_old"] = logp
        if self.reference is not None and self.algorithm.kl.place != "off":
            for given, logp in zip(signals, token_logp(self.learner, rows, temperature, self.reference), strict=True):
                given["logp_ref"] = logp
        if self.algorithm.advantage.needs_values:
            for given, values in zip(signals, token_values(self.learner, rows), strict=True):
                given["value_old"] = values
        return signals

    def update(self, batch: RolloutBatch, also: Sequence[Also] = ()) -> RLStep:
        """Train on a batch; every optimiser step also sees all rows of `also`.

        Where no rollout is left to train on and there is nothing else either, the step counts as done without an
        update.
        """
        rows = batches.rows(batch)
        reports: list[StepReport] = []
        lr = rate(self.config.schedule, self.step, self.config.steps, peak=self.config.lr, warmup=self.config.warmup)
        for epoch in range(self.config.epochs):
            for part in self._minibatches(rows, epoch) or [[]]:
                if part:
                    self.learner.forward_backward(part, self._terms)
                for more in also:
                    self.learner.forward_backward(more.rows, more.terms)
                if part or also:
                    reports.append(self.learner.step(lr))
        metrics = {**self._metrics(batch, reports), "lr": lr, "trained_rollouts": float(len(rows))}
        self.step += 1
        last = self.step == self.config.steps
        if self.held_out is not None and (last or self.step % self.config.held_out_every == 0):
            metrics["held_out"] = self._look_at_truth(self.step)
        alarms = self.watch.check(self.step, batch.rollouts, batch.scored, metrics, self._decode)
        metrics["alarms"] = float(len(alarms))
        written = sum(len(rollout.ids) for rollout in batch.rollouts)
        return RLStep(self.step, tuple(reports), metrics, written, tuple(alarms))

    def _minibatches(self, rows: Sequence[Row], epoch: int) -> list[list[Row]]:
        """Advantages are fixed, so rows of a group need not stay together."""
        order = list(range(len(rows)))
        if self.config.minibatches > 1:
            derive_rng("rl-minibatches", self.seed, self.step, epoch).shuffle(order)
        count = min(self.config.minibatches, len(rows))
        return [[rows[i] for i in order[at::count]] for at in range(count)]

    def _metrics(self, batch: RolloutBatch, reports: Sequence[StepReport]) -> dict[str, float | None]:
        metrics = summary(batch.rollouts, batch.scored)
        metrics["length_drift"] = self.watch.drift(metrics["length"])
        if not reports:
            return metrics
        # Optimiser steps between sampling and update.
        metrics["staleness"] = fmean(r.step - 1 for r in reports) - fmean(r.version for r in batch.rollouts)
        for name in ("loss", "grad_norm", "update_norm"):
            metrics[name] = fmean(getattr(report, name) for report in reports)
        for name in dict.fromkeys(name for report in reports for name in report.diagnostics):
            metrics[name] = fmean(report.diagnostics[name] for report in reports if name in report.diagnostics)
        # Before anything was learned from a batch, its log-probabilities should be the sampler's own.
        fresh = all(rollout.version == reports[0].step - 1 for rollout in batch.rollouts)
        for name in ("logp_gap_mean", "logp_gap_max"):
            metrics[name] = reports[0].diagnostics.get(name) if fresh else None
        return metrics

    def _look_at_truth(self, step: int) -> float | None:
        """Share of right greedy answers to the held-out problems; None when none could be judged."""
        assert self.held_out is not None
        problems = self.held_out.problems
        asked = [self.held_out.ask(problem) for problem in problems]
        prompts = [
            Prompt(messages=said.messages, prefix=said.prefix, problem=p)
            for said, p in zip(asked, problems, strict=True)
        ]
        answers = self._sampler.sample(
            prompts, SamplingParams(temperature=0.0, max_new_tokens=self.config.max_new_tokens)
        )
        verdicts = verify_texts(self.held_out.task, problems, [answer[0].text for answer in answers])
        shares = [None if verdict.correct is None else float(verdict.correct) for verdict in verdicts]
        self.watch.held_out(step, shares)
        known = [share for share in shares if share is not None]
        return fmean(known) if known else None

    def _decode(self, token: int) -> str:
        return str(self.learner.policy.tokenizer.decode([token]))

    def state(self) -> dict[str, Any]:
        """All that the engine needs, beside its arguments and the learner, to go on from here; plain JSON."""
        found = {
            "step": self.step,
            "watch": asdict(self.watch),
            "reward": self.reward.state() if isinstance(self.reward, Stateful) else None,
            "memories": {name: memory.state() for name, memory in self.memories.items()},
        }
        # What cannot be written must not wait for a checkpoint to be found out.
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with a learner that was restored from the same checkpoint."""
        self.step = int(state["step"])
        self.watch = Watch(**state["watch"])
        if isinstance(self.reward, Stateful):
            self.reward.load(state["reward"])
        for name, memory in self.memories.items():
            memory.load(state["memories"][name])

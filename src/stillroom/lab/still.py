"""The still: what a recipe works with. Each call is a stage of the run that is done once and read back afterwards.

A recipe is a plain function of a still, run from the top whenever a run is resumed: stages that are done return what
they left on disk, the first unfinished one goes on from its last whole chunk or checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from stillroom.chat import ChatFormat
from stillroom.errors import TrainingStopped, UserError
from stillroom.lab.checkpoints import Checkpoints, move_into_place
from stillroom.lab.evaluate import ArmScore, Measure, evaluate, score
from stillroom.lab.reinforce import Drive, Further, Reinforcement, run_reinforcement
from stillroom.lab.run import Run
from stillroom.learn.adapt.base import AdamW, Adapt, Full
from stillroom.learn.batches import Row, examples, make_row
from stillroom.learn.learner import Learner, refusal
from stillroom.learn.objectives.base import Objective
from stillroom.learn.objectives.contrast import Collapse
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.rl.algorithm import Algorithm
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine
from stillroom.learn.rl.rewards import Reward, Stateful
from stillroom.learn.rl.rollouts import Variant, plainly
from stillroom.learn.training import TrainConfig, train
from stillroom.models.policy import Policy, Sidecar, load_policy
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.seeds import derive_seed, digest
from stillroom.synth.rejection import Coverage, RejectionSampler, StopRule, consumed, coverage, read_pool
from stillroom.tasks import load_task
from stillroom.tasks.base import Task
from stillroom.traces import store
from stillroom.traces.pairs import Comparison, build_pairs
from stillroom.traces.select import Rule, apply, parse
from stillroom.types import Problem, Trace

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@dataclass
class Still:
    """A task, a teacher and a student, set up in a run folder."""

    run: Run
    task: Task
    problems: Sequence[Problem]
    """To make traces of."""
    dev: Sequence[Problem]
    """To choose settings on."""
    test: Sequence[Problem]
    """To measure on, never to choose on."""
    teacher: Sampler
    student: str
    """Checkpoint folder or hub id of the untrained student."""
    chat_format: ChatFormat
    params: SamplingParams
    """Of the teacher."""
    train_config: TrainConfig
    select_rules: str
    adapt: Adapt = field(default_factory=Full)
    """Which weights move, unless a recipe says otherwise."""
    seed: int = 0
    samples: int = 1
    device: str = "cpu"
    chat_template: Path | None = None
    checkpoint_every_s: float = 20.0
    progress: Progress = no_progress
    recipe: str = ""
    arm: str = "student"
    """Name under which the recipe at work trains and is measured; an experiment sets it arm by arm."""
    lr_trials: tuple[float, ...] = ()
    """Learning rates to try; the best on dev is kept. Empty: the training configuration's own, without a trial."""
    _last: tuple[str, LocalSampler] | None = None

    def sample(
        self,
        rule: StopRule,
        *,
        pool: str = "pool",
        max_responses: int | None = None,
        student: Path | None = None,
        temperature: float | None = None,
    ) -> list[Trace]:
        """Draw from the teacher until the rule is satisfied; returns the traces that this rule consumes.

        Several rules may share a pool; each pays, in its own account, for what it would have drawn alone.

        Args:
            max_responses: budget of the pool.
            student: draw from this checkpoint instead of the teacher; give it a pool of its own.
            temperature: instead of the run's.
        """
        folder = self.run.folder / "traces" / pool
        name = f"sample:{pool}:{_slug(rule)}"
        if self.run.result_of(name) is None:
            with self.run.stage(name) as result:
                engine = RejectionSampler(
                    self.task,
                    self.teacher if student is None else self.local(student),
                    self.chat_format,
                    self.params if temperature is None else self.params.model_copy(update={"temperature": temperature}),
                    seed=derive_seed(pool, self.seed),
                    source="student" if student else "recorded" if self.teacher.id.startswith("replay") else "teacher",
                    max_responses=max_responses,
                )
                for number, state in enumerate(engine.run(self.problems, rule, folder)):
                    self.progress("sample", state.finished, state.problems)
                    # A resumed stage meets some chunks ready: only the state after the last one is the same every time.
                    last = (number, state)
                state = last[1]
                self.run.metrics.log(
                    stage="sample",
                    step=state.responses,
                    finished=state.finished,
                    correct=state.correct,
                    tokens=state.tokens,
                )
                result.update(state.model_dump())
        wanted = {problem.id for problem in self.problems}
        return consumed([t for t in read_pool(folder) if t.problem_id in wanted], rule)

    def select(self, traces: Sequence[Trace], rules: Sequence[Rule], *, name: str | None = None) -> list[Trace]:
        """Apply selection rules; the kept traces and the reasons of the others are written to the run folder."""
        name = f"selected-{name or self.arm}"
        folder = self.run.folder / "traces"
        stage = f"select:{name}"
        if self.run.result_of(stage) is None:
            with self.run.stage(stage) as result:
                self.progress("select", 0, len(traces))
                chosen = apply(store.to_frame(traces), rules)
                store.write_frame(folder, name, chosen.kept)
                chosen.dropped.write_parquet(folder / f".{name}-dropped.parquet")
                result.update(input=len(traces), kept=len(chosen.kept), dropped=chosen.counts)
                self.progress("select", len(traces), len(traces))
        return store.read(folder / f"{name}.parquet")

    def default_rules(self) -> list[Rule]:
        """The rules of the run's configuration, decontaminating against dev and test problems."""
        return parse(self.select_rules, seed=self.seed, against=[*self.dev, *self.test])

    def pairs(self, traces: Sequence[Trace], *, name: str | None = None, per_problem: int = 1) -> list[Comparison]:
        """Pairs of a right and a wrong response to the same problem; what was not used is counted in the run folder.

        Raises:
            TrainingStopped: when no problem has both.
        """
        name = f"pairs-{name or self.arm}"
        found = build_pairs(traces, per_problem=per_problem)
        if not found.pairs:
            raise TrainingStopped(
                f"no pair of a right and a wrong response among {len(traces)} traces ({found.dropped}); preference "
                "training needs both: sample more responses per problem, or at a higher temperature"
            )
        if self.run.result_of(f"select:{name}") is None:
            with self.run.stage(f"select:{name}") as result:
                both = [trace for pair in found.pairs for trace in pair.traces]
                store.write_shard(self.run.folder / "traces", name, _once(both))
                result.update(input=len(traces), kept=len(found.pairs), dropped=found.dropped)
        return found.pairs

    def fine_tune(
        self,
        data: Sequence[Trace | Comparison],
        *,
        name: str | None = None,
        start: Path | None = None,
        objective: Objective | None = None,
        adapt: Adapt | None = None,
        optimizer: AdamW | None = None,
        train: TrainConfig | None = None,
        lr_trials: Sequence[float] | None = None,
    ) -> Path:
        """Train the student on taught segments of traces, or on comparisons of them; returns the checkpoint's folder.

        With learning-rate trials, it is trained once per rate and the best on dev is kept.

        Args:
            start: a checkpoint of this run to go on from, with fresh optimiser state; None: the untrained student. It
                also serves as the reference of objectives that need one.
            objective: None: supervised fine-tuning.
            adapt, train, lr_trials: instead of the run's.

        Raises:
            TrainingStopped: when there is nothing to train on.
            UserError: an objective that does not fit the data or the choice of weights.
        """
        name = name or self.arm
        target = self.run.folder / name
        stage = f"train:{name}"
        if self.run.result_of(stage) is not None:
            return target
        if not data:
            raise TrainingStopped(
                "nothing is left to train on: every trace was rejected. Look at `stillroom traces stats "
                f"{self.run.folder / 'traces'}` for the reasons; a stronger teacher, more samples or other rules help"
            )
        if adapt is not None and self.adapt != Full():
            raise UserError(
                f"adapt {self.adapt.name!r} has no effect: this recipe chooses itself which weights move "
                f"({adapt.name}); leave --adapt out"
            )
        settings = train or self.train_config
        rates = tuple(self.lr_trials if lr_trials is None else lr_trials) or (settings.lr,)
        plan = _Plan(data, start, objective or SFT(), adapt or self.adapt, optimizer, settings)
        return self._best(name, rates, lambda folder, stage, rate: self._train(plan, folder, stage, rate))

    def reinforce(
        self,
        start: Path,
        *,
        algorithm: Algorithm,
        reward: Reward,
        config: RLConfig,
        name: str | None = None,
        samples: int = 8,
        variants: Sequence[Variant] = (),
        adapt: Adapt | None = None,
        optimizer: AdamW | None = None,
        drive: Drive = Engine.steps,
        memories: Mapping[str, Stateful] | None = None,
        further: Further | None = None,
        lr_trials: Sequence[float] = (),
    ) -> Path:
        """Train a checkpoint by reinforcement on the training problems; returns the new checkpoint's folder.

        The truth is looked at on dev problems beside the reward, and alarms go to the run's result. With learning-rate
        trials, it is trained once per rate and the best on dev is kept.

        Args:
            start: a checkpoint that can already answer some problems; also the reference of KL terms.
            samples: rollouts per problem, asked in the run's chat format.
            variants: instead: how a group's problem is asked, and how often.
            adapt: instead of the run's.
            drive: a page's own loop over the engine, where a method puts something between its steps.
            memories: a page's own buffers, saved with every checkpoint.
            further: makes further learners that are saved with the first.
        """
        name = name or self.arm
        plan = Reinforcement(
            start,
            reward,
            algorithm,
            config,
            variants=tuple(variants) or (plainly(self.chat_format, samples),),
            adapt=adapt or self.adapt,
            optimizer=optimizer,
            drive=drive,
            memories=memories or {},
            further=further,
        )
        remembered = plan.remembered()

        def run(folder: Path, stage: str, rate: float) -> None:
            # What was measured last must not stand in memory beside what is trained.
            self._last = None
            plan.restore(remembered)
            run_reinforcement(self, plan, folder, stage, rate)

        return self._best(name, tuple(lr_trials) or (config.lr,), run)

    def _best(self, name: str, rates: Sequence[float], train: Callable[[Path, str, float], None]) -> Path:
        """Train as one stage with the only rate, or once per rate and keep what is best on dev."""
        target, stage = self.run.folder / name, f"train:{name}"
        if self.run.result_of(stage) is not None:
            return target
        if len(rates) == 1:
            train(target, stage, rates[0])
            return target
        trials: dict[float, float | None] = {}
        for rate in rates:
            trial = self.run.folder / "trials" / f"{name}-{rate:g}"
            train(trial, f"trial:{name}-{rate:g}", rate)
            trials[rate] = self.measure(trial, name=f"dev-{name}-{rate:g}", problems=self.dev).accuracy.value
        best = max(trials, key=lambda rate: (trials[rate] or 0.0, -rate))
        with self.run.stage(stage) as result:
            move_into_place(self.run.folder / "trials" / f"{name}-{best:g}", target)
            result.update(self.run.result_of(f"trial:{name}-{best:g}") or {})
            result["trials"] = {f"{rate:g}": accuracy for rate, accuracy in trials.items()}
        return target

    def _train(self, plan: "_Plan", target: Path, stage: str, lr: float) -> None:
        """One training run as a stage, with checkpoints in between."""
        if self.run.result_of(stage) is not None:
            return
        # What was measured last must not stand in memory beside what is trained.
        self._last = None
        settings = plan.settings.model_copy(update={"lr": lr})
        checkpoints = Checkpoints(self.run.folder / "checkpoints" / target.name, self.checkpoint_every_s)
        own = plan.start is None or plan.start.is_relative_to(self.run.folder)
        base = self.student if own else str(plan.start)
        sidecar = Sidecar(chat_format=self.chat_format.name, base=base, recipe=self.recipe)
        learner, extra = self._learner(plan, checkpoints.newest())
        rows, too_long = set_rows(plan.data, learner.policy, settings)
        total = settings.total_steps(len(rows) if learner.objective.compares == "rows" else len(examples(rows)))
        with self.run.stage(stage, keep_bytes=int(extra.get("metrics_bytes", 0))) as result:
            computed = int(extra.get("computed_tokens", 0))
            watch, alarm = Collapse(start=extra.get("logp_start")), extra.get("alarm")
            report = None
            for report in train(learner, rows, settings, seed=derive_seed("train", self.seed)):
                computed += report.computed_tokens
                alarm = alarm or watch.check(report.step, report.diagnostics)
                self.run.metrics.log(
                    stage="train",
                    arm=target.name,
                    step=report.step,
                    loss=report.loss,
                    grad_norm=report.grad_norm,
                    update_norm=report.update_norm,
                    lr=report.lr,
                    trained_tokens=report.trained_tokens,
                    fill=report.real_tokens / report.computed_tokens,
                    **report.diagnostics,
                )
                self.progress(f"train {target.name}", report.step, total)
                if report.step < total and checkpoints.due():
                    position = {
                        "metrics_bytes": self.run.metrics.length,
                        "computed_tokens": computed,
                        "logp_start": watch.start,
                        "alarm": alarm,
                    }
                    checkpoints.write(report.step, partial(learner.save, sidecar=sidecar, extra=position))
            learner.export(target, sidecar=sidecar)
            result.update(
                rows=len(rows),
                too_long=too_long,
                steps=learner.steps,
                trained_tokens=learner.trained_tokens,
                computed_tokens=computed,
                parameters=learner.policy.num_parameters(),
                lr=lr,
                trials={},
                objective=learner.objective.name,
                adapt=learner.report().model_dump(mode="json"),
                logp_start=watch.start,
                diagnostics=report.diagnostics if report else {},
                alarm=alarm,
            )
        checkpoints.remove()

    def _learner(self, plan: "_Plan", saved: Path | None) -> tuple[Learner, dict[str, Any]]:
        """A learner at its start, or where a checkpoint left it."""

        def begin() -> Policy:
            return self.load_student() if plan.start is None else load_policy(plan.start, device=self.device)

        needed = refusal(plan.objective, plan.adapt, reference=False) is not None
        reference = begin() if needed else None
        seed = derive_seed("learner", self.seed)
        if saved is not None:
            return Learner.restore(
                saved,
                plan.objective,
                device=self.device,
                adapt=plan.adapt,
                optimizer=plan.optimizer,
                reference=reference,
                seed=seed,
            )
        learner = Learner(
            begin(), plan.objective, adapt=plan.adapt, optimizer=plan.optimizer, reference=reference, seed=seed
        )
        return learner, {}

    def account(self, traces: Sequence[Trace], rule: StopRule) -> Coverage:
        """What the arm's data cost and how it covers the problems; kept with the arm's result."""
        found = coverage(self.problems, traces, rule)
        stage = f"account:{self.arm}"
        if self.run.result_of(stage) is None:
            with self.run.stage(stage) as result:
                result.update(found.model_dump(mode="json"))
                result["lenient_disagreement"] = self._lenient_disagreement(traces)
        return found

    def _lenient_disagreement(self, traces: Sequence[Trace]) -> float | None:
        """Share of judged traces that a lenient reading of the final answer (last number) would judge otherwise."""
        problems = {problem.id: problem for problem in self.problems}
        judged = [t for t in traces if t.verdict is not None and t.verdict.correct is not None]
        other = [self.task.verify(problems[t.problem_id], t.taught[-1].text, strict=False).correct for t in judged]
        differ = sum(1 for t, lenient in zip(judged, other, strict=True) if t.verdict and t.verdict.correct != lenient)
        return differ / len(judged) if judged else None

    def local(self, model: str | Path) -> LocalSampler:
        """A sampler over a checkpoint; one of this run is named by its place in it: where a run lies is no result.

        The last one is kept: a model is often measured in several ways.
        """
        if self._last is None or self._last[0] != str(model):
            policy = load_policy(model, device=self.device, chat_template=self.chat_template)
            if Path(model).is_relative_to(self.run.folder):
                policy = replace(policy, source=str(Path(model).relative_to(self.run.folder)))
            self._last = (str(model), LocalSampler(policy))
        return self._last[1]

    def load_student(self) -> Policy:
        """The untrained student."""
        return load_policy(self.student, device=self.device, chat_template=self.chat_template)

    def measure(
        self,
        model: str | Path | Sampler,
        *,
        name: str,
        problems: Sequence[Problem] | None = None,
        max_new_tokens: int | None = None,
        how: Measure = Measure(),
    ) -> ArmScore:
        """Evaluate a checkpoint or a way to answer, greedily on the test problems unless told otherwise; traces go to
        ``evals/NAME.parquet``."""
        task = self.task if how.task is None else load_task(how.task)
        chosen = self.test if problems is None else problems
        if how.task is not None:
            chosen = task.problems(how.split, how.problems, 0)
        folder = self.run.folder / "evals"
        stage = f"eval:{name}"
        if self.run.result_of(stage) is None:
            with self.run.stage(stage) as result:
                self.progress(f"eval {name}", 0, len(chosen))
                traces = evaluate(
                    task,
                    chosen,
                    self.local(model) if isinstance(model, str | Path) else model,
                    self.chat_format,
                    max_new_tokens=max_new_tokens or self.params.max_new_tokens,
                    temperature=how.temperature,
                    top_p=how.top_p,
                    n=how.n,
                    seed=self.seed,
                )
                found = score(name, traces, chosen)
                # The path of a run folder is not part of a result.
                traces = [
                    t.model_copy(update={"id": f"{t.problem_id}#{name}#{t.index}", "sampler": name}) for t in traces
                ]
                store.write_shard(folder, name, traces)
                self.run.metrics.log(
                    stage="eval", arm=name, step=0, accuracy=found.accuracy.value, tokens=found.tokens.mean
                )
                result.update(found.model_dump())
                self.progress(f"eval {name}", len(chosen), len(chosen))
        return ArmScore.model_validate(self.run.result_of(stage))


@dataclass(frozen=True)
class _Plan:
    """What is trained on what, but for the learning rate."""

    data: Sequence[Trace | Comparison]
    start: Path | None
    objective: Objective
    adapt: Adapt
    optimizer: AdamW | None
    settings: TrainConfig


def set_rows(data: Sequence[Trace | Comparison], policy: Policy, settings: TrainConfig) -> tuple[list[Row], int]:
    """Tokenised rows, and how many traces were dropped because they exceed the model's positions.

    A comparison with such a trace is dropped whole.
    """
    rows: list[Row] = []
    for number, item in enumerate(data):
        if isinstance(item, Comparison):
            compared = zip(item.traces, item.scores, strict=True)
            rows += [row_of(trace, policy)._replace(group=f"group{number}", score=score) for trace, score in compared]
        else:
            rows.append(row_of(item, policy))
    long = {row.group or row.id for row in rows if len(row.tokens.ids) > policy.max_length}
    fitting = [row for row in rows if (row.group or row.id) not in long]
    too_long = len(rows) - len(fitting)
    if too_long and (settings.too_long == "stop" or not fitting):
        longest = max(len(row.tokens.ids) for row in rows)
        raise UserError(
            f"{too_long} of {len(rows)} traces are longer than the {policy.max_length} positions of {policy.source} "
            f"(the longest has {longest} tokens); select shorter ones, for example with --select max-tokens=N"
        )
    untaught = [row.id for row in fitting if not _learns_to_stop(row, policy)]
    if untaught:
        raise UserError(
            f"in {len(untaught)} traces (first: {untaught[0]}) no end token is trained: the student would never stop; "
            "the chat template must end an assistant turn with the model's end token"
        )
    return fitting, too_long


def row_of(trace: Trace, policy: Policy) -> Row:
    """A trace as a training row of a policy."""
    return make_row(trace.id, trace.taught, policy)


def _once(traces: Sequence[Trace]) -> list[Trace]:
    """Each trace once, in order."""
    return list({trace.id: trace for trace in traces}.values())


def _learns_to_stop(row: Row, policy: Policy) -> bool:
    return any(w > 0 and t in policy.stop_ids for t, w in zip(row.tokens.ids, row.tokens.weights, strict=True))


def _slug(rule: StopRule) -> str:
    """A short name of a rule that differs whenever the rule does."""
    return f"{type(rule).__name__.lower()}-{digest(repr(rule))[:8]}"

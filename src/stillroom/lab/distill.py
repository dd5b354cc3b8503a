"""The main job: a task, a teacher and a student in; a better student, its evidence and its lineage out."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillroom.chat import ChatFormat, ask, get_format
from stillroom.errors import UserError
from stillroom.io import read_json, read_lines, write_atomic, write_json
from stillroom.lab.card import model_card
from stillroom.lab.config import DistillConfig
from stillroom.lab.evaluate import ArmScore, score
from stillroom.lab.run import Run
from stillroom.lab.still import Progress, Still, no_progress
from stillroom.lab.tensorboard import write_events
from stillroom.learn.adapt.spec import parse_adapt
from stillroom.models.policy import Policy, load_policy, require_prompt_fits, resolve_student
from stillroom.samplers import make_sampler
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.samplers.pictures import encode
from stillroom.samplers.records import recording_files
from stillroom.samplers.replay import recorded_problems
from stillroom.seeds import digest
from stillroom.synth.rejection import read_pool
from stillroom.tasks import Loaded, load, write_rejects
from stillroom.tasks.base import Task, content_hash
from stillroom.tasks.files import finite
from stillroom.traces import store
from stillroom.traces.select import parse
from stillroom.types import Noun, Problem, Trace

RECORDED = "recorded"
"""Task name that stands for the problems of a replay teacher's recording."""

Recipe = Callable[[Still], Path]
"""A recipe of kind ``model``: returns the trained checkpoint."""


class Alarm(Noun):
    """Something that spoils or weakens the result."""

    level: str = "warning"
    text: str


class DistillResult(Noun):
    """What `distill` measured; the same as the run folder's `result.json`."""

    folder: str
    student: str
    arms: dict[str, ArmScore]
    cost: dict[str, float | None]
    selection: dict[str, Any]
    alarms: tuple[Alarm, ...]

    @property
    def gain(self) -> float | None:
        """Accuracy of the student minus that of its base, on the same problems."""
        after, before = self.arms["student"].accuracy.value, self.arms["base"].accuracy.value
        return None if after is None or before is None else after - before


def run_distill(run: Run, config: DistillConfig, recipe: Recipe, progress: Progress = no_progress) -> DistillResult:
    """Do, or go on with, the main job in an open run folder: recipe, evaluation before and after, result, card.

    The same run, killed anywhere and continued by calling this again, ends with the same weights and metrics.
    """
    progress("load", 0, 1)
    still = set_up(run, config, progress)
    progress("load", 1, 1)
    student = recipe(still)
    arms = {
        "base": still.measure(still.student, name="base"),
        "student": still.measure(student, name="student"),
    }
    traces = [t for pool in sorted((run.folder / "traces").glob("*")) if pool.is_dir() for t in read_pool(pool)]
    firsts = [t for t in traces if t.index == 0 and t.source != "student"]
    # Over the training problems, whose most frequent answer says nothing about the test set.
    arms["teacher"] = score("teacher", firsts, [])
    result = DistillResult(
        folder=str(run.folder),
        student=str(student),
        arms=arms,
        cost=_cost(run, traces),
        selection=run.result_of("select:selected-student") or run.result_of("select:pairs-student") or {},
        alarms=tuple(_alarms(run, arms, traces)),
    )
    _finish(run, config, still, result)
    return result


def set_up(run: Run, config: DistillConfig, progress: Progress = no_progress) -> Still:
    """The still of a configuration: problems drawn and checked, teacher and formats resolved."""
    task, rejects = load_config_task(config)
    if rejects:
        write_rejects(run.folder / "rejects.jsonl", rejects)
    student = resolve_student(config.student)
    policy = load_policy(
        student, device=config.device, chat_template=Path(config.chat_template) if config.chat_template else None
    )
    name = config.chat_format or (policy.sidecar.chat_format if policy.sidecar else task.chat_format)
    chat_format = get_format(name)
    train, dev, test = _draw(task, config)
    # A mistake in the rules must not wait until the teacher has been paid.
    parse(config.select, seed=config.seed, against=[*dev, *test])
    _require_answers_fit(policy, chat_format, test, config.max_new_tokens)
    teacher = make_teacher(config, task, policy, chat_format, run.folder)
    _settle_data(run, config, train, dev, test)
    return Still(
        run=run,
        task=task,
        problems=train,
        dev=dev,
        test=test,
        teacher=teacher,
        student=student,
        chat_format=chat_format,
        params=SamplingParams(temperature=config.temperature, max_new_tokens=config.max_new_tokens),
        train_config=config.train,
        adapt=parse_adapt(config.adapt),
        select_rules=config.select,
        seed=config.seed,
        samples=config.samples,
        device=config.device,
        chat_template=Path(config.chat_template) if config.chat_template else None,
        checkpoint_every_s=config.checkpoint_every_s,
        progress=progress,
        recipe=config.method,
    )


def load_config_task(config: DistillConfig) -> Loaded:
    """The task that a configuration names, and the rows that could not be used; ``recorded`` is the recording's own."""
    if config.task == RECORDED:
        if not config.teacher.startswith("replay:"):
            raise UserError(f"task {RECORDED!r} takes its problems from a recording; give --teacher replay:FILE")
        return Loaded(finite(RECORDED, recorded_problems(config.teacher.removeprefix("replay:"))))
    return load(
        config.task,
        fields=config.fields or None,
        layout=config.layout,
        strict=config.strict,
        eval_file=config.eval_file,
    )


def make_teacher(config: DistillConfig, task: Task, policy: Policy, chat_format: ChatFormat, folder: Path) -> Sampler:
    """The teacher's sampler; the program counts tokens with the student's tokenizer."""
    if config.teacher == "program":
        from stillroom.samplers.program import ProgramSampler

        return ProgramSampler(
            task,
            config.style,
            chat_format,
            count_tokens=lambda text: len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]),
        )
    server = config.teacher.startswith("openai:")
    return make_sampler(
        config.teacher,
        task=task,
        chat_format=chat_format,
        folder=(Path(config.answers) if config.answers else folder / "answers") if server else None,
        price=config.price,
        budget_usd=config.budget_usd,
        budget_tokens=config.budget_tokens,
        concurrency=config.concurrency,
        device=config.device,
    )


def _draw(task: Task, config: DistillConfig) -> tuple[list[Problem], list[Problem], list[Problem]]:
    train = task.problems("train", config.problems, config.seed)
    dev = task.problems("dev", min(config.eval_problems, 200), config.seed)
    # Evaluation problems do not depend on the seed of the run, so that runs can be compared.
    test = task.problems("test", config.eval_problems, 0)
    for split, found in (("train", train), ("test", test)):
        if not found:
            raise UserError(f"task {config.task!r} has no {split} problems")
    return train, dev, test


def _require_answers_fit(policy: Policy, chat_format: ChatFormat, test: list[Problem], max_new_tokens: int) -> None:
    """Refuse before training what the evaluation would refuse after it."""
    longest = max(len(encode(policy, ask(problem, chat_format)).ids) for problem in test)
    require_prompt_fits(policy, longest + max_new_tokens, "the longest evaluation prompt with its answer")


def _settle_data(
    run: Run, config: DistillConfig, train: list[Problem], dev: list[Problem], test: list[Problem]
) -> None:
    """Write down what data the run works on; when it goes on later, refuse other data."""
    problems = [*train, *dev, *test]
    hashes = {"problems": digest(*(f"{p.id} {content_hash(p)}" for p in problems))}
    if config.teacher.startswith("replay:"):
        files = recording_files(config.teacher.removeprefix("replay:"))
        hashes["recording"] = digest(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))
    before = run.result_of("problems")
    if before is None:
        with run.stage("problems") as result:
            result.update(hashes=hashes, train=len(train), dev=len(dev), test=len(test))
            path = run.folder / "manifest.json"
            write_json(path, {**read_json(path), "data_hashes": hashes})
        return
    changed = [name for name in hashes if hashes[name] != before["hashes"].get(name)]
    if changed:
        sources = {"problems": f"problems of {config.task!r}", "recording": f"recording {config.teacher!r}"}
        raise UserError(
            f"the {' and the '.join(sources[name] for name in changed)} changed since {run.folder} was started; "
            "put the old data back or start a new run"
        )


def _cost(run: Run, traces: list[Trace]) -> dict[str, float | None]:
    trained = [run.result_of(s) or {} for s in run.stages() if s.startswith("train:")]
    answers = store.read(run.folder / "evals")
    money = [t.usage.cost_usd for t in traces if t.usage.cost_usd is not None]
    own = [t for t in [*traces, *answers] if t.source == "student"]
    return {
        "teacher_tokens": sum(
            t.usage.prompt_tokens + t.usage.completion_tokens for t in traces if t.source != "student"
        ),
        # The student's own: what it wrote for training, rollouts too, and in evaluations, its base included.
        "student_tokens": sum(t.usage.completion_tokens for t in own)
        + sum(t.get("written_tokens", 0) for t in trained),
        "trained_tokens": sum(t["trained_tokens"] for t in trained),
        "updates": sum(t["steps"] for t in trained),
        # Of training alone: 6 N per computed token, padding included.
        "flops": float(sum(6 * t["parameters"] * t["computed_tokens"] for t in trained)),
        "usd": sum(money) if money else None,
        **run.seconds(),
    }


def _alarms(run: Run, arms: dict[str, ArmScore], traces: list[Trace]) -> list[Alarm]:
    found = []
    student, base = arms["student"], arms["base"]
    if student.truncated > 0.05:
        found.append(
            Alarm(text=f"{student.truncated:.0%} of the student's answers hit the token limit; raise --max-new-tokens")
        )
    if (student.accuracy.value or 0) < (base.accuracy.value or 0):
        found.append(Alarm(level="error", text="the student is worse than its base"))
    failed = sum(1 for t in traces if t.verdict is None or t.verdict.correct is None)
    if failed:
        found.append(Alarm(text=f"{failed} of {len(traces)} sampled responses could not be judged and were left out"))
    cut = sum(1 for t in traces if t.finish == "length")
    if cut > 0.05 * len(traces):
        found.append(
            Alarm(text=f"{cut} of {len(traces)} sampled responses hit the token limit; raise --max-new-tokens")
        )
    rejects = run.folder / "rejects.jsonl"
    if rejects.exists():
        count = sum(1 for _ in read_lines(rejects))
        found.append(Alarm(text=f"{count} rows of the problem file could not be used; see rejects.jsonl"))
    for stage in run.stages():
        trained = run.result_of(stage) or {}
        if trained.get("alarm"):
            found.append(Alarm(level="error", text=f"{stage.partition(':')[2]}: {trained['alarm']}"))
        dropped = trained.get("too_long", 0)
        if dropped:
            found.append(Alarm(text=f"{dropped} traces were longer than the student's positions and were not trained"))
    uncovered = len({t.problem_id for t in traces}) - len(
        {t.problem_id for t in traces if t.verdict is not None and t.verdict.correct}
    )
    if uncovered:
        found.append(Alarm(text=f"{uncovered} problems got no correct trace"))
    return found


def _finish(run: Run, config: DistillConfig, still: Still, result: DistillResult) -> None:
    """Write what a person reads first: result, model card, TensorBoard."""
    shown = result.model_dump(mode="json", exclude={"folder", "student"})
    write_json(
        run.folder / "result.json",
        {
            **shown,
            "kind": "distill",
            "title": f"{config.method} on {config.task}",
            "task": config.task,
            "arms": list(shown["arms"].values()),
        },
    )
    write_atomic(Path(result.student) / "README.md", model_card(run, config, still, result))
    if config.tensorboard:
        write_events(run.metrics.read(), run.folder / "tensorboard")

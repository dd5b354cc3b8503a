"""Rejection sampling driven by stop rules: sample, verify, and go on only where a problem still wants more.

Responses are numbered per problem, and response k of a problem is the same whatever asked for it. So one pool on disk
serves several rules: each rule *consumes*, of every problem, the shortest run of responses from the first that
satisfies it, and its cost is what it would have paid sampling alone. The unit of resumption is a chunk of responses,
sealed as one shard; after a kill the unfinished chunk is sampled again, with the same seeds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Literal, Protocol

from stillroom.chat import ChatFormat, ask
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_seed
from stillroom.synth.traces import make_trace
from stillroom.tasks.base import Task
from stillroom.traces import store
from stillroom.types import Noun, Problem, Trace

GIVE_UP = 4
"""A problem whose last responses, this many, could not be judged at all is not asked again: a recording has run out, a
server refuses it."""


class Trial(Noun):
    """What a stop rule may look at in one response."""

    correct: bool | None
    text_hash: int
    level: int
    tokens: int


class StopRule(Protocol):
    """When a problem has had enough."""

    def missing(self, problem_id: str, trials: Sequence[Trial]) -> int:
        """At least how many more responses this problem wants after these; 0 ends it."""
        ...


@dataclass(frozen=True)
class FixedTrials:
    """The same number of responses for every problem (vanilla rejection tuning; n_raw = 52 in DART-Math)."""

    n: int

    def missing(self, problem_id: str, trials: Sequence[Trial]) -> int:
        return max(0, self.n - len(trials))


@dataclass(frozen=True)
class UntilCorrect:
    """Until `target` correct responses, at most `cap` trials.

    A target may be one number for all (DART-Math's Uniform) or a number per problem (Prop2Diff, see `proportional`).
    """

    target: int | Mapping[str, int]
    cap: int
    distinct: bool = False
    """Count equal texts once; copies then never fill a target."""

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise UserError(f"cap={self.cap}: an unsolvable problem would be sampled for ever; give a cap of 1 or more")

    def wanted(self, problem_id: str) -> int:
        """Correct responses that this problem should get."""
        return self.target if isinstance(self.target, int) else self.target.get(problem_id, 0)

    def missing(self, problem_id: str, trials: Sequence[Trial]) -> int:
        return max(0, min(self.wanted(problem_id) - self.reached(trials), self.cap - len(trials)))

    def reached(self, trials: Sequence[Trial]) -> int:
        """How many of these responses count towards a target."""
        right = [trial.text_hash for trial in trials if trial.correct]
        return len(set(right)) if self.distinct else len(right)


def proportional(fail_rate: Mapping[str, float], k_max: int, *, cover: bool = True) -> dict[str, int]:
    """Targets proportional to difficulty: ``k_max * d_i / max_j d_j`` (DART-Math, Prop2Diff).

    Args:
        fail_rate: per problem, in [0, 1]; from few trials use the posterior mean, 0 of 4 is not certainty.
        k_max: target of the hardest problem.
        cover: round up and give every problem at least 1, as the paper does; without it round down, so that the easiest
            problems may get none.

    When every rate is 0 there is nothing to be proportional to, and every problem gets `k_max`.
    """
    hardest = max(fail_rate.values(), default=0.0)
    if hardest <= 0:
        return dict.fromkeys(fail_rate, k_max)
    # The small terms forgive rounding: 24 * 0.7 / 0.7 must be 24, neither 25 nor 23.
    if cover:
        return {pid: max(1, ceil(k_max * d / hardest - 1e-9)) for pid, d in fail_rate.items()}
    return {pid: floor(k_max * d / hardest + 1e-9) for pid, d in fail_rate.items()}


class Progress(Noun):
    """State of a pool after a chunk."""

    responses: int
    finished: int
    """Problems whose rule is satisfied."""
    problems: int
    correct: int
    tokens: int


@dataclass(frozen=True)
class RejectionSampler:
    """Draws responses to problems into a pool folder and verifies them as they come.

    Args:
        max_responses: budget over all problems of a pool; None: no limit but the rule's caps.
        chunk_rows: responses per chunk, the unit of resumption.
        per_turn: most responses that one problem gets in a chunk; unfinished problems take turns.
    """

    task: Task
    sampler: Sampler
    chat_format: ChatFormat
    params: SamplingParams
    seed: int
    source: Literal["teacher", "student", "recorded"] = "teacher"
    max_responses: int | None = None
    chunk_rows: int = 2048
    per_turn: int = 16

    def run(self, problems: Sequence[Problem], rule: StopRule, folder: Path) -> Iterator[Progress]:
        """Extend the pool until the rule is satisfied for every problem or the budget is spent; yields per chunk."""
        traces = read_pool(folder)
        trials: dict[str, list[Trial]] = defaultdict(list)
        for trace in traces:
            trials[trace.problem_id].append(as_trial(trace))
        tokens = sum(t.usage.completion_tokens for t in traces)
        total = len(traces)
        correct = sum(1 for found in trials.values() for trial in found if trial.correct)
        number = len(store.paths_of(folder)) if traces else 0
        while True:
            missing = {p.id: _ask_for(rule, p.id, trials[p.id], self.per_turn) for p in problems}
            # Whose turn it is follows from the pool alone, so that a sampler that was killed goes on in the same order.
            open_problems = sorted((p for p in problems if missing[p.id]), key=lambda p: len(trials[p.id]))
            yield Progress(
                responses=total,
                finished=len(problems) - len(open_problems),
                problems=len(problems),
                correct=correct,
                tokens=tokens,
            )
            left = self.chunk_rows
            if self.max_responses is not None:
                left = min(left, self.max_responses - total)
            if not open_problems or left <= 0:
                return
            chunk: list[tuple[Problem, int]] = []
            for problem in open_problems:
                count = min(missing[problem.id], left)
                chunk.append((problem, count))
                left -= count
                if left == 0:
                    break
            found = self._sample(chunk, {p.id: len(trials[p.id]) for p, _ in chunk})
            store.write_shard(folder, f"chunk-{number:05d}", found)
            number += 1
            for trace in found:
                trial = as_trial(trace)
                trials[trace.problem_id].append(trial)
                correct += bool(trial.correct)
                tokens += trial.tokens
            total += len(found)

    def _sample(self, chunk: Sequence[tuple[Problem, int]], had: Mapping[str, int]) -> list[Trace]:
        found: dict[str, list[Trace]] = {}
        # One call per count keeps `n` a parameter of the call, and batches stay large: most problems want the same.
        for count in sorted({count for _, count in chunk}):
            problems = [problem for problem, wanted in chunk if wanted == count]
            params = self.params.model_copy(update={"n": count})
            prompts = [
                Prompt(
                    messages=ask(problem, self.chat_format),
                    problem=problem,
                    seed=derive_seed("pool", self.seed, problem.id),
                    first_index=had[problem.id],
                )
                for problem in problems
            ]
            answers = self.sampler.sample(prompts, params)
            for problem, prompt, responses in zip(problems, prompts, answers, strict=True):
                found[problem.id] = [
                    make_trace(
                        self.task,
                        problem,
                        response,
                        asked=prompt.messages,
                        chat_format=self.chat_format,
                        sampler_id=self.sampler.id,
                        index=prompt.first_index + offset,
                        params=params,
                        source=self.source,
                    )
                    for offset, response in enumerate(responses)
                ]
        return [trace for problem, _ in chunk for trace in found[problem.id]]


def _ask_for(rule: StopRule, problem_id: str, trials: Sequence[Trial], per_turn: int) -> int:
    """How many responses to draw next: enough to expect the rule to be satisfied, never more than a turn allows."""
    if len(trials) >= GIVE_UP and all(trial.correct is None for trial in trials[-GIVE_UP:]):
        return 0
    missing = rule.missing(problem_id, trials)
    if missing and isinstance(rule, UntilCorrect):
        right = sum(1 for trial in trials if trial.correct)
        missing = min(ceil(missing * (len(trials) + 2) / (right + 1)), rule.cap - len(trials))
    return min(missing, per_turn)


def as_trial(trace: Trace) -> Trial:
    """What stop rules see of a trace; equal texts up to white space have equal hashes, before and after storing."""
    text = " ".join(store.clean(trace.taught[-1].text).split())
    return Trial(
        correct=trace.verdict.correct if trace.verdict else None,
        text_hash=derive_seed("text", text),
        level=trace.level,
        tokens=trace.usage.completion_tokens,
    )


def read_pool(folder: Path) -> list[Trace]:
    """All traces of a pool in the order they were drawn; none for a pool that does not exist yet."""
    return store.read(folder) if any(folder.glob("chunk-*.parquet")) else []


def consumed(traces: Sequence[Trace], rule: StopRule) -> list[Trace]:
    """The responses that a rule would have drawn had it sampled alone, one at a time, from this pool."""
    kept: list[Trace] = []
    trials: dict[str, list[Trial]] = defaultdict(list)
    for trace in sorted(traces, key=lambda t: t.index):
        if rule.missing(trace.problem_id, trials[trace.problem_id]) > 0:
            trials[trace.problem_id].append(as_trial(trace))
            kept.append(trace)
    order = {trace.id: i for i, trace in enumerate(traces)}
    return sorted(kept, key=lambda t: order[t.id])


class Coverage(Noun):
    """What a rule got out of its samples."""

    problems: int
    uncovered: int
    """Problems without a single correct response."""
    unreached: int
    """Problems whose target was not reached within the cap or the budget."""
    raw: int
    raw_tokens: int
    correct: int
    distinct_share: float | None
    """Distinct correct texts over correct ones; low when copies fill the targets."""
    tokens_per_correct: dict[int, float | None]
    """Sampled tokens per accepted trace, by level; None where none was accepted."""
    correct_per_problem: tuple[int, ...]
    """Sorted from the hardest problem (lowest pass rate) to the easiest."""
    costliest: tuple[str, ...]
    """Problems that took the most trials for the least: candidates for a wrong gold answer."""


def coverage(problems: Sequence[Problem], traces: Sequence[Trace], rule: StopRule) -> Coverage:
    """Account for the traces that a rule consumed (see `consumed`)."""
    trials: dict[str, list[Trial]] = {problem.id: [] for problem in problems}
    for trace in traces:
        trials[trace.problem_id].append(as_trial(trace))
    right = {pid: sum(1 for t in found if t.correct) for pid, found in trials.items()}
    judged = {pid: sum(1 for t in found if t.correct is not None) for pid, found in trials.items()}
    # Two problems may well have the same short answer: copies are counted within a problem.
    distinct = sum(len({t.text_hash for t in found if t.correct}) for found in trials.values())
    correct = sum(right.values())
    spent: dict[int, int] = defaultdict(int)
    got: dict[int, int] = defaultdict(int)
    for trial in (t for found in trials.values() for t in found):
        spent[trial.level] += trial.tokens
        got[trial.level] += bool(trial.correct)
    by_rate = sorted(trials, key=lambda pid: (right[pid] / max(1, judged[pid]), pid))
    unreached = 0
    if isinstance(rule, UntilCorrect):
        unreached = sum(1 for pid, found in trials.items() if rule.reached(found) < rule.wanted(pid))
    return Coverage(
        problems=len(problems),
        uncovered=sum(1 for count in right.values() if count == 0),
        unreached=unreached,
        raw=len(traces),
        raw_tokens=sum(spent.values()),
        correct=correct,
        distinct_share=distinct / correct if correct else None,
        tokens_per_correct={level: spent[level] / got[level] if got[level] else None for level in sorted(spent)},
        correct_per_problem=tuple(right[pid] for pid in by_rate),
        costliest=tuple(sorted(trials, key=lambda pid: (right[pid] - len(trials[pid]), pid))[:10]),
    )


def fail_rates(problems: Sequence[Problem], traces: Sequence[Trace]) -> dict[str, float]:
    """Posterior mean fail rate under Beta(1, 1) per problem, from the judged traces; their samples stay in the pool."""
    judged: dict[str, list[bool]] = {problem.id: [] for problem in problems}
    for trace in traces:
        if trace.verdict is not None and trace.verdict.correct is not None:
            judged[trace.problem_id].append(trace.verdict.correct)
    return {pid: (found.count(False) + 1) / (len(found) + 2) for pid, found in judged.items()}


def run_to_end(steps: Iterator[Progress], on_progress: Callable[[Progress], None] | None = None) -> Progress:
    """Drive a sampler's iterator to its end and return the last state."""
    last = None
    for last in steps:
        if on_progress is not None:
            on_progress(last)
    assert last is not None  # `run` yields at least once
    return last

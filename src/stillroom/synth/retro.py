"""Retro-Search: at every thought switch of a finished trace, what if the thought had been continued instead?

https://arxiv.org/abs/2504.04383. For each thought of the current trajectory in turn, a reviser goes on from the
thought's last step and may not begin with a transition keyword; later steps are free. The new ending replaces the old
one when its value is higher, ``V = gamma^(N - i) R``: R is the verifier's word, N the number of steps of the trajectory
(its solution is one), i the last step that was kept. A trace's rollouts follow each other, those of different traces do
not: every round asks for one of each trace that is still searched.

Every rollout is a trace on disk, in chunks that are sealed as shards; a search that was killed reads them back and goes
on with the same seeds. What a trace's search did and cost is kept in its ``meta["retro"]``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, log
from pathlib import Path
from typing import Literal, get_args

from stillroom.chat import ChatFormat, ask
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, Sampler, SamplingParams, StepStartBan
from stillroom.seeds import derive_rng, derive_seed
from stillroom.synth.traces import make_trace, recorded
from stillroom.tasks.base import Task
from stillroom.traces import segment, store
from stillroom.types import Finish, Noun, Problem, Response, Segment, Trace

Skip = Literal["wrong", "unjudged", "no answer", "empty thought", "one step"]
"""Why a trace is returned as it came."""
Outcome = Literal["accepted", "not shorter", "wrong", "no answer", "cut off", "unjudged", "failed", "switched"]
"""What became of a rollout; ``switched``: it begins with a keyword although that was forbidden, and is drawn again."""


class Point(Noun):
    """One rollout of a search."""

    thought: int
    """That was continued, from 1."""
    prefix_steps: int
    steps_before: int
    """Of the whole trajectory, its solution included."""
    steps_after: int | None
    """Had the rollout been taken; None when it has no answer."""
    outcome: Outcome
    prompt_tokens: int
    tokens: int
    """Sampled for this rollout."""


class SearchLog(Noun):
    """What was done to one trace; ``meta["retro"]`` of the trace that comes out."""

    skipped: Skip | None = None
    first_thought: int = 1
    """The thought that the search began with."""
    steps_before: int = 0
    steps_after: int = 0
    points: tuple[Point, ...] = ()


class Progress(Noun):
    """State of a search after a chunk of rollouts."""

    rollouts: int
    tokens: int
    accepted: int
    finished: int
    traces: int


def log_value(correct: bool, remaining: int, gamma: float) -> float:
    """log V of a state from which `remaining` steps lead to the end: ``remaining * log(gamma)``, -inf when R = 0.

    The logarithm keeps the order where gamma^remaining would be too small for a float.
    """
    return remaining * log(gamma) if correct else -inf


@dataclass
class _Search:
    """One trace on its way; everything follows from the trace and its rollouts."""

    trace: Trace
    problem: Problem
    text: str
    correct: bool
    thought: int = 1
    tries: int = 0
    """Rollouts of this thought that began with a forbidden word."""
    skipped: Skip | None = None
    first_thought: int = 1
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class RetroSearch:
    """Revises finished traces with rollouts of a reviser: the traces' own model, or another one.

    Args:
        params: of the rollouts (paper: temperature 0.6, top-p 0.95; from knowledge of it); `n` and `constraint` are
            set here.
        keywords: that open a new thought, and that the first new step may not begin with.
        gamma: discount per step (0.9; from knowledge of the paper).
        ban: False lets rollouts switch at once: an ablation, not the method.
        partial: begin with a thought drawn uniformly instead of the first, as for long traces of a large model.
        unit: what V counts; ``tokens`` counts with `count_tokens`, the old ending and the new one alike.
        count_tokens: tokens of a text.
        wrong_too: also search traces with a wrong answer, where any correct rollout wins; not part of the method.
        redraws: times that a rollout which begins with a forbidden word is drawn again.
        chunk_rows: rollouts per shard, the unit of resumption.

    Raises:
        UserError: for settings that contradict each other.
    """

    task: Task
    reviser: Sampler
    chat_format: ChatFormat
    params: SamplingParams
    seed: int
    keywords: tuple[str, ...] = segment.KEYWORDS
    gamma: float = 0.9
    ban: bool = True
    partial: bool = False
    unit: Literal["steps", "tokens"] = "steps"
    count_tokens: Callable[[str], int] | None = None
    wrong_too: bool = False
    redraws: int = 2
    chunk_rows: int = 2048

    def __post_init__(self) -> None:
        if not self.keywords:
            raise UserError("keywords=(): without words that open a thought there is nothing to search")
        if not 0 < self.gamma < 1:
            raise UserError(f"gamma={self.gamma:g} must lie between 0 and 1, or shorter endings are not worth more")
        if self.unit == "tokens" and self.count_tokens is None:
            raise UserError("unit='tokens' needs count_tokens, or steps and tokens would be compared")

    def run(self, problems: Sequence[Problem], traces: Sequence[Trace], folder: Path) -> Iterator[Progress]:
        """Search all traces, going on with the rollouts that `folder` holds; yields after every chunk."""
        for searches in self._rounds(problems, traces, folder):
            points = [point for search in searches for point in search.points]
            yield Progress(
                rollouts=len(points),
                tokens=sum(point.tokens for point in points),
                accepted=sum(1 for point in points if point.outcome == "accepted"),
                finished=sum(1 for search in searches if self._finished(search)),
                traces=len(searches),
            )

    def revised(self, problems: Sequence[Problem], traces: Sequence[Trace], folder: Path) -> list[Trace]:
        """The traces after the search, in order; samples what `run` has left to do, after it nothing.

        A trace that was not changed keeps its id and its token ids; a revised one is a new trace with the old one as
        its parent.
        """
        *_, searches = self._rounds(problems, traces, folder)
        return [self._result(search) for search in searches]

    def _rounds(
        self, problems: Sequence[Problem], traces: Sequence[Trace], folder: Path
    ) -> Iterator[Sequence[_Search]]:
        known = {problem.id: problem for problem in problems}
        unknown = [trace.id for trace in traces if trace.problem_id not in known]
        if unknown:
            raise UserError(f"{len(unknown)} traces (first: {unknown[0]}) belong to none of the given problems")
        searches = [self._start(trace, known[trace.problem_id]) for trace in traces]
        number = 0
        yield searches
        while active := [search for search in searches if not self._finished(search)]:
            for at in range(0, len(active), self.chunk_rows):
                chunk = active[at : at + self.chunk_rows]
                shard = folder / f"chunk-{number:05d}.parquet"
                if not shard.exists():
                    store.write_shard(folder, shard.stem, self._sample(chunk))
                rollouts = store.read(shard)
                self._require_own(shard, rollouts, chunk)
                for search, rollout in zip(chunk, rollouts, strict=True):
                    self._take(search, rollout)
                number += 1
                yield searches

    def _start(self, trace: Trace, problem: Problem) -> _Search:
        text = store.response_of(trace)
        correct = trace.verdict.correct if trace.verdict is not None else None
        found = segment.parts(text, self.chat_format)
        search = _Search(trace, problem, text, bool(correct))
        if correct is None:
            search.skipped = "unjudged"
        elif not correct and not self.wrong_too:
            search.skipped = "wrong"
        elif found is None:
            search.skipped = "no answer"
        elif not found.thought:
            search.skipped = "empty thought"
        elif segment.count(segment.split(found.thought)) < 2:
            search.skipped = "one step"
        elif self.partial:
            rng = derive_rng("retro-start", self.seed, problem.id, trace.index)
            search.thought = search.first_thought = rng.randint(1, len(self._ends(text)))
        return search

    def _finished(self, search: _Search) -> bool:
        return search.skipped is not None or search.thought > len(self._ends(search.text))

    def _steps(self, text: str) -> list[str]:
        found = segment.parts(text, self.chat_format)
        assert found is not None  # what has no answer is never searched and never accepted
        return segment.split(found.thought)

    def _ends(self, text: str) -> list[int]:
        return segment.thought_ends(self._steps(text), self.keywords)

    def _kept(self, search: _Search) -> list[str]:
        """The steps of the trajectory up to the last of the thought that is continued."""
        steps = self._steps(search.text)
        return steps[: segment.thought_ends(steps, self.keywords)[search.thought - 1]]

    def _prefix(self, search: _Search) -> str:
        """The text up to there, without a blank line after it: the rollout itself decides whether a step follows."""
        found = segment.parts(search.text, self.chat_format)
        assert found is not None
        return found.head + segment.BLANK.join(self._kept(search))

    def _params(self) -> SamplingParams:
        ban = StepStartBan(words=self.keywords) if self.ban else None
        return self.params.model_copy(update={"n": 1, "constraint": ban})

    def _sample(self, chunk: Sequence[_Search]) -> list[Trace]:
        params = self._params()
        prompts = [
            Prompt(
                messages=ask(search.problem, self.chat_format),
                problem=search.problem,
                prefix=self._prefix(search),
                seed=derive_seed("retro", self.seed, search.problem.id, search.trace.index),
                first_index=len(search.points),
            )
            for search in chunk
        ]
        answers = self.reviser.sample(prompts, params)
        return [
            self._rollout(search, prompt, answer, params)
            for search, prompt, (answer,) in zip(chunk, prompts, answers, strict=True)
        ]

    def _rollout(self, search: _Search, prompt: Prompt, response: Response, params: SamplingParams) -> Trace:
        """A rollout as a trace: the prefix without weight, the new ending with it, the verdict on both together."""
        text = store.clean(response.text)
        whole = response.model_copy(update={"text": prompt.prefix + text, "spans": ()})
        trace = make_trace(
            self.task,
            search.problem,
            whole,
            asked=prompt.messages,
            chat_format=self.chat_format,
            sampler_id=self.reviser.id,
            index=search.trace.index,
            params=params,
            source=search.trace.source,
        )
        *asked, answer = trace.taught
        taught = (
            *asked,
            Segment(role="assistant", text=prompt.prefix),
            answer.model_copy(update={"text": text}),
        )
        return trace.model_copy(update={"id": _rollout_id(search), "taught": taught, "parents": (search.trace.id,)})

    def _require_own(self, shard: Path, rollouts: Sequence[Trace], chunk: Sequence[_Search]) -> None:
        """Refuse rollouts that this search would not have asked for."""
        params = recorded(self._params())
        wanted = [(_rollout_id(search), self._prefix(search), params) for search in chunk]
        if [(rollout.id, rollout.taught[-2].text, rollout.params) for rollout in rollouts] != wanted:
            raise UserError(f"{shard} holds rollouts of another search; give this one a folder of its own")

    def _take(self, search: _Search, rollout: Trace) -> None:
        """Decide on one rollout and move on to the next thought."""
        prefix, new = self._prefix(search), store.response_of(rollout)
        ending = new[len(prefix) :]
        before = segment.count(self._steps(search.text)) + 1
        found = segment.parts(new, self.chat_format)
        after = segment.count(segment.split(found.thought)) + 1 if found is not None else None
        kept = segment.count(self._kept(search))
        outcome = self._outcome(search, rollout, ending, before - kept, after - kept if after is not None else None)
        search.points.append(
            Point(
                thought=search.thought,
                prefix_steps=kept,
                steps_before=before,
                steps_after=after,
                outcome=outcome,
                prompt_tokens=rollout.usage.prompt_tokens,
                tokens=rollout.usage.completion_tokens,
            )
        )
        if outcome == "switched" and search.tries < self.redraws:
            search.tries += 1
            return
        search.thought, search.tries = search.thought + 1, 0
        if outcome == "accepted":
            search.text, search.correct = new, True

    def _outcome(
        self, search: _Search, rollout: Trace, ending: str, steps_left: int, new_steps_left: int | None
    ) -> Outcome:
        if rollout.finish in (Finish.ERROR, Finish.TIMEOUT, Finish.FILTERED):
            return "failed"
        if self.ban and segment.opens_thought(ending, self.keywords):
            return "switched"
        if rollout.finish is Finish.LENGTH:
            return "cut off"
        if new_steps_left is None:
            return "no answer"
        correct = rollout.verdict.correct if rollout.verdict is not None else None
        if not correct:
            return "unjudged" if correct is None else "wrong"
        if self.count_tokens is not None and self.unit == "tokens":
            old = self.count_tokens(search.text[len(self._prefix(search)) :])
            new = self.count_tokens(ending)
        else:
            old, new = steps_left, new_steps_left
        better = log_value(True, new, self.gamma) > log_value(search.correct, old, self.gamma)
        return "accepted" if better else "not shorter"

    def _result(self, search: _Search) -> Trace:
        trace, original = search.trace, store.response_of(search.trace)
        steps_before = steps_after = 0
        if search.skipped is None:
            steps_before, steps_after = (segment.count(self._steps(text)) + 1 for text in (original, search.text))
        log = SearchLog(
            skipped=search.skipped,
            first_thought=search.first_thought,
            steps_before=steps_before,
            steps_after=steps_after,
            points=tuple(search.points),
        )
        meta = {**trace.meta, "retro": log.model_dump(mode="json")}
        if search.text == original:
            return trace.model_copy(update={"meta": meta})
        asked = [Segment(role=m.role, text=m.content) for m in ask(search.problem, self.chat_format)]
        length = self.count_tokens(search.text) if self.count_tokens is not None else 0
        return trace.model_copy(
            update={
                "id": f"{trace.id}>retro",
                "parents": (trace.id,),
                "sampler": self.reviser.id,
                "taught": (*asked, Segment(role="assistant", text=search.text, weight=1.0)),
                "verdict": self.task.verify(search.problem, search.text),
                "finish": Finish.STOP,
                # What the search cost stands in its log; here the length of the response, 0 when nobody can count.
                "usage": trace.usage.model_copy(update={"completion_tokens": length, "calls": 0}),
                "spans": (),
                "meta": meta,
            }
        )


def _rollout_id(search: _Search) -> str:
    return f"{search.trace.id}@{len(search.points)}"


class Account(Noun):
    """What a search did and cost. Every rollout is counted once, whether it was accepted or not."""

    traces: int
    skipped: dict[str, int]
    """Reason -> traces that were returned as they came."""
    revised: int
    """Traces with a new ending."""
    rollouts: int
    outcomes: dict[str, int]
    accepted: int
    acceptance: float | None
    """Accepted rollouts over all; None without a rollout."""
    rollout_tokens: int
    prompt_tokens: int
    tokens_per_accepted: float | None
    """Rollout tokens per accepted revision; None when nothing was accepted."""
    steps_before: float | None
    """Mean over searched traces, the solution included."""
    steps_after: float | None


def log_of(trace: Trace) -> SearchLog:
    """The search log of a trace that came out of `RetroSearch`; raises UserError for another."""
    if "retro" not in trace.meta:
        raise UserError(f"trace {trace.id} has not been searched: its meta holds no 'retro'")
    return SearchLog.model_validate(trace.meta["retro"])


def account(traces: Sequence[Trace]) -> Account:
    """Sum up the logs of traces that came out of `RetroSearch`."""
    logs = [log_of(trace) for trace in traces]
    searched = [log for log in logs if log.skipped is None]
    points = [point for log in searched for point in log.points]
    skipped = Counter(log.skipped for log in logs if log.skipped is not None)
    outcomes = Counter(point.outcome for point in points)
    accepted, tokens = outcomes["accepted"], sum(point.tokens for point in points)
    return Account(
        traces=len(logs),
        skipped={reason: skipped[reason] for reason in get_args(Skip) if skipped[reason]},
        revised=sum(1 for log in logs if any(point.outcome == "accepted" for point in log.points)),
        rollouts=len(points),
        outcomes={outcome: outcomes[outcome] for outcome in get_args(Outcome) if outcomes[outcome]},
        accepted=accepted,
        acceptance=accepted / len(points) if points else None,
        rollout_tokens=tokens,
        prompt_tokens=sum(point.prompt_tokens for point in points),
        tokens_per_accepted=tokens / accepted if accepted else None,
        steps_before=sum(log.steps_before for log in searched) / len(searched) if searched else None,
        steps_after=sum(log.steps_after for log in searched) / len(searched) if searched else None,
    )

"""Measuring a model on held-out problems: accuracy with its interval, by level, tokens per answer, format failures."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from stillroom.chat import ChatFormat, ParseStatus, ask, parse
from stillroom.io import write_json
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_seed
from stillroom.synth.traces import make_trace
from stillroom.tasks.base import Task, majority_baseline
from stillroom.traces.store import write_shard
from stillroom.types import Finish, Noun, Problem, Split, Trace


class Estimate(Noun):
    """A share with its 95 % interval; `value` is None when nothing could be judged."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class TokenStats(Noun):
    mean: float | None
    p50: float | None = None
    p90: float | None = None


class Peak(Noun):
    """Of what a model had before it at once, over answers."""

    mean: float
    max: int


class Measure(Noun):
    """One measurement of a model: on which problems, and how it answers."""

    name: str = ""
    """Prefix of its metrics, ``NAME:accuracy``; the main measurement has none."""
    task: str | None = None
    """Task of the problems; None: the run's own test problems."""
    split: Split = "test"
    """Of the problems of another task."""
    problems: int = 200
    """Of another task."""
    n: int = Field(1, ge=1)
    """Answers per problem."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0


class ArmScore(Noun):
    """What one model reached on one set of problems."""

    name: str
    accuracy: Estimate
    """Of all answers; with several per problem, problems are what its interval is over."""
    solved: Estimate | None = None
    """Problems with at least one right answer (pass@n for n answers each); None with one answer per problem."""
    by_level: dict[str, Estimate]
    tokens: TokenStats
    calls: float | None = None
    """Of a model, mean per answer; None without answers."""
    peak_context: Peak | None = None
    """Most tokens, read and written, that a model had before it in one call; None unless known of every answer."""
    flops: float | None = None
    """Mean operations per answer, attention included; None unless known of every answer."""
    stops: dict[str, int] = Field(default_factory=dict)
    """Why strategies stopped, counted; empty where a single call answers."""
    truncated: float
    format_failures: float
    """Share of answers from which the verifier could extract nothing, or whose thought never closes."""
    unjudged: int
    near_ties: int
    """Draws that another batching could have decided otherwise."""
    majority_baseline: float | None
    chance_corrected: float | None = None
    """Accuracy of multiple choice on a scale from guessing, 0, to all right, 1; None where there are no options."""
    stepwise: float | None = None
    """Share of answers that work something out before they answer; None without answers."""


def wilson(successes: int, n: int, z: float = 1.959964) -> Estimate:
    """A share with its Wilson 95 % interval."""
    if n == 0:
        return Estimate(value=None)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(value=p, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)


def evaluate(
    task: Task,
    problems: Sequence[Problem],
    sampler: Sampler,
    chat_format: ChatFormat,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    n: int = 1,
    seed: int = 0,
) -> list[Trace]:
    """Answer every problem n times; greedy unless a temperature is given. `score` sums the traces up."""
    params = SamplingParams(n=n, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    prompts = [
        Prompt(messages=ask(problem, chat_format), problem=problem, seed=derive_seed("eval", seed, problem.id))
        for problem in problems
    ]
    answers = sampler.sample(prompts, params)
    return [
        make_trace(
            task,
            problem,
            response,
            asked=prompt.messages,
            chat_format=chat_format,
            sampler_id=sampler.id,
            index=index,
            params=params,
            source="student",
        )
        for problem, prompt, responses in zip(problems, prompts, answers, strict=True)
        for index, response in enumerate(responses)
    ]


def score(name: str, traces: Sequence[Trace], problems: Sequence[Problem]) -> ArmScore:
    """Sum up evaluation traces. Responses that could not be judged are left out of every mean and counted."""
    judged = [t for t in traces if t.verdict is not None and t.verdict.correct is not None]
    levels = sorted({trace.level for trace in judged})
    lengths = np.array([t.usage.completion_tokens for t in judged], dtype=float)
    lengths = lengths[lengths > 0]
    broken = sum(1 for trace in judged if _format_failed(trace))
    peaks, flops = (_known(judged, name) for name in ("peak_context", "flops"))
    return ArmScore(
        name=name,
        accuracy=_share(judged),
        solved=_solved(judged) if any(trace.index for trace in judged) else None,
        by_level={str(level): _share([t for t in judged if t.level == level]) for level in levels},
        tokens=TokenStats(
            mean=float(lengths.mean()), p50=float(np.percentile(lengths, 50)), p90=float(np.percentile(lengths, 90))
        )
        if len(lengths)
        else TokenStats(mean=None),
        calls=float(np.mean([t.usage.calls for t in judged])) if judged else None,
        peak_context=Peak(mean=float(np.mean(peaks)), max=int(max(peaks))) if peaks else None,
        flops=float(np.mean(flops)) if flops else None,
        stops=dict(sorted(Counter(str(t.meta["stop"]) for t in judged if "stop" in t.meta).items())),
        truncated=sum(t.finish is Finish.LENGTH for t in judged) / max(1, len(judged)),
        format_failures=broken / max(1, len(judged)),
        unjudged=len(traces) - len(judged),
        near_ties=sum(_as_int(t.meta.get("near_ties")) for t in traces),
        majority_baseline=majority_baseline(problems),
        chance_corrected=chance_corrected([_correct(t) for t in judged], _options(judged, problems)),
        stepwise=stepwise([t.taught[-1].text for t in judged]),
    )


def write_evaluation(
    folder: Path,
    title: str,
    task: str,
    answers: Mapping[str, Sequence[Trace]],
    scores: Mapping[str, ArmScore],
) -> None:
    """Write what was measured as a run folder that a report can be built from: answers and ``result.json``.

    Args:
        answers: name → traces; each name becomes a shard, and its traces' sampler.
    """
    for number, (name, traces) in enumerate(answers.items()):
        stem = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
        named = [t.model_copy(update={"id": f"{t.problem_id}#{name}#{t.index}", "sampler": name}) for t in traces]
        write_shard(folder / "evals", f"{number:02d}-{stem}", named)
    arms = [found.model_dump(mode="json") for found in scores.values()]
    write_json(folder / "result.json", {"kind": "evaluation", "title": title, "task": task, "arms": arms})


def chance_corrected(correct: Sequence[bool], options: Sequence[int]) -> float | None:
    """``(accuracy - c) / (1 - c)`` with c the accuracy of guessing, the mean of 1/k over problems with k options.

    Args:
        options: how many each answer's problem has. When a problem has fewer than two, the result is None.

    >>> chance_corrected([True, False], [4, 4])
    0.3333333333333333
    """
    if not options or min(options) < 2:
        return None
    chance = float(np.mean([1 / k for k in options]))
    return (float(np.mean(correct)) - chance) / (1 - chance)


def _options(traces: Sequence[Trace], problems: Sequence[Problem]) -> list[int]:
    counts = {problem.id: len(problem.options) for problem in problems}
    return [counts.get(trace.problem_id, 0) for trace in traces]


def stepwise(texts: Sequence[str]) -> float | None:
    """Share of responses that work something out; None without responses."""
    return float(np.mean([bool(working(text)) for text in texts])) if texts else None


def working(text: str) -> str:
    r"""What a response works out: its thought or, without thought marks, what stands before its last ``\boxed{``."""
    parsed = parse(text)
    return (parsed.thought.strip() or parsed.answer.rpartition("\\boxed{")[0]).strip()


def question_stats(problems: Sequence[Problem]) -> dict[str, float]:
    """What questions are like: how many, mean words and level, and the share whose answer is known to be wrong."""
    return {
        "questions": len(problems),
        "words": float(np.mean([sum(len(message.content.split()) for message in p.messages) for p in problems])),
        "level": float(np.mean([problem.level for problem in problems])),
        "mislabelled": float(np.mean([bool(problem.meta.get("mislabelled")) for problem in problems])),
    }


def _known(traces: Sequence[Trace], name: str) -> list[float]:
    """A number of every trace's `meta`; empty unless all have it."""
    found = [trace.meta.get(name) for trace in traces]
    return [float(n) for n in found if isinstance(n, int | float)] if None not in found else []


def _as_int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _share(traces: Sequence[Trace]) -> Estimate:
    if not any(trace.index for trace in traces):
        return wilson(sum(1 for t in traces if _correct(t)), len(traces))
    # Answers to one problem are no independent cases: the interval is over the problems' own shares.
    shares = np.array([np.mean(found) for found in _by_problem(traces).values()])
    value = float(np.mean([_correct(t) for t in traces]))
    half = 1.959964 * float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 1.0
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=len(traces))


def _solved(traces: Sequence[Trace]) -> Estimate:
    by_problem = _by_problem(traces)
    return wilson(sum(any(found) for found in by_problem.values()), len(by_problem))


def _by_problem(traces: Sequence[Trace]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for trace in traces:
        found.setdefault(trace.problem_id, []).append(_correct(trace))
    return found


def _correct(trace: Trace) -> bool:
    return trace.verdict is not None and bool(trace.verdict.correct)


def _format_failed(trace: Trace) -> bool:
    status = parse(trace.taught[-1].text).status
    answer = trace.verdict.answer if trace.verdict else None
    return answer is None or status in (ParseStatus.UNCLOSED, ParseStatus.EMPTY)

"""Episodes as training data: traces that are trained on assistant turns alone, and which of them are worth teaching."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from stillroom.chat import ChatFormat, ask
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_seed
from stillroom.synth.agents import ActionLayout, Agent, Ended, Episode, play, told, turns
from stillroom.synth.traces import recorded
from stillroom.tasks.base import Task
from stillroom.types import Finish, Message, Problem, Segment, Trace, Verdict


def episode_trace(
    task: Task,
    problem: Problem,
    episode: Episode,
    *,
    question: Sequence[Message],
    agent: Agent,
    chat_format: ChatFormat,
    sampler_id: str,
    params: SamplingParams,
    index: int = 0,
    seed: int | None = None,
    source: Literal["teacher", "student"] = "teacher",
) -> Trace:
    """The verified trace of an episode. All its assistant turns are trained on and nothing else.

    Args:
        question: what a student is asked: usually shorter than what the teacher was (`Episode.asked`).
    """
    if episode.ended is Ended.FAILED:
        verdict = Verdict(correct=None, reason=episode.error or "failed")
    elif episode.answer is None:
        verdict = Verdict(correct=False, score=0.0, reason=episode.ended.value)
    else:
        verdict = task.verify(problem, f"{chat_format.answer_open}{episode.answer}{chat_format.answer_close}")
    taught = [Segment(role=message.role, text=message.content) for message in question]
    for role, text in turns(episode, agent.layout):
        trained = role == "assistant"
        taught.append(Segment(role="assistant" if trained else "user", text=text, weight=float(trained)))
    return Trace(
        id=f"{problem.id}#{sampler_id}#{index}",
        problem_id=problem.id,
        task=problem.task,
        asked=episode.asked,
        taught=tuple(taught),
        source=source,
        sampler=sampler_id,
        params=recorded(agent.params(params)),
        seed=seed,
        index=index,
        finish=Finish.STOP if episode.ended is Ended.FINAL else Finish.LENGTH,
        verdict=verdict,
        usage=episode.usage,
        level=problem.level,
        meta=told(episode),
    )


def collect(
    task: Task,
    problems: Sequence[Problem],
    teacher: Sampler,
    params: SamplingParams,
    agent: Agent,
    *,
    chat_format: ChatFormat,
    seed: int,
    thoughts: Mapping[str, str],
    rows: int = 64,
) -> list[Trace]:
    """One episode of the teacher per problem, as traces in the order of the problems.

    Args:
        thoughts: problem id → what its first turn opens with, to be continued.
        rows: episodes under way at once.
    """
    found: dict[int, Trace] = {}
    asked = [
        Prompt(messages=ask(problem, chat_format), problem=problem, seed=derive_seed("episode", seed, problem.id))
        for problem in problems
    ]
    with agent.sandbox() as box:
        for start in range(0, len(asked), rows):
            batch = asked[start : start + rows]
            opened = [thoughts.get(problem.id, "") for problem in problems[start : start + rows]]
            for number, episode in play(teacher, batch, params, agent, box, first_thoughts=opened):
                prompt, problem = batch[number], problems[start + number]
                found[start + number] = episode_trace(
                    task,
                    problem,
                    episode,
                    question=prompt.messages,
                    agent=agent,
                    chat_format=chat_format,
                    sampler_id=teacher.id,
                    params=params,
                    seed=prompt.seed,
                )
    return [found[number] for number in range(len(problems))]


class Kept(NamedTuple):
    """The episodes that are taught, and why the others are not."""

    traces: list[Trace]
    dropped: dict[str, int]


def keep_episodes(traces: Sequence[Trace]) -> Kept:
    """Keep an episode when its answer is right, no step failed to parse, and it ended by itself (paper, step 4).

    Errors of execution stay: they teach recovery. The first reason that holds is the one that counts.
    """
    reasons = [_why_not(trace) for trace in traces]
    counted = Counter(reason for reason in reasons if reason is not None)
    kept = [trace for trace, reason in zip(traces, reasons, strict=True) if reason is None]
    return Kept(kept, dict(sorted(counted.items())))


def _why_not(trace: Trace) -> str | None:
    if trace.verdict is None or trace.verdict.correct is None:
        return "unjudged"
    if trace.meta.get("stop") != Ended.FINAL:
        return str(trace.meta.get("stop", "no episode"))
    if trace.meta.get("parse_errors"):
        return "parse error"
    return None if trace.verdict.correct else "wrong answer"


def first_thought(text: str, chat_format: ChatFormat, layout: ActionLayout) -> str:
    """What a first turn opens with: an answer's text up to its first empty line, as a thought; empty when it has none.

    A paragraph that holds a mark of the layout would end the turn, or act, before the teacher has said a word.
    """
    opened = text.strip().removeprefix(chat_format.think_open.strip()).strip()
    thought = opened.split("\n\n", 1)[0].strip()
    marks = (layout.code_open, layout.code_close, *layout.stop)
    return "" if not thought or any(mark in thought for mark in marks) else layout.thought + thought

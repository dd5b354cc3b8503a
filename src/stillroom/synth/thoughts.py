"""Thoughts made and taken away: reverse thinking, and thought dropout (TON, https://arxiv.org/abs/2505.16854).

In reverse thinking, who is shown a question with its answer writes the thought between them; it makes thoughts where a
model that is left alone would rarely be right. A thought that states the answer is refused: a student would learn to
announce what it has not worked out. Dropout leaves a share of traces with an empty thought between its marks.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stillroom.chat import ChatFormat, ask, parse, render, without_marks
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_rng, derive_seed
from stillroom.synth.traces import recorded, told
from stillroom.tasks.base import Task
from stillroom.types import Finish, Message, Problem, Segment, Trace

INSTRUCTION = (
    "The answer is {answer}. Write down, step by step, the thought that leads from the question to it. Do not state "
    "the answer itself, and write nothing but the thought."
)
"""Ours; the paper's wording is not published with its code."""


class Reversed(NamedTuple):
    """What came of it."""

    traces: list[Trace]
    """One per problem at most, each with its thought and the gold answer in the student's format."""
    leaked: int
    """Thoughts that state the answer."""
    empty: int
    """Responses that failed, were cut off, or hold no thought."""


def states(thought: str, answer: str) -> bool:
    """Whether a thought holds an answer as a word or words of their own, whatever the case.

    >>> states("two and one make 3.", "3"), states("row 13", "3")
    (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", thought, re.IGNORECASE) is not None


def reverse_thoughts(
    task: Task,
    problems: Sequence[Problem],
    sampler: Sampler,
    chat_format: ChatFormat,
    params: SamplingParams,
    *,
    seed: int,
) -> Reversed:
    """Ask for the thoughts of problems whose answers are known; as many tries each as `params.n`, the first good one
    counts.

    Raises:
        UserError: a problem without a reference.
    """
    unknown = [problem.id for problem in problems if not problem.reference]
    if unknown:
        raise UserError(f"reverse thinking shows the answer, and {unknown[0]} has no reference")
    prompts = [Prompt(messages=_asked(p), problem=p, seed=derive_seed("reverse", seed, p.id)) for p in problems]
    found, leaked, empty = list[Trace](), 0, 0
    for problem, prompt, responses in zip(problems, prompts, sampler.sample(prompts, params), strict=True):
        for index, response in enumerate(responses):
            parsed = parse(response.text)
            thought = without_marks((parsed.thought or parsed.answer).strip())
            if response.finish is not Finish.STOP or not thought:
                empty += 1
                continue
            if states(thought, problem.reference or ""):
                leaked += 1
                continue
            text = render(chat_format, thought, problem.reference or "")
            taught = [Segment(role=m.role, text=m.content) for m in ask(problem, chat_format)]
            found.append(
                Trace(
                    id=f"{problem.id}#reverse:{sampler.id}#{index}",
                    problem_id=problem.id,
                    task=problem.task,
                    asked=prompt.messages,
                    taught=(*taught, Segment(role="assistant", text=text, weight=1.0)),
                    sampler=sampler.id,
                    params=recorded(params),
                    seed=response.seed,
                    index=index,
                    verdict=task.verify(problem, text),
                    usage=response.usage.model_copy(update={"peak_context": None, "flops": None, "cache_bytes": None}),
                    level=problem.level,
                    meta=told(response),
                )
            )
            break
    return Reversed(found, leaked, empty)


def _asked(problem: Problem) -> tuple[Message, ...]:
    *earlier, last = problem.messages
    text = f"{last.content}\n\n{INSTRUCTION.format(answer=problem.reference)}"
    return (*earlier, Message(role=last.role, content=text))


def thought_dropout(trace: Trace, share: float, seed: int, chat_format: ChatFormat) -> Trace:
    """The trace with an empty thought between its marks, for a share of all traces.

    The trace's id and `seed` decide, once and for all epochs; what is dropped at one share is dropped at every larger
    one.
    """
    last = trace.taught[-1]
    parsed = parse(last.text)
    if not parsed.thought.strip() or derive_rng("thought-dropout", seed, trace.id).random() >= share:
        return trace
    text = chat_format.think_open + chat_format.think_close + parsed.answer.lstrip()
    # Sampled ids were those of the whole text.
    empty = last.model_copy(update={"text": text, "token_ids": None, "tokenizer": None})
    update = {"id": f"{trace.id}/empty", "parents": (trace.id,), "taught": (*trace.taught[:-1], empty), "spans": ()}
    return trace.model_copy(update=update)


def skips(text: str) -> bool:
    """Whether a response closes an empty thought; one of punctuation alone is not empty."""
    return "</think>" in text and not parse(text).thought.strip()

"""Long traces cut into bounded rounds: a stretch of thought, a summary of all so far, and on from the summary.

The data recipe of InftyThink (https://arxiv.org/abs/2503.06692, code: ZJU-REAL/InftyThink): steps are packed into
segments of eta tokens, a writer sums up everything up to the end of each segment but the last, and every segment
becomes a training example of its own. The code's prompts are not copied.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from pydantic import JsonValue

from stillroom.chat import ChatFormat, history, holds_marks, render_round, without_marks
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_seed
from stillroom.traces.segment import Parts, parts
from stillroom.traces.store import response_of
from stillroom.types import Finish, Message, Problem, Segment, Trace, Usage

_BLANK = re.compile(r"\n[ \t]*\n\s*")

SUMMARISE = """\
Question:
{question}

Reasoning so far:
{so_far}

The reasoning breaks off here. Write down what it has achieved, as short bullet points: the key steps and every \
intermediate result that is needed to go on. Do not go on yourself, and write nothing else."""


CANDIDATES = SamplingParams(n=4, temperature=0.5, max_new_tokens=2048)
"""How a model's summaries are drawn (the paper's)."""


class Cut(NamedTuple):
    """A stretch of a thought: ``thought[start:end]``."""

    start: int
    end: int


class Unsummed(NamedTuple):
    """What a summary is wanted of: everything from the beginning to the end of a segment."""

    id: str
    """Of the trace and the segment."""
    problem: Problem | None
    question: str
    so_far: str


class Summary(NamedTuple):
    """A summary; `text` is None when none could be written."""

    text: str | None
    usage: Usage = Usage()


Summariser = Callable[[Sequence[Unsummed]], Sequence[Summary]]
"""Sums up many thoughts at once, each on its own."""


def exactly(state: Callable[[Problem, str], str | None]) -> Summariser:
    """A programmatic writer: the solver's state after what was written so far; None where it cannot be read."""

    def summarise(wanted: Sequence[Unsummed]) -> list[Summary]:
        return [Summary(None if one.problem is None else state(one.problem, one.so_far)) for one in wanted]

    return summarise


@dataclass(frozen=True)
class ModelSummariser:
    """A model as writer: of several candidates the first that ended by itself.

    Args:
        sampler: teacher or server.
        params: how candidates are drawn.
    """

    sampler: Sampler
    params: SamplingParams = CANDIDATES
    seed: int = 0

    def __call__(self, wanted: Sequence[Unsummed]) -> list[Summary]:
        prompts = []
        for one in wanted:
            text = SUMMARISE.format(question=one.question, so_far=one.so_far)
            seed = derive_seed("summary", self.seed, one.id)
            prompts.append(Prompt(messages=(Message(role="user", content=text),), problem=one.problem, seed=seed))
        return [
            Summary(
                next((text for r in found if r.finish is Finish.STOP and (text := _said(r.text))), None),
                Usage(
                    prompt_tokens=sum(r.usage.prompt_tokens for r in found),
                    completion_tokens=sum(r.usage.completion_tokens for r in found),
                    calls=sum(r.usage.calls for r in found),
                ),
            )
            for found in self.sampler.sample(prompts, self.params)
        ]


def _said(text: str) -> str:
    """What a writer says, without what it thought before."""
    return without_marks(text.rpartition("</think>")[2].strip())


@dataclass
class Reconstruction:
    """What became of traces."""

    instances: list[Trace] = field(default_factory=list)
    """Rounds as training examples, in the order of the traces; `round` counts from 0, `parents` names the trace."""
    rounds: Counter[int] = field(default_factory=Counter)
    """Number of rounds → how many traces have so many."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → how many traces were not used."""
    oversize: int = 0
    """Segments that hold a single step longer than eta."""
    summary_tokens: int = 0
    """What the writer read and wrote."""

    def account(self) -> dict[str, JsonValue]:
        """All but the examples themselves, for a run's result."""
        return {
            "instances": len(self.instances),
            "rounds": {str(rounds): count for rounds, count in sorted(self.rounds.items())},
            "dropped": dict(self.dropped),
            "oversize": self.oversize,
            "summary_tokens": self.summary_tokens,
        }


def reconstruct(
    traces: Sequence[Trace],
    eta: int,
    summariser: Summariser,
    *,
    chat_format: ChatFormat,
    count_tokens: Callable[[str], int],
    problems: Mapping[str, Problem] | None = None,
    overshoot: bool = True,
) -> Reconstruction:
    """Rewrite traces into rounds of about `eta` tokens of thought.

    A round's example opens with the summary of all before it, which is not trained, and is trained on its own stretch
    of thought and, of the last, the conclusion, of the others, the summary of all up to its end. A trace of which a
    summary is missing is dropped whole, and so is one without a closed thought and a conclusion, and one in whose
    question or thought marks stand.

    Args:
        chat_format: must close its thoughts.
        count_tokens: of a text, by the student's tokenizer.
        problems: by id, for programmatic writers.
        overshoot: close a segment after the step that makes it exceed eta, as the paper's code does; False: before.

    Raises:
        UserError: eta below 1, or a format without thoughts.
    """
    if eta < 1 or not chat_format.think_close.strip():
        raise UserError(f"eta={eta} and format {chat_format.name!r}: give 1 token or more and a format with thoughts")
    done = Reconstruction()
    cut: list[tuple[Trace, Parts, list[Cut]]] = []
    for trace in traces:
        found = parts(response_of(trace), chat_format)
        reason = _unfit(trace, found, chat_format)
        if found is None or reason is not None:
            done.dropped[reason or "thought not closed"] += 1
            continue
        steps = step_cuts(trace, found)
        segments, oversize = pack(found.thought, steps, eta, count_tokens, overshoot=overshoot)
        done.oversize += oversize
        cut.append((trace, found, segments))
    wanted = [_wanted(trace, found, segment, at, problems or {}) for trace, found, at, segment in _inner(cut)]
    summaries = iter(summariser(wanted))
    for trace, found, segments in cut:
        mine = [next(summaries) for _ in segments[:-1]]
        done.summary_tokens += sum(s.usage.prompt_tokens + s.usage.completion_tokens for s in mine)
        texts = [s.text.strip() for s in mine if s.text is not None and s.text.strip()]
        if len(texts) < len(mine):
            done.dropped["no summary"] += 1
            continue
        done.rounds[len(segments)] += 1
        done.instances += _instances(trace, found, segments, texts, chat_format)
    return done


def _inner(cut: Sequence[tuple[Trace, Parts, list[Cut]]]) -> Iterator[tuple[Trace, Parts, int, Cut]]:
    """Every segment but the last of its trace."""
    for trace, found, segments in cut:
        for at, segment in enumerate(segments[:-1]):
            yield trace, found, at, segment


def _unfit(trace: Trace, found: Parts | None, chat_format: ChatFormat) -> str | None:
    """Why a trace cannot be rewritten; None when it can."""
    if found is None:
        return "thought not closed"
    close = chat_format.think_close.strip()
    if not found.thought:
        return "no thought"
    if found.head.strip() not in ("", chat_format.think_open.strip()) or found.tail.count(close) != 1:
        return "other text around the thought"
    if not found.tail.strip().removeprefix(close).strip():
        return "no conclusion"
    if holds_marks(found.thought) or holds_marks(found.tail.strip().removeprefix(close)):
        return "marks in the response"
    if any(holds_marks(segment.text) for segment in trace.taught if segment.role != "assistant"):
        return "marks in the question"
    return None


def step_cuts(trace: Trace, found: Parts) -> list[Cut]:
    """Steps of a trace's thought, which together are all of it: its own spans where it has them, else paragraphs."""
    shift, size = len(found.head), len(found.thought)
    marked = sorted(span.start - shift for span in trace.spans if span.kind == "step")
    starts = [start for start in marked if 0 < start < size] if marked else paragraph_starts(found.thought)
    edges = [0, *dict.fromkeys(starts), size]
    return [Cut(start, end) for start, end in pairwise(edges)]


def paragraph_starts(thought: str) -> list[int]:
    """Where steps after the first begin: at a paragraph that opens with a capital; others go on with the step before.

    >>> paragraph_starts("One.\\n\\nand so on.\\n\\nTwo.")
    [18]
    """
    return [match.end() for match in _BLANK.finditer(thought) if thought[match.end() : match.end() + 1].isupper()]


def pack(
    thought: str, steps: Sequence[Cut], eta: int, count_tokens: Callable[[str], int], *, overshoot: bool
) -> tuple[list[Cut], int]:
    """Consecutive steps packed greedily into segments, and how many of these hold one step longer than eta."""
    segments: list[Cut] = []
    oversize, start = 0, 0
    held: Cut | None = None
    for step in steps:
        whole = Cut(start, step.end)
        size = count_tokens(thought[whole.start : whole.end].strip())
        if size > eta and not overshoot and held is not None:
            segments.append(held)
            start, whole = step.start, step
            size = count_tokens(thought[step.start : step.end].strip())
            held = None
        if size > eta:
            oversize += held is None
            segments.append(whole)
            start, held = step.end, None
        else:
            held = whole
    if held is not None:
        segments.append(held)
    return segments, oversize


def _wanted(trace: Trace, found: Parts, segment: Cut, at: int, problems: Mapping[str, Problem]) -> Unsummed:
    question = next((s.text for s in reversed(trace.taught) if s.role == "user"), "")
    so_far = found.thought[: segment.end].strip()
    return Unsummed(f"{trace.id}/{at}", problems.get(trace.problem_id), question, so_far)


def _instances(
    trace: Trace, found: Parts, segments: Sequence[Cut], summaries: Sequence[str], chat_format: ChatFormat
) -> Iterator[Trace]:
    last = max(at for at, segment in enumerate(trace.taught) if segment.role == "assistant")
    first = last
    while first > 0 and trace.taught[first - 1].role == "assistant":
        first -= 1
    asked = tuple(segment.model_copy(update={"weight": 0.0}) for segment in trace.taught[:first])
    for at, segment in enumerate(segments):
        thought = found.thought[segment.start : segment.end].strip()
        if at < len(summaries):
            text = render_round(chat_format, thought, without_marks(summaries[at]))
        else:
            text = f"{found.head}{thought}{found.tail}"
        opened = (Segment(role="assistant", text=history(summaries[at - 1])),) if at else ()
        yield trace.model_copy(
            update={
                "id": f"{trace.id}/{at}",
                "taught": (*asked, *opened, Segment(role="assistant", text=text, weight=1.0)),
                "parents": (trace.id,),
                "round": at,
                "spans": (),
                "usage": Usage(),
                "meta": {"rounds": len(segments)},
            }
        )

"""From a response to a trace: what was asked, what would be taught, and the verifier's word on it."""

from pydantic import JsonValue

from stillroom.chat import ChatFormat, ask
from stillroom.samplers.base import SamplingParams
from stillroom.tasks.base import Task
from stillroom.types import Finish, Message, Problem, Response, Segment, Trace, Verdict


def recorded(params: SamplingParams) -> dict[str, JsonValue]:
    """What a trace says of how it was drawn: only what shapes a draw."""
    return params.model_dump(mode="json", exclude={"n", "raw_logits"}, exclude_none=True)


DETAILS = ("peak_context", "flops", "cache_bytes")
"""What `Usage` knows beyond a trace's columns; a trace keeps it in `meta`."""


def told(response: Response) -> dict[str, JsonValue]:
    """What a trace's `meta` keeps of a response: near ties, the exact cost, its calls as pairs of prompt and completion
    tokens, and what a strategy told; nothing that is unknown."""
    found: dict[str, JsonValue] = dict(response.meta)
    if response.near_ties:
        found["near_ties"] = response.near_ties
    for name in DETAILS:
        if (value := getattr(response.usage, name)) is not None:
            found[name] = value
    if response.calls:
        found["calls"] = [[call.prompt_tokens, call.completion_tokens] for call in response.calls]
    return found


def make_trace(
    task: Task,
    problem: Problem,
    response: Response,
    *,
    asked: tuple[Message, ...],
    chat_format: ChatFormat,
    sampler_id: str,
    index: int,
    params: SamplingParams,
    source: str = "teacher",
) -> Trace:
    """The verified trace of one response; a response that failed is kept with `correct` None and its reason.

    `taught` is the conversation in the student's format with the loss on the response alone.
    """
    failed = response.finish in (Finish.ERROR, Finish.TIMEOUT, Finish.FILTERED)
    if failed:
        verdict = Verdict(correct=None, reason=response.error or response.finish.value)
    else:
        verdict = task.verify(problem, response.text)
    taught = [Segment(role=m.role, text=m.content) for m in ask(problem, chat_format)]
    taught.append(
        Segment(
            role="assistant",
            text=response.text,
            weight=1.0,
            token_ids=response.token_ids,
            tokenizer=response.tokenizer,
        )
    )
    return Trace(
        id=f"{problem.id}#{sampler_id}#{index}",
        problem_id=problem.id,
        task=problem.task,
        asked=asked,
        taught=tuple(taught),
        source=source,
        sampler=sampler_id,
        params=recorded(params),
        seed=response.seed,
        index=index,
        finish=response.finish,
        verdict=verdict,
        usage=response.usage.model_copy(update=dict.fromkeys(DETAILS)),
        level=problem.level,
        spans=response.spans,
        meta=told(response),
    )

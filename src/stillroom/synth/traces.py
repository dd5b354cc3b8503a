"""From a response to a trace: what was asked, what would be taught, and the verifier's word on it."""

from pydantic import JsonValue

from stillroom.chat import ChatFormat, ask
from stillroom.samplers.base import SamplingParams
from stillroom.tasks.base import Task
from stillroom.types import Finish, Message, Problem, Response, Segment, Trace, Verdict


def recorded(params: SamplingParams) -> dict[str, JsonValue]:
    """What a trace says of how it was drawn: only what shapes a draw."""
    return params.model_dump(mode="json", exclude={"n", "raw_logits"}, exclude_none=True)


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
        usage=response.usage,
        level=problem.level,
        spans=response.spans,
        meta={"near_ties": response.near_ties} if response.near_ties else {},
    )

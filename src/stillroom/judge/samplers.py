"""Two small samplers that judges are made of: a function that answers, and one that is never asked twice."""

from collections.abc import Callable, Sequence
from random import Random

from stillroom.samplers.base import Prompt, Sampler, SamplingParams, require_plain, response_seed
from stillroom.seeds import derive_rng
from stillroom.types import Finish, Message, Response, Usage


class FunctionSampler:
    """A program as a judge, a detector or a teacher: it sees the messages and nothing else.

    Args:
        name: its identity in lineage.
        answer: the response to messages; the generator depends on the row's seed alone.
    """

    def __init__(self, name: str, answer: Callable[[Sequence[Message], Random], str]) -> None:
        self.id = f"function:{name}"
        self._answer = answer

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        require_plain(params, self.id)
        return [[self._one(prompt, offset) for offset in range(params.n)] for prompt in prompts]

    def _one(self, prompt: Prompt, offset: int) -> Response:
        seed = response_seed(prompt, offset)
        text = self._answer(prompt.messages, derive_rng(self.id, seed))
        return Response(text=text, finish=Finish.STOP, usage=Usage(calls=1), seed=seed)


class Remembering:
    """A sampler that asks another one and keeps its answers in memory: arms that differ in what they do with a verdict
    need not ask for it anew. Only for samplers whose answer depends on the prompt and its seed alone."""

    def __init__(self, sampler: Sampler) -> None:
        self.id = sampler.id
        self._sampler = sampler
        self._known: dict[tuple[str, SamplingParams], list[Response]] = {}

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        keys = [(prompt.model_dump_json(exclude={"problem"}), params) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self._sampler.sample(list(new.values()), params), strict=True))
        return [self._known[key] for key in keys]

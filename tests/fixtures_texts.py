"""A sampler whose every text is written down beforehand, and which remembers what it was asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stillroom.samplers.base import Prompt, SamplingParams, response_seed
from stillroom.tasks.base import question
from stillroom.types import Finish, Message, Response, Usage


@dataclass
class TextSampler:
    """Writes ``write(prompt, number)``: a text, or a whole response. Tokens are characters; a call costs 10 FLOP."""

    write: Callable[[Prompt, int], str | Response]
    turns: list[list[Prompt]] = field(default_factory=list)
    """The prompts of every request, in order."""
    params: list[SamplingParams] = field(default_factory=list)
    id: str = "texts"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        self.turns.append(list(prompts))
        self.params.append(params)
        return [[self._one(prompt, offset) for offset in range(params.n)] for prompt in prompts]

    def _one(self, prompt: Prompt, offset: int) -> Response:
        written = self.write(prompt, prompt.first_index + offset)
        read = sum(len(message.content) for message in prompt.messages) + len(prompt.prefix)
        if isinstance(written, Response):
            return written.model_copy(update={"usage": account(read, len(written.text))})
        return Response(
            text=written,
            finish=Finish.STOP,
            seed=response_seed(prompt, offset),
            usage=account(read, len(written)),
        )


def account(read: int, written: int) -> Usage:
    return Usage(
        prompt_tokens=read,
        completion_tokens=written,
        calls=1,
        peak_context=read + written,
        flops=10.0,
        cache_bytes=2 * (read + written),
    )


def asked(text: str, seed: int = 0) -> Prompt:
    return Prompt(messages=question(text), seed=seed)


def cut(text: str) -> Response:
    return Response(text=text, finish=Finish.LENGTH)


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(role="user", content=text) for text in texts)

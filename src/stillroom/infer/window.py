"""Answering under a limit on context: what every strategy for long thoughts has to beat at the same window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from stillroom.errors import UserError
from stillroom.infer.iterate import Final, Iterate, More
from stillroom.infer.single import Single
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.types import Finish, Response, Usage


@dataclass(frozen=True)
class Window:
    """A local model that stops, truncated, when prompt and answer fill the window.

    A prompt that fills it alone gets an empty answer of finish ``length``, without a call.

    Args:
        tokens: of prompt and answer together.
    """

    sampler: LocalSampler
    tokens: int

    @property
    def id(self) -> str:
        return f"window-{self.tokens}/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        rooms = [min(params.max_new_tokens, self.tokens - len(self.sampler.prompt_ids(prompt))) for prompt in prompts]
        full = Response(text="", finish=Finish.LENGTH, usage=Usage(peak_context=0, flops=0.0, cache_bytes=0))
        answers = [[full] * params.n for _ in prompts]
        for room in sorted({room for room in rooms if room > 0}):
            mine = [at for at, left in enumerate(rooms) if left == room]
            limited = params.model_copy(update={"max_new_tokens": room})
            for at, found in zip(mine, self.sampler.sample([prompts[i] for i in mine], limited), strict=True):
                answers[at] = found
        return answers


@dataclass(frozen=True)
class Sliding:
    """The program of a sliding window over the last message and what was written so far; its state is the latter.

    Args:
        tail: the last tokens of a text, at most so many.
        keep: tokens that are kept.
        question: ``slides`` out of the window with the rest, or is always ``kept`` besides.
    """

    tail: Callable[[str, int], tuple[str, int]]
    keep: int
    question: Literal["slides", "kept"]
    name: str = "sliding"

    def begin(self, prompt: Prompt) -> str:
        return prompt.prefix

    def ask(self, prompt: Prompt, state: str) -> Prompt:
        prefix, size = self.tail(state, self.keep)
        *earlier, last = prompt.messages
        if self.question == "slides":
            last = last.model_copy(update={"content": self.tail(last.content, self.keep - size)[0]})
        return prompt.model_copy(update={"messages": (*earlier, last), "prefix": prefix})

    def read(self, prompt: Prompt, state: str, response: Response) -> Final | More[str]:
        written = state + response.text
        return More(written) if response.finish is Finish.LENGTH else Final(written[len(prompt.prefix) :])


def sliding(
    sampler: LocalSampler, *, keep: int, stride: int, tokens: int, question: Literal["slides", "kept"] = "slides"
) -> Iterate[str]:
    """One thought under a window that slides: of the question and the thought, the last `keep` tokens.

    Context is read anew every `stride` tokens, so that it never holds more than the marks of the chat, `keep` and
    `stride`.

    Args:
        tokens: most tokens of an answer.
        question: ``kept``: the window is over the thought alone, and the question stays.
    """
    if min(keep, stride, tokens) < 1:
        raise UserError(f"keep={keep}, stride={stride}, tokens={tokens}: each must be 1 or more")
    tokenizer = sampler.policy.tokenizer

    def tail(text: str, most: int) -> tuple[str, int]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        size = len(ids)
        # A character that is cut in two may take more tokens than its half had: then a shorter end is taken.
        for kept in range(min(size, max(most, 0)), -1, -1):
            if size <= most:
                break
            text = str(tokenizer.decode(ids[len(ids) - kept :], skip_special_tokens=False)) if kept else ""
            size = len(tokenizer(text, add_special_tokens=False)["input_ids"]) if kept else 0
        return text, size

    return Iterate(Single(sampler, stride), Sliding(tail, keep, question), rounds=-(-tokens // stride))

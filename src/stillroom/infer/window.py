"""Answering under a limit on context: what every strategy for long thoughts has to beat at the same window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    """The program of a sliding window: the question and the end of what was written so far; its state is all of that.

    Args:
        tail: the end of a text that is kept.
    """

    tail: Callable[[str], str]
    name: str = "sliding"

    def begin(self, prompt: Prompt) -> str:
        return ""

    def ask(self, prompt: Prompt, state: str) -> Prompt:
        return prompt.model_copy(update={"prefix": self.tail(prompt.prefix + state)})

    def read(self, prompt: Prompt, state: str, response: Response) -> Final | More[str]:
        written = state + response.text
        return More(written) if response.finish is Finish.LENGTH else Final(written)


def sliding(sampler: LocalSampler, *, keep: int, stride: int, tokens: int) -> Iterate[str]:
    """One thought under a window that slides: the question always, and of the thought the last `keep` tokens.

    Context is read anew every `stride` tokens, so that it never holds more than question, `keep` and `stride`.

    Args:
        tokens: most tokens of an answer.
    """
    if min(keep, stride, tokens) < 1:
        raise UserError(f"keep={keep}, stride={stride}, tokens={tokens}: each must be 1 or more")
    tokenizer = sampler.policy.tokenizer

    def tail(text: str) -> str:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= keep else str(tokenizer.decode(ids[-keep:], skip_special_tokens=False))

    return Iterate(Single(sampler, stride), Sliding(tail), rounds=-(-tokens // stride))

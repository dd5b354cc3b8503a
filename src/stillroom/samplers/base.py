"""The protocol of everything that answers prompts: programs, recordings, local models, servers."""

from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import Field

from stillroom.errors import UserError
from stillroom.seeds import derive_seed
from stillroom.types import Message, Noun, Problem, Response


class StepStartBan(Noun):
    """The first step of the continuation must not begin with one of these words; later steps may.

    Only text that is sampled counts, not `Prompt.prefix`. White space before the first text is skipped; blank lines
    there neither start the step nor lift the ban. Words are compared whole and without regard to case: "But" forbids
    "but, no" and allows "Butter". A token is forbidden when with it the step's text equals a word, or holds a word
    followed by a character that is neither letter, digit nor underscore. Tokens that end a turn are never forbidden.
    """

    words: tuple[Annotated[str, Field(pattern=r"^\S(.*\S)?$")], ...] = Field(min_length=1)
    """Words or phrases of one line: ``But``, ``Going back``."""


class SamplingParams(Noun):
    """How to draw."""

    n: int = Field(1, ge=1)
    """Responses per prompt."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end a response; they are not part of its text."""
    constraint: StepStartBan | None = None
    """What may not be drawn. Samplers other than local models refuse it, and the next one."""
    raw_logits: bool = False
    """Fill `Response.raw_logits`."""


class Prompt(Noun):
    """One request: n responses to these messages."""

    messages: tuple[Message, ...]
    problem: Problem | None = None
    """Whose problem this is; programs and recordings answer by it, models and servers never look at it."""
    prefix: str = ""
    """The assistant turn opens with this text and is continued; it is not repeated in the response."""
    seed: int = 0
    first_index: int = 0
    """Number of the first response: a later request with first_index = 8 continues where 0..7 ended."""


class Sampler(Protocol):
    """Where responses come from.

    `sample` returns, for each prompt in order, `params.n` responses in order. A failure of one response is a response
    with finish ``error`` or ``timeout`` and a reason, never an exception; a user's mistake or a spent budget raises.
    """

    @property
    def id(self) -> str:
        """Identity in lineage and cache keys, e.g. ``local:PATH``."""
        ...

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]: ...


def require_plain(params: SamplingParams, sampler: str) -> None:
    """Raise UserError when a request asks for what only a model in this process can give."""
    if params.constraint is not None or params.raw_logits:
        asked = "a constraint" if params.constraint is not None else "raw logits"
        raise UserError(f"{sampler} cannot see to {asked}: only local models can; use local:PATH, or leave it out")


def response_seed(prompt: Prompt, offset: int) -> int:
    """Seed of the prompt's response number `first_index + offset`; no other response of a run shares it."""
    return derive_seed("response", prompt.seed, prompt.first_index + offset)

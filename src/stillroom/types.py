"""The nouns: what flows between the rooms. Frozen data without behaviour; functions elsewhere act on them.

None always means *unknown* or *not scored*; 0 means a measured zero.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "dev", "test"]


class Noun(BaseModel):
    """Frozen and strict: an unknown field is an error, never silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Noun):
    """One turn of a conversation."""

    role: Role
    content: str


class Span(Noun):
    """An annotation of the characters ``text[start:end]``: a step, a thought, an error, a plan."""

    kind: str
    start: int
    end: int
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Problem(Noun):
    """A question with a checkable answer."""

    id: str
    """Unique within its task; stable over runs."""
    task: str
    messages: tuple[Message, ...]
    """What is asked, without any instruction about the answer's format (that belongs to the chat format)."""
    reference: str | None
    """The gold answer in the verifier's own form; None when withheld."""
    level: int = 0
    """Difficulty; 0 when the task has none."""
    split: Split = "train"
    options: tuple[str, ...] = ()
    """Choices of a multiple-choice problem; the reference is then a letter."""
    spans: tuple[Span, ...] = ()
    """Annotated parts of the last message: premises, constraints."""
    assets: dict[str, str] = Field(default_factory=dict)
    """Named references to what does not fit in text: a scene specification, a database file."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """Everything else, including the difficulty parameters that produced the problem."""


class Finish(StrEnum):
    """Why a response ended."""

    STOP = "stop"
    """The model ended its turn or produced a stop string."""
    LENGTH = "length"
    """The limit on new tokens was reached: the response is truncated."""
    FILTERED = "filtered"
    """The server withheld it."""
    TIMEOUT = "timeout"
    """No complete answer within the time allowed, after all retries."""
    ERROR = "error"
    """The server failed, after all retries; the reason is in `Response.error`."""


class Usage(Noun):
    """What a response cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost_usd: float | None = None
    """None when no price is known; never guessed."""
    peak_context: int | None = None
    """Most tokens, read and written, that a model had before it in one call."""
    flops: float | None = None
    """Floating-point operations of all calls, attention included; None when the model is not here to be counted."""
    cache_bytes: int | None = None
    """Most bytes of keys and values that one call kept."""


class Call(Noun):
    """One call of a model, in tokens: its context grows from `prompt_tokens` by `completion_tokens`."""

    prompt_tokens: int
    completion_tokens: int


class Response(Noun):
    """What a sampler gave back for one prompt."""

    text: str
    finish: Finish
    token_ids: tuple[int, ...] | None = None
    """The sampled ids, including the end token when there was one; None when the sampler does not know them."""
    logp_policy: tuple[float, ...] | None = None
    """Per sampled token: log-probability under logits / temperature, before top-p and bans."""
    raw_logits: tuple[float, ...] | None = None
    """Per sampled token: its logit, not divided by the temperature; None unless `SamplingParams.raw_logits` asked."""
    tokenizer: str | None = None
    """Fingerprint of the vocabulary that `token_ids` belongs to."""
    usage: Usage = Usage()
    seed: int | None = None
    error: str | None = None
    spans: tuple[Span, ...] = ()
    """Annotations that a programmatic sampler knows for certain: steps, injected errors."""
    near_ties: int = 0
    """Draws so close to an edge that another batching could have gone the other way."""
    calls: tuple[Call, ...] = ()
    """Of a strategy: every call that it made, in order; empty where `usage` says it all."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """What else a strategy tells: why it stopped, how votes fell. A trace takes it over."""


class Verdict(Noun):
    """The verifier's word on a response."""

    correct: bool | None
    """None: could not be judged (infrastructure); masked out of training and of every mean, never counted as wrong."""
    score: float | None = None
    """In [0, 1]; None exactly when `correct` is None."""
    raw: float | None = None
    """On the verifier's own scale."""
    answer: str | None = None
    """What was extracted; None when nothing could be."""
    parts: dict[str, float] = Field(default_factory=dict)
    """Named components of the score."""
    reason: str = ""
    """Why: ``equal``, ``different``, ``no answer``, ``timeout``, …"""


class Judgement(Noun):
    """A judge's word, kept apart from the verifier's."""

    choice: str | None = None
    rating: float | None = None
    valid: bool = True
    confidence: float | None = None
    reasons: str = ""
    tries: int = 1
    usage: Usage = Usage()


class Segment(Noun):
    """A stretch of the taught conversation with one loss weight."""

    role: Role
    text: str
    weight: float = 0.0
    """Multiplies each token's loss; 0 is never trained."""
    token_ids: tuple[int, ...] | None = None
    tokenizer: str | None = None
    """`token_ids` are used as they are when this equals the learner's fingerprint."""


class Trace(Noun):
    """A reasoning trace: what was asked of its producer, what a student would be taught, and where it came from."""

    id: str
    problem_id: str
    task: str
    asked: tuple[Message, ...]
    """The messages actually sent to whoever produced the trace."""
    taught: tuple[Segment, ...]
    """The conversation that a student would be trained on."""
    source: Literal["teacher", "student", "gold", "corrected", "injected-error", "recorded"] = "teacher"
    sampler: str = ""
    """Identity of the sampler, e.g. ``program``, ``local:PATH``, ``openai:NAME``."""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    seed: int | None = None
    index: int = 0
    """Which sample of its problem this is, from 0."""
    round: int = 0
    parents: tuple[str, ...] = ()
    finish: Finish = Finish.STOP
    verdict: Verdict | None = None
    judgement: Judgement | None = None
    usage: Usage = Usage()
    level: int = 0
    spans: tuple[Span, ...] = ()
    """Annotations of the response text (the last assistant segment)."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)

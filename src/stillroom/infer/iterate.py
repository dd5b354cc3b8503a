"""Programs over a model as one loop: ask, read, go on from a new state, until the program or a limit says stop.

All rows are under way at once and ask together; a row that is finished leaves the batch. What a row does depends on its
own seed alone, never on which others are still going.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

from stillroom.errors import UserError
from stillroom.infer.account import calls_of, spent
from stillroom.samplers.base import Prompt, Sampler, SamplingParams, response_seed
from stillroom.seeds import derive_seed
from stillroom.types import Finish, Response, Usage


class Stop(StrEnum):
    """Why a loop ended; only `FINAL` leaves an answer."""

    FINAL = "final"
    """The program read an answer."""
    ROUNDS = "rounds"
    """The limit on rounds was reached."""
    TOKENS = "tokens"
    """The limit on tokens was reached."""
    NO_PROGRESS = "no-progress"
    """A round ended in the state that it began in."""
    MALFORMED = "malformed"
    """Too many rounds one after the other could not be read, or were not accepted."""
    TRUNCATED = "truncated"
    """A round was cut off before it said anything that could be gone on from."""
    FAILED = "failed"
    """The sampler failed."""


State = TypeVar("State")


class Final(NamedTuple):
    """The round holds the answer."""

    text: str


class More(NamedTuple, Generic[State]):
    """Go on from this state."""

    state: State


class Again(NamedTuple, Generic[State]):
    """The round could not be read: ask once more, from this state."""

    state: State


class Cut(NamedTuple):
    """The round was cut off, and nothing in it is of use."""


class Program(Protocol[State]):
    """What a loop asks and how it reads. States are compared with ``==``."""

    @property
    def name(self) -> str: ...

    def begin(self, prompt: Prompt) -> State:
        """The state before the first round."""
        ...

    def ask(self, prompt: Prompt, state: State) -> Prompt:
        """What to ask in a round; its seed and index are set by the loop."""
        ...

    def read(self, prompt: Prompt, state: State, response: Response) -> "Final | More[State] | Again[State] | Cut":
        """What a round's response means; total, whatever a model wrote."""
        ...


class Checked(NamedTuple):
    """Whether a round is accepted, and what it cost to find out."""

    ok: bool
    usage: Usage | None = None
    """Of the calls that it took; None: none."""


class Round(NamedTuple, Generic[State]):
    """A round that was read, before it is accepted."""

    prompt: Prompt
    state: State
    response: Response


@dataclass
class _Row(Generic[State]):
    """A response under way."""

    at: int
    """Number of its prompt."""
    index: int
    """Number of the response among all of its prompt."""
    state: State
    responses: list[Response] = field(default_factory=list)
    checks: list[Usage] = field(default_factory=list)
    unread: int = 0
    """Rounds one after the other that came to nothing."""
    stop: Stop | None = None
    text: str = ""

    @property
    def tokens(self) -> int:
        return sum(response.usage.completion_tokens for response in self.responses)


@dataclass(frozen=True)
class Iterate(Generic[State]):
    """Runs a program over a sampler, one call a round.

    The response's text is the final one; it is empty when the loop stopped for any other reason, so that a limit is
    never scored as an answer. `meta` holds ``stop`` (the reason) and ``rounds`` (what every round wrote).

    Args:
        rounds: most rounds.
        tokens: most completion tokens of a response, all rounds together, looked at after every round; None: no limit.
        retries: how many rounds one after the other may come to nothing; the next one ends the loop.
        accept: looks at all rounds that were read in a turn, together, and says which of them count; None: all.
    """

    sampler: Sampler
    program: Program[State]
    rounds: int = 50
    tokens: int | None = None
    retries: int = 2
    accept: Callable[[Sequence[Round[State]]], Sequence[Checked]] | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.tokens is not None and self.tokens < 1) or self.retries < 0:
            raise UserError(
                f"rounds={self.rounds}, tokens={self.tokens}, retries={self.retries} let nothing happen; "
                "give 1 round and 1 token or more, and no negative retries"
            )

    @property
    def id(self) -> str:
        return f"{self.program.name}/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        rows = [
            _Row(at, prompt.first_index + offset, self.program.begin(prompt))
            for at, prompt in enumerate(prompts)
            for offset in range(params.n)
        ]
        going, once = rows, params.model_copy(update={"n": 1})
        while going:
            asked = [self._ask(prompts[row.at], row) for row in going]
            for row, (response,) in zip(going, self.sampler.sample(asked, once), strict=True):
                row.responses.append(response)
            self._read(prompts, going)
            going = [row for row in going if row.stop is None]
        answers: list[list[Response]] = [[] for _ in prompts]
        for row in rows:
            answers[row.at].append(_response(prompts[row.at], row))
        return answers

    def _ask(self, prompt: Prompt, row: _Row[State]) -> Prompt:
        seed = derive_seed("round", prompt.seed, row.index, len(row.responses))
        return self.program.ask(prompt, row.state).model_copy(update={"seed": seed, "first_index": 0})

    def _read(self, prompts: Sequence[Prompt], going: Sequence[_Row[State]]) -> None:
        """Move every row on by the round that it has just got."""
        read = [
            self.program.read(prompts[row.at], row.state, row.responses[-1]) if _usable(row.responses[-1]) else None
            for row in going
        ]
        gated = [at for at, outcome in enumerate(read) if isinstance(outcome, Final | More)]
        accepted = dict.fromkeys(gated, True)
        if self.accept is not None and gated:
            rounds = [Round(prompts[going[at].at], going[at].state, going[at].responses[-1]) for at in gated]
            for at, (ok, usage) in zip(gated, self.accept(rounds), strict=True):
                accepted[at] = ok
                if usage is not None:
                    going[at].checks.append(usage)
        for at, (row, outcome) in enumerate(zip(going, read, strict=True)):
            if at in accepted and not accepted[at]:
                self._move(row, Again(row.state))
            else:
                self._move(row, outcome)

    def _move(self, row: _Row[State], outcome: Final | More[State] | Again[State] | Cut | None) -> None:
        if isinstance(outcome, Final):
            row.stop, row.text = Stop.FINAL, outcome.text
            return
        if outcome is None or isinstance(outcome, Cut):
            row.stop = Stop.FAILED if outcome is None else Stop.TRUNCATED
            return
        if isinstance(outcome, Again):
            row.unread += 1
            if row.unread > self.retries:
                row.stop = Stop.MALFORMED
        else:
            row.unread = 0
            if outcome.state == row.state:
                row.stop = Stop.NO_PROGRESS
        row.state = outcome.state
        if row.stop is None and len(row.responses) >= self.rounds:
            row.stop = Stop.ROUNDS
        elif row.stop is None and self.tokens is not None and row.tokens >= self.tokens:
            row.stop = Stop.TOKENS


def _usable(response: Response) -> bool:
    return response.finish in (Finish.STOP, Finish.LENGTH)


_FINISH = {Stop.ROUNDS: Finish.LENGTH, Stop.TOKENS: Finish.LENGTH, Stop.TRUNCATED: Finish.LENGTH}


def _response(prompt: Prompt, row: _Row[State]) -> Response:
    assert row.stop is not None
    last = row.responses[-1]
    finish = last.finish if row.stop is Stop.FAILED else _FINISH.get(row.stop, Finish.STOP)
    return Response(
        text=row.text,
        finish=finish,
        usage=spent([*(response.usage for response in row.responses), *row.checks]),
        seed=response_seed(prompt, row.index - prompt.first_index),
        error=last.error,
        near_ties=sum(response.near_ties for response in row.responses),
        calls=tuple(call for response in row.responses for call in calls_of(response)),
        meta={"stop": row.stop.value, "rounds": [response.text for response in row.responses]},
    )

"""Strategies by name, as the command line writes them: ``vote:n=8``, ``vote:n=4/iterate:rounds=10``."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from stillroom.errors import UserError, unknown_name
from stillroom.infer.rounds import in_rounds
from stillroom.infer.single import Single
from stillroom.infer.vote import Vote, likelihood
from stillroom.samplers.base import Sampler
from stillroom.types import Noun


class SingleOptions(Noun):
    """One call, as the model answers by itself."""

    tokens: int | None = Field(None, ge=1)
    """Longest answer; None: the request's."""


class VoteOptions(Noun):
    """The most frequent of several answers."""

    n: int = Field(8, ge=1)
    """Answers that vote."""
    temperature: float = Field(0.7, gt=0)
    """Of the answers (the paper's; a request is greedy unless it says otherwise)."""
    weight: Literal["likelihood"] | None = None
    """What a vote counts; None: all the same."""


class IterateOptions(Noun):
    """Bounded rounds of thought, each going on from a summary (InftyThink)."""

    rounds: int = Field(50, ge=1)
    """Most rounds."""
    tokens: int | None = Field(None, ge=1)
    """Most tokens of all rounds together."""
    retries: int = Field(2, ge=0)
    """Broken rounds in a row that are forgiven."""


class Kind(NamedTuple):
    """A strategy that has a name."""

    options: type[Noun]
    make: Callable[..., Sampler]
    """From a sampler and the options' values."""


def _vote(sampler: Sampler, n: int, temperature: float, weight: Literal["likelihood"] | None) -> Sampler:
    return Vote(sampler, n, weigh=likelihood if weight else None, temperature=temperature)


KINDS: dict[str, Kind] = {
    "single": Kind(SingleOptions, lambda sampler, tokens: Single(sampler, tokens)),
    "vote": Kind(VoteOptions, _vote),
    "iterate": Kind(IterateOptions, lambda sampler, **options: in_rounds(sampler, **options)),
}


def make_strategy(spec: str, sampler: Sampler) -> Sampler:
    """The strategy that a spec names, over a sampler; of several, joined by ``/``, the last is nearest to the model.

    Raises:
        UserError: an unknown strategy, option or value, with what to write instead.
    """
    for part in reversed(spec.split("/")):
        name, _, text = part.strip().partition(":")
        if name not in KINDS:
            raise unknown_name("strategy", name, KINDS)
        sampler = KINDS[name].make(sampler, **_options(part, name, text))
    return sampler


def _options(part: str, name: str, text: str) -> dict[str, object]:
    known = KINDS[name].options.model_fields
    given: dict[str, str] = {}
    for piece in text.split(",") if text else ():
        key, equals, value = (word.strip() for word in piece.partition("="))
        if not equals or not key or not value:
            raise UserError(f"cannot read option {piece!r} of strategy {part!r}; write key=value,key=value")
        if key not in known:
            raise unknown_name(f"option of strategy {name!r}", key, known)
        if key in given:
            raise UserError(f"option {key!r} stands twice in strategy {part!r}")
        given[key] = value
    try:
        return dict(KINDS[name].options.model_validate_strings(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"strategy {part!r}: {first['loc'][0]}: {first['msg']}") from error

"""One road from a question to a judgement: ask in batches, read, and ask again what could not be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field

from stillroom.chat import parse
from stillroom.infer.account import spent
from stillroom.judge.parsers import Parser
from stillroom.judge.wording import ENGLISH, Case, Wording
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.seeds import derive_seed
from stillroom.tasks.paired import Contest, letter, require_contest
from stillroom.types import Finish, Judgement, Message, Noun, Response

_FAILED = (Finish.ERROR, Finish.TIMEOUT, Finish.FILTERED)


class Ladder(Noun):
    """How often a question is asked until its answer can be read, and how much more freely each time."""

    tries: int = Field(3, ge=1)
    temperature: float = Field(0.0, ge=0)
    """Of the first try; 0 is greedy."""
    step: float = Field(0.35, ge=0)
    """Added with every further try: a greedy judge that wrote nonsense would only repeat it. Ours."""


@dataclass(frozen=True)
class Judge:
    """Whoever judges: any sampler, how it is asked, and how its answers are read."""

    sampler: Sampler
    wording: Wording = ENGLISH
    ladder: Ladder = field(default_factory=Ladder)
    max_new_tokens: int = 256
    warning: bool = False
    """Every comparison says that length, order, popularity and tone must not matter."""


def compare(judge: Judge, contests: Sequence[Contest], names: Sequence[str] | None = None) -> list[Judgement]:
    """Which candidate is right? `Judgement.choice` is a letter, None when no try gave one of the candidates.

    Args:
        names: of the contests, for messages.

    Raises:
        UserError: a contest with nothing to choose between; nothing is asked then.
    """
    for number, contest in enumerate(contests):
        require_contest(contest, names[number] if names else str(number))
    texts = [judge.wording.compare(contest, judge.warning) for contest in contests]
    return _ask(judge, texts, [_one_of(judge.wording.choice, contest) for contest in contests])


def revise(
    judge: Judge, contests: Sequence[Contest], priors: Sequence[str], analyses: Sequence[str]
) -> list[Judgement]:
    """A second look at each contest, given the judge's own earlier verdict (a letter) and an analysis of it."""
    texts = [judge.wording.revise(*given) for given in zip(contests, priors, analyses, strict=True)]
    return _ask(judge, texts, [_one_of(judge.wording.choice, contest) for contest in contests])


def detect(detector: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """Was this verdict caused by a bias? `Judgement.choice` is ``Yes`` or ``No``, None when malformed: asked once,
    never again, since a second answer would be a second chance. `reasons` is the analysis."""
    once = Judge(detector.sampler, detector.wording, Ladder(tries=1), detector.max_new_tokens)
    return _ask(once, [detector.wording.detect(case) for case in cases], [detector.wording.yes_no] * len(cases))


def rate(
    judge: Judge, sources: Sequence[str], answers: Sequence[str], rubric: str, *, low: float = 1, high: float = 5
) -> list[Judgement]:
    """How good is each answer by the rubric? `Judgement.rating` lies in [low, high], None when no try gave one."""

    def read(text: str) -> str | None:
        said = judge.wording.rating(text)
        try:
            value = float(said) if said is not None else None
        except ValueError:
            return None
        return said if value is not None and low <= value <= high else None

    texts = [
        judge.wording.rate(source, answer, rubric, low, high) for source, answer in zip(sources, answers, strict=True)
    ]
    found = _ask(judge, texts, [read] * len(texts))
    return [
        j.model_copy(update={"rating": None if j.choice is None else float(j.choice), "choice": None}) for j in found
    ]


def _one_of(parser: Parser, contest: Contest) -> Parser:
    """A letter beyond the candidates is no verdict."""

    def read(text: str) -> str | None:
        found = parser(text)
        return found if found is not None and found < letter(len(contest.candidates)) else None

    return read


def _ask(judge: Judge, texts: Sequence[str], parsers: Sequence[Parser]) -> list[Judgement]:
    """The ladder: all open questions together, one try after the other."""
    prompts = [
        Prompt(messages=(Message(role="user", content=text),), seed=derive_seed("judge", text)) for text in texts
    ]
    answers: list[list[Response]] = [[] for _ in texts]
    values: list[str | None] = [None] * len(texts)
    open_at = list(range(len(texts)))
    for number in range(judge.ladder.tries):
        params = SamplingParams(
            temperature=judge.ladder.temperature + number * judge.ladder.step, max_new_tokens=judge.max_new_tokens
        )
        asked = [prompts[at].model_copy(update={"first_index": number}) for at in open_at]
        for at, (response,) in zip(open_at, judge.sampler.sample(asked, params) if asked else (), strict=True):
            answers[at].append(response)
            values[at] = None if response.finish in _FAILED else parsers[at](response.text)
        open_at = [at for at in open_at if values[at] is None]
    return [_judgement(value, tried) for value, tried in zip(values, answers, strict=True)]


def _judgement(value: str | None, tried: Sequence[Response]) -> Judgement:
    last = tried[-1]
    failed = last.finish in _FAILED
    return Judgement(
        choice=value,
        valid=value is not None,
        reasons=(last.error or last.finish.value) if failed else parse(last.text).thought.strip(),
        tries=len(tried),
        usage=spent([response.usage for response in tried]),
    )

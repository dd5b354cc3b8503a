"""Summaries with planted errors: four facts of which two matter, and a summary of one or two sentences.

Aspects and scales are SummEval's, each given by a rule on the text, so that every rating is exact:

| aspect | scale | rule |
|---|---|---|
| coherence | 1 to 5 | 5 when facts of the document stand in its order, else 1 |
| consistency | 1 to 5 | 5, less 2 for every sentence that the document does not say |
| relevance | 1 to 5 | 1, plus 2 for every fact that matters and is told |
| fluency | 1 to 3 | 3, less 1 for every verb without its ending |
"""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from stillroom.tasks.answers import extract
from stillroom.tasks.base import Solution, Style, Task, question
from stillroom.tasks.planted import SYSTEMS, by_system
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Verdict

ASPECTS = ("coherence", "consistency", "relevance", "fluency")
HIGHEST = {"coherence": 5, "consistency": 5, "relevance": 5, "fluency": 3}
PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jada", "Kai", "Lea", "Mia", "Omar")
VERBS = ("bakes", "builds", "buys", "collects", "draws", "finds", "hides", "mends", "paints", "sells", "washes")
THINGS = ("boats", "books", "bowls", "boxes", "cakes", "chairs", "clocks", "coats", "drums", "kites", "lamps", "pots")
_RATING = re.compile(r"([a-z]+)[\s:=]{1,4}([0-9])(?![0-9.])", re.IGNORECASE)
_LONGEST = 400  # characters of an answer


class Fact(NamedTuple):
    """Who does what to what; the verb with its ending."""

    who: str
    verb: str
    thing: str


class Document(NamedTuple):
    facts: tuple[Fact, ...]
    key: tuple[int, int]
    """Which two matter, in order."""


@register(
    "planted-summary",
    summary="rate four aspects of summaries with planted errors; level = pseudo-system, from good to bad",
    world="planted",
    levels=tuple(range(1, len(SYSTEMS) + 1)),
)
def planted_summary() -> Task:
    """Document and summary, five systems to a document; the answer rates four aspects."""
    return Task(
        name="planted-summary",
        summary="ratings of summaries with planted errors",
        problems=by_system("planted-summary", _document, _make),  # type: ignore[arg-type]
        verify=verify,
        solve=solve,
        levels=tuple(range(1, len(SYSTEMS) + 1)),
        world="planted",
        corrupt=_another,
    )


def _document(rng: Random) -> Document:
    who, things = rng.sample(PEOPLE, 4), rng.sample(THINGS, 4)
    facts = tuple(Fact(w, rng.choice(VERBS), t) for w, t in zip(who, things, strict=True))
    first, second = sorted(rng.sample(range(4), 2))
    return Document(facts, (first, second))


def _make(document: Document, rng: Random, level: int) -> Problem:
    """The key facts in order, spoilt at the system's rate in each of four ways."""
    rate = 1.5 * SYSTEMS[level - 1]
    told = [document.facts[at] for at in document.key]
    if rng.random() < rate:  # shuffled
        told.reverse()
    if rng.random() < rate:  # missing
        told.pop(rng.randrange(len(told)))
    for at, fact in enumerate(told):
        if rng.random() < rate / 2:  # hallucinated
            said = [other.thing for other in document.facts] + [other.thing for other in told]
            told[at] = fact._replace(thing=rng.choice([thing for thing in THINGS if thing not in said]))
    broken = [rng.random() < rate / 2 for _ in told]
    summary = " ".join(_sentence(fact, broken=b) for fact, b in zip(told, broken, strict=True))
    lines = [f"{'*' if at in document.key else '-'} {_sentence(fact)}" for at, fact in enumerate(document.facts)]
    ratings = {
        "coherence": 1 if _misplaced(told, document.facts) else 5,
        "consistency": 5 - 2 * sum(fact not in document.facts for fact in told),
        "relevance": 1 + 2 * sum(document.facts[at] in told for at in document.key),
        "fluency": 3 - sum(broken),
    }
    return Problem(
        id="",
        task="planted-summary",
        messages=question(
            "What matters is marked with a star.\n"
            + "\n".join(lines)
            + f"\nSummary: {summary}\nRate coherence, consistency, relevance (1-5) and fluency (1-3)."
        ),
        reference=written(ratings),
        level=level,
        meta={"lines": [*lines], "summary": summary, "ratings": {**ratings}},
    )


def _sentence(fact: Fact, *, broken: bool = False) -> str:
    return f"{fact.who} {fact.verb[:-1] if broken else fact.verb} {fact.thing}."


def _misplaced(told: Sequence[Fact], facts: Sequence[Fact]) -> bool:
    places = [facts.index(fact) for fact in told if fact in facts]
    return places != sorted(places)


def written(ratings: dict[str, int]) -> str:
    """Ratings as an answer: ``coherence 5, consistency 3, relevance 3, fluency 3``."""
    return ", ".join(f"{aspect} {ratings[aspect]}" for aspect in ASPECTS)


def read(answer: str) -> dict[str, int] | None:
    """Ratings out of an answer; None unless every aspect is rated, once and on its scale.

    The number is looked for behind the aspect's name: a first digit may as well be part of ``1-5``.
    """
    if len(answer) > _LONGEST:
        return None
    said = [(name.casefold(), int(value)) for name, value in _RATING.findall(answer)]
    ratings = dict(said)
    complete = sorted(name for name, _ in said) == sorted(ASPECTS)
    return ratings if complete and all(1 <= ratings[aspect] <= HIGHEST[aspect] for aspect in ASPECTS) else None


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Right when all four ratings are; the score is the share of right ones, `parts` holds each rating.

    Args:
        text: the whole response; any string.
        strict: has no other reading.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    answer = extract(text)
    said = None if answer is None else read(answer)
    if answer is None or said is None:
        reason = "no answer" if answer is None else "no ratings"
        return Verdict(correct=False, score=0.0, answer=None if answer is None else answer[:200], reason=reason)
    gold = read(problem.reference) or {}
    right = [said[aspect] == gold.get(aspect) for aspect in ASPECTS]
    return Verdict(
        correct=all(right),
        score=sum(right) / len(ASPECTS),
        answer=answer[:200],
        parts={aspect: float(value) for aspect, value in said.items()},
        reason="equal" if all(right) else "different",
    )


class _Told(NamedTuple):
    text: str
    place: int | None
    """Which fact of the document it is; None: none."""
    whole: bool
    """The verb has its ending."""


def _told(lines: Sequence[str], summary: str) -> list[_Told]:
    """Every sentence of a summary, found in the document again."""
    known = {line[2:]: at for at, line in enumerate(lines)}
    result = []
    for sentence in re.findall(r"[^.]+\.", summary):
        who, verb, thing = sentence.strip().rstrip(".").split()
        whole = verb if verb in VERBS else f"{verb}s"
        result.append(_Told(sentence.strip(), known.get(f"{who} {whole} {thing}."), verb == whole))
    return result


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Find every sentence in the document, then rate by the rules; a slip moves a rating."""
    writer = StepWriter("planted-summary", ("equations",), style, rng)
    lines: list[str] = problem.meta["lines"]  # type: ignore[assignment]
    told = _told(lines, str(problem.meta["summary"]))
    sound = True
    for sentence in told:
        where = "not said" if sentence.place is None else f"line {sentence.place + 1}{lines[sentence.place][0]}"
        said = f"{sentence.text} {where}{'' if sentence.whole else ', ending'}"
        writer.step(said, (where, f"so {where}"), sound=True, injected=False)
    places = [sentence.place for sentence in told if sentence.place is not None]
    ratings = {
        "coherence": 5 if places == sorted(places) else 1,
        "consistency": 5 - 2 * sum(sentence.place is None for sentence in told),
        "relevance": 1 + 2 * sum(lines[place].startswith("*") for place in places),
        "fluency": 3 - sum(not sentence.whole for sentence in told),
    }
    for aspect in ASPECTS:
        injected = writer.slips()
        if injected:
            ratings[aspect] = rng.choice([r for r in range(1, HIGHEST[aspect] + 1) if r != ratings[aspect]])
        sound = sound and not injected
        said = f"{aspect} {ratings[aspect]}"
        writer.step(said, (said, f"so {said}"), sound=sound, injected=injected)
    return writer.solution(written(ratings))


def _another(problem: Problem) -> str:
    ratings = read(problem.reference or "") or {}
    return written({**ratings, "fluency": 1 + ratings["fluency"] % 3})

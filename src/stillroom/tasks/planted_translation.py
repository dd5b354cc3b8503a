"""Translations with planted errors: a tiny language pair with one exact translation per sentence.

English words go into an invented language word by word; an adjective follows its noun and takes its ending, and *not*
becomes *ne*. Errors are planted in the exact translation, at most one per word:

| error | severity |
|---|---|
| ``negation``: *ne* is lost | critical |
| ``omission``: a noun, adjective or verb is missing | major |
| ``mistranslation``: another word of its kind stands there | major |
| ``ending``: an adjective does not agree with its noun | minor |
| ``doubled``: a word stands there twice | minor |

The annotator finds them again from the text alone, by the shortest list of errors that explains it. A hypothesis that
has another explanation as short is never shown, so that there is exactly one right answer.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from stillroom.seeds import derive_rng
from stillroom.tasks.answers import extract
from stillroom.tasks.base import Solution, Style, Task, question
from stillroom.tasks.planted import SYSTEMS, PlantedError, Severity, by_system, found, mqm_score, read, written
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Verdict

NOUNS = (
    *("bird", "boat", "bread", "bridge", "child", "cloud", "dog", "door", "farmer", "field", "fish", "house"),
    *("king", "lake", "letter", "mother", "river", "road", "sailor", "ship", "stone", "teacher", "tree", "wolf"),
)
ADJECTIVES = ("big", "black", "cold", "dark", "green", "happy", "old", "quiet", "red", "small", "strong", "white")
VERBS = (
    *("builds", "buys", "carries", "cuts", "draws", "finds", "follows", "hears", "helps", "holds", "keeps", "knows"),
    *("leaves", "likes", "loses", "moves", "paints", "pulls", "sees", "sells", "seeks", "takes", "wants", "washes"),
)
SEVERITY: dict[str, Severity] = {
    "negation": "critical",
    "omission": "major",
    "mistranslation": "major",
    "ending": "minor",
    "doubled": "minor",
}
_NOT = "ne"


class Word(NamedTuple):
    """A word of the exact translation."""

    text: str
    kind: str
    """noun, adjective, verb or negation."""


class Sentence(NamedTuple):
    source: str
    target: tuple[Word, ...]
    """Its exact translation; no word stands there twice."""


class Lexicon(NamedTuple):
    """English → the other language; an adjective without its ending."""

    words: dict[str, str]
    kinds: dict[str, str]


@cache
def lexicon() -> Lexicon:
    """The same for everybody: two syllables per word; nouns end in o or a, verbs in i."""
    rng, used, words, kinds = derive_rng("planted-lexicon"), {_NOT}, {}, {}
    for kind, english in (("noun", NOUNS), ("adjective", ADJECTIVES), ("verb", VERBS)):
        for word in english:
            while True:
                stem = "".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(2))[:3]
                if stem not in used:
                    break
            used.add(stem)
            words[word] = stem + {"noun": rng.choice("oa"), "adjective": "", "verb": "i"}[kind]
            kinds[word] = kind
    return Lexicon(words, kinds)


@register(
    "planted-translation",
    summary="list the errors planted in translations into a tiny language; level = pseudo-system, from good to bad",
    world="planted",
    levels=tuple(range(1, len(SYSTEMS) + 1)),
)
def planted_translation() -> Task:
    """Source and translation, five systems to a source; the answer is a list of errors with severities."""
    return Task(
        name="planted-translation",
        summary="errors planted in translations",
        problems=by_system("planted-translation", _sentence, _make),  # type: ignore[arg-type]
        verify=verify,
        solve=solve,
        levels=tuple(range(1, len(SYSTEMS) + 1)),
        world="planted",
        corrupt=_another,
    )


def _sentence(rng: Random) -> Sentence:
    """A verb between one and two noun phrases each, no word twice."""
    nouns, adjectives = rng.sample(NOUNS, 3), rng.sample(ADJECTIVES, 3)
    phrases = [
        (noun, adjective if rng.random() < 0.6 else None) for noun, adjective in zip(nouns, adjectives, strict=True)
    ]
    verb, negated = rng.choice(VERBS), rng.random() < 0.5
    subjects, objects = phrases[: 1 + (rng.random() < 0.3)], phrases[2:]
    source = [
        *_english(subjects),
        *(["not"] if negated else []),
        verb,
        *_english(objects),
    ]
    middle = [*([Word(_NOT, "negation")] if negated else []), Word(lexicon().words[verb], "verb")]
    return Sentence(" ".join(source), (*_translated(subjects), *middle, *_translated(objects)))


def _english(phrases: Sequence[tuple[str, str | None]]) -> list[str]:
    return [word for noun, adjective in phrases for word in (*([adjective] if adjective else []), noun)]


def _translated(phrases: Sequence[tuple[str, str | None]]) -> Iterator[Word]:
    for noun, adjective in phrases:
        word = lexicon().words[noun]
        yield Word(word, "noun")
        if adjective is not None:
            yield Word(lexicon().words[adjective] + word[-1], "adjective")


def translated(source: str) -> tuple[Word, ...]:
    """The exact translation of a sentence of this world, word by word."""
    target: list[Word] = []
    waiting: str | None = None
    for word in source.split():
        if word == "not":
            target.append(Word(_NOT, "negation"))
        elif lexicon().kinds[word] == "adjective":
            waiting = word
        elif lexicon().kinds[word] == "noun":
            target += _translated([(word, waiting)])
            waiting = None
        else:
            target.append(Word(lexicon().words[word], "verb"))
    return tuple(target)


def _make(sentence: Sentence, rng: Random, level: int) -> Problem:
    """A hypothesis of one system; drawn again until it has one shortest explanation, the planted one."""
    rate = SYSTEMS[level - 1]
    for _ in range(1000):
        shown, errors = _spoilt(sentence.target, rate, rng)
        if len(errors) <= 4 and shown and annotate(sentence.target, shown) == errors:
            break
    else:
        shown, errors = [word.text for word in sentence.target], []
    score = mqm_score(error.severity for error in errors)
    return Problem(
        id="",
        task="planted-translation",
        messages=question(f"Source: {sentence.source}\nTranslation: {' '.join(shown)}\nList the errors."),
        reference=written(errors),
        level=level,
        meta={"source": sentence.source, "translation": " ".join(shown), "score": score},
    )


def _spoilt(target: Sequence[Word], rate: float, rng: Random) -> tuple[list[str], list[PlantedError]]:
    shown: list[str] = []
    errors: list[PlantedError] = []
    stems = {word.text[:-1] for word in target}
    for word in target:
        kinds = ["doubled"]
        kinds += ["negation"] if word.kind == "negation" else ["omission", "mistranslation"]
        kinds += ["ending"] if word.kind == "adjective" else []
        if rng.random() >= rate:
            shown.append(word.text)
            continue
        kind = rng.choice(kinds)
        errors.append(PlantedError(severity=SEVERITY[kind], kind=kind, word=word.text))
        if kind == "doubled":
            shown += [word.text, word.text]
        elif kind == "ending":
            shown.append(_other_ending(word.text))
        elif kind == "mistranslation":
            # A word of the sentence itself would look like one that moved or was doubled.
            shown.append(rng.choice([text for text in _of_its_kind(word) if text[:-1] not in stems]))
    return shown, errors


def _other_ending(adjective: str) -> str:
    return adjective[:-1] + ("a" if adjective[-1] == "o" else "o")


@cache
def _of_its_kind(word: Word) -> tuple[str, ...]:
    """Every other word of the kind; adjectives with this one's ending."""
    known = lexicon()
    ending = word.text[-1] if word.kind == "adjective" else ""
    texts = [text + ending for english, text in known.words.items() if known.kinds[english] == word.kind]
    return tuple(text for text in texts if text != word.text)


def annotate(target: Sequence[Word], shown: Sequence[str]) -> list[PlantedError] | None:
    """The one shortest list of errors that makes `shown` of the exact translation; None without one, or with several.

    Read from left to right: every word of the translation accounts for none, one or two words shown.
    """
    # best[j]: fewest errors that explain the first j words shown, how many ways there are, and one of them.
    best: dict[int, tuple[int, int, tuple[PlantedError, ...]]] = {0: (0, 1, ())}
    for word in target:
        new: dict[int, tuple[int, int, tuple[PlantedError, ...]]] = {}
        for at, (cost, ways, errors) in best.items():
            for used, kind in _readings(word, shown, at):
                more = errors if kind is None else (*errors, _error(kind, word))
                known = new.get(at + used)
                if known is None or cost + (kind is not None) < known[0]:
                    new[at + used] = (cost + (kind is not None), ways, more)
                elif cost + (kind is not None) == known[0]:
                    new[at + used] = (known[0], known[1] + ways, known[2])
        best = new
    end = best.get(len(shown))
    return list(end[2]) if end is not None and end[1] == 1 else None


def _error(kind: str, word: Word) -> PlantedError:
    return PlantedError(severity=SEVERITY[kind], kind=kind, word=word.text)


def _readings(word: Word, shown: Sequence[str], at: int) -> Iterator[tuple[int, str | None]]:
    """How many words from `at` on a word of the translation may account for, and as which error."""
    yield 0, "negation" if word.kind == "negation" else "omission"
    if at >= len(shown):
        return
    if shown[at] == word.text:
        yield 1, None
        if shown[at + 1 : at + 2] == [word.text]:
            yield 2, "doubled"
    elif word.kind == "adjective" and shown[at] == _other_ending(word.text):
        yield 1, "ending"
    elif word.kind != "negation" and shown[at] in _of_its_kind(word):
        yield 1, "mistranslation"


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Right when exactly the planted errors are listed; the score is the F1 of the list, `raw` its MQM score.

    Args:
        text: the whole response; any string.
        strict: has no other reading; an error list does not stand in passing.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    answer = extract(text)
    said = None if answer is None else read(answer)
    if answer is None or said is None:
        reason = "no answer" if answer is None else "no error list"
        return Verdict(correct=False, score=0.0, answer=None if answer is None else answer[:200], reason=reason)
    planted = read(problem.reference) or []
    agreement = found(said, planted)
    equal = set(said) == set(planted)
    return Verdict(
        correct=equal,
        score=1.0 if equal else min(agreement.f1, 0.99),
        raw=float(mqm_score(error.severity for error in said)),
        answer=answer[:200],
        parts={"precision": agreement.precision, "recall": agreement.recall},
        reason="equal" if equal else "different",
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Translate, then go through the words and say what became of each; a slip overlooks an error or sees one."""
    writer = StepWriter("planted-translation", ("equations",), style, rng)
    target = translated(str(problem.meta["source"]))
    shown = str(problem.meta["translation"]).split()
    errors = {error.word: error for error in annotate(target, shown) or []}
    exact = " ".join(word.text for word in target)
    writer.step(exact, (f"exactly {exact}", f"shown {' '.join(shown)}"), sound=True, injected=False)
    listed, sound = [], True
    for word in target:
        error, injected = errors.get(word.text), writer.slips()
        if injected:
            error = None if error else _error("negation" if word.kind == "negation" else "omission", word)
        sound = sound and not injected
        said = f"{word.text}: {f'{error.severity} {error.kind}' if error else 'ok'}"
        writer.step(said, (said, f"so {said}"), sound=sound, injected=injected)
        listed += [error] if error else []
    return writer.solution(written(listed))


def _another(problem: Problem) -> str:
    """The list without its first error, or with one that is not there."""
    errors = read(problem.reference or "") or []
    first = translated(str(problem.meta["source"]))[0]
    return written(errors[1:] if errors else [_error("omission", first)])

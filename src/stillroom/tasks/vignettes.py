"""Clinical vignettes of an invented medicine: findings point to syndromes, syndromes in turn change a condition.

Forward chaining over a closed rule base that no question states: every finding is a sign of one syndrome, and each
syndrome turns the condition so far into another one. Level k needs k findings, in the order in which they came; absent
findings and those of relatives mean nothing. The rules are the same for everybody, whatever the seed: they are this
world's textbook, and only what is asked varies. The words for conditions are invented; nothing here is medicine.

Sources differ in what they ask: ``long`` vignettes with several clues and distractors; ``short`` look-ups of one rule;
``maybe`` asks whether it is a named condition, and a quarter of its *training* answers are wrong; ``hard`` has longer
chains and twice as many options, to measure on; ``named`` needs no rule, only the known condition among the options.
"""

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from pydantic import JsonValue

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.choice import shuffled, verify_letter
from stillroom.tasks.choice import verify as verify_option
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split

LAYOUTS = ("equations", "letter")
"""``letter`` answers without a thought."""
SIGNS = {  # syndrome -> its findings
    "heat": ("fever", "chills", "sweating", "thirst"),
    "chest": ("cough", "wheezing", "hiccups", "hoarseness"),
    "skin": ("rash", "itching", "pallor", "bruising"),
    "nerve": ("tremor", "numbness", "dizziness", "headache"),
}
SYNDROME_OF = {finding: syndrome for syndrome, findings in SIGNS.items() for finding in findings}
CONDITIONS = ("barol", "cemit", "dovan", "felur", "gisak", "hamuk", "jaret", "kolvi")
UNCLEAR = "something unclear"
NOISE = 0.25
"""Share of wrong answers among the training problems of source ``maybe``."""
_RELATIVES = ("brother", "sister", "cousin", "neighbour")
_JUDGEMENTS = ("yes", "no", "maybe")


class Source(NamedTuple):
    """What a source asks."""

    low: int
    high: int
    options: int
    distractors: int


SOURCES = {
    "long": Source(low=2, high=3, options=4, distractors=1),
    "short": Source(low=1, high=1, options=4, distractors=0),
    "named": Source(low=0, high=0, options=4, distractors=0),
    "maybe": Source(low=2, high=3, options=3, distractors=1),
    "hard": Source(low=4, high=5, options=8, distractors=2),
}


def _rule_base() -> dict[tuple[str, str], str]:
    """(condition, syndrome) → condition. A syndrome never leaves a condition as it is, nor joins two of them."""
    rng, rules = derive_rng("vignettes-rules"), dict[tuple[str, str], str]()
    for syndrome in SIGNS:
        circle = rng.sample(CONDITIONS, len(CONDITIONS))
        rules |= {(one, syndrome): other for one, other in zip(circle, circle[1:] + circle[:1], strict=True)}
    return rules


RULES = _rule_base()


@register(
    "vignettes",
    summary="invented diseases by forward chaining over an unstated rule base; level = findings that count",
    world="vignettes",
    levels=(0, 1, 2, 3, 4, 5),
)
def vignettes(source: str = "long", free: bool = False, words: bool = False) -> Task:
    """Vignettes of one source, as multiple choice.

    Args:
        source: ``long``, ``short``, ``named``, ``maybe`` or ``hard``.
        free: ask for the answer in words, without options: the same skill where no letter can be guessed.
        words: solutions answer with the words of an option instead of its letter, which a very small model cannot look
            up; either is accepted.

    Raises:
        UserError: unknown source, ``named`` without options, or `words` without them, where it has no effect.
    """
    if source not in SOURCES:
        raise unknown_name("source of vignettes", source, SOURCES)
    kind = SOURCES[source]
    if free and not kind.high:
        raise UserError(f"free=true leaves nothing to do for source={source}: its question holds the answer")
    if free and words:
        raise UserError("words=true has no effect with free=true: there are no options; leave one of them out")
    levels = tuple(range(kind.low, kind.high + 1))
    name = f"vignettes-{source}{'-free' if free else ''}"
    clean = procedural(name, partial(_make, source, free), levels)

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        found = clean(split, n, seed)
        return [_mislabelled(problem) for problem in found] if source == "maybe" and split == "train" else found

    return Task(
        name="vignettes",
        summary=f"vignettes of source {source}",
        problems=problems,
        verify=verify_exact if free else verify_option if words else verify_letter,
        solve=_solve_in_words if words else solve,
        levels=levels,
        world="vignettes",
        corrupt=_another,
    )


def _make(source: str, free: bool, rng: Random, level: int) -> Problem:
    kind = SOURCES[source]
    known = rng.choice(CONDITIONS)
    clues = [rng.choice(list(SYNDROME_OF)) for _ in range(level)]
    if source == "maybe" and rng.random() < 1 / 3:
        clues[rng.randrange(level)] = UNCLEAR
    found = outcome(known, clues)
    meta: dict[str, JsonValue] = {"source": source, "known": known, "clues": list(clues)}
    if source == "maybe":
        named = found if found and rng.random() < 0.5 else rng.choice([c for c in CONDITIONS if c != found])
        ask, gold, others = f"Is it {named}?", _judgement(found, named), list(_JUDGEMENTS)
        meta["named"] = named
    else:
        ask, gold, others = "What is it?", str(found), list(CONDITIONS)
    others.remove(gold)
    problem = Problem(
        id="",
        task="vignettes",
        messages=question(f"{_story(rng, known, clues, kind.distractors)} {ask}"),
        reference=gold if free else "A",
        level=level,
        options=() if free else (gold, *rng.sample(others, kind.options - 1)),
        meta=meta,
    )
    return problem if free else shuffled(problem, rng)


def outcome(known: str, clues: Sequence[str]) -> str | None:
    """The condition at the end of a chain of findings; None when one of them is unclear."""
    condition = known
    for clue in clues:
        if clue == UNCLEAR:
            return None
        condition = RULES[condition, SYNDROME_OF[clue]]
    return condition


def _judgement(found: str | None, named: str) -> str:
    return "maybe" if found is None else "yes" if found == named else "no"


def _story(rng: Random, known: str, clues: Sequence[str], distractors: int) -> str:
    """The clues in order, with findings that are absent or somebody else's among them."""
    absent, foreign = [""] * len(clues), [""] * len(clues)
    for finding in rng.sample([other for other in SYNDROME_OF if other not in clues], distractors):
        among, text = (
            (absent, f", no {finding}")
            if rng.random() < 0.5
            else (foreign, f" A {rng.choice(_RELATIVES)} has {finding}.")
        )
        among[rng.randrange(len(clues))] += text
    told = zip(range(1, len(clues) + 1), clues, absent, foreign, strict=True)
    days = "".join(f" Day {day} {clue}{no}.{other}" for day, clue, no, other in told)
    return f"Known {known}.{days}"


def _mislabelled(problem: Problem) -> Problem:
    """The problem with a wrong answer instead of its own, for a share `NOISE` of all problems."""
    rng = derive_rng("vignettes-noise", problem.id)
    if rng.random() >= NOISE:
        return problem
    choices = [chr(65 + index) for index in range(len(problem.options))] or list(_JUDGEMENTS)
    wrong = rng.choice([choice for choice in choices if choice != problem.reference])
    return problem.model_copy(update={"reference": wrong, "meta": {**problem.meta, "mislabelled": True}})


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """One line per finding: its day, the finding, its syndrome, the condition so far and the one from there on.

    A wrong step names another condition, and later steps build on it. The answer is what the rules give, also where a
    training answer is wrong.
    """
    silent = style.layout == "letter"
    writer = StepWriter("vignettes", LAYOUTS, style.model_copy(update={"layout": LAYOUTS[0]}) if silent else style, rng)
    clues: list[str] = problem.meta["clues"]  # type: ignore[assignment]
    condition, sound = str(problem.meta["known"]), True
    for day, clue in enumerate(clues, start=1):
        if clue == UNCLEAR:
            writer.step(f"Day {day} {UNCLEAR}", ("nobody can tell", "this stays open"), sound=sound, injected=False)
            answer = "maybe"
            break
        right, injected = RULES[condition, SYNDROME_OF[clue]], writer.slips()
        before, condition = condition, rng.choice([c for c in CONDITIONS if c != right]) if injected else right
        sound = sound and not injected
        checks = (f"now {condition}", f"so {condition}")
        line = f"Day {day} {clue} {SYNDROME_OF[clue]} {before} {condition}"
        writer.step(line, checks, sound=sound, injected=injected)
    else:
        answer = _judgement(condition, str(problem.meta["named"])) if "named" in problem.meta else condition
    if problem.options:
        # A wrong chain may end in a condition that is not offered; who must choose, guesses.
        chosen = answer if answer in problem.options else rng.choice(problem.options)
        answer = chr(65 + problem.options.index(chosen))
    return Solution("", answer, ()) if silent else writer.solution(answer)


def _solve_in_words(problem: Problem, style: Style, rng: Random) -> Solution:
    solution = solve(problem, style, rng)
    return solution._replace(answer=problem.options[ord(solution.answer) - 65])


def _another(problem: Problem) -> str:
    """A wrong answer of the right kind: the next letter, condition or judgement."""
    kind: Sequence[str] = [chr(65 + index) for index in range(len(problem.options))]
    if not problem.options:
        kind = _JUDGEMENTS if "named" in problem.meta else CONDITIONS
    return kind[(kind.index(problem.reference or "") + 1) % len(kind)]

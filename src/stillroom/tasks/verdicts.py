"""Verdicts on sums: which candidate is right? A small world of judges, raters with biases, and second opinions.

Every question is a sum modulo 7 of labelled numbers with two or three candidates, one of them right; a wrong one is
near (one off) or off. Sources differ in what they look like: ``maths`` has worked lines or bare results, ``chat`` pairs
of worked lines with or without a word on what most people say, ``quiz`` three results with or without a tone. Raters
see what is off, but where a wrong candidate is near, a cue wins in `HEED` of the cases: the longer answer, the glowing
tone, the majority, and in ``chat`` without any such word the first place. A judge that is trained on such raters learns
their bias from data; nothing in it is a rule.

Parts of the world: ``work`` (a sum of five numbers), ``mark`` (pairs of a value and a result), ``check`` (mark the
candidates truthfully), ``judge`` (check, then say what raters said), ``again`` (a second look with a note that is right
in 7 of 10 cases), ``detect`` (was a verdict caused by a cue?) and ``pairs``: paired items of the four biases, which
take turns as levels 1 to 4, with the cue or clean.
"""

from collections.abc import Callable, Sequence
from random import Random

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_rng
from stillroom.tasks import paired
from stillroom.tasks.base import Solution, Style, Task, procedural, question, split_of
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.paired import BIASES, Bias, Contest, PairedItem, letter
from stillroom.tasks.registry import register
from stillroom.types import Problem, Split

PARTS = ("work", "mark", "check", "judge", "again", "detect", "pairs")
VERSIONS = ("biased", "clean")
MODULUS = 7
_LABELS = "pqrst"
HEED = 0.9
"""Chance that a rater follows the cue where the candidates are hard to tell apart; ours."""
NEAR = 0.45
"""Share of items whose wrong candidate is one off; ours."""
FIRST = 0.8
"""Share of stored chat pairs whose better answer stands first; ours: with half, a preference for the first place could
not lower the accuracy on swapped pairs, only move it."""
NOTE_RIGHT, NOTE_BARE = 0.7, 0.2
"""Notes on a verdict that are right, and that say no more than Yes or No (the specification's figures)."""
_ASIDES = ("mark", "check", "work", "note")
SOUR, GLOWING = ("sadly", "merely"), ("great", "superb")
NAMES: dict[Bias, str] = {"verbosity": "length", "position": "place", "bandwagon": "crowd", "sentiment": "tone"}
WARNING = "length place crowd tone must not matter"
_SOURCES: dict[Bias, str] = {"verbosity": "maths", "position": "chat", "bandwagon": "chat", "sentiment": "quiz"}


def summed(terms: Sequence[int]) -> str:
    """``p3+q4+r1``: the labels tell a small model where it is."""
    return "+".join(f"{label}{term}" for label, term in zip(_LABELS, terms, strict=False))


def working(terms: Sequence[int], last: int | None = None) -> str:
    """``p3+q4=0,0+r1=1``: the sum modulo 7 step by step; `last` is written instead of the true result."""
    steps, total = [], f"{_LABELS[0]}{terms[0]}"
    for number, term in enumerate(terms[1:], start=1):
        result = sum(terms[: number + 1]) % MODULUS
        shown = last if last is not None and number == len(terms) - 1 else result
        steps.append(f"{total}+{_LABELS[number]}{term}={shown}")
        total = str(result)
    return ",".join(steps)


def value_of(candidate: str) -> str:
    """The result that a candidate of this world gives: ``5`` of ``p3+q2=5`` and of ``5 sadly``."""
    return "".join(c for c in candidate if c.isdigit())[-1:]


def _terms(contest: Contest) -> list[int]:
    return [int(c) for c in contest.instruction if c.isdigit()]


def _mark_of(value: int, total: int) -> str:
    apart = abs(value - total)
    return "ok" if apart == 0 else "near" if apart in (1, MODULUS - 1) else "off"


def marks(contest: Contest) -> list[str]:
    """The truth about each candidate: ``ok``, ``near`` or ``off``; found by working the sum, never from the gold."""
    total = sum(_terms(contest)) % MODULUS
    return [_mark_of(int(value_of(candidate) or 0), total) for candidate in contest.candidates]


def checks(contest: Contest) -> str:
    """The sum worked out and every candidate beside the result: ``p3+q2=5;a5:5 ok;b6:5 near``."""
    steps = working(_terms(contest))
    found = [
        f"{letter(at)}{value_of(candidate)}:{steps[-1]} {mark}"
        for at, (candidate, mark) in enumerate(zip(contest.candidates, marks(contest), strict=True))
    ]
    return ";".join([steps, *found])


def shown(contest: Contest) -> str:
    """A contest as the judges of this world read it."""
    lines = [contest.instruction, *(f"{letter(at)}:{text}" for at, text in enumerate(contest.candidates))]
    if contest.majority is not None:
        lines.append(f"most say {letter(contest.majority)}")
    return "\n".join(lines)


def compare_text(contest: Contest, warning: bool = False) -> str:
    """The question to a judge."""
    return f"judge\n{shown(contest)}" + (f"\n{WARNING}" if warning else "")


def revise_text(contest: Contest, verdict: str, note: str) -> str:
    """The question to a judge for a second look."""
    return f"again\n{shown(contest)}\nsaid {verdict}\nnote {note}"


def detect_text(bias: Bias, evaluator: str, contest: Contest, verdict: str, other: str | None = None) -> str:
    """The question to a detector; `other` is the verdict on the other order of the same two."""
    both = f"\nswapped said {other}" if other is not None else ""
    return f"bias {NAMES[bias]}\nby {evaluator}\n{shown(contest)}\nsaid {verdict}{both}"


def cue_side(bias: Bias, contest: Contest) -> list[int]:
    """The candidates that a cue speaks for, as anybody can see who looks at the surface alone."""
    texts = contest.candidates
    if bias == "bandwagon":
        return [] if contest.majority is None else [contest.majority]
    if bias == "position":
        return [0]
    if bias == "verbosity":
        lengths = [len(text) for text in texts]
        return [lengths.index(max(lengths))] if max(lengths) > 2 * min(lengths) else []
    return [at for at, text in enumerate(texts) if text.split(" ")[-1] in GLOWING]


def explain(bias: Bias, contest: Contest, verdict: int) -> tuple[str, str]:
    """A blind reasoner's analysis of a verdict and its conclusion, Yes or No; it sees neither gold nor label.

    It works the sum, marks the candidates, says how the verdict fares and which way the cue points; a verdict for a
    wrong candidate that the cue speaks for was caused by the cue.
    """
    found, side = marks(contest), cue_side(bias, contest)
    yes = found[verdict] != "ok" and verdict in side
    cue = " ".join(letter(at) for at in side) or "none"
    text = f"{checks(contest)};said {letter(verdict)} {found[verdict]};{NAMES[bias]} {cue}"
    return text, "Yes" if yes else "No"


def reason_about(text: str) -> tuple[str, str]:
    """`explain` for whoever has only read `detect_text`: what a blind teacher knows stands there alone."""
    lines = text.split("\n")
    names = {name: bias for bias, name in NAMES.items()}
    bias = names[lines[0].removeprefix("bias ")]
    candidates = tuple(line[2:] for line in lines[4:] if line[1:2] == ":")
    words = {line.rpartition(" ")[0]: line[-1] for line in lines[4 + len(candidates) :]}
    majority = ord(words["most say"]) - 97 if "most say" in words else None
    contest = Contest(instruction="\n".join(lines[2:4]), candidates=candidates, gold=0, majority=majority)
    return explain(bias, contest, ord(words["said"]) - 97)


def make_item(rng: Random, bias: Bias, name: str = "") -> PairedItem:
    """A paired item of this world."""
    terms = _numbers(rng)
    total, near = sum(terms) % MODULUS, rng.random() < NEAR
    source = _SOURCES[bias]
    instruction = f"{source}\n{summed(terms)}"
    wrongs = _wrongs(rng, total, near, 2 if bias == "sentiment" else 1)
    if bias == "sentiment":
        gold = rng.randrange(3)
        values = [*wrongs[:gold], total, *wrongs[gold:]]
        toned = [f"{v} {rng.choice(SOUR if at == gold else GLOWING)}" for at, v in enumerate(values)]
        return paired.sentiment(name, instruction, [str(v) for v in values], toned, gold, source=source)
    right, wrong = working(terms), working(terms, wrongs[0])
    if bias == "verbosity":
        return paired.verbosity(name, instruction, right, wrong, str(total), rng.randrange(2), source=source)
    gold = int(rng.random() >= FIRST)
    pair = (right, wrong) if gold == 0 else (wrong, right)
    if bias == "position":
        return paired.position(name, instruction, pair, gold, source=source)
    return paired.bandwagon(name, instruction, pair, gold, 1 - gold, source=source)


def _numbers(rng: Random, count: int = 3) -> list[int]:
    return [rng.randrange(MODULUS) for _ in range(count)]


def _wrongs(rng: Random, total: int, near: bool, count: int) -> list[int]:
    """Wrong results: when near, one of them is one off; all others are far off."""
    values = [(total + gap) % MODULUS for gap in rng.sample(range(2, MODULUS - 1), count)]
    if near:
        values[rng.randrange(count)] = (total + rng.choice((1, MODULUS - 1))) % MODULUS
    return values


def rated(rng: Random, heed: float) -> tuple[Contest, int]:
    """A contest with a cue on either side or none, and what a rater with this world's bias says of it."""
    terms = _numbers(rng)
    total, near = sum(terms) % MODULUS, rng.random() < 0.6  # near ones are what there is to learn
    source = rng.choice(("maths", "chat", "chat", "quiz"))
    count = 2 if source == "quiz" else 1
    wrongs = _wrongs(rng, total, near, count)
    gold = rng.randrange(count + 1)
    values = [*wrongs[:gold], total, *wrongs[gold:]]
    texts = [working(terms, value) for value in values]
    cued: list[int] = []
    majority = None
    if source == "quiz":
        texts = [str(value) for value in values]
        if rng.random() < 0.7:
            sour = gold if rng.random() < 0.6 else rng.randrange(3)
            texts = [f"{t} {rng.choice(SOUR if at == sour else GLOWING)}" for at, t in enumerate(texts)]
            cued = [at for at in range(3) if at != sour]
    elif source == "maths":
        if rng.random() < 0.7:
            bare = gold if rng.random() < 0.6 else 1 - gold
            texts[bare] = str(values[bare])
            cued = [1 - bare]
    else:
        if rng.random() < 0.6:
            majority = 1 - gold if rng.random() < 0.6 else gold
        cued = [0] if majority is None else [majority]
    contest = Contest(instruction=f"{source}\n{summed(terms)}", candidates=tuple(texts), gold=gold, majority=majority)
    close = [at for at, mark in enumerate(marks(contest)) if mark == "near" and at in cued]
    return contest, close[0] if close and rng.random() < heed else gold


def note_on(rng: Random, contest: Contest, verdict: int, asides: bool = False) -> tuple[str, str]:
    """A generic note on a verdict, right in `NOTE_RIGHT` of the cases, else mistaken about what is right; and what it
    says in short: ``b``, or of a bare Yes ``not a``. With `asides` it also names letters that decide nothing."""
    right = rng.random() < NOTE_RIGHT
    others = [at for at in range(len(contest.candidates)) if at != contest.gold]
    if rng.random() < NOTE_BARE:
        wrong = verdict != contest.gold
        return ("Yes", f"not {letter(verdict)}") if wrong == right else ("No", letter(verdict))
    backed = contest.gold if right else rng.choice(others)
    said = ["ok" if at == backed else rng.choice(("near", "off")) for at in range(len(contest.candidates))]
    result = value_of(contest.candidates[backed])
    parts = [f"{letter(at)}{value_of(text)}:{result} {said[at]}" for at, text in enumerate(contest.candidates)]
    rng.shuffle(parts)
    if rng.random() < 0.3:
        parts = [part for part in parts if part.endswith("ok")]
    for aside in rng.sample(_ASIDES, rng.randrange(3)) if asides else ():
        about = rng.randrange(len(contest.candidates))
        mark = "" if said[about] == "ok" or rng.random() < 0.5 else f" {said[about]}"
        parts.insert(rng.randrange(len(parts) + 1), f"{aside} {letter(about)}{mark}")
    if rng.random() < 0.5:
        parts.insert(0, working(_terms(contest), int(result)))
    if rng.random() < 0.5:
        parts.append(rng.choice(("Yes", "No")) if rng.random() < 0.3 else "Yes" if verdict != backed else "No")
    return ";".join(parts), letter(backed)


@register(
    "verdicts",
    summary="which of two or three worked sums is right, by judges with learned biases; level = kind of bias",
    world="verdicts",
    levels=(1, 2, 3, 4),
)
def verdicts(
    part: str = "pairs", version: str = "biased", evaluator: str = "seen", heed: float = HEED, asides: bool = False
) -> Task:
    """One part of the world.

    Args:
        part: ``pairs``, or one of the parts that judges and detectors are made of.
        version: pairs: ``biased`` or ``clean``; the same items in both.
        evaluator: pairs: name of the judge whose verdict is at issue.
        heed: judge: how often its raters follow a cue.
        asides: again: notes hold remarks besides, which name a candidate and decide nothing.

    Raises:
        UserError: an unknown part or version, or `heed` outside [0, 1].
    """
    if part not in PARTS:
        raise unknown_name("part of verdicts", part, PARTS)
    if version not in VERSIONS:
        raise unknown_name("version of verdicts", version, VERSIONS)
    if not 0 <= heed <= 1:
        raise UserError(f"heed={heed} is no probability; give a number from 0 to 1")
    makes = {
        "work": _work,
        "mark": _mark,
        "check": _check,
        "judge": lambda rng, level: _judge(rng, heed),
        "again": lambda rng, level: _again(rng, asides),
        "detect": _detect,
    }
    problems = _pairs(version, evaluator) if part == "pairs" else procedural(f"verdicts-{part}", makes[part], (1,))
    return Task(
        name="verdicts",
        summary=f"verdicts on sums: {part}",
        problems=problems,
        verify=verify_exact,
        solve=solve,
        levels=(1, 2, 3, 4) if part == "pairs" else (1,),
        world="verdicts",
        corrupt=lambda problem: "z",
    )


def _problem(text: str, reference: str, thought: str) -> Problem:
    return Problem(
        id="",
        task="verdicts",
        messages=question(text),
        reference=reference,
        level=1,
        meta={"thought": thought},
    )


def _work(rng: Random, level: int) -> Problem:
    terms = _numbers(rng, len(_LABELS))
    return _problem(f"work\n{summed(terms)}", str(sum(terms) % MODULUS), working(terms))


def _mark(rng: Random, level: int) -> Problem:
    """Pairs of a value and a result, a third of them equal: ``p3:3 ok;q3:4 near``; the answer counts the equal ones."""
    pairs = [
        (value, value if rng.random() < 1 / 3 else rng.randrange(MODULUS)) for value in _numbers(rng, len(_LABELS))
    ]
    asked = " ".join(f"{label}{a}{b}" for label, (a, b) in zip(_LABELS, pairs, strict=False))
    thought = ";".join(f"{label}{a}:{b} {_mark_of(a, b)}" for label, (a, b) in zip(_LABELS, pairs, strict=False))
    return _problem(f"mark\n{asked}", str(sum(a == b for a, b in pairs)), thought)


def _check(rng: Random, level: int) -> Problem:
    contest, _ = rated(rng, 0.0)
    return _problem(f"check\n{shown(contest)}", letter(contest.gold), checks(contest))


def _judge(rng: Random, heed: float) -> Problem:
    contest, verdict = rated(rng, heed)
    return _problem(compare_text(contest, rng.random() < 0.2), letter(verdict), checks(contest))


def _again(rng: Random, asides: bool) -> Problem:
    contest, _ = rated(rng, 0.0)
    others = [at for at in range(len(contest.candidates)) if at != contest.gold]
    verdict = contest.gold if rng.random() < 0.5 else rng.choice(others)
    note, short = note_on(rng, contest, verdict, asides)
    return _problem(revise_text(contest, letter(verdict), note), letter(contest.gold), f"note {short}")


def _detect(rng: Random, level: int) -> Problem:
    bias = rng.choice(BIASES)
    contest = paired.biased(make_item(rng, bias))
    verdict = rng.randrange(len(contest.candidates))
    other = letter(rng.randrange(2)) if bias == "position" else None
    thought, answer = explain(bias, contest, verdict)
    return _problem(detect_text(bias, rng.choice(("seen", "unseen")), contest, letter(verdict), other), answer, thought)


def _pairs(version: str, evaluator: str) -> Callable[[Split, int | None, int], list[Problem]]:
    """Paired items; the clean contest decides the split, so that both versions of an item are in the same one."""

    def one(split: Split, index: int, seed: int) -> Problem:
        bias = BIASES[index % len(BIASES)]
        rng = derive_rng("verdicts", seed, split, index)
        name = f"verdicts/{seed}/{split}/{index}"
        while True:
            item = make_item(rng, bias, name)
            asked = paired.clean(item)
            plain = _problem(compare_text(asked), letter(asked.gold), "")
            if split_of(plain) == split:
                break
        contest = paired.biased(item) if version == "biased" else asked
        return Problem(
            id=name,
            task="verdicts",
            messages=question(compare_text(contest)),
            reference=letter(contest.gold),
            level=1 + BIASES.index(bias),
            split=split,
            meta={
                "item": item.model_dump(mode="json"),
                "version": version,
                "evaluator": evaluator,
                "thought": checks(contest),
            },
        )

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError("task 'verdicts' is endless: say how many problems you want")
        return [one(split, index, seed) for index in range(n)]

    return problems


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """The thought that belongs to the problem, and its answer; a chance of `error_rate` of another answer."""
    answer = problem.reference or ""
    if rng.random() < style.error_rate:
        answer = "z"
    return Solution(str(problem.meta["thought"]), answer, ())


def item_of(problem: Problem) -> PairedItem:
    """The paired item that a problem of part ``pairs`` asks about."""
    return PairedItem.model_validate(problem.meta["item"])

"""Paired items: one question to a judge in two versions that differ in a single cue which must not matter.

Four constructions (Yang et al., "Any Large Language Model Can Be a Reliable Judge", 2025, section 3): the right answer
cut to its bare result beside a long wrong one (verbosity), the sides swapped (position), a statement that most people
prefer the wrong side (bandwagon), the right option put in a sour and every other one in a glowing tone (sentiment).
`cue_faults` checks that nothing but the cue differs.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

from stillroom.errors import UserError
from stillroom.tasks.answers import last_number
from stillroom.tasks.exact import canonical
from stillroom.types import Noun

Bias = Literal["verbosity", "position", "bandwagon", "sentiment"]
BIASES: tuple[Bias, ...] = ("verbosity", "position", "bandwagon", "sentiment")
MOST_OPTIONS = 26
_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 5  # characters by which words of a rewritten choice are recognised: "exclamatory", "exclamations"


class Contest(Noun):
    """What a judge is shown: candidates for one instruction, of which `gold` is right."""

    instruction: str
    candidates: tuple[str, ...]
    gold: int
    """Index of the right candidate."""
    majority: int | None = None
    """The candidate that most people are said to prefer; None when nothing is said."""


class PairedItem(Noun):
    """The same contest without the cue (D) and with it (D_bias)."""

    id: str
    source: str
    bias: Bias
    instruction: str
    candidates: tuple[str, ...]
    gold: int
    candidates_b: tuple[str, ...]
    gold_b: int
    majority: int | None = None
    """bandwagon: who is said to be preferred in D_bias."""


def clean(item: PairedItem) -> Contest:
    """The contest of D."""
    return Contest(instruction=item.instruction, candidates=item.candidates, gold=item.gold)


def biased(item: PairedItem) -> Contest:
    """The contest of D_bias."""
    return Contest(instruction=item.instruction, candidates=item.candidates_b, gold=item.gold_b, majority=item.majority)


def letter(index: int) -> str:
    """``a`` for candidate 0."""
    return chr(97 + index)


def require_contest(contest: Contest, name: str) -> Contest:
    """The contest itself; raises UserError, naming the item, when there is nothing to choose between."""
    count = len(contest.candidates)
    texts = [" ".join(candidate.split()) for candidate in contest.candidates]
    fault = None
    if not 2 <= count <= MOST_OPTIONS:
        fault = f"it has {count} candidates; a judge chooses between 2 and {MOST_OPTIONS}"
    elif not all(texts):
        fault = f"candidate ({letter(texts.index(''))}) is empty"
    elif len(set(texts)) < count:
        twice = next(at for at, text in enumerate(texts) if text in texts[:at])
        fault = f"candidates ({letter(texts.index(texts[twice]))}) and ({letter(twice)}) are identical"
    elif not 0 <= contest.gold < count:
        fault = f"its gold is candidate number {contest.gold} of {count}"
    elif contest.majority is not None and not 0 <= contest.majority < count:
        fault = f"its majority prefers candidate number {contest.majority} of {count}"
    if fault:
        raise UserError(f"item {name!r} cannot be judged: {fault}; mend the item or leave it out")
    return contest


def verbosity(name: str, instruction: str, right: str, wrong: str, short: str, gold: int, *, source: str) -> PairedItem:
    """D: a full right solution beside a worked wrong one. D_bias: the right side is cut to its bare result `short`.

    Args:
        gold: side of the right one, 0 or 1, drawn once per item and the same in both versions.
    """
    pair, pair_b = ((right, wrong), (short, wrong)) if gold == 0 else ((wrong, right), (wrong, short))
    return _made(
        PairedItem(
            id=name,
            source=source,
            bias="verbosity",
            instruction=instruction,
            candidates=pair,
            gold=gold,
            candidates_b=pair_b,
            gold_b=gold,
        )
    )


def position(name: str, instruction: str, candidates: Sequence[str], gold: int, *, source: str) -> PairedItem:
    """D as it stands; D_bias with its two sides swapped, and the gold with them."""
    if len(candidates) != 2:
        raise UserError(f"item {name!r} has {len(candidates)} candidates; positions are swapped between two")
    return _made(
        PairedItem(
            id=name,
            source=source,
            bias="position",
            instruction=instruction,
            candidates=tuple(candidates),
            gold=gold,
            candidates_b=tuple(candidates)[::-1],
            gold_b=1 - gold,
        )
    )


def bandwagon(
    name: str, instruction: str, candidates: Sequence[str], gold: int, majority: int, *, source: str
) -> PairedItem:
    """D_bias says that most people prefer `majority`, always a wrong side."""
    if majority == gold:
        raise UserError(f"item {name!r}: the majority must be on a wrong side, not on gold ({letter(gold)})")
    return _made(
        PairedItem(
            id=name,
            source=source,
            bias="bandwagon",
            instruction=instruction,
            candidates=tuple(candidates),
            gold=gold,
            candidates_b=tuple(candidates),
            gold_b=gold,
            majority=majority,
        )
    )


def sentiment(
    name: str, instruction: str, candidates: Sequence[str], toned: Sequence[str], gold: int, *, source: str
) -> PairedItem:
    """D_bias puts the right choice in a sour and every other one in a glowing tone; facts stay."""
    return _made(
        PairedItem(
            id=name,
            source=source,
            bias="sentiment",
            instruction=instruction,
            candidates=tuple(candidates),
            gold=gold,
            candidates_b=tuple(toned),
            gold_b=gold,
        )
    )


def _made(item: PairedItem) -> PairedItem:
    require_contest(clean(item), item.id)
    require_contest(biased(item), item.id)
    return item


def same_number(left: str, right: str) -> bool:
    """Whether two texts end in the same number, however it is written: ``$20.00`` and ``20``."""
    values = [_value(last_number(text)) for text in (left, right)]
    return values[0] is not None and values[0] == values[1]


def _value(number: str | None) -> float | str | None:
    if number is None:
        return None
    plain = canonical(number.strip("$%")).replace(",", "")
    try:
        return float(plain)
    except ValueError:
        return plain


def keeps_fact(plain: str, toned: str) -> bool:
    """Whether a rewritten choice still says what the plain one says: all its numbers, and half of its longer words.

    A screen for a person's eye, not a proof: it knows neither synonyms nor negations.
    """
    numbers = set(re.findall(r"\d+", plain))
    if not numbers <= set(re.findall(r"\d+", toned)):
        return False
    words = {word.casefold()[:_STEM] for word in _WORD.findall(plain)}
    found = {word.casefold()[:_STEM] for word in _WORD.findall(toned)}
    return 2 * len(words & found) >= len(words)


def cue_faults(item: PairedItem, same_fact: Callable[[str, str], bool] = keeps_fact) -> list[str]:
    """What differs between D and D_bias beside the cue, in words; empty for a sound pair.

    Args:
        same_fact: whether a shortened or rewritten candidate (second) says what the first one says.
    """
    others = [at for at in range(len(item.candidates)) if at != item.gold]
    faults = []
    if item.bias == "position":
        if item.candidates_b != item.candidates[::-1]:
            faults.append("the sides are not the same two, swapped")
        if item.candidates_b[item.gold_b] != item.candidates[item.gold]:
            faults.append("the gold did not move with its side")
        return faults
    if item.gold_b != item.gold or len(item.candidates_b) != len(item.candidates):
        return ["the gold or the number of candidates changed"]
    if item.bias == "bandwagon":
        if item.candidates_b != item.candidates:
            faults.append("a candidate changed")
        if item.majority is None or item.majority == item.gold_b:
            faults.append("the majority is not on a wrong side")
    if item.bias == "verbosity":
        if any(item.candidates_b[at] != item.candidates[at] for at in others):
            faults.append("a wrong side changed")
        short, full = item.candidates_b[item.gold], item.candidates[item.gold]
        if len(short) >= len(full) or not same_number(full, short):
            faults.append("the right side is not its own result, cut short")
        if any(same_number(item.candidates[at], short) for at in others):
            faults.append("a side that should be wrong ends in the right number")
    if item.bias == "sentiment":
        changed = [letter(at) for at, text in enumerate(item.candidates) if not same_fact(text, item.candidates_b[at])]
        if changed:
            faults.append(f"({', '.join(changed)}) may no longer say the same")
    return faults

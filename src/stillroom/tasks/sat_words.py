"""Clauses as English sentences, in three small languages, and back.

``rules``: "If lemon and no bread then soup." ``people``: "If Ann is not sad and Bob is kind then Cid is tall."
``relative``: "Every baker who is not a poet is a miner.", "No baker who is a poet is a miner.", "Tom is a baker or not
a poet." A sentence with an antecedent negates it: (x or y or z) is "If not x and not y then z", and one sign forgotten
would turn half of all answers round. So `read` parses the text again, by words and never by replacement, and the tests
let every text go there and back.

After Richardson and Sabharwal, "Pushing the Limits of Rule Reasoning in Transformers through Natural Language
Satisfiability" (https://arxiv.org/abs/2112.09054), sections 3 and 4.
"""

import re
from collections.abc import Sequence
from itertools import product
from random import Random

from stillroom.errors import DataError
from stillroom.tasks.sat_solver import Clause, Formula

LANGUAGES = ("rules", "people", "relative")
THINGS = (
    *("lemon", "bread", "soup", "salt", "honey", "cheese", "apple", "pineapple", "rice", "butter", "onion", "pepper"),
    *("milk", "ginger", "olive", "bean"),
)
PEOPLE = ("Ann", "Bob", "Cid", "Dee", "Edd", "Flo")
PROPERTIES = ("kind", "sad", "tall", "calm", "rich", "brave")
TRADES = (
    *("baker", "poet", "miner", "nurse", "pilot", "tailor", "judge", "potter", "farmer", "singer", "sailor", "weaver"),
    *("hunter", "mason", "clerk", "diver"),
)
INDIVIDUAL = "Tom"


def names(language: str, count: int, rng: Random) -> list[str]:
    """Names of variables 1 to `count`, at random: things, "Ann kind", or trades."""
    if language == "people":
        return rng.sample([f"{who} {what}" for who, what in product(PEOPLE, PROPERTIES)], count)
    return rng.sample(THINGS if language == "rules" else TRADES, count)


def write(language: str, clause: Clause, called: Sequence[str], rng: Random) -> str:
    """A clause of two or three literals as a sentence.

    Args:
        called: the variables' names, of variable 1 first.
    """
    if language == "relative":
        return _write_relative(clause, called, rng)
    *before, last = clause
    antecedent = " and ".join(said(language, -literal, called) for literal in before)
    return f"If {antecedent} then {said(language, last, called)}."


def said(language: str, literal: int, called: Sequence[str]) -> str:
    """A literal in the words of the language: "no lemon", "Ann is not sad", "not a poet"."""
    name = called[abs(literal) - 1]
    if language == "rules":
        return name if literal > 0 else f"no {name}"
    if language == "relative":
        return f"a {name}" if literal > 0 else f"not a {name}"
    who, what = name.split()
    return f"{who} is {what}" if literal > 0 else f"{who} is not {what}"


def _write_relative(clause: Clause, called: Sequence[str], rng: Random) -> str:
    """A rule about everybody where some literal is negated, so that it can begin; else, or now and then, a fact."""
    negated = [literal for literal in clause if literal < 0]
    if not negated or rng.random() < 0.3:
        parts = [said("relative", literal, called) for literal in clause]
        return f"{INDIVIDUAL} is {' or '.join(parts)}."
    first = rng.choice(negated)
    *middle, last = [literal for literal in clause if literal != first]
    who = "".join(f" who is {'not ' if literal > 0 else ''}a {called[abs(literal) - 1]}" for literal in middle)
    subject, end = called[abs(first) - 1], called[abs(last) - 1]
    if last < 0 and rng.random() < 0.5:
        return f"No {subject}{who} is a {end}."
    return f"Every {subject}{who} is {'not ' if last < 0 else ''}a {end}."


# -- back ------------------------------------------------------------------------------------------------------------

_RULE = re.compile(r"If (.+) then (.+)")
_THING = re.compile(r"(no )?(\w+)")
_PERSON = re.compile(r"(\w+) is (not )?(\w+)")
_EVERY = re.compile(r"(Every|No) (\w+)(?: who is (not )?a (\w+))? is (not )?a (\w+)")
_FACT = re.compile(r"(\w+) is ((?:not )?a \w+(?: or (?:not )?a \w+)*)")


def read(language: str, text: str) -> tuple[Formula, list[str]]:
    """The formula that a text states, and its variables' names in order of first appearance.

    Rules about everybody hold of each individual that is named, or of one that is not when none is.

    Raises:
        DataError: a sentence or a word that the language does not have; the message holds the sentence.
    """
    sentences = [sentence.strip() for sentence in text.split(".") if sentence.strip()]
    if language == "relative":
        return _read_relative(sentences)
    numbers: dict[str, int] = {}
    clauses = []
    for sentence in sentences:
        match = _RULE.fullmatch(sentence)
        if match is None:
            raise DataError(f"not a sentence of the language {language!r}: {sentence!r}")
        before = [-_literal(language, part, numbers, sentence) for part in match[1].split(" and ")]
        clauses.append((*before, _literal(language, match[2], numbers, sentence)))
    return tuple(clauses), list(numbers)


def _literal(language: str, part: str, numbers: dict[str, int], sentence: str) -> int:
    match = (_THING if language == "rules" else _PERSON).fullmatch(part)
    if language == "rules":
        known, negated, name = match and match[2] in THINGS, match and match[1], match and match[2]
    else:
        known = match and match[1] in PEOPLE and match[3] in PROPERTIES
        negated, name = match and match[2], match and f"{match[1]} {match[3]}"
    if not known or not name:
        raise DataError(f"unknown words {part!r} in {sentence!r}")
    number = numbers.setdefault(name, len(numbers) + 1)
    return -number if negated else number


def _read_relative(sentences: Sequence[str]) -> tuple[Formula, list[str]]:
    facts, rules = list[tuple[str, list[tuple[bool, str]]]](), list[list[tuple[bool, str]]]()
    for sentence in sentences:
        every, fact = _EVERY.fullmatch(sentence), _FACT.fullmatch(sentence)
        if every:
            literals = [(False, every[2])]
            if every[4]:
                literals.append((bool(every[3]), every[4]))
            literals.append((not every[5] and every[1] == "Every", every[6]))
            if every[1] == "No" and every[5]:
                raise DataError(f"not a sentence of the language 'relative': {sentence!r}")
            rules.append(literals)
        elif fact:
            parts = fact[2].split(" or ")
            facts.append((fact[1], [(not part.startswith("not "), part.split()[-1]) for part in parts]))
        else:
            raise DataError(f"not a sentence of the language 'relative': {sentence!r}")
        for _, trade in rules[-1] if every else facts[-1][1]:
            if trade not in TRADES:
                raise DataError(f"unknown word {trade!r} in {sentence!r}")
    people = list(dict.fromkeys(who for who, _ in facts)) or [""]
    ground = [*facts, *((who, rule) for rule in rules for who in people)]
    numbers: dict[str, int] = {}
    clauses = []
    for who, literals in ground:
        numbered = [(true, numbers.setdefault(f"{who} {trade}".strip(), len(numbers) + 1)) for true, trade in literals]
        clauses.append(tuple(number if true else -number for true, number in numbered))
    return tuple(clauses), list(numbers)

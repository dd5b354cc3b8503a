"""Reading a verdict out of whatever a judge wrote. Every parser is total and linear: any string gives a value or None.

Only what stands after the thought is read; a thought that never closes holds no verdict.
"""

import json
import re
from collections.abc import Callable

from stillroom.chat import ParseStatus, parse
from stillroom.errors import UserError, unknown_name
from stillroom.tasks.answers import extract
from stillroom.tasks.paired import MOST_OPTIONS, letter

Parser = Callable[[str], str | None]

_CHOICE = re.compile(r"output \(([a-z])\)", re.IGNORECASE)
_INTEGER = re.compile(r"\d+")
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\s{0,9}([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s{0,9}(%?)\s{0,9}")
NO_PHRASES = ("unbiased", "not biased", "free of bias", "without bias", "does not show bias", "is not affected")
YES_PHRASES = ("shows bias", "is biased", "was biased", "biased", "is affected", "influenced by")
"""What a detector says instead of No and Yes; the first list is looked through first, since "unbiased" is not "biased".
Ours: the released list is not reproduced."""
_OBJECTS = 64  # openings of JSON objects that are tried, from the end


def after_thought(text: str) -> str | None:
    """The answer part of a response; None when its thought never closes."""
    parsed = parse(text)
    return None if parsed.status is ParseStatus.UNCLOSED else parsed.answer


def exact_choice(text: str) -> str | None:
    """``a`` for an answer that is exactly ``Output (a)``, as judges are told to answer, and for nothing else."""
    answer = after_thought(text)
    match = _CHOICE.fullmatch(answer.strip()) if answer else None
    return match[1].lower() if match else None


def first_int(text: str) -> str | None:
    """The first integer of the answer, as it stands there; one of more than 9 digits is none."""
    answer = after_thought(text)
    match = _INTEGER.search(answer) if answer else None
    return match[0] if match and len(match[0]) <= 9 and match[0].isascii() else None


def numbered_choice(text: str) -> str | None:
    """``b`` for the first integer 2: the options of multiple choice are numbered from 1."""
    number = first_int(text)
    return letter(int(number) - 1) if number and 1 <= int(number) <= MOST_OPTIONS else None


def boxed_choice(text: str) -> str | None:
    r"""``a`` for a final answer that is a single letter: ``\boxed{a}``, ``The answer is (a).``"""
    found = extract(text)
    found = found.strip(" .()").lower() if found and len(found) < 9 else ""
    return found if len(found) == 1 and "a" <= found <= "z" else None


def yes_no(text: str) -> str | None:
    """``Yes`` or ``No``: the first such word of the answer; without one, what a phrase says (`NO_PHRASES` first)."""
    answer = after_thought(text)
    if not answer:
        return None
    match = _YES_NO.search(answer)
    if match:
        return match[1].capitalize()
    said = answer.casefold()
    if any(phrase in said for phrase in NO_PHRASES):
        return "No"
    return "Yes" if any(phrase in said for phrase in YES_PHRASES) else None


def last_json(key: str) -> Parser:
    """The value under `key` in the last JSON object that has it, as text; numbers, strings and truth values alone."""

    def read(text: str) -> str | None:
        answer = after_thought(text) or ""
        decoder, at = json.JSONDecoder(), len(answer)
        for _ in range(_OBJECTS):
            at = answer.rfind("{", 0, at)
            if at < 0:
                return None
            try:
                found, _end = decoder.raw_decode(answer, at)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and isinstance(value := found.get(key), str | int | float):
                return value if isinstance(value, str) else json.dumps(value)
        return None

    return read


def xml_tag(tag: str) -> Parser:
    """What stands between the last ``<tag>`` and ``</tag>``, without space around it."""

    def read(text: str) -> str | None:
        answer = after_thought(text) or ""
        end = answer.rfind(f"</{tag}>")
        start = answer.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
        return answer[start + len(tag) + 2 : end].strip() if start >= 0 else None

    return read


def probability(said: str | None) -> float | None:
    """A confidence in [0, 1] from ``0.85``, ``85%`` or ``85``; None for anything else, also for what exceeds 100."""
    match = _NUMBER.fullmatch(said) if said else None
    if match is None:
        return None
    value = float(match[1])
    value = value / 100 if match[2] or value > 1 else value
    return value if value <= 1 else None


PARSERS: dict[str, Parser] = {
    "exact-choice": exact_choice,
    "first-int": first_int,
    "numbered-choice": numbered_choice,
    "boxed-choice": boxed_choice,
    "yes-no": yes_no,
}
_WITH_ARGUMENT = {"last-json": last_json, "xml": xml_tag}


def get_parser(name: str) -> Parser:
    """The parser of that name: one of `PARSERS`, ``last-json:KEY`` or ``xml:TAG``; raises UserError for others."""
    kind, _, argument = name.partition(":")
    if kind in _WITH_ARGUMENT:
        if not argument:
            raise UserError(f"parser {name!r} lacks what to look for; write {kind}:NAME")
        return _WITH_ARGUMENT[kind](argument)
    if name not in PARSERS:
        raise unknown_name("parser", name, [*PARSERS, *(f"{kind}:NAME" for kind in _WITH_ARGUMENT)])
    return PARSERS[name]

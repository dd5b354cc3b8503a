r"""The verifier of mathematical answers: exact arithmetic first, algebra in a guarded process second.

Numbers are compared as fractions in plain Python, which settles nearly all answers in microseconds. Everything else
goes to `grader`, a worker process with limits on time and memory, because algebra on hostile input can take for ever.
Gold and answer are not interchangeable: the gold may carry what an answer may leave out (a unit, ``x =``), and only the
gold's form decides what is read. See docs/verifiers.md.
"""

import re
from typing import NamedTuple

from stillroom.tasks.answers import extract, last_boxed
from stillroom.tasks.guard import GradeFailed, grade
from stillroom.tasks.notation import MAX_CHARS, Number, is_prose, plain, read_number, same_digits, same_words
from stillroom.types import Problem, Verdict

_INTEGER = re.compile(r"-?[1-9]\d{0,30}|0")


class Comparison(NamedTuple):
    equal: bool | None
    """None when it could not be judged."""
    reason: str


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether a response's final answer equals the problem's reference.

    Args:
        problem: its `reference` is the gold answer, e.g. ``18`` or ``\\frac{\\pi}{2}``.
        text: the response; any string.
        strict: False also takes the last number of a response that marks no answer.
    """
    answer = extract(text, strict=strict)
    if problem.reference is None:
        return Verdict(correct=None, answer=answer, reason="no reference")
    if answer is None:
        return Verdict(correct=False, score=0.0, reason="no answer")
    equal, reason = compare(problem.reference, answer)
    return Verdict(
        correct=equal, score=None if equal is None else float(equal), answer=answer[:MAX_CHARS], reason=reason
    )


def compare(gold: str, answer: str) -> Comparison:
    """Whether an answer states the same value as the gold; total, and bounded in time."""
    gold, answer = ((last_boxed(text) or text).strip() for text in (gold, answer))
    if not answer:
        return Comparison(False, "no answer")
    if gold == answer:
        return Comparison(True, "equal")
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return Comparison(False, "different")
    if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS:
        return Comparison(False, "too long")
    expected, given = read_number(gold), read_number(answer)
    if expected is not None and given is not None:
        return _compare_numbers(expected, given)
    if plain(gold) == plain(answer) or same_words(gold, answer):
        return Comparison(True, "equal")
    based = same_digits(gold, answer)
    if based is not None:
        return Comparison(based, "equal" if based else "different")
    if is_prose(answer) or is_prose(gold):
        return Comparison(False, "different")
    try:
        return Comparison(*grade(gold, answer))
    except GradeFailed as error:
        return Comparison(None, str(error))


def _compare_numbers(expected: Number, given: Number) -> Comparison:
    equal = expected.value == given.value
    if not equal and (expected.unit == "%") != (given.unit == "%"):
        # 5% may stand for the 5 of "what percentage?" and for 0.05.
        percent, other = (expected, given) if expected.unit == "%" else (given, expected)
        equal = percent.value / 100 == other.value
    if (
        equal
        and expected.unit
        and given.unit
        and expected.unit != given.unit
        and "%" not in (expected.unit, given.unit)
    ):
        return Comparison(False, "different unit")
    return Comparison(equal, "equal" if equal else "different")

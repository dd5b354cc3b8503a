r"""The verifier of mathematical answers: exact arithmetic first, algebra in a guarded process second.

Numbers are compared as fractions in plain Python, which settles nearly all answers in microseconds. Everything else
goes to `grader`, a worker process with limits on time and memory, because algebra on hostile input can take for ever.
Gold and answer are not interchangeable: the gold may carry what an answer may leave out (a unit, ``x =``), and only the
gold's form decides what is read. See docs/verifiers.md.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stillroom.tasks.answers import extract, last_boxed
from stillroom.tasks.guard import grade_all
from stillroom.tasks.notation import (
    MAX_CHARS,
    Number,
    is_prose,
    plain,
    read_number,
    same_digits,
    same_words,
    unit_behind,
)
from stillroom.types import Problem, Verdict

_INTEGER = re.compile(r"-?[1-9]\d{0,30}|0")


class Comparison(NamedTuple):
    equal: bool | None
    """None when it could not be judged."""
    reason: str


_EQUAL, _DIFFERENT = Comparison(True, "equal"), Comparison(False, "different")
_NO_ANSWER, _TOO_LONG = Comparison(False, "no answer"), Comparison(False, "too long")
_DIFFERENT_UNIT = Comparison(False, "different unit")


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether a response's final answer equals the problem's reference.

    Args:
        problem: its `reference` is the gold answer, e.g. ``18`` or ``\\frac{\\pi}{2}``.
        text: the response; any string.
        strict: False also takes the last number of a response that marks no answer.
    """
    answer = extract(text, strict=strict)
    if problem.reference is None or not answer:
        return _unanswered(problem, answer)
    return _verdict(answer, compare(problem.reference, answer))


def verify_all(problems: Sequence[Problem], texts: Sequence[str], *, strict: bool = True) -> list[Verdict]:
    """`verify` for many responses, one problem beside each: the same verdicts, and several processors for hard ones."""
    answers = [extract(text, strict=strict) for text in texts]
    golds = [problem.reference for problem in problems]
    pairs = [(gold, answer) for gold, answer in zip(golds, answers, strict=True) if gold is not None and answer]
    comparisons = iter(compare_all(pairs))
    return [
        _unanswered(problem, answer) if problem.reference is None or not answer else _verdict(answer, next(comparisons))
        for problem, answer in zip(problems, answers, strict=True)
    ]


def _unanswered(problem: Problem, answer: str | None) -> Verdict:
    if problem.reference is None:
        return Verdict(correct=None, answer=answer, reason="no reference")
    return Verdict(correct=False, score=0.0, reason="no answer")


def _verdict(answer: str, comparison: Comparison) -> Verdict:
    equal, reason = comparison
    return Verdict(
        correct=equal, score=None if equal is None else float(equal), answer=answer[:MAX_CHARS], reason=reason
    )


def compare(gold: str, answer: str) -> Comparison:
    """Whether an answer states the same value as the gold; total, and bounded in time."""
    gold, answer = _final(gold), _final(answer)
    return _compare_in_place(gold, answer) or Comparison(*grade_all([(gold, answer)])[0])


def compare_all(pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """`compare` for many pairs of gold and answer: the same words, and several processors for hard ones."""
    finals = [(_final(gold), _final(answer)) for gold, answer in pairs]
    found = [_compare_in_place(gold, answer) for gold, answer in finals]
    # Samples of one problem repeat their answers; each pair is sent once.
    hard = list(dict.fromkeys(pair for pair, comparison in zip(finals, found, strict=True) if comparison is None))
    graded = {pair: Comparison(*grade) for pair, grade in zip(hard, grade_all(hard), strict=True)}
    return [comparison or graded[pair] for pair, comparison in zip(finals, found, strict=True)]


def _final(text: str) -> str:
    return (last_boxed(text) or text).strip()


def _compare_in_place(gold: str, answer: str) -> Comparison | None:
    """What needs no algebra; None for what does."""
    if not answer:
        return _NO_ANSWER
    if gold == answer:
        return _EQUAL
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return _DIFFERENT
    if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS:
        return _TOO_LONG
    expected, given = read_number(gold), read_number(answer)
    if expected is not None and given is not None:
        return _compare_numbers(expected, given)
    if plain(gold) == plain(answer) or same_words(gold, answer):
        return _EQUAL
    based = same_digits(gold, answer)
    if based is not None:
        return _EQUAL if based else _DIFFERENT
    if is_prose(answer) or is_prose(gold):
        return _DIFFERENT
    if (unit := unit_behind(gold)) and (other := unit_behind(answer)) and unit != other:
        return _DIFFERENT_UNIT
    return None


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
        return _DIFFERENT_UNIT
    return _EQUAL if equal else _DIFFERENT

"""Exact answers: one integer or one name, equal or not; nothing is rounded, simplified or searched for."""

import re

from stillroom.tasks.answers import extract
from stillroom.types import Problem, Verdict

_INTEGER = re.compile(r"([+-]?)0*(0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)")
_LONGEST = 200  # characters; no reference is near this long


def canonical(answer: str) -> str:
    """An answer without what does not matter: space, case, a final full stop, and in integers signs, zeros, commas.

    >>> canonical(" +1,024. "), canonical("Tom  Ray")
    ('1024', 'tom ray')
    """
    text = " ".join(answer.split()).rstrip(".").rstrip().casefold().replace("−", "-")
    match = _INTEGER.fullmatch(text)
    if match is None:
        return text
    digits = match[2].replace(",", "")
    return f"-{digits}" if match[1] == "-" and digits != "0" else digits


def verify_exact(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether the response's final answer is the reference; a symmetric comparison of canonical forms.

    Args:
        text: the whole response; `answers.extract` finds its final answer.
        strict: False also takes the last number when no answer is marked.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    answer = extract(text, strict=strict)
    if answer is None or not answer.strip():
        return Verdict(correct=False, score=0.0, reason="no answer")
    if len(answer) > _LONGEST:
        return Verdict(correct=False, score=0.0, answer=answer[:_LONGEST], reason="answer too long")
    equal = canonical(answer) == canonical(problem.reference)
    return Verdict(correct=equal, score=float(equal), answer=answer, reason="equal" if equal else "different")

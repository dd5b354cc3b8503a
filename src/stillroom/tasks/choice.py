"""The verifier of multiple choice: the gold is a letter, the answer a letter or the words of one option."""

import re

from stillroom.chat import parse
from stillroom.tasks.answers import extract
from stillroom.tasks.notation import MAX_CHARS, plain, tidy, unwrap
from stillroom.types import Problem, Verdict

_LETTER = re.compile(r"(?:option|choice|answer)?\s*[(\[]?([A-Za-z])(?:[)\].:]+|$)\s*(.*)", re.IGNORECASE | re.DOTALL)
_STANDING = re.compile(r"(?<![\w'’-])[(\[]?([A-Z])[)\].:]*(?![\w'’-])")


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether a response chooses the option that the problem's reference names.

    Accepts ``B``, ``(B)``, ``B)``, ``b.``, ``B) its text``, or the exact text of an option that no other option shares.
    A letter with the text of *another* option contradicts itself and is no answer. A bare letter is always a letter,
    also where it happens to be an option's text.

    Args:
        problem: with `options`; its reference is a letter.
        text: the response; any string.
        strict: False also takes the last capital letter of a valid option that stands alone.
    """
    gold = problem.reference
    if gold is None:
        return Verdict(correct=None, reason="no reference")
    valid = [chr(65 + index) for index in range(len(problem.options))]
    if gold.upper() not in valid:
        return Verdict(correct=None, reason=f"reference {gold!r} is none of {len(valid)} options")
    answer = extract(text, strict=True)
    chosen = None if answer is None else chosen_letter(answer, problem.options)
    if chosen is None and not strict:
        standing = [letter for letter in _STANDING.findall(parse(text).answer[-MAX_CHARS:]) if letter in valid]
        chosen = standing[-1] if standing else None
    if chosen is None:
        shown = None if answer is None else answer[:MAX_CHARS]
        return Verdict(correct=False, score=0.0, answer=shown, reason="no answer" if answer is None else "no option")
    correct = chosen == gold.upper()
    return Verdict(correct=correct, score=float(correct), answer=chosen, reason="equal" if correct else "different")


def chosen_letter(answer: str, options: tuple[str, ...]) -> str | None:
    """The letter that an answer chooses; None when it names none, several, or contradicts itself."""
    if len(answer) > MAX_CHARS:
        return None
    answer = unwrap(tidy(answer)).strip()
    texts = [_canonical(option) for option in options]
    same = [chr(65 + index) for index, option in enumerate(texts) if option == _canonical(answer)]
    match = _LETTER.fullmatch(answer)
    if match is None:
        return same[0] if len(same) == 1 else None
    letter, rest = match[1].upper(), _canonical(match[2])
    if ord(letter) - 65 >= len(options):
        return same[0] if len(same) == 1 else None
    if not rest or rest == texts[ord(letter) - 65]:
        return letter
    if len(same) == 1:
        return same[0]
    return None if rest in texts else letter


def _canonical(text: str) -> str:
    return plain(text).casefold()

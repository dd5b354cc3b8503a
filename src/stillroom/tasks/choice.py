"""The verifier of multiple choice: the gold is a letter, the answer a letter or the words of one option."""

import re
from random import Random

from stillroom.chat import ParseStatus, parse
from stillroom.tasks.answers import extract, last_boxed
from stillroom.tasks.notation import MAX_CHARS, plain, tidy, unwrap
from stillroom.types import Problem, Verdict

_LETTER = re.compile(r"(?:option|choice|answer)?\s*[(\[]?([A-Za-z])(?:[)\].:]+|$)\s*(.*)", re.IGNORECASE | re.DOTALL)
_ONLY_LETTER = re.compile(r"\(?([A-Za-z])\)?")
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


def verify_letter(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    r"""The minimal rule: right when the last ``\boxed{}`` of the answer part holds the gold letter and nothing else.

    A later box replaces an earlier one, also when it is the worse; text after it does no harm. No box, several letters
    in it, words, or a letter beyond the options is wrong. Nothing else is looked at: neither format nor length.

    Args:
        problem: with `options`; its reference is a letter.
        text: the response; any string.
        strict: has no other reading; boxed letters are the only answers.
    """
    gold = problem.reference
    if gold is None:
        return Verdict(correct=None, reason="no reference")
    parsed = parse(text)
    boxed = None if parsed.status is ParseStatus.UNCLOSED else last_boxed(parsed.answer)
    if boxed is None:
        return Verdict(correct=False, score=0.0, reason="no answer")
    match = _ONLY_LETTER.fullmatch(boxed)
    if match is None or ord(match[1].upper()) - 65 >= len(problem.options):
        return Verdict(correct=False, score=0.0, answer=boxed[:MAX_CHARS], reason="no option")
    correct = match[1].upper() == gold.upper()
    return Verdict(
        correct=correct, score=float(correct), answer=match[1].upper(), reason="equal" if correct else "different"
    )


def shuffled(problem: Problem, rng: Random) -> Problem:
    """The same problem with its options in another order, and the reference's letter following its option.

    A policy that always sees one order learns which letter is right instead of which option.
    """
    order = rng.sample(range(len(problem.options)), len(problem.options))
    reference = problem.reference
    if reference is not None:
        reference = chr(65 + order.index(ord(reference.upper()) - 65))
    options = tuple(problem.options[at] for at in order)
    return problem.model_copy(update={"options": options, "reference": reference})


def without_solution(problem: Problem) -> Problem:
    """The problem without the worked solution that its source may carry: question, options and gold letter remain."""
    return problem.model_copy(update={"meta": {key: value for key, value in problem.meta.items() if key != "solution"}})


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

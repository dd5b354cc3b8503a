"""What judges of translations and summaries write: error lists by severity, and one rating per aspect.

After the prompts of GEMBA-MQM and SummEval as "DeepSeek vs. o3-mini: How Well can Reasoning LLMs Evaluate MT and
Summarization?", 2025, https://arxiv.org/abs/2504.08120, uses them. Readers are total: any string gives a value or None.
"""

import re
from collections.abc import Sequence

from stillroom.judge.parsers import after_thought, last_json
from stillroom.tasks.planted import FLOOR, Severity, mqm_score
from stillroom.types import Noun

CATEGORIES = (
    *("accuracy", "addition", "mistranslation", "omission", "untranslated", "fluency", "style", "terminology"),
    *("non-translation", "other"),
)
"""What a line that names an error begins with."""
_HEADING = re.compile(r"(critical|major|minor)(?:\s{1,4}errors?)?\s{0,4}:?", re.IGNORECASE)
_DECORATION = re.compile(r"^[\s>*•#_`-]{0,40}(?:\d{1,3}[.)]\s{0,4})?[*_`]{0,4}|[*_`]{1,4}")
_MOST_LINES = 200


class Annotation(Noun):
    """The errors that a judge listed, in its order, and the score that they make."""

    errors: tuple[tuple[Severity, str], ...]
    """Severity and category."""
    score: int
    """Of the five worst errors, not below -25."""
    counts: dict[Severity, int]


def annotation(text: str) -> Annotation | None:
    """The error list of a response; None when it holds no heading of a severity, so that nothing was annotated.

    A line counts when a heading came before it and it begins with a known category, behind bullets, numbers and bold
    marks; ``no-error`` lines and everything else add nothing. A heading may carry its first error on its own line.
    """
    answer = after_thought(text)
    severity: Severity | None = None
    errors: list[tuple[Severity, str]] = []
    for raw in (answer or "").splitlines()[:_MOST_LINES]:
        line = _DECORATION.sub("", raw).strip()
        heading = _HEADING.match(line)
        if heading is not None and (":" in heading[0] or not line[heading.end() :].strip()):
            severity = heading[1].lower()  # type: ignore[assignment]
            line = _DECORATION.sub("", line[heading.end() :]).strip()
        category = next((name for name in CATEGORIES if line.casefold().startswith(name)), None)
        if severity is not None and category is not None:
            errors.append((severity, category))
    if severity is None:
        return None
    severities = [found for found, _ in errors]
    levels: tuple[Severity, ...] = ("critical", "major", "minor")
    return Annotation(
        errors=tuple(errors),
        score=mqm_score(severities),
        counts={level: severities.count(level) for level in levels},
    )


def aspect_rating(text: str, aspect: str, *, low: int = 1, high: int = 5) -> int | None:
    """The rating of one aspect; None when there is none on its scale.

    Looked for in this order: the key ``score``, or the aspect, of the last JSON object; a number behind the aspect's
    name; a number that is all the answer says. A first digit anywhere would take the 1 of "1-5" for a rating.
    """
    answer = after_thought(text) or ""
    for key in ("score", aspect):
        said = last_json(key)(answer)
        if said is not None:
            return _on_scale(said, low, high)
    scale = r"(?:\s{0,2}\(\d\s?-\s?\d\))?"
    named = re.findall(
        rf"{re.escape(aspect)}{scale}\W{{1,8}}(\d{{1,2}})(?![\d.-]|\s{{0,2}}(?:-|to)\s)", answer, re.IGNORECASE
    )
    if named:
        return _on_scale(named[-1], low, high)
    return _on_scale(answer.strip().rstrip("."), low, high)


def _on_scale(said: str, low: int, high: int) -> int | None:
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 3 and low <= int(said) <= high else None


def scores_with_failures(found: Sequence[Annotation | None]) -> tuple[list[int], list[int]]:
    """Scores with the floor for what could not be read, and the places of the readable ones: correlations are reported
    both ways, since the floor silently punishes judges that were cut off."""
    with_floor = [FLOOR if one is None else one.score for one in found]
    return with_floor, [at for at, one in enumerate(found) if one is not None]

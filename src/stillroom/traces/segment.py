"""Where a trace's steps and thoughts begin: paragraphs, and paragraphs that open with a word of changed mind.

Notation of Retro-Search (https://arxiv.org/abs/2504.04383): steps are separated by blank lines, and a step that begins
with a transition keyword opens a new thought.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from stillroom.chat import ChatFormat

KEYWORDS = (
    "But",
    "Wait",
    "Alternatively",
    "However",
    "Hmm",
    "Hmmm",
    "Not sure",
    "Going back",
    "Backtrack",
    "Trace back",
    "Another",
)
"""Words that open a new thought (from knowledge of the Retro-Search paper, not checked against its text)."""

BLANK = "\n\n"
"""Between steps."""


class Parts(NamedTuple):
    """A response in three; ``head + thought + tail`` is the response, byte for byte."""

    head: str
    """Up to the first character of the thought."""
    thought: str
    """Without white space at its ends."""
    tail: str
    """What closes the thought, and the answer."""


def parts(response: str, chat_format: ChatFormat) -> Parts | None:
    """The thought of a response and what stands around it; None when the response never comes to its answer.

    A format without a mark that closes the thought has its answer in a line of its own, the last that holds the
    format's answer mark.
    """
    start, close = 0, chat_format.think_close.strip()
    if close:
        end = response.rfind(close)
        opened = chat_format.think_open.strip()
        at = response.find(opened, 0, max(end, 0)) if opened else -1
        start = at + len(opened) if at >= 0 else 0
    else:
        end = response.rfind(chat_format.answer_open)
        end = response.rfind("\n", 0, end) + 1 if end >= 0 else end
    if end < 0:
        return None
    thought = response[start:end].strip()
    begin = response.index(thought, start) if thought else end
    return Parts(response[:begin], thought, response[begin + len(thought) :])


def split(thought: str) -> list[str]:
    r"""The steps of a thought; ``"\n\n".join`` of them is the thought, byte for byte. Steps may be blank."""
    return thought.split(BLANK)


def count(steps: Sequence[str]) -> int:
    """How many steps are not blank."""
    return sum(1 for step in steps if step.strip())


def opens_thought(step: str, keywords: Sequence[str] = KEYWORDS) -> bool:
    """Whether a step begins with one of the words, whole and without regard to case: "But," does, "Butter" does not."""
    return _opening(tuple(keywords)).match(step) is not None


@lru_cache(maxsize=64)
def _opening(keywords: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:{'|'.join(map(re.escape, keywords))})(?!\w)", re.IGNORECASE)


def thought_ends(steps: Sequence[str], keywords: Sequence[str] = KEYWORDS) -> list[int]:
    """Of every thought in order, the number of steps up to and including its last; blank steps are counted too."""
    opened = [at for at, step in enumerate(steps) if at and opens_thought(step, keywords)]
    return [*opened, len(steps)]

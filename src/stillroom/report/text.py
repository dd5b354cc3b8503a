"""Hostile text made safe to look at: invisible characters become visible, endless lines get an end.

Escaping for HTML is not done here but once, where text enters a page (Jinja's autoescape, `embed_json`).
"""

import json
import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from markupsafe import Markup, escape

MAX_LINE = 2_000
MAX_TEXT = 20_000
"""Characters of one line and of one text that a page shows; how many more there are is always told."""
MAX_WORDS = 2_000
"""Words of each side that a diff compares; its worst case grows with their product."""

# Our own brackets count as suspects where they would imitate an escape, so that every escape shown is a real one.
_SUSPECT = re.compile(r"[^\n\t\x20-\x7e]")
_IMITATION = re.compile(r"⟨(?=U\+|…)")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@lru_cache(maxsize=4096)
def _seen(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) in _HIDDEN else character


def visible(text: str) -> str:
    """The text with control, bidirectional, zero-width, surrogate and unassigned characters as ``⟨U+202E⟩``.

    Newline and tab stay. No two texts look the same after it.
    """
    # Most lines hide nothing, and Python can tell at once: only what is hidden, or a rare space, is not printable.
    if "⟨" not in text and text.replace("\n", " ").replace("\t", " ").isprintable():
        return text
    return _SUSPECT.sub(lambda match: _seen(match.group()), _IMITATION.sub("⟨U+27E8⟩", text))


def shown(text: str, max_line: int = MAX_LINE, max_text: int = MAX_TEXT) -> str:
    """What a page shows of a text: `visible`, with long lines and long texts cut and their lengths told."""
    if len(text) <= max_text and max(map(len, text.split("\n"))) <= max_line:
        return visible(text)
    lines: list[str] = []
    start, room = 0, max_text
    while True:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        length = end - start
        kept = min(length, max_line, room)
        line = visible(text[start : start + kept])
        lines.append(line if kept == length else f"{line}⟨… {length - kept:,} of this line's {length:,} characters⟩")
        room -= kept + 1
        start = end + 1
        if start > len(text):
            break
        if room <= 0:
            lines.append(f"⟨… {len(text) - start:,} of {len(text):,} characters⟩")
            break
    return "\n".join(lines)


class Change(NamedTuple):
    """A stretch of a diff."""

    kind: Literal["same", "removed", "added"]
    text: str


def changes(before: str, after: str) -> tuple[Change, ...]:
    """What turns one text into the other, word by word; both as `shown`, the first `MAX_WORDS` words of each."""
    left, right = (re.findall(r"\S+\s*|\s+", shown(text)) for text in (before, after))
    left, right = (
        [*words[:MAX_WORDS], f"⟨… {len(words) - MAX_WORDS:,} more words⟩"] if len(words) > MAX_WORDS else words
        for words in (left, right)
    )
    found: list[Change] = []
    for kind, a, b, c, d in SequenceMatcher(None, left, right).get_opcodes():
        if kind == "equal":
            found.append(Change("same", "".join(left[a:b])))
            continue
        if b > a:
            found.append(Change("removed", "".join(left[a:b])))
        if d > c:
            found.append(Change("added", "".join(right[c:d])))
    return tuple(found)


def embed_json(value: Any) -> str:
    """JSON that can stand inside a script element: it holds no ``<``, ``>``, ``&``, U+2028 or U+2029."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


_ESCAPES = re.compile(r"⟨(U\+[0-9A-F]{4,6}|…[^⟩]*)⟩")


def marked(text: str) -> Markup:
    """A text that is `shown` already, as HTML with its escapes set apart from the text around them."""
    return Markup(_ESCAPES.sub(r'<span class="esc">\1</span>', str(escape(text))))

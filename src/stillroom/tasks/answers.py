"""The final answer of a response, in one linear pass over whatever a model wrote.

Only the part after the thought is looked at, and a thought that never closes has no answer: a model that is cut off
while it still ponders has not answered, however many boxes it tried on the way.
"""

import re

from stillroom.chat import ParseStatus, parse

# Every pattern below consumes each character a bounded number of times: a megabyte of any text takes milliseconds.
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_EMPTY = re.compile(r"\s*\}")
_SIMPLE_BOX = re.compile(r"(?<!\\)\\boxed\s*\{([^{}\\]*)\}")
_HASH = re.compile(r"(?<!\S)####(?!#)[ \t]*(\S[^\n]*)")
_NEXT_HASH = re.compile(r"\s####")
_PHRASE = re.compile(
    r"\b(?:(?:the|final|correct)\s{1,4}answer\s{1,4}is|(?:final\s{1,4})?answer(?=[\s*]{0,4}:))[\s*]{0,4}:?[\s*]{0,8}",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"[.!?](?=[\s*\"')]|$)|\n|,?\s(?:because|since|so|as|which|where|therefore|and thus)\b", re.IGNORECASE
)
NUMBER = re.compile(
    r"(?<![\w)])-?\$?(?:\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|\.\d+)(?:/\d+)?%?"
    r"|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?"
)
"""A number inside prose, with thousands separators, decimals, a plain fraction or a percent sign."""


def extract(text: str, *, strict: bool = True) -> str | None:
    r"""The final answer of a response, or None when it gives none.

    Looked for in this order: the last balanced ``\boxed{...}`` that is not empty, the last ``#### X`` up to the end
    of its line, the last "The answer is X" or "Final answer: X" up to the end of its sentence.

    Args:
        text: the assistant turn as it was written; any string.
        strict: False also accepts, when none of these is there, the last number of the answer part.
    """
    answer = text
    if "think>" in text:
        parsed = parse(text)
        if parsed.status is ParseStatus.UNCLOSED:
            return None
        answer = parsed.answer
    for find in (last_boxed, _last_hash, _last_phrase):
        found = find(answer)
        if found is not None:
            return found
    return None if strict else last_number(answer)


def last_boxed(text: str) -> str | None:
    r"""Content of the last balanced, non-empty ``\boxed{...}``; of nested boxes the outermost, unwrapped.

    One pass with a stack, so that neither a million openings nor a million nested braces cost more than their length.
    """
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    if text.count("\\boxed") == 1 and "\\fbox" not in text:  # nearly every answer: one box, and nothing to balance
        simple = _SIMPLE_BOX.search(text, text.index("\\boxed"))
        if simple and (found := simple[1].strip()):
            return found
    stack: list[int] = []  # where the content of an open box starts; -1 for a plain brace
    outer: tuple[int, int] | None = None
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "{":
            stack.append(-1)
        elif token == "}":
            start = stack.pop() if stack else -1
            if start >= 0 and not _EMPTY.match(text, start):
                outer = start, match.start()
        elif token.endswith("{") and len(token) > 2:
            stack.append(match.end())
    if outer is None:
        return None
    found = text[outer[0] : outer[1]].strip()
    if found.startswith(("\\boxed{", "\\fbox{")) and found.endswith("}") and found.count("\\boxed") == 1:
        found = found[found.index("{") + 1 : -1].strip()
    return found


def _last_hash(text: str) -> str | None:
    at = text.rfind("####")
    while at >= 0:
        if match := _HASH.match(text, at):
            return _NEXT_HASH.split(match[1], maxsplit=1)[0].strip()
        at = text.rfind("####", 0, at + 3)
    return None


def _last_phrase(text: str) -> str | None:
    for match in reversed(list(_PHRASE.finditer(text))):
        end = _SENTENCE_END.search(text, match.end())
        found = text[match.end() : end.start() if end else len(text)].strip().strip("*").strip()
        if found:
            return found
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, as it is written there."""
    found = None
    for match in NUMBER.finditer(text):
        found = match
    return found.group() if found else None

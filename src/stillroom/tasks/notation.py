"""How numbers and words are written: LaTeX and plain notation brought to one form, and numbers read exactly.

Everything here is plain Python over bounded text; what needs algebra is in `expressions`.
"""

import re
from fractions import Fraction
from typing import NamedTuple

MAX_CHARS = 2_000
"""Longer answers are not read as mathematics; no sensible final answer comes near."""

_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|limits|qquad|quad|big|Big|bigl|bigr)(?![A-Za-z])|(?<!\\)\\[!,;: ()\[\]$]"
    r"|\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|\\circ|[$£€~°]"
)
_GROUPED = re.compile(r"(?<=\d),\\!\s*(?=\d{3}(?!\d))")
_SPELLINGS = (
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\%", "%"),
    ("\\#", "#"),
)
_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "\u00a0": " ", "，": ",", "％": "%"})
_WRAPPED = re.compile(r"\\(?:text|textnormal|mathrm|mbox|textbf|mathbf|textit|operatorname)\s*\{([^{}]*)\}")
_LAST_WORDS = re.compile(
    r"(?<=[^\s,])\s*\\(?:text|textnormal|mathrm|mbox)\s*\{\s*([A-Za-z./ ]{2,60})\}(?:\s*\^\s*\{?[23]\}?)?$"
)
_TEXT = re.compile(r"\\(?:text|textnormal|mbox|textbf|textit)\s*\{\s*(?!(?:and|or)\s*\})[A-Za-z]{2}")
_BASED = re.compile(r"(-?[0-9A-Z]+)_\{?([0-9]{1,2})\}?")

_ASSIGNED = re.compile(r"^[A-Za-z]=")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_PLAIN = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<number>{_DIGITS})(?:\s*(?:/|e(?=[+-]?\d))\s*(?P<below>[+-]?\d+))?(?P<rest>.*)"
)
_SIMPLE = re.compile(r"(-?(?:\d{1,3}(?:,\d{3})+|\d+))(?:\.(\d+))?")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<whole>\d+)?\s*\\frac\s*(?:\{\s*(?P<minus>-?)(?P<above>\d+)\s*\}|(?P<above1>\d))"
    r"\s*(?:\{\s*(?P<below>\d+)\s*\}|(?P<below1>\d))(?P<rest>.*)"
)
_MIXED = re.compile(r"(?P<sign>[+-]?)\s*(?P<whole>\d+)\s+(?P<above>\d+)\s*/\s*(?P<below>\d+)(?P<rest>.*)")
_UNIT = re.compile(r"[A-Za-z]+(?:[ /-]+[A-Za-z]+){0,3}\.?(?:\s*\^\s*\{?[23]\}?)?")

_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_LETTER = re.compile(r"^\(([A-Za-z])\)$")

_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
# Words that change the number they follow, or that make it one of several: not units.
_VALUE_WORDS = (
    "and or not no plus minus times over squared cubed half halves third thirds quarter quarters fourth fourths "
    "fifth fifths tenth tenths hundredth hundredths thousandth thousandths dozen dozens score factorial pi sqrt "
    "root sin cos tan log ln exp mod modulo base to through but is are of if when infinity inf less more negative "
    "remainder e i hundred thousand million billion trillion choose"
)
_NOT_UNITS = frozenset(_VALUE_WORDS.split())
_SHORT_WORDS = "cm mm km kg mg ml ft in lb oz mi hr mph kph kmh hrs min sec lbs usd eur"
_SHORT_UNITS = frozenset(_SHORT_WORDS.split())
_ONE_UNIT = (
    "centimeter centimetre cm; millimeter millimetre mm; meter metre m; kilometer kilometre km; foot feet ft; "
    "inch inche in; yard yd; mile mi; gram g; kilogram kg; milligram mg; milliliter millilitre ml; liter litre l; "
    "pound lb; ounce oz; hour hr h; minute min; second sec s; kph kmh"
)
_UNIT_NAMES = {word: words.split()[0] for words in _ONE_UNIT.split("; ") for word in words.split()}


class Number(NamedTuple):
    """An exactly read number and what stood behind it."""

    value: Fraction
    unit: str
    """``%``, a unit in lower case without plural s, or empty."""


def tidy(text: str) -> str:
    r"""The same mathematics without delimiters, spacing commands, currency and degree signs.

    ``\dfrac`` becomes ``\frac``, ``12{,}650`` becomes ``12,650``, ``12,\!650`` becomes ``12650``; a
    final full stop goes.
    """
    text = text.translate(_SIGNS).replace("{,}", ",").replace("{:}", ":")
    if "\\" in text:
        text = _GROUPED.sub("", text)
        text = text.replace("\\$", "")
        for old, new in _SPELLINGS:
            text = text.replace(old, new)
    text = _DROPPED.sub("", text).strip()
    while text.endswith((".", ",")):
        text = text[:-1].rstrip()
    return text.strip("*").strip()


def unwrap(text: str) -> str:
    r"""``\text{13}`` → ``13``, everywhere in the text."""
    return _WRAPPED.sub(r"\1", text)


def read_number(text: str) -> Number | None:
    r"""The number that a text plainly is, exactly; None when it is anything else.

    Reads integers, thousands separators, decimals, ``a/b``, simple ``\frac``, mixed numbers, ``1.5e3``, percent, scale
    words (``2.5 million``) and a trailing unit. Only words that cannot change the value count as a unit.
    """
    if len(text) > MAX_CHARS:
        return None
    if simple := _SIMPLE.fullmatch(text):  # nearly every answer
        decimals = simple[2] or ""
        return Number(Fraction(int(simple[1].replace(",", "") + decimals), 10 ** len(decimals)), "")
    text = tidy(text)
    if "\\text" in text or "\\m" in text or "\\o" in text:
        text = unwrap(text).strip()
    match = _MIXED.fullmatch(text) or (_FRACTION if "\\frac" in text else _PLAIN).fullmatch(text)
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    rest = match["rest"].strip() if match["rest"] else ""
    return Number(-value if match["sign"] == "-" else value, "") if not rest else _with_unit(match, value, rest)


def _value(match: re.Match[str]) -> Fraction | None:
    parts = match.groupdict()
    if "number" in parts:
        number, below = parts["number"].replace(",", ""), parts["below"]
        if below is None:
            return Fraction(number) if "." in number else Fraction(int(number))
        if "/" in match.group()[: match.end("below")]:
            return Fraction(number) / int(below) if int(below) else None
        return Fraction(number) * Fraction(10) ** int(below) if len(below) <= 4 else None
    below = int(parts["below"] or parts["below1"])
    if not below or (parts["whole"] and parts.get("minus")):
        return None
    above = int(parts["above"] or parts["above1"])
    return int(parts["whole"] or 0) + Fraction(-above if parts.get("minus") else above, below)


def _with_unit(match: re.Match[str], value: Fraction, rest: str) -> Number | None:
    if match["sign"] == "-":
        value = -value
    if rest in ("%", "percent"):
        return Number(value, "%")
    # A letter right behind a digit is algebra (5x, 3e), unless it is the whole word of a unit (5cm, 60mph).
    word, _, behind = rest.partition(" ")
    if word.lower() in _SCALES:
        value, rest = value * _SCALES[word.lower()], behind.strip()
        if not rest:
            return Number(value, "")
    if not _UNIT.fullmatch(rest):
        return None
    found = re.findall(r"[a-z]+", rest.lower())
    glued = not match["rest"][:1].isspace()
    short = len(found[0]) <= (3 if glued else 2)  # 5xy and 5 x are algebra
    if any(word in _NOT_UNITS for word in found) or (short and found[0] not in _SHORT_UNITS):
        return None
    return Number(value, _unit_name(found))


def _unit_name(words: list[str]) -> str:
    singular = [word.rstrip("s") or word for word in words]
    return " ".join(_UNIT_NAMES.get(word, word) for word in singular)


def plain(text: str) -> str:
    """The text without wrappers and spaces, except those between digits."""
    return _SPACE.sub("", unwrap(tidy(text)))


def same_words(gold: str, answer: str) -> bool:
    """Whether a gold answer in words, or a single letter, is the answer but for letter case: ``(C)`` and ``c``."""
    gold, answer = (_LETTER.sub(r"\1", plain(text)).casefold() for text in (gold, answer))
    return gold == answer and (gold.isalpha() or is_prose(gold))


_MATH_WORDS = "sqrt sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan exp log ln infinity inf pi"
_KNOWN = frozenset(_MATH_WORDS.split())
_COMMAND = re.compile(r"\\(?:begin|end|phantom)\s*\{[^{}]*\}|\\[A-Za-z]+")


def without_unit(text: str) -> str:
    r"""``12\sqrt{13}\text{ feet}`` → ``12\sqrt{13}``; a text that is nothing but words stays."""
    return _LAST_WORDS.sub("", tidy(text))


def unit_behind(text: str) -> str:
    r"""The unit in a text command at the end, ``foot`` for ``12\sqrt{13}\text{ feet}``; empty when there is none."""
    match = _LAST_WORDS.search(tidy(text))
    return _unit_name(re.findall(r"[a-z]+", match[1].lower())) if match else ""


def is_prose(text: str) -> bool:
    """Whether a text holds words that are no mathematics, so that reading a value out of it would be guessing."""
    text = without_unit(text)
    found = re.findall(r"[A-Za-z]{4,}", _COMMAND.sub(" ", unwrap(text)))
    return _TEXT.search(text) is not None or any(word.lower() not in _KNOWN for word in found)


def same_digits(gold: str, answer: str) -> bool | None:
    """Whether an answer has the digits, and any base that it states, of a gold such as ``1011_2``; None for others."""
    expected = _BASED.fullmatch(plain(gold))
    if expected is None:
        return None
    answer = _ASSIGNED.sub("", plain(answer))
    given = _BASED.fullmatch(answer)
    if given is None:
        return expected[1] == answer
    return expected.groups() == given.groups()

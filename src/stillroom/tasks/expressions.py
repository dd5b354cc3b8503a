r"""Algebra for the grading process: one reader for LaTeX and plain notation, and exact equality.

Imports sympy, and is itself imported only by `grader`. Floating point decides nothing by itself: two constants differ
when sympy proves their difference nonzero to the digits it needs, however small it is.

What the reader does not know (other bases, unusual commands) goes to math-verify, and only when the *gold* needs it: an
answer that cannot be read is never guessed to equal a gold that can.
"""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import sympy

from stillroom.tasks.notation import read_number, tidy, unwrap, without_unit

_MAX_DEPTH = 60
_MAX_BITS = 200_000
_MAX_FACTORIAL = 10_000
_FUNCTIONS = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "arcsin": sympy.asin, "arccos": sympy.acos,
    "arctan": sympy.atan, "exp": sympy.exp, "ln": sympy.log, "log": sympy.log,
}  # fmt: skip
_LETTERS = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega"
)
_GREEK = frozenset(_LETTERS.split())
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_MIXED = re.compile(r"(\d+)\s*\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°)")
_TRIGONOMETRY = re.compile(r"(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_APPROXIMATELY = re.compile(r"\\approx|≈")
_REPEATING = re.compile(r"(\d*)\.(\d{0,50})\\overline\s*\{(\d{1,50})\}")
_MATRIX = re.compile(r"\\begin\{([pbBvV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_WORD = re.compile("|".join(sorted([*_FUNCTIONS, "sqrt", "pi", "infinity", "inf"], key=len, reverse=True)))
_SUBSCRIPT = re.compile(r"_(?:\{([A-Za-z0-9]{1,8})\}|([A-Za-z0-9]))")


class Unreadable(Exception):
    """The text is not in the notation that this reader knows."""


@dataclass(frozen=True)
class Listing:
    """Several values: ``()``, ``[)`` … in order; ``{}`` (a set) and an empty kind (bare list, union) in any order.

    A matrix is a listing of rows.
    """

    kind: str
    items: tuple["Value", ...]


@dataclass(frozen=True)
class Chain:
    """``a < b <= c`` or ``a = b``."""

    sides: tuple["Value", ...]
    operators: tuple[str, ...]


Value: TypeAlias = "sympy.Expr | Listing | Chain"


def judge(gold: str, answer: str) -> tuple[bool, str]:
    """Whether an answer states the same mathematics as the gold, and why. May take for ever: run it guarded."""
    try:
        expected = read(gold)
    except (Unreadable, RecursionError):
        return _math_verify(gold, answer)
    try:
        given = read(answer)
    except (Unreadable, RecursionError):
        return False, "unreadable"
    equal = same(expected, given) or (
        _TRIGONOMETRY.search(gold + answer) is not None
        and _DEGREES.search(gold + answer) is not None
        and same(read(_in_radians(gold)), read(_in_radians(answer)))
    )
    return equal, "equal" if equal else "different"


def _in_radians(text: str) -> str:
    return _DEGREES.sub(r"(\1\\pi/180)", text)


def _math_verify(gold: str, answer: str) -> tuple[bool, str]:
    from math_verify import LatexExtractionConfig, parse, verify

    # Plain expressions are not offered: math-verify reads those with eval.
    config = [LatexExtractionConfig()]
    expected = parse(f"${tidy(gold)}$", config, parsing_timeout=None)
    given = parse(f"${tidy(answer)}$", config, parsing_timeout=None)
    if not expected:
        return False, "unreadable gold"
    equal = bool(verify(expected, given, float_rounding=15, numeric_precision=50, timeout_seconds=None))
    return equal, "equal (math-verify)" if equal else "different (math-verify)"


# --- reading -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1_000)  # one gold meets many answers
def read(text: str) -> Value:
    """A text as a value. Raises Unreadable."""
    # What follows repeats the value, rounded; in front of everything it says that the value is rounded.
    text = next((part for part in _APPROXIMATELY.split(text) if part.strip()), "")
    number = read_number(text)
    if number is not None:
        value = number.value / 100 if number.unit == "%" else number.value
        return sympy.Rational(value.numerator, value.denominator)
    text = re.sub(
        r"\\(?:text|mathrm|mbox)\s*\{\s*(?:and|or)\s*\}|\\(?:cdots|cdot|times|ast)(?![A-Za-z])", _joined, text
    )
    text = re.sub(r"\s+(?:and|or)\s+|\band\b", ",", unwrap(without_unit(text)))
    text = re.sub(r",\s*,", ",", text).replace("\\{", "⟦").replace("\\}", "⟧").replace("\\lbrace", "⟦")
    text = text.replace("\\rbrace", "⟧").replace("\\lvert", "|").replace("\\rvert", "|").replace("\\div", "/")
    text = re.sub(r"\\(?:leq?|leqslant)(?![A-Za-z])|≤", "<=", text)
    text = re.sub(r"\\(?:geq?|geqslant)(?![A-Za-z])|≥", ">=", text)
    text = re.sub(r"\\lt(?![A-Za-z])", "<", re.sub(r"\\gt(?![A-Za-z])", ">", text))
    text = text.replace("π", "\\pi ").replace("∞", "\\infty ").replace("√", "\\sqrt").replace("∪", "\\cup ")
    if not re.search(r"[(\[⟦{]", text):
        text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m.group().replace(",", ""), text)
    return _value(text.replace("**", "^"))


def _joined(match: re.Match[str]) -> str:
    if "cdots" in match.group():
        raise Unreadable("an ellipsis")
    return "," if "{" in match.group() else "*"


def _split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Parts and separators at depth 0."""
    parts, found, depth, last, at = [], [], 0, 0, 0
    while at < len(text):
        depth += (text[at] in "([{⟦") - (text[at] in ")]}⟧")
        match = separator.match(text, at) if depth == 0 else None
        if match:
            parts.append(text[last:at])
            found.append(match.group().strip())
            at = last = match.end()
        else:
            at += 1
    return [part.strip() for part in [*parts, text[last:]]], found


_UNION, _COMMA = re.compile(r"\\cup(?![A-Za-z])"), re.compile(r"[,;]")
_RELATION = re.compile(r"<=|>=|<|>|=")
_MEMBER = re.compile(r"^\s*[A-Za-z]\s*\\in(?![A-Za-z])")


def _value(text: str, depth: int = 0) -> Value:
    text = _MEMBER.sub("", text).strip()
    if not text or depth > 8:
        raise Unreadable("nothing, or nested too deep")
    if matrix := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in re.split(r"\\\\", matrix.group(2)) if row.strip()]
        return Listing("matrix", tuple(Listing("row", tuple(_value(cell, depth + 1) for cell in row)) for row in rows))
    if re.search(r"\\pm|±|\\mp", text):
        plus, minus = (
            re.sub(r"\\mp(?![A-Za-z])", other, re.sub(r"\\pm(?![A-Za-z])|±", sign, text))
            for sign, other in (("+", "-"), ("-", "+"))
        )
        both = [_value(each, depth + 1) for each in (plus, minus)]
        return Listing("", tuple(i for v in both for i in (v.items if isinstance(v, Listing) and not v.kind else (v,))))
    for separator in (_UNION, _COMMA):
        parts, _ = _split(text, separator)
        if len(parts) > 1:
            return Listing("", tuple(_value(part, depth + 1) for part in parts))
    if text[0] in "([⟦{" and text[-1] in ")]⟧}" and _closes(text):
        parts, _ = _split(text[1:-1], _COMMA)
        if len(parts) > 1 or text[0] == "⟦":
            kind = {"⟦⟧": "{}"}.get(text[0] + text[-1], text[0] + text[-1])
            return Listing(kind, tuple(_value(part, depth + 1) for part in parts))
    parts, operators = _split(text, _RELATION)
    if operators:
        return Chain(tuple(_value(part, depth + 1) for part in parts), tuple(operators))
    return _Reader(text).whole()


def _closes(text: str) -> bool:
    """Whether the first bracket is closed by the last character."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{⟦") - (character in ")]}⟧")
        if depth == 0:
            return at == len(text) - 1
    return False


class _Reader:
    """Recursive descent over one scalar expression."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def whole(self) -> sympy.Expr:
        value = self.sum()
        if self.peek():
            raise Unreadable(f"did not expect {self.text[self.at : self.at + 10]!r}")
        if value.has(sympy.zoo, sympy.nan):
            raise Unreadable("undefined")
        return value

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.peek()
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise Unreadable(f"expected {character!r}")
        self.at += 1

    def sum(self) -> sympy.Expr:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("nested too deep")
        value = self.term()
        while self.peek() in ("+", "-"):
            sign = self.peek()
            self.at += 1
            value = value + self.term() if sign == "+" else value - self.term()
        self.depth -= 1
        return value

    def term(self) -> sympy.Expr:
        value = self.factor()
        while True:
            sign = self.peek()
            if sign in ("*", "/"):
                self.at += 1
                factor = self.factor()
                value = value * factor if sign == "*" else value / factor
            elif self.starts_atom():
                if self.peek().isdigit() or self.peek() == ".":
                    raise Unreadable("two numbers side by side")
                value = value * self.power()
            else:
                return value

    def starts_atom(self) -> bool:
        character = self.peek()
        opens = bool(character) and (character.isalnum() or character in "\\({[.")
        return opens and not self.text.startswith(("\\rfloor", "\\rceil"), self.at)

    def factor(self) -> sympy.Expr:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.peek() == "-"
            self.at += 1
        value = self.power()
        return -value if negative else value

    def power(self) -> sympy.Expr:
        base = self.atom()
        while self.peek() == "!":
            self.at += 1
            if base.is_number and not (base.is_Integer and 0 <= base <= _MAX_FACTORIAL):
                raise Unreadable("the factorial of a fraction, or of a huge number")
            base = sympy.factorial(base)
        if self.peek() == "%":
            self.at += 1
            return base / 100
        if self.peek() != "^":
            return base
        self.at += 1
        return _pow(base, self.exponent())

    def exponent(self) -> sympy.Expr:
        if self.peek() == "{":
            return self.group("{", "}")
        return self.factor()

    def group(self, opening: str, closing: str) -> sympy.Expr:
        self.expect(opening)
        value = self.sum()
        self.expect(closing)
        return value

    def argument(self) -> sympy.Expr:
        r"""What follows ``\frac`` or ``\sqrt``: a group, or one digit, letter or command."""
        character = self.peek()
        if character.isdigit():
            self.at += 1
            return sympy.Integer(int(character))
        return self.atom()

    def atom(self) -> sympy.Expr:
        character = self.peek()
        for opening, closing in ("()", "{}", "[]", "||"):
            if character == opening:
                value = self.group(opening, closing)
                return sympy.Abs(value) if opening == "|" else value
        if mixed := self.take(_MIXED):
            whole, *parts = (int(part) for part in mixed.groups() if part)
            if not parts[1]:
                raise Unreadable("division by zero")
            return sympy.Integer(whole) + sympy.Rational(*parts)
        if repeating := self.take(_REPEATING):
            before, once, again = repeating.groups()
            tail = sympy.Rational(int(again), 10 ** len(once) * (10 ** len(again) - 1))
            return sympy.Rational(f"{before or 0}.{once or 0}") + tail
        if number := self.take(_NUMBER):
            return sympy.Rational(number.group())
        if command := self.take(_COMMAND):
            return self.named(command.group(1))
        if word := self.take(_WORD):
            return self.named(word.group())
        if character.isalpha() and character.isascii():
            self.at += 1
            return self.symbol(character)
        raise Unreadable(f"did not expect {character!r}")

    def symbol(self, name: str) -> sympy.Expr:
        if subscript := _SUBSCRIPT.match(self.text, self.at):
            self.at = subscript.end()
            return sympy.Symbol(f"{name}_{subscript.group(1) or subscript.group(2)}")
        return {"e": sympy.E, "i": sympy.I}.get(name) or sympy.Symbol(name)

    def named(self, name: str) -> sympy.Expr:
        if name == "frac":
            return self.argument() / self.argument()
        if name == "binom":
            return sympy.binomial(self.argument(), self.argument())
        if name == "sqrt":
            root = self.group("[", "]") if self.peek() == "[" else sympy.Integer(2)
            return _pow(self.argument(), 1 / root)
        if name in ("lfloor", "lceil"):
            value, closing = self.sum(), self.take(_COMMAND)
            if closing is None or closing[1] != "r" + name[1:]:
                raise Unreadable("a floor or ceiling that never ends")
            return sympy.floor(value) if name == "lfloor" else sympy.ceiling(value)
        if name == "pi":
            return sympy.pi
        if name in ("infty", "infinity", "inf"):
            return sympy.oo
        if name in _FUNCTIONS:
            return self.applied(name)
        if name in _GREEK:
            return self.symbol("\\" + name)
        raise Unreadable(f"unknown name {name!r}")

    def applied(self, name: str) -> sympy.Expr:
        base = exponent = None
        if name == "log" and self.peek() == "_":
            self.at += 1
            base = self.argument()
        if self.peek() == "^":
            self.at += 1
            exponent = self.exponent()
            if not (exponent.is_Integer and exponent > 0):
                raise Unreadable("an inverse function written as a power")
        if self.peek() in ("(", "{", "["):
            argument = self.atom()
        else:
            argument = self.power()
            while self.starts_atom() and not self.starts_function():
                argument = argument * self.power()
        value = sympy.log(argument, base) if base is not None else _FUNCTIONS[name](argument)
        return value if exponent is None else value**exponent

    def starts_function(self) -> bool:
        match = _COMMAND.match(self.text, self.at)
        word = match.group(1) if match else (w.group() if (w := _WORD.match(self.text, self.at)) else "")
        return word in _FUNCTIONS


def _pow(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    if base.is_Rational and exponent.is_Rational and base not in (0, 1, -1):
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if bits * abs(exponent) > _MAX_BITS:
            raise Unreadable("a number of more digits than any answer has")
    return base**exponent


# --- comparing ---------------------------------------------------------------------------------------------------


def same(gold: Value, answer: Value) -> bool:
    """Whether two values are the same mathematics."""
    gold, answer = _unassigned(gold, answer)
    if isinstance(gold, Chain) and isinstance(answer, Chain):
        return _same_chains(gold, answer)
    if isinstance(gold, Chain) or isinstance(answer, Chain):
        left, right = (_interval(value) for value in (gold, answer))
        return left is not None and right is not None and _all_same(left.items, right.items) and left.kind == right.kind
    if isinstance(gold, Listing) or isinstance(answer, Listing):
        return _same_listings(_listing(gold), _listing(answer))
    return equal(gold, answer)


def _listing(value: Value) -> Listing:
    return value if isinstance(value, Listing) else Listing("{}", (value,))


def _same_listings(gold: Listing, answer: Listing) -> bool:
    if len(gold.items) != len(answer.items):
        return False
    unordered = ("", "{}")
    if gold.kind in unordered and answer.kind in unordered:
        left = list(answer.items)
        for item in gold.items:
            match = next((index for index, other in enumerate(left) if same(item, other)), None)
            if match is None:
                return False
            left.pop(match)
        return True
    return gold.kind == answer.kind and _all_same(gold.items, answer.items)


def _all_same(gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool:
    return len(gold) == len(answer) and all(map(same, gold, answer))


def _unassigned(gold: Value, answer: Value) -> tuple[Value, Value]:
    """``x = 5`` beside ``5`` is 5; two equations stay equations."""
    if isinstance(gold, Chain) == isinstance(answer, Chain):
        return gold, answer
    return _assigned(gold), _assigned(answer)


def _assigned(value: Value) -> Value:
    if not isinstance(value, Chain) or set(value.operators) != {"="}:
        return value
    first, last = value.sides[0], value.sides[-1]
    name = isinstance(first, sympy.Symbol) or (
        isinstance(first, sympy.Mul) and len(first.args) == 2 and all(isinstance(a, sympy.Symbol) for a in first.args)
    )  # f(x) reads as a product
    worked = value.sides[1:] if name else value.sides
    return last if all(same(a, b) for a, b in itertools.pairwise(worked)) else value


def _same_chains(gold: Chain, answer: Chain) -> bool:
    if gold.operators == answer.operators == ("=",):
        sides = (*gold.sides, *answer.sides)
        if all(isinstance(side, sympy.Expr) for side in sides):
            return _same_equations(*sides)
    intervals = _interval(gold), _interval(answer)
    if intervals[0] is not None and intervals[1] is not None:
        names = [_unknown(chain) for chain in (gold, answer)]
        return names[0] == names[1] and same(intervals[0], intervals[1])
    return gold.operators == answer.operators and _all_same(gold.sides, answer.sides)


def _same_equations(a: sympy.Expr, b: sympy.Expr, c: sympy.Expr, d: sympy.Expr) -> bool:
    """``a = b`` and ``c = d`` have the same numerator but for a constant factor."""
    first, second = (sympy.numer(sympy.together(left - right)) for left, right in ((a, b), (c, d)))
    if not first.free_symbols or not second.free_symbols:
        return equal(a, c) and equal(b, d)
    ratio = sympy.cancel(first / second)
    return not ratio.free_symbols and ratio != 0


def _unknown(chain: Chain) -> sympy.Symbol | None:
    symbols = [side for side in chain.sides if isinstance(side, sympy.Symbol)]
    return symbols[0] if len(symbols) == 1 else None


def _interval(value: Value) -> Listing | None:
    """``0 < x <= 5`` and ``(0, 5]`` as ``(0, 5]``; None for what is no interval."""
    if isinstance(value, Listing):
        return value if len(value.kind) == 2 and value.kind != "{}" and len(value.items) == 2 else None
    if not isinstance(value, Chain):
        return None
    unknown, sides, operators = _unknown(value), value.sides, value.operators
    if unknown is None or "=" in operators or len({operator[0] for operator in operators}) != 1:
        return None
    if operators[0][0] == ">":
        sides, operators = sides[::-1], tuple("<" + operator[1:] for operator in operators[::-1])
    at = sides.index(unknown)
    if len(sides) > 3 or (len(sides) == 3 and at != 1):
        return None
    low, high = (sides[0] if at else -sympy.oo), (sides[-1] if at < len(sides) - 1 else sympy.oo)
    closed_low = at > 0 and operators[0] == "<="
    closed_high = at < len(sides) - 1 and operators[-1] == "<="
    return Listing(("[" if closed_low else "(") + ("]" if closed_high else ")"), (low, high))


def equal(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two expressions are the same number, or the same function of the same unknowns."""
    if a == b:
        return True
    if (a.is_Rational and b.is_Rational) or _apart(a, b):
        return False
    difference = a - b
    if difference == 0 or difference.expand() == 0:
        return True
    # One numerator settles rational functions in a tenth of the time that the general test takes.
    return sympy.numer(sympy.together(difference)).expand() == 0 or difference.equals(0) is True


def _apart(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two expressions are plainly different at one point. Cheap, and can only tell them apart."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    point = {symbol: sympy.Rational(sympy.prime(7 + index), 11) for index, symbol in enumerate(symbols)}
    left, right = (value.evalf(30, subs=point) for value in (a, b))
    if not (left.is_number and right.is_number and left.is_finite and right.is_finite):
        return False
    return bool(abs(left - right) > sympy.Float("1e-15") * (abs(left) + abs(right)))

"""A calculator for text that a model wrote: bounded in time and size, and without eval."""

import re

from stillroom.errors import StillroomError

_TOKEN = re.compile(r"\s*(?:([0-9]+)|([-+*()]))")
_MAX_CHARACTERS, _MAX_DIGITS, _MAX_DEPTH = 200, 60, 20


class _Refused(StillroomError, ValueError):
    pass


def calc(expression: str) -> str:
    """The value of an integer expression with + - * and parentheses; a fault comes back as ``error: …``, never raised.

    Expressions of more than 200 characters, numbers of more than 60 digits and parentheses more than 20 deep are
    refused.

    >>> calc("128*7"), calc("2*(3-10)"), calc("2**9")
    ('896', '-14', 'error: expected a number at character 2')
    """
    try:
        parser = _Parser(expression)
        value = parser.sum(0)
        parser.finish()
        return str(value)
    except _Refused as error:
        return f"error: {error}"


class _Parser:
    """Recursive descent: sum = product {(+|-) product}; product = atom {* atom}; atom = -atom | number | (sum)."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_CHARACTERS:
            raise _Refused(f"more than {_MAX_CHARACTERS} characters")
        self._tokens: list[tuple[str, int]] = []
        self._next = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise _Refused("only whole numbers, + - * and parentheses are understood")
            self._tokens.append((match[1] or match[2], match.start(match.lastindex or 0)))
            position = match.end()
        self._tokens.append(("", end))

    def sum(self, depth: int) -> int:
        value = self._product(depth)
        while (operator := self._take("+", "-")) is not None:
            operand = self._product(depth)
            value = _bounded(value + operand if operator == "+" else value - operand)
        return value

    def finish(self) -> None:
        token, at = self._tokens[self._next]
        if token:
            raise _Refused(f"unexpected {token!r} at character {at}")

    def _product(self, depth: int) -> int:
        value = self._atom(depth)
        while self._take("*") is not None:
            value = _bounded(value * self._atom(depth))
        return value

    def _atom(self, depth: int) -> int:
        sign = 1
        while self._take("-") is not None:
            sign = -sign
        if self._take("(") is not None:
            if depth == _MAX_DEPTH:
                raise _Refused(f"parentheses more than {_MAX_DEPTH} deep")
            value = self.sum(depth + 1)
            if self._take(")") is None:
                raise _Refused(f"expected ')' at character {self._tokens[self._next][1]}")
            return sign * value
        token, at = self._tokens[self._next]
        if not token.isdigit():
            raise _Refused(f"expected a number at character {at}")
        if len(token) > _MAX_DIGITS:
            raise _Refused(f"a number of more than {_MAX_DIGITS} digits")
        self._next += 1
        return sign * int(token)

    def _take(self, *wanted: str) -> str | None:
        token = self._tokens[self._next][0]
        if token not in wanted:
            return None
        self._next += 1
        return token


def _bounded(value: int) -> int:
    if abs(value) >= 10**_MAX_DIGITS:
        raise _Refused(f"a result of more than {_MAX_DIGITS} digits")
    return value

"""Tool arithmetic: multi-digit sums whose steps are calls of a calculator, ``calc(128*7)=896``.

Level k applies k operations to a number of several digits. Values stay positive, so that the column
method of school can be written out for every operation.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from pydantic import JsonValue

from stillroom.errors import UserError
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.calculator import calc
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem

LAYOUTS = ("equations", "calls", "digits")
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_CHECK = {"+": "{result}-{right}", "-": "{result}+{right}", "*": "{right}*{left}"}


@register(
    "tool-arithmetic",
    summary="multi-digit + - * whose steps are calculator calls; level = number of operations",
    world="arithmetic",
    levels=(1, 2, 3, 4),
)
def tool_arithmetic(low: int = 1, high: int = 4, digits: int = 3) -> Task:
    """Multi-digit arithmetic with `low` to `high` operations on numbers of 2 to `digits` digits; factors are 2 to 9.

    Raises:
        UserError: levels or digits are out of range.
    """
    if not 1 <= low <= high <= 12:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 12")
    if not 2 <= digits <= 9:
        raise UserError(f"digits={digits} is out of range; give 2 to 9")

    def make(rng: Random, level: int) -> Problem:
        start = value = _number(rng, digits)
        text, last = str(start), ""
        steps: list[JsonValue] = []
        for _ in range(level):
            operator = rng.choice("+-*" if value > 10 else "+*")
            if operator == "*":
                operand = rng.randrange(2, 10)
                text = f"({text})" if last in ("+", "-") else text
            else:
                operand = _number(rng, digits)
                if operator == "-" and operand >= value:
                    operand = rng.randrange(1, value)
            text, last = f"{text}{operator}{operand}", operator
            steps.append([operator, operand])
            value = _APPLY[operator](value, operand)
        return Problem(
            id="",
            task="tool-arithmetic",
            messages=question(f"What is {text}?"),
            reference=str(value),
            level=level,
            meta={"start": start, "steps": steps, "digits": digits},
        )

    levels = tuple(range(low, high + 1))
    return Task(
        name="tool-arithmetic",
        summary="multi-digit arithmetic with a calculator",
        problems=procedural(f"tool-arithmetic-{digits}", make, levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="arithmetic",
        corrupt=lambda problem: str(int(problem.reference or 0) + 1),
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """One step per operation: an equation, a calculator call, or the columns written out.

    A calculator does not err, so the injected error of a call is a wrong question: its operand is miscopied and the
    result is true to what was typed. In columns one digit is wrong, and its carry goes on.
    """
    writer = StepWriter("tool-arithmetic", LAYOUTS, style, rng)
    value, sound = int(str(problem.meta["start"])), True
    steps: list[tuple[str, int]] = problem.meta["steps"]  # type: ignore[assignment]
    for operator, operand in steps:
        injected = writer.slips()
        sound = sound and not injected
        left, right = value, operand
        if style.layout == "calls":
            right += rng.randrange(1, 10) if injected else 0
            result = calc(f"{left}{operator}{right}")
            value, line = int(result), f"calc({left}{operator}{right})={result}"
        elif style.layout == "digits" and left >= (right if operator == "-" else 0):
            columns = write_columns(left, operator, right, rng if injected else None)
            value, line = columns.result, f"{left}{operator}{right}: {columns.text} so {columns.result}"
        else:  # also where an earlier error left a value that columns cannot be written for
            value = _APPLY[operator](left, right) + (rng.choice((-10, -1, 1, 10, 100)) if injected else 0)
            line = f"{left}{operator}{right}={value}"
        check = _CHECK[operator].format(left=left, right=right, result=value)
        checked = f"calc({check})={calc(check)}" if style.layout == "calls" else f"check: {check}={calc(check)}"
        # A check would give an injected error away, and the chain would go on with it all the same.
        checks = (f"So far {value}.",) if injected else (f"So far {value}.", checked)
        writer.step(line, checks, sound=sound, injected=injected)
    return writer.solution(str(value))


class Columns(NamedTuple):
    """A written-out operation."""

    text: str
    """Each column from the right, with what was carried into it: ``8*7=56 2*7+5=19 1*7+1=8``."""
    result: int


def write_columns(left: int, operator: str, right: int, slip: Random | None = None) -> Columns:
    """Add, subtract or multiply column by column.

    Args:
        left: not negative, and not below `right` for ``-``.
        right: not negative; one digit for ``*``.
        slip: draws one column to get wrong, and how; None works it out correctly.
    """
    shown = str(left)[::-1]
    other = str(right) * len(shown) if operator == "*" else str(right)[::-1]
    width = max(len(shown), len(other))
    wrong = -1 if slip is None else slip.randrange(width)
    carry, result, parts = 0, 0, []
    for column in range(width):
        upper = int(shown[column]) if column < len(shown) else 0
        lower = int(other[column]) if column < len(other) else None
        total = carry + (upper if lower is None else _APPLY[operator](upper, lower))
        text = str(upper) + ("" if lower is None else f"{operator}{lower}") + (f"{carry:+d}" if carry else "")
        if column == wrong and slip is not None:
            # One up or down; never so far down that the whole result would be negative.
            down = _APPLY[operator](left, right) >= 10**column and total > -10
            total += slip.choice((-1, 1)) if down else 1
        if column == width - 1:
            result += total * 10**column
        else:
            result += total % 10 * 10**column
            carry = total // 10
            if total < 0:  # ten is borrowed from the next column
                text, total = text + "+10", total % 10
        parts.append(f"{text}={total}")
    return Columns(" ".join(parts), result)


def _number(rng: Random, digits: int) -> int:
    """A number of 2 to `digits` digits; each length is as likely as another."""
    length = rng.randint(2, digits)
    return rng.randrange(10 ** (length - 1), 10**length)

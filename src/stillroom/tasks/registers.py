"""Register folding: short programs of labelled lines, of which only some are needed for the register asked for.

Level k needs k folds (lines that compute); the other lines are given values and distractors. Every line is a premise
with a span that says what it defines, what it uses and whether the answer needs it.
"""

import re
from collections.abc import Callable
from random import Random
from string import ascii_lowercase
from typing import Literal, NamedTuple

from pydantic import JsonValue

from stillroom.errors import UserError
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Span

LAYOUTS = ("equations", "sentences")
_MAX_FOLDS, _MAX_GIVEN, _MAX_DISTRACTORS = 12, 4, 8  # together they fit into 26 letters
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_WORDS = {"+": "plus", "-": "minus", "*": "times"}


class Line(NamedTuple):
    """``name=left`` where `left` is a number, or ``name=left operator right`` where `left` is a register."""

    name: str
    left: str
    operator: str
    right: str


@register(
    "registers",
    summary="fold labelled registers modulo a prime, past distractors; level = number of needed folds",
    world="registers",
    levels=(1, 2, 3, 4, 5, 6),
)
def registers(
    modulus: int = 7,
    low: int = 1,
    high: int = 6,
    distractors: int = 2,
    operands: Literal["any", "numbers", "one"] = "any",
) -> Task:
    """Register folding with `low` to `high` needed folds and that many distractor lines.

    Args:
        operands: ``numbers``: every fold goes on from the one before with a number, so that the last register's name
            and value are all that is needed to go on. ``one``: it is the same operation with the same number in every
            fold, which can be read in any of the lines.

    Raises:
        UserError: `modulus` is not a prime from 5 to 97, or the levels or distractors are out of range.
    """
    if not 5 <= modulus <= 97 or any(modulus % d == 0 for d in range(2, modulus)):
        raise UserError(f"modulus {modulus} is not a prime from 5 to 97; try modulus=7 or modulus=11")
    if not 1 <= low <= high <= _MAX_FOLDS:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= {_MAX_FOLDS}")
    if not 0 <= distractors <= _MAX_DISTRACTORS:
        raise UserError(f"distractors={distractors} is out of range; give 0 to {_MAX_DISTRACTORS}")

    def make(rng: Random, level: int) -> Problem:
        program = _Program(rng, modulus)
        asked = program.fold_needed(level) if operands == "any" else program.fold_on(level, same=operands == "one")
        needed = {line.name for line in program.lines}
        for _ in range(distractors):
            program.add_distractor()
        text, spans = f"Modulo {modulus}:\n", []
        for line in program.lines:
            shown = f"{line.name}={line.left}{line.operator}{line.right}"
            uses = [word for word in (line.left, line.right) if word.isalpha()]
            data: dict[str, JsonValue] = {"name": line.name, "uses": [*uses], "needed": line.name in needed}
            spans.append(Span(kind="premise", start=len(text), end=len(text) + len(shown), data=data))
            text += shown + "\n"
        return Problem(
            id="",
            task="registers",
            messages=question(f"{text}What is {asked}?"),
            reference=str(program.values[asked]),
            level=level,
            spans=tuple(spans),
            meta={"modulus": modulus, "asked": asked, "lines": [list(line) for line in program.lines]},
        )

    levels = tuple(range(low, high + 1))
    kind = "" if operands == "any" else f"-{operands}"
    return Task(
        name="registers",
        summary="labelled registers folded modulo a prime",
        problems=procedural(f"registers-{modulus}-{distractors}{kind}", make, levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="registers",
        corrupt=lambda problem: str((int(problem.reference or 0) + 1) % modulus),
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Fold what the asked register needs, in the order of the lines; a wrong result spoils only what uses it."""
    writer = StepWriter("registers", LAYOUTS, style, rng)
    modulus, asked = int(str(problem.meta["modulus"])), str(problem.meta["asked"])
    lines = [Line(*row) for row in problem.meta["lines"]]  # type: ignore[union-attr, misc]
    needed = {str(span.data["name"]) for span in problem.spans if span.data["needed"]}
    values: dict[str, int] = {}
    sound: dict[str, bool] = {}
    for line in lines:
        if line.name not in needed:
            continue
        if not line.operator:
            values[line.name], sound[line.name] = int(line.left), True
            continue
        left = values[line.left]
        right = values[line.right] if line.right.isalpha() else int(line.right)
        whole = _APPLY[line.operator](left, right)
        injected = writer.slips()
        result = (whole + (rng.randrange(1, modulus) if injected else 0)) % modulus
        values[line.name] = result
        sound[line.name] = not injected and sound[line.left] and sound.get(line.right, True)
        if style.layout == "equations":
            text = f"{line.name}={left}{line.operator}{right}={result}"
            checks = (f"{left}{line.operator}{right}={whole}", f"check: {line.name}={result}")
        else:
            text = f"{line.name} is {left} {_WORDS[line.operator]} {right}, so {result}."
            checks = (f"Before the modulus it is {whole}.", f"So {line.name} holds {result}.")
        writer.step(text, checks, sound=sound[line.name], injected=injected)
    return writer.solution(str(values[asked]))


class _Program:
    """A program under construction; every line uses only registers of earlier lines."""

    def __init__(self, rng: Random, modulus: int) -> None:
        self.lines: list[Line] = []
        self.values: dict[str, int] = {}
        self._rng, self._modulus = rng, modulus
        self._names = rng.sample(ascii_lowercase, len(ascii_lowercase))

    def fold_needed(self, folds: int) -> str:
        """Write exactly that many folds, all needed for the last one; returns its name.

        `open_ends` are results that nothing uses yet: the last fold must be the only one left, so each fold either
        opens one more branch, goes on with one, or joins two, as long as enough folds remain to join them all.
        """
        open_ends: list[str] = []
        for remaining in range(folds - 1, -1, -1):  # folds that follow this one
            if len(open_ends) > remaining + 1 or (len(open_ends) == 2 and self._rng.random() < 0.5):
                left, right = self._rng.sample(open_ends, 2)
                open_ends = [name for name in open_ends if name not in (left, right)]
            elif not open_ends or (len(open_ends) <= remaining and self._rng.random() < 0.3):
                left, right = self._given(), self._operand()
            else:
                left, right = open_ends.pop(self._rng.randrange(len(open_ends))), self._operand()
            # The operand may be an open end itself; it is then joined.
            open_ends = [name for name in open_ends if name != right]
            open_ends.append(self._fold(len(self.lines), left, right))
        return open_ends[0]

    def fold_on(self, folds: int, *, same: bool = False) -> str:
        """Write that many folds, each of the one before and a number, named on through the alphabet from anywhere in
        it; returns the last one's name.

        Args:
            same: all with one operator and one number.
        """
        first = self._rng.randrange(len(ascii_lowercase))
        self._names = [ascii_lowercase[(first - at) % len(ascii_lowercase)] for at in range(len(ascii_lowercase))]
        name = self._give(0)
        operator, number = (self._rng.choice("+-*"), self._number()) if same else ("", "")
        for _ in range(folds):
            name = self._fold(len(self.lines), name, number or self._number(), operator)
        return name

    def add_distractor(self) -> None:
        """Insert a line that nothing needed uses, anywhere."""
        at = self._rng.randint(0, len(self.lines))
        before = [line.name for line in self.lines[:at]]
        if before and self._rng.random() < 0.6:
            self._fold(at, self._rng.choice(before), self._number())
        else:
            self._give(at)

    def _give(self, at: int) -> str:
        name = self._names.pop()
        self.values[name] = self._rng.randrange(1, self._modulus)
        self.lines.insert(at, Line(name, str(self.values[name]), "", ""))
        return name

    def _given(self) -> str:
        """A given value, new or known; it is used at once."""
        known = [line.name for line in self.lines if not line.operator]
        if len(known) >= _MAX_GIVEN or (known and self._rng.random() < 0.3):
            return self._rng.choice(known)
        return self._give(len(self.lines))

    def _operand(self) -> str:
        draw = self._rng.random()
        if draw < 0.4:
            return self._number()
        return self._given() if draw < 0.8 else self._rng.choice([line.name for line in self.lines])

    def _number(self) -> str:
        return str(self._rng.randrange(2, self._modulus))

    def _fold(self, at: int, left: str, right: str, operator: str = "") -> str:
        values = self.values[left], self.values[right] if right.isalpha() else int(right)
        # No factor 0: products would pile up on it, and one residue would be a good guess.
        operator = operator or self._rng.choice("+-" if 0 in values else "+-*")
        name = self._names.pop()
        self.values[name] = _APPLY[operator](*values) % self._modulus
        self.lines.insert(at, Line(name, left, operator, right))
        return name


_RESULT = re.compile(r"^([a-z])=[^=\n]*=(\d+)$", re.MULTILINE)


def last_value(thought: str) -> str | None:
    """The last register that a thought in equations worked out, as ``name=value``: all that is needed to go on where
    operands are numbers; None when there is none.

    >>> last_value("b=3+4=0\\n3+4=7")
    'b=0'
    """
    found = _RESULT.findall(thought)
    return f"{found[-1][0]}={found[-1][1]}" if found else None

"""Chain arithmetic modulo a prime: ``Modulo 7, from left to right: 3 +5 *4 -2``.

Level k applies k operations to a start value. The modulus is prime and factors are neither 0 nor 1, so that no residue
is the answer much more often than another (modulo 10, products pile up on 0 and on even digits).
"""

import re
from collections.abc import Callable
from random import Random

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.base import Solution, Style, Task, Verify, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.types import Problem, Span, Verdict

_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_WORDS = {"+": "plus", "-": "minus", "*": "times"}
_FILLERS = ("Let me see.", "One more.", "So far so good.", "Keep going.")
LAYOUTS = ("equations", "sentences")
_STEPS = {
    "equations": re.compile(r"\d[-+*]\d+=\d"),
    "sentences": re.compile(r"\d (?:plus|minus|times) \d+ is \d"),
}


@register(
    "arithmetic",
    summary="chains of +, - and * modulo a prime; level = number of operations",
    world="arithmetic",
    levels=(1, 2, 3, 4, 5, 6),
)
def arithmetic(modulus: int = 7, low: int = 1, high: int = 6, layout: str = "") -> Task:
    """Chain arithmetic with levels `low` to `high`.

    Args:
        layout: one of `LAYOUTS`: a right answer counts only with steps in that layout, which the question does not ask
            for: a rule of its own to learn beside the arithmetic.

    Raises:
        UserError: unless `modulus` is a prime from 3 to 97; levels or a layout that are not there.
    """
    if not 3 <= modulus <= 97 or any(modulus % d == 0 for d in range(2, modulus)):
        raise UserError(f"modulus {modulus} is not a prime from 3 to 97; try modulus=7 or modulus=11")
    if not 1 <= low <= high <= 40:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 40")

    if layout and layout not in LAYOUTS:
        raise unknown_name("layout of arithmetic", layout, LAYOUTS)

    def make(rng: Random, level: int) -> Problem:
        start = rng.randrange(modulus)
        steps = []
        for _ in range(level):
            operator = rng.choice("+-*")
            steps.append((operator, rng.randrange(2 if operator == "*" else 1, modulus)))
        value = start
        for operator, operand in steps:
            value = _APPLY[operator](value, operand) % modulus
        chain = " ".join([str(start), *(f"{operator}{operand}" for operator, operand in steps)])
        return Problem(
            id="",
            task="arithmetic",
            messages=question(f"Modulo {modulus}, from left to right: {chain}"),
            reference=str(value),
            level=level,
            meta={"modulus": modulus, "start": start, "steps": [list(step) for step in steps]},
        )

    levels = tuple(range(low, high + 1))
    return Task(
        name="arithmetic",
        summary="chains of +, - and * modulo a prime",
        problems=procedural(f"arithmetic-{modulus}", make, levels),
        verify=_in_layout(layout) if layout else verify_exact,
        solve=solve,
        levels=levels,
        world="arithmetic",
        corrupt=lambda problem: str((int(problem.reference or 0) + 1) % modulus),
    )


def layout_of(text: str) -> str | None:
    """In which of `LAYOUTS` all steps of a response are written; None for a mixture or no step."""
    found = {name for name, step in _STEPS.items() if step.search(text)}
    return found.pop() if len(found) == 1 else None


def _in_layout(layout: str) -> Verify:
    def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        found = verify_exact(problem, text, strict=strict)
        if not found.correct or layout_of(text) == layout:
            return found
        return found.model_copy(update={"correct": False, "score": 0.0, "reason": f"steps not in {layout}"})

    return verify


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Work the chain step by step; an injected error changes one result, and the rest of the chain follows from it."""
    if style.layout not in LAYOUTS:
        raise UserError(f"arithmetic has no layout {style.layout!r}; known: {', '.join(LAYOUTS)}")
    modulus, value = int(str(problem.meta["modulus"])), int(str(problem.meta["start"]))
    steps: list[tuple[str, int]] = problem.meta["steps"]  # type: ignore[assignment]
    text, spans, sound = "", [], True
    for operator, operand in steps:
        result = _APPLY[operator](value, operand) % modulus
        injected = rng.random() < style.error_rate
        if injected:
            result = (result + rng.randrange(1, modulus)) % modulus
            sound = False
        if rng.random() < style.fillers:
            text += rng.choice(_FILLERS) + "\n"
        begin = len(text)
        text += _step(style, value, operator, operand, result, modulus)
        spans.append(Span(kind="step", start=begin, end=len(text), data={"correct": sound, "injected": injected}))
        text += "\n"
        value = result
    return Solution(text.removesuffix("\n"), str(value), tuple(spans))


def _step(style: Style, value: int, operator: str, operand: int, result: int, modulus: int) -> str:
    if style.layout == "equations":
        line = f"{value}{operator}{operand}={result}"
        checks = (f"{value}{operator}{operand}={_APPLY[operator](value, operand)}", f"check: {result}")
    else:
        line = f"{value} {_WORDS[operator]} {operand} is {result}."
        checks = (
            f"Before the modulus it is {_APPLY[operator](value, operand)}.",
            f"Modulo {modulus} that is {result}.",
        )
    return "\n".join([line, *(checks[i % 2] for i in range(style.verbosity))])

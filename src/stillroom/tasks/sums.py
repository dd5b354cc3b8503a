"""Sums of labelled numbers, ``Modulo 7: a3 b5 c2 d6``, whose solver changes its mind: the world of thought switches.

Level k adds k numbers. A sum may be worked from left to right or from right to left: two lines of thought, of which
each alone is always possible and always enough. In layout ``switches`` the solver abandons an order after a random step
with "Alternatively" and starts the other one from scratch, at most three times, and after the answer it works the sum
again with "Wait, check". Steps are paragraphs of one equation, ``a3+b5=1`` and then ``1+c2=3``; the labels tell a small
model where it is.
"""

from random import Random
from string import ascii_lowercase
from typing import NamedTuple

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.types import Problem, Span

LAYOUTS = ("equations", "switches")
"""``equations``: one order from start to end, then `Style.verbosity` check passes. ``switches``: up to three abandoned
attempts before it, and from none to `Style.verbosity` check passes, all equally likely."""
MODULUS = 7
_LARGEST = 9  # of the numbers to add
_FEWEST = 3  # numbers to add; with two there is one step and nothing to abandon
_MOST = len(ascii_lowercase)
_SWITCHES = 3
_EARLY, _LATE = 0.65, 0.15  # chance of abandoning an order after its first step, and after each later one
_FILLERS = ("Let me see.", "One more.", "So far so good.", "Keep going.")


class _Pass(NamedTuple):
    """One walk through the numbers, or the part of it before it is abandoned."""

    opening: str
    forwards: bool
    steps: int


@register(
    "sums",
    summary="sums of labelled numbers modulo 7 in either order, abandoned and begun anew; level = numbers to add",
    world="sums",
    levels=(3, 4, 5, 6),
)
def sums(low: int = 3, high: int = 6) -> Task:
    """Sums of `low` to `high` numbers from 1 to 9; raises UserError unless 3 <= low <= high <= 26."""
    if not _FEWEST <= low <= high <= _MOST:
        raise UserError(f"levels {low} to {high} make no sense; give {_FEWEST} <= low <= high <= {_MOST}")

    def make(rng: Random, level: int) -> Problem:
        terms = [rng.randint(1, _LARGEST) for _ in range(level)]
        return Problem(
            id="",
            task="sums",
            messages=question(f"Modulo {MODULUS}: {' '.join(f'{label}{term}' for label, term in _labelled(terms))}"),
            reference=str(sum(terms) % MODULUS),
            level=level,
            meta={"modulus": MODULUS, "terms": [*terms]},
        )

    levels = tuple(range(low, high + 1))
    return Task(
        name="sums",
        summary="labelled sums modulo 7 in either order",
        problems=procedural("sums", make, levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="sums",
        corrupt=lambda problem: str((int(problem.reference or 0) + 1) % MODULUS),
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Add step by step in the style's layout; the first order that is finished gives the answer.

    An injected error changes one result and what follows from it in the same pass; a check that finds another result
    changes nothing.
    """
    if style.layout not in LAYOUTS:
        raise unknown_name("layout of sums", style.layout, LAYOUTS)
    terms: list[int] = problem.meta["terms"]  # type: ignore[assignment]
    attempts, checks = _plan(len(terms) - 1, style, rng)
    text, spans, answer = "", list[Span](), ""
    for number, (opening, forwards, count) in enumerate([*attempts, *checks]):
        (first, value), *rest = _labelled(terms) if forwards else _labelled(terms)[::-1]
        left, sound = f"{first}{value}", True
        for step, (label, term) in enumerate(rest[:count]):
            injected = rng.random() < style.error_rate
            result = (value + term + (rng.randrange(1, MODULUS) if injected else 0)) % MODULUS
            sound = sound and not injected
            if rng.random() < style.fillers:
                text += rng.choice(_FILLERS) + "\n\n"
            begin = len(text)
            text += f"{'' if step else opening}{left}+{label}{term}={result}"
            spans.append(Span(kind="step", start=begin, end=len(text), data={"correct": sound, "injected": injected}))
            text += "\n\n"
            value, left = result, str(result)
        if number == len(attempts) - 1:
            answer = str(value)
    return Solution(text.removesuffix("\n\n"), answer, tuple(spans))


def _labelled(terms: list[int]) -> list[tuple[str, int]]:
    return list(zip(ascii_lowercase, terms, strict=False))


def _plan(steps: int, style: Style, rng: Random) -> tuple[list[_Pass], list[_Pass]]:
    """The attempts, of which the last alone is finished, and the check passes; each turns the order round."""
    switching = style.layout == "switches"
    forwards = rng.random() < 0.5
    checks = style.verbosity - (int(rng.random() * (style.verbosity + 1)) if switching else 0)
    attempts: list[_Pass] = []
    while True:
        done = 1
        while done < steps and not (
            switching and len(attempts) < _SWITCHES and rng.random() < (_EARLY if done == 1 else _LATE)
        ):
            done += 1
        attempts.append(_Pass("Alternatively, " if attempts else "", forwards, done))
        forwards = not forwards
        if done == steps:
            break
    return attempts, [_Pass("Wait, check ", forwards ^ bool(number % 2), steps) for number in range(checks)]

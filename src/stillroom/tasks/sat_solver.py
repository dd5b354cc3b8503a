"""A complete solver for small formulas in conjunctive normal form, which says how it went about it.

DPLL (Davis, Logemann and Loveland 1962): unit propagation, then a decision on the first variable left, true first, then
false. A clause is a tuple of literals, a literal the number of a variable from 1, negative when it is negated.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Clause = tuple[int, ...]
Formula = tuple[Clause, ...]


class Event(NamedTuple):
    """One thing that the search did."""

    kind: Literal["unit", "try", "conflict", "back"]
    """``unit``: forced by a clause; ``try``: decided; ``conflict``: a clause fails; ``back``: the other way instead."""
    literal: int
    """What was made true; of a conflict, 0."""
    clause: int
    """Index of the clause that forces or fails; -1 for decisions."""
    injected: bool = False
    """The clause was misread here."""


class Solved(NamedTuple):
    """What the search found."""

    model: tuple[int, ...] | None
    """Literals that satisfy the formula, for the variables that were set; None when nothing does."""
    events: tuple[Event, ...]

    @property
    def decisions(self) -> int:
        return sum(event.kind == "try" for event in self.events)

    @property
    def conflicts(self) -> int:
        return sum(event.kind == "conflict" for event in self.events)

    @property
    def propagations(self) -> int:
        return sum(event.kind == "unit" for event in self.events)


def solve(formula: Sequence[Clause], misreads: Callable[[], bool] = bool) -> Solved:
    """Whether a formula can be satisfied. No clauses: it can; an empty clause: it cannot.

    Args:
        misreads: asked whenever a clause forces a literal; when it says so, the sign of that literal in that clause is
            taken for the other one, there and in all that follows. By default never.
    """
    events: list[Event] = []
    model = _search(list(formula), sorted(variables_of(formula)), {}, events, misreads)
    found = None if model is None else tuple(v if model[v] else -v for v in sorted(model))
    return Solved(found, tuple(events))


def _search(
    formula: list[Clause],
    variables: list[int],
    given: dict[int, bool],
    events: list[Event],
    misreads: Callable[[], bool],
) -> dict[int, bool] | None:
    values = dict(given)
    if not _propagate(formula, values, events, misreads):
        return None
    free = [variable for variable in variables if variable not in values]
    if not free:
        return values
    for attempt, literal in enumerate((free[0], -free[0])):
        events.append(Event("back" if attempt else "try", literal, -1))
        found = _search(formula, variables, {**values, free[0]: literal > 0}, events, misreads)
        if found is not None:
            return found
    return None


def _propagate(
    formula: list[Clause], values: dict[int, bool], events: list[Event], misreads: Callable[[], bool]
) -> bool:
    """Set all that is forced, in `values`; False at the first clause that cannot hold any more."""
    changed = True
    while changed:
        changed = False
        for index, clause in enumerate(formula):
            free = None
            for literal in clause:
                value = values.get(abs(literal))
                if value is None:
                    if free is not None and free != literal:
                        break  # two are free: nothing follows yet
                    free = literal
                elif value == (literal > 0):
                    break
            else:
                if free is None:
                    events.append(Event("conflict", 0, index))
                    return False
                injected = misreads()
                if injected:
                    formula[index] = tuple(-literal if abs(literal) == abs(free) else literal for literal in clause)
                    free = -free
                values[abs(free)] = free > 0
                events.append(Event("unit", free, index, injected))
                changed = True
    return True


def holds(formula: Sequence[Clause], model: Sequence[int]) -> bool:
    """Whether every clause has a literal of the model."""
    true = set(model)
    return all(any(literal in true for literal in clause) for clause in formula)


def canonical(formula: Sequence[Clause]) -> Formula:
    """The formula whatever the order of clauses and of literals, and without repeats."""
    return tuple(sorted({tuple(sorted(set(clause))) for clause in formula}))


def variables_of(formula: Sequence[Clause]) -> set[int]:
    """Variables that occur."""
    return {abs(literal) for clause in formula for literal in clause}


def alpha(formula: Sequence[Clause]) -> float | None:
    """Clauses per variable that occurs; None without variables."""
    count = len(variables_of(formula))
    return len(formula) / count if count else None

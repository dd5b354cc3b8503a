"""LogiGLUE: twenty-four families of reasoning over text in one form, ten to train on, fourteen left out.

Luo et al., "Towards LogiGLUE" (2023, https://arxiv.org/abs/2310.00836). The families are procedural miniatures of the
sets whose names they bear, with vocabularies of a few hundred words; real sets that are at hand go by ``real-…``. Which
type is hardest depends on how hard we made each: it is reported, and claimed of nothing.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import get_args

from stillroom.errors import UserError, unknown_name
from stillroom.tasks import logic_deductive, logic_other
from stillroom.tasks.base import Solution, Style, Task, procedural
from stillroom.tasks.logic_family import Family, Type, to_problem, verify
from stillroom.tasks.logic_real import REAL, real_problems
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split

LAYOUTS = ("equations", "sentences")
FAMILIES: dict[str, Family] = {f.name: f for f in (*logic_deductive.FAMILIES, *logic_other.FAMILIES)}
"""The twenty-four."""
PARTS = ("train", "held-out", "all")
DEPTHS = (0, 1, 2, 3, 4, 5, 6)


@register(
    "logiglue",
    summary="24 families of reasoning over text, answered in words; level = steps of reasoning",
    world="logic",
    levels=DEPTHS,
)
def logiglue(family: str = "", part: str = "train", without: str = "", low: int = 0, high: int = 6) -> Task:
    """Families in turn, in LogiGLUE's form.

    Args:
        family: one family, by name; real sets are ``real-folio``, ``real-logical-deduction``, ….
        part: of the twenty-four: ``train`` (ten), ``held-out`` (fourteen) or ``all``.
        without: leave one type out: problems to train on are of the training families of other types, those of the
            test split of all families of that type.
        low, high: steps of reasoning.

    Raises:
        UserError: a family, part or type that is not there, options without effect together, or no such depths.
    """
    if part not in PARTS:
        raise unknown_name("part of logiglue", part, PARTS)
    if without and without not in get_args(Type):
        raise unknown_name("type of reasoning", without, get_args(Type))
    if family and (part != "train" or without):
        raise UserError(f"family={family} is one family; leave part= and without= out")
    if without and part != "train":
        raise UserError(f"without={without} says itself what is trained on; leave part={part} out")
    if family and family not in FAMILIES and family not in REAL:
        raise unknown_name("family of logiglue", family, (*FAMILIES, *REAL))
    if family in REAL:
        return _task(family, real_problems(family), (1,), generated=False)
    chosen = [
        f for f in FAMILIES.values() if f.name == family or (not family and _in_part(f, part) and f.type != without)
    ]
    tested = [f for f in FAMILIES.values() if f.type == without] if without else chosen
    name = family or (f"without-{without}" if without else part)
    train, test = _slots(chosen, low, high), _slots(tested, low, high)
    learnt, measured = (procedural(f"logiglue-{name}", _Make(slots), range(len(slots))) for slots in (train, test))

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        return (measured if split == "test" else learnt)(split, n, seed)

    return _task(name, problems, tuple(sorted({depth for _, depth in (*train, *test)})), generated=True)


def _in_part(family: Family, part: str) -> bool:
    return part == "all" or family.held_out == (part == "held-out")


def _slots(families: Sequence[Family], low: int, high: int) -> list[tuple[Family, int]]:
    """What comes in turn: every family once, then every family again at its next depth."""
    fitting = [(family, [depth for depth in family.depths if low <= depth <= high]) for family in families]
    fitting = [(family, depths) for family, depths in fitting if depths]
    if not fitting:
        raise UserError(f"no family of these has {low} to {high} steps; widen low= and high=")
    rounds = max(len(depths) for _, depths in fitting)
    return [(family, depths[turn % len(depths)]) for turn in range(rounds) for family, depths in fitting]


class _Make:
    """Draws a problem of a slot."""

    def __init__(self, slots: Sequence[tuple[Family, int]]) -> None:
        self._slots = slots

    def __call__(self, rng: Random, slot: int) -> Problem:
        family, depth = self._slots[slot]
        return to_problem(family, family.make(rng, depth), depth)


def _task(
    name: str, problems: Callable[[Split, int | None, int], list[Problem]], levels: tuple[int, ...], *, generated: bool
) -> Task:
    return Task(
        name="logiglue",
        summary=f"reasoning over text: {name}",
        problems=problems,
        verify=verify,
        solve=solve if generated else None,
        levels=levels,
        world="logic",
        source="generated" if generated else "file",
        licence="Apache-2.0" if generated else REAL[name].licence,
        corrupt=_other,
    )


def _other(problem: Problem) -> str:
    """The next answer of those that there are."""
    answers: list[str] = problem.meta["answers"]  # type: ignore[assignment]
    return answers[(answers.index(problem.reference or "") + 1) % len(answers)]


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """The rationale that belongs to the record, line by line; it sees the gold answer, as an explaining teacher does.

    A wrong step claims something else where a claim can be wrong; the answer is then another one.
    """
    writer = StepWriter("logiglue", LAYOUTS, style, rng)
    reasons: list[tuple[str, str, list[str]]] = problem.meta["reasons"]  # type: ignore[assignment]
    answers: list[str] = problem.meta["answers"]  # type: ignore[assignment]
    answer, sound = problem.reference or "", True
    for text, right, others in reasons:
        injected = bool(others) and writer.slips()
        claim = rng.choice(others) if injected else right
        if injected:
            sound = False
            wrong = [other for other in answers if other != problem.reference]
            answer = claim if claim in wrong else rng.choice(wrong)
        line = text.format(claim)
        if style.layout == "sentences":
            line = line[0].upper() + line[1:] + "."
        writer.step(line, (f"indeed {claim}", "as the text says"), sound=sound, injected=injected)
    return writer.solution(answer)

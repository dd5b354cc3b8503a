"""Causal order in pictures: two captions say that both things moved; only one says which moved because of which.

After "What's Missing in Vision-Language Models? Probing Their Struggles with Causal Order Reasoning", 2025,
https://arxiv.org/abs/2506.00869. In the picture a thing with a trail (a yellow diamond behind it) hits another (a
yellow cross between them), which is then pushed. Both captions hold the same clauses, both true; the wrong one has them
exchanged, so that words alone decide nothing. Level k is connective k: some name the effect first, some the cause, and
what the right caption is follows from that, not from a fixed place.
"""

import re
from collections.abc import Iterable
from random import Random
from typing import Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.choice import shuffled, verify_letter
from stillroom.tasks.registry import register
from stillroom.tasks.scenes import Scene, Thing, draw, png, read_scene, shown, write_scene
from stillroom.tasks.steps import StepWriter
from stillroom.types import Noun, Problem

GRID = 4
COLOURS, SHAPES = ("red", "green", "blue", "purple"), ("circle", "square", "triangle")
_TRAIL, _STAR = ("yellow", "diamond"), ("yellow", "cross")


class Connective(NamedTuple):
    """How cause and effect are joined."""

    words: str
    cause_first: bool
    nominal: bool = True
    """Between *the movement of X*; else between *X moved*."""
    fronted: bool = False
    """The words stand before both clauses."""


CONNECTIVES = (
    Connective("is due to", False),
    Connective("is caused by", False),
    Connective("is a result of", False),
    Connective("is the effect of", False),
    Connective("is the consequence of", False),
    Connective("because", False, nominal=False),
    Connective("owes to", False),
    Connective("results in", True),
    Connective("causes", True),
    Connective("leads to", True),
    Connective("gives rise to", True),
    Connective("brings about", True),
    Connective("because", True, nominal=False, fronted=True),
)
"""The paper's twelve, made grammatical, and the fronted *because* (ours): the same word in the other order."""


@register(
    "causal-order",
    summary="which of two captions has cause and effect the right way round, by a picture; level = connective",
    world="causal-order",
    levels=tuple(range(1, len(CONNECTIVES) + 1)),
)
def causal_order(part: Literal["order", "recognition"] = "order", prior: bool = False) -> Task:
    """Two captions, or with ``part=recognition`` the control: which of four things moved at all?

    Args:
        prior: the one that hits is always a circle, and nothing else is, so that words alone decide: as in sets of real
            questions, where a text prior can win.
    """
    levels = tuple(range(1, len(CONNECTIVES) + 1)) if part == "order" else (1,)

    def make(rng: Random, level: int) -> Problem:
        cause, effect = _pair(rng, prior)
        scene, way = _scene(cause, effect, rng)
        if part == "order":
            joined = CONNECTIVES[level - 1]
            options: tuple[str, ...] = (caption(cause, effect, joined), caption(effect, cause, joined))
            ask = "Which caption is right?"
        else:
            others = [name for name in _names() if name not in (cause, effect)]
            options = tuple(_clause(name) for name in (rng.choice((cause, effect)), *rng.sample(others, 3)))
            ask = "What happened?"
        problem = Problem(
            id="",
            task="causal-order",
            messages=question(f"{shown(scene)}\n{ask}"),
            reference="A",
            level=level,
            options=options,
            assets={"scene": write_scene(scene)},
            meta={"cause": cause, "effect": effect, "way": way, "part": part},
        )
        # One order for each picture and connective: the same question must not stand in two splits with its options
        # exchanged.
        return shuffled(problem, derive_rng("causal-order", problem.assets["scene"], level))

    return Task(
        name="causal-order",
        summary="cause and effect in pictures" if part == "order" else "what moved in pictures",
        problems=procedural(f"causal-order-{part}{'-prior' if prior else ''}", make, levels),
        verify=verify_letter,
        solve=solve,
        levels=levels,
        world="causal-order",
        corrupt=lambda problem: "B" if problem.reference == "A" else "A",
        render=lambda problem: png(draw(problem.assets["scene"]), scale=8),
    )


def _names() -> list[str]:
    return [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


def _pair(rng: Random, prior: bool) -> tuple[str, str]:
    """What hits and what is hit."""
    if not prior:
        one, other = rng.sample(_names(), 2)
        return one, other
    circles = [name for name in _names() if name.endswith("circle")]
    return rng.choice(circles), rng.choice([name for name in _names() if name not in circles])


def _scene(cause: str, effect: str, rng: Random) -> tuple[Scene, str]:
    """Trail, the one that hits, star, the one that is hit: in a row or a column, either way round; and which way."""
    kinds = [_TRAIL, tuple(cause.split()), _STAR, tuple(effect.split())]
    way = rng.choice(("right", "left", "down", "up"))
    if way in ("left", "up"):
        kinds.reverse()
    line = rng.randrange(GRID)
    cells = [(line, at) if way in ("right", "left") else (at, line) for at in range(GRID)]
    things = [Thing(*cell, *kind) for cell, kind in zip(cells, kinds, strict=True)]
    return Scene(GRID, GRID, tuple(sorted(things))), way


def _clause(name: str) -> str:
    return f"the {name} moved"


def caption(cause: str, effect: str, joined: Connective) -> str:
    """What says that `cause` made `effect` move.

    >>> caption("red circle", "blue square", CONNECTIVES[8])
    'the movement of the red circle causes the movement of the blue square'
    """
    first, second = (cause, effect) if joined.cause_first else (effect, cause)
    if joined.fronted:
        return f"{joined.words} {_clause(first)}, {_clause(second)}"
    if joined.nominal:
        return f"the movement of the {first} {joined.words} the movement of the {second}"
    return f"{_clause(first)} {joined.words} {_clause(second)}"


def seen(scene: Scene) -> tuple[str, str]:
    """What hits and what is hit, read from the picture: the trail stands beside the one, the star between both.

    Raises:
        UserError: a scene without a trail, a star and two things in line.
    """
    by_place = {(thing.row, thing.column): thing for thing in scene.things}
    for thing in scene.things:
        if (thing.colour, thing.shape) == _TRAIL:
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                line = [by_place.get((thing.row + step * down, thing.column + step * right)) for step in (1, 2, 3)]
                if None not in line and (line[1].colour, line[1].shape) == _STAR:  # type: ignore[union-attr]
                    return line[0].name, line[2].name  # type: ignore[union-attr]
    raise UserError(f"nothing is hit in {write_scene(scene)}; make the scene with this task")


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """What has the trail, what is hit, and the caption that says so; a slip exchanges them."""
    writer = StepWriter("causal-order", ("equations",), style, rng)
    cause, effect = seen(read_scene(problem.assets["scene"]))
    injected = writer.slips()
    if injected:
        cause, effect = effect, cause
    line = f"trail {cause}, hit {effect}"
    writer.step(line, (f"the {cause} hits the {effect}", f"so {line}"), sound=not injected, injected=injected)
    if problem.meta["part"] == "order":
        right = caption(cause, effect, CONNECTIVES[problem.level - 1])
    else:
        right = next(text for text in problem.options if (text in (_clause(cause), _clause(effect))) != injected)
    return writer.solution(chr(65 + problem.options.index(right)))


_CUES = (
    *("because", "cause", "causes", "caused", "lead to", "leads to", "led to", "reason", "effect of", "owe to"),
    *("owes to", "give rise to", "gives rise to", "bring about", "brings about", "result in", "results in"),
)


class CueAudit(Noun):
    """How often texts say what causes what."""

    texts: int
    with_cue: int
    """Texts that hold a cue as whole words."""
    with_substring: int
    """Texts that hold one anywhere, as a plain search would count: ``reason`` in *reasonable*."""
    by_cue: dict[str, int]


def causal_cues(texts: Iterable[str]) -> CueAudit:
    """Count texts with causal cues, with word boundaries and without."""
    count = whole = anywhere = 0
    by_cue = dict.fromkeys(_CUES, 0)
    patterns = {cue: re.compile(rf"\b{cue}\b", re.IGNORECASE) for cue in _CUES}
    for text in texts:
        found = [cue for cue, pattern in patterns.items() if pattern.search(text)]
        count, whole = count + 1, whole + bool(found)
        anywhere += any(cue in text.casefold() for cue in _CUES)
        for cue in found:
            by_cue[cue] += 1
    return CueAudit(texts=count, with_cue=whole, with_substring=anywhere, by_cue=by_cue)

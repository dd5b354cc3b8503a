"""Counting and comparing coloured shapes in a picture: the question says nothing that the answer could be guessed from.

Level 1 counts one colour or one shape, level 2 one kind (``red circles``), level 3 compares two colours or two shapes.
Counts from 0 to 3, and the three outcomes of a comparison, are equally likely. The solver reads the whole picture
aloud, cell by cell, ``rc`` for a red circle and ``--`` for nothing, and counts on at the end of each row; or it points
at what is asked for: ``2 a c`` says that row 2 has it in columns a and c.

Level 0 asks for no more than to read, and how many things there are: a lesson in looking. Its solutions are equally
long, so that batches sorted by length tell nothing.
"""

from collections.abc import Sequence
from random import Random

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.scenes import (
    EMPTY,
    MOST,
    Scene,
    SceneSpec,
    caption,
    codes,
    draw,
    kind_of,
    place,
    png,
    read_scene,
    shown,
    write_scene,
)
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem

LAYOUTS = ("equations", "pointing", "answer")
"""``equations`` reads every cell aloud and counts; ``pointing`` writes only where it sees what is asked for;
``answer`` answers without a thought."""
VIEWS = ("picture", "caption")
COLOURS, SHAPES = SceneSpec().colours, SceneSpec().shapes
_MOST = 3  # the largest count that is asked for
SAME = "same"


@register(
    "shapes",
    summary="count and compare coloured shapes in a picture; level 0 reads it, 1 one attribute, 2 two, 3 a comparison",
    world="shapes",
    levels=(1, 2, 3),
)
def shapes(low: int = 1, high: int = 3, grid: int = 4, view: str = "picture", palette: str = "plain") -> Task:
    """Questions about pictures of `grid` x `grid` cells.

    Args:
        view: ``picture``; or ``caption``, which tells what is where in words: the same questions for models that see
            nothing.
        palette: of the pictures (`scenes.PALETTES`).

    Raises:
        UserError: levels outside of 0 to 3, a grid below 3 or above 8, an unknown view or palette.
    """
    if not 0 <= low <= high <= 3:
        raise UserError(f"levels {low} to {high} make no sense; give 0 <= low <= high <= 3")
    if not 3 <= grid <= MOST:
        raise UserError(f"grid={grid}: pictures have 3 to {MOST} cells a side")
    if view not in VIEWS:
        raise unknown_name("view of shapes", view, VIEWS)
    read_scene(f"scene:{palette}/1")

    def make(rng: Random, level: int) -> Problem:
        asked, kinds, answer = _draw_question(rng, level, grid)
        scene = place(kinds, grid, grid, rng, palette)
        seen = shown(scene) if view == "picture" else caption(scene).text
        return Problem(
            id="",
            task="shapes",
            messages=question(f"{seen}\n{_wording(asked, level)}"),
            reference=answer,
            level=level,
            assets={"scene": write_scene(scene)},
            meta={"asked": list(asked)},
        )

    levels = tuple(range(low, high + 1))
    return Task(
        name="shapes",
        summary="coloured shapes in a picture" if view == "picture" else "coloured shapes in words",
        problems=procedural(f"shapes-{grid}-{view}", make, levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="shapes",
        corrupt=_another,
        render=lambda problem: png(draw(problem.assets["scene"]), scale=8),
    )


def _draw_question(rng: Random, level: int, grid: int) -> tuple[tuple[str, ...], list[tuple[str, str]], str]:
    """What is asked, what is in the picture, and the answer."""
    cells = grid * grid
    if level == 0:
        count = rng.randint(2, min(9, cells))
        return (), [(rng.choice(COLOURS), rng.choice(SHAPES)) for _ in range(count)], str(count)
    if level == 3:
        names = COLOURS if rng.random() < 0.5 else SHAPES
        first, second = rng.sample(names, 2)
        more, fewer = sorted(rng.sample(range(1, _MOST + 2), 2), reverse=True)
        fewer = fewer if rng.random() < 0.8 else 0
        outcome = rng.choice((first, second, SAME))
        counts = {first: (more, fewer), second: (fewer, more), SAME: (more, more)}[outcome]
        kinds = [_kind(rng, name) for name, count in zip((first, second), counts, strict=True) for _ in range(count)]
        return (first, second), kinds + _others(rng, (first, second), cells, len(kinds)), outcome
    if level == 1:
        asked: tuple[str, ...] = (rng.choice((*COLOURS, *SHAPES)),)
    else:
        asked = (f"{rng.choice(COLOURS)} {rng.choice(SHAPES)}",)
    count = rng.randint(0, _MOST)
    kinds = [_kind(rng, asked[0]) for _ in range(count)]
    if level == 2:
        # Things that share the colour or the shape: one attribute alone does not tell.
        colour, shape = asked[0].split()
        for _ in range(2):
            kinds.append((colour, rng.choice([s for s in SHAPES if s != shape])))
            kinds.append((rng.choice([c for c in COLOURS if c != colour]), shape))
    return asked, kinds + _others(rng, asked, cells, len(kinds)), str(count)


def _kind(rng: Random, name: str) -> tuple[str, str]:
    """A colour and a shape of which the name holds."""
    colour, _, shape = name.partition(" ")
    if shape:
        return colour, shape
    return (name, rng.choice(SHAPES)) if name in COLOURS else (rng.choice(COLOURS), name)


def _others(rng: Random, asked: tuple[str, ...], cells: int, there: int) -> list[tuple[str, str]]:
    """Some more things, of which none is asked for."""
    free = [(c, s) for c in COLOURS for s in SHAPES if not any(_is(name, c, s) for name in asked)]
    return [rng.choice(free) for _ in range(min(rng.randint(2, 5), cells - there))]


def _is(name: str, colour: str, shape: str) -> bool:
    return name in (colour, shape, f"{colour} {shape}")


def _wording(asked: tuple[str, ...], level: int) -> str:
    if level == 0:
        return "Read."
    if level == 3:
        return f"More {_many(asked[0])} or more {_many(asked[1])}, or {SAME}?"
    return f"How many {_many(asked[0])}?"


def _many(name: str) -> str:
    if name in COLOURS:
        return name
    return f"{name}es" if name.endswith("cross") else f"{name}s"


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Row by row, what it finds; then how many that makes, for each name in turn.

    A wrong step misses a column or adds one, or reads a cell wrongly, and counts are those of what was written.
    """
    asked: list[str] = problem.meta["asked"]  # type: ignore[assignment]
    scene = read_scene(problem.assets["scene"])
    writer = StepWriter("shapes", LAYOUTS, style, rng)
    reading = _point if style.layout == "pointing" and asked else _read_aloud
    totals = reading(scene, asked, writer, rng)
    answer = str(totals[0])
    if len(asked) == 2:
        answer = SAME if totals[0] == totals[1] else asked[totals[1] > totals[0]]
    return Solution("", answer, ()) if style.layout == "answer" else writer.solution(answer)


def _point(scene: Scene, asked: Sequence[str], writer: StepWriter, rng: Random) -> list[int]:
    """For each name, the columns of each row in which it is, and the count."""
    totals, sound = list[int](), True
    for name in asked:
        total = 0
        for row, right in enumerate(_columns(scene, name)):
            columns = right
            if injected := writer.slips():
                at = rng.randrange(scene.columns)
                columns = sorted(set(right) ^ {at})
            sound = sound and not injected
            total += len(columns)
            line = " ".join([str(row + 1), *(chr(97 + column) for column in columns)])
            checks = (f"row {row + 1} has {len(columns)}", f"{total} so far")
            writer.step(f"{name}\n{line}" if row == 0 else line, checks, sound=sound, injected=injected)
        totals.append(total)
        writer.step(f"= {total}", (f"{name} {total}",), sound=sound, injected=False)
    return totals


def _read_aloud(scene: Scene, asked: Sequence[str], writer: StepWriter, rng: Random) -> list[int]:
    """Every cell, and at the end of each row how many of each name there were so far."""
    seen, sound, totals = list[str](), True, list[int]()
    for row, cells in enumerate(codes(scene)):
        if injected := writer.slips():
            at = rng.randrange(scene.columns)
            cells[at] = rng.choice([code for code in ("rc", "gs", "bt", EMPTY) if code != cells[at]])
        sound = sound and not injected
        seen += [code for code in cells if code != EMPTY]
        totals = [sum(_is(name, *kind_of(code)) for code in seen) for name in asked]
        checks = (f"{len(seen)} so far", f"row {row + 1} is done")
        writer.step(" ".join([*cells, *map(str, totals)]), checks, sound=sound, injected=injected)
    return totals or [len(seen)]


def _columns(scene: Scene, name: str) -> list[list[int]]:
    """By row, the columns of what a name holds for."""
    found: list[list[int]] = [[] for _ in range(scene.rows)]
    for thing in scene.things:
        if _is(name, thing.colour, thing.shape):
            found[thing.row].append(thing.column)
    return found


def _another(problem: Problem) -> str:
    """The next count, or the next outcome of a comparison."""
    gold = problem.reference or ""
    if gold.isdecimal():
        return str((int(gold) + 1) % (_MOST + 1) if problem.level else int(gold) + 1)
    outcomes = [*map(str, problem.meta["asked"]), SAME]  # type: ignore[arg-type]
    return outcomes[(outcomes.index(gold) + 1) % len(outcomes)]

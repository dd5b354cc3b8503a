"""Shapes under weathers: pictures of 8 × 8 grey levels, learned at home in one weather and met abroad in mixtures.

One of four shapes stands somewhere in the picture, in some size and brightness; a weather then spoils it. Training and
development problems are *at home*: level k is weather k, alone. Test problems are *abroad*: a level is a mixture of
weathers, mild ones with a single weather per picture, heavy ones with two, one after the other. So the shift is known,
and so is what it does to whoever has learned in one weather only.

Everything is whole numbers, so that pictures are the same on every machine.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Solution, Style, Task, question, split_of
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.scenes import png
from stillroom.tasks.steps import StepWriter
from stillroom.types import Message, Problem, Split

SIZE = 8
SHAPES = ("disc", "frame", "cross", "wedge")
Grid = list[list[int]]
"""Rows of grey levels from 0, black, to 9."""


class Mixture(NamedTuple):
    """Where a test picture comes from: how likely each weather is, and how many follow one another."""

    weights: tuple[int, ...]
    weathers: int


def _inside(shape: str, size: int, row: int, column: int) -> bool:
    last = size - 1
    if shape == "disc":
        return (2 * row - last) ** 2 + (2 * column - last) ** 2 <= last**2 + 4
    if shape == "frame":
        return row in (0, last) or column in (0, last)
    if shape == "cross":
        return bool({row, column} & {last // 2, size // 2})
    return column <= row


def _clear(grid: Grid, rng: Random) -> Grid:
    return grid


def _fog(grid: Grid, rng: Random) -> Grid:
    """Everything moves towards a bright grey."""
    return [[6 + (level - 6) // 3 for level in row] for row in grid]


def _night(grid: Grid, rng: Random) -> Grid:
    return [[level // 3 for level in row] for row in grid]


def _rain(grid: Grid, rng: Random) -> Grid:
    """Bright streaks that fall to the left."""
    starts = [rng.randrange(SIZE + 3) for _ in range(4)]
    return [
        [9 if any(column == start - row // 2 for start in starts) else level for column, level in enumerate(levels)]
        for row, levels in enumerate(grid)
    ]


def _snow(grid: Grid, rng: Random) -> Grid:
    """Single bright and, more rarely, dark pixels."""
    return [[rng.choice((9, 9, 0)) if rng.random() < 0.2 else level for level in levels] for levels in grid]


def _blur(grid: Grid, rng: Random) -> Grid:
    """The mean of each pixel's neighbourhood."""
    return [[_mean(grid, row, column) for column in range(SIZE)] for row in range(SIZE)]


def _mean(grid: Grid, row: int, column: int) -> int:
    near = [
        grid[r][c]
        for r in range(max(0, row - 1), min(SIZE, row + 2))
        for c in range(max(0, column - 1), min(SIZE, column + 2))
    ]
    return (sum(near) + len(near) // 2) // len(near)


WEATHERS: dict[str, Callable[[Grid, Random], Grid]] = {
    "clear": _clear,
    "fog": _fog,
    "night": _night,
    "rain": _rain,
    "snow": _snow,
    "blur": _blur,
}
HOME = tuple(range(1, len(WEATHERS) + 1))
"""Levels at home: level k is the k-th weather."""
MILD, HEAVY = tuple(range(11, 16)), tuple(range(21, 26))
"""Levels abroad."""


def mixture(level: int) -> Mixture:
    """The mixture of a level abroad; the same for every seed."""
    rng = derive_rng("shifted-shapes-mixture", level)
    weights = tuple(rng.randint(1, 10) for _ in WEATHERS)
    return Mixture(weights, 1 if level in MILD else 2)


@register(
    "shifted-shapes",
    summary="which shape is in a tiny picture; level = weather at home, mixture of weathers in the test split",
    world="shifted-shapes",
    levels=(*HOME, *MILD, *HEAVY),
)
def shifted_shapes(abroad: str = "both") -> Task:
    """Pictures of shapes.

    Args:
        abroad: mixtures of the test split: ``mild``, ``heavy`` or ``both``.

    Raises:
        UserError: another word for `abroad`.
    """
    regimes = {"mild": MILD, "heavy": HEAVY, "both": (*MILD, *HEAVY)}
    if abroad not in regimes:
        raise UserError(f"abroad={abroad} names no mixtures; give one of {', '.join(regimes)}")
    away = regimes[abroad]

    def one(split: Split, index: int, seed: int) -> Problem:
        levels = away if split == "test" else HOME
        rng = derive_rng("task", "shifted-shapes", seed, split, index)
        while True:
            problem = _make(rng, levels[index % len(levels)])
            if split_of(problem) == split:
                return problem.model_copy(update={"id": f"shifted-shapes/{seed}/{split}/{index}", "split": split})

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError("task 'shifted-shapes' is endless: say how many problems you want")
        return [one(split, index, seed) for index in range(n)]

    return Task(
        name="shifted-shapes",
        summary="shapes in weathers",
        problems=problems,
        verify=verify_exact,
        solve=solve,
        levels=(*HOME, *away),
        world="shifted-shapes",
        corrupt=lambda problem: SHAPES[(SHAPES.index(problem.reference or "") + 1) % len(SHAPES)],
        render=lambda problem: png(image(seen(problem.messages)), scale=16),
    )


def _make(rng: Random, level: int) -> Problem:
    names = list(WEATHERS)
    if level in HOME:
        passed = [names[level - 1]]
    else:
        away = mixture(level)
        passed = rng.choices(names, away.weights, k=away.weathers)
    shape, size = rng.choice(SHAPES), rng.randint(5, 6)
    top, left = rng.randint(1, SIZE - size), rng.randint(1, SIZE - size)
    ink = rng.randint(7, 9)
    clean = [
        [
            ink
            if 0 <= row - top < size and 0 <= column - left < size and _inside(shape, size, row - top, column - left)
            else 1
            for column in range(SIZE)
        ]
        for row in range(SIZE)
    ]
    grid = clean
    for name in passed:
        grid = WEATHERS[name](grid, rng)
    grid = [[min(9, max(0, level + rng.choice((-1, 0, 0, 1)))) for level in levels] for levels in grid]
    return Problem(
        id="",
        task="shifted-shapes",
        messages=question(f"{rows(grid)}\nWhich shape: {', '.join(SHAPES)}?"),
        reference=shape,
        level=level,
        meta={"clean": rows(clean), "weathers": list(passed)},
    )


def rows(grid: Grid) -> str:
    """A picture as text, a digit per pixel."""
    return "\n".join("".join(map(str, levels)) for levels in grid)


def seen(messages: Sequence[Message]) -> Grid:
    """The picture that a question of this world shows."""
    return [[int(level) for level in line] for line in messages[-1].content.splitlines()[:SIZE]]


def image(grid: Grid) -> npt.NDArray[np.uint8]:
    """A picture as pixels of equal red, green and blue: [H, W, 3]."""
    grey = np.array(grid, dtype=np.uint8) * np.uint8(28)
    return np.repeat(grey[:, :, None], 3, axis=2)


def profile(messages: Sequence[Message]) -> list[int]:
    """What a classifier sees: all pixels, and the sums and the edges of rows and of columns in order of size, which are
    the same wherever a shape stands."""
    grid = seen(messages)
    lines = (grid, [list(column) for column in zip(*grid, strict=True)])
    sums = [sorted(map(sum, each)) for each in lines]
    edges = [sorted(sum(abs(a - b) for a, b in pairwise(line)) for line in each) for each in lines]
    return [level for row in (*grid, *sums, *edges) for level in row]


def brightness(grid: Grid) -> float:
    """Mean grey level, from 0 to 9."""
    return sum(map(sum, grid)) / SIZE**2


def contrast(grid: Grid) -> int:
    """Between the brightest and the darkest tenth of the pixels, in grey levels."""
    levels, tenth = sorted(level for row in grid for level in row), SIZE**2 // 10
    return levels[-1 - tenth] - levels[tenth]


CUES: Mapping[str, Callable[[Problem], bool]] = {
    "dark": lambda problem: brightness(seen(problem.messages)) < 2,
    "bright": lambda problem: brightness(seen(problem.messages)) >= 5,
    "flat": lambda problem: contrast(seen(problem.messages)) < 5,
}
"""What anybody can see of a picture without knowing its shape."""


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """The picture without its weather, which only the program that drew it knows, row by row; then the shape."""
    writer = StepWriter("shifted-shapes", ("equations",), style, rng)
    answer = problem.reference or ""
    lines = str(problem.meta["clean"]).splitlines()
    injected = [writer.slips() for _ in lines]
    if any(injected):
        answer = rng.choice([shape for shape in SHAPES if shape != answer])
    sound: Sequence[bool] = [not any(injected[: at + 1]) for at in range(len(lines))]
    for line, slipped, right in zip(lines, injected, sound, strict=True):
        shown = f"{(int(line[0]) + 5) % 10}{line[1:]}" if slipped else line
        writer.step(shown, (f"row {shown}", f"so {shown}"), sound=right, injected=slipped)
    return writer.solution(answer)

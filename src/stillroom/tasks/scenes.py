"""Scenes: coloured shapes on a grid, as data, from which pictures, captions, facts and graphs are made when needed.

A scene is written in one word, row by row as chess positions are: ``scene:plain/rc2gs/4/1bt2/4`` has a red circle at
a1, a green square at d1 and a blue triangle at b3 (the palette comes first, a digit stands for that many empty cells).
A message shows a picture by holding that word as an image in Markdown, ``![](scene:plain/…)``: what decides the answer
then stands in the text of the question, so that hashes, splits, caches, duplicates and lineage see it, and a picture is
drawn only where somebody looks. Only a local model that sees, a server that takes images, and reports look; a word that
is no scene stays text, whoever wrote it.

Cells are named by column letter and row number, ``a1`` at the top left.
"""

import base64
import re
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_rng
from stillroom.types import Noun

COLOURS = {"r": "red", "g": "green", "b": "blue", "y": "yellow", "p": "purple", "o": "orange"}
SHAPES = {"c": "circle", "s": "square", "t": "triangle", "x": "cross", "d": "diamond", "o": "ring"}
PALETTES: dict[str, tuple[tuple[int, int, int], dict[str, tuple[int, int, int]]]] = {
    "plain": (
        (244, 244, 240),
        {
            "red": (214, 39, 40),
            "green": (34, 150, 60),
            "blue": (31, 88, 200),
            "yellow": (240, 200, 20),
            "purple": (140, 60, 180),
            "orange": (250, 130, 20),
        },
    ),
    "dark": (
        (28, 30, 36),
        {
            "red": (255, 92, 92),
            "green": (80, 210, 110),
            "blue": (90, 150, 255),
            "yellow": (255, 226, 90),
            "purple": (200, 120, 240),
            "orange": (255, 165, 70),
        },
    ),
}
"""Name → background and colours, in red, green and blue from 0 to 255."""
MOST = 8
"""Rows and columns that a scene may have."""
CELL = 12
"""Pixels along a cell."""
EMPTY = "--"
"""What `codes` writes for a cell without a thing."""
_ROW = re.compile(r"(?:[1-8]|[rgbypo][cstxdo])+")
_PIECE = re.compile(r"[1-8]|[rgbypo][cstxdo]")
_MARK = re.compile(r"!\[\]\((scene:[a-z]{1,12}(?:/[a-z1-8]{1,16}){1,8})\)")

Picture = npt.NDArray[np.uint8]
"""Rows, columns, and red, green and blue from 0 to 255: [H, W, 3]."""
Fact = tuple[str, ...]
"""``("at", "a1", "red circle")``, ``("count", "red", "2")``, ``("count", "red circle", "1")``."""


class Thing(NamedTuple):
    """A shape in a cell; rows and columns count from 0."""

    row: int
    column: int
    colour: str
    shape: str

    @property
    def cell(self) -> str:
        """``a1`` for the top left."""
        return f"{chr(97 + self.column)}{self.row + 1}"

    @property
    def name(self) -> str:
        """``red circle``."""
        return f"{self.colour} {self.shape}"


class Scene(NamedTuple):
    """What is where; things stand in reading order, one in a cell."""

    rows: int
    columns: int
    things: tuple[Thing, ...]
    palette: str = "plain"


class SceneSpec(Noun):
    """What `make_scene` may put into a scene."""

    rows: int = Field(4, ge=1, le=MOST)
    columns: int = Field(4, ge=1, le=MOST)
    least: int = Field(5, ge=0)
    """Fewest things, and most: what does not fit is left out."""
    most: int = Field(9, ge=0)
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")
    shapes: tuple[str, ...] = ("circle", "square", "triangle", "cross")
    palette: str = "plain"


def make_scene(spec: SceneSpec, seed: int) -> Scene:
    """The scene that a specification and a seed stand for; raises UserError for a colour or shape that there is not."""
    for kind, names, known in (("colour", spec.colours, COLOURS), ("shape", spec.shapes, SHAPES)):
        for name in names:
            if name not in known.values():
                raise unknown_name(kind, name, known.values())
    rng = derive_rng("scene", seed)
    count = min(rng.randint(spec.least, max(spec.least, spec.most)), spec.rows * spec.columns)
    kinds = [(rng.choice(spec.colours), rng.choice(spec.shapes)) for _ in range(count)]
    return place(kinds, spec.rows, spec.columns, rng, spec.palette)


def place(kinds: Sequence[tuple[str, str]], rows: int, columns: int, rng: Random, palette: str = "plain") -> Scene:
    """These colours and shapes in cells that are drawn at random; raises UserError when there are not enough cells."""
    if len(kinds) > rows * columns:
        raise UserError(f"{len(kinds)} things do not fit into {rows} x {columns} cells; take a larger grid")
    cells = rng.sample(range(rows * columns), len(kinds))
    things = (Thing(*divmod(cell, columns), *kind) for cell, kind in zip(cells, kinds, strict=True))
    return Scene(rows, columns, tuple(sorted(things)), palette)


def write_scene(scene: Scene) -> str:
    """The scene in one word; `read_scene` reads it back."""
    lines = []
    for cells in codes(scene):
        runs = [(code, len(list(run))) for code, run in groupby(cells)]
        lines.append("".join(str(length) if code == EMPTY else code * length for code, length in runs))
    return f"scene:{scene.palette}/{'/'.join(lines)}"


@lru_cache(4096)
def read_scene(word: str) -> Scene:
    """The scene that a word stands for; raises UserError, saying why, for any other text."""
    head, *lines = word.split("/")
    palette = head.removeprefix("scene:")
    if not head.startswith("scene:") or not lines:
        raise UserError(f"{word[:80]!r} is no scene; write scene:PALETTE/ROW/ROW/…, e.g. scene:plain/rc3/4")
    if palette not in PALETTES:
        raise unknown_name("palette", palette[:80], PALETTES)
    things: list[Thing] = []
    width = 0
    for row, line in enumerate(lines):
        column = 0
        if _ROW.fullmatch(line) is None or len(line) > 2 * MOST:
            raise UserError(f"row {row + 1} of {word[:80]!r} is {line[:20]!r}; write rc for a red circle, 2 for a gap")
        for piece in _PIECE.findall(line):
            if piece.isdigit():
                column += int(piece)
            else:
                things.append(Thing(row, column, COLOURS[piece[0]], SHAPES[piece[1]]))
                column += 1
        width = width or column
        if column != width:
            raise UserError(f"row {row + 1} of {word[:80]!r} has {column} cells and the first one {width}")
    if len(lines) > MOST or width > MOST:
        raise UserError(f"{word[:80]!r} has {len(lines)} x {width} cells; {MOST} x {MOST} is the most")
    return Scene(len(lines), width, tuple(things), palette)


def codes(scene: Scene) -> list[list[str]]:
    """Row by row, two letters for what is in each cell: ``rc`` for a red circle, ``--`` for nothing."""
    colours, shapes = ({name: letter for letter, name in names.items()} for names in (COLOURS, SHAPES))
    found = [[EMPTY] * scene.columns for _ in range(scene.rows)]
    for thing in scene.things:
        found[thing.row][thing.column] = colours[thing.colour] + shapes[thing.shape]
    return found


def kind_of(code: str) -> tuple[str, str]:
    """The colour and the shape that two letters of `codes` stand for."""
    return COLOURS[code[0]], SHAPES[code[1]]


def shown(scene: Scene) -> str:
    """What a message holds where it shows the picture of a scene."""
    return f"![]({write_scene(scene)})"


class Piece(NamedTuple):
    """A stretch of a message: text, or the word of a scene."""

    text: str
    scene: str = ""


def pieces(text: str) -> list[Piece]:
    """A message cut at its pictures; total, and marks that hold no scene stay text.

    >>> pieces("![](scene:plain/rc1) How many?")
    [Piece(text='', scene='scene:plain/rc1'), Piece(text=' How many?', scene='')]
    """
    if "![](scene:" not in text:
        return [Piece(text)]
    found, start = list[Piece](), 0
    for match in _MARK.finditer(text):
        try:
            read_scene(match[1])
        except UserError:
            continue
        if match.start() > start:
            found.append(Piece(text[start : match.start()]))
        found.append(Piece("", match[1]))
        start = match.end()
    return [*found, Piece(text[start:])] if start < len(text) else found


def scenes_of(text: str) -> tuple[str, ...]:
    """The words of the scenes that a message shows, in order."""
    return tuple(piece.scene for piece in pieces(text) if piece.scene)


def without_pictures(text: str) -> str:
    """The message without the marks of its pictures."""
    return "".join(piece.text for piece in pieces(text))


@lru_cache(4096)
def draw(word: str) -> Picture:
    """The picture [H, W, 3] of a scene, `CELL` pixels a cell, read-only; raises UserError where there is no scene."""
    scene = read_scene(word)
    background, colours = PALETTES[scene.palette]
    picture = np.empty((scene.rows * CELL, scene.columns * CELL, 3), np.uint8)
    picture[:] = background
    for thing in scene.things:
        cell = picture[thing.row * CELL :, thing.column * CELL :][:CELL, :CELL]
        cell[_stencil(thing.shape)] = colours[thing.colour]
    picture.setflags(write=False)
    return picture


@cache
def _stencil(shape: str) -> npt.NDArray[np.bool_]:
    """Which pixels of a cell a shape covers, with one pixel of margin."""
    at = (np.arange(CELL) - (CELL - 1) / 2) / (CELL / 2 - 1)
    y, x = at[:, None], at[None, :]
    inside: dict[str, npt.NDArray[np.bool_]] = {
        "circle": x * x + y * y <= 1,
        "square": (abs(x) <= 0.85) & (abs(y) <= 0.85),
        "triangle": (abs(y) <= 0.95) & (abs(x) <= (y + 0.95) / 1.9),
        "cross": ((abs(x) <= 0.3) | (abs(y) <= 0.3)) & (abs(x) <= 1) & (abs(y) <= 1),
        "diamond": abs(x) + abs(y) <= 1.05,
        "ring": (x * x + y * y <= 1) & (x * x + y * y >= 0.3),
    }
    return inside[shape]


def png(picture: Picture, scale: int = 1) -> bytes:
    """The picture as a PNG file, every pixel as a square of `scale` pixels."""
    large = picture.repeat(scale, 0).repeat(scale, 1)
    height, width, _ = large.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), large.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@lru_cache(4096)
def data_uri(word: str, scale: int = 1) -> str:
    """The picture of a scene as a ``data:`` address of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png(draw(word), scale)).decode()


def facts(scene: Scene) -> frozenset[Fact]:
    """Everything that is so: what is in which cell, and how many there are of each colour, shape and kind."""
    counts: Counter[str] = Counter()
    for thing in scene.things:
        counts.update((thing.colour, thing.shape, thing.name))
    found: set[Fact] = {("at", thing.cell, thing.name) for thing in scene.things}
    return frozenset(found | {("count", name, str(count)) for name, count in counts.items()})


class Relation(NamedTuple):
    """``things[left] KIND things[right]``; ``left of``, ``above``, or ``beside`` for cells that share an edge."""

    left: int
    kind: str
    right: int


def graph(scene: Scene) -> list[Relation]:
    """The relations between things, by number; ``left of`` and ``above`` hold within a row and within a column."""
    found = []
    for i, one in enumerate(scene.things):
        for j, other in enumerate(scene.things):
            if one.row == other.row and one.column < other.column:
                found.append(Relation(i, "left of", j))
            if one.column == other.column and one.row < other.row:
                found.append(Relation(i, "above", j))
            if i < j and abs(one.row - other.row) + abs(one.column - other.column) == 1:
                found.append(Relation(i, "beside", j))
    return found


class CaptionNoise(Noun):
    """How a caption errs: probabilities per thing, of which the first that strikes counts."""

    drop: float = Field(0.0, ge=0, le=1)
    """It is not mentioned."""
    recolour: float = Field(0.0, ge=0, le=1)
    reshape: float = Field(0.0, ge=0, le=1)
    invent: float = Field(0.0, ge=0, le=1)
    """Something that is not there is told beside it, in an empty cell."""


class Caption(NamedTuple):
    """A scene in words, and the scene that the words describe."""

    text: str
    told: Scene
    errors: int
    """Things that are missing, changed or invented."""


def caption(scene: Scene, noise: CaptionNoise = CaptionNoise(), rng: Random | None = None) -> Caption:
    """What is where, thing by thing in reading order: ``a1 red circle, d1 green square``; ``nothing`` when it is empty.

    Args:
        rng: of the noise; without noise none is needed.

    Raises:
        UserError: noise without a generator.
    """
    if rng is None and noise != CaptionNoise():
        raise UserError("a caption with noise needs a generator: caption(scene, noise, rng)")
    told, errors = list[Thing](), 0
    rng = rng or Random(0)
    taken = {(thing.row, thing.column) for thing in scene.things}
    for thing in scene.things:
        if rng.random() < noise.drop:
            errors += 1
            continue
        if rng.random() < noise.recolour:
            errors += 1
            thing = thing._replace(colour=rng.choice([c for c in COLOURS.values() if c != thing.colour]))
        elif rng.random() < noise.reshape:
            errors += 1
            thing = thing._replace(shape=rng.choice([s for s in SHAPES.values() if s != thing.shape]))
        told.append(thing)
        free = [(r, c) for r in range(scene.rows) for c in range(scene.columns) if (r, c) not in taken]
        if free and rng.random() < noise.invent:
            errors += 1
            taken.add(cell := rng.choice(free))
            told.append(Thing(*cell, rng.choice([*COLOURS.values()]), rng.choice([*SHAPES.values()])))
    told.sort()
    text = ", ".join(f"{thing.cell} {thing.name}" for thing in told) or "nothing"
    return Caption(text, scene._replace(things=tuple(told)), errors)

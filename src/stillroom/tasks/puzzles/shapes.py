"""A picture as a list of shapes, in units of one cell, and its two renderings: SVG for people, pixels for models.

Pixels are drawn without anti-aliasing and with a font of our own, so that a picture is the same on every machine.
"""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Rows, columns, and red, green and blue from 0 to 255: [H, W, 3]."""
_DIGITS = (
    *("111101101101111", "010110010010111", "111001111100111", "111001011001111", "101101111001001"),
    *("111100111001111", "111100111101111", "111001001010010", "111101111101111", "111101111001111"),
)
"""Per digit 5 rows of 3 pixels."""


class Rect(NamedTuple):
    """A filled rectangle; x goes right and y down."""

    x: float
    y: float
    width: float
    height: float
    color: str


class Line(NamedTuple):
    """A stroke with round ends."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str
    width: float


class Disc(NamedTuple):
    """A filled circle; with `hole` a ring whose inner radius that is."""

    x: float
    y: float
    radius: float
    color: str
    hole: float = 0.0


class Polygon(NamedTuple):
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    color: str


class Number(NamedTuple):
    """Digits around a centre, `height` tall."""

    x: float
    y: float
    digits: str
    height: float
    color: str


Shape = Rect | Line | Disc | Polygon | Number


class Picture(NamedTuple):
    """Shapes, later ones above earlier ones."""

    width: int
    height: int
    """Cells, margins included."""
    shapes: tuple[Shape, ...]


def svg(picture: Picture, cell: int = 40) -> str:
    """The picture as a standalone SVG file, `cell` pixels a cell."""
    body = "\n".join(_svg_shape(shape) for shape in picture.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" '
        f'width="{picture.width * cell}" height="{picture.height * cell}">\n'
        f'<rect width="{picture.width}" height="{picture.height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def svg_group(picture: Picture, x: float, y: float) -> str:
    """The picture's shapes at a place in a larger SVG."""
    return f'<g transform="translate({x:g} {y:g})">\n' + "\n".join(map(_svg_shape, picture.shapes)) + "\n</g>"


def _svg_shape(shape: Shape) -> str:
    match shape:
        case Rect(x, y, width, height, color):
            return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{color}"/>'
        case Line(x1, y1, x2, y2, color, width):
            return (
                f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{color}" stroke-width="{width:g}" '
                'stroke-linecap="round"/>'
            )
        case Disc(x, y, radius, color, hole):
            if hole:
                middle, stroke = (radius + hole) / 2, radius - hole
                ring = f'r="{middle:g}" fill="none" stroke="{color}" stroke-width="{stroke:g}"'
                return f'<circle cx="{x:g}" cy="{y:g}" {ring}/>'
            return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{color}"/>'
        case Polygon(points, color):
            return f'<polygon points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" fill="{color}"/>'
        case Number(x, y, digits, height, color):
            return (
                f'<text x="{x:g}" y="{y + 0.36 * height:g}" font-size="{height:g}" fill="{color}" '
                f'font-family="sans-serif" text-anchor="middle">{digits}</text>'
            )


def moved(shape: Shape, x: float, y: float) -> Shape:
    """The same shape elsewhere. Rounded, so that equal shapes in different cells stay equal."""
    if isinstance(shape, Polygon):
        return shape._replace(points=tuple((round(a + x, 6), round(b + y, 6)) for a, b in shape.points))
    if isinstance(shape, Line):
        return Line(
            round(shape.x1 + x, 6), round(shape.y1 + y, 6), round(shape.x2 + x, 6), round(shape.y2 + y, 6), *shape[4:]
        )
    return shape._replace(x=round(shape.x + x, 6), y=round(shape.y + y, 6))


def raster(picture: Picture, cell: int = 24) -> Pixels:
    """The picture in pixels, `cell` a cell; numbers can be read from 12 on, the sums of cages from 24."""
    pixels = np.full((picture.height * cell, picture.width * cell, 3), 255, np.uint8)
    for shape in picture.shapes:
        color = _rgb(shape.color)
        if isinstance(shape, Line) and (shape.x1 == shape.x2 or shape.y1 == shape.y2):
            shape = _as_rect(shape, cell)
        if isinstance(shape, Rect):
            x1, y1 = max(round(shape.x * cell), 0), max(round(shape.y * cell), 0)
            x2, y2 = round((shape.x + shape.width) * cell), round((shape.y + shape.height) * cell)
            pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = color
            continue
        # Most shapes stand in one cell as they stand in others: the stencil of a shape is made once for all cells.
        column, row = (int(at) for at in _corner(shape))
        stencil, left, top = _stencil(moved(shape, -column, -row), cell)
        left, top = left + column * cell, top + row * cell
        stencil = stencil[max(-top, 0) :, max(-left, 0) :]
        window = pixels[max(top, 0) :, max(left, 0) :][: stencil.shape[0], : stencil.shape[1]]
        window[stencil[: window.shape[0], : window.shape[1]]] = color
    return pixels


@cache
def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _as_rect(line: Line, cell: int) -> Rect:
    half = max(line.width, 1 / cell) / 2
    width, height = abs(line.x2 - line.x1) + 2 * half, abs(line.y2 - line.y1) + 2 * half
    return Rect(min(line.x1, line.x2) - half, min(line.y1, line.y2) - half, width, height, line.color)


def _corner(shape: Shape) -> tuple[float, float]:
    """Some point of the shape, rather to the left and above."""
    match shape:
        case Polygon(points, _):
            return points[0]
        case Line(x1, y1, x2, y2, _, _):
            return min(x1, x2), min(y1, y2)
        case _:
            return max(shape.x, 0), max(shape.y, 0)


@lru_cache(4096)
def _stencil(shape: Shape, cell: int) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Which pixels a shape covers, and where the first of them lies: column, row."""
    match shape:
        case Number(x, y, digits, height, _):
            glyphs = _glyphs(digits, max(1, round(height * cell * 0.72 / 5)))
            return glyphs, round(x * cell - glyphs.shape[1] / 2), round(y * cell - glyphs.shape[0] / 2)
        case Line(x1, y1, x2, y2, _, width):
            half = max(width * cell, 1.0) / 2
            ends = np.array([[x1, y1], [x2, y2]]) * cell
            at, left, top = _centres(ends.min(0) - half, ends.max(0) + half)
            along = ends[1] - ends[0]
            share = np.clip(((at - ends[0]) @ along) / (along @ along), 0, 1)[..., None]
            return ((at - ends[0] - share * along) ** 2).sum(-1) <= half * half, left, top
        case Disc(x, y, radius, _, hole):
            centre, reach = np.array([x, y]) * cell, radius * cell
            at, left, top = _centres(centre - reach, centre + reach)
            away = ((at - centre) ** 2).sum(-1)
            return (away <= reach * reach) & (away >= (hole * cell) ** 2), left, top
        case Polygon(points, _):
            corners = np.array(points) * cell
            at, left, top = _centres(corners.min(0), corners.max(0))
            inside = np.zeros(at.shape[:2], bool)
            for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, 0), strict=True):
                crosses = (ay > at[..., 1]) != (by > at[..., 1])
                inside ^= crosses & (at[..., 0] < ax + (at[..., 1] - ay) * (bx - ax) / ((by - ay) or 1.0))
            return inside, left, top
    raise AssertionError(shape)


def _centres(
    lowest: npt.NDArray[np.float64], highest: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], int, int]:
    """Coordinates [h, w, 2] of the centres of all pixels from one corner to the other, and the first one's place."""
    (left, top), (right, bottom) = np.floor(lowest).astype(int), np.ceil(highest).astype(int)
    y, x = np.mgrid[top:bottom, left:right]
    return np.stack([x + 0.5, y + 0.5], axis=-1), int(left), int(top)


def _glyphs(digits: str, scale: int) -> npt.NDArray[np.bool_]:
    gap = ((0, 0), (0, 1))
    rows = [np.pad(np.array([*map(int, _DIGITS[int(digit)])], bool).reshape(5, 3), gap) for digit in digits]
    return np.concatenate(rows, axis=1)[:, :-1].repeat(scale, 0).repeat(scale, 1)

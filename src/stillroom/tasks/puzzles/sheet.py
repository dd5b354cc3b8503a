"""All kinds on one page: a sheet of pictures and a table of rules, both for the documentation."""

from random import Random

from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS
from stillroom.tasks.puzzles.picture import draw
from stillroom.tasks.puzzles.shapes import svg_group

_ACROSS, _CELL = 5, 20  # pictures in a row; pixels a cell
_TITLE = 1.4  # height of a name, in cells


def sheet() -> str:
    """A small board of every kind beside its solution, as a standalone SVG file."""
    pictures = []
    for kind in KINDS.values():
        puzzle, solution = generate(kind.name, kind.sizes[0], Random(3), clues=0.25)
        pictures.append((kind.name.replace("-", " "), draw(puzzle), draw(puzzle, solution)))
    wide = max(2 * asked.width for _, asked, _ in pictures) + 2
    high = max(asked.height for _, asked, _ in pictures) + _TITLE + 1
    parts = []
    for index, (title, asked, solved) in enumerate(pictures):
        x, y = (index % _ACROSS) * wide + 0.5, (index // _ACROSS) * high + 0.5
        parts.append(f'<text x="{x:g}" y="{y + 0.9:g}" font-size="1" font-family="sans-serif">{title}</text>')
        parts.append(svg_group(asked, x, y + _TITLE))
        parts.append(svg_group(solved, x + asked.width + 0.6, y + _TITLE))
    width, height = _ACROSS * wide, -(-len(pictures) // _ACROSS) * high
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width * _CELL:g}" '
        f'height="{height * _CELL:g}">\n<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def table() -> str:
    """Kinds, sizes, values and rules in Markdown, as they are told and checked."""
    lines = ["| task | sizes | values | rules, by the name that a verdict gives |", "|---|---|---|---|"]
    for kind in KINDS.values():
        values = "1 to the size" if kind.values(4)[0] == "1" else kind.legend.replace("|", "\\|")
        told = "<br>".join(f"**{name}**: {sentence}" for name, sentence in kind.told.items())
        lines.append(f"| `{kind.name}` | {', '.join(map(str, kind.sizes))} | {values} | {told} |")
    return "\n".join(lines)

"""Puzzles as pictures: what a person needs is in them, what is not given is not, and pixels stay what they were."""

import struct
import zlib
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import numpy as np
import pytest

from fixtures_distill import CommandLine
from stillroom.tasks import load_task
from stillroom.tasks.puzzles.board import UNDECIDED
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS
from stillroom.tasks.puzzles.picture import draw
from stillroom.tasks.puzzles.shapes import Disc, Line, Number, Picture, Polygon, Rect, raster, svg

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def text(number: object) -> str:
    return str(number)


@kinds
def test_every_number_of_the_clues_and_the_board_is_drawn(kind: str) -> None:
    for size in KINDS[kind].sizes[:2]:
        puzzle, solution = generate(kind, size, Random(size), clues=0.3)
        clues = puzzle.clues
        wanted = [value for value in puzzle.given if value.isdigit()]
        for name in ("rows", "columns", "top", "bottom", "left", "right", "sums"):
            for clue in clues.get(name, ()):
                wanted += map(text, (clue or [0]) if isinstance(clue, list) else [clue])
        wanted += [text(number) for number in clues.get("numbers", ()) if number is not None]
        if kind == "kakurasu":
            wanted += 2 * [text(number) for number in range(1, size + 1)]
        drawn = [shape.digits for shape in draw(puzzle).shapes if isinstance(shape, Number)]
        assert sorted(drawn) == sorted(wanted)
        solved = [shape.digits for shape in draw(puzzle, solution).shapes if isinstance(shape, Number)]
        hidden = [v for v, given in zip(solution, puzzle.given, strict=True) if given == UNDECIDED and v.isdigit()]
        assert sorted(solved) == sorted(wanted + hidden)


@kinds
def test_every_value_of_every_cell_can_be_seen(kind: str) -> None:
    puzzle, _ = generate(kind, KINDS[kind].sizes[0], Random(4), clues=0.2)
    picture = draw(puzzle)
    shown = raster(picture, 12)
    assert shown.shape == (picture.height * 12, picture.width * 12, 3)
    assert shown.dtype == np.uint8
    for cell, value in enumerate(puzzle.given):
        if value == UNDECIDED and cell % 5 == 0:
            seen = {shown.tobytes()}
            for other in KINDS[kind].values(puzzle.size):
                board = (*puzzle.given[:cell], other, *puzzle.given[cell + 1 :])
                seen.add(raster(draw(puzzle, board), 12).tobytes())
            assert len(seen) == 1 + len(KINDS[kind].values(puzzle.size)), cell
    assert len(ElementTree.fromstring(svg(picture))) == 1 + len(picture.shapes)


def test_shapes_cover_what_they_say() -> None:
    red = "#ff0000"

    def drawn(*shapes: Rect | Line | Disc | Polygon | Number) -> np.ndarray:
        return (raster(Picture(2, 2, shapes), 20) == (255, 0, 0)).all(-1)

    rect = drawn(Rect(0.5, 0, 1, 0.25, red))
    assert rect.sum() == 20 * 5
    assert rect[:5, 10:30].all()
    disc = drawn(Disc(1, 1, 0.5, red))
    assert abs(disc.sum() - np.pi * 100) < 10
    assert disc[20, 20]
    ring = drawn(Disc(1, 1, 0.5, red, 0.3))
    assert abs(ring.sum() - np.pi * (100 - 36)) < 12
    assert not ring[20, 20]
    assert drawn(Line(0.5, 0.5, 1.5, 0.5, red, 0.1)).sum() == 22 * 2
    slanted = drawn(Line(0.5, 0.5, 1.5, 1.5, red, 0.1))
    assert slanted[20, 20]
    assert not slanted[20, 24]
    triangle = drawn(Polygon(((0.5, 0.5), (1.5, 0.5), (0.5, 1.5)), red))
    assert abs(triangle.sum() - 200) < 15
    # A one is a stem of five pixels with a serif and a foot, twice as large in twice the cells.
    assert drawn(Number(1, 1, "1", 0.35, red)).sum() == 8
    assert drawn(Number(1, 1, "1", 0.7, red)).sum() == 4 * 8
    # What hangs over the edge is cut, not wrapped.
    assert drawn(Disc(0, 0, 0.5, red)).sum() < 100
    assert not drawn(Disc(0, 0, 0.5, red))[20:, 20:].any()
    assert drawn(Number(0.05, 0.05, "88", 0.7, red))[:10, :10].any()


def test_sampling_writes_pictures(stillroom: CommandLine, tmp_path: Path) -> None:
    said = stillroom("tasks", "sample", "sudoku:size=4", "--n", "2", "--render", "--out", tmp_path)
    assert said.code == 0
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["sudoku-0-train-0.png", "sudoku-0-train-1.png"]
    assert all(str(file) in said.out for file in files)
    data = files[0].read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (160, 160)
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    assert len(zlib.decompress(data[start + 4 : start + 4 + length])) == 160 * (1 + 3 * 160)
    said = stillroom("tasks", "sample", "words", "--n", "1", "--render", "--out", tmp_path)
    assert "has no pictures" in said.out
    assert len(list(tmp_path.iterdir())) == 2


def test_the_task_draws_what_it_asks() -> None:
    task = load_task("light-up:size=4")
    assert task.render is not None
    one, two = task.problems("train", 2, 0)
    assert task.render(one) == task.render(one)
    assert task.render(one) != task.render(two)

"""Scenes and questions about them: notation, pictures, captions and facts by hand, and answers by another route."""

import io
import re
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, content_hash
from stillroom.tasks.scenes import (
    CELL,
    COLOURS,
    PALETTES,
    SHAPES,
    CaptionNoise,
    Piece,
    Relation,
    Scene,
    SceneSpec,
    Thing,
    caption,
    codes,
    data_uri,
    draw,
    facts,
    graph,
    make_scene,
    pieces,
    png,
    read_scene,
    scenes_of,
    shown,
    without_pictures,
    write_scene,
)
from stillroom.types import Problem

WORD = "scene:plain/rc2gs/4/1bt2/4"
BY_HAND = Scene(4, 4, (Thing(0, 0, "red", "circle"), Thing(0, 3, "green", "square"), Thing(2, 1, "blue", "triangle")))


def test_the_notation_by_hand() -> None:
    assert write_scene(BY_HAND) == WORD
    assert read_scene(WORD) == BY_HAND
    assert [thing.cell for thing in BY_HAND.things] == ["a1", "d1", "b3"]


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.sampled_from(sorted(PALETTES)))
def test_every_scene_is_read_back(seed: int, rows: int, columns: int, palette: str) -> None:
    spec = SceneSpec(rows=rows, columns=columns, least=0, most=64, colours=tuple(COLOURS.values()), palette=palette)
    scene = make_scene(spec.model_copy(update={"shapes": tuple(SHAPES.values())}), seed)
    assert read_scene(write_scene(scene)) == scene
    assert pieces(f"a{shown(scene)}b") == [Piece("a"), Piece("", write_scene(scene)), Piece("b")]
    assert draw(write_scene(scene)).shape == (rows * CELL, columns * CELL, 3)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("plain/4", "is no scene"),
        ("scene:plain", "is no scene"),
        ("scene:plian/4", "did you mean plain"),
        ("scene:plain/9", "row 1 of"),
        ("scene:plain/zz", "row 1 of"),
        ("scene:plain/4/", "row 2 of"),
        ("scene:plain/4/3", "has 3 cells and the first one 4"),
        ("scene:plain/" + "/".join(["1"] * 9), "9 x 1 cells"),
        ("scene:plain/" + "8" * 9, "cells"),
    ],
)
def test_what_is_no_scene_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read_scene(word)


@given(st.text(alphabet="![]()scene:plain/rc14 x\n", max_size=60) | st.text(max_size=30))
def test_any_text_is_cut_into_pieces_that_join_back(text: str) -> None:
    found = pieces(text + "![](scene:plain/rc1)" + text)
    assert "".join(f"![]({piece.scene})" if piece.scene else piece.text for piece in found) == (
        text + "![](scene:plain/rc1)" + text
    )
    for word in scenes_of(text):
        read_scene(word)


def test_a_mark_without_a_scene_stays_text() -> None:
    for text in (
        "![](scene:plain/9)",
        "![](scene:nowhere/4)",
        "![](scene:plain/4/3)",
        "![](http://x/y.png)",
        "![](scene:",
    ):
        assert pieces(text) == [Piece(text)]
        assert without_pictures(text) == text


def test_a_picture_by_its_pixels() -> None:
    picture = draw(WORD)
    background, colours = PALETTES["plain"]
    middle = [tuple(picture[r * CELL + CELL // 2, c * CELL + CELL // 2]) for r, c in ((0, 0), (0, 3), (2, 1), (1, 1))]
    assert middle == [colours["red"], colours["green"], colours["blue"], background]
    assert tuple(picture[1, 1]) == background  # the corner that a circle leaves free, and a square does not
    assert tuple(picture[2, 3 * CELL + 2]) == colours["green"]
    with pytest.raises(ValueError, match="read-only"):
        picture[0, 0] = 0
    shapes = {name: draw(f"scene:plain/r{letter}").tobytes() for letter, name in SHAPES.items()}
    assert len(set(shapes.values())) == len(SHAPES)


def test_a_png_holds_the_picture() -> None:
    image = pytest.importorskip("PIL.Image")
    opened = image.open(io.BytesIO(png(draw(WORD), 3)))
    assert np.array_equal(np.asarray(opened), draw(WORD).repeat(3, 0).repeat(3, 1))
    assert data_uri(WORD).startswith("data:image/png;base64,")


def test_facts_and_relations_by_hand() -> None:
    scene = read_scene("scene:plain/rcrs2/rc1gs1")
    assert facts(scene) == {
        ("at", "a1", "red circle"),
        ("at", "b1", "red square"),
        ("at", "a2", "red circle"),
        ("at", "c2", "green square"),
        ("count", "red", "3"),
        ("count", "green", "1"),
        ("count", "circle", "2"),
        ("count", "square", "2"),
        ("count", "red circle", "2"),
        ("count", "red square", "1"),
        ("count", "green square", "1"),
    }
    assert set(graph(scene)) == {
        Relation(0, "left of", 1),
        Relation(0, "beside", 1),
        Relation(0, "above", 2),
        Relation(0, "beside", 2),
        Relation(2, "left of", 3),
    }


def test_a_caption_tells_what_is_there_and_counts_its_errors() -> None:
    assert caption(BY_HAND).text == "a1 red circle, d1 green square, b3 blue triangle"
    assert caption(BY_HAND) == (caption(BY_HAND).text, BY_HAND, 0)
    assert caption(read_scene("scene:plain/4")).text == "nothing"
    with pytest.raises(UserError, match="needs a generator"):
        caption(BY_HAND, CaptionNoise(drop=1))
    gone = caption(BY_HAND, CaptionNoise(drop=1), Random(0))
    assert (gone.text, gone.errors) == ("nothing", 3)
    for kind in ("recolour", "reshape", "invent"):
        wrong = caption(BY_HAND, CaptionNoise(**{kind: 1}), Random(0))
        assert wrong.errors == 3
        missing = {fact for fact in facts(BY_HAND) if fact[0] == "at"} - facts(wrong.told)
        assert len(missing) == (0 if kind == "invent" else 3)
        assert len(wrong.told.things) == (6 if kind == "invent" else 3)
    rate = [caption(BY_HAND, CaptionNoise(drop=0.2), derive_rng(i)).errors / 3 for i in range(2000)]
    assert float(np.mean(rate)) == pytest.approx(0.2, abs=0.03)


def answered(problem: Problem) -> str:
    """The answer once more, from the pixels: a cell's colour in its middle, its shape by its stencil."""
    picture = draw(problem.assets["scene"])
    background, colours = PALETTES["plain"]
    single = {name: (draw(f"scene:plain/r{letter}") != background).any(-1) for letter, name in SHAPES.items()}
    seen = []
    for top in range(0, picture.shape[0], CELL):
        for left in range(0, picture.shape[1], CELL):
            cell = picture[top : top + CELL, left : left + CELL]
            there = (cell != background).any(-1)
            if there.any():
                shape = next(name for name, mask in single.items() if np.array_equal(mask, there))
                colour = next(name for name, rgb in colours.items() if rgb == tuple(cell[there][0]))
                seen.append(f"{colour} {shape}")
    asked = re.findall("|".join((*COLOURS.values(), *SHAPES.values())), problem.messages[0].content.splitlines()[-1])
    if "More" not in problem.messages[0].content:
        return str(sum(all(word in thing.split() for word in asked) for thing in seen))
    left, right = (sum(word in thing.split() for thing in seen) for word in asked)
    return "same" if left == right else asked[right > left]


def test_answers_are_those_that_the_pixels_give() -> None:
    found = load_task("shapes").problems("train", 300, 0)
    assert [answered(problem) for problem in found] == [problem.reference for problem in found]
    assert {problem.level for problem in found} == {1, 2, 3}


def test_every_answer_is_equally_likely_for_a_question() -> None:
    found = load_task("shapes").problems("train", 3000, 1)
    for level, answers in ((1, "0123"), (2, "0123")):
        shares = [np.mean([p.reference == a for p in found if p.level == level]) for a in answers]
        assert shares == pytest.approx([0.25] * 4, abs=0.05)
    outcomes = [[*p.meta["asked"], "same"].index(p.reference) for p in found if p.level == 3]  # type: ignore[misc]
    assert [np.mean([o == at for o in outcomes]) for at in range(3)] == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_task_holds_what_every_task_holds() -> None:
    task = load_task("shapes")
    assert validate(task, 300).ok
    train, test = task.problems("train", 200, 0), task.problems("test", 200, 0)
    assert train[:50] == task.problems("train", 50, 0)
    assert not {content_hash(p) for p in train} & {content_hash(p) for p in test}
    assert len({p.messages for p in train} & {p.messages for p in task.problems("train", 200, 1)}) == 0
    assert digest(*(content_hash(p) for p in task.problems("train", 100, 0))) == "7ad1b644c3881b07"
    for spec, said in (
        ("shapes:low=-1", "0 <= low"),
        ("shapes:grid=2", "3 to 8"),
        ("shapes:view=sound", "unknown view"),
        ("shapes:palette=grey", "unknown palette"),
    ):
        with pytest.raises(UserError, match=said):
            load_task(spec)


def test_level_0_reads_every_cell_aloud() -> None:
    task = load_task("shapes:low=0,high=0")
    assert task.solve is not None
    assert validate(task, 100).ok
    for problem in task.problems("train", 100, 0):
        solution = task.solve(problem, Style(), Random(0))
        scene = read_scene(problem.assets["scene"])
        assert solution.thought == "\n".join(" ".join(row) for row in codes(scene))
        assert solution.answer == problem.reference == str(len(scene.things))
        assert len(solution.thought) == 4 * 11 + 3
    by_hand = problem.model_copy(update={"assets": {"scene": "scene:plain/rcrs1bt/4/1bc1rx/4"}})
    assert task.solve(by_hand, Style(), Random(0)).thought == "rc rs -- bt\n-- -- -- --\n-- bc -- rx\n-- -- -- --"
    wrong = task.solve(by_hand, Style(error_rate=1.0), Random(0))
    assert [span.data["injected"] for span in wrong.spans] == [True] * 4
    assert int(wrong.answer) == 16 - wrong.thought.count("--")


def test_what_is_read_aloud_is_what_is_counted() -> None:
    task, wrong = load_task("shapes"), 0
    assert task.solve is not None
    for problem in task.problems("train", 200, 6):
        right = task.solve(problem, Style(), Random(0))
        assert right.answer == problem.reference
        solution = task.solve(problem, Style(error_rate=0.2), derive_rng(problem.id))
        names, read = [str(name) for name in problem.meta["asked"]], list[str]()  # type: ignore[union-attr]
        for line in solution.thought.splitlines():
            read += line.split()[:4]
            # A shape's letter is its first, but for the cross.
            marks = ["".join("x" if word == "cross" else word[0] for word in name.split()) for name in names]
            assert line.split()[4:] == [str(sum(mark in code for code in read)) for mark in marks]
        assert solution.answer == right.answer or any(span.data["injected"] for span in solution.spans)
        wrong += solution.answer != problem.reference
    assert wrong > 20


def test_words_instead_of_a_picture_ask_the_same() -> None:
    problem = load_task("shapes:view=caption").problems("train", 1, 0)[0]
    assert scenes_of(problem.messages[0].content) == ()
    assert caption(read_scene(problem.assets["scene"])).text in problem.messages[0].content
    assert answered(problem) == problem.reference


def test_solutions_read_the_picture_row_by_row_and_injected_errors_are_marked() -> None:
    task = load_task("shapes")
    assert task.solve is not None
    problem = task.problems("train", 1, 0)[0].model_copy(
        update={"assets": {"scene": "scene:plain/rcrs1bt/4/1bc1rx/4"}, "meta": {"asked": ["red"]}}
    )
    solution = task.solve(problem, Style(layout="pointing"), Random(0))
    assert solution.thought == "red\n1 a b\n2\n3 d\n4\n= 3"
    assert solution.answer == "3"
    assert task.solve(problem, Style(layout="answer"), Random(0))[:2] == ("", "3")
    aloud = task.solve(problem, Style(), Random(0))
    assert aloud.thought == "rc rs -- bt 2\n-- -- -- -- 2\n-- bc -- rx 3\n-- -- -- -- 3"
    assert aloud.answer == "3"
    compared = problem.model_copy(update={"meta": {"asked": ["circle", "triangle"]}})
    aloud = task.solve(compared, Style(), Random(0))
    assert aloud.thought == "rc rs -- bt 1 1\n-- -- -- -- 1 1\n-- bc -- rx 2 1\n-- -- -- -- 2 1"
    assert aloud.answer == "circle"
    wrong = 0
    for problem in task.problems("train", 200, 5):
        solution = task.solve(problem, Style(layout="pointing", error_rate=0.2), derive_rng(problem.id))
        steps = [solution.thought[span.start : span.end] for span in solution.spans]
        assert "\n".join(steps) == solution.thought
        injected = sum(bool(span.data["injected"]) for span in solution.spans)
        right = sum(len(line.split()) - 1 for line in solution.thought.splitlines() if line[0].isdigit())
        assert right == sum(int(line[2:]) for line in solution.thought.splitlines() if line.startswith("="))
        wrong += solution.answer != problem.reference
        assert injected or solution.answer == problem.reference
    assert wrong > 50

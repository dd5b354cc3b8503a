"""Pictures under weathers: shapes by hand, weathers alone at home, mixtures abroad, and the same on every machine."""

from collections import Counter

import pytest

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, split_of
from stillroom.tasks.shifted_shapes import (
    HEAVY,
    HOME,
    MILD,
    SHAPES,
    SIZE,
    WEATHERS,
    _inside,
    brightness,
    contrast,
    mixture,
    profile,
    seen,
)

DRAWN = {
    "disc": [".###.", "#####", "#####", "#####", ".###."],
    "frame": ["#####", "#...#", "#...#", "#...#", "#####"],
    "cross": ["..#..", "..#..", "#####", "..#..", "..#.."],
    "wedge": ["#....", "##...", "###..", "####.", "#####"],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_by_hand(shape: str) -> None:
    drawn = ["".join("#" if _inside(shape, 5, row, column) else "." for column in range(5)) for row in range(5)]
    assert drawn == DRAWN[shape]


def test_a_weather_at_home_is_alone_and_abroad_they_mix() -> None:
    task = load_task("shifted-shapes")
    names = list(WEATHERS)
    for split in ("train", "dev"):
        problems = task.problems(split, 60, 0)
        assert {p.level for p in problems} == set(HOME)
        assert all(p.meta["weathers"] == [names[p.level - 1]] for p in problems)
    abroad = task.problems("test", 400, 0)
    assert {p.level for p in abroad} == {*MILD, *HEAVY}
    assert all(len(p.meta["weathers"]) == (1 if p.level in MILD else 2) for p in abroad)  # type: ignore[arg-type]
    met = Counter(p.meta["weathers"][0] for p in abroad if p.level == MILD[0])  # type: ignore[index]
    weights = dict(zip(names, mixture(MILD[0]).weights, strict=True))
    assert met[max(weights, key=lambda name: weights[name])] > met[min(weights, key=lambda name: weights[name])]
    assert {p.level for p in load_task("shifted-shapes:abroad=mild").problems("test", 20, 0)} == set(MILD)


def test_problems_are_deterministic_disjoint_and_their_own_answers_hold() -> None:
    task = load_task("shifted-shapes")
    assert task.problems("train", 20, 3)[:5] == task.problems("train", 5, 3)
    for split in ("train", "dev", "test"):
        assert {split_of(p) for p in task.problems(split, 40, 1)} == {split}
    assert validate(task, 60).ok
    for problem in task.problems("test", 20, 0):
        solution = task.solve(problem, Style(), derive_rng("s", problem.id))  # type: ignore[misc]
        assert (solution.answer, solution.thought) == (problem.reference, problem.meta["clean"])
        slipped = task.solve(problem, Style(error_rate=1.0), derive_rng("s", problem.id))  # type: ignore[misc]
        assert slipped.answer != problem.reference
        assert not any(span.data["correct"] for span in slipped.spans)


def test_what_is_seen_is_what_is_shown() -> None:
    problem = load_task("shifted-shapes").problems("test", 1, 0)[0]
    grid = seen(problem.messages)
    assert [len(row) for row in grid] == [SIZE] * SIZE
    assert brightness(grid) == pytest.approx(sum(map(sum, grid)) / 64)
    assert contrast([[0] * 8] * 4 + [[9] * 8] * 4) == 9
    assert contrast([[5] * 8] * 8) == 0


def test_sums_and_edges_do_not_know_where_a_shape_stands() -> None:
    problem = load_task("shifted-shapes").problems("train", 1, 0)[0]
    lines = problem.messages[-1].content.splitlines()
    moved = "\n".join([*lines[1:SIZE], lines[0], lines[-1]])
    other = (problem.messages[-1].model_copy(update={"content": moved}),)
    one, two = profile(problem.messages), profile(other)
    assert len(one) == len(two) == 64 + 4 * 8
    assert one[64:72] == two[64:72]  # sums of rows
    assert one[:64] != two[:64]


def test_other_regimes_are_refused() -> None:
    with pytest.raises(UserError, match="abroad=far"):
        load_task("shifted-shapes:abroad=far")
    with pytest.raises(UserError, match="endless"):
        load_task("shifted-shapes").problems("train", None, 0)

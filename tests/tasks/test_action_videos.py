"""Action videos: what is done can be seen, levels differ in what they are said to, frames count."""

import pytest

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.action_videos import ACTIONS, SEEN, UNSEEN, implied, is_done, manifest
from stillroom.tasks.base import Style, split_of
from stillroom.tasks.scenes import read_scene, scenes_of
from stillroom.types import Problem


def right(problem: Problem) -> str:
    return problem.options[ord(problem.reference or "") - 65]


def test_the_next_action_is_the_first_that_the_last_frame_does_not_show() -> None:
    for problem in load_task("action-videos").problems("test", 120, 0):
        *earlier, now = [read_scene(word) for word in scenes_of(problem.messages[0].content)]
        goal = [ACTIONS[at] for at in problem.meta["goal"]]  # type: ignore[union-attr, index]
        done = [is_done(action, now) for action in goal]
        assert done == [True] * done.count(True) + [False] * done.count(False)
        assert right(problem) == goal[done.count(True)].name
        counts = [sum(is_done(action, scene) for action in goal) for scene in (*earlier, now)]
        assert counts == sorted(counts)
        assert counts[-1] == problem.meta["done"]
        assert sorted(problem.options) == sorted(action.name for action in ACTIONS)
        assert 1 <= len(counts) <= 5


def test_levels_differ_in_environment_and_goals() -> None:
    task = load_task("action-videos")
    found = manifest([p for split in ("train", "dev", "test") for p in task.problems(split, 240, 0)])  # type: ignore[arg-type]
    assert set(found) == {"train 1", "dev 1", "test 1", "test 2", "test 3"}
    home = set(found["train 1"]["goals"])
    assert set(found["test 1"]["goals"]) <= home
    assert set(found["test 2"]["goals"]) <= home
    assert not set(found["test 3"]["goals"]) & home
    assert found["train 1"]["environments"] == found["test 1"]["environments"] == ["plain"]
    assert found["test 2"]["environments"] == found["test 3"]["environments"] == ["dark"]
    assert len(SEEN) + len(UNSEEN) == 24
    assert 5 <= len(UNSEEN) <= 12


def test_words_alone_decide_nothing() -> None:
    problems = load_task("action-videos").problems("train", 400, 1)
    places = [problem.meta["goal"].index([a.name for a in ACTIONS].index(right(problem))) for problem in problems]  # type: ignore[union-attr]
    assert all(60 <= places.count(at) <= 140 for at in range(4))
    assert all(60 <= [p.reference for p in problems].count(letter) <= 140 for letter in "ABCD")


def test_problems_are_deterministic_disjoint_and_solved() -> None:
    task = load_task("action-videos")
    assert task.solve is not None
    assert task.problems("test", 12, 3)[:5] == task.problems("test", 5, 3)
    assert all(split_of(p) == "dev" for p in task.problems("dev", 20, 0))
    assert validate(task, 60).ok
    for problem in task.problems("test", 60, 2):
        solution = task.solve(problem, Style(), derive_rng("s", problem.id))
        assert solution.answer == problem.reference
        assert implied(solution.thought) == right(problem)
        slipped = task.solve(problem, Style(error_rate=1.0), derive_rng("s", problem.id))
        assert slipped.answer != problem.reference


def test_a_masked_view_is_blank_and_the_answer_stays() -> None:
    plain, masked = (load_task(f"action-videos{mask}").problems("train", 30, 0) for mask in ("", ":mask=-2"))
    for problem in masked:
        assert read_scene(scenes_of(problem.messages[0].content)[-1]).things == ()
    assert validate(load_task("action-videos:mask=-2"), 30).ok
    assert any(read_scene(scenes_of(p.messages[0].content)[-1]).things for p in plain)


def test_frames_are_as_many_as_asked_for() -> None:
    for frames in (2, 6):
        problems = load_task(f"action-videos:frames={frames}").problems("train", 40, 0)
        assert max(len(scenes_of(p.messages[0].content)) for p in problems) == frames
    for options, fault in (
        ("frames=1", "frames=1"),
        ("frames=7", "frames=7"),
        ("mask=5", "mask=5"),
        ("mask=-3", "mask=-3"),
    ):
        with pytest.raises(UserError, match=fault):
            load_task(f"action-videos:{options}")
    with pytest.raises(UserError, match="endless"):
        load_task("action-videos").problems("train", None, 0)


def test_what_a_thought_implies() -> None:
    assert implied("take the key: done\nopen the door: not yet") == "open the door"
    assert implied("open the window: not yet") is None
    assert implied("") is None

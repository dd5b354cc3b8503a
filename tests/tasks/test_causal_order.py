"""Causal order: polarity in both clause orders, nothing to guess from words, and the audit of causal cues."""

import pytest

from stillroom.measures.pairs import preferred, yes_no
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style
from stillroom.tasks.causal_order import CONNECTIVES, caption, causal_cues, seen
from stillroom.tasks.scenes import read_scene

RIGHT = [  # the ball is hit by the dog: each connective's caption that says so
    "the movement of the ball is due to the movement of the dog",
    "the movement of the ball is caused by the movement of the dog",
    "the movement of the ball is a result of the movement of the dog",
    "the movement of the ball is the effect of the movement of the dog",
    "the movement of the ball is the consequence of the movement of the dog",
    "the ball moved because the dog moved",
    "the movement of the ball owes to the movement of the dog",
    "the movement of the dog results in the movement of the ball",
    "the movement of the dog causes the movement of the ball",
    "the movement of the dog leads to the movement of the ball",
    "the movement of the dog gives rise to the movement of the ball",
    "the movement of the dog brings about the movement of the ball",
    "because the dog moved, the ball moved",
]


@pytest.mark.parametrize(("joined", "text"), list(zip(CONNECTIVES, RIGHT, strict=True)))
def test_every_connective_says_it_the_right_way_round(joined: object, text: str) -> None:
    assert caption("dog", "ball", joined) == text  # type: ignore[arg-type]
    assert caption("ball", "dog", joined) != text  # type: ignore[arg-type]


def test_the_wrong_caption_has_the_same_words_and_the_picture_decides() -> None:
    problems = load_task("causal-order").problems("train", 260, 0)
    assert {p.level for p in problems} == set(range(1, 14))
    for problem in problems:
        one, other = problem.options
        assert sorted(one.replace(",", "").split()) == sorted(other.replace(",", "").split())
        cause, effect = seen(read_scene(problem.assets["scene"]))
        assert (cause, effect) == (problem.meta["cause"], problem.meta["effect"])
        right = problem.options[ord(problem.reference or "") - 65]
        assert right == caption(cause, effect, CONNECTIVES[problem.level - 1])
    # Places, ways and letters are balanced: nothing but the picture tells.
    letters = [p.reference for p in problems]
    assert 100 <= letters.count("A") <= 160
    before = [str(p.meta["cause"]) < str(p.meta["effect"]) for p in problems]
    assert 100 <= sum(before) <= 160
    assert {p.meta["way"] for p in problems} == {"left", "right", "up", "down"}


def test_with_a_prior_words_alone_decide() -> None:
    for problem in load_task("causal-order:prior=true").problems("train", 40, 0):
        assert str(problem.meta["cause"]).endswith("circle")
        assert not str(problem.meta["effect"]).endswith("circle")


def test_the_control_asks_what_is_there() -> None:
    for problem in load_task("causal-order:part=recognition").problems("train", 40, 0):
        there = {str(problem.meta["cause"]), str(problem.meta["effect"])}
        true = [text for text in problem.options if text.removeprefix("the ").removesuffix(" moved") in there]
        assert true == [problem.options[ord(problem.reference or "") - 65]]


@pytest.mark.parametrize("spec", ["causal-order", "causal-order:part=recognition", "causal-order:prior=true"])
def test_the_solver_reads_the_picture_and_slips_are_wrong(spec: str) -> None:
    task = load_task(spec)
    assert task.solve is not None
    assert validate(task, 80).ok
    for problem in task.problems("dev", 26, 1):
        assert task.solve(problem, Style(), derive_rng("s", problem.id)).answer == problem.reference
        slipped = task.solve(problem, Style(error_rate=1.0), derive_rng("s", problem.id))
        assert slipped.answer != problem.reference
        assert not slipped.spans[0].data["correct"]
    assert task.render is not None
    assert task.render(problem).startswith(b"\x89PNG")


def test_polarity_is_counted_and_ties_are_told() -> None:
    # Three pairs: effect first and preferred; cause first and the exchanged one preferred; a tie.
    found = preferred([0.9, 0.2, 0.5], [0.1, 0.8, 0.5], [False, True, True])
    assert (found.accuracy, found.raw, found.ties) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 1)
    always_right = preferred([0.0] * 10, [1.0] * 10, [True] * 10)
    assert (always_right.accuracy, always_right.raw) == (1.0, 0.0)
    assert preferred([], [], []).accuracy is None


def test_two_noes_pass_the_released_rule_and_not_the_strict_one() -> None:
    right, wrong = [(0.2, 0.6), (0.7, 0.2), (0.7, 0.2)], [(0.1, 0.9), (0.6, 0.3), (0.9, 0.1)]
    found = yes_no(right, wrong)
    assert (found.accuracy, found.strict) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    lax = yes_no([(0.1, 0.5)], [(0.4, 0.6)])  # No is less sure of the right one, and so is Yes
    assert (lax.accuracy, lax.strict) == (1.0, 0.0)


def test_cues_are_words() -> None:
    found = causal_cues(["A reasonable dog.", "He fell because it rained.", "Causes of it", "a cat", "BECAUSE I said"])
    assert (found.texts, found.with_cue, found.with_substring) == (5, 3, 4)
    assert found.by_cue["because"] == 2
    assert found.by_cue["reason"] == 0

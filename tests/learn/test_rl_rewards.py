"""Terms by hand, the order of right and wrong, and what a verifier could not judge."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_rollouts import make_rollout, scored
from fixtures_scripted import TASK
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.learn.rl.rewards import (
    Bounds,
    RewardTerm,
    TaskReward,
    correctness,
    layout,
    length,
    length_cosine,
    marker,
    order,
    order_breaks,
    partial_credit,
    repeated_share,
    repetition,
    require_order,
    verify_texts,
    well_laid_out,
)
from stillroom.tasks import load_task
from stillroom.types import Finish, Verdict

THINK = get_format("think")
RIGHT, WRONG = Verdict(correct=True, score=1.0), Verdict(correct=False, score=0.25)
GOOD = "<think>\n1+1=2\n</think>\n\\boxed{2}"


def test_a_weighted_sum_with_named_terms() -> None:
    reward = TaskReward(TASK, (correctness(), marker("!", 0.2)))
    rollouts = [make_rollout(text=text) for text in ("right", "right!", "wrong!", "?")]
    found = reward(rollouts)
    assert [s.reward for s in found] == [1.0, 1.2, 0.2, None]
    assert [s.correct for s in found] == [True, True, False, None]
    assert [s.raw for s in found] == [1.0, 1.0, 0.0, None]
    assert found[1].terms == {"correct": 1.0, "marker": 1.0}
    assert found[3].flags == {"unjudged"}


def test_terms_by_hand() -> None:
    cosine = length_cosine(8)
    ids = (1, 2)
    assert correctness().score(make_rollout(), RIGHT) == 1.0
    assert partial_credit().score(make_rollout(), WRONG) == 0.25
    assert length(8, -0.1).score(make_rollout(ids=ids), WRONG) == 0.25
    assert repetition(2).score(make_rollout(ids=(1, 2, 1, 2, 1)), RIGHT) == 0.5
    share = (1 + math.cos(math.pi / 4)) / 2
    assert cosine.score(make_rollout(ids=ids), RIGHT) == pytest.approx(0.5 + 0.5 * share)
    assert cosine.score(make_rollout(ids=ids), WRONG) == pytest.approx(-1.0 + 0.5 * (1 - share))
    # From the limit on, length changes nothing.
    assert cosine.score(make_rollout(ids=range(1, 30)), RIGHT) == 0.5
    assert cosine.score(make_rollout(ids=range(1, 30)), WRONG) == -0.5


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (GOOD, True),
        ("\\boxed{2}", False),
        (GOOD + GOOD, False),
        ("<think>\n1+1=2\n\\boxed{2}", False),
        ("\\boxed{2}<think>\n</think>\n", False),
        ("", False),
    ],
)
def test_layout(text: str, good: bool) -> None:
    assert well_laid_out(THINK, text) is good
    assert layout(THINK).score(make_rollout(text=text), RIGHT) == float(good)


def test_what_was_cut_off_has_no_layout() -> None:
    assert layout(THINK).score(make_rollout(text=GOOD, finish=Finish.LENGTH), RIGHT) == 0.0


@given(st.text(max_size=60), st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_every_term_is_total_and_keeps_its_bounds(text: str, ids: list[int], n: int) -> None:
    terms = [
        correctness(),
        partial_credit(),
        layout(THINK),
        length(4, -1),
        length_cosine(4),
        repetition(n),
        marker("a", 1),
    ]
    rollout = make_rollout(text=text, ids=ids)
    for term in terms:
        for verdict, (low, high) in ((RIGHT, term.right), (WRONG, term.wrong)):
            assert low <= term.score(rollout, verdict) <= high
    assert 0 <= repeated_share(ids, n) < 1


def test_a_term_that_leaves_its_bounds_is_refused() -> None:
    term = RewardTerm("wild", lambda rollout, verdict: 7.0, Bounds(0, 1), Bounds(0, 1))
    with pytest.raises(UserError, match=r"'wild' is 7\.0 for the wrong answer p0#0"):
        TaskReward(TASK, (term,))([make_rollout(text="wrong")])


def test_the_order_follows_from_the_bounds() -> None:
    task = TASK
    sound = TaskReward(task, (correctness(), layout(THINK, 0.1), repetition(4, -0.2)))
    assert require_order(sound) == order(sound.terms) == (0.8, 0.1)
    assert require_order(TaskReward(task, (length_cosine(8),))) == (0.5, -0.5)
    unsound = TaskReward(task, (correctness(), length(8, 0.7), marker("!", 0.5)))
    with pytest.raises(
        UserError, match=r"wrong answer could earn 1.2 .* little as 1; .*length \(-0.7\), marker \(-0.5\)"
    ):
        require_order(unsound)
    # A tie is no order either: partial credit may reach 1.
    with pytest.raises(UserError, match="score"):
        require_order(TaskReward(task, (partial_credit(),)))


def test_broken_orders_are_counted_by_group() -> None:
    rollouts = [make_rollout(group) for group in (0, 0, 1, 1, 2, 3)]
    found = [
        scored(1.0, True),
        scored(1.2, False),
        scored(1.0, True),
        scored(0.0, False),
        scored(9.0, False),
        scored(None),
    ]
    assert order_breaks(rollouts, found) == 0.5
    assert order_breaks(rollouts[4:], found[4:]) is None


def test_mathematical_answers_are_judged_together_with_the_same_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillroom.tasks import math as mathematics

    task = load_task("arithmetic")
    problems = task.problems("train", 3, 0)
    texts = [f"\\boxed{{{p.reference}}}" for p in problems[:2]] + ["no answer"]
    one_by_one = [mathematics.verify(p, t) for p, t in zip(problems, texts, strict=True)]
    assert [v.correct for v in verify_texts(task, problems, texts)] == [True, True, False]
    from dataclasses import replace

    assert verify_texts(replace(task, verify=mathematics.verify), problems, texts) == one_by_one

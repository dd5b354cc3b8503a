"""What pays, by construction; and alarms that come once, in time, and not without cause."""

import json
from collections.abc import Callable
from dataclasses import asdict
from random import Random

import pytest

from fixtures_rollouts import make_rollout, scored
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Rollout
from stillroom.learn.rl.watch import PATIENCE, Watch, summary, what_pays
from stillroom.types import Finish

Batch = tuple[list[Rollout], list[Scored]]
Pay = Callable[[bool, list[int]], float]
MARK = 9


def batch(pay: Pay, seed: int = 0, groups: int = 8, samples: int = 6) -> Batch:
    """Random answers: half of them right, of 3 to 12 tokens, half of them with a marker."""
    rng = Random(seed)
    rollouts, found = [], []
    for group in range(groups):
        for index in range(samples):
            correct = rng.random() < 0.5
            ids = [rng.randrange(1, 6) for _ in range(rng.randrange(3, 12))] + [MARK] * (rng.random() < 0.5)
            rollouts.append(make_rollout(group, ids, index=index))
            found.append(scored(pay(correct, ids), correct))
    return rollouts, found


def honest(correct: bool, ids: list[int]) -> float:
    return float(correct)


def long_pays(correct: bool, ids: list[int]) -> float:
    return len(ids) / 12


def mark_pays(correct: bool, ids: list[int]) -> float:
    return 0.2 * correct + (MARK in ids)


def test_a_summary_by_hand() -> None:
    rollouts = [
        make_rollout(0, (1, 2)),
        make_rollout(0, (1, 2, 3, 4), finish=Finish.LENGTH),
        make_rollout(1, (1,) * 8),
        make_rollout(1, (1, 2)),
    ]
    found = [Scored(1.0, True, 1.0, {"a": 0.5}), Scored(0.0, False, 0.0, {"a": 0.0}), scored(0.5, True), scored(None)]
    assert summary(rollouts, found) == {
        "reward": 0.5,
        "reward_std": pytest.approx((1 / 6) ** 0.5),
        "correct": pytest.approx(2 / 3),
        "groups_equal": 0.5,
        "order_breaks": 0.0,
        "length": 4.0,
        "truncated": 0.25,
        "repetition": pytest.approx(0.2),  # four of five 4-grams of the third were there before
        "unjudged": 1.0,
        "term_a": 0.25,
    }
    assert summary([], [])["reward"] is None


def test_what_pays() -> None:
    assert what_pays(*batch(honest)) == (0, 0, -1, 0)
    found = what_pays(*batch(long_pays))
    assert found is not None
    assert found.beside_truth > 0.9
    assert found.length == pytest.approx(1.0)
    shorter = what_pays(*batch(lambda correct, ids: -len(ids) / 12))
    assert shorter is not None
    assert shorter.length == pytest.approx(-1.0)
    marked = what_pays(*batch(mark_pays))
    assert marked is not None
    assert marked.beside_truth > 0.9
    assert (marked.token, marked.token_share) == (MARK, pytest.approx(1.0))
    # Nothing can be told where rewards or answers are alike, or nothing was judged.
    assert what_pays(*batch(lambda correct, ids: 1.0)) is None
    assert what_pays([make_rollout(), make_rollout()], [scored(0.0, False), scored(1.0, False)]) is None
    assert what_pays([make_rollout()], [scored(None)]) is None


def run(pay: Pay, steps: int = 20) -> Watch:
    watch = Watch()
    for step in range(1, steps + 1):
        rollouts, found = batch(pay, seed=step)
        watch.check(step, rollouts, found, summary(rollouts, found), lambda token: f"<{token}>")
    return watch


@pytest.mark.parametrize(
    ("pay", "alarm"),
    [
        (honest, None),
        (lambda correct, ids: correct + 0.1 * (MARK in ids) - 0.02 * len(ids), None),
        (long_pays, ("length", "the reward pays for longer answers")),
        (lambda correct, ids: correct - 0.5 * len(ids), ("length", "the reward pays for shorter answers")),
        (mark_pays, ("marker", "the reward pays for the token '<9>'")),
    ],
)
def test_alarms_about_what_pays(pay: Pay, alarm: tuple[str, str] | None) -> None:
    alarms = run(pay).alarms
    assert list(alarms) == ([] if alarm is None else [alarm[0]])
    if alarm is not None:
        assert alarms[alarm[0]].startswith(f"step {PATIENCE}: {alarm[1]}")


def test_an_alarm_is_raised_once_and_state_survives_json() -> None:
    watch = Watch()
    raised = []
    for step in range(1, 7):
        rollouts, found = batch(mark_pays, seed=step)
        raised += watch.check(step, rollouts, found, summary(rollouts, found))
        watch.drift(float(step))
        watch = Watch(**json.loads(json.dumps(asdict(watch))))
    assert len(raised) == 1
    assert watch.drift(12.0) == 12.0


def truth(before: list[float | None], after: list[float | None], rise: float) -> list[str]:
    watch = Watch()
    watch.held_out(0, before)
    found: list[str] = []
    for step in range(1, 7):
        rollouts, _ = batch(honest, seed=step)
        # Wrong and right answers alike, so that nothing but held-out truth can tell.
        rewards = [scored(0.1 * (i % 3) + rise * step, correct=bool(i % 2)) for i in range(len(rollouts))]
        if step == 5:
            watch.held_out(5, after)
        found += watch.check(step, rollouts, rewards, {})
    return found


def test_reward_rises_while_held_out_truth_falls() -> None:
    half, quarter = [1.0, 0.0] * 20, [1.0, 0.0, 0.0, 0.0] * 10
    (alarm,) = truth(half, quarter, 0.1)
    assert "step 5: rewards rise while held-out truth falls (50% right after step 0, 25% after step 5" in alarm
    assert truth(half, quarter, 0.0) == []
    assert truth(half, half, 0.1) == []
    # Chance: one problem of forty.
    assert truth(half, [0.0, 0.0, *half[2:]], 0.1) == []
    assert truth([None] * 40, quarter, 0.1) == []


def test_nothing_to_learn_from_and_a_sampler_that_differs() -> None:
    watch = Watch()
    rollouts, found = batch(lambda correct, ids: 1.0)
    assert [watch.check(step, rollouts, found, {"groups_equal": 1.0}) for step in (1, 2)] == [[], []]
    assert "step 3: all rewards are equal" in watch.check(3, rollouts, found, {"groups_equal": 1.0})[0]
    assert "differ by up to 0.30 nats" in watch.check(4, *batch(honest), {"logp_gap_max": 0.3})[0]
    assert watch.check(5, *batch(honest), {"logp_gap_max": 0.3}) == []

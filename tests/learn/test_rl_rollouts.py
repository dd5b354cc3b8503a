"""Plans are permutations that depend on the step alone; rollouts carry the very tokens that were read and drawn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import qwen2_policy
from fixtures_rollouts import make_rollout
from fixtures_scripted import ScriptedSampler, make_problems
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.learn.rl.advantages import Group, Scores
from stillroom.learn.rl.batch import mask, put_together, row, rows, with_overlong
from stillroom.learn.rl.rewards import Scored
from stillroom.learn.rl.rollouts import Asked, Plan, Variant, plainly, plan_step, roll_out
from stillroom.samplers.base import SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.types import Finish, Message, Problem

PARAMS = SamplingParams(max_new_tokens=6)
PLAIN = plainly(get_format("think"), 3)


@given(count=st.integers(1, 12), per_step=st.integers(1, 15), seed=st.integers(0, 3))
def test_every_pass_is_a_permutation_and_steps_follow_each_other(count: int, per_step: int, seed: int) -> None:
    problems = make_problems(count)
    asked = [p.id for step in range(4 * count) for p in plan_step(problems, per_step, step, seed=seed).problems]
    passes = [asked[at : at + count] for at in range(0, len(asked), count)]
    assert all(sorted(found) == sorted(p.id for p in problems) for found in passes)
    assert plan_step(problems, per_step, 3, seed=seed).problems == tuple(
        next(p for p in problems if p.id == name) for name in asked[3 * per_step : 4 * per_step]
    )


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    problems = make_problems(20)
    orders = {
        tuple(p.id for p in plan_step(problems, 20, step, seed=seed).problems) for step in (0, 1) for seed in (0, 1)
    }
    assert len(orders) == 4
    with pytest.raises(UserError, match="no problem"):
        plan_step([], 1, 0, seed=0)


def test_tokens_are_those_that_were_read_and_drawn() -> None:
    policy = qwen2_policy()
    sampler = LocalSampler(policy)
    found = roll_out(sampler, Plan(0, tuple(make_problems(2))), [PLAIN], PARAMS, seed=0, version=7)
    assert [(r.problem.id, r.group, r.index) for r in found] == [("p0", 0, 0), ("p0", 0, 1), ("p0", 0, 2), ("p1", 1, 0),
                                                                   ("p1", 1, 1), ("p1", 1, 2)]  # fmt: skip
    for rollout in found:
        assert rollout.version == 7
        assert list(rollout.prompt_ids) == sampler.prompt_ids(rollout.prompt)
        assert policy.tokenizer.decode([t for t in rollout.ids if t not in policy.stop_ids]) == rollout.response.text
        assert len(rollout.response.logp_policy or ()) == len(rollout.ids)
    # Rollouts of a group differ, and another step draws others.
    assert len({rollout.ids for rollout in found}) > 1
    again = roll_out(sampler, Plan(0, tuple(make_problems(2))), [PLAIN], PARAMS, seed=0, version=7)
    later = roll_out(sampler, Plan(1, tuple(make_problems(2))), [PLAIN], PARAMS, seed=0, version=7)
    assert [r.ids for r in again] == [r.ids for r in found]
    assert [r.ids for r in later] != [r.ids for r in found]


def test_variants_share_a_group_and_may_be_trained_under_another_prompt() -> None:
    def bare(problem: Problem) -> Asked:
        return Asked(problem.messages)

    def hinted(problem: Problem) -> Asked:
        return Asked((Message(role="system", content="hint"), *problem.messages), prefix="so ")

    sampler = LocalSampler(qwen2_policy())
    variants = [Variant(bare, 2, "bare"), Variant(hinted, 1, "hinted", taught=bare)]
    found = roll_out(sampler, Plan(0, tuple(make_problems(2))), variants, PARAMS, seed=0, version=0)
    assert [(r.group, r.variant, r.index, r.as_asked) for r in found[:3]] == [
        (0, "bare", 0, True),
        (0, "bare", 1, True),
        (0, "hinted", 2, False),
    ]
    assert found[2].prompt.prefix == "so "
    assert found[2].prompt_ids == found[0].prompt_ids


def test_a_sampler_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="does not report the tokens"):
        roll_out(ScriptedSampler(lambda *_: "r"), Plan(0, tuple(make_problems(1))), [PLAIN], PARAMS, seed=0, version=0)  # type: ignore[arg-type]


def test_a_row_has_nothing_on_its_prompt() -> None:
    rollout = make_rollout(0, (1, 2))
    batch = put_together(
        0, [rollout], [Scored(1.0)], Group(std=False)(Scores([1.0], [0], [2])), [{"logp_old": np.array([-0.5, -1.0])}]
    )
    (found,) = rows(batch)
    assert found.tokens.ids == [50, 51, 1, 2]
    assert found.tokens.weights == [0, 0, 1, 1]
    assert found.signals == {"logp_old": [0, 0, -0.5, -1.0], "advantage": [0, 0, 0, 0]}
    assert row(rollout, batch.weights[0], {}).signals == {}


def test_what_was_not_judged_or_is_masked_does_not_train() -> None:
    rollouts = [make_rollout(0, (1, 2)), make_rollout(0, (1,)), make_rollout(0, (3,))]
    scored = [Scored(1.0), Scored(None), Scored(0.0)]
    found = Group(std=False)(Scores([s.reward for s in scored], [0, 0, 0], [2, 1, 1]))
    batch = put_together(0, rollouts, scored, found, [{}, {}, {}])
    assert [row.tokens.ids for row in rows(batch)] == [[50, 51, 1, 2], [50, 51, 3]]
    assert mask(batch, [False, False, True]) == 1
    assert [row.signals["advantage"] for row in rows(batch)] == [[0, 0, -0.5]]


@pytest.mark.parametrize(("overlong", "reward"), [("keep", 1.0), ("zero", 0.0), ("negative", -1.0), ("mask", None)])
def test_overlong(overlong: str, reward: float | None) -> None:
    rollouts = [
        make_rollout(0, (1,), finish=Finish.LENGTH),
        make_rollout(0, (1,)),
        make_rollout(0, (1,), finish=Finish.LENGTH),
    ]
    scored = with_overlong(rollouts, [Scored(1.0), Scored(1.0), Scored(None)], overlong)  # type: ignore[arg-type]
    assert [s.reward for s in scored] == [reward, 1.0, None]
    assert Counter(flag for s in scored for flag in s.flags) == ({} if overlong == "keep" else {"overlong": 1})

"""Rejection sampling: when a problem has had enough, in which order problems take turns, and what a kill costs."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_scripted import TASK, ScriptedSampler, make_problems
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.samplers.base import SamplingParams
from stillroom.synth.rejection import (
    FixedTrials,
    Progress,
    RejectionSampler,
    StopRule,
    UntilCorrect,
    consumed,
    coverage,
    fail_rates,
    proportional,
    read_pool,
    run_to_end,
)
from stillroom.types import Finish, Trace

SCRIPTS = {"p0": "r", "p1": "wwr", "p2": "wr", "p3": "w"}


def engine(
    sampler: ScriptedSampler, *, rows: int = 8, per_turn: int = 4, budget: int | None = None
) -> RejectionSampler:
    return RejectionSampler(
        TASK,
        sampler,
        get_format("think"),
        SamplingParams(),
        seed=0,
        chunk_rows=rows,
        per_turn=per_turn,
        max_responses=budget,
    )


def sampled(
    folder: Path, rule: StopRule, scripts: Mapping[str, str] = SCRIPTS, **settings: int
) -> tuple[Progress, list[Trace]]:
    """The state at the end and the pool."""
    problems = make_problems(len(scripts))
    last = run_to_end(engine(ScriptedSampler(scripts), **settings).run(problems, rule, folder))
    return last, read_pool(folder)


def outcomes(traces: list[Trace]) -> dict[str, list[bool | None]]:
    found: dict[str, list[bool | None]] = {}
    for trace in traces:
        assert trace.verdict is not None
        found.setdefault(trace.problem_id, []).append(trace.verdict.correct)
    return found


# --- stop rules


def test_fixed_trials_draw_the_same_number_everywhere(tmp_path: Path) -> None:
    last, pool = sampled(tmp_path, FixedTrials(5))
    assert last == Progress(responses=20, finished=4, problems=4, correct=5 + 1 + 2, tokens=4 * sum(range(10, 15)))
    assert Counter(trace.problem_id for trace in pool) == dict.fromkeys(SCRIPTS, 5)
    assert consumed(pool, FixedTrials(5)) == pool
    assert outcomes(consumed(pool, FixedTrials(2))) == {
        "p0": [True, True], "p1": [False, False], "p2": [False, True], "p3": [False, False]
    }  # fmt: skip


def test_until_correct_stops_at_the_target_or_at_the_cap(tmp_path: Path) -> None:
    rule = UntilCorrect(2, cap=7)
    last, pool = sampled(tmp_path, rule)
    assert last.finished == 4
    found = outcomes(consumed(pool, rule))
    no, yes = False, True
    assert found == {"p0": [yes] * 2, "p1": [no, no, yes] * 2, "p2": [no, yes] * 2, "p3": [no] * 7}


def test_each_problem_may_have_a_target_of_its_own(tmp_path: Path) -> None:
    rule = UntilCorrect({"p0": 3, "p2": 1}, cap=50)
    _, pool = sampled(tmp_path, rule)
    # A problem without a target is not asked for.
    assert {pid: len(found) for pid, found in outcomes(consumed(pool, rule)).items()} == {"p0": 3, "p2": 2}
    assert set(outcomes(pool)) == {"p0", "p2"}


def test_copies_do_not_fill_a_target_of_distinct_texts(tmp_path: Path) -> None:
    scripts = {"p0": "RRwRr", "p1": "R"}
    rule = UntilCorrect(2, cap=9, distinct=True)
    _, pool = sampled(tmp_path, rule, scripts)
    kept = consumed(pool, rule)
    # The fifth response of p0 is its second text; all of p1 are one text.
    assert {pid: len(found) for pid, found in outcomes(kept).items()} == {"p0": 5, "p1": 9}
    assert coverage(make_problems(2), kept, rule).unreached == 1
    plain = UntilCorrect(2, cap=9)
    assert {pid: len(found) for pid, found in outcomes(consumed(pool, plain)).items()} == {"p0": 2, "p1": 2}


def test_a_cap_is_needed_to_end_unsolvable_problems() -> None:
    with pytest.raises(UserError, match=r"cap=0: an unsolvable problem"):
        UntilCorrect(4, cap=0)


def test_targets_in_proportion_to_difficulty_by_hand() -> None:
    rates = {"a": 0.9, "b": 0.45, "c": 0.01, "d": 0.0}
    # 12, 6, 0.13 and 0 of 12.
    assert proportional(rates, 12) == {"a": 12, "b": 6, "c": 1, "d": 1}
    assert proportional(rates, 12, cover=False) == {"a": 12, "b": 6, "c": 0, "d": 0}
    # 4 * 0.3 / 0.9 = 1.33: up with cover, down without.
    assert (proportional({"a": 0.9, "b": 0.3}, 4)["b"], proportional({"a": 0.9, "b": 0.3}, 4, cover=False)["b"]) == (
        2,
        1,
    )
    assert proportional({"a": 0.0, "b": 0.0}, 7) == {"a": 7, "b": 7}
    assert proportional({}, 7) == {}


@given(st.floats(0.01, 1), st.integers(1, 200), st.booleans())
def test_the_hardest_problem_gets_exactly_the_most(rate: float, most: int, cover: bool) -> None:
    targets = proportional({"a": rate, "b": rate, "c": rate / 2}, most, cover=cover)
    assert targets["a"] == targets["b"] == most
    assert targets["c"] in {most // 2, -(-most // 2)} | ({1} if cover else set())


# --- order and budget


def test_unfinished_problems_take_turns(tmp_path: Path) -> None:
    sampler = ScriptedSampler(SCRIPTS)
    list(engine(sampler, rows=4, per_turn=2).run(make_problems(4), FixedTrials(3), tmp_path))
    # Two each, two problems a chunk; then the third of everyone.
    assert sampler.drawn == [
        ("p0", 0), ("p0", 1), ("p1", 0), ("p1", 1), ("p2", 0), ("p2", 1), ("p3", 0), ("p3", 1),
        ("p0", 2), ("p1", 2), ("p2", 2), ("p3", 2),
    ]  # fmt: skip


def test_a_spent_budget_leaves_no_problem_far_behind(tmp_path: Path) -> None:
    last, pool = sampled(tmp_path, UntilCorrect(50, cap=100), budget=30, rows=7)
    assert (last.responses, len(pool), last.finished) == (30, 30, 0)
    drawn = Counter(trace.problem_id for trace in pool)
    assert max(drawn.values()) - min(drawn.values()) <= 4
    # A larger budget goes on from there.
    more, longer = sampled(tmp_path, UntilCorrect(50, cap=100), budget=33, rows=7)
    assert more.responses == 33
    assert longer[:30] == pool


def test_a_satisfied_pool_is_not_touched(tmp_path: Path) -> None:
    sampled(tmp_path, FixedTrials(4))
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    sampler = ScriptedSampler(SCRIPTS)
    states = list(engine(sampler).run(make_problems(4), UntilCorrect(1, cap=4), tmp_path))
    assert (len(states), sampler.drawn) == (1, [])
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("chunks", [0, 1, 2, 5])
@pytest.mark.parametrize("lost", [False, True])
def test_a_killed_sampler_leaves_the_same_pool(tmp_path: Path, chunks: int, lost: bool) -> None:
    rule = UntilCorrect(5, cap=11)
    last, straight = sampled(tmp_path / "straight", rule, rows=5)
    steps = engine(ScriptedSampler(SCRIPTS), rows=5).run(make_problems(4), rule, tmp_path / "killed")
    for _ in range(chunks + 1):  # the first state comes before the first chunk
        next(steps)
    steps.close()
    shards = sorted((tmp_path / "killed").glob("*.parquet"))
    assert len(shards) == chunks
    if lost and shards:
        shards[-1].unlink()  # the last one had not taken its name yet
    again, resumed = sampled(tmp_path / "killed", rule, rows=5)
    assert (again, resumed) == (last, straight)
    files = [sorted((tmp_path / name).glob("*.parquet")) for name in ("straight", "killed")]
    assert [f.name for f in files[0]] == [f.name for f in files[1]]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_one_pool_serves_several_rules(tmp_path: Path) -> None:
    one, other = UntilCorrect(2, cap=6), FixedTrials(3)
    sampled(tmp_path / "shared", one)
    _, shared = sampled(tmp_path / "shared", other)
    for rule in (one, other):
        _, alone = sampled(tmp_path / type(rule).__name__, rule)
        ids = [{trace.id for trace in consumed(pool, rule)} for pool in (shared, alone)]
        assert ids[0] == ids[1]


@settings(max_examples=40)
@given(
    scripts=st.lists(st.text("rRw?", min_size=1, max_size=6), min_size=1, max_size=4),
    target=st.integers(0, 4),
    cap=st.integers(1, 9),
    distinct=st.booleans(),
    rows=st.integers(1, 9),
)
def test_what_is_consumed_is_what_sampling_one_at_a_time_draws(
    tmp_path_factory: pytest.TempPathFactory, scripts: list[str], target: int, cap: int, distinct: bool, rows: int
) -> None:
    by_problem = {f"p{i}": script for i, script in enumerate(scripts)}
    rule = UntilCorrect(target, cap=cap, distinct=distinct)
    _, pool = sampled(tmp_path_factory.mktemp("pool"), rule, by_problem, rows=rows)
    expected = {}
    for pid, script in by_problem.items():
        texts: list[str] = []
        drawn = 0
        while drawn < cap and len(set(texts) if distinct else texts) < target:
            # A problem whose last four could not be judged is given up.
            if drawn >= 4 and all(script[k % len(script)] == "?" for k in range(drawn - 4, drawn)):
                break
            outcome = script[drawn % len(script)]
            texts += ["R"] if outcome == "R" else [str(drawn)] if outcome == "r" else []
            drawn += 1
        expected[pid] = drawn
    found = Counter(trace.problem_id for trace in consumed(pool, rule))
    given_up = {pid for pid, script in by_problem.items() if "????" in script * 4}
    for pid, drawn in expected.items():
        # One that is given up costs at most the turn in which that was noticed.
        assert found[pid] == drawn or (pid in given_up and drawn <= found[pid] <= drawn + 4)


def test_a_problem_that_cannot_be_answered_is_given_up(tmp_path: Path) -> None:
    rule = UntilCorrect(1, cap=1000)
    last, pool = sampled(tmp_path, rule, {"p0": "e", "p1": "eeer"})
    drawn = Counter(trace.problem_id for trace in consumed(pool, rule))
    # Three failures in a row are not yet the end of it, more are within a turn of the fourth.
    assert drawn["p1"] == 4
    assert 4 <= drawn["p0"] <= 8
    assert last.correct == 1


# --- accounts


def test_failed_responses_are_kept_and_are_not_wrong(tmp_path: Path) -> None:
    scripts = {"p0": "er?w"}
    _, pool = sampled(tmp_path, FixedTrials(4), scripts)
    failed, right, unjudged, wrong = pool
    assert failed.finish is Finish.ERROR
    assert [t.verdict.correct for t in pool if t.verdict] == [None, True, None, False]
    assert [t.verdict.reason for t in (failed, unjudged) if t.verdict] == ["HTTP 500", "verifier failed"]
    assert (right.index, wrong.index) == (1, 3)
    # One right of two judged: (1 wrong + 1) / (2 + 2).
    assert fail_rates(make_problems(1), pool) == {"p0": 0.5}
    # Unjudged ones do not make a problem look harder than one with the same share of right answers.
    pool = sampled(tmp_path / "order", FixedTrials(4), {"p0": "?rr?", "p1": "rrrw"})[1]
    assert coverage(make_problems(2), pool, FixedTrials(4)).correct_per_problem == (3, 2)


def test_posterior_fail_rates_are_never_certain(tmp_path: Path) -> None:
    _, pool = sampled(tmp_path, FixedTrials(4))
    # (wrong + 1) / (4 + 2)
    expected = {"p0": 1 / 6, "p1": 4 / 6, "p2": 3 / 6, "p3": 5 / 6}
    assert fail_rates(make_problems(4), pool) == pytest.approx(expected)
    assert fail_rates(make_problems(5), pool)["p4"] == 0.5


def test_coverage_by_hand(tmp_path: Path) -> None:
    rule = UntilCorrect(2, cap=4)
    scripts = {"p0": "R", "p1": "wrw", "p2": "w", "p3": "wwwr"}
    _, pool = sampled(tmp_path, rule, scripts)
    kept = consumed(pool, rule)
    # p0 RR, p1 wrww (cap), p2 wwww, p3 wwwr; response k costs 10 + k tokens; levels 1 2 1 2.
    four = 10 + 11 + 12 + 13
    found = coverage(make_problems(4), kept, rule)
    assert found.model_dump() == {
        "problems": 4,
        "uncovered": 1,
        "unreached": 3,
        "raw": 14,
        "raw_tokens": 21 + 3 * four,
        "correct": 4,
        "distinct_share": 3 / 4,
        "tokens_per_correct": {1: (21 + four) / 2, 2: 2 * four / 2},
        "correct_per_problem": (0, 1, 1, 2),
        "costliest": ("p2", "p1", "p3", "p0"),
    }
    nothing = coverage(make_problems(1), [], FixedTrials(1))
    assert (nothing.distinct_share, nothing.tokens_per_correct, nothing.uncovered) == (None, {}, 1)


def test_equal_texts_of_two_problems_are_no_copies(tmp_path: Path) -> None:
    _, pool = sampled(tmp_path, FixedTrials(1), {"p0": "R", "p1": "R"})
    assert coverage(make_problems(2), pool, FixedTrials(1)).distinct_share == 1.0


def test_a_hostile_text_counts_the_same_before_and_after_storing(tmp_path: Path) -> None:
    rule = UntilCorrect(2, cap=6, distinct=True)
    last, pool = sampled(tmp_path, rule, {"p0": "s"}, rows=1)
    assert last.responses == 6
    again, _ = sampled(tmp_path, rule, {"p0": "s"}, rows=1)
    assert again == last
    assert pool[0].taught[-1].text == "right \ufffd"


def test_a_trace_says_what_was_asked_what_is_taught_and_where_it_came_from(tmp_path: Path) -> None:
    _, (trace, *_) = sampled(tmp_path, FixedTrials(2), {"p0": "r"})
    assert (trace.id, trace.problem_id, trace.task, trace.source) == ("p0#scripted#0", "p0", "scripted", "teacher")
    assert [(m.role, m.content) for m in trace.asked] == [("user", "question 0?")]
    assert [(s.role, s.text, s.weight) for s in trace.taught] == [
        ("user", "question 0?", 0.0), ("assistant", "right 0", 1.0)
    ]  # fmt: skip
    assert (trace.sampler, trace.index, trace.level) == ("scripted", 0, 1)
    assert trace.params == {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 256, "stop": []}
    assert trace.seed is not None

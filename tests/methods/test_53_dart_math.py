"""DART-Math: the smoke run, and what the specification must have."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import write_student
from fixtures_scripted import TASK, ScriptedSampler, make_problems
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.io import read_json
from stillroom.lab.run import Run
from stillroom.lab.still import Still
from stillroom.learn.training import TrainConfig
from stillroom.methods.m53_dart_math import Sizes, experiment, prop2diff, uniform, vrt, vrt_equal_raw
from stillroom.samplers.base import SamplingParams
from stillroom.synth.rejection import FixedTrials, UntilCorrect
from stillroom.types import Trace
from stillroom.workbench import experiment as run_page

# Of twelve responses, problem i has this many right ones: p0 is solved always, p5 never.
RIGHT = (12, 9, 6, 3, 1, 0)
SCRIPT = {
    f"p{i}": "".join("r" if (k * right) % 12 < right else "w" for k in range(12)) for i, right in enumerate(RIGHT)
}
SIZES = Sizes(size=24, cap=40, estimate=12)
CORRECT = {pid: words.count("r") for pid, words in SCRIPT.items()}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Still, ScriptedSampler]]:
    def make(script: Any = SCRIPT, student: str = "") -> tuple[Still, ScriptedSampler]:
        teacher = ScriptedSampler(script)
        run = Run.create(tmp_path / "run", kind="test", config={}, command=[], seeds=[0])
        problems = make_problems(6)
        still = Still(
            run=run,
            task=TASK,
            problems=problems,
            dev=[],
            test=[],
            teacher=teacher,
            student=student,
            chat_format=get_format("think"),
            params=SamplingParams(max_new_tokens=8),
            train_config=TrainConfig(steps=1, batch_size=4),
            select_rules="correct,finished",
        )
        return still, teacher

    return make


def correct(traces: list[Trace]) -> int:
    return sum(1 for trace in traces if trace.verdict is not None and trace.verdict.correct)


def targets(rule: Any) -> dict[str, int]:
    assert isinstance(rule, UntilCorrect)
    return {f"p{i}": rule.wanted(f"p{i}") for i in range(6)}


def test_the_script_is_what_the_tests_assume() -> None:
    assert tuple(CORRECT.values()) == RIGHT


def test_vanilla_draws_the_smallest_number_of_trials_that_fills_the_size(make: Any) -> None:
    still, _ = make()
    rule = vrt(still, SIZES)
    assert isinstance(rule, FixedTrials)
    assert correct(still.sample(rule)) >= 24 > correct(still.sample(FixedTrials(rule.n - 1)))


def test_uniform_wants_the_same_of_every_problem(make: Any) -> None:
    still, _ = make()
    assert set(targets(uniform(still, SIZES)).values()) == {4}


def test_prop2diff_by_hand(make: Any) -> None:
    """Posterior mean fail rates after 12 trials are (fails + 1) / 14: 1, 4, 7, 10, 12, 13 fourteenths.

    Targets are ceil(k d / d_max). k = 6: 1 + 2 + 4 + 5 + 6 + 6 = 24, and k = 5: 1 + 2 + 3 + 4 + 5 + 5 = 20.
    """
    still, _ = make()
    assert list(targets(prop2diff(still, SIZES)).values()) == [1, 2, 4, 5, 6, 6]


def test_without_cover_the_easiest_get_nothing(make: Any) -> None:
    """Rounded down, 7 x (1, 4, 7, 10, 12, 13) / 13 is 0, 2, 3, 5, 6, 7, one too few; so k = 8."""
    still, _ = make()
    assert list(targets(prop2diff(still, SIZES, cover=False)).values()) == [0, 2, 4, 6, 7, 8]


def test_the_estimate_is_kept_and_nothing_is_drawn_twice(make: Any) -> None:
    still, teacher = make()
    rule = prop2diff(still, SIZES)
    assert sorted(teacher.drawn) == sorted((f"p{i}", k) for i in range(6) for k in range(12))
    traces = still.sample(rule)
    assert len(set(teacher.drawn)) == len(teacher.drawn)
    # The first right responses of the estimate are the first traces of the data.
    first = {trace.problem_id: trace.index for trace in reversed(traces) if trace.verdict and trace.verdict.correct}
    assert first == {pid: words.index("r") for pid, words in SCRIPT.items() if "r" in words}


def test_targets_do_not_drift(make: Any) -> None:
    """The pool grows and its later pass rates are others; the targets rest on the first trials alone."""
    drawn_later_is_right = lambda pid, k: SCRIPT[pid][k] if k < 12 else "r"  # noqa: E731
    still, _ = make(drawn_later_is_right)
    before = targets(prop2diff(still, SIZES))
    still.sample(prop2diff(still, SIZES))
    still.sample(FixedTrials(30))
    assert targets(prop2diff(still, SIZES)) == before


def test_the_first_n_correct_traces_and_no_more(make: Any) -> None:
    still, _ = make()
    rule = prop2diff(still, SIZES)
    found = Counter(t.problem_id for t in still.sample(rule) if t.verdict is not None and t.verdict.correct)
    reached = {pid: n for pid, n in targets(rule).items() if CORRECT[pid]}
    assert all(found[pid] == min(n, [*SCRIPT[pid] * 4][:40].count("r")) for pid, n in reached.items())
    assert found["p5"] == 0


def test_equal_raw_pays_what_prop2diff_paid(make: Any) -> None:
    """Paid: the 12 trials of the estimate, and more where the target took more.

    p3 is right at 0, 4, 8, 12, 16 and wants 5: 17 trials. p4 (right at 0, 12, 24, 36) wants 6 and p5 never is: the cap.
    """
    still, _ = make()
    rule = vrt_equal_raw(still, SIZES)
    paid = 3 * 12 + 17 + 2 * 40
    traces = still.sample(rule)
    # The same number for every problem, so equal up to half a sample a problem.
    assert abs(len(traces) - paid) <= len(still.problems) / 2
    assert set(Counter(t.problem_id for t in traces).values()) == {len(traces) // 6}


def test_a_problem_that_cannot_be_solved_ends(make: Any) -> None:
    still, teacher = make()
    rule = uniform(still, SIZES)
    traces = still.sample(rule)
    assert Counter(pid for pid, _ in teacher.drawn)["p5"] == 40
    found = still.account(traces, rule)
    assert (found.uncovered, found.unreached) == (1, 1)
    assert found.costliest[0] == "p5"
    with pytest.raises(UserError, match="for ever"):
        UntilCorrect(4, cap=0)


def test_coverage_and_cost_per_accepted_trace(make: Any) -> None:
    still, _ = make()
    found = still.account(still.sample(FixedTrials(12)), FixedTrials(12))
    assert found.raw == 72
    assert found.correct == sum(RIGHT)
    # From the hardest to the easiest.
    assert found.correct_per_problem == (0, 1, 3, 6, 9, 12)
    # Response k costs 10 + k tokens: 186 for twelve. Level 1 holds p0, p2, p4, level 2 holds p1, p3, p5.
    assert found.tokens_per_correct == {1: 3 * 186 / (12 + 6 + 1), 2: 3 * 186 / (9 + 3 + 0)}
    assert found.distinct_share == 1.0


def test_copies_show_in_the_distinct_share(make: Any) -> None:
    still, _ = make(dict.fromkeys(SCRIPT, "R"))
    assert still.account(still.sample(FixedTrials(4)), FixedTrials(4)).distinct_share == 6 / 24


def test_strict_against_lenient_is_recorded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lenient reading also accepts every "wrong 3": one answer of p1, p2 and p3 each, and more of the others."""
    still, _ = make()
    verify = TASK.verify

    def lenient_about_three(problem: Any, text: str, *, strict: bool = True) -> Any:
        return verify(problem, "right" if not strict and re.fullmatch("wrong 3", text) else text)

    monkeypatch.setattr(still, "task", TASK.__class__(**{**vars(TASK), "verify": lenient_about_three}))
    still.account(still.sample(FixedTrials(12)), FixedTrials(12))
    wrong_at_three = sum(words[3] == "w" for words in SCRIPT.values())
    assert wrong_at_three > 0
    account = still.run.result_of("account:student")
    assert account is not None
    assert account["lenient_disagreement"] == wrong_at_three / 72


def test_arms_have_equal_size(make: Any, tmp_path: Path) -> None:
    """Every arm but the one at equal raw samples has the same number of traces.

    Of four trials, 0, 0, 1, 1, 2 and 2 fail: rates in sixths are 1, 1, 2, 2, 3, 3 and targets 2, 2, 4, 4, 6, 6.
    """
    words = ("rrrrrrrr", "rrrrrrrr", "wrrrrrrr", "wrrrrrrr", "wwrrrrrr", "wwrrrrrr")
    easy = {f"p{i}": word for i, word in enumerate(words)}
    still, _ = make(easy, str(write_student(tmp_path / "student")))
    for name, arm in experiment.presets["smoke"].arms.items():
        still.arm = name
        arm(still)
    kept = {name: still.run.result_of(f"select:selected-{name}") or {} for name in experiment.presets["smoke"].arms}
    equal_raw = kept.pop("vrt-equal-raw")["kept"]
    assert {name: found["kept"] for name, found in kept.items()} == dict.fromkeys(kept, 24)
    assert equal_raw > 0


def test_the_smoke_run(tmp_path: Path) -> None:
    result = run_page("dart-math", tmp_path / "run", preset="smoke", arms="all", jobs=0)
    assert result.number == 53
    (seed,) = result.seeds
    assert set(seed.arms) == set(experiment.presets["smoke"].arms)
    assert len(result.claims) == len(experiment.contrasts)
    assert {arm.updates for arm in seed.arms.values()} == {2}
    for arm in seed.arms.values():
        assert {"uncovered", "unreached", "raw", "tokens_per_correct", "lenient_disagreement"} <= arm.account.keys()
    assert (tmp_path / "run" / "report.html").is_file()
    assert read_json(tmp_path / "run" / "result.json")["verdict"] == result.verdict

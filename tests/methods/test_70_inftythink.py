"""InftyThink: the smoke run and what the specification must have; rounds: tests/infer, segments: tests/synth."""

from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import small, write_student
from fixtures_texts import TextSampler
from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.infer.iterate import Stop
from stillroom.lab.distill import set_up
from stillroom.lab.run import Run
from stillroom.methods.m70_inftythink import ARMS as ARMS_OF_PAGE
from stillroom.methods.m70_inftythink import WINDOW, experiment, inftythink, noisy, uninformative
from stillroom.samplers.base import Prompt
from stillroom.tasks import load_task
from stillroom.tasks.registers import last_value
from stillroom.traces import store
from stillroom.types import Finish
from stillroom.workbench import experiment as run_page

ARMS = ("vanilla", "interpolated", "sliding", "inftythink")
"""One of a kind: the others differ in a limit, in what slides or in what a summary says."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("inftythink") / "run"
    return run_page("inftythink", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    rivals = [claim.arms for claim in result.claims]
    assert rivals == [("inftythink", other) for other in ("vanilla", "sliding", "interpolated", "vanilla")]
    assert {name for name, arm in seed.arms.items() if arm.updates} == {"vanilla", "inftythink"}
    assert (folder / "report.html").is_file()


def test_every_answer_is_within_the_window_and_says_why_it_stopped(smoke: tuple[Any, Path]) -> None:
    arms = smoke[0].seeds[0].arms
    for name in ("vanilla", "sliding", "inftythink"):
        # A text that is cut anywhere may take a token or two more when it is read again.
        assert arms[name].score.peak_context.max <= WINDOW + (4 if name == "sliding" else 0)
    answers = store.read(smoke[1] / "seed-0" / "evals" / "inftythink.parquet")
    assert {str(answer.meta["stop"]) for answer in answers} <= set(Stop)
    assert sum(arms["inftythink"].score.stops.values()) == len(answers)
    for answer in answers:
        assert len(answer.meta["calls"]) == answer.usage.calls  # type: ignore[arg-type]
        if answer.finish is Finish.LENGTH:
            assert answer.verdict is not None
            assert answer.verdict.correct is False


def test_the_account_says_what_became_of_the_traces(smoke: tuple[Any, Path]) -> None:
    account = smoke[0].seeds[0].arms["inftythink"].account
    # Levels 1 to 12 in rounds of three folds.
    assert account["rounds"] == {"1": 3, "2": 3, "3": 3, "4": 3}
    assert (account["instances"], account["dropped"], account["oversize"]) == (30, {}, 0)


def test_writers_of_the_controls() -> None:
    problems = load_task(experiment.task).problems("train", 400, 0)
    thought = "b=3+4=0\n3+4=7\nc=0+2=2\n0+2=2"
    assert last_value(thought) == "c=2"
    assert {uninformative(problem, thought) for problem in problems} == {"c=?"}
    written = [noisy(problem, thought) for problem in problems]
    assert 20 <= sum(state != "c=2" for state in written) <= 60
    assert set(written) <= {f"c={digit}" for digit in range(7)}
    assert written == [noisy(problem, thought) for problem in problems]
    assert (noisy(problems[0], "?"), uninformative(problems[0], "?")) == (None, None)


def test_the_recipe_needs_a_teacher_that_writes(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", kind="distill", config={}, command=["x"], seeds=[0])
    still = set_up(run, small(write_student(tmp_path / "student"), method="sft"))
    with pytest.raises(UserError, match="a teacher that can write summaries"):
        inftythink(still)

    def write(prompt: Prompt, number: int) -> str:
        if prompt.problem is None or not prompt.problem.reference:
            return "?"
        if "Reasoning so far" in prompt.messages[0].content:
            return "- half way"
        steps = "\n\n".join(["Step. " + "word " * 20] * 3)
        return render(get_format("think"), steps, prompt.problem.reference)

    still.teacher, still.arm = TextSampler(write), "rounds"
    from stillroom.methods import m70_inftythink as page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "ETA", 8)
        strategy = inftythink(still)
    account = run.result_of("account:rounds") or {}
    assert account["rounds"] == {"3": len(still.problems)}
    assert account["summary_tokens"] > 0
    assert strategy.id.startswith("rounds/local:")
    assert still.measure(strategy, name="rounds").stops
    run.close()


def test_the_arms_share_what_the_page_says() -> None:
    assert set(experiment.default_arms) <= set(ARMS_OF_PAGE)
    for preset in experiment.presets.values():
        assert set(preset.arms) == set(ARMS_OF_PAGE)

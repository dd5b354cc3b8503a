"""Agent distillation: the smoke run, and what arms share; agents themselves are in tests/synth/test_agents.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.lab.proxies import RECIPES
from stillroom.lab.run import Run
from stillroom.methods import m37_agent_distillation as page
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.synth.sandbox import Sandbox
from stillroom.synth.tools import with_context
from stillroom.tasks import load_task
from stillroom.traces import store
from stillroom.workbench import experiment as run_page

STAND_IN = "unir-module-0.3m"
ARMS = ("cot-small", "rag-small", "ftp-small", "sag-small")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    pytest.importorskip("bm25s")
    try:
        Sandbox().close()
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("agents") / "run"
    with pytest.MonkeyPatch.context() as changed:
        # The page's own bases are built, not committed; what a smoke run shows, any proxy shows.
        changed.setitem(page.SIZES, "small", STAND_IN)
        changed.setattr(page, "experiment", replace(page.experiment, student=f"proxy:{STAND_IN}"))
        return run_page("agent-distillation", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    assert [claim.metric for claim in result.claims] == ["accuracy", "valid_steps"]
    assert all(set(arm.measures) == {"far"} for arm in seed.arms.values())
    assert seed.arms["sag-small"].account["episodes"] == 6
    assert (folder / "report.html").is_file()


def test_arms_share_questions_and_episodes_and_first_thoughts_are_the_answers_own(smoke: tuple[Any, Path]) -> None:
    _, folder = smoke
    traces = folder / "seed-0" / "traces"
    words = {t.problem_id: t for t in store.read(traces / "selected-words.parquet")}
    kept = store.read(traces / "episodes-ftp.parquet")
    assert {trace.problem_id for trace in kept} == set(words)
    for trace in kept:
        plan = words[trace.problem_id].taught[-1].text.removeprefix("<think>\n").split("\n\n")[0]
        assert trace.taught[1].text.startswith(f"Thought: {plan}\n<code>")
        assert trace.meta["first_thought"] == len(f"Thought: {plan}")
        assert [s.weight for s in trace.taught] == [float(s.role == "assistant") for s in trace.taught]
        assert plan not in "".join(message.content for message in trace.asked)
    run, _ = Run.open(folder / "seed-0")
    counts = run.result_of("episodes:ftp")
    run.close()
    assert counts is not None
    assert counts["kept"] + sum(counts["dropped"].values()) == counts["episodes"] == 6


def test_the_student_gets_no_first_thought(smoke: tuple[Any, Path]) -> None:
    _, folder = smoke
    answers = store.read(folder / "seed-0" / "evals" / "sag-small.parquet")
    assert all(trace.meta["first_thought"] == 0 for trace in answers)
    assert all(len(trace.asked) == 1 for trace in answers)


def test_one_retrieval_with_the_question_stands_behind_it() -> None:
    pytest.importorskip("bm25s")
    problem = next(p for p in load_task("tool-world").problems("train", 4, 0) if p.level == 2)
    changed = page._retrieve(Prompt(messages=problem.messages, problem=problem, seed=3))
    asked, found = changed.messages[-1].content.split("\n")
    assert asked == problem.messages[-1].content
    assert found.count(" is ") == 4
    assert (changed.seed, changed.problem) == (3, problem)
    assert with_context(problem.messages, found) == changed.messages


def test_the_teachers_episodes_are_right_when_it_thinks_first() -> None:
    pytest.importorskip("bm25s")
    from stillroom.synth.agents import ProgramAgent
    from stillroom.synth.episodes import collect, keep_episodes
    from stillroom.tasks.toolworld import act, plan

    task = load_task("tool-world:far=true")
    problems = task.problems("train", 8, 1)
    settings: dict[str, Any] = {"chat_format": get_format("think"), "seed": 0}
    try:
        traces = collect(
            task, problems, ProgramAgent(act, "tool-world"), SamplingParams(), page._agent(), **settings,
            thoughts={problem.id: f"Thought: {plan(problem)}" for problem in problems},
        )  # fmt: skip
    except UserError as error:
        pytest.skip(str(error))
    assert not keep_episodes(traces).dropped


@pytest.mark.parametrize("name", [page.SMALL, page.LARGE])
def test_the_bases_have_recipes_that_read_another_world(name: str) -> None:
    assert all("world_seed=1" in ingredient.task for ingredient in RECIPES[name].diet)

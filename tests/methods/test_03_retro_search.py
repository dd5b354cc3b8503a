"""Retro-Search: the smoke run, the recipe on a task of one's own, and what the specification must have."""

from pathlib import Path

import pytest

from stillroom import DistillConfig, distill
from stillroom.chat import ask, get_format, render
from stillroom.io import read_json
from stillroom.models.policy import load_policy
from stillroom.models.proxies import proxy_path
from stillroom.samplers.base import Prompt, SamplingParams, StepStartBan
from stillroom.samplers.local import LocalSampler
from stillroom.seeds import derive_rng
from stillroom.synth.retro import Account, RetroSearch, account, log_of
from stillroom.synth.traces import make_trace
from stillroom.tasks.base import Style
from stillroom.tasks.sums import solve, sums
from stillroom.traces import segment, store
from stillroom.traces.store import response_of
from stillroom.types import Finish, Problem, Response, Trace, Usage
from stillroom.workbench import experiment as run_page

TASK, THINK = sums(), get_format("think")


@pytest.fixture(scope="module")
def sampler() -> LocalSampler:
    return LocalSampler(load_policy(proxy_path("retro-0.4m")))


@pytest.fixture(scope="module")
def written() -> tuple[list[Problem], list[Trace]]:
    """Problems and the programmatic teacher's traces of them, with switches and checks."""
    problems = TASK.problems("train", 64, 5)
    traces = []
    for problem in problems:
        solution = solve(problem, Style(layout="switches", verbosity=2), derive_rng("w", problem.id))
        text = render(THINK, solution.thought, solution.answer)
        response = Response(text=text, finish=Finish.STOP, usage=Usage(completion_tokens=len(text)))
        traces.append(
            make_trace(
                TASK,
                problem,
                response,
                asked=ask(problem, THINK),
                chat_format=THINK,
                sampler_id="program",
                index=0,
                params=SamplingParams(),
            )
        )
    return problems, traces


def test_bans_end_at_the_first_blank_line_per_row_in_a_batch_of_64(
    sampler: LocalSampler, written: tuple[list[Problem], list[Trace]]
) -> None:
    problems, traces = written
    prefixes = []
    for trace in traces:
        found = segment.parts(response_of(trace), THINK)
        assert found is not None
        steps = segment.split(found.thought)
        prefixes.append(found.head + segment.BLANK.join(steps[: segment.thought_ends(steps)[0]]))
    prompts = [
        Prompt(messages=ask(problem, THINK), prefix=prefix, seed=i)
        for i, (problem, prefix) in enumerate(zip(problems, prefixes, strict=True))
    ]
    assert len({len(sampler.prompt_ids(prompt)) for prompt in prompts}) > 8
    free = SamplingParams(max_new_tokens=120)
    banned = free.model_copy(update={"constraint": StepStartBan(words=segment.KEYWORDS)})

    def opening(params: SamplingParams) -> tuple[int, int]:
        """Rows that begin with a keyword, and rows in which a later step does."""
        texts = [answer.text for (answer,) in sampler.sample(prompts, params)]
        later = sum(any(map(segment.opens_thought, segment.split(text.strip())[1:])) for text in texts)
        return sum(map(segment.opens_thought, texts)), later

    assert opening(free)[0] >= 20
    first, later = opening(banned)
    assert (first, later >= 5) == (0, True)


def test_the_account_is_exact_with_a_model(
    sampler: LocalSampler, written: tuple[list[Problem], list[Trace]], tmp_path: Path
) -> None:
    """The model revises what a program wrote; its own count of tokens, call by call, is the account's."""
    problems, traces = written
    counted: list[int] = []

    class Counting:
        id = "counting"

        def sample(self, prompts: list[Prompt], params: SamplingParams) -> list[list[Response]]:
            answers = sampler.sample(prompts, params)
            counted.extend(len(answer.token_ids or ()) for (answer,) in answers)
            return answers

    search = RetroSearch(TASK, Counting(), THINK, SamplingParams(temperature=0.6, max_new_tokens=120), seed=1)
    found = search.revised(problems, traces, tmp_path)
    total = account(found)
    assert (total.rollouts, total.rollout_tokens) == (len(counted), sum(counted))
    assert "switched" not in total.outcomes
    assert total.revised > 20
    for before, after in zip(traces, found, strict=True):
        assert after.verdict is not None
        assert after.verdict.correct
        assert (log_of(after).steps_after < log_of(before.model_copy(update=dict(meta=after.meta))).steps_before) == (
            response_of(after) != response_of(before)
        )


ARMS = ("base", "retro-full", "shortest-of-k", "program-revised")
"""One of a kind: the others differ in a flag of the search, which tests/synth covers, or leave it out."""


def test_the_smoke_run(tmp_path: Path) -> None:
    result = run_page("retro-search", tmp_path / "run", preset="smoke", arms=",".join(ARMS), jobs=0)
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    # Contrasts with other arms are left out.
    assert [claim.arms for claim in result.claims] == [("retro-full", "base"), ("retro-full", "shortest-of-k")]
    assert {claim.metric for claim in result.claims} == {"tokens"}
    base = seed.arms.pop("base")
    assert (base.updates, base.lr) == (0, None)
    assert {arm.updates for arm in seed.arms.values()} == {1}
    for name in ("retro-full", "program-revised"):
        found = Account.model_validate(seed.arms[name].account)
        # The rollouts are on disk and cost what the account says.
        rollouts = store.read(tmp_path / "run" / "seed-0" / "traces" / f"retro-{name}")
        assert (found.rollouts, found.rollout_tokens) == (
            len(rollouts),
            sum(rollout.usage.completion_tokens for rollout in rollouts),
        )
    # As many samples a problem as the search and the traces that it revised have cost.
    pool = store.read(tmp_path / "run" / "seed-0" / "traces" / "pool")
    once = sum(trace.usage.completion_tokens for trace in pool if trace.index == 0)
    spent = once + seed.arms["retro-full"].account["rollout_tokens"]
    many = seed.arms["shortest-of-k"].account
    assert many["raw"] / seed.arms["retro-full"].account["traces"] == round(spent / once)
    assert read_json(tmp_path / "run" / "result.json")["verdict"] == result.verdict


def test_the_recipe_on_a_task_and_a_student_of_ones_own(tmp_path: Path) -> None:
    config = DistillConfig(
        method="retro-search",
        task="sums",
        student="proxy:retro-0.4m",
        problems=12,
        eval_problems=4,
        max_new_tokens=120,
        train={"steps": 2, "batch_size": 4, "lr": 1e-4},  # type: ignore[arg-type]
    )
    result = distill(config, tmp_path / "run")
    spent = read_json(tmp_path / "run" / "state.json")["account:student"]["result"]["rollout_tokens"]
    own = store.read(tmp_path / "run" / "traces" / "own")
    # What the student spends on its own rollouts is in the bill.
    assert (result.cost["student_tokens"] or 0) >= spent + sum(trace.usage.completion_tokens for trace in own)
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()

"""The programmatic teacher: seeded, laid out in the chat format, its annotations where they belong."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from stillroom.chat import FORMATS, parse
from stillroom.errors import UserError
from stillroom.samplers import Prompt, SamplingParams, make_sampler
from stillroom.samplers.base import StepStartBan
from stillroom.samplers.program import ProgramSampler
from stillroom.tasks.base import Solution, Style, Task, question
from stillroom.types import Finish, Problem, Span, Verdict


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Two steps, the first of them a random number, so that draws can be told apart."""
    first = f"draw {rng.randrange(10**9)} {style.layout}\n"
    spans = (
        Span(kind="step", start=0, end=len(first), data={"correct": True}),
        Span(kind="step", start=len(first), end=len(first) + 4, data={"correct": False}),
    )
    return Solution(first + "done", problem.reference or "", spans)


def toy(with_solver: bool = True) -> Task:
    return Task(
        name="toy",
        summary="",
        problems=lambda split, n, seed: [],
        verify=lambda problem, text, *, strict=True: Verdict(correct=None),
        solve=solve if with_solver else None,
    )


def prompt(identity: str = "toy/1", **changes: object) -> Prompt:
    problem = Problem(id=identity, task="toy", messages=question("?"), reference="42")
    return Prompt(messages=problem.messages, problem=problem).model_copy(update=changes)


def test_a_solution_is_laid_out_in_the_chat_format_and_its_spans_point_into_the_text() -> None:
    for name in ("think", "boxed", "hash"):
        sampler = make_sampler("program", task=toy(), chat_format=FORMATS[name], style=Style(layout="plain"))
        ((response,),) = sampler.sample([prompt()], SamplingParams())
        assert response.finish == Finish.STOP
        first, second = (response.text[span.start : span.end] for span in response.spans)
        assert first.startswith("draw ")
        assert first.endswith(" plain\n")
        assert second == "done"
        assert "42" in parse(response.text).answer
    ((bare,),) = ProgramSampler(toy(), chat_format=FORMATS["answer-only"]).sample([prompt()], SamplingParams())
    assert (bare.text, bare.spans) == ("\\boxed{42}", ())


def test_draws_depend_on_seed_index_and_problem_alone() -> None:
    sampler = ProgramSampler(toy())
    both = sampler.sample([prompt("a"), prompt("b")], SamplingParams(n=4, temperature=0.3))
    assert len({response.text for row in both for response in row}) == 8
    ((later,),) = sampler.sample([prompt("b", first_index=3)], SamplingParams(temperature=1.0))
    assert later == both[1][3]
    ((other,),) = sampler.sample([prompt("b", first_index=3, seed=1)], SamplingParams())
    assert other.text != later.text


def test_tokens_are_counted_only_by_a_counter() -> None:
    ((silent,),) = ProgramSampler(toy()).sample([prompt()], SamplingParams())
    ((counted,),) = ProgramSampler(toy(), count_tokens=len).sample([prompt()], SamplingParams())
    assert silent.usage.completion_tokens == 0
    assert counted.usage.completion_tokens == len(counted.text)


def test_an_opening_that_the_solution_has_anyway_is_continued_and_any_other_refused() -> None:
    sampler = ProgramSampler(toy())
    ((whole,),) = sampler.sample([prompt()], SamplingParams())
    ((rest,),) = sampler.sample([prompt(prefix="<think>\n")], SamplingParams())
    assert "<think>\n" + rest.text == whole.text
    assert rest.text[rest.spans[1].start : rest.spans[1].end] == "done"
    with pytest.raises(UserError, match="cannot continue 'Well'"):
        sampler.sample([prompt(prefix="Well")], SamplingParams())


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(UserError, match="no solver"):
        ProgramSampler(toy(with_solver=False))
    with pytest.raises(UserError, match="messages only"):
        ProgramSampler(toy()).sample([prompt(problem=None)], SamplingParams())
    with pytest.raises(UserError, match="give a task"):
        make_sampler("program")


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"constraint": StepStartBan(words=("But",))}, "a constraint"), ({"raw_logits": True}, "raw logits")],
)
def test_only_local_models_take_what_others_cannot_give(asked: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "What is 1+1?", "response": "two"}\n')
    for sampler in (
        ProgramSampler(toy()),
        make_sampler(f"replay:{tmp_path / 'a.jsonl'}"),
        make_sampler("openai:m@http://127.0.0.1:9/v1", folder=tmp_path),
    ):
        with pytest.raises(UserError, match=f"{sampler.id.split(':')[0]}.* cannot see to {words}.*local:PATH"):
            sampler.sample([prompt()], SamplingParams(**asked))

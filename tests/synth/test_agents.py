"""Agents, with a scripted model: what a turn says, what is observed, which candidate acts, and what is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_scripted import TASK, make_problems
from stillroom.chat import ChatFormat, get_format, tokenise, weights_shown
from stillroom.errors import UserError
from stillroom.models.policy import load_policy, resolve_student
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.synth.agents import (
    ActionLayout,
    Agent,
    AgentSampler,
    Ended,
    Episode,
    ProgramAgent,
    choose,
    observe,
    parse_action,
    play,
)
from stillroom.synth.episodes import collect, episode_trace, first_thought, keep_episodes
from stillroom.synth.sandbox import Limits, Outcome, Sandbox
from stillroom.synth.tools import Tool, Toolbox
from stillroom.types import Finish, Message, Response, Usage

LAYOUT = ActionLayout()
THINK = get_format("think")
PLAIN = ChatFormat(name="plain")
AGENT = Agent(limits=Limits(wall_s=1.0, cpu_s=1))
PARAMS = SamplingParams(max_new_tokens=50)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    try:
        sandbox = AGENT.sandbox()
    except UserError as error:
        pytest.skip(str(error))
    with sandbox:
        yield sandbox


@dataclass
class Scripted:
    """Turn number k of a conversation is the k-th entry of the script of its question; a list gives candidates."""

    scripts: dict[str, list[Any]]
    asked: list[Prompt] = field(default_factory=list)
    id: str = "scripted"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        self.asked += prompts
        return [[self._one(prompt, at, params) for at in range(params.n)] for prompt in prompts]

    def _one(self, prompt: Prompt, at: int, params: SamplingParams) -> Response:
        turn = sum(message.role == "assistant" for message in prompt.messages)
        question = next(message.content for message in prompt.messages if message.role == "user")
        said = self.scripts[question][turn]
        said = said[at] if isinstance(said, list) else said
        usage = Usage(prompt_tokens=10 * (turn + 1), completion_tokens=5, calls=1)
        if said is None:
            return Response(text="", finish=Finish.ERROR, error="HTTP 500", usage=usage)
        finish = Finish.LENGTH if said.endswith("…") else Finish.STOP
        cut = min((i for stop in params.stop if (i := said.find(stop)) >= 0), default=None)
        return Response(text=said[:cut], finish=finish, usage=usage)


def code(text: str, thought: str = "t") -> str:
    return f"Thought: {thought}\n<code>\n{text}\n</code>"


def played(box: Sandbox, script: list[Any], agent: Agent = AGENT, **more: Any) -> tuple[Episode, Scripted]:
    sampler = Scripted({"q": script})
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    ((_, episode),) = play(sampler, [prompt], PARAMS, agent, box, **more)
    return episode, sampler


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Thought: a\n<code>\nx = 1\n", "x = 1"),
        ("<code>x = 1</code> and <code>y</code>", "x = 1"),
        ("<code>\nif x:\n    y()\n</code>", "if x:\n    y()"),
        ("no code", None),
        ("</code> x <code>", None),
        ("<code>\n \n</code>", None),
        ("", None),
    ],
)
def test_the_code_of_a_turn(text: str, found: str | None) -> None:
    action = parse_action(text, LAYOUT)
    assert action.code == found
    assert bool(action.reason) == (found is None)


def test_a_turn_that_was_cut_off_holds_no_action() -> None:
    assert parse_action("<code>\nx = 1", LAYOUT, truncated=True).code is None
    assert parse_action("<code>\nx = 1\n</code>", LAYOUT, truncated=True).code == "x = 1"


@given(st.text() | st.lists(st.sampled_from(["<code>", "</code>", "x", "\n", "\x00", "Observation:"])).map("".join))
def test_any_text_is_an_action_or_a_reason(text: str) -> None:
    action = parse_action(text, LAYOUT)
    assert (action.code is None) == bool(action.reason)


def ran(output: str = "", value: str | None = None, final: str | None = None) -> Outcome:
    return Outcome(output=output, value=value, final=final)


BAD = Outcome(error="ValueError")


@pytest.mark.parametrize(
    ("outcomes", "chosen"),
    [
        ([ran("1"), ran("2"), ran("2")], (1, 2)),
        ([ran("1"), ran("2"), ran("3")], (0, 1)),
        ([BAD, None, ran("3"), ran("4")], (2, 1)),
        ([BAD, None, BAD], (0, 1)),
        ([None, BAD], (0, 1)),
        ([ran("1"), ran("2"), ran("1"), ran("2")], (0, 2)),
        # Two final answers print nothing: they are not the same result. Nor is a value an answer.
        ([ran(final="5"), ran(final="6"), ran(final="6")], (1, 2)),
        ([ran(value="5"), ran(final="5"), ran(final="5")], (1, 2)),
        ([BAD, BAD, BAD, ran("1")], (3, 1)),
    ],
)
def test_which_candidate_acts(outcomes: list[Outcome | None], chosen: tuple[int, int]) -> None:
    assert choose(outcomes) == chosen


def test_what_is_observed() -> None:
    assert observe(ran("a\nb\n", "3"), 100) == "a\nb\n3"
    assert observe(ran(), 100) == "(no output)"
    assert observe(Outcome(output="a\n", error="E: x"), 100) == "a\nError: E: x"
    assert observe(ran("x" * 50), 10) == "xxxxxxxxxx… (40 more characters)"


def test_an_episode_goes_on_until_its_answer(box: Sandbox) -> None:
    episode, sampler = played(box, [code("x = 6*7\nprint(x)"), code("x + 1"), code("final_answer(x)")])
    assert (episode.answer, episode.ended) == ("42", Ended.FINAL)
    assert [step.observation for step in episode.steps] == ["42", "43", ""]
    assert episode.usage.completion_tokens == 15
    assert [call.prompt_tokens for call in episode.calls] == [10, 20, 30]
    last = sampler.asked[-1].messages
    assert [m.role for m in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[2].content == "Observation: 42"
    assert last[1].content == code("x = 6*7\nprint(x)")


def test_errors_become_observations_and_the_episode_goes_on(box: Sandbox) -> None:
    episode, _ = played(box, ["nothing", code(""), code("1/0"), code("while True: pass"), code("final_answer(1)")])
    assert [step.error for step in episode.steps] == ["parse", "parse", "execution", "execution", None]
    assert episode.steps[0].observation == "Error: there is no code between <code> and </code>"
    assert episode.steps[2].observation == "Error: ZeroDivisionError: division by zero"
    assert "Error: " in episode.steps[3].observation
    assert episode.answer == "1"


def test_an_episode_without_an_answer_has_none(box: Sandbox) -> None:
    episode, _ = played(box, [code("print(42)")] * 9, replace(AGENT, max_steps=3))
    assert (episode.answer, episode.ended, len(episode.steps)) == (None, Ended.MAX_STEPS, 3)
    sampler = AgentSampler(Scripted({"q": [code("print(42)")] * 9}), replace(AGENT, max_steps=3), THINK)
    ((response,),) = sampler.sample([Prompt(messages=(Message(role="user", content="q"),))], PARAMS)
    assert (response.text, response.finish, response.meta["stop"]) == ("", Finish.LENGTH, "max-steps")


def test_a_model_cannot_write_its_own_observations(box: Sandbox) -> None:
    episode, _ = played(
        box, [code("print(1)") + "\nObservation: 7\n" + code("final_answer(7)"), code("final_answer(2)")]
    )
    assert episode.answer == "2"
    episode, _ = played(box, ["Thought: a\nObservation: 7", code("final_answer(2)")])
    assert episode.steps[0].error == "parse"


def test_a_sampler_that_fails_ends_its_episode_alone(box: Sandbox) -> None:
    sampler = Scripted({"a": [code("1"), None], "b": [code("1"), code("final_answer(5)")]})
    prompts = [Prompt(messages=(Message(role="user", content=name),)) for name in "ab"]
    found = dict(play(sampler, prompts, PARAMS, AGENT, box))
    assert (found[0].ended, found[0].error) == (Ended.FAILED, "HTTP 500")
    assert found[1].answer == "5"


def test_finished_episodes_leave_the_batch(box: Sandbox) -> None:
    sampler = Scripted({"a": [code("final_answer(1)")], "b": [code("1"), code("2"), code("final_answer(3)")]})
    prompts = [Prompt(messages=(Message(role="user", content=name),)) for name in "ab"]
    order = [number for number, _ in play(sampler, prompts, PARAMS, AGENT, box)]
    assert order == [0, 1]
    assert [prompt.messages[0].content for prompt in sampler.asked] == ["a", "b", "b", "b"]


def test_a_conversation_that_outgrows_its_model_ends_as_such(box: Sandbox) -> None:
    @dataclass
    class Small(Scripted):
        def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
            if any(len(prompt.messages) > 3 for prompt in prompts):
                raise UserError("a prompt with its answer does not fit")
            return super().sample(prompts, params)

    sampler = Small({"a": [code("1")] * 5, "b": [code("1"), code("final_answer(3)")]})
    prompts = [Prompt(messages=(Message(role="user", content=name),)) for name in "ab"]
    found = dict(play(sampler, prompts, PARAMS, AGENT, box))
    assert (found[0].ended, len(found[0].steps)) == (Ended.CONTEXT, 2)
    assert found[1].answer == "3"
    with pytest.raises(UserError, match="does not fit"):
        list(play(sampler, [prompts[0].model_copy(update={"messages": prompts[0].messages * 4})], PARAMS, AGENT, box))


def test_several_candidates_run_on_copies_and_one_commits(box: Sandbox) -> None:
    several = replace(AGENT, candidates=4, temperature=0.4, top_p=0.8)
    script = [
        [code("x = [1]"), code("x = [2]\nprint(x)"), code("1/0"), code("x = [2]; print(x)")],
        [code("x.append(5)\nprint(x)"), code("print(x)"), "nothing", code("print(x)")],
        [code("final_answer(len(x))")] * 4,
    ]
    episode, _ = played(box, script, several)
    assert episode.answer == "1"  # nobody's append was kept
    assert [(step.candidates, step.valid, step.agreeing) for step in episode.steps] == [(4, 3, 2), (4, 3, 2), (4, 4, 4)]
    assert episode.usage.completion_tokens == 60
    assert several.params(PARAMS).temperature == 0.4
    assert several.params(PARAMS).n == 4


def test_a_setup_gives_the_interpreter_its_data(box: Sandbox) -> None:
    (problem,) = make_problems(1)
    sampler = Scripted({"q": [code("final_answer(data + 1)")]})
    prompt = Prompt(messages=(Message(role="user", content="q"),), problem=problem)
    ((_, episode),) = play(sampler, [prompt], PARAMS, replace(AGENT, setup=lambda p: f"data = {p.level}"), box)
    assert (episode.answer, len(episode.steps)) == (str(problem.level + 1), 1)
    with pytest.raises(UserError, match="the setup of problem p0 failed: ZeroDivisionError"):
        list(play(sampler, [prompt], PARAMS, replace(AGENT, setup=lambda p: "1/0"), box))


def test_a_first_thought_opens_step_one_only_and_is_continued(box: Sandbox) -> None:
    prefix = "Thought: First add."
    script = ["\n<code>\nprint(1)\n</code>", code("final_answer(1)", "Now answer.")]
    episode, sampler = played(box, script, first_thoughts=[prefix])
    assert [prompt.prefix for prompt in sampler.asked] == [prefix, ""]
    assert episode.steps[0].text == "Thought: First add.\n<code>\nprint(1)\n</code>"
    assert [step.prefix for step in episode.steps] == [len(prefix), 0]
    assert all("First add" not in message.content for message in sampler.asked[0].messages)


def test_the_first_paragraph_is_the_first_thought() -> None:
    answer = "<think>\nFirst add a\nand b.\n\n1+1=2\n</think>\n\\boxed{2}"
    assert first_thought(answer, THINK, LAYOUT) == "Thought: First add a\nand b."
    assert first_thought("one line", THINK, LAYOUT) == "Thought: one line"
    assert first_thought("\n\n", THINK, LAYOUT) == ""
    assert first_thought("Observation: 3\n\nx", THINK, LAYOUT) == ""
    assert first_thought("use <code> here", THINK, LAYOUT) == ""


def traced(episode: Episode, agent: Agent = AGENT) -> Any:
    (problem,) = make_problems(1)
    question = (Message(role="user", content="q"),)
    return episode_trace(
        TASK, problem, episode, question=question, agent=agent, chat_format=PLAIN, sampler_id="s", params=PARAMS
    )


def test_only_assistant_turns_are_trained(box: Sandbox) -> None:
    """Three turns through the chat template: no token of a question or an observation carries weight."""
    episode, _ = played(box, [code("x = 8\nprint(x)"), code("print(x + 1)"), code("final_answer('right')")])
    trace = traced(episode)
    assert [(s.role, s.weight) for s in trace.taught] == [
        ("user", 0.0), ("assistant", 1.0), ("user", 0.0), ("assistant", 1.0), ("user", 0.0), ("assistant", 1.0),
    ]  # fmt: skip
    policy = load_policy(resolve_student("proxy:student-0.4m"))
    tokens = tokenise(trace.taught, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
    shown = weights_shown(tokens, policy.tokenizer.decode)
    trained = [part.split("⟧")[0] for part in shown.split("⟦")[1:]]
    assert len(trained) == 3
    assert all(turn.text in part for turn, part in zip(trace.taught[1::2], trained, strict=True))
    assert not any("Observation" in part for part in trained)
    assert "Observation: 8" in "".join(part.split("⟧")[-1] for part in shown.split("⟦"))


def test_which_episodes_are_kept_and_why_the_others_are_not(box: Sandbox) -> None:
    right = code("final_answer('right')")
    episodes = [
        played(box, [right])[0],
        played(box, [code("1/0"), right])[0],
        played(box, ["nothing", right])[0],
        played(box, [code("final_answer('wrong')")])[0],
        played(box, [code("1")] * 5)[0],
        played(box, [None])[0],
    ]
    kept = keep_episodes([traced(episode) for episode in episodes])
    assert [trace.meta["execution_errors"] for trace in kept.traces] == [0, 1]
    assert kept.dropped == {"max-steps": 1, "parse error": 1, "unjudged": 1, "wrong answer": 1}


def test_collected_in_order_with_tools_and_thoughts() -> None:
    nothing = {"type": "object"}
    agent = replace(AGENT, toolbox=Toolbox([Tool("ask_world", "", nothing, lambda: "right")]))

    def act(problem: Any, messages: Sequence[Message], prefix: str, rng: Any) -> str:
        done = sum(message.role == "assistant" for message in messages)
        return code("final_answer(a)") if done else f"\n<code>\na = ask_world(); print(a, {rng.random() < 2})\n</code>"

    problems = make_problems(5)
    try:
        traces = collect(
            TASK, problems, ProgramAgent(act, "x"), PARAMS, agent,
            chat_format=PLAIN, seed=1, thoughts={p.id: f"Thought: {p.id}" for p in problems}, rows=2,
        )  # fmt: skip
    except UserError as error:
        pytest.skip(str(error))
    assert [trace.problem_id for trace in traces] == [problem.id for problem in problems]
    assert traces[3].taught[1].text.startswith("Thought: p3\n<code>")
    assert all(trace.taught[2].text == "Observation: right True" for trace in traces)
    assert len(keep_episodes(traces).traces) == 5


def test_the_sampler_answers_in_the_chat_format_with_the_whole_account() -> None:
    sampler = AgentSampler(Scripted({"q": [code("print(1)"), code("final_answer('}x{')")]}), AGENT, THINK)
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    try:
        ((first, second),) = sampler.sample([prompt], PARAMS.model_copy(update={"n": 2}))
    except UserError as error:
        pytest.skip(str(error))
    assert first.text == second.text == "\\boxed{}x{}"
    assert first.seed != second.seed
    assert (first.usage.calls, len(first.calls)) == (2, 2)
    assert first.meta["steps"] == 2
    assert first.meta["valid_steps"] == 1.0
    assert [role for role, _ in first.meta["turns"]] == ["assistant", "user", "assistant"]  # type: ignore[misc, union-attr]
    with pytest.raises(UserError, match="cannot continue a prefix"):
        sampler.sample([prompt.model_copy(update={"prefix": "x"})], PARAMS)

"""The loop by hand: every reason to stop, rows that leave the batch, gates, and independence from batching."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from fixtures_texts import TextSampler, account, asked, cut
from stillroom.errors import UserError
from stillroom.infer.account import spent
from stillroom.infer.iterate import Again, Checked, Cut, Final, Iterate, More, Round
from stillroom.infer.vote import Vote
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.types import Finish, Response


@dataclass(frozen=True)
class Counting:
    """``+`` goes on, ``=`` stays, ``!`` is unreadable, anything else is the answer; the state counts the ``+``."""

    name: str = "counting"

    def begin(self, prompt: Prompt) -> int:
        return 0

    def ask(self, prompt: Prompt, state: int) -> Prompt:
        return prompt.model_copy(update={"prefix": "+" * state})

    def read(self, prompt: Prompt, state: int, response: Response) -> Final | More[int] | Again[int] | Cut:
        if response.finish is Finish.LENGTH:
            return Cut()
        moves = {"+": More(state + 1), "=": More(state), "!": Again(state)}
        return moves.get(response.text, Final(response.text))


def follow(script: dict[str, str]) -> TextSampler:
    """Question → what is written, round by round, after ``+`` alone: the round is the length of the prefix."""
    return TextSampler(lambda prompt, number: script[prompt.messages[0].content][len(prompt.prefix)])


def run(sampler: TextSampler, *questions: str, **how: object) -> list[Response]:
    loop = Iterate(sampler, Counting(), **how)  # type: ignore[arg-type]
    return [found for (found,) in loop.sample([asked(question) for question in questions], SamplingParams())]


def test_finished_rows_leave_the_batch_and_answers_keep_their_places() -> None:
    sampler = follow({"a": "++x", "b": "y", "c": "+z"})
    found = run(sampler, "a", "b", "c")
    assert [r.text for r in found] == ["x", "y", "z"]
    assert [r.meta for r in found] == [
        {"stop": "final", "rounds": ["+", "+", "x"]},
        {"stop": "final", "rounds": ["y"]},
        {"stop": "final", "rounds": ["+", "z"]},
    ]
    assert [[p.messages[0].content for p in turn] for turn in sampler.turns] == [["a", "b", "c"], ["a", "c"], ["a"]]


@pytest.mark.parametrize(
    ("script", "how", "stop", "rounds", "finish"),
    [
        ("++++++", {"rounds": 3}, "rounds", 3, Finish.LENGTH),
        ("++++++", {"tokens": 4}, "tokens", 4, Finish.LENGTH),
        ("+=", {}, "no-progress", 2, Finish.STOP),
        ("+!", {"retries": 2}, "malformed", 4, Finish.STOP),
        ("+!", {"retries": 0}, "malformed", 2, Finish.STOP),
        ("!", {"retries": 9, "rounds": 5}, "rounds", 5, Finish.LENGTH),
        ("++9", {"rounds": 3}, "final", 3, Finish.STOP),
    ],
)
def test_every_stop_is_recorded_and_only_a_final_answer_is_one(
    script: str, how: dict[str, int], stop: str, rounds: int, finish: Finish
) -> None:
    (found,) = run(follow({"q": script}), "q", **how)
    assert (found.meta["stop"], found.usage.calls, found.finish) == (stop, rounds, finish)
    assert found.text == ("9" if stop == "final" else "")
    assert len(found.meta["rounds"]) == len(found.calls) == rounds  # type: ignore[arg-type]


def test_a_round_that_was_cut_off_is_no_answer() -> None:
    (found,) = run(TextSampler(lambda prompt, number: cut("\\boxed{3}")), "q")
    assert (found.meta["stop"], found.text, found.finish) == ("truncated", "", Finish.LENGTH)


def test_a_sampler_that_failed_ends_its_row_alone() -> None:
    broken = Response(text="", finish=Finish.ERROR, error="HTTP 500")
    found = run(TextSampler(lambda prompt, number: broken if prompt.messages[0].content == "b" else "x"), "a", "b")
    assert [(r.meta["stop"], r.error) for r in found] == [("final", None), ("failed", "HTTP 500")]
    assert found[1].finish is Finish.ERROR


def test_the_account_grows_with_the_context() -> None:
    (found,) = run(follow({"q": "+++x"}), "q")
    assert [(c.prompt_tokens, c.completion_tokens) for c in found.calls] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert found.usage == spent([account(read, 1) for read in (1, 2, 3, 4)])
    assert (found.usage.peak_context, found.usage.flops) == (5, 40.0)


def test_a_gate_sees_all_rounds_of_a_turn_and_its_cost_counts() -> None:
    turns: list[int] = []

    def accept(rounds: Sequence[Round[int]]) -> list[Checked]:
        turns.append(len(rounds))
        return [Checked(round_.response.text != "x", account(5, 1)) for round_ in rounds]

    found = run(follow({"a": "+x", "b": "+y"}), "a", "b", accept=accept, retries=1)
    assert turns == [2, 2, 1]
    assert [r.meta["stop"] for r in found] == ["malformed", "final"]
    assert [r.usage.calls for r in found] == [6, 4]
    assert found[1].usage == spent([account(1, 1), account(2, 1), account(5, 1), account(5, 1)])


def test_what_a_row_draws_does_not_depend_on_the_others() -> None:
    def write(prompt: Prompt, number: int) -> str:
        return "+" if prompt.seed % 3 else f"answer {prompt.seed}"

    loop = Iterate(TextSampler(write), Counting())
    prompts = [asked(f"q{i}", seed=i) for i in range(9)]
    both = SamplingParams(n=2)
    together = loop.sample(prompts, both)
    assert together == [loop.sample([prompt], both)[0] for prompt in prompts]
    later = [prompt.model_copy(update={"first_index": 1}) for prompt in prompts]
    again = loop.sample(later, SamplingParams())
    assert [a.meta for (a,) in again] == [second.meta for _, second in together]
    assert len({str(r.meta["rounds"][-1]) for pair in together for r in pair}) == 18  # type: ignore[index]


def test_a_vote_over_a_loop_counts_its_rounds() -> None:
    def write(prompt: Prompt, number: int) -> str:
        return "\\boxed{1}" if prompt.prefix else "+"

    vote = Vote(Iterate(TextSampler(write), Counting()), 3)
    ((found,),) = vote.sample([asked("q")], SamplingParams(temperature=1.0))
    assert (found.text, found.usage.calls, len(found.calls)) == ("\\boxed{1}", 6, 6)
    assert (found.meta["votes"], found.meta["stop"]) == ({"1": 3}, "final")


@pytest.mark.parametrize("how", [{"rounds": 0}, {"tokens": 0}, {"retries": -1}])
def test_limits_that_let_nothing_happen_are_refused(how: dict[str, int]) -> None:
    with pytest.raises(UserError, match="let nothing happen"):
        Iterate(TextSampler(lambda prompt, number: ""), Counting(), **how)  # type: ignore[arg-type]

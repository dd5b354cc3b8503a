"""Retro-Search: what is asked at every thought, what is taken, what it cost, and what a kill costs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

import pytest

from stillroom.chat import ask, get_format
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.synth.retro import RetroSearch, account, log_of, log_value
from stillroom.synth.traces import make_trace
from stillroom.tasks.base import question
from stillroom.tasks.sums import sums
from stillroom.traces import segment
from stillroom.traces.store import read, response_of
from stillroom.types import Finish, Problem, Response, Trace, Usage

TASK = sums()
THINK = get_format("think")
END = "\n</think>\n\\boxed{0}"
"""Closes with the right answer: 1+2+3+1 is 0 modulo 7."""
WRONG = "\n</think>\n\\boxed{5}"


def problem(i: int = 0) -> Problem:
    return Problem(
        id=f"p{i}",
        task="sums",
        messages=question("Modulo 7: 1+2+3+1"),
        reference="0",
        meta={"modulus": 7, "terms": [1, 2, 3, 1]},
    )


def trace(text: str, *, i: int = 0, finish: Finish = Finish.STOP) -> Trace:
    usage = Usage(prompt_tokens=5, completion_tokens=len(text), calls=1)
    return make_trace(
        TASK,
        problem(i),
        Response(text=text, finish=finish, usage=usage, token_ids=(1, 2), tokenizer="t"),
        asked=ask(problem(i), THINK),
        chat_format=THINK,
        sampler_id="own",
        index=0,
        params=SamplingParams(),
    )


@dataclass
class Reviser:
    """Continues by a rule; a token is a character. Remembers every request."""

    rule: Callable[[Prompt], str | Response]
    asked: list[Prompt] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    tokens: int = 0
    calls_left: int = 10**6
    id: str = "reviser"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        self.asked += prompts
        self.params.append(params)
        return [[self._one(prompt)] for prompt in prompts]

    def _one(self, prompt: Prompt) -> Response:
        said = self.rule(prompt)
        response = said if isinstance(said, Response) else Response(text=said, finish=Finish.STOP)
        self.tokens += len(response.text)
        usage = Usage(prompt_tokens=len(prompt.prefix), completion_tokens=len(response.text), calls=1)
        return response.model_copy(update={"usage": usage})


def search(reviser: Reviser, **settings: Any) -> RetroSearch:
    return RetroSearch(TASK, reviser, THINK, SamplingParams(temperature=0.6, top_p=0.95), seed=0, **settings)


def revise(text: str, folder: Path, *said: str | Response, **settings: Any) -> tuple[Trace, Reviser]:
    """One trace, with the rollouts in the order in which they are asked for."""
    left = list(said)
    reviser = Reviser(lambda prompt: left.pop(0))
    (found,) = search(reviser, **settings).revised([problem()], [trace(text)], folder)
    assert not left
    return found, reviser


# A switch after the first step, a whole second attempt, a check.
THREE = "<think>\n1+2=3\n\nAlternatively, 1+3=4\n\n4+2=6\n\n6+1=0\n\nWait, check 1+2=3\n\n3+3=6\n\n6+1=0"


def test_a_thought_continued_instead_of_abandoned(tmp_path: Path) -> None:
    """Seven steps and a solution become three and a solution: V rises from 0.9^7 to 0.9^3."""
    ending = "\n\n3+3=6\n\n6+1=0" + END
    found, reviser = revise(THREE + END, tmp_path, ending)
    assert response_of(found) == "<think>\n1+2=3" + ending
    assert [prompt.prefix for prompt in reviser.asked] == ["<think>\n1+2=3"]
    # The loop goes on along the new trajectory, whose only thought has just been continued.
    log = log_of(found)
    assert (log.steps_before, log.steps_after, log.skipped) == (8, 4, None)
    (point,) = log.points
    assert (point.thought, point.prefix_steps, point.steps_before, point.steps_after) == (1, 1, 8, 4)
    assert (point.outcome, point.tokens) == ("accepted", len(ending))
    assert (found.parents, found.sampler, found.finish) == (("p0#own#0",), "reviser", Finish.STOP)
    assert found.verdict is not None
    assert found.verdict.correct
    assert found.taught[-1].weight == 1.0
    assert found.taught[-1].token_ids is None


def test_a_check_is_dropped_once_the_answer_is_there(tmp_path: Path) -> None:
    """Thought 1 fails to be continued; at the end of thought 2 the answer is known, and the rollout closes."""
    found, reviser = revise(THREE + END, tmp_path, "\n\n3+3=5" + WRONG, END)
    assert response_of(found) == THREE.split("\n\nWait")[0] + END
    assert [point.outcome for point in log_of(found).points] == ["wrong", "accepted"]
    assert reviser.asked[1].prefix == THREE.split("\n\nWait")[0]


def test_a_rollout_that_switches_later_is_searched_in_its_turn(tmp_path: Path) -> None:
    detour = "\n\n3+3=6\n\nHmm, 1+3=4\n\n4+2=6\n\n6+1=0" + END
    found, reviser = revise(THREE + END, tmp_path, detour, "\n\n6+1=0" + END)
    # 8 -> 7 -> 7: at thought 2 of the new trajectory all of "Hmm" is kept, so nothing is gained.
    assert [(p.thought, p.outcome, p.steps_before, p.steps_after) for p in log_of(found).points] == [
        (1, "accepted", 8, 6),
        (2, "not shorter", 6, 7),
    ]
    assert reviser.asked[1].prefix == "<think>\n1+2=3" + detour.removesuffix(END)
    assert response_of(found) == "<think>\n1+2=3" + detour


def test_without_a_keyword_a_trace_is_one_thought_that_is_continued_once_at_its_end(tmp_path: Path) -> None:
    text = "<think>\n1+2=3\n\n3+3=6\n\n6+1=0" + END
    found, reviser = revise(text, tmp_path, END)
    assert [prompt.prefix for prompt in reviser.asked] == [text.removesuffix(END)]
    assert [point.outcome for point in log_of(found).points] == ["not shorter"]
    assert (found.id, response_of(found), found.taught[-1].token_ids) == ("p0#own#0", text, (1, 2))


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("\n\n3+3=6\n\n6+1=0" + WRONG, "wrong"),
        ("\n\n3+3=6\n\n6+1=0", "no answer"),
        (Response(text="\n\n3+3=6" + END, finish=Finish.LENGTH), "cut off"),
        (Response(text="", finish=Finish.ERROR, error="HTTP 500"), "failed"),
        ("\n\n3" * 7 + END, "not shorter"),  # eight steps after the first: as many as before
    ],
)
def test_the_incumbent_is_kept_unless_the_rollout_is_right_and_shorter(
    said: str | Response, outcome: str, tmp_path: Path
) -> None:
    text = "<think>\n1+2=3\n\nWait, 2" + "\n\n3" * 6 + END
    found, _ = revise(text, tmp_path, said, END)
    assert [point.outcome for point in log_of(found).points] == [outcome, "not shorter"]
    assert response_of(found) == text


def test_steps_and_tokens_are_different_units(tmp_path: Path) -> None:
    """One long step instead of two short ones: fewer steps, more tokens."""
    text = "<think>\n1+2=3\n\nWait, 3\n\n0" + END
    long = "\n\nthe sum of three and three and one is seven" + END
    by_steps, _ = revise(text, tmp_path / "steps", long)
    assert response_of(by_steps) == "<think>\n1+2=3" + long
    by_tokens, _ = revise(text, tmp_path / "tokens", long, END, unit="tokens", count_tokens=len)
    assert response_of(by_tokens) == text
    # And the other way round: more steps, fewer tokens.
    text, many = "<think>\n1+2=3\n\nWait, now all of it once more, slowly" + END, "\n\n6\n\n0" + END
    kept, _ = revise(text, tmp_path / "a", many, END)
    taken, _ = revise(text, tmp_path / "b", many, unit="tokens", count_tokens=len)
    assert (response_of(kept), response_of(taken)) == (text, "<think>\n1+2=3" + many)
    # The length of the new response, where somebody can count.
    assert taken.usage.completion_tokens == len("<think>\n1+2=3" + many)


def test_the_value_by_hand() -> None:
    assert exp(log_value(True, 3, 0.9)) == pytest.approx(0.729)
    assert log_value(False, 0, 0.9) == -float("inf")
    # gamma^40000 is no float any more.
    assert log_value(True, 40_000, 0.9) > log_value(True, 40_001, 0.9) > log_value(False, 1, 0.9)


def test_wrong_traces_need_to_be_asked_for_and_then_any_right_rollout_wins(tmp_path: Path) -> None:
    wrong = "<think>\n1+2=3\n\n3+3=5\n\nWait, 5" + WRONG
    left, reviser = revise(wrong, tmp_path / "a")
    assert (log_of(left).skipped, reviser.asked, response_of(left)) == ("wrong", [], wrong)
    longer = "\n\n3\n\n6\n\n0" + END
    found, _ = revise(wrong, tmp_path / "b", longer, wrong_too=True)
    assert response_of(found) == "<think>\n1+2=3\n\n3+3=5" + longer
    assert found.verdict is not None
    assert found.verdict.correct
    # From then on a rollout must be shorter, too.
    found, _ = revise(wrong, tmp_path / "c", WRONG, "\n\n0" + END, wrong_too=True)
    assert [point.outcome for point in log_of(found).points] == ["wrong", "accepted"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "wrong"),
        ("<think>\n" + END, "empty thought"),
        ("<think>\n1+2+3+1=0" + END, "one step"),
        ("1+2=3\n\n3+3=6\n\nThe answer is 0", "no answer"),
    ],
)
def test_what_cannot_be_searched_comes_back_with_a_reason(text: str, reason: str, tmp_path: Path) -> None:
    reviser = Reviser(lambda prompt: END)
    traces = [trace(text), trace(THREE + END, i=1), trace("", i=2, finish=Finish.ERROR)]
    odd, searched, failed = search(reviser).revised([problem(i) for i in range(3)], traces, tmp_path)
    assert (log_of(odd).skipped, log_of(failed).skipped, log_of(searched).skipped) == (reason, "unjudged", None)
    assert odd.model_copy(update={"meta": {}}) == traces[0]
    assert {prompt.problem.id for prompt in reviser.asked if prompt.problem} == {"p1"}


def test_keywords_are_forbidden_in_the_first_new_step_alone(tmp_path: Path) -> None:
    words = ("Wait", "Alternatively")
    _, reviser = revise(THREE + END, tmp_path / "a", WRONG, WRONG, WRONG, keywords=words)
    (params, *_) = reviser.params
    assert params.constraint is not None
    assert params.constraint.words == words
    assert (params.n, params.temperature, params.top_p) == (1, 0.6, 0.95)
    _, free = revise(THREE + END, tmp_path / "b", WRONG, WRONG, WRONG, ban=False)
    assert {params.constraint for params in free.params} == {None}


def test_a_forbidden_word_all_the_same_is_drawn_again_and_paid(tmp_path: Path) -> None:
    """For samplers that see tokens, not words."""
    text = "<think>\n1+2=3\n\nWait, 3+3=6\n\n6+1=0" + END
    bad, good = "\n\nwait" + END, "\n\n0" + END
    found, reviser = revise(text, tmp_path / "a", bad, bad, good)
    assert [(p.thought, p.outcome) for p in log_of(found).points] == [(1, "switched")] * 2 + [(1, "accepted")]
    assert [prompt.first_index for prompt in reviser.asked] == [0, 1, 2]
    assert len({prompt.seed for prompt in reviser.asked}) == 1
    assert account([found]).rollout_tokens == reviser.tokens == len(bad + bad + good)
    # Thrice is enough; without the ban it is no offence.
    given_up, _ = revise(text, tmp_path / "b", bad, bad, bad, END)
    assert [(p.thought, p.outcome) for p in log_of(given_up).points] == [(1, "switched")] * 3 + [(2, "not shorter")]
    free, _ = revise(text, tmp_path / "c", bad, END, ban=False)
    assert [(p.thought, p.outcome) for p in log_of(free).points] == [(1, "accepted"), (2, "not shorter")]


def test_partial_revision_begins_at_a_thought_drawn_uniformly(tmp_path: Path) -> None:
    reviser = Reviser(lambda prompt: WRONG)
    problems = [problem(i) for i in range(300)]
    found = search(reviser, partial=True).revised(problems, [trace(THREE + END, i=i) for i in range(300)], tmp_path)
    firsts = Counter(log_of(one).first_thought for one in found)
    assert set(firsts) == {1, 2, 3}
    assert all(70 <= count <= 130 for count in firsts.values())  # 100 each, three standard deviations are 24
    for one in found:
        log = log_of(one)
        assert [point.thought for point in log.points] == list(range(log.first_thought, 4))


# --- many traces


def batch(count: int) -> tuple[list[Problem], list[Trace]]:
    """Traces with one to four thoughts."""
    texts = ["<think>\n1+2=3" + "\n\nWait, 3+3=6" * (i % 4) + "\n\n6+1=0" + END for i in range(count)]
    return [problem(i) for i in range(count)], [trace(text, i=i) for i, text in enumerate(texts)]


def by_content(prompt: Prompt) -> str:
    """Right and short for every third, otherwise long or wrong."""
    lot = (len(prompt.prefix) + int(prompt.problem.id[1:]) if prompt.problem else 0) % 3
    return "\n\n0" + (END, "\n\n0" * 5 + END, WRONG)[lot]


def test_rounds_are_batches_over_traces_and_every_token_is_counted_once(tmp_path: Path) -> None:
    problems, traces = batch(40)
    reviser = Reviser(by_content)
    found = search(reviser).revised(problems, traces, tmp_path)
    assert len(reviser.asked) > 40 > len(reviser.params)  # a call for a whole round
    total = account(found)
    assert total.rollouts == len(reviser.asked)
    assert total.rollout_tokens == reviser.tokens
    assert total.prompt_tokens == sum(len(prompt.prefix) for prompt in reviser.asked)
    assert sum(total.outcomes.values()) == total.rollouts
    assert total.outcomes["accepted"] == total.accepted == round((total.acceptance or 0) * total.rollouts)
    assert total.tokens_per_accepted == reviser.tokens / total.accepted
    assert 0 < total.revised <= 40
    assert total.steps_before == sum(segment.count(segment.split(response_of(t))) + 1 for t in traces) / 40
    assert (total.steps_after or 0) < (total.steps_before or 0)
    # Nothing in a result depends on what else was searched.
    alone = search(Reviser(by_content)).revised(problems[7:8], traces[7:8], tmp_path / "alone")
    assert alone == found[7:8]


def test_progress_counts_what_is_done(tmp_path: Path) -> None:
    problems, traces = batch(8)
    states = list(search(Reviser(by_content), chunk_rows=3).run(problems, traces, tmp_path))
    assert (states[0].rollouts, states[0].finished) == (0, 0)
    assert (states[-1].finished, states[-1].traces) == (8, 8)
    assert [state.rollouts for state in states] == sorted({state.rollouts for state in states})


@pytest.mark.parametrize("calls", [0, 1, 3, 5])
def test_a_search_that_was_killed_goes_on_and_samples_nothing_twice(calls: int, tmp_path: Path) -> None:
    problems, traces = batch(20)
    whole = Reviser(by_content)
    expected = search(whole, chunk_rows=8).revised(problems, traces, tmp_path / "whole")
    killed = Reviser(by_content, calls_left=calls)
    with pytest.raises(KeyboardInterrupt):
        search(killed, chunk_rows=8).revised(problems, traces, tmp_path / "killed")
    resumed = Reviser(by_content)
    assert search(resumed, chunk_rows=8).revised(problems, traces, tmp_path / "killed") == expected
    assert killed.asked + resumed.asked == whole.asked
    # The rollouts are on disk, each once, and cost what the account says.
    stored = read(tmp_path / "killed")
    assert (
        sum(rollout.usage.completion_tokens for rollout in stored) == account(expected).rollout_tokens == whole.tokens
    )
    assert len({rollout.id for rollout in stored}) == len(stored) == len(whole.asked)
    # Once it is done nothing is sampled at all.
    assert (
        search(Reviser(by_content, calls_left=0), chunk_rows=8).revised(problems, traces, tmp_path / "killed")
        == expected
    )


def test_the_rollouts_of_another_search_are_refused(tmp_path: Path) -> None:
    problems, traces = batch(4)
    search(Reviser(by_content)).revised(problems, traces, tmp_path)
    for settings in ({"ban": False}, {"keywords": ("But",)}):
        with pytest.raises(UserError, match="another search"):
            search(Reviser(by_content), **settings).revised(problems, traces, tmp_path)
    with pytest.raises(UserError, match="another search"):
        search(Reviser(by_content)).revised(problems, traces[::-1], tmp_path)


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    reviser = Reviser(by_content)
    for settings, said in (({"keywords": ()}, "keywords"), ({"gamma": 1.0}, "gamma=1"), ({"unit": "tokens"}, "count")):
        with pytest.raises(UserError, match=said):
            search(reviser, **settings)
    with pytest.raises(UserError, match="none of the given problems"):
        list(search(reviser).run([], [trace(THREE + END)], tmp_path))
    with pytest.raises(UserError, match="has not been searched"):
        account([trace(THREE + END)])

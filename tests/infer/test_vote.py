"""Voting by hand: who votes, what a vote counts, ties, and the exact account of all candidates."""

import math

import pytest

from fixtures_scripted import TASK, make_problems
from fixtures_texts import TextSampler, asked, cut
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.infer.account import spent
from stillroom.infer.vote import Vote, final_answer, likelihood
from stillroom.lab.evaluate import evaluate
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.types import Call, Finish, Response, Usage

WARM = SamplingParams(temperature=0.7)


def box(answer: str, words: str = "") -> str:
    return f"{words}\\boxed{{{answer}}}"


def elected(texts: list[str | Response], **how: object) -> Response:
    sampler = TextSampler(lambda prompt, number: texts[number])
    ((found,),) = Vote(sampler, len(texts), **how).sample([asked("?")], WARM)  # type: ignore[arg-type]
    return found


def test_the_most_frequent_answer_wins_with_the_words_that_gave_it_first() -> None:
    found = elected([box("2"), box("3", "well, "), box(" 3 "), box("2"), box("+03")])
    assert found.text == "well, \\boxed{3}"
    assert found.meta == {"votes": {"2": 2, "3": 3}}


def test_of_equals_the_first_seen_wins() -> None:
    assert elected([box("5"), box("4"), box("4"), box("5")]).text == box("5")
    assert elected([box("4"), box("5"), box("4"), box("5")]).text == box("4")


def test_who_gives_no_answer_does_not_vote() -> None:
    failed = Response(text=box("9"), finish=Finish.ERROR, error="HTTP 500")
    found = elected([failed, cut(box("9")), "who knows", "<think>\n\\boxed{9}", box("1")])
    assert (found.text, found.meta) == (box("1"), {"votes": {"1": 1}})
    assert elected([failed, "who knows"]).error == "HTTP 500"
    assert elected(["who", "knows"]).meta == {"votes": {}}


def test_weights_decide_and_what_is_no_weight_counts_nothing() -> None:
    weights = {"a": 0.2, "b": 0.3, "c": -5.0, "d": math.nan, "e": 0.4}
    texts: list[str | Response] = [box("1", "a"), box("1", "b"), box("2", "e"), box("3", "c"), box("4", "d")]
    found = elected(texts, weigh=lambda prompt, response: weights[response.text[0]])
    assert found.meta["votes"] == {"1": pytest.approx(0.5), "2": 0.4, "3": 0, "4": 0}
    assert found.text == box("1", "a")


def test_likelihood_is_the_geometric_mean_of_probabilities() -> None:
    response = Response(text="x", finish=Finish.STOP, logp_policy=(math.log(0.5), math.log(0.125)))
    assert likelihood(asked("?"), response) == pytest.approx(0.25)
    assert likelihood(asked("?"), Response(text="x", finish=Finish.STOP)) == 0


def test_the_account_is_of_all_candidates() -> None:
    found = elected([box("1"), box("22"), box("1")])
    lengths = [len(box("1")), len(box("22")), len(box("1"))]
    assert found.calls == tuple(Call(prompt_tokens=1, completion_tokens=length) for length in lengths)
    assert found.usage == Usage(
        prompt_tokens=3,
        completion_tokens=sum(lengths),
        calls=3,
        peak_context=1 + max(lengths),
        flops=30.0,
        cache_bytes=2 * (1 + max(lengths)),
    )


def test_what_is_unknown_of_one_is_unknown_of_the_sum() -> None:
    known = Usage(prompt_tokens=1, calls=1, cost_usd=0.5, flops=2.0, peak_context=7)
    assert spent([known, known]) == Usage(prompt_tokens=2, calls=2, cost_usd=1.0, flops=4.0, peak_context=7)
    assert spent([known, Usage(prompt_tokens=1, calls=1)]) == Usage(prompt_tokens=2, calls=2)
    assert spent([]) == Usage()


def test_a_later_request_goes_on_where_an_earlier_one_ended() -> None:
    def number(prompt: Prompt, index: int) -> str:
        return box(str(index))

    vote = Vote(TextSampler(number), 2)
    (both,) = vote.sample([asked("?")], WARM.model_copy(update={"n": 2}))
    ((second,),) = vote.sample([asked("?").model_copy(update={"first_index": 1})], WARM)
    assert [found.text for found in both] == [box("0"), box("2")]
    assert second == both[1]


def test_greedy_candidates_and_no_votes_are_refused() -> None:
    with pytest.raises(UserError, match="vote at a temperature above 0"):
        Vote(TextSampler(lambda prompt, number: "x"), 3).sample([asked("?")], SamplingParams(temperature=0))
    with pytest.raises(UserError, match="n=0 votes"):
        Vote(TextSampler(lambda prompt, number: "x"), 0)
    one = Vote(TextSampler(lambda prompt, number: "x"), 1).sample([asked("?")], SamplingParams(temperature=0))
    assert one[0][0].text == "x"


def test_a_vote_is_evaluated_like_any_sampler() -> None:
    sampler = TextSampler(lambda prompt, number: ["wrong", "right", "right"][number % 3])
    vote = Vote(sampler, 3, temperature=1.0, answer=lambda text: text)
    (trace,) = evaluate(TASK, make_problems(1), vote, get_format("think"))
    assert trace.verdict is not None
    assert trace.verdict.correct
    assert (trace.usage.calls, trace.meta["flops"], trace.meta["votes"]) == (3, 30.0, {"wrong": 1, "right": 2})
    assert trace.sampler == "vote-3/texts"


def test_what_a_text_votes_for() -> None:
    assert [final_answer(text) for text in ("#### 1,024", "The answer is Tom  Ray.", "\\boxed{}", "", "hm")] == [
        "1024",
        "tom ray",
        None,
        None,
        None,
    ]

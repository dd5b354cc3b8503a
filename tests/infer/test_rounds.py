"""Rounds of thought: reading whatever a model writes, hostile questions and summaries, and every way to go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_texts import TextSampler, asked, cut
from stillroom.chat import RoundStatus, get_format, history, holds_marks, parse_round, render_round, without_marks
from stillroom.infer.rounds import in_rounds
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.types import Response

THINK = get_format("think")
MARKS = ("<think>", "</think>", "<summary>", "</summary>", "<history>", "</history>")
HOSTILE = st.lists(st.sampled_from([*MARKS, "<", ">", "\n", "a", "</SUMMARY>", "\u202e"]), max_size=12).map("".join)


def test_a_round_is_read_back_as_it_was_written() -> None:
    text = render_round(THINK, "1 + 1 = 2", "found: 2")
    assert text == "<think>\n1 + 1 = 2\n</think>\n<summary>\nfound: 2\n</summary>"
    assert parse_round(text) == (RoundStatus.SUMMARY, "found: 2")


@pytest.mark.parametrize(
    ("text", "status", "summary"),
    [
        ("<think>\na\n</think>\n\\boxed{1}", RoundStatus.LAST, ""),
        ("", RoundStatus.LAST, ""),
        ("</summary>", RoundStatus.LAST, ""),
        ("<summary>a", RoundStatus.BROKEN, ""),
        ("<summary>\n \n</summary>", RoundStatus.BROKEN, ""),
        ("<summary>a</summary> b <summary>c</summary> d", RoundStatus.SUMMARY, "c"),
        ("<summary>a</summary><summary>b", RoundStatus.BROKEN, ""),
        ("<summary>a<summary>b</summary>", RoundStatus.SUMMARY, "b"),
        # What is thought of is not said.
        ("<think>shall I write <summary>?</think>\n\\boxed{1}", RoundStatus.LAST, ""),
        ("<think><summary>a</summary></think><summary>b</summary>", RoundStatus.SUMMARY, "b"),
    ],
)
def test_what_a_round_is(text: str, status: RoundStatus, summary: str) -> None:
    assert parse_round(text) == (status, summary)


@given(HOSTILE)
def test_every_text_is_read_and_no_text_passes_for_a_mark(text: str) -> None:
    found = parse_round(text)
    assert (found.summary != "") == (found.status is RoundStatus.SUMMARY)
    assert not holds_marks(without_marks(text))
    assert without_marks(text).replace("&lt;", "<") == text.replace("&lt;", "<")
    inside = history(text).removeprefix("<history>\n").removesuffix("\n</history>\n")
    assert not holds_marks(inside)


@given(st.lists(HOSTILE, min_size=1, max_size=4), HOSTILE)
def test_the_loop_ends_whatever_is_written(texts: list[str], question: str) -> None:
    def write(prompt: Prompt, number: int) -> str | Response:
        text = texts[prompt.seed % len(texts)]
        return cut(text) if prompt.seed % 5 == 0 else text

    sampler = TextSampler(write)
    ((found,),) = in_rounds(sampler, rounds=6).sample([asked(question)], SamplingParams())
    assert 1 <= found.usage.calls <= 6
    assert (found.text == "") or found.meta["stop"] == "final"
    assert not any(holds_marks(p.messages[0].content) for turn in sampler.turns for p in turn)


def rounds(*texts: str | Response, **limits: int) -> tuple[Response, list[Prompt]]:
    """One row that writes these texts in turn, and what it was asked."""
    sampler = TextSampler(lambda prompt, number: texts[len(sampler.turns) - 1])
    ((found,),) = in_rounds(sampler, **limits).sample([asked("2 + 3?")], SamplingParams())  # type: ignore[arg-type]
    return found, [prompt for (prompt,) in sampler.turns]


def test_a_summary_opens_the_next_turn_and_the_thought_is_dropped() -> None:
    last = "<think>\nso 5\n</think>\n\\boxed{5}"
    found, prompts = rounds(render_round(THINK, "2", "two"), render_round(THINK, "3", "three"), last)
    assert (found.text, found.meta["stop"]) == (last, "final")
    assert [prompt.prefix for prompt in prompts] == [
        "",
        "<history>\ntwo\n</history>\n",
        "<history>\nthree\n</history>\n",
    ]
    assert {prompt.messages[0].content for prompt in prompts} == {"2 + 3?"}
    assert len({prompt.seed for prompt in prompts}) == 3


def test_a_broken_summary_starts_again_after_a_thought_and_asks_again_without_one() -> None:
    good, last = render_round(THINK, "2", "two"), "<think>\n5\n</think>\n\\boxed{5}"
    found, prompts = rounds(good, "<think>\nx\n</think>\n<summary>\nthr", "<summary>", good, last)
    assert [prompt.prefix != "" for prompt in prompts] == [False, True, False, False, True]
    assert found.meta["stop"] == "final"
    found, prompts = rounds(good, "<summary>", last)
    assert [prompt.prefix != "" for prompt in prompts] == [False, True, True]


def test_reasons_to_stop() -> None:
    two, three = render_round(THINK, "2", "two"), render_round(THINK, "3", "three")
    assert rounds(two, two)[0].meta["stop"] == "no-progress"
    assert rounds(two, three, rounds=2)[0].meta["stop"] == "rounds"
    assert rounds(two, three, tokens=len(two) + 1)[0].meta["stop"] == "tokens"
    assert rounds("<summary>", "<summary>", retries=1)[0].meta["stop"] == "malformed"
    assert rounds(two, cut("<think>\nso 5"))[0].meta["stop"] == "truncated"
    # The answer may stand there already: cut off is cut off.
    assert rounds(cut("<think>\nso 5\n</think>\n\\boxed{5}"))[0].meta["stop"] == "truncated"
    # A summary that was closed before the limit is whole.
    assert rounds(cut(f"{two} and"), "\\boxed{5}")[0].meta["stop"] == "final"

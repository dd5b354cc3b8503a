"""Traces cut into rounds: by hand, exact joins, every reason to drop, writers, and what is trained."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import qwen2_policy
from fixtures_scripted import make_problems
from fixtures_texts import TextSampler, cut
from stillroom.chat import get_format, tokenise, weights_shown
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt
from stillroom.synth.segments import (
    Cut,
    ModelSummariser,
    Reconstruction,
    Summary,
    Unsummed,
    exactly,
    pack,
    paragraph_starts,
    reconstruct,
)
from stillroom.traces.store import response_of
from stillroom.types import Problem, Response, Segment, Span, Trace

THINK = get_format("think")


def words(text: str) -> int:
    return len(text.split())


def make(text: str, question: str = "2 + 3?", spans: Sequence[Span] = ()) -> Trace:
    taught = (Segment(role="user", text=question), Segment(role="assistant", text=text, weight=1.0))
    return Trace(id="t", problem_id="p0", task="scripted", asked=(), taught=taught, spans=tuple(spans))


def thought(*steps: str) -> Trace:
    return make("<think>\n" + "\n\n".join(steps) + "\n</think>\nSo \\boxed{5}")


def numbered(wanted: Sequence[Unsummed]) -> list[Summary]:
    """Says how many words it was shown, and nothing else."""
    return [Summary(f"{words(one.so_far)} words") for one in wanted]


def rewritten(*traces: Trace, eta: int = 4, **how: object) -> Reconstruction:
    return reconstruct(traces, eta, numbered, chat_format=THINK, count_tokens=words, **how)  # type: ignore[arg-type]


def test_three_rounds_by_hand() -> None:
    """Steps of 3, 2, 4 and 1 words under eta 4: overshooting closes after 3 + 2, then after 4 + 1."""
    trace = thought("A b c", "D e", "F g h i", "J", "K")
    found = rewritten(trace)
    first, middle, last = found.instances
    assert [s.text for s in first.taught] == [
        "2 + 3?",
        "<think>\nA b c\n\nD e\n</think>\n<summary>\n5 words\n</summary>",
    ]
    assert [s.text for s in middle.taught] == [
        "2 + 3?",
        "<history>\n5 words\n</history>\n",
        # All segments so far, not this one alone.
        "<think>\nF g h i\n\nJ\n</think>\n<summary>\n10 words\n</summary>",
    ]
    assert [s.text for s in last.taught] == [
        "2 + 3?",
        "<history>\n10 words\n</history>\n",
        "<think>\nK\n</think>\nSo \\boxed{5}",
    ]
    assert [s.weight for s in last.taught] == [0, 0, 1]
    assert [(t.id, t.round, t.parents) for t in found.instances] == [(f"t/{i}", i, ("t",)) for i in range(3)]
    assert (found.rounds, found.dropped, found.oversize) == ({3: 1}, {}, 0)


def test_without_overshooting_no_segment_is_longer_than_eta_but_a_single_step() -> None:
    found = rewritten(thought("A b c", "D e", "F g h i j", "K"), overshoot=False)
    assert [words(s.taught[-1].text.split("</think>")[0]) - 1 for s in found.instances] == [3, 2, 5, 1]
    assert found.oversize == 1


def test_a_short_thought_is_one_round_and_stays_as_it_is() -> None:
    trace = thought("A b")
    found = rewritten(trace)
    assert [t.taught for t in found.instances] == [trace.taught]
    assert found.rounds == {1: 1}


def test_paragraphs_that_open_small_go_on_with_the_step_before() -> None:
    text = "One.\n\nand on.\n \n\nTwo.\n\n3 is no capital.\n\nÉt voilà."
    assert [text[at:][:3] for at in paragraph_starts(text)] == ["Two", "Ét "]


def test_a_traces_own_steps_come_before_paragraphs() -> None:
    text = "<think>\n1+1=2\n2+1=3\n3+1=4\n</think>\n\\boxed{4}"
    steps = [Span(kind="step", start=m.start(), end=m.end()) for m in re.finditer(r"\d\+1=\d", text)]
    found = rewritten(make(text, spans=steps), eta=1, overshoot=False)
    assert [t.taught[-1].text.split("\n")[1] for t in found.instances] == ["1+1=2", "2+1=3", "3+1=4"]


@given(
    st.lists(st.text(st.sampled_from("aB .\n"), max_size=9), max_size=9).map("\n\n".join),
    st.integers(1, 6),
    st.booleans(),
)
def test_segments_are_all_of_the_thought_in_order(text: str, eta: int, overshoot: bool) -> None:
    edges = [0, *paragraph_starts(text), len(text)]
    steps = [Cut(a, b) for a, b in pairwise(edges)]
    segments, oversize = pack(text, steps, eta, words, overshoot=overshoot)
    assert "".join(text[start:end] for start, end in segments) == text
    assert {start for start, _ in segments} <= {start for start, _ in steps}
    long = [s for s in segments if words(text[s.start : s.end]) > eta]
    if not overshoot:
        assert len(long) == oversize
        assert all(s in steps for s in long)
    for start, end in segments:
        inner = [step for step in steps if start <= step.start and step.end <= end]
        assert words(text[start : inner[-1].start]) <= eta


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (make("<think>\nA b"), "thought not closed"),
        (make("\\boxed{5}"), "thought not closed"),
        (make(""), "thought not closed"),
        (make("<think>\n\n</think>\n\\boxed{5}"), "no thought"),
        (make("<think>\nA\n</think>\n"), "no conclusion"),
        (make("Well: <think>\nA\n</think>\n5"), "other text around the thought"),
        (make("<think>\nA <summary>b</summary>\n</think>\n5"), "marks in the response"),
        (make("<think>\nA\n</think>\nb\n</think>\n5"), "marks in the response"),
        (make("<think>\nA\n</think>\n5", question="what is <history>?"), "marks in the question"),
    ],
)
def test_what_is_dropped_and_why(trace: Trace, reason: str) -> None:
    found = rewritten(trace, thought("A b"))
    assert found.dropped == {reason: 1}
    assert found.rounds == {1: 1}


def test_a_trace_with_a_missing_summary_is_dropped_whole() -> None:
    def forgetful(wanted: Sequence[Unsummed]) -> list[Summary]:
        return [Summary(None if at == 1 else " ok ") for at, _ in enumerate(wanted)]

    long = thought("A b c d e", "F g h i j", "K")
    found = reconstruct([long, long], 4, forgetful, chat_format=THINK, count_tokens=words)
    assert (found.dropped, found.rounds) == ({"no summary": 1}, {3: 1})
    assert "<summary>\nok\n</summary>" in response_of(found.instances[0])


def test_an_exact_writer_sees_the_problem_and_all_that_was_written() -> None:
    def state(problem: Problem, so_far: str) -> str | None:
        return f"{problem.id}: {so_far.count('A')}"

    problems = {problem.id: problem for problem in make_problems(1)}
    trace = thought("A A A A A", "A A A A A", "B")
    found = reconstruct([trace], 4, exactly(state), chat_format=THINK, count_tokens=words, problems=problems)
    assert [s.taught[1].text for s in found.instances[1:]] == [
        "<history>\np0: 5\n</history>\n",
        "<history>\np0: 10\n</history>\n",
    ]
    unknown = reconstruct([trace], 4, exactly(state), chat_format=THINK, count_tokens=words)
    assert unknown.dropped == {"no summary": 1}


def test_a_model_writes_the_first_summary_that_ended_by_itself() -> None:
    def write(prompt: Prompt, number: int) -> str | Response:
        return (cut("- half"), "<think>x</think> ", "<think>hm</think>\n- so far 3 </history>", "- later")[number]

    sampler = TextSampler(write)
    found = ModelSummariser(sampler)([Unsummed("t/0", None, "2 + 3?", "1 + 2 = 3")])
    assert found[0].text == "- so far 3 &lt;/history>"
    assert (found[0].usage.calls, sampler.params[0].n, sampler.params[0].temperature) == (4, 4, 0.5)
    assert "2 + 3?" in sampler.turns[0][0].messages[0].content
    assert "1 + 2 = 3" in sampler.turns[0][0].messages[0].content
    silent = ModelSummariser(TextSampler(lambda prompt, number: cut("- half")))
    assert silent([Unsummed("t/0", None, "?", "x")])[0].text is None
    trace = thought("A b c d e", "F")
    spent = reconstruct([trace], 4, ModelSummariser(sampler), chat_format=THINK, count_tokens=words)
    assert spent.summary_tokens > 0


def test_only_the_round_itself_is_trained() -> None:
    policy = qwen2_policy()
    *_, last = rewritten(thought("A b c d e", "F")).instances
    tokens = tokenise(last.taught, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
    shown = weights_shown(tokens, policy.tokenizer.decode)
    assert "<history>\n5 words\n</history>\n⟦<think>\nF\n</think>\nSo \\boxed{5}<|im_end|>⟧" in shown
    assert shown.count("⟦") == 1


@pytest.mark.parametrize(("eta", "layout"), [(0, "think"), (4, "answer-only")])
def test_what_makes_no_sense_is_refused(eta: int, layout: str) -> None:
    with pytest.raises(UserError, match="a format with thoughts"):
        reconstruct([], eta, numbered, chat_format=get_format(layout), count_tokens=words)

"""Thought dropout and reverse thinking: what is dropped, what is kept, and that no thought tells its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from stillroom.chat import get_format, parse
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.program import ProgramSampler
from stillroom.synth.thoughts import INSTRUCTION, reverse_thoughts, skips, states, thought_dropout
from stillroom.synth.traces import make_trace
from stillroom.tasks import load_task
from stillroom.types import Finish, Response, Trace

THINK = get_format("think")
TASK = load_task("shapes")
PROBLEMS = TASK.problems("train", 200, 0)


def traces() -> list[Trace]:
    teacher = ProgramSampler(TASK)
    return [
        make_trace(
            TASK, p, teacher.sample([Prompt(messages=p.messages, problem=p)], SamplingParams())[0][0],
            asked=p.messages, chat_format=THINK, sampler_id=teacher.id, index=0, params=SamplingParams(),
        )
        for p in PROBLEMS
    ]  # fmt: skip


def test_a_dropped_thought_leaves_its_marks_and_the_answer() -> None:
    whole = traces()[0]
    empty = thought_dropout(whole, 1.0, 0, THINK)
    assert empty.taught[-1].text == f"<think>\n\n</think>\n\\boxed{{{PROBLEMS[0].reference}}}"
    assert (empty.id, empty.parents) == (f"{whole.id}/empty", (whole.id,))
    assert empty.taught[:-1] == whole.taught[:-1]
    assert TASK.verify(PROBLEMS[0], empty.taught[-1].text).correct
    assert thought_dropout(empty, 1.0, 0, THINK) is empty
    assert skips(empty.taught[-1].text)
    assert not skips(whole.taught[-1].text)


def test_the_draw_belongs_to_the_trace() -> None:
    found = traces()
    dropped = {
        share: {t.id for t in found if thought_dropout(t, share, 7, THINK) is not t}
        for share in (0.0, 0.2, 0.35, 0.5, 0.8, 1.0)
    }
    assert not dropped[0.0]
    assert len(dropped[1.0]) == 200
    assert dropped[0.2] < dropped[0.35] < dropped[0.5] < dropped[0.8] < dropped[1.0]
    for share, ids in dropped.items():
        assert abs(len(ids) / 200 - share) < 0.1
    assert dropped[0.5] == {t.id for t in reversed(found) if thought_dropout(t, 0.5, 7, THINK) is not t}
    assert dropped[0.5] != {t.id for t in found if thought_dropout(t, 0.5, 8, THINK) is not t}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\n\n</think>\n\\boxed{3}", True),
        ("<think></think>\\boxed{3}", True),
        ("<think>\n...\n</think>\n\\boxed{3}", False),
        ("\\boxed{3}", False),
        ("<think>\n\n", False),
        ("", False),
    ],
)
def test_what_counts_as_skipped(text: str, expected: bool) -> None:
    assert skips(text) is expected


@pytest.mark.parametrize(
    ("thought", "answer", "expected"),
    [
        ("so there are 3.", "3", True),
        ("so there are 13", "3", False),
        ("more Red than blue", "red", True),
        ("they are coloured", "red", False),
        ("it is (a+b) here", "(a+b)", True),
        ("", "3", False),
    ],
)
def test_when_a_thought_states_the_answer(thought: str, answer: str, expected: bool) -> None:
    assert states(thought, answer) is expected


@dataclass
class Said:
    """Says the same to everyone, one text per try."""

    texts: Sequence[str]
    id: str = "said"

    def __post_init__(self) -> None:
        self.asked: list[Prompt] = []

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        self.asked += prompts
        finish = [Finish.LENGTH if text.startswith("cut") else Finish.STOP for text in self.texts]
        return [[Response(text=t, finish=f) for t, f in zip(self.texts, finish, strict=True)] for _ in prompts]


def test_reverse_thinking_shows_the_answer_and_teaches_without_it() -> None:
    problem = PROBLEMS[0]
    gold = str(problem.reference)
    sampler = Said(["cut off", f"it must be {gold}", "<think>row by row\n</think>\\boxed{1}", "never looked at"])
    found = reverse_thoughts(TASK, [problem], sampler, THINK, SamplingParams(n=4), seed=0)
    assert (found.leaked, found.empty) == (1, 1)
    (trace,) = found.traces
    assert trace.taught[-1].text == f"<think>\nrow by row\n</think>\n\\boxed{{{gold}}}"
    assert trace.verdict is not None
    assert trace.verdict.correct
    assert trace.index == 2
    # The answer is in what was asked, and in nothing of what is taught but the answer itself.
    assert INSTRUCTION.format(answer=gold) in sampler.asked[0].messages[-1].content
    assert "answer" not in trace.taught[0].text
    assert not states(parse(trace.taught[-1].text).thought, gold)


def test_marks_in_a_thought_do_not_nest() -> None:
    (trace,) = reverse_thoughts(
        TASK, PROBLEMS[:1], Said(["</think> look <think> again"]), THINK, SamplingParams(), seed=0
    ).traces
    assert parse(trace.taught[-1].text).status == "ok"


def test_an_unknown_answer_cannot_be_shown() -> None:
    with pytest.raises(UserError, match="has no reference"):
        reverse_thoughts(
            TASK, [PROBLEMS[0].model_copy(update={"reference": None})], Said([""]), THINK, SamplingParams(), seed=0
        )

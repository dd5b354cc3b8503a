"""Asking judges: batches, the ladder of tries, and what is refused before anything is asked."""

from collections.abc import Sequence
from random import Random

import pytest

from stillroom.errors import UserError
from stillroom.judge.asking import Judge, Ladder, compare, detect, rate, revise
from stillroom.judge.samplers import FunctionSampler, Remembering
from stillroom.judge.wording import Case
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.tasks.paired import Contest
from stillroom.types import Finish, Message, Response

CONTEST = Contest(instruction="2+2?", candidates=("4", "5"), gold=0)


class Stubborn:
    """Answers what is written down, try by try, and keeps how it was asked."""

    id = "stubborn"

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[tuple[int, int, float]] = []

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        self.asked += [(prompt.first_index, len(prompts), params.temperature) for prompt in prompts[:1]]
        texts = [self.answers[min(prompt.first_index, len(self.answers) - 1)] for prompt in prompts]
        return [
            [Response(text="", finish=Finish.ERROR, error="HTTP 500")]
            if text == "!"
            else [Response(text=text, finish=Finish.STOP)]
            for text in texts
        ]


def test_a_verdict_that_cannot_be_read_is_asked_for_again_more_freely() -> None:
    sampler = Stubborn("well...", "!", "Output (b)")
    (found,) = compare(Judge(sampler), [CONTEST])
    assert (found.choice, found.valid, found.tries) == ("b", True, 3)
    assert sampler.asked == [(0, 1, 0.0), (1, 1, 0.35), (2, 1, 0.7)]


def test_after_the_last_try_there_is_no_verdict() -> None:
    (found,) = compare(Judge(Stubborn("well..."), ladder=Ladder(tries=2)), [CONTEST])
    assert (found.choice, found.valid, found.tries) == (None, False, 2)
    (failed,) = compare(Judge(Stubborn("!"), ladder=Ladder(tries=1)), [CONTEST])
    assert failed.reasons == "HTTP 500"


def test_a_letter_beyond_the_candidates_is_no_verdict() -> None:
    assert compare(Judge(Stubborn("Output (c)")), [CONTEST])[0].choice is None


def test_readable_rows_are_not_asked_again() -> None:
    def answer(messages: Sequence[Message], rng: Random) -> str:
        return "Output (a)" if "2+2" in messages[-1].content else "hm"

    other = CONTEST.model_copy(update={"instruction": "3+3?"})
    found = compare(Judge(FunctionSampler("f", answer)), [CONTEST, other])
    assert [(j.choice, j.tries) for j in found] == [("a", 1), (None, 3)]


def test_no_question_is_asked_when_there_is_none() -> None:
    sampler = Stubborn("Output (a)")
    assert compare(Judge(sampler), []) == []
    assert sampler.asked == []


@pytest.mark.parametrize(
    ("candidates", "gold", "fault"),
    [
        ((), 0, "0 candidates"),
        (("4",), 0, "1 candidates"),
        (tuple(map(str, range(27))), 0, "27 candidates"),
        (("4", " "), 0, r"\(b\) is empty"),
        (("4", " 4\n"), 0, r"\(a\) and \(b\) are identical"),
        (("4", "5"), 2, "number 2 of 2"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(candidates: tuple[str, ...], gold: int, fault: str) -> None:
    sampler = Stubborn("Output (a)")
    with pytest.raises(UserError, match=f"item 'x'.*{fault}"):
        compare(Judge(sampler), [Contest(instruction="", candidates=candidates, gold=gold)], ["x"])
    assert sampler.asked == []


def test_a_detector_is_asked_once_and_its_analysis_is_kept() -> None:
    case = Case(bias="verbosity", evaluator="m", contest=CONTEST, verdict="b")
    (found,) = detect(Judge(Stubborn("<think>\nlonger wins\n</think>\nYes", "No")), [case])
    assert (found.choice, found.reasons, found.tries) == ("Yes", "longer wins", 1)
    malformed = Stubborn("dunno", "Yes")
    assert detect(Judge(malformed), [case])[0].choice is None
    assert len(malformed.asked) == 1


def test_a_revision_shows_the_verdict_and_the_analysis() -> None:
    seen = []

    def answer(messages: Sequence[Message], rng: Random) -> str:
        seen.append(messages[-1].content)
        return "Output (a)"

    contest = CONTEST.model_copy(update={"majority": 1})
    (found,) = revise(Judge(FunctionSampler("f", answer)), [contest], ["b"], ["five is wrong"])
    assert found.choice == "a"
    for part in ("Output (b)\n", "five is wrong", "90% of people believe that Output (b)", "decide yourself"):
        assert part in seen[0]


def test_a_detectors_question_holds_neither_gold_nor_label() -> None:
    seen = []

    def answer(messages: Sequence[Message], rng: Random) -> str:
        seen.append(messages[-1].content)
        return "No"

    for gold in (0, 1):
        contest = CONTEST.model_copy(update={"gold": gold})
        case = Case(bias="position", evaluator="m", contest=contest, verdict="a", other="b")
        detect(Judge(FunctionSampler("f", answer)), [case])
    assert seen[0] == seen[1]


def test_ratings_lie_on_their_scale() -> None:
    judge = Judge(Stubborn("9", "4"))
    (found,) = rate(judge, ["source"], ["answer"], "is it short?")
    assert (found.rating, found.choice, found.tries) == (4.0, None, 2)
    (none,) = rate(Judge(Stubborn("soon")), ["source"], ["answer"], "is it short?")
    assert none.rating is None


def test_what_was_answered_is_not_asked_again() -> None:
    sampler = Stubborn("Output (a)")
    judge = Judge(Remembering(sampler))
    assert compare(judge, [CONTEST]) == compare(judge, [CONTEST])
    assert len(sampler.asked) == 1

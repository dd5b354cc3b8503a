"""Answering under a window, with a small model: nothing past the limit, equal draws before it; a window that slides."""

import pytest

from fixtures_models import qwen2_policy
from fixtures_texts import asked
from stillroom.errors import UserError
from stillroom.infer.window import Sliding, Window, sliding
from stillroom.samplers.base import SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.types import Finish

QUESTIONS = ("what is 12 + 30?", "think step by step, step by step", "30?", "the end of the answer " * 6)
PROMPTS = [asked(text, seed=at) for at, text in enumerate(QUESTIONS)]
PARAMS = SamplingParams(n=2, temperature=1.0, max_new_tokens=40)


@pytest.fixture(scope="module")
def sampler() -> LocalSampler:
    return LocalSampler(qwen2_policy())


def test_a_window_cuts_answers_short_and_changes_nothing_before_that(sampler: LocalSampler) -> None:
    lengths = [len(sampler.prompt_ids(prompt)) for prompt in PROMPTS]
    window = sorted(lengths)[2] + 5  # the longest question does not fit at all
    free, limited = sampler.sample(PROMPTS, PARAMS), Window(sampler, window).sample(PROMPTS, PARAMS)
    for length, wholes, cuts in zip(lengths, free, limited, strict=True):
        for whole, short in zip(wholes, cuts, strict=True):
            assert (short.usage.peak_context or 0) <= window
            if length > window:
                assert (short.text, short.finish, short.usage.calls) == ("", Finish.LENGTH, 0)
                continue
            kept = (whole.token_ids or ())[: window - length]
            assert short.token_ids == kept
            assert short.finish == (whole.finish if len(whole.token_ids or ()) == len(kept) else Finish.LENGTH)


def test_a_sliding_window_holds_no_more_than_it_should(sampler: LocalSampler) -> None:
    around, longest = len(sampler.prompt_ids(asked(""))), max(len(sampler.prompt_ids(prompt)) for prompt in PROMPTS)
    for question, most in (("slides", around + 20 + 6), ("kept", longest + 20 + 6)):
        loop = sliding(sampler, keep=20, stride=6, tokens=40, question=question)  # type: ignore[arg-type]
        answers = [found for (found,) in loop.sample(PROMPTS, PARAMS.model_copy(update={"n": 1}))]
        # A text that is cut anywhere may take a token more when it is read again.
        assert all((found.usage.peak_context or 0) <= most + 2 for found in answers)
        assert all(call.completion_tokens <= 6 for found in answers for call in found.calls)
        assert {found.meta["stop"] for found in answers} <= {"final", "rounds"}
        for found in answers:
            written = "".join(map(str, found.meta["rounds"]))  # type: ignore[arg-type]
            assert found.text == (written if found.meta["stop"] == "final" else "")


def test_what_slides_out_first() -> None:
    def tail(text: str, most: int) -> tuple[str, int]:
        kept = text[max(0, len(text) - max(most, 0)) :]
        return kept, len(kept)

    slides, stays = Sliding(tail, 8, "slides"), Sliding(tail, 8, "kept")
    for state, question, prefix in (("", "question", ""), ("abc", "stion", "abc"), ("abcdefghij", "", "cdefghij")):
        found = slides.ask(asked("question"), state)
        assert (found.messages[0].content, found.prefix) == (question, prefix)
        assert stays.ask(asked("question"), state).messages[0].content == "question"


def test_a_window_without_room_is_refused(sampler: LocalSampler) -> None:
    with pytest.raises(UserError, match="keep=0, stride=6"):
        sliding(sampler, keep=0, stride=6, tokens=40)

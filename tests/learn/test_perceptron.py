"""Averaged perceptrons: what can be separated is learned, what is not known is said to be unsure."""

import numpy as np
import pytest

from stillroom.errors import UserError
from stillroom.learn.perceptron import train_perceptron, train_specialists
from stillroom.samplers.base import Prompt, SamplingParams, StepStartBan
from stillroom.tasks.base import question
from stillroom.types import Message, Problem


def digits(messages: tuple[Message, ...]) -> list[int]:
    return [int(c) for c in messages[-1].content]


def side(text: str) -> str:
    return "left" if int(text[0]) > int(text[1]) else "right"


TEXTS = [f"{a}{b}" for a in range(10) for b in range(10) if a != b]


def test_a_line_is_learned_and_confidence_grows_with_the_distance() -> None:
    # Neighbours are a matter of luck: there is something to be unsure of.
    golds = [side(t) if abs(int(t[0]) - int(t[1])) > 1 or at % 3 else side(t[::-1]) for at, t in enumerate(TEXTS)]
    classifier = train_perceptron("sides", [question(t) for t in TEXTS], golds, digits)  # type: ignore[arg-type]
    answers = classifier.sample([Prompt(messages=question(t)) for t in TEXTS], SamplingParams(n=2))
    texts = [row[0].text for row in answers]
    assert sum(text == f"\\boxed{{{side(t)}}}" for text, t in zip(texts, TEXTS, strict=True)) >= 80
    assert all(row[0] == row[1] for row in answers)
    sure = {t: float(row[0].meta["confidence"]) for t, row in zip(TEXTS, answers, strict=True)}  # type: ignore[arg-type]
    assert sure["90"] > sure["64"] > sure["54"] >= 0.5
    assert classifier.weight_CF.dtype == np.int64


def test_training_is_the_same_every_time_and_overlooks_by_text_alone() -> None:
    one, other = (
        train_perceptron("s", [question(t) for t in TEXTS], [side(t) for t in TEXTS], digits, missed=0.5)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert (one.weight_CF == other.weight_CF).all()
    said, again = (
        [m.sample([Prompt(messages=question(t))], SamplingParams())[0][0] for t in TEXTS] for m in (one, other)
    )
    assert said == again
    assert 30 <= sum(response.text == "" for response in said) <= 60
    assert one.sample([], SamplingParams()) == []
    with pytest.raises(UserError, match="constraint"):
        one.sample([Prompt(messages=question("12"))], SamplingParams(constraint=StepStartBan(words=("But",))))


def test_specialists_learn_from_their_own_level_alone() -> None:
    def problem(text: str, level: int) -> Problem:
        gold = side(text) if level == 1 else side(text[::-1])
        return Problem(id=f"{text}/{level}", task="t", messages=question(text), reference=gold, level=level)

    both = [problem(text, level) for text in TEXTS for level in (1, 2)]
    found = train_specialists({1: "one", 2: "two"}, both, digits)  # type: ignore[arg-type]
    asked = [Prompt(messages=question("91"))]
    assert [found[name].sample(asked, SamplingParams())[0][0].text for name in ("one", "two")] == [
        "\\boxed{left}",
        "\\boxed{right}",
    ]


def test_too_little_to_learn_from_is_refused() -> None:
    with pytest.raises(UserError, match="at least 10"):
        train_perceptron("s", [question("12")] * 5, ["right"] * 5, digits)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 2"):
        train_perceptron("s", [question("12")] * 20, ["right"] * 20, digits)  # type: ignore[arg-type]

"""A policy that is taught to look does look: right with the picture, lost with another one, and pixel by pixel."""

from functools import cache

import numpy as np
import pytest
import torch

from fixtures_models import TEXTS
from stillroom.learn.batches import make_row
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.training import TrainConfig, train
from stillroom.models.decoding import prefill
from stillroom.models.policy import Policy
from stillroom.models.proxies import EyesLayout, ProxyLayout, blank_seeing_policy, make_tokenizer
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.samplers.pictures import encode
from stillroom.seeds import derive_rng
from stillroom.tasks.base import majority_baseline, question
from stillroom.tasks.scenes import CELL, PALETTES, draw, place, read_scene, write_scene
from stillroom.types import Problem, Segment

COLOURS = ("red", "green", "blue", "yellow")


def problem(number: int) -> Problem:
    """One thing in a 2 x 2 grid; the number of its colour is asked for (one token: batches are sorted by length)."""
    rng = derive_rng("one-thing", number)
    colour = rng.choice(COLOURS)
    scene = place([(colour, rng.choice(("circle", "square", "cross")))], 2, 2, rng)
    word = write_scene(scene)
    return Problem(
        id=str(number), task="colour", messages=question(f"![]({word})\nWhich?"), reference=str(COLOURS.index(colour))
    )


def shown(asked: Problem, word: str) -> Problem:
    """The same question about another picture."""
    return asked.model_copy(update={"messages": question(f"![]({word})\nWhich?")})


def picture_of(asked: Problem) -> str:
    return asked.messages[0].content[4:].partition(")")[0]


@cache
def taught() -> Policy:
    eyes = EyesLayout(pixels=24, hidden=32, layers=1, heads=2, mlp=32)
    layout = ProxyLayout(hidden=32, layers=2, heads=2, kv_heads=1, mlp=64, positions=64)
    tokenizer = make_tokenizer([*TEXTS, "Which?"] * 4, 300)
    policy = blank_seeing_policy(layout, eyes, tokenizer, seed=0, chat_format="think")
    rows = [
        make_row(p.id, [Segment(role="user", text=p.messages[0].content),
                        Segment(role="assistant", text=str(p.reference), weight=1.0)], policy)
        for p in map(problem, range(400))
    ]  # fmt: skip
    for _ in train(Learner(policy, SFT()), rows, TrainConfig(steps=220, batch_size=24, lr=3e-3), seed=0):
        pass
    return policy


def answers(problems: list[Problem]) -> list[str]:
    prompts = [Prompt(messages=p.messages) for p in problems]
    params = SamplingParams(temperature=0, max_new_tokens=2)
    return [found[0].text for found in LocalSampler(taught()).sample(prompts, params)]


def accuracy(problems: list[Problem]) -> float:
    return float(np.mean([said == p.reference for said, p in zip(answers(problems), problems, strict=True)]))


HELD_OUT = [problem(number) for number in range(10_000, 10_160)]


def test_it_answers_what_it_never_saw() -> None:
    assert accuracy(HELD_OUT) > 0.9


def test_shuffled_pictures_leave_the_majority_baseline() -> None:
    order = list(range(len(HELD_OUT)))
    derive_rng("shuffle").shuffle(order)
    shuffled = [shown(p, picture_of(HELD_OUT[at])) for p, at in zip(HELD_OUT, order, strict=True)]
    baseline = majority_baseline(HELD_OUT)
    assert baseline is not None
    assert accuracy(shuffled) == pytest.approx(baseline, abs=0.1)
    # And without one: always the same answer.
    bare = [p.model_copy(update={"messages": question("Which?")}) for p in HELD_OUT]
    assert len(set(answers(bare))) == 1
    assert accuracy(bare) <= baseline + 1e-9


def test_other_pixels_are_another_answer() -> None:
    """The pixels of one thing are given another colour, and everything else is left."""
    policy, (background, colours) = taught(), PALETTES["plain"]
    right = 0
    for number, asked in enumerate(HELD_OUT[:24]):
        word = picture_of(asked)
        thing = read_scene(word).things[0]
        picture = draw(word).copy()
        wanted = number % 4
        inside = (picture != background).any(-1)
        assert inside[thing.row * CELL : (thing.row + 1) * CELL, thing.column * CELL : (thing.column + 1) * CELL].any()
        picture[inside] = colours[COLOURS[wanted]]
        with torch.no_grad():
            logits, _ = prefill(policy, [encode(policy, asked.messages).ids], 1, None, [picture])
        right += policy.tokenizer.decode([int(logits[0].argmax())]) == str(wanted)
    assert right >= 21

"""Pictures on their way to a server: images in the places of their marks, and never the words of a scene."""

import base64
import json

import pytest

from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.wire import PICTURE_TOKENS, Request, build_request, max_prompt_tokens
from stillroom.tasks.scenes import draw, png
from stillroom.types import Message

WORD = "scene:plain/rcgs1/bt2"


def request(*messages: Message) -> Request:
    prompt = Prompt(messages=messages)
    return build_request(
        "m", prompt, SamplingParams(), 0, limit_field="max_tokens", assistant_prefix=False, render=None
    )


def test_a_picture_is_sent_as_an_image_in_its_place() -> None:
    asked = request(
        Message(role="system", content="Look."), Message(role="user", content=f"Here ![]({WORD})\nHow many?")
    )
    system, user = asked.body["messages"]
    assert system["content"] == "Look."
    before, image, after = user["content"]
    assert (before, after) == ({"type": "text", "text": "Here "}, {"type": "text", "text": "\nHow many?"})
    kind, _, data = image["image_url"]["url"].partition(",")
    assert (image["type"], kind) == ("image_url", "data:image/png;base64")
    assert base64.b64decode(data) == png(draw(WORD), 8)
    assert "scene:" not in json.dumps(asked.body)
    assert max_prompt_tokens(asked) == 64 + len("Look.") + 16 + len("Here \nHow many?") + PICTURE_TOKENS + 16


def test_text_stays_a_text() -> None:
    (user,) = request(Message(role="user", content="![](scene:plain/9) How many?")).body["messages"]
    assert user["content"] == "![](scene:plain/9) How many?"


def test_one_text_of_all_cannot_hold_a_picture() -> None:
    prompt = Prompt(messages=(Message(role="user", content=f"![]({WORD})"),))
    with pytest.raises(UserError, match="takes text alone"):
        build_request("m", prompt, SamplingParams(), 0, limit_field="max_tokens", assistant_prefix=False, render=str)

"""The OpenAI-compatible protocol as pure functions: requests out of prompts, answers out of whatever came back."""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from stillroom.chat import ChatFormat
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.tasks.scenes import data_uri, pieces, scenes_of
from stillroom.types import Finish, Message

PICTURE_TOKENS = 4096
"""What one picture costs at most; known services charge 100 to 2,000 for one of this size (our choice)."""
_SCALE = 8
"""Pixels along a pixel of a picture that is sent: 48 x 48 would be lost on a large model's eyes (ours)."""


class Request(NamedTuple):
    """One response to ask for."""

    path: str
    """``chat/completions`` or ``completions``."""
    body: dict[str, Any]
    seed: int
    """Of the response; the body holds its upper 31 bits, which every server accepts."""
    max_new_tokens: int


class Answer(NamedTuple):
    """A usable reply."""

    text: str
    finish: Finish
    prompt_tokens: int | None
    """None when the server did not say, here and below."""
    completion_tokens: int | None


class BadReply(Exception):
    """A reply with status 200 that holds no usable answer."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


def build_request(
    model: str,
    prompt: Prompt,
    params: SamplingParams,
    seed: int,
    *,
    limit_field: str,
    assistant_prefix: bool,
    render: Callable[[Sequence[Message]], str] | None,
) -> Request:
    """The request for one response.

    Temperature and top_p are always sent: left out, a server may take the model's own defaults for them.

    Pictures of a user's messages are sent as images, in their places.

    Raises:
        UserError: the prompt has a prefix and neither `assistant_prefix` nor `render` says how to continue it; a
            picture where `render` makes one text of all.
    """
    limit = params.max_new_tokens
    body: dict[str, Any] = {
        "model": model,
        "temperature": params.temperature,
        "top_p": params.top_p,
        limit_field: limit,
        "seed": seed >> 32,
    }
    if params.stop:
        body["stop"] = list(params.stop)
    shown = [word for m in prompt.messages if m.role == "user" for word in scenes_of(m.content)]
    if render is not None:
        if shown:
            raise UserError(f"{model} is asked about a picture through /completions, which takes text alone")
        return Request("completions", {**body, "prompt": render(prompt.messages) + prompt.prefix}, seed, limit)
    messages: list[dict[str, Any]] = [
        {"role": m.role, "content": _parts(m.content) if m.role == "user" else m.content} for m in prompt.messages
    ]
    if prompt.prefix:
        if not assistant_prefix:
            raise UserError(
                f"{model} was asked to continue {prompt.prefix[:60]!r}, which the chat protocol does not promise. If "
                "the server supports continue_final_message (vLLM, SGLang), say assistant_prefix=True; if it serves "
                "/completions, give render=, the function that writes the model's chat template"
            )
        messages.append({"role": "assistant", "content": prompt.prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return Request("chat/completions", {**body, "messages": messages}, seed, limit)


def _parts(text: str) -> str | list[dict[str, Any]]:
    """The content of a message: its text, or texts and images in turn where it shows pictures."""
    found = pieces(text)
    if not any(piece.scene for piece in found):
        return text
    return [
        {"type": "image_url", "image_url": {"url": data_uri(piece.scene, _SCALE)}}
        if piece.scene
        else {"type": "text", "text": piece.text}
        for piece in found
    ]


def max_prompt_tokens(request: Request) -> int:
    """An upper bound for any tokenizer that falls back to bytes: one token per UTF-8 byte, and room for the template.

    A smaller guess (such as bytes / 2) is exceeded by digits and by unusual scripts, and then the budget would be too.
    """
    if "prompt" in request.body:
        return len(_utf8(request.body["prompt"])) + 8
    return 64 + sum(_most_tokens(m["content"]) + 16 for m in request.body["messages"])


def _most_tokens(content: str | list[dict[str, Any]]) -> int:
    if isinstance(content, str):
        return len(_utf8(content))
    return sum(len(_utf8(part["text"])) if part["type"] == "text" else PICTURE_TOKENS for part in content)


def parse_reply(data: bytes, model: str, chat_format: ChatFormat, stop: Sequence[str] = ()) -> Answer:
    """Read the body of a reply with status 200. Raises BadReply, and nothing else, whatever the bytes are.

    Args:
        model: the name that was asked for.
        chat_format: how reasoning that arrives apart is put before the answer.
        stop: what was asked for as stop strings; a server that leaves one in the text has it taken out here.
    """
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadReply("malformed reply", f"not JSON ({len(data)} bytes)") from error
    if not isinstance(reply, dict):
        raise BadReply("malformed reply", f"a JSON {type(reply).__name__}, not an object")
    if "error" in reply and "choices" not in reply:
        raise BadReply("error reply", error_text(data))
    named = reply.get("model")
    if named is not None and not (isinstance(named, str) and same_model(model, named)):
        raise BadReply("wrong model", f"asked for {model!r}, answered by {_shown(named)}")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("no choices", "the reply holds no answer")
    choice = choices[0]
    text, finish = _text_and_finish(choice, chat_format, stop)
    prompt_tokens, completion_tokens = _usage(reply.get("usage"))
    if text and completion_tokens == 0:  # a text without tokens: the server does not count
        completion_tokens = None
    return Answer(text, finish, prompt_tokens, completion_tokens)


def same_model(asked: str, named: str) -> bool:
    """Whether a server's name for the model is the one asked for: equal, with or without its organisation or path,
    or with a date, build or revision after it (``gpt-x`` answered as ``gpt-x-2024-08-06``, ``m`` as ``m@main``)."""
    asked, named = asked.lower(), named.lower()
    if ("/" in asked) != ("/" in named):
        asked, named = asked.rsplit("/", 1)[-1], named.rsplit("/", 1)[-1]
    if not named.startswith(asked):
        return False
    return re.fullmatch(r"|@.+|[-._:@](latest|main|\d{4,}[\d.-]*)", named[len(asked) :]) is not None


_FINISH = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "content_filter": Finish.FILTERED,
}


def _text_and_finish(choice: dict[str, Any], chat_format: ChatFormat, stop: Sequence[str]) -> tuple[str, Finish]:
    reason = choice.get("finish_reason")
    finish = _FINISH.get(reason) if isinstance(reason, str) else None
    if finish is None:
        raise BadReply("malformed reply", f"finish_reason {_shown(reason)}")
    message = choice.get("message", choice)
    if not isinstance(message, dict):
        raise BadReply("malformed reply", "the choice holds no message")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        return clean(refusal), Finish.FILTERED
    content = message.get("content", message.get("text"))
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if content is None and (finish is not Finish.STOP or isinstance(reasoning, str)):
        content = ""  # cut or withheld before the answer began
    if not isinstance(content, str):
        raise BadReply("malformed reply", f"the answer is {_shown(content)}, not text")
    ends = [at for at in (content.find(word) for word in stop if word) if at >= 0]
    if ends:
        content, finish = content[: min(ends)], Finish.STOP
    if isinstance(reasoning, str) and reasoning.strip() and chat_format.think_close:
        marker = chat_format.think_close.strip()
        if not marker or marker not in content:
            # A thought that was cut has no end; closing it would make a truncated thought look finished.
            close = chat_format.think_close if content or finish is Finish.STOP else ""
            content = f"{chat_format.think_open}{reasoning.strip()}{close}{content.lstrip()}"
    return clean(content), finish


def _usage(usage: object) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    kept = [count if type(count) is int and 0 <= count < 10**9 else None for count in counts]
    return kept[0], kept[1]


def error_text(data: bytes) -> str:
    """The server's own words about an error, one short line."""
    try:
        reply = json.loads(data)
        error = reply.get("error", reply.get("detail", reply)) if isinstance(reply, dict) else reply
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, RecursionError):
        text = data[:2000].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in clean(text[:2000])).split())[:300]


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds asked for by a Retry-After header, in seconds or as an HTTP date; None when absent or unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _shown(value: object) -> str:
    return repr(value[:120]) if isinstance(value, str) else type(value).__name__


def clean(text: str) -> str:
    """Text without lone surrogates, which neither UTF-8 nor Parquet can hold."""
    return _utf8(text).decode("utf-8")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")

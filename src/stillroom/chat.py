"""Chat formats as data, and the one road from a conversation to trained tokens.

Two things live here. A `ChatFormat` says how a thought and an answer are written inside an assistant turn, and how to
read them back from whatever a model wrote. `tokenise` turns the taught segments of a trace into token ids and loss
weights: it renders the conversation through the tokenizer's own chat template, finds every segment by its characters,
and trains a token only when all of it lies inside a weighted segment. No mask is ever read back from a rendered string,
and a template that rewrites what it is given (for example by dropping earlier thoughts) is refused.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from stillroom.errors import UserError, unknown_name
from stillroom.types import Message, Noun, Problem, Role, Segment, Span


class ChatFormat(Noun):
    """How a response is laid out. All strings are literal text, never patterns."""

    name: str
    instruction: str = ""
    """Appended to the last user message, after a blank line; empty when the model knows the layout already."""
    think_open: str = ""
    think_close: str = ""
    answer_open: str = ""
    answer_close: str = ""


FORMATS = {
    chat_format.name: chat_format
    for chat_format in (
        ChatFormat(
            name="think",
            think_open="<think>\n",
            think_close="\n</think>\n",
            answer_open="\\boxed{",
            answer_close="}",
        ),
        ChatFormat(
            name="boxed",
            instruction="Reason step by step, and put the final answer within \\boxed{}.",
            think_close="\n",
            answer_open="\\boxed{",
            answer_close="}",
        ),
        ChatFormat(name="hash", think_close="\n", answer_open="#### "),
        ChatFormat(name="answer-only", answer_open="\\boxed{", answer_close="}"),
    )
}


def get_format(name: str) -> ChatFormat:
    """The format of that name; raises UserError with the nearest valid name."""
    if name not in FORMATS:
        raise unknown_name("chat format", name, FORMATS)
    return FORMATS[name]


def ask(problem: Problem, chat_format: ChatFormat, system: str | None = None) -> tuple[Message, ...]:
    """The messages to send for a problem: its own, the options if it has any, and the format's instruction."""
    *earlier, last = problem.messages
    text = last.content
    if problem.options:
        text += "\n" + "\n".join(f"({chr(65 + i)}) {option}" for i, option in enumerate(problem.options))
    if chat_format.instruction:
        text += "\n\n" + chat_format.instruction
    head = [Message(role="system", content=system)] if system else []
    return (*head, *earlier, Message(role=last.role, content=text))


def render(chat_format: ChatFormat, thought: str, answer: str) -> str:
    """The assistant turn that holds this thought and this answer."""
    body = f"{chat_format.think_open}{thought}{chat_format.think_close}" if chat_format.think_close else ""
    return f"{body}{chat_format.answer_open}{answer}{chat_format.answer_close}"


class ParseStatus(StrEnum):
    """How well a response kept to the think/answer layout."""

    OK = "ok"
    EMPTY = "empty"
    UNOPENED = "unopened"
    """A thought is closed that was never opened: everything before the close is the thought."""
    UNCLOSED = "unclosed"
    """The thought never ends: there is no answer part."""
    NESTED = "nested"
    """More than one open or close marker: the last close marker ends the thought."""


class Parsed(NamedTuple):
    thought: str
    answer: str
    """Everything after the thought."""
    status: ParseStatus


def parse(text: str, think_open: str = "<think>", think_close: str = "</think>") -> Parsed:
    """Split a response into thought and answer part. Total: every string has exactly one outcome.

    A text without either marker is all answer part (a model that reasons in the open).
    """
    if not text.strip():
        return Parsed("", text, ParseStatus.EMPTY)
    opens, closes = text.count(think_open), text.count(think_close)
    if opens == 0 and closes == 0:
        return Parsed("", text, ParseStatus.OK)
    start = text.find(think_open)
    end = text.rfind(think_close)
    if end < 0 or text.rfind(think_open) > end:
        return Parsed(text[start + len(think_open) :], "", ParseStatus.UNCLOSED)
    answer = text[end + len(think_close) :]
    if opens == 0:
        return Parsed(text[:end], answer, ParseStatus.UNOPENED if closes == 1 else ParseStatus.NESTED)
    thought = text[min(start + len(think_open), end) : end]
    clean = opens == closes == 1
    return Parsed(thought, answer, ParseStatus.OK if clean else ParseStatus.NESTED)


_STEP_ENDS = {
    "line": re.compile(r"\n+"),
    "paragraph": re.compile(r"\n[ \t]*\n\s*"),
    "sentence": re.compile(r"(?<=[.!?])\s+|\n+"),
}


def split_steps(text: str, mode: Literal["line", "paragraph", "sentence"] = "line") -> tuple[Span, ...]:
    """Cut a text into steps that join back to it exactly; a separator belongs to the step before it."""
    cuts = [match.end() for match in _STEP_ENDS[mode].finditer(text)]
    edges = [0, *(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    return tuple(
        Span(kind="step", start=start, end=end) for start, end in pairwise(edges) if end > start
    )


class Tokenised(NamedTuple):
    """A conversation ready for training; both lists have one entry per token."""

    ids: list[int]
    weights: list[float]
    """Loss weight of predicting this token; 0 for everything that is not trained."""


class _Turn(NamedTuple):
    role: Role
    text: str
    segments: tuple[Segment, ...]


def _turns(segments: Iterable[Segment]) -> list[_Turn]:
    turns: list[_Turn] = []
    for segment in segments:
        if turns and turns[-1].role == segment.role:
            last = turns[-1]
            turns[-1] = _Turn(last.role, last.text + segment.text, (*last.segments, segment))
        else:
            turns.append(_Turn(segment.role, segment.text, (segment,)))
    return turns


def render_chat(tokenizer: Any, messages: Sequence[Message], *, generate: bool = False) -> str:
    """The conversation as the tokenizer's chat template writes it; `generate` opens the assistant turn.

    Raises UserError when the tokenizer has no template or the template refuses the roles.
    """
    from jinja2 import TemplateError

    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError("this tokenizer has no chat template; give one with --chat-template FILE (a Jinja file)")
    try:
        text: str = tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages], tokenize=False, add_generation_prompt=generate
        )
    except TemplateError as error:
        raise UserError(f"the chat template refused roles {[m.role for m in messages]}: {error}") from error
    return text


class _Skeleton(NamedTuple):
    """What a template writes around the turns of a conversation with these roles."""

    around: tuple[str, ...]
    """Text before turn 0, between the turns, and after the last one."""
    opened: tuple[str, ...]
    """Per turn: what the template writes from the end of the turn before it when it *generates* this turn."""


@lru_cache(maxsize=256)
def _skeleton(tokenizer: Any, template: str, roles: tuple[Role, ...]) -> _Skeleton | None:
    """Rendered once per role pattern with marks in place of the texts; None when the template moves or drops a mark."""
    messages = [Message(role=role, content=_mark(i)) for i, role in enumerate(roles)]
    rest, around = render_chat(tokenizer, messages), []
    for message in messages:
        before, found, rest = rest.partition(message.content)
        if not found:
            return None
        around.append(before)
    opened = []
    for index, role in enumerate(roles):
        head = render_chat(tokenizer, messages[:index], generate=True) if role == "assistant" and index else ""
        opened.append(head.rpartition(_mark(index - 1))[2])
    return _Skeleton((*around, rest), tuple(opened))


def _mark(index: int) -> str:
    # Private-use characters: no template looks for them and no text that models write should hold them.
    return f"\ue0f0{index}\ue0f1"


def _locate(tokenizer: Any, turns: list[_Turn]) -> tuple[str, list[int]]:
    """The rendered conversation and, per turn, the character at which its text starts.

    Where the template trims a text, the start lies before the rendered text by the margin that was trimmed.
    """
    roles = tuple(turn.role for turn in turns)
    rendered = render_chat(tokenizer, [Message(role=t.role, content=t.text) for t in turns])
    skeleton = _skeleton(tokenizer, str(tokenizer.chat_template), roles)
    if skeleton is not None:
        for trim in (str, str.strip):
            starts, built = [], ""
            for before, turn in zip(skeleton.around, turns, strict=False):
                built += before
                starts.append(len(built) - turn.text.find(trim(turn.text)))
                built += trim(turn.text)
            if built + skeleton.around[-1] == rendered:
                _check_generation_prompt(skeleton, turns)
                return rendered, starts
    # A template that writes the thought of the last turn anew in the same words still shows every text verbatim.
    starts, position = [], 0
    for index, turn in enumerate(turns):
        at = rendered.find(turn.text, position)
        if at < 0 or not turn.text:
            raise UserError(
                f"the chat template rewrites turn {index} ({turn.role}) instead of showing it as given, as templates "
                "that drop earlier thoughts do; training on it would teach other text than the traces hold. Give a "
                "template that keeps every turn (--chat-template FILE)"
            )
        starts.append(at)
        position = at + len(turn.text)
    return rendered, starts


def _check_generation_prompt(skeleton: _Skeleton, turns: list[_Turn]) -> None:
    for index, turn in enumerate(turns):
        trained = turn.role == "assistant" and any(segment.weight for segment in turn.segments)
        if trained and index and not (skeleton.around[index] + turn.text).startswith(skeleton.opened[index]):
            raise UserError(
                f"the chat template opens an assistant turn with {skeleton.opened[index]!r} when it generates and with "
                f"{skeleton.around[index]!r} inside a conversation; a student trained this way would start every "
                "answer in a place it never saw. Give a consistent template (--chat-template FILE)"
            )


def tokenise(segments: Sequence[Segment], tokenizer: Any, *, fingerprint: str, stop_ids: Iterable[int]) -> Tokenised:
    """Token ids and loss weights of a taught conversation.

    A token carries a segment's weight when all its characters lie in segments of one weight; a token across a boundary
    is not trained. The token that ends an assistant turn carries the weight of the turn's last segment, so that a
    student learns to stop. Segments whose `tokenizer` equals `fingerprint` keep the ids that were sampled.

    Args:
        segments: the conversation in order; consecutive segments of one role form one turn.
        tokenizer: a fast tokenizer with a chat template.
        fingerprint: of that tokenizer's vocabulary (`Policy.fingerprint`).
        stop_ids: ids that end a turn.

    Raises:
        UserError: when the template rewrites a turn, has no end token after a trained turn, or opens an assistant turn
            differently for generation than in the conversation.
    """
    stops = set(stop_ids)
    turns = _turns(segments)
    rendered, starts = _locate(tokenizer, turns)

    edges: list[tuple[int, int, float, Segment]] = []
    for turn, start in zip(turns, starts, strict=True):
        offset = start
        for segment in turn.segments:
            edges.append((offset, offset + len(segment.text), segment.weight, segment))
            offset += len(segment.text)

    ids: list[int] = []
    weights: list[float] = []
    position = 0
    for start, end, weight, segment in [e for e in edges if e[3].token_ids and e[3].tokenizer == fingerprint]:
        _encode(tokenizer, rendered[position:start], position, edges, stops, ids, weights)
        kept = segment.token_ids or ()
        if kept[-1] in stops:  # the template writes the end of the turn itself
            kept = kept[:-1]
        ids.extend(kept)
        weights.extend([weight] * len(kept))
        position = end
    _encode(tokenizer, rendered[position:], position, edges, stops, ids, weights)
    return Tokenised(ids, weights)


def _encode(
    tokenizer: Any,
    text: str,
    base: int,
    edges: list[tuple[int, int, float, Segment]],
    stops: set[int],
    ids: list[int],
    weights: list[float],
) -> None:
    """Append the tokens of `text`, whose first character is the conversation's character `base`."""
    if not text:
        return
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = {end: weight for _, end, weight, segment in edges if segment.role == "assistant"}
    # A trimmed margin may end a turn earlier than its text; the weight then waits for the next stop token all the same.
    pending = 0.0
    edge = 0
    for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        start, end = start + base, end + base
        while edge < len(edges) and edges[edge][1] <= start:
            pending = ends.get(edges[edge][1], 0.0)
            edge += 1
        inside = edge < len(edges) and edges[edge][0] <= start and end <= edges[edge][1] and end > start
        if inside:
            weight = edges[edge][2]
        elif token in stops and pending:
            weight, pending = pending, 0.0
        else:
            weight = 0.0
        ids.append(token)
        weights.append(weight)


def weights_shown(tokenised: Tokenised, decode: Callable[[list[int]], str]) -> str:
    """The conversation with every trained token in ⟦brackets⟧, for tests and for looking at a mask."""
    shown = ""
    for token, weight in zip(tokenised.ids, tokenised.weights, strict=True):
        text = decode([token])
        shown += f"⟦{text}⟧" if weight else text
    return shown.replace("⟧⟦", "")

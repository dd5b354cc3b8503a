"""Chat formats as data, and the one road from a conversation to trained tokens.

Three things live here. A `ChatFormat` says how a thought and an answer are written inside an assistant turn, and how to
read them back from whatever a model wrote. *Rounds* are thoughts in bounded pieces: each ends in a summary, which opens
the next. `tokenise` turns the taught segments of a trace into token ids and loss
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
        # The whole answer part is the answer, as where constraints on every word of it are checked.
        ChatFormat(name="plain", think_open="<think>\n", think_close="\n</think>\n"),
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


_MARKS = re.compile(r"<(?=/?(?:think|summary|history)>)", re.IGNORECASE)
"""Where a mark of thoughts or rounds begins."""


def holds_marks(text: str) -> bool:
    """Whether a text could be taken for a thought, a summary or a history."""
    return _MARKS.search(text) is not None


def without_marks(text: str) -> str:
    """The text with ``<`` of every mark written as ``&lt;``, so that it is read as text.

    >>> without_marks("a < b </summary>")
    'a < b &lt;/summary>'
    """
    return _MARKS.sub("&lt;", text)


def history(summary: str) -> str:
    """What an assistant turn opens with when it goes on from a summary; it is given, never sampled or trained."""
    return f"<history>\n{without_marks(summary)}\n</history>\n"


def render_round(chat_format: ChatFormat, thought: str, summary: str) -> str:
    """A round that is not the last: its thought and a summary of all that was found so far."""
    return f"{chat_format.think_open}{thought}{chat_format.think_close}<summary>\n{summary}\n</summary>"


class RoundStatus(StrEnum):
    """What a round is by its marks."""

    LAST = "last"
    """No summary is opened: whatever answer there is, is here."""
    SUMMARY = "summary"
    BROKEN = "broken"
    """A summary is opened and never closed, or is empty."""


class ParsedRound(NamedTuple):
    status: RoundStatus
    summary: str
    """Without white space at its ends; empty unless the status is ``summary``."""


def parse_round(text: str, think_close: str = "</think>") -> ParsedRound:
    """Read a round. Total; what stands before the last closed thought is no summary, and of several the last counts."""
    said = text[text.rfind(think_close) + len(think_close) :] if think_close in text else text
    start = said.rfind("<summary>")
    if start < 0:
        return ParsedRound(RoundStatus.LAST, "")
    found, closed, _ = said[start + len("<summary>") :].partition("</summary>")
    summary = found.strip()
    return ParsedRound(RoundStatus.SUMMARY, summary) if closed and summary else ParsedRound(RoundStatus.BROKEN, "")


_STEP_ENDS = {
    "line": re.compile(r"\n+"),
    "paragraph": re.compile(r"\n[ \t]*\n\s*"),
    "sentence": re.compile(r"(?<=[.!?])\s+|\n+"),
}


def split_steps(text: str, mode: Literal["line", "paragraph", "sentence"] = "line") -> tuple[Span, ...]:
    """Cut a text into steps that join back to it exactly; a separator belongs to the step before it."""
    cuts = [match.end() for match in _STEP_ENDS[mode].finditer(text)]
    edges = [0, *(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    return tuple(Span(kind="step", start=start, end=end) for start, end in pairwise(edges) if end > start)


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


@lru_cache(maxsize=256)
def _around(tokenizer: Any, template: str, roles: tuple[Role, ...]) -> tuple[str, ...] | None:
    """What a template writes before turn 0, between the turns, and after the last one, for these roles.

    Rendered once per role pattern with marks in place of the texts; None when the template moves or drops a mark.
    """
    # Private-use characters: no template looks for them and no text that models write should hold them.
    messages = [Message(role=role, content=f"\ue0f0{i}\ue0f1") for i, role in enumerate(roles)]
    rest, around = render_chat(tokenizer, messages), []
    for message in messages:
        before, found, rest = rest.partition(message.content)
        if not found:
            return None
        around.append(before)
    return (*around, rest)


class _Place(NamedTuple):
    """Where a turn's text stands in the rendered conversation: ``text[skipped : skipped + end - start]``."""

    start: int
    end: int
    skipped: int
    """Characters that the template trimmed from the left of the text."""


def _locate(tokenizer: Any, turns: list[_Turn]) -> tuple[str, list[_Place]]:
    """The rendered conversation and the place of every turn's text in it."""
    messages = [Message(role=turn.role, content=turn.text) for turn in turns]
    rendered = render_chat(tokenizer, messages)
    around = _around(tokenizer, str(tokenizer.chat_template), tuple(turn.role for turn in turns))
    places = _between(rendered, turns, around) if around is not None else None
    if places is None:
        places = _search(tokenizer, rendered, messages)
    for index, turn in enumerate(turns):
        if turn.role != "assistant" or not index or not any(segment.weight for segment in turn.segments):
            continue
        opened = render_chat(tokenizer, messages[:index], generate=True)
        if not rendered.startswith(opened):
            before = places[index - 1].end
            raise UserError(
                f"the chat template opens an assistant turn with {opened[before:]!r} when it generates and with "
                f"{rendered[before : places[index].start]!r} inside a conversation; a student trained this way would "
                "start every answer in a place it never saw. Give a consistent template (--chat-template FILE)"
            )
    return rendered, places


def _between(rendered: str, turns: list[_Turn], around: Sequence[str]) -> list[_Place] | None:
    """The places of texts that stand, whole or trimmed, between what the template writes around them; else None."""
    places, position = [], len(around[0])
    for turn, after in zip(turns, around[1:], strict=True):
        shown = next((t for t in (turn.text, turn.text.strip()) if rendered.startswith(t + after, position)), None)
        if shown is None:
            return None
        places.append(_Place(position, position + len(shown), turn.text.find(shown)))
        position += len(shown + after)
    return places if rendered.startswith(around[0]) and position == len(rendered) else None


def _search(tokenizer: Any, rendered: str, messages: Sequence[Message]) -> list[_Place]:
    """The places of texts that a template shows verbatim although it looked into them.

    Some templates take the last turn's thought out and write it anew, in the same words when it was laid out their way.
    """
    places: list[_Place] = []
    position = 0
    for index, message in enumerate(messages):
        text = message.content
        if message.role == "assistant" and index:
            # From where generation would begin: a short text must not be found in the header before its turn.
            opened = render_chat(tokenizer, messages[:index], generate=True)
            begun = max(size for size in range(min(len(text), 64) + 1) if opened.endswith(text[:size]))
            position = max(position, len(opened) - begun)
        at = rendered.find(text, position)
        if at < 0 or not text:
            raise UserError(
                f"the chat template rewrites turn {index} ({message.role}) instead of showing it as given, as "
                "templates that drop earlier thoughts do; training on it would teach other text than the traces hold. "
                "Give a template that keeps every turn (--chat-template FILE)"
            )
        places.append(_Place(at, at + len(text), 0))
        position = at + len(text)
    return places


def tokenise(segments: Sequence[Segment], tokenizer: Any, *, fingerprint: str, stop_ids: Iterable[int]) -> Tokenised:
    """Token ids and loss weights of a taught conversation.

    A token carries a segment's weight when all its characters lie in that segment; a token across a boundary is not
    trained. The token that ends an assistant turn carries the weight of the turn's last segment, so that a
    student learns to stop. Segments whose `tokenizer` equals `fingerprint` keep the ids that were sampled.

    Args:
        segments: the conversation in order; consecutive segments of one role form one turn.
        tokenizer: a fast tokenizer with a chat template.
        fingerprint: of that tokenizer's vocabulary (`Policy.fingerprint`).
        stop_ids: ids that end a turn.

    Raises:
        UserError: when the template rewrites a turn, or opens an assistant turn differently for generation than in the
            conversation.
    """
    stops = set(stop_ids)
    turns = _turns(segments)
    rendered, places = _locate(tokenizer, turns)

    edges: list[_Edge] = []
    for turn, place in zip(turns, places, strict=True):
        offset = place.start - place.skipped
        for number, segment in enumerate(turn.segments, 1):
            # What the template trimmed is not there to be trained.
            start, end = (min(max(at, place.start), place.end) for at in (offset, offset + len(segment.text)))
            last = turn.role == "assistant" and number == len(turn.segments)
            edges.append(_Edge(start, end, segment.weight, segment.weight if last else 0.0))
            offset += len(segment.text)

    encoder = _Encoder(tokenizer, edges, stops)
    position = 0
    for segment, edge in zip((s for turn in turns for s in turn.segments), edges, strict=True):
        if segment.token_ids and segment.tokenizer == fingerprint:
            encoder.write(rendered[position : edge.start], position)
            kept = segment.token_ids
            # The template writes the end of the turn itself.
            encoder.keep(kept[:-1] if kept[-1] in stops else kept, edge.weight)
            position = edge.end
    encoder.write(rendered[position:], position)
    return Tokenised(encoder.ids, encoder.weights)


class _Edge(NamedTuple):
    """A segment's characters in the rendered conversation."""

    start: int
    end: int
    weight: float
    end_weight: float
    """Of the token that ends the turn; 0 unless the segment is the last of an assistant turn."""


class _Encoder:
    """Collects the tokens of a rendered conversation, front to back, with their weights."""

    def __init__(self, tokenizer: Any, edges: Sequence[_Edge], stops: set[int]) -> None:
        self.ids: list[int] = []
        self.weights: list[float] = []
        # Not the tokenizer itself: its preparations take three times as long as the work.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._edges = edges
        self._stops = stops
        self._edge = 0
        self._pending = 0.0
        """Weight that the next stop token gets."""

    def keep(self, ids: Sequence[int], weight: float) -> None:
        """Append ids as they are."""
        self.ids += ids
        self.weights += [weight] * len(ids)

    def write(self, text: str, base: int) -> None:
        """Append the tokens of `text`, whose first character is the conversation's character `base`."""
        if not text:
            return
        encoded = self._backend.encode(text, add_special_tokens=False)
        # Some tokenizers leave white space out of a token's offsets; it belongs to the token all the same.
        covered = 0
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            start, covered = min(start, covered), end
            self.ids.append(token)
            self.weights.append(self._weight(token, base + start, base + end))

    def _weight(self, token: int, start: int, end: int) -> float:
        edges = self._edges
        while self._edge < len(edges) and edges[self._edge].end <= start:
            self._pending = edges[self._edge].end_weight
            self._edge += 1
        if self._edge < len(edges) and edges[self._edge].start <= start < end <= edges[self._edge].end:
            return edges[self._edge].weight
        if token in self._stops and self._pending:
            weight, self._pending = self._pending, 0.0
            return weight
        return 0.0


def weights_shown(tokenised: Tokenised, decode: Callable[[list[int]], str]) -> str:
    """The conversation with every trained token in ⟦brackets⟧, for tests and for looking at a mask."""
    shown = ""
    for token, weight in zip(tokenised.ids, tokenised.weights, strict=True):
        text = decode([token])
        shown += f"⟦{text}⟧" if weight else text
    return shown.replace("⟧⟦", "")

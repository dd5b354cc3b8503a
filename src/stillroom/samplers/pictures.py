"""From conversations that show pictures to the tokens and pictures that a policy reads.

A user's text shows a picture by an image in Markdown (`tasks.scenes`). A policy that sees gets its own block in that
place, and the picture; a policy that reads text alone is refused, as the words of a scene would tell it what it cannot
see. Text that merely looks like a model's image token is escaped, and pictures of other roles stay text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stillroom.chat import Tokenised, render_chat, tokenise
from stillroom.errors import UserError
from stillroom.models.images import Picture, Vision
from stillroom.models.policy import Policy
from stillroom.tasks.scenes import draw, pieces, scenes_of
from stillroom.types import Message, Segment


class Encoded(NamedTuple):
    """What a policy reads."""

    ids: tuple[int, ...]
    pictures: tuple[str, ...] = ()
    """Words of scenes, in the order of their tokens."""


class Taught(NamedTuple):
    """What a policy is trained on."""

    tokens: Tokenised
    pictures: tuple[str, ...] = ()


def encode(policy: Policy, messages: Sequence[Message], prefix: str = "") -> Encoded:
    """A conversation with the assistant's turn opened and the prefix, if any, begun.

    Raises:
        UserError: a picture for a policy that does not see.
    """
    vision, pictures = policy.vision, _pictures(policy, messages)
    if vision is not None:
        messages = [Message(role=m.role, content=_written(vision, m.role, m.content)) for m in messages]
        prefix = vision.guard(prefix)
    text = render_chat(policy.tokenizer, messages, generate=True) + prefix
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    if vision is not None:
        ids = vision.expand(Tokenised(ids, [0.0] * len(ids)), _lengths(vision, pictures)).ids
    return Encoded(tuple(ids), pictures)


def teach(policy: Policy, segments: Sequence[Segment]) -> Taught:
    """A taught conversation with its loss weights (`chat.tokenise`); image tokens have none.

    Raises:
        UserError: as `tokenise` does, and for a picture that the policy does not see.
    """
    vision, pictures = policy.vision, _pictures(policy, segments)
    if vision is not None:
        segments = [s.model_copy(update={"text": _written(vision, s.role, s.text)}) for s in segments]
    tokens = tokenise(segments, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
    if vision is not None:
        tokens = vision.expand(tokens, _lengths(vision, pictures))
    return Taught(tokens, pictures)


def drawn(words: Sequence[str]) -> list[Picture]:
    """The pictures of these scenes."""
    return [draw(word) for word in words]


def pictures_of(said: Sequence[Message | Segment]) -> tuple[str, ...]:
    """The words of the scenes that a conversation's user shows, in order."""
    texts = [one.content if isinstance(one, Message) else one.text for one in said if one.role == "user"]
    return tuple(word for text in texts for word in scenes_of(text))


def _pictures(policy: Policy, said: Sequence[Message | Segment]) -> tuple[str, ...]:
    found = pictures_of(said)
    if found and policy.vision is None:
        raise UserError(
            f"{policy.source} reads text alone and is asked about a picture ({found[0]}); take a model that sees, e.g. "
            "--student proxy:shapes-0.7m, or a task that tells it in words, e.g. --task shapes:view=caption"
        )
    return found


def _lengths(vision: Vision, words: Sequence[str]) -> list[int]:
    """Nothing is drawn where all pictures take as many tokens."""
    return vision.lengths(drawn(words)) if vision.fixed_length is None else [vision.fixed_length] * len(words)


def _written(vision: Vision, role: str, text: str) -> str:
    if role != "user":
        return vision.guard(text)
    return "".join(vision.block if piece.scene else vision.guard(piece.text) for piece in pieces(text))

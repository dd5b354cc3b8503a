"""Policies that see: what a picture becomes for a model, where its tokens stand, and which weights look at it.

In a conversation's text a picture is a block of the model's own (``<image>`` in Llava's layout), whose token is written
as many times as the model makes vectors of the picture. Those tokens are never trained and never drawn, so that the
number of image tokens in a row is the number of vectors that its pictures give, whatever a model writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoImageProcessor, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from stillroom.chat import Tokenised
from stillroom.errors import CheckpointError, MissingExtraError, UserError

Picture = npt.NDArray[np.uint8]
"""[H, W, 3]."""
Group = Literal["vision", "projector", "text"]
GROUPS: tuple[Group, ...] = ("vision", "projector", "text")
FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""What a checkpoint says of its processor, in transformers' present and earlier layouts."""


class SeeingLayout(NamedTuple):
    """What a model type calls things."""

    block: tuple[str, ...]
    """Attributes of its configuration that hold the token ids of a picture in a text, in order; the image token is
    ``image_token_id``."""
    others: tuple[str, ...]
    """Further tokens that no text may hold."""
    vision: str
    """Where the names of the weights begin that make vectors of pictures, and of those that hand them to the text."""
    projector: str


SEEING: Mapping[str, SeeingLayout] = {
    "llava": SeeingLayout(("image_token_id",), (), "model.vision_tower.", "model.multi_modal_projector."),
    "qwen2_vl": SeeingLayout(
        ("vision_start_token_id", "image_token_id", "vision_end_token_id"),
        ("video_token_id",),
        "model.visual.",
        "model.visual.merger.",
    ),
}
"""Model types that see, and are tested to load, sample, train, save and reopen with the same logits."""


@dataclass(frozen=True)
class Vision:
    """How a policy sees; part of a `Policy`."""

    layout: str
    image_processor: Any
    files: Mapping[str, str]
    """Of the processor, name → text; a checkpoint gets them back as they were."""
    token_id: int
    """Of the image token."""
    block: str
    """How a text shows a picture."""
    marks: Mapping[int, str]
    """Tokens that stand for pictures alone: never drawn, and escaped where a text holds them."""
    fixed_length: int | None
    """Tokens of a picture; None where that depends on its size."""

    def tensors(self, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """What the module gets of pictures, in order: ``pixel_values``, and what else its layout needs; empty without
        a picture."""
        if not pictures:
            return {}
        found = self.image_processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
        return {name: found[name] for name in ("pixel_values", "image_grid_thw") if name in found}

    def lengths(self, pictures: Sequence[Picture]) -> list[int]:
        """Tokens that each picture takes, where that depends on its size."""
        grids = self.tensors(pictures)["image_grid_thw"] if pictures else torch.empty(0, 3)
        return [int(n) for n in grids.prod(-1) // self.image_processor.merge_size**2]

    def inputs(self, ids_BT: torch.Tensor, images: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The module's arguments beside the ids of rows that show these pictures."""
        if images and "image_grid_thw" in images:
            return {**images, "mm_token_type_ids": (ids_BT == self.token_id).int()}
        return dict(images)

    def guard(self, text: str) -> str:
        """The text with every token that stands for pictures written so that it is read as text."""
        for mark in self.marks.values():
            text = text.replace(mark, f"&lt;{mark[1:]}")
        return text

    def expand(self, tokens: Tokenised, lengths: Sequence[int]) -> Tokenised:
        """The tokens with every image token as many times as its picture has vectors, none of them trained.

        Raises:
            UserError: when there are not as many image tokens as pictures.
        """
        shown = tokens.ids.count(self.token_id)
        if shown != len(lengths):
            raise UserError(
                f"a conversation shows {len(lengths)} pictures and holds {shown} image tokens ({self.block!r}); the "
                "chat template must write a user's text as it is (--chat-template FILE)"
            )
        ids, weights, left = list[int](), list[float](), iter(lengths)
        for token, weight in zip(tokens.ids, tokens.weights, strict=True):
            times = next(left) if token == self.token_id else 1
            ids += [token] * times
            weights += [0.0 if token == self.token_id else weight] * times
        return Tokenised(ids, weights)


def positions(model: PreTrainedModel, ids_BT: torch.Tensor, mask_BT: torch.Tensor, seen: Mapping[str, Any]) -> Any:
    """Positions of rows with padding: long [B, T], or [3, B, T] in layouts that turn by time, height and width."""
    plain_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    if "image_grid_thw" not in seen:
        return plain_BT
    body: Any = model.base_model
    given = {name: seen[name] for name in ("image_grid_thw", "mm_token_type_ids")}
    return body.get_rope_index(ids_BT, attention_mask=mask_BT, **given)[0]


def group_of(layout: str, name: str) -> Group:
    """Which part of a seeing model a tensor belongs to."""
    known = SEEING[layout]
    if name.startswith(known.projector):
        return "projector"
    return "vision" if name.startswith(known.vision) else "text"


def load_vision(source: str, config: Any, tokenizer: PreTrainedTokenizerFast) -> Vision:
    """The eyes of a checkpoint folder or hub id.

    Raises:
        CheckpointError: no processor, or one that cannot be read.
        MissingExtraError: without the extra ``images``.
    """
    paths = {name: cached_file(source, name, _raise_exceptions_for_missing_entries=False) for name in FILES}
    files = {name: Path(path).read_text(encoding="utf-8") for name, path in paths.items() if path}
    if not files:
        raise CheckpointError(f"{source}: it sees, and has none of {', '.join(FILES)}; save the model's processor too")
    return make_vision(config, tokenizer, _image_processor(source), files)


def _image_processor(source: str) -> Any:
    try:
        import PIL  # noqa: F401 - transformers names it in a message of its own
    except ImportError as error:
        raise MissingExtraError("pillow", "images") from error
    try:
        return AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"{source}: cannot read its image processor: {str(error).splitlines()[0]}") from error


def make_vision(
    config: Any, tokenizer: PreTrainedTokenizerFast, image_processor: Any, files: Mapping[str, str]
) -> Vision:
    """The eyes of a model, from the parts of its processor; raises CheckpointError where they do not belong to it."""
    layout = SEEING[config.model_type]
    ids = {name: int(getattr(config, name)) for name in (*layout.block, *layout.others)}
    names: dict[int, Any] = {token: tokenizer.convert_ids_to_tokens(token) for token in ids.values()}
    absent = [name for name, token in ids.items() if names[token] is None]
    if absent:
        raise CheckpointError(f"the tokenizer has no {absent[0]} {ids[absent[0]]}; it belongs to another model")
    block = "".join(names[ids[name]] for name in layout.block)
    found = tokenizer(block, add_special_tokens=False)["input_ids"]
    if found != [ids[name] for name in layout.block]:
        raise CheckpointError(f"the tokenizer reads {block!r} as the tokens {found}; they must be special tokens")
    return Vision(
        layout=config.model_type,
        image_processor=image_processor,
        files=files,
        token_id=ids["image_token_id"],
        block=block,
        marks=names,
        fixed_length=int(config.image_seq_length) if config.model_type == "llava" else None,
    )

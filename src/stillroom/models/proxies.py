"""Proxies: tiny Qwen2-layout models of ours, pre-trained from scratch on procedural text, and where they are found.

Committed proxies live beside this file in `weights/NAME`; larger or changed ones are built into a cache by their recipe
hash (`stillroom proxies build`). The recipes, which need tasks and a learner, live in `stillroom.lab.proxies`.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from tokenizers import pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from stillroom.errors import unknown_name
from stillroom.models.images import FILES, make_vision
from stillroom.models.policy import Policy, Sidecar, make_policy
from stillroom.seeds import derive_seed
from stillroom.types import Noun

TURN, END = "<|im_start|>", "<|im_end|>"
IMAGE = "<image>"
"""The image token of proxies that see."""
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

WEIGHTS = Path(__file__).parent / "weights"


class ProxyLayout(Noun):
    """Shape of a proxy; the default has 0.41 million weights."""

    vocabulary: int = 512
    hidden: int = 96
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 288
    positions: int = 512


class EyesLayout(Noun):
    """What a proxy sees with: a small vision transformer before the text model, as in Llava (0.2 million weights)."""

    pixels: int = 48
    """Along a side of the pictures."""
    patch: int = 12
    hidden: int = 96
    layers: int = 2
    heads: int = 4
    mlp: int = 192

    @property
    def tokens(self) -> int:
        """Of a picture."""
        return (self.pixels // self.patch) ** 2


def cache_folder() -> Path:
    """Where proxies that are not committed are built: $STILLROOM_CACHE or ~/.cache/stillroom."""
    return Path(os.environ.get("STILLROOM_CACHE", Path.home() / ".cache" / "stillroom")) / "proxies"


def proxy_path(name: str) -> Path:
    """Folder of a committed or built proxy; raises UserError with the nearest valid name."""
    for root in (WEIGHTS, cache_folder()):
        if (root / name / "config.json").is_file():
            return root / name
    known = [p.name for root in (WEIGHTS, cache_folder()) if root.is_dir() for p in root.iterdir() if p.is_dir()]
    raise unknown_name("proxy", name, known)


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text can be written, digits stand alone, words of the diet become one token.

    It keeps Qwen2's way of cutting text before merging, because transformers rebuilds that for every checkpoint of this
    layout, whatever its tokenizer file says.
    """
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        texts,
        vocabulary,
        new_special_tokens=[TURN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.eos_token = END
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return cast(PreTrainedTokenizerFast, tokenizer)


def blank_policy(layout: ProxyLayout, tokenizer: PreTrainedTokenizerFast, *, seed: int, chat_format: str) -> Policy:
    """A policy with random weights that depend on the seed alone."""
    config = _text_config(layout, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("blank", seed))
        model = Qwen2ForCausalLM(config)
    model.generation_config = _generation_config(tokenizer)
    model.eval()
    return make_policy(model, tokenizer, source="blank", sidecar=Sidecar(chat_format=chat_format))


def blank_seeing_policy(
    layout: ProxyLayout, eyes: EyesLayout, tokenizer: PreTrainedTokenizerFast, *, seed: int, chat_format: str
) -> Policy:
    """A policy in Llava layout with random weights that depend on the seed alone; its tokenizer gets an image token."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer.add_tokens([IMAGE], special_tokens=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=eyes.pixels,
            patch_size=eyes.patch,
            hidden_size=eyes.hidden,
            intermediate_size=eyes.mlp,
            num_hidden_layers=eyes.layers,
            num_attention_heads=eyes.heads,
            projection_dim=eyes.hidden,
        ),
        text_config=_text_config(layout, tokenizer),
        image_token_index=tokenizer.get_vocab()[IMAGE],
        image_seq_length=eyes.tokens,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("blank", seed))
        model = LlavaForConditionalGeneration(config)
    model.generation_config = _generation_config(tokenizer)
    model.eval()
    side = {"height": eyes.pixels, "width": eyes.pixels}
    half = [0.5, 0.5, 0.5]
    image_processor = CLIPImageProcessorPil(size=side, crop_size=side, image_mean=half, image_std=half)
    processor = LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=eyes.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which "default" leaves out again
        chat_template=CHAT_TEMPLATE,
    )
    with TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        files = {name: (Path(folder) / name).read_text() for name in FILES if (Path(folder) / name).is_file()}
    vision = make_vision(config, tokenizer, image_processor, files)
    sidecar = Sidecar(chat_format=chat_format)
    return make_policy(model, tokenizer, source="blank", sidecar=sidecar, vision=vision)


def _text_config(layout: ProxyLayout, tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=layout.hidden,
        intermediate_size=layout.mlp,
        num_hidden_layers=layout.layers,
        num_attention_heads=layout.heads,
        num_key_value_heads=layout.kv_heads,
        max_position_embeddings=layout.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )


def _generation_config(tokenizer: PreTrainedTokenizerFast) -> GenerationConfig:
    return GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=256,
    )

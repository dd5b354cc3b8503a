"""Proxies: tiny Qwen2-layout models of ours, pre-trained from scratch on procedural text, and where they are found.

Committed proxies live beside this file in `weights/NAME`; larger or changed ones are built into a cache by their recipe
hash (`stillroom proxies build`). The recipes, which need tasks and a learner, live in `stillroom.lab.proxies`.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from tokenizers import pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from stillroom.errors import unknown_name
from stillroom.models.policy import Policy, Sidecar, make_policy
from stillroom.seeds import derive_seed
from stillroom.types import Noun

TURN, END = "<|im_start|>", "<|im_end|>"
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
    config = Qwen2Config(
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("blank", seed))
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=256,
    )
    model.eval()
    return make_policy(model, tokenizer, source="blank", sidecar=Sidecar(chat_format=chat_format))

"""Policies of a few thousand random weights that see, in two layouts, with tokenizers and processors of their own."""

import copy
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from fixtures_models import TEXTS
from stillroom.models.images import FILES, make_vision
from stillroom.models.policy import Policy, make_policy
from stillroom.models.proxies import EyesLayout, ProxyLayout, blank_seeing_policy, make_tokenizer
from stillroom.types import Segment

LAYOUT = ProxyLayout(hidden=16, layers=2, heads=4, kv_heads=2, mlp=32, positions=256)
QUESTIONS = ("How many red?", "More circles or more squares, or same?", "what is 12 + 30?")


def shows(word: str, text: str = QUESTIONS[0]) -> str:
    """A question about the picture of a scene."""
    return f"![](scene:plain/{word})\n{text}"


ONE, OTHER, SMALL = "rcbs2/4/1gt2/3yx", "4/rs3/bc1bcbc/4", "rcgs/ytbx"


@cache
def llava_policy() -> Policy:
    """Shared: do not train it (see `seeing`). A picture takes 16 tokens, whatever its size."""
    eyes = EyesLayout(hidden=16, layers=1, heads=2, mlp=32)
    tokenizer = make_tokenizer([*TEXTS, *QUESTIONS] * 4, 300)
    return _sharpened(blank_seeing_policy(LAYOUT, eyes, tokenizer, seed=0, chat_format="think"))


@cache
def qwen2_vl_policy() -> Policy:
    """Shared: do not train it (see `seeing`). A picture takes a token per 24 x 24 pixels; positions have three axes."""
    tokenizer = make_tokenizer([*TEXTS, *QUESTIONS] * 4, 300)
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_tokens(names, special_tokens=True)
    start, end, image, video = tokenizer.convert_tokens_to_ids(names)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 16,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 12,
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Qwen2VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, do_sample=False)
    model.eval()
    image_processor = Qwen2VLImageProcessorPil(patch_size=12, size={"shortest_edge": 24 * 24, "longest_edge": 96 * 96})
    with tempfile.TemporaryDirectory() as folder:
        image_processor.save_pretrained(folder)
        files = {name: (Path(folder) / name).read_text() for name in FILES if (Path(folder) / name).is_file()}
    vision = make_vision(config, tokenizer, image_processor, files)
    return _sharpened(make_policy(model, tokenizer, source="tiny-qwen2-vl", vision=vision))


TWO = (llava_policy, qwen2_vl_policy)
"""One policy per layout that sees."""


def _sharpened(policy: Policy) -> Policy:
    """Random weights of that size predict all tokens alike; larger ones make choices that are worth comparing."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for name, parameter in policy.model.named_parameters():
            if parameter.ndim >= 2:
                # What pictures become must weigh as much as words do, or shuffling them would change nothing.
                parameter.copy_(torch.randn_like(parameter) * (0.3 if "language_model" in name else 0.2))
    return policy


def seeing(policy: Policy, dtype: torch.dtype = torch.float32) -> Policy:
    """A copy to train."""
    model = copy.deepcopy(policy.model).to(dtype)
    return make_policy(model, policy.tokenizer, source=policy.source, vision=policy.vision)


def conversation(word: str | None, answer: str, text: str = QUESTIONS[0]) -> tuple[Segment, ...]:
    """A question, about a picture or not, and its answer."""
    return (
        Segment(role="user", text=text if word is None else shows(word, text)),
        Segment(role="assistant", text=answer, weight=1.0),
    )

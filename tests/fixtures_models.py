"""Policies of a few thousand random weights, made in memory: Qwen2 and Llama layouts with tokenizers of their own."""

import copy
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stillroom.chat import Tokenised, tokenise
from stillroom.learn.batches import Row
from stillroom.models.policy import Policy, make_policy
from stillroom.models.proxies import ProxyLayout, blank_policy, make_tokenizer
from stillroom.types import Segment

TEXTS = ("what is 12 + 30? think step by step\n", "12 + 30 = 42\nso the answer is \\boxed{42}", "the end of the answer")

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""Like Llama 3's: headers, a blank line, and trimmed texts."""

QWEN3_TEMPLATE = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and '</think>' in m.content %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set answer = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% if loop.index0 > ns.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ answer }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like Qwen 3's: the thought is taken out, written anew in the last turn and dropped from earlier ones."""


@cache
def qwen2_tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(TEXTS * 4, 300)


@cache
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, and with offsets that leave white space out, as some published tokenizers have them."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    inner.train_from_iterator(
        TEXTS * 4,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=special[0], eos_token=special[1], chat_template=LLAMA_TEMPLATE
    )


@cache
def qwen2_policy() -> Policy:
    """Shared: do not train it (see `fresh`). Tied embeddings, grouped key-value heads."""
    layout = ProxyLayout(hidden=16, layers=2, heads=4, kv_heads=2, mlp=32, positions=256)
    return _sharpened(blank_policy(layout, qwen2_tokenizer(), seed=0, chat_format="think"))


@cache
def llama_policy() -> Policy:
    """Shared: do not train it (see `fresh`). Untied embeddings; two end tokens, as the generation settings say."""
    tokenizer = llama_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForCausalLM(config)
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<|end_of_text|>", "<|eot_id|>")]
    model.generation_config = GenerationConfig(eos_token_id=ends, do_sample=False)
    model.eval()
    return _sharpened(make_policy(model, tokenizer, source="tiny-llama"))


def _sharpened(policy: Policy) -> Policy:
    """Random weights of that size predict all tokens alike; larger ones make choices that are worth comparing."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in policy.model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return policy


def fresh(policy: Policy, dtype: torch.dtype = torch.float32) -> Policy:
    """A copy to train, of a type in which sums are as exact as a test needs them."""
    return make_policy(copy.deepcopy(policy.model).to(dtype), policy.tokenizer, source=policy.source)


def taught(policy: Policy, question: str, answer: str, weight: float = 1.0) -> Tokenised:
    """A question and its answer as a training example."""
    segments = [Segment(role="user", text=question), Segment(role="assistant", text=answer, weight=weight)]
    return tokenise(segments, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)


def rows(policy: Policy, count: int, *, shortest: int = 1, longest: int = 12) -> list[Row]:
    """Examples of different lengths, the same every time."""
    lengths = [shortest + (7 * i) % (longest - shortest + 1) for i in range(count)]
    return [
        Row(f"row{i}", taught(policy, f"what is {i}?", " ".join(f"{i}+{k}" for k in range(n)), weight=1.0))
        for i, n in enumerate(lengths)
    ]

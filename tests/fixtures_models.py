"""Policies of a few thousand random weights in six layouts, made in memory, with tokenizers of their own."""

import copy
import json
from functools import cache
from typing import cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GemmaTokenizer,
    GenerationConfig,
    GPT2Tokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GPTNeoXTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

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

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
)
"""For layouts whose published models have no chat template."""

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
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<|end_of_text|>", "<|eot_id|>")]
    return _policy(LlamaForCausalLM, config, tokenizer, ends, "tiny-llama")


@cache
def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them: ``▁`` for a space, and single bytes for what is not in the vocabulary."""
    learner = Tokenizer(models.BPE())
    learner.train_from_iterator(
        ["▁" + word for text in TEXTS * 4 for word in text.split(" ")],
        trainers.BpeTrainer(vocab_size=80, show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    names += [f"<0x{byte:02X}>" for byte in range(256)] + sorted(learned["vocab"], key=learned["vocab"].get)
    return cast(
        PreTrainedTokenizerFast,
        GemmaTokenizer(
            vocab={name: number for number, name in enumerate(names)},
            merges=[tuple(pair) for pair in learned["merges"]],
            additional_special_tokens=names[5:7],
            chat_template=GEMMA_TEMPLATE,
        ),
    )


def _byte_level(empty: PreTrainedTokenizerFast, vocabulary: int, template: str) -> PreTrainedTokenizerFast:
    """The tokenizer class of a layout, with a vocabulary of ours."""
    trained = empty.train_new_from_iterator(
        TEXTS * 4, vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    trained.chat_template = template
    return cast(PreTrainedTokenizerFast, trained)


@cache
def neox_tokenizer() -> PreTrainedTokenizerFast:
    return _byte_level(GPTNeoXTokenizer(), 290, PLAIN_TEMPLATE)


@cache
def opt_tokenizer() -> PreTrainedTokenizerFast:
    """Begins a conversation with the token that also ends a turn."""
    empty = GPT2Tokenizer(unk_token="</s>", bos_token="</s>", eos_token="</s>", pad_token="<pad>")
    return _byte_level(empty, 290, "{{ bos_token }}" + PLAIN_TEMPLATE)


@cache
def gemma_policy() -> Policy:
    """Shared: do not train it (see `fresh`). Scaled and tied embeddings, one key-value head, two end tokens."""
    tokenizer = gemma_tokenizer()
    config = GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
    )
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<eos>", "<end_of_turn>")]
    return _policy(GemmaForCausalLM, config, tokenizer, ends, "tiny-gemma")


@cache
def neox_policy() -> Policy:
    """Shared: do not train it (see `fresh`). Attention and MLP side by side, rotation of a quarter, untied head."""
    tokenizer = neox_tokenizer()
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _policy(GPTNeoXForCausalLM, config, tokenizer, [tokenizer.eos_token_id], "tiny-neox")


@cache
def opt_policy() -> Policy:
    """Shared: do not train it (see `fresh`). Learned positions, and a projection between embeddings and layers."""
    tokenizer = opt_tokenizer()
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        word_embed_proj_dim=12,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _policy(OPTForCausalLM, config, tokenizer, [tokenizer.eos_token_id], "tiny-opt")


@cache
def mamba_policy() -> Policy:
    """Shared: do not train it (see `fresh`). A recurrent state, and no limit on positions."""
    tokenizer = neox_tokenizer()
    config = MambaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        state_size=4,
        num_hidden_layers=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _policy(MambaForCausalLM, config, tokenizer, [tokenizer.eos_token_id], "tiny-mamba")


SIX = (qwen2_policy, llama_policy, gemma_policy, neox_policy, opt_policy, mamba_policy)
"""One policy per supported layout."""


def _policy(
    layout: type[PreTrainedModel], config: object, tokenizer: PreTrainedTokenizerFast, ends: list[int], source: str
) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = layout(config)
    model.generation_config = GenerationConfig(eos_token_id=ends, do_sample=False)
    model.eval()
    return _sharpened(make_policy(model, tokenizer, source=source))


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


def called(policy: Policy) -> Policy:
    """The same policy, whose module has to be called because of a hook that does nothing: no fast path."""
    policy.model.register_forward_hook(lambda module, given, found: None)
    return policy


def all_states(policy: Policy, ids_BT: torch.Tensor) -> torch.Tensor:
    """Hidden states [B, T, D] of rows without padding."""
    row_BT = torch.arange(len(ids_BT))[:, None].expand_as(ids_BT)
    return policy.states(ids_BT, row_BT, torch.ones_like(ids_BT, dtype=torch.bool)).view(*ids_BT.shape, -1)


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

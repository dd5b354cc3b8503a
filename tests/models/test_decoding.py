"""The fast path of decoding: what the module computes, from the module's own weights, and nothing it does not know."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn.utils import parametrize
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from fixtures_models import called, fresh, llama_policy, neox_policy, qwen2_policy
from stillroom.models.decoding import Decoding, prefill
from stillroom.models.llama import LlamaDecoding, known_parts
from stillroom.models.policy import Policy

KNOWN = pytest.mark.parametrize("policy", [qwen2_policy, llama_policy])


def both(policy: Policy, prompts: list[list[int]], room: int) -> list[tuple[torch.Tensor, Decoding]]:
    fast, slow = prefill(policy, prompts, room), prefill(called(fresh(policy)), prompts, room)
    assert isinstance(fast[1], LlamaDecoding)
    assert not isinstance(slow[1], LlamaDecoding)
    return [fast, slow]


@KNOWN
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_logits_are_those_of_the_module(policy: Callable[[], Policy], data: st.DataObject) -> None:
    ids = st.integers(0, 280)
    prompts = data.draw(st.lists(st.lists(ids, min_size=1, max_size=9), min_size=1, max_size=5))
    with torch.inference_mode():
        (left, fast), (right, slow) = both(policy(), prompts, 6)
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
        rows = len(prompts)
        for _ in range(6):
            tokens = torch.tensor(data.draw(st.lists(ids, min_size=rows, max_size=rows)))
            torch.testing.assert_close(fast.step(tokens), slow.step(tokens), rtol=1e-5, atol=1e-5)
            if data.draw(st.booleans()):
                kept = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=2 * rows))
                fast.select(torch.tensor(kept))
                slow.select(torch.tensor(kept))
                rows = len(kept)


@KNOWN
def test_columns_may_be_read_together_or_one_by_one(policy: Callable[[], Policy]) -> None:
    prompts, more = [[5, 6, 7], [8]], torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
    with torch.inference_mode():
        together, apart = (prefill(policy(), prompts, 4)[1] for _ in range(2))
        assert isinstance(together, LlamaDecoding)
        for column in more.T:
            last = apart.step(column)
        torch.testing.assert_close(together.read(more), last, rtol=1e-5, atol=1e-5)


@KNOWN
def test_the_first_layer_may_be_looked_up(policy: Callable[[], Policy]) -> None:
    prompts, room = [[5, 6, 7], [8]] * 8, 64
    with torch.inference_mode():
        (left, fast), (right, slow) = both(policy(), prompts, room)
        assert isinstance(fast, LlamaDecoding)
        assert fast.first_VX is not None
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
        for tokens in torch.arange(48).view(3, 16):
            torch.testing.assert_close(fast.step(tokens), slow.step(tokens), rtol=1e-5, atol=1e-5)


@KNOWN
def test_a_step_of_training_shows_at_once(policy: Callable[[], Policy]) -> None:
    ours = fresh(policy())
    before = prefill(ours, [[5, 6, 7]], 1)[0]
    with torch.no_grad():
        for parameter in ours.model.parameters():
            parameter.mul_(1.5)
    after = prefill(ours, [[5, 6, 7]], 1)[0]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(
        after, ours.model(torch.tensor([[5, 6, 7]])).logits[:, -1].detach(), rtol=1e-5, atol=1e-5
    )


@KNOWN
def test_weights_are_used_where_they_lie(policy: Callable[[], Policy]) -> None:
    parts = known_parts(policy().model)
    assert parts is not None
    own = {parameter.data_ptr() for parameter in policy().model.parameters()}
    matrices = [weight for layer in parts.layers for weight in layer if isinstance(weight, torch.Tensor)]
    shared = [weight.data_ptr() in own for weight in [parts.embedding_VD, *(m for m in matrices if m.ndim == 2)]]
    assert len(shared) == 1 + 7 * len(parts.layers)
    assert all(shared)


def _hook(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.register_forward_pre_hook(lambda module, given: None)


def _adapter(model: Any) -> None:
    get_peft_model(model, LoraConfig(target_modules=["v_proj"], r=2))


def _own_forward(model: Any) -> None:
    model.model.norm.forward = lambda x: x


def _parametrization(model: Any) -> None:
    parametrize.register_parametrization(model.model.layers[0].mlp.down_proj, "weight", torch.nn.Identity())


def _other_class(model: Any) -> None:
    class Louder(torch.nn.Linear):
        pass

    model.model.layers[0].self_attn.o_proj.__class__ = Louder


def _dropout(model: Any) -> None:
    model.config.attention_dropout = 0.1
    model.train()


def _mixed(model: Any) -> None:
    model.model.layers[0].mlp.bfloat16()


def _window(model: Any) -> None:
    model.model.layers[0].self_attn.sliding_window = 4


def _activation(model: Any) -> None:
    model.model.layers[0].mlp.act_fn = torch.nn.GELU()


@pytest.mark.parametrize(
    "change",
    [_hook, _adapter, _own_forward, _parametrization, _other_class, _dropout, _mixed, _window, _activation],
)
def test_what_is_not_known_is_called_as_a_module(change: Callable[[Any], None]) -> None:
    ours = fresh(qwen2_policy())
    assert known_parts(ours.model) is not None
    change(ours.model)
    assert known_parts(ours.model) is None


def test_hooks_on_every_module_are_called() -> None:
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, given, found: None)
    try:
        assert known_parts(qwen2_policy().model) is None
    finally:
        handle.remove()
    assert known_parts(qwen2_policy().model) is not None


def _rope(kind: str, **more: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, "factor": 2.0, **more}}


SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (Qwen2ForCausalLM(Qwen2Config(**SMALL)), True),
        (Qwen2ForCausalLM(Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=1)), False),
        (LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True)), False),
        (LlamaForCausalLM(LlamaConfig(**SMALL, mlp_bias=True)), False),
        (LlamaForCausalLM(LlamaConfig(**SMALL, hidden_act="gelu")), False),
        (LlamaForCausalLM(LlamaConfig(**SMALL, head_dim=6)), True),
        (LlamaForCausalLM(LlamaConfig(**SMALL, **_rope("linear"))), True),
        (LlamaForCausalLM(LlamaConfig(**SMALL, **_rope("dynamic"))), False),
        (LlamaForCausalLM(LlamaConfig(**SMALL, **_rope(
            "llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16))), True),
    ],
)  # fmt: skip
def test_variants_of_the_layouts(model: Any, known: bool) -> None:
    model.eval()
    parts = known_parts(model)
    assert (parts is not None) == known
    if parts is not None:
        ours = Policy(model, qwen2_policy().tokenizer, "variant", stop_ids=frozenset({1}))
        ids = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            logits, decoding = prefill(ours, ids[:, :7].tolist(), 2)
            for column in (7, 8):
                logits = decoding.step(ids[:, column])
            torch.testing.assert_close(logits, ours.model(ids).logits[:, -1], rtol=1e-5, atol=1e-5)


def test_other_layouts_are_called_as_modules() -> None:
    assert known_parts(neox_policy().model) is None

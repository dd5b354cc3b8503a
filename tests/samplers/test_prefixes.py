"""Prompts that begin like an earlier text are read from where they differ, and answered as if nothing were kept."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import called, fresh, qwen2_policy
from stillroom.models.llama import LlamaDecoding
from stillroom.models.prefixes import Prefixes
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.types import Message, Response

ASKED = (Message(role="user", content="what is 12 + 30? think step by step"),)


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many columns each prefill read."""
    seen: list[int] = []
    read = LlamaDecoding.read

    def counting(self: LlamaDecoding, ids_BS: torch.Tensor) -> torch.Tensor:
        if ids_BS.shape[1] > 1 or not seen:
            seen.append(ids_BS.shape[1])
        return read(self, ids_BS)

    monkeypatch.setattr(LlamaDecoding, "read", counting)
    return seen


def search(sampler: LocalSampler, depth: int = 3) -> list[Response]:
    """Three continuations of the longest text so far, again and again."""
    found, prefix = [], ""
    for level in range(depth):
        prompt = Prompt(messages=ASKED, prefix=prefix, seed=level)
        (responses,) = sampler.sample([prompt], SamplingParams(n=3, max_new_tokens=9))
        found += responses
        prefix += responses[1].text
    return found


def test_a_search_finds_the_same_and_reads_less(columns: list[int]) -> None:
    plain = search(LocalSampler(qwen2_policy()))
    whole = list(columns)
    columns.clear()
    kept = search(LocalSampler(qwen2_policy(), keep_tokens=10_000))
    assert [(r.token_ids, r.text) for r in plain if not r.near_ties] == [
        (r.token_ids, r.text) for r, p in zip(kept, plain, strict=True) if not p.near_ties
    ]
    for ours, theirs in zip(kept, plain, strict=True):
        np.testing.assert_allclose(ours.logp_policy or (), theirs.logp_policy or (), atol=1e-4)
    assert columns[0] == whole[0]
    assert sum(columns[1:]) < sum(whole[1:]) / 3


def test_prompts_of_unequal_length_share_a_batch() -> None:
    texts = ["1 + 1", "what is 12 + 30?", "what is 12 + 31? think", "what"]
    prompts = [Prompt(messages=(Message(role="user", content=text),), seed=i) for i, text in enumerate(texts)]
    params = SamplingParams(n=2, max_new_tokens=6)
    sampler = LocalSampler(qwen2_policy(), keep_tokens=10_000)
    sampler.sample(prompts[:2], params)
    kept, plain = sampler.sample(prompts, params), LocalSampler(qwen2_policy()).sample(prompts, params)
    for ours, theirs in zip(itertools.chain(*kept), itertools.chain(*plain), strict=True):
        assert theirs.near_ties or ours.token_ids == theirs.token_ids


def test_training_clears_what_is_kept(columns: list[int]) -> None:
    policy = fresh(qwen2_policy())
    sampler = LocalSampler(policy, keep_tokens=10_000)
    prompt, params = Prompt(messages=ASKED), SamplingParams(temperature=0, max_new_tokens=4)
    sampler.sample([prompt], params)
    with torch.no_grad():
        policy.model.base_model.layers[0].mlp.up_proj.weight.mul_(-3)
    assert sampler.sample([prompt], params) == LocalSampler(policy).sample([prompt], params)
    assert columns[0] == columns[1] == columns[2]


def test_weights_made_in_inference_mode_can_be_searched_too() -> None:
    with torch.inference_mode():
        policy = fresh(qwen2_policy())
    assert next(policy.model.parameters()).is_inference()
    kept, plain = search(LocalSampler(policy, keep_tokens=10_000)), search(LocalSampler(qwen2_policy()))
    assert [r.text for r in kept] == [r.text for r in plain]


def test_a_module_that_has_to_be_called_keeps_nothing() -> None:
    sampler = LocalSampler(called(fresh(qwen2_policy())), keep_tokens=10_000)
    assert [r.text for r in search(sampler)] == [r.text for r in search(LocalSampler(qwen2_policy()))]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 20))
def test_the_longest_beginning_is_found_and_the_oldest_text_dropped(texts: list[list[int]], room: int) -> None:
    prefixes = Prefixes(room)
    kept: list[list[int]] = []
    for text in texts:
        if len(text) <= room and text not in kept:
            kept.append(text)
            while sum(map(len, kept)) > room:
                kept.pop(0)
        prefixes.keep(text, torch.tensor(text))
    for text in texts:
        expected = max((_common(text[:-1], other) for other in kept), default=0)
        found, states = prefixes.find(text)
        assert found == expected
        assert (states is None) == (expected == 0)
        if states is not None:
            assert states.tolist()[:found] == text[:found]
            kept.remove(states.tolist())  # used last
            kept.append(states.tolist())


def _common(left: list[int], right: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))

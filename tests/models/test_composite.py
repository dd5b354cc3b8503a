"""Sums of policies: logits add up, each part keeps its own cache, one part trains, and a folder reopens the sum."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from fixtures_models import (
    called,
    fresh,
    llama_policy,
    mamba_policy,
    neox_policy,
    neox_tokenizer,
    qwen2_policy,
    qwen2_tokenizer,
    rows,
)
from stillroom.chat import tokenise
from stillroom.cli.app import app
from stillroom.errors import CheckpointError, UserError
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.batches import Row, collate
from stillroom.learn.learner import Learner
from stillroom.learn.objectives import logp
from stillroom.learn.objectives.base import View
from stillroom.learn.objectives.sft import SFT
from stillroom.models.composite import Part, SumPolicy, save_sum, sum_of
from stillroom.models.decoding import prefill
from stillroom.models.policy import Policy, Sidecar, load_part, load_policy, save_policy
from stillroom.models.proxies import ProxyLayout, blank_policy
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.types import Message, Response, Segment

PROMPTS = [
    Prompt(messages=(Message(role="user", content=text),), seed=i) for i, text in enumerate(("1", "what is 12?"))
]


def other() -> Policy:
    """Another width and depth over the vocabulary of `qwen2_policy`."""
    layout = ProxyLayout(hidden=24, layers=3, heads=2, kv_heads=1, mlp=40, positions=200)
    policy = blank_policy(layout, qwen2_tokenizer(), seed=5, chat_format="think")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for weight in policy.model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn_like(weight) * 0.3)
    return policy


def pair(*weights: float) -> SumPolicy:
    first, second = weights or (1.0, 1.0)
    return sum_of([(fresh(qwen2_policy()), first), (other(), second)])


def mixed() -> SumPolicy:
    """Two layouts over one vocabulary: keys and values beside a recurrent state, neither on the fast path."""
    return sum_of([(fresh(neox_policy()), 0.5), (fresh(mamba_policy()), 1.5)])


def module_logits(policy: SumPolicy, ids: list[int]) -> torch.Tensor:
    """The sum written out: every part's module reads the text by itself."""
    with torch.no_grad():
        found = [weight * part.model(torch.tensor([ids])).logits[0] for part, weight in policy.parts]
    return torch.stack(found).sum(0)


def sampled(policy: Policy, temperature: float = 0.7, **more: Any) -> list[Response]:
    params = SamplingParams(n=3, temperature=temperature, max_new_tokens=12, raw_logits=True)
    return [answer for found in LocalSampler(policy, **more).sample(PROMPTS, params) for answer in found]


def text_of(policy: Policy, at: int, answer: Response) -> tuple[list[int], list[int]]:
    return LocalSampler(policy).prompt_ids(PROMPTS[at // 3]), list(answer.token_ids or ())


BOTH = pytest.mark.parametrize("make", [pair, mixed])


@BOTH
def test_a_step_gives_the_sum_of_the_modules(make: Callable[[], SumPolicy]) -> None:
    policy = make()
    texts = [[5, 6, 7, 8], [9], [5, 6, 11]]
    with torch.inference_mode():
        logits, decoding = prefill(policy, texts, 4)
        for token in (3, 4, 2):
            for at, ids in enumerate(texts):
                torch.testing.assert_close(logits[at], module_logits(policy, ids)[-1], rtol=1e-4, atol=1e-4)
            kept = [2, 0, 0] if token == 4 else [0, 1, 2]
            decoding.select(torch.tensor(kept))
            texts = [[*texts[at], token] for at in kept]
            logits = decoding.step(torch.tensor([token] * 3))
    assert decoding.states(0) is None


@BOTH
def test_sampling_is_from_the_softmax_of_the_sum_with_one_temperature(make: Callable[[], SumPolicy]) -> None:
    policy = make()
    for at, answer in enumerate(sampled(policy)):
        prompt, drawn = text_of(policy, at, answer)
        logits = module_logits(policy, prompt + drawn)[len(prompt) - 1 : -1]
        chosen = torch.tensor(drawn)[:, None]
        raw = logits.gather(1, chosen)[:, 0]
        expected = (logits / 0.7).log_softmax(-1).gather(1, chosen)[:, 0]
        torch.testing.assert_close(torch.tensor(answer.raw_logits), raw, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.tensor(answer.logp_policy), expected, rtol=1e-4, atol=1e-4)


def test_teacher_forced_log_probabilities_are_those_met_while_sampling() -> None:
    policy = pair()
    view = View(policy)
    for at, answer in enumerate(sampled(policy, temperature=1.0)):
        prompt, drawn = text_of(policy, at, answer)
        segments = (Segment(role="assistant", text="", weight=1.0),)
        tokens = tokenise(segments, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
        tokens = tokens._replace(ids=prompt + drawn, weights=[0.0] * len(prompt) + [1.0] * len(drawn))
        batch = collate([(Row("r", tokens),)], policy.pad_id, policy.device)
        found, _ = view.logp_trained(batch)
        assert answer.logp_policy is not None
        torch.testing.assert_close(found.detach(), torch.tensor(answer.logp_policy), rtol=1e-4, atol=1e-4)


def test_logits_of_a_large_vocabulary_are_made_in_slices_with_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss_and_gradients() -> list[torch.Tensor]:
        policy = pair(0.5, 2.0)
        batch = collate([(row,) for row in rows(policy, 5)], policy.pad_id, policy.device)
        value = View(policy).logp_trained(batch)[0].square().sum()
        value.backward()
        return [value.detach(), *(cast(torch.Tensor, weight.grad) for weight in policy.model.parameters())]

    whole = loss_and_gradients()
    monkeypatch.setattr(logp, "LOGITS_AT_ONCE", 1000)
    for sliced, expected in zip(loss_and_gradients(), whole, strict=True):
        torch.testing.assert_close(sliced, expected, rtol=1e-4, atol=1e-4)


def test_a_part_of_weight_zero_changes_nothing() -> None:
    backbone = fresh(qwen2_policy())
    alone, with_zero = sampled(backbone), sampled(sum_of([(other(), 0.0), (backbone, 1.0)]))
    assert [a.token_ids for a in with_zero] == [a.token_ids for a in alone]
    assert [a.logp_policy for a in with_zero] == [a.logp_policy for a in alone]


def test_three_parts_and_the_order_in_which_they_are_named() -> None:
    third = blank_policy(ProxyLayout(hidden=16, layers=1, heads=2, kv_heads=2, mlp=16), qwen2_tokenizer(), seed=1,
                         chat_format="think")  # fmt: skip
    parts = [(fresh(qwen2_policy()), 1.0), (other(), -0.5), (third, 2.0)]
    ids, last = [5, 6, 7], []
    for order in (parts, parts[::-1]):
        policy = sum_of(order)
        last.append(prefill(policy, [ids], 1)[0][0])
        torch.testing.assert_close(last[-1], module_logits(policy, ids)[-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*last, rtol=1e-4, atol=1e-4)
    assert policy.max_length == 200


def test_kept_texts_are_of_no_use_to_a_sum() -> None:
    policy = pair()
    assert [a.token_ids for a in sampled(policy, keep_tokens=1000)] == [a.token_ids for a in sampled(policy)]


# --- training


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in policy.model.state_dict().items()}


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("adapt", [None, LoRA(rank=2)])
def test_training_moves_the_first_part_alone(adapt: Any, slow: bool) -> None:
    policy = pair()
    if slow:
        called(policy)
    (_, frozen) = (part.policy for part in policy.parts)
    before, trained = weights_of(frozen), weights_of(policy)
    frozen.model.train()
    policy = sum_of(policy.parts)
    learner = Learner(policy, SFT(), adapt=adapt)
    losses = []
    for _ in range(3):
        losses.append(learner.forward_backward(rows(policy, 6)))
        learner.step(1e-2)
    assert losses[2] < losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in frozen.model.state_dict().items())
    assert all(weight.grad is None for weight in frozen.model.parameters())
    assert not frozen.model.training
    assert any(not torch.equal(weight, trained[name]) for name, weight in policy.model.state_dict().items()
               if name in trained) or adapt is not None  # fmt: skip
    report = learner.report()
    assert report.total == policy.num_parameters() > report.trainable


def test_the_gradient_is_that_of_the_sum_written_out() -> None:
    policy = pair(1.5, 0.5)
    (row,) = rows(policy, 1)
    batch = collate([(row,)], policy.pad_id, policy.device)
    SFT()(View(policy), batch).total.backward()
    expected = copy.deepcopy(policy.model)
    expected.zero_grad()
    ids = torch.tensor([row.tokens.ids])
    logits = 1.5 * expected(ids).logits[0] + 0.5 * policy.others[0].policy.model(ids).logits[0].detach()
    picked = -logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0] * torch.tensor(row.tokens.weights)[1:]
    picked.sum().backward()
    for ours, theirs in zip(policy.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


# --- folders


def test_a_checkpoint_holds_the_trained_part_and_names_the_other(tmp_path: Path) -> None:
    save_policy(other(), tmp_path / "backbone", sidecar=Sidecar(chat_format="think"))
    first = fresh(qwen2_policy())
    policy = sum_of([(first, 1.0), (load_policy(tmp_path / "backbone"), 0.5)])
    learner = Learner(policy, SFT())
    learner.forward_backward(rows(policy, 4))
    learner.step(1e-2)
    learner.save(tmp_path / "module", sidecar=Sidecar(chat_format="think"), extra={"at": 7})
    named = json.loads((tmp_path / "module" / "stillroom.json").read_text())["parts"]
    assert named == [{"source": ".", "weight": 1.0}, {"source": str(tmp_path / "backbone"), "weight": 0.5}]

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "module").rename(tmp_path / "elsewhere" / "module")
    again, extra = Learner.restore(tmp_path / "elsewhere" / "module", SFT())
    assert isinstance(again.policy, SumPolicy)
    assert extra == {"at": 7}
    for one in (learner, again):
        one.forward_backward(rows(policy, 5))
        one.step(1e-2)
    assert all(torch.equal(w, again.policy.model.state_dict()[n]) for n, w in policy.model.state_dict().items())
    assert [a.logp_policy for a in sampled(again.policy)] == [a.logp_policy for a in sampled(policy)]
    alone = load_part(tmp_path / "elsewhere" / "module")
    assert not isinstance(alone, SumPolicy)
    assert alone.num_parameters() == first.num_parameters()


def test_a_folder_that_names_parts_is_opened_and_measured(tmp_path: Path) -> None:
    module = sum_of([(fresh(qwen2_policy()), 1.0), (other(), 1.0)])
    save_policy(module, tmp_path / "module", sidecar=Sidecar(chat_format="think"))
    save_policy(other(), tmp_path / "larger", sidecar=Sidecar(chat_format="think"))
    save_sum(tmp_path / "sum", [(tmp_path / "larger", 1.0), (tmp_path / "module", 0.25)], chat_format="think")
    # Whatever lies around it may be moved with it.
    (tmp_path / "elsewhere").mkdir()
    for name in ("module", "larger", "sum"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    folder = tmp_path / "elsewhere" / "sum"
    policy = load_policy(folder)
    assert isinstance(policy, SumPolicy)
    assert [type(part.policy) for part in policy.parts] == [Policy, Policy]
    assert [part.weight for part in policy.parts] == [1.0, 0.25]
    assert "parts" not in json.loads((folder.parent / "larger" / "stillroom.json").read_text())
    found = CliRunner().invoke(app, ["eval", str(folder), "--problems", "2", "--max-new-tokens", "3", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["accuracy"]["n"] == 2


def test_proxies_are_named_by_name(tmp_path: Path) -> None:
    folder = save_sum(tmp_path / "s", [("proxy:student-0.4m", 1.0), ("proxy:lift-base-0.4m", 0.5)], chat_format="think")
    policy = load_policy(folder)
    save_policy(policy, tmp_path / "trained", sidecar=Sidecar(chat_format="think"))
    named = json.loads((tmp_path / "trained" / "stillroom.json").read_text())["parts"]
    assert [part["source"] for part in named] == [".", "proxy:lift-base-0.4m"]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = save_sum(tmp_path / "sum", [("proxy:student-0.4m", 1.0), ("../gone", 1.0)], chat_format="think")
    with pytest.raises(CheckpointError, match=r"sum: a part of this sum is missing: no checkpoint at .*gone"):
        load_policy(folder)


# --- refusals


def test_a_part_that_shares_weights_is_refused() -> None:
    policy = fresh(qwen2_policy())
    with pytest.raises(UserError, match="shares weights with the part that is trained"):
        sum_of([Part(policy), Part(policy)])
    with pytest.raises(UserError, match="two parts or more"):
        sum_of([Part(policy)])


def test_other_vocabularies_are_refused_by_the_first_token_that_differs() -> None:
    with pytest.raises(UserError, match=r"do not share a vocabulary.*token \d+ is .* in the first"):
        sum_of([(fresh(qwen2_policy()), 1.0), (fresh(llama_policy()), 1.0)])


def resized(policy: Policy, tokens: int) -> Policy:
    policy.model.resize_token_embeddings(tokens)
    return policy


def test_padded_embeddings_are_cut_to_what_is_common() -> None:
    size = len(neox_tokenizer())
    policy = sum_of([(resized(fresh(neox_policy()), size + 24), 1.0), (resized(fresh(mamba_policy()), size + 8), 1.0)])
    logits = prefill(policy, [[5, 6]], 1)[0]
    assert logits.shape == (1, size + 8)
    ids = torch.tensor([[5, 6]])
    expected = sum(part.policy.model(ids).logits[0, -1, : size + 8] for part in policy.parts)
    torch.testing.assert_close(logits[0], cast(torch.Tensor, expected).detach(), rtol=1e-4, atol=1e-4)


def test_a_part_with_more_tokens_is_cut_to_those_of_the_first() -> None:
    more: PreTrainedTokenizerFast = copy.deepcopy(neox_tokenizer())
    more.add_tokens(["<extra>"])
    bigger = resized(fresh(mamba_policy()), len(more) + 5)
    bigger = Policy(bigger.model, more, "bigger", stop_ids=bigger.stop_ids, fingerprint="other")
    first = resized(fresh(neox_policy()), len(more) + 9)
    assert sum_of([(first, 1.0), (bigger, 1.0)]).width == len(neox_tokenizer())
    with pytest.raises(UserError, match="'<extra>' in the first, and the second has no such token"):
        sum_of([(bigger, 1.0), (first, 1.0)])

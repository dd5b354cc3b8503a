"""Checkpoints: reopened by plain transformers with the same logits, and refused by name when something is off."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from fixtures_models import SIX, all_states, fresh, llama_policy, qwen2_policy, qwen2_tokenizer, taught
from stillroom.chat import render_chat
from stillroom.errors import CheckpointError, UserError
from stillroom.models.policy import Policy, Sidecar, load_policy, make_policy, require_prompt_fits, save_policy
from stillroom.models.proxies import ProxyLayout, blank_policy, proxy_path
from stillroom.types import Message

SIDECAR = Sidecar(chat_format="think", base="somewhere")
MESSAGES = [
    Message(role="user", content="what is 12 + 30?\n\n\tthe é answer 一"),
    Message(role="assistant", content="42"),
]
LAYOUTS = pytest.mark.parametrize("policy", SIX)


def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


@LAYOUTS
def test_plain_transformers_reopens_what_was_saved(policy: Callable[[], Policy], tmp_path: Path) -> None:
    ours = policy()
    save_policy(ours, tmp_path / "student", sidecar=SIDECAR, card="# A student\n")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    text = render_chat(ours.tokenizer, MESSAGES)
    assert tokenizer.apply_chat_template([m.model_dump() for m in MESSAGES], tokenize=False) == text
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == ours.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert torch.equal(logits_of(model, ids), logits_of(ours.model, ids))
    ends = model.generation_config.eos_token_id
    assert (set(ends) if isinstance(ends, list) else {ends}) <= ours.stop_ids
    assert (tmp_path / "student" / "README.md").read_text() == "# A student\n"

    again = load_policy(tmp_path / "student")
    assert (again.fingerprint, again.stop_ids, again.sidecar) == (ours.fingerprint, ours.stop_ids, SIDECAR)
    assert torch.equal(logits_of(again.model, ids), logits_of(ours.model, ids))


@LAYOUTS
def test_hidden_states_and_head_give_the_model_logits(policy: Callable[[], Policy]) -> None:
    ours = policy()
    ids = taught(ours, "what?", "42").ids
    with torch.no_grad():
        found = ours.logits(all_states(ours, torch.tensor([ids]))[0])
    torch.testing.assert_close(found, logits_of(ours.model, ids), rtol=1e-5, atol=1e-5)


@LAYOUTS
def test_half_precision_is_stored_once_and_widened_on_a_cpu(policy: Callable[[], Policy], tmp_path: Path) -> None:
    ours = policy()
    for name, dtype in (("full", None), ("half", torch.float16)):
        save_policy(ours, tmp_path / name, sidecar=SIDECAR, dtype=dtype)
    full, half = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "half"))
    # Tied weights are one tensor in either file.
    assert set(full) == set(half)
    heads = {"lm_head.weight", "embed_out.weight"} & set(half)
    assert len(heads) == (0 if ours.model.config.tie_word_embeddings else 1)
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    opened = load_policy(tmp_path / "half").model
    assert opened.dtype is torch.float32
    weights = opened.state_dict()
    names = {name: name.replace("embed_out", "lm_head") for name in full}  # as GPT-NeoX files have it
    assert all(torch.equal(weights[names[name]], tensor.half().float()) for name, tensor in full.items())


def test_training_tied_weights_moves_both_ends(tmp_path: Path) -> None:
    policy = fresh(qwen2_policy())
    with torch.no_grad():
        policy.model.get_input_embeddings().weight += 1.0
    save_policy(policy, tmp_path / "student", sidecar=SIDECAR)
    again = load_policy(tmp_path / "student").model
    assert torch.equal(again.get_output_embeddings().weight, policy.model.get_input_embeddings().weight)


def test_saving_over_a_checkpoint_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "student"
    save_policy(qwen2_policy(), path, sidecar=SIDECAR)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(llama_policy().tokenizer), "save_pretrained", full)
        with pytest.raises(OSError, match="no space"):
            save_policy(llama_policy(), path, sidecar=SIDECAR)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    save_policy(llama_policy(), path, sidecar=SIDECAR)
    assert load_policy(path).model.config.model_type == "llama"
    assert os.listdir(tmp_path) == ["student"]


# --- refusals


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_policy(qwen2_policy(), tmp_path / "student", sidecar=SIDECAR)
    return tmp_path / "student"


def rewrite_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights_are_refused_by_name(checkpoint: Path, kept: float) -> None:
    file = checkpoint / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated or damaged"):
        load_policy(checkpoint)


def test_a_shard_that_is_absent_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    qwen2_policy().model.save_pretrained(checkpoint, max_shard_size="20KB")
    _, second, *_ = sorted(checkpoint.glob("model-*.safetensors"))
    assert load_policy(checkpoint).num_parameters() == qwen2_policy().num_parameters()
    second.unlink()
    with pytest.raises(CheckpointError, match=second.name):
        load_policy(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_files_are_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_policy(checkpoint)


def test_pickles_are_not_opened(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin, which may run code"):
        load_policy(checkpoint)


NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing", lambda weights: weights.pop(NAME)),
        ("unexpected", lambda weights: weights.update({NAME.replace("1", "2"): torch.zeros(32, 16)})),
        ("misshapen", lambda weights: weights.update({NAME: torch.zeros(16, 16)})),
    ],
)
def test_weights_that_do_not_fill_the_model_are_refused(checkpoint: Path, kind: str, change: Any) -> None:
    rewrite_weights(checkpoint, change)
    with pytest.raises(CheckpointError, match=rf"1 {kind} \(model\.layers\.[12]\.mlp\.up_proj\.weight\)"):
        load_policy(checkpoint)


def test_a_config_of_another_model_is_refused(checkpoint: Path) -> None:
    rewrite_config(checkpoint, hidden_size=32)
    with pytest.raises(CheckpointError, match="misshapen"):
        load_policy(checkpoint)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "nothing-known"}'])
def test_a_broken_config_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="student"):
        load_policy(checkpoint)


def test_a_broken_sidecar_is_refused(checkpoint: Path) -> None:
    (checkpoint / "stillroom.json").write_text('{"chat_format": 3}')
    with pytest.raises(CheckpointError, match=r"stillroom\.json"):
        load_policy(checkpoint)


def test_an_unsupported_layout_is_refused_by_name(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=300)).save_pretrained(tmp_path)
    qwen2_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="layout 'gpt2' is not supported yet; supported: qwen2, llama"):
        load_policy(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(40)])
    tokenizer.save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match="338 tokens and the model only 298 embeddings"):
        load_policy(checkpoint)


def test_a_model_that_never_ends_is_refused() -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    policy = fresh(qwen2_policy())
    policy.model.generation_config.eos_token_id = None
    policy.model.config.eos_token_id = None
    with pytest.raises(CheckpointError, match="names an end token"):
        make_policy(policy.model, words, source="endless")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the folder does not exist"):
        load_policy(tmp_path / "nothing")


def test_a_template_from_a_file_replaces_the_tokenizers_own(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    policy = load_policy(checkpoint, chat_template=tmp_path / "mine.jinja")
    assert render_chat(policy.tokenizer, MESSAGES[1:]) == "[42]"


def test_fingerprints_tell_vocabularies_apart() -> None:
    ours = qwen2_policy()
    assert fresh(ours).fingerprint == ours.fingerprint != llama_policy().fingerprint
    swapped = json.loads(ours.tokenizer.backend_tokenizer.to_str())
    first, second = list(swapped["model"]["vocab"])[:2]
    vocabulary = swapped["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(swapped)), eos_token=ours.tokenizer.eos_token
    )
    assert make_policy(ours.model, tokenizer, source="swapped").fingerprint != ours.fingerprint


def test_a_blank_policy_depends_on_its_seed_alone() -> None:
    layout = ProxyLayout(hidden=16, layers=1, heads=2, kv_heads=1, mlp=16)

    def weights(seed: int) -> torch.Tensor:
        torch.rand(3)  # what others draw changes nothing
        policy = blank_policy(layout, qwen2_tokenizer(), seed=seed, chat_format="think")
        return torch.nn.utils.parameters_to_vector(policy.model.parameters())

    state = torch.get_rng_state()
    blank_policy(layout, qwen2_tokenizer(), seed=0, chat_format="think")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_prompt_that_does_not_fit_and_an_unknown_proxy_are_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"257 tokens .* positions for 256"):
        require_prompt_fits(qwen2_policy(), 257, "a prompt")
    require_prompt_fits(qwen2_policy(), 256, "a prompt")
    with pytest.raises(UserError, match="unknown proxy"):
        proxy_path("stduent-0.4m")

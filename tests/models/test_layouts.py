"""The supported layouts: opened, trained a step, saved, and reopened elsewhere with the same logits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM

from fixtures_models import SIX, all_states, fresh, gemma_policy, gemma_tokenizer, neox_tokenizer, rows
from stillroom.errors import CheckpointError
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.models.decoding import prefill
from stillroom.models.policy import LAYOUTS, Policy, Sidecar, load_policy
from stillroom.models.tokens import token_bytes

EACH = pytest.mark.parametrize("policy", SIX)
SIDECAR = Sidecar(chat_format="think")


def test_every_listed_layout_is_tested() -> None:
    assert {make().model.config.model_type for make in SIX} == set(LAYOUTS)


@EACH
def test_a_trained_step_is_kept_and_reopens_in_plain_transformers(policy: Callable[[], Policy], tmp_path: Path) -> None:
    taught = rows(policy(), 6)
    learner = Learner(fresh(policy()), SFT())
    learner.forward_backward(taught)
    before = learner.step(1e-2).loss
    learner.save(tmp_path / "student", sidecar=SIDECAR, extra={"at": 1})

    ids = torch.tensor([taught[3].tokens.ids])
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "student")(ids).logits
        ours = learner.policy.logits(all_states(learner.policy, ids)[0])
    torch.testing.assert_close(ours, plain[0], rtol=1e-5, atol=1e-5)

    again, extra = Learner.restore(tmp_path / "student", SFT())
    assert (again.steps, extra) == (1, {"at": 1})
    losses = []
    for one in (again, learner):
        torch.manual_seed(3)  # OPT drops out
        one.forward_backward(taught)
        losses.append(one.step(1e-2).loss)
    assert losses[0] == losses[1] < before
    left, right = (one.policy.model.state_dict() for one in (again, learner))
    assert all(torch.equal(left[name], tensor) for name, tensor in right.items())


@EACH
def test_rows_continued_together_have_the_logits_of_each_row_alone(policy: Callable[[], Policy]) -> None:
    ours = policy()
    lines = [row.tokens.ids[:length] for row, length in zip(rows(ours, 4), (9, 30, 2, 17), strict=True)]
    then = [5, 9, 4]
    with torch.no_grad():
        logits, decoding = prefill(ours, lines, len(then))
        for token in then:
            logits = decoding.step(torch.full((len(logits),), token))
        alone = [ours.model(torch.tensor([[*line, *then]])).logits[0, -1] for line in lines]
        torch.testing.assert_close(logits, torch.stack(alone), rtol=1e-4, atol=1e-4)

        # Rows are dropped, doubled and put in another order.
        logits, decoding = prefill(ours, lines, len(then))
        decoding.select(torch.tensor([2, 0, 2]))
        for token in then:
            logits = decoding.step(torch.tensor([token] * 3))
        torch.testing.assert_close(logits, torch.stack([alone[2], alone[0], alone[2]]), rtol=1e-4, atol=1e-4)


@EACH
def test_half_precision_has_the_logits_of_the_model(policy: Callable[[], Policy]) -> None:
    ours = fresh(policy(), torch.bfloat16)
    ids = torch.tensor([rows(ours, 1)[0].tokens.ids])
    with torch.no_grad():
        theirs = ours.model(ids).logits[0].bfloat16()
        torch.testing.assert_close(ours.logits(all_states(ours, ids)[0]), theirs)
        logits, decoding = prefill(ours, ids[:, :-1].tolist(), 1)
        logits = decoding.step(ids[:, -1])
        torch.testing.assert_close(logits[0], theirs[-1], rtol=0.1, atol=0.1)


@EACH
def test_the_bytes_of_tokens_make_up_the_decoded_text(policy: Callable[[], Policy]) -> None:
    tokenizer = policy().tokenizer
    written = token_bytes(tokenizer)
    assert len(written) == len(tokenizer)
    text = "what is 12 + 30?\n\n\tthe é answer 一  <think>\r\x00"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(written[token] for token in ids) == text.encode()
    assert len(set(written)) > 256
    if policy is not gemma_policy:  # with byte fallback, broken runs are given up as a whole
        every = torch.randint(len(written), (500,), generator=torch.Generator().manual_seed(0)).tolist()
        assert b"".join(written[token] for token in every).decode(errors="replace") == tokenizer.decode(every)
    for token in policy().stop_ids:
        assert written[token].decode() == tokenizer.decode([token])


def test_a_head_that_does_more_than_multiply_is_refused(tmp_path: Path) -> None:
    tokenizer = gemma_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="layout 'gemma2' is not supported yet"):
        load_policy(tmp_path)


def test_a_recurrent_state_that_padding_would_change_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=290, hidden_size=8, state_size=2, num_hidden_layers=1, use_bias=True)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    neox_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="lets padding into its state"):
        load_policy(tmp_path)

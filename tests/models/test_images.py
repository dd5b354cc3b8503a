"""Policies that see: the same logits in plain transformers, the same tokens in any company, and nothing hostile."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from fixtures_images import ONE, OTHER, SMALL, TWO, conversation, llava_policy, qwen2_vl_policy, seeing, shows
from fixtures_models import fresh, qwen2_policy
from stillroom.chat import render_chat, weights_shown
from stillroom.errors import CheckpointError, UserError
from stillroom.learn.adapt.base import AdamW
from stillroom.learn.adapt.groups import Groups
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.adapt.spec import parse_adapt
from stillroom.learn.batches import collate, make_row
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.models.composite import sum_of
from stillroom.models.decoding import prefill
from stillroom.models.images import SEEING, group_of
from stillroom.models.policy import Policy, Sidecar, load_policy
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.samplers.pictures import drawn, encode, teach
from stillroom.tasks.scenes import draw
from stillroom.types import Message, Segment

EACH = pytest.mark.parametrize("policy", TWO)
SIDECAR = Sidecar(chat_format="think")


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def prompts() -> list[Prompt]:
    """Of different lengths, with no picture, one and two, of different sizes."""
    said = [
        shows(ONE),
        "what is 12 + 30?",
        shows(OTHER, "More circles or more squares, or same?"),
        shows(SMALL) + shows(ONE, "and here?"),
    ]
    return [Prompt(messages=user(text), seed=number) for number, text in enumerate(said)]


def test_every_listed_layout_is_tested() -> None:
    assert {make().model.config.model_type for make in TWO} == set(SEEING)


@EACH
def test_a_trained_step_is_kept_and_reopens_in_plain_transformers(policy: Callable[[], Policy], tmp_path: Path) -> None:
    learner = Learner(seeing(policy()), SFT())
    taught = [
        make_row(f"row{i}", conversation(word, answer), learner.policy)
        for i, (word, answer) in enumerate(((ONE, "3"), (OTHER, "1 or 2"), (None, "42"), (SMALL, "2")))
    ]
    learner.forward_backward(taught)
    before = learner.step(1e-2).loss
    learner.save(tmp_path / "student", sidecar=SIDECAR, extra={"at": 1})

    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "student")
    image_processor = AutoImageProcessor.from_pretrained(tmp_path / "student")
    given = image_processor(images=[draw(f"scene:plain/{ONE}")], return_tensors="pt")
    ids = torch.tensor([taught[0].tokens.ids])
    extra = {"mm_token_type_ids": (ids == learner.policy.vision.token_id).int()} if "image_grid_thw" in given else {}
    with torch.no_grad():
        theirs = plain(input_ids=ids, **given, **extra).logits[0]
        batch = collate([(taught[0],)], 0, vision=learner.policy.vision)
        wanted = torch.ones_like(ids, dtype=torch.bool)
        ours = learner.policy.logits(learner.policy.states(ids, batch.row_LT, wanted, None, batch.images))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    again, found = Learner.restore(tmp_path / "student", SFT())
    assert (again.steps, found) == (1, {"at": 1})
    assert again.policy.vision is not None
    losses = []
    for one in (again, learner):
        one.forward_backward(taught)
        losses.append(one.step(1e-2).loss)
    assert losses[0] == losses[1] < before


def test_a_saved_processor_makes_the_same_tokens(tmp_path: Path) -> None:
    """Llava's whole processor opens without torchvision; it reads what we read."""
    ours = llava_policy()
    Learner(seeing(ours), SFT()).export(tmp_path / "student", sidecar=SIDECAR)
    processor = AutoProcessor.from_pretrained(tmp_path / "student")
    text = render_chat(ours.tokenizer, user("<image>\nHow many red?"), generate=True)
    given = processor(text=text, images=[draw(f"scene:plain/{ONE}")], return_tensors="pt")
    assert given["input_ids"][0].tolist() == list(encode(ours, user(shows(ONE))).ids)
    assert torch.equal(given["pixel_values"], ours.vision.tensors(drawn([f"scene:plain/{ONE}"]))["pixel_values"])


@EACH
def test_a_picture_takes_the_tokens_that_its_layout_says(policy: Callable[[], Policy]) -> None:
    ours = policy()
    for word, pixels in ((ONE, 48 * 48), (SMALL, 24 * 24)):
        ids = encode(ours, user(shows(word))).ids
        assert ids.count(ours.vision.token_id) == (16 if policy is llava_policy else pixels // 24**2)
    both = encode(ours, user(shows(SMALL) + shows(ONE)))
    assert both.pictures == (f"scene:plain/{SMALL}", f"scene:plain/{ONE}")
    assert both.ids.count(ours.vision.token_id) == (32 if policy is llava_policy else 5)


@EACH
def test_rows_read_together_have_the_logits_of_each_row_alone(policy: Callable[[], Policy]) -> None:
    ours = policy()
    encoded = [encode(ours, prompt.messages) for prompt in prompts()]
    then = [5, 9, 4]
    order = [2, 0, 3, 1, 2]
    with torch.no_grad():
        found = []
        for batch in ([0, 1, 2, 3], [3, 1], [2], [0], [1], order):
            pictures = drawn([word for at in batch for word in encoded[at].pictures])
            logits, decoding = prefill(ours, [encoded[at].ids for at in batch], len(then), None, pictures)
            for token in then:
                logits = decoding.step(torch.full((len(logits),), token))
            found += list(zip(batch, logits, strict=True))
        for at in range(4):
            together = [logits for place, logits in found if place == at]
            assert len(together) >= 3
            for logits in together[1:]:
                torch.testing.assert_close(logits, together[0], rtol=1e-4, atol=1e-4)
            # Padded on the right, in training: the states of the same tokens.
            segments = [Segment(role=m.role, text=m.content) for m in prompts()[at].messages]
            row = make_row("row", [*segments, Segment(role="assistant", text="7", weight=1.0)], ours)
            other = make_row("other", conversation(OTHER, "a much longer answer " * 4), ours)
            length = len(encoded[at].ids)
            assert row.tokens.ids[:length] == list(encoded[at].ids)
            laid = collate([(row,), (other,)], ours.pad_id, vision=ours.vision)
            wanted = torch.zeros_like(laid.ids_LT, dtype=torch.bool)
            wanted[0, length - 1] = True
            states = ours.states(laid.ids_LT, laid.row_LT, wanted, None, laid.images)
            alone, _ = prefill(ours, [encoded[at].ids], 1, None, drawn(encoded[at].pictures))
            torch.testing.assert_close(ours.logits(states), alone, rtol=1e-4, atol=1e-4)


@EACH
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_do_not_depend_on_the_company(policy: Callable[[], Policy], temperature: float) -> None:
    asked = prompts()
    params = SamplingParams(n=3, temperature=temperature, max_new_tokens=6)
    large, small = LocalSampler(policy()), LocalSampler(policy(), batch_rows=1)
    together = [[r.token_ids for r in answers] for answers in large.sample(asked, params)]
    one_by_one = [[r.token_ids for r in answers] for answers in small.sample(asked, params)]
    turned = [[r.token_ids for r in answers] for answers in large.sample(asked[::-1], params)][::-1]
    single = [[r.token_ids for r in a] for a in large.sample(asked, params.model_copy(update={"n": 1}))]
    assert together == one_by_one == turned
    assert [answers[:1] for answers in together] == single
    assert len({tuple(answers) for answers in together}) > 1


@EACH
def test_another_picture_is_seen(policy: Callable[[], Policy]) -> None:
    """One cell of another colour, and all other tokens the same."""
    ours = policy()
    left, right = (encode(ours, user(shows(word))) for word in (ONE, ONE.replace("rc", "bc")))
    assert left.ids == right.ids
    with torch.no_grad():
        logits = [prefill(ours, [one.ids], 1, None, drawn(one.pictures))[0] for one in (left, right)]
    assert float((logits[0] - logits[1]).abs().max()) > 1e-3


@EACH
def test_image_tokens_are_never_trained(policy: Callable[[], Policy]) -> None:
    ours = policy()
    # Even where the user's own words are.
    segments = [Segment(role="user", text=shows(ONE), weight=1.0), Segment(role="assistant", text="3", weight=1.0)]
    tokens, pictures = teach(ours, segments)
    assert pictures == (f"scene:plain/{ONE}",)
    assert all(w == 0 for t, w in zip(tokens.ids, tokens.weights, strict=True) if t == ours.vision.token_id)
    plain = teach(ours, conversation(ONE, "3")).tokens
    assert weights_shown(plain, ours.tokenizer.decode).endswith("assistant\n⟦3<|im_end|>⟧\n")


@EACH
def test_the_loss_does_not_depend_on_the_cut_into_batches(policy: Callable[[], Policy]) -> None:
    given = ((ONE, "3"), (None, "forty two"), (OTHER, "12 12"), (SMALL, "2"), (ONE, "one more answer"))
    gradients = []
    for micro_tokens in (4096, 1, 90):
        learner = Learner(seeing(policy(), torch.float64), SFT(), micro_tokens=micro_tokens)
        rows = [make_row(f"row{i}", conversation(*one), learner.policy) for i, one in enumerate(given)]
        loss = learner.forward_backward(rows)
        named = learner.policy.model.named_parameters()
        gradients.append((loss, {name: p.grad for name, p in named if p.grad is not None}))
    for loss, gradient in gradients[1:]:
        assert loss == pytest.approx(gradients[0][0], rel=1e-9)
        for name, tensor in gradient.items():
            torch.testing.assert_close(tensor, gradients[0][1][name], rtol=1e-6, atol=1e-9)
    reached = {group_of(policy().model.config.model_type, name) for name in gradients[0][1]}
    assert reached == {"vision", "projector", "text"}


@EACH
@pytest.mark.parametrize("train", [("vision",), ("projector",), ("text",), ("projector", "text")])
def test_only_the_chosen_parts_move(policy: Callable[[], Policy], train: tuple[str, ...]) -> None:
    ours = seeing(policy())
    before = {name: p.detach().clone() for name, p in ours.model.named_parameters()}
    learner = Learner(ours, SFT(), adapt=parse_adapt(f"groups:{','.join(train)}"))
    learner.forward_backward([make_row("row", conversation(ONE, "3"), ours)])
    learner.step(1e-2)
    moved = {name for name, p in ours.model.named_parameters() if not torch.equal(p, before[name])}
    groups = {group_of(ours.vision.layout, name) for name in moved}
    assert groups == set(train)
    sizes = sum(p.numel() for name, p in before.items() if group_of(ours.vision.layout, name) in train)
    assert learner.report().trainable == sizes


def test_parts_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="unknown part of a model that sees 'eyes'"):
        parse_adapt("groups:eyes")
    with pytest.raises(UserError, match="nothing would move"):
        parse_adapt("groups:")
    with pytest.raises(UserError, match="reads text alone"):
        Groups(("text",)).attach(fresh(qwen2_policy()), AdamW(), seed=0)


@EACH
def test_adapters_are_for_the_text_part(policy: Callable[[], Policy], tmp_path: Path) -> None:
    ours = seeing(policy())
    learner = Learner(ours, SFT(), adapt=LoRA(rank=2))
    learner.forward_backward([make_row("row", conversation(ONE, "3"), ours)])
    learner.step(1e-2)
    adapted = {name for name, _ in ours.model.named_parameters() if ".lora_" in name}
    assert adapted
    assert {group_of(ours.vision.layout, name) for name in adapted} == {"text"}
    learner.export(tmp_path / "merged", sidecar=SIDECAR)
    encoded = encode(ours, user(shows(ONE)))
    with torch.no_grad():
        logits = [
            prefill(one, [encoded.ids], 1, None, drawn(encoded.pictures))[0]
            for one in (ours, load_policy(tmp_path / "merged"))
        ]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)


HOSTILE = (
    "<image>",
    "<image><image> how many?",
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|><|video_pad|>",
    "![](scene:plain/9)",
    "![](scene:nowhere/1)![](scene:",
    "![](scene:plain/" + "1" * 40 + ")",
    "\x00<image\u202e>![](scene:plain/1)<image>",
)


@EACH
@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_looks_like_a_picture_is_text(policy: Callable[[], Policy], text: str) -> None:
    ours = policy()
    shown = encode(ours, user(text + shows(ONE)), prefix=text)
    assert len(shown.pictures) == 1 + text.count("![](scene:plain/1)")
    taught, pictures = teach(
        ours, [Segment(role="user", text=text + shows(ONE)), Segment(role="assistant", text=text, weight=1.0)]
    )
    assert taught.ids[: shown.ids.index(ours.vision.token_id)] == list(
        shown.ids[: shown.ids.index(ours.vision.token_id)]
    )
    assert pictures == shown.pictures
    sampler = LocalSampler(ours)
    (answers,) = sampler.sample(
        [Prompt(messages=user(text + shows(ONE)), prefix=text)], SamplingParams(n=2, max_new_tokens=2)
    )
    assert len(answers) == 2


@EACH
def test_tokens_of_pictures_are_never_drawn(policy: Callable[[], Policy]) -> None:
    """However likely: what a model writes must not change how many pictures a row needs."""
    ours = seeing(policy())
    head = ours.model.get_output_embeddings()
    with torch.no_grad():
        for token in ours.vision.marks:
            head.weight[token] = head.weight.mean(0) * 50
    for rows in (1, 256):
        for temperature in (0.0, 3.0):
            params = SamplingParams(n=4, temperature=temperature, max_new_tokens=8)
            for answer in LocalSampler(ours, batch_rows=rows).sample(prompts()[:1], params)[0]:
                assert not set(answer.token_ids) & set(ours.vision.marks)


def test_who_does_not_see_is_refused() -> None:
    with pytest.raises(UserError, match="reads text alone and is asked about a picture"):
        LocalSampler(qwen2_policy()).sample([Prompt(messages=user(shows(ONE)))], SamplingParams())
    with pytest.raises(UserError, match="reads text alone"):
        make_row("row", conversation(ONE, "3"), qwen2_policy())
    # Pictures are the user's to show.
    said = (Message(role="system", content=shows(ONE)), Message(role="user", content="what is 12 + 30?"))
    assert encode(qwen2_policy(), said).pictures == ()
    with pytest.raises(UserError, match="sees pictures"):
        sum_of([(llava_policy(), 1.0), (qwen2_vl_policy(), 1.0)])


def test_a_checkpoint_without_its_processor_is_refused(tmp_path: Path) -> None:
    Learner(seeing(llava_policy()), SFT()).export(tmp_path / "student", sidecar=SIDECAR)
    (tmp_path / "student" / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="save the model's processor too"):
        load_policy(tmp_path / "student")


def test_a_template_that_drops_the_picture_is_refused() -> None:
    ours = seeing(llava_policy())
    tokenizer = ours.tokenizer
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% for m in messages %}{{ m.content | replace('<image>', '') }}{% endfor %}"
        with pytest.raises(UserError, match="shows 1 pictures and holds 0 image tokens"):
            encode(ours, user(shows(ONE)))
    finally:
        tokenizer.chat_template = kept


def test_pictures_have_the_size_that_the_eyes_want() -> None:
    """Another size is scaled, so that a scene of any grid can be asked about."""
    tensors = llava_policy().vision.tensors([np.zeros((24, 36, 3), np.uint8), draw(f"scene:plain/{ONE}")])
    assert tensors["pixel_values"].shape == (2, 3, 48, 48)

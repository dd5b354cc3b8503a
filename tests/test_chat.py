"""Chat formats: reading back whatever a model wrote, and the road from segments to trained tokens, mask by mask."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import QWEN3_TEMPLATE, llama_policy, llama_tokenizer, qwen2_policy, qwen2_tokenizer
from stillroom.chat import (
    FORMATS,
    ParseStatus,
    ask,
    get_format,
    parse,
    render,
    render_chat,
    split_steps,
    tokenise,
    weights_shown,
)
from stillroom.errors import UserError
from stillroom.models.policy import Policy
from stillroom.types import Message, Problem, Segment

# Pieces that meet in real broken answers, and anything else.
HOSTILE = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "nk>", "\n", "\n\n", " ", ".", "a", "\\boxed{", "}", "\ud800", "é"])
    | st.text(st.characters(codec=None, categories=None), max_size=5),
    max_size=12,
).map("".join)


# --- reading back


@pytest.mark.parametrize(
    ("text", "thought", "answer", "status"),
    [
        ("<think>a</think>b", "a", "b", ParseStatus.OK),
        ("b", "", "b", ParseStatus.OK),
        ("x<think>a</think>b", "a", "b", ParseStatus.OK),
        ("", "", "", ParseStatus.EMPTY),
        (" \n", "", " \n", ParseStatus.EMPTY),
        ("a</think>b", "a", "b", ParseStatus.UNOPENED),
        ("<think>a", "a", "", ParseStatus.UNCLOSED),
        ("a</think>b<think>c", "c", "", ParseStatus.UNCLOSED),
        ("<think>a</think>b<think>c", "a</think>b<think>c", "", ParseStatus.UNCLOSED),
        ("<think>a<think>b</think>c", "a<think>b", "c", ParseStatus.NESTED),
        ("<think>a</think>b</think>c", "a</think>b", "c", ParseStatus.NESTED),
        ("<think>a</think>b<think>c</think>d", "a</think>b<think>c", "d", ParseStatus.NESTED),
        ("a</think>b</think>c", "a</think>b", "c", ParseStatus.NESTED),
    ],
)
def test_every_layout_has_its_status(text: str, thought: str, answer: str, status: ParseStatus) -> None:
    assert parse(text) == (thought, answer, status)


@given(HOSTILE)
def test_every_text_has_exactly_one_outcome(text: str) -> None:
    found = parse(text)
    assert found.status in ParseStatus
    assert found.thought in text
    assert found.answer in text
    assert (found.status is ParseStatus.UNCLOSED) <= (found.answer == "")


@given(st.text(max_size=30), st.text(max_size=10), st.sampled_from(["think"]))
def test_what_is_rendered_is_read_back(thought: str, answer: str, name: str) -> None:
    chat_format = get_format(name)
    text = render(chat_format, thought, answer)
    found = parse(text)
    if found.status is ParseStatus.OK:  # a thought may hold the markers themselves
        assert found.thought == f"\n{thought}\n"
        assert found.answer == f"\n\\boxed{{{answer}}}"
    else:
        assert "think>" in thought + answer


def test_a_long_hostile_text_is_read_in_linear_time() -> None:
    for piece in ("<think>", "</think>", "\n", "\n ", ". ", "<think></think>"):
        text = piece * (30_000 // len(piece))
        parse(text)
        for mode in ("line", "paragraph", "sentence"):
            assert split_steps(text, mode)[-1].end == len(text)


@given(HOSTILE, st.sampled_from(["line", "paragraph", "sentence"]))
def test_steps_join_back_to_the_text(text: str, mode: Any) -> None:
    steps = split_steps(text, mode)
    assert "".join(text[step.start : step.end] for step in steps) == text
    assert all(step.start < step.end for step in steps)


@pytest.mark.parametrize(
    ("mode", "text", "steps"),
    [
        ("line", "a\nb\n\nc", ["a\n", "b\n\n", "c"]),
        ("line", "\na", ["\n", "a"]),
        ("paragraph", "a\nb\n \nc\n", ["a\nb\n \n", "c\n"]),
        ("sentence", "It is 1.5. Is it? Yes!\nOk", ["It is 1.5. ", "Is it? ", "Yes!\n", "Ok"]),
        ("line", "", []),
    ],
)
def test_where_steps_are_cut(mode: Any, text: str, steps: list[str]) -> None:
    assert [text[step.start : step.end] for step in split_steps(text, mode)] == steps


def test_asking_appends_options_and_instruction_to_the_last_message() -> None:
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="yes?"))
    problem = Problem(
        id="p", task="t", messages=(*messages, Message(role="user", content="2+2?")), reference="B", options=("3", "4")
    )
    asked = ask(problem, FORMATS["boxed"], system="Be brief.")
    assert [message.role for message in asked] == ["system", "user", "assistant", "user"]
    assert asked[-1].content == f"2+2?\n(A) 3\n(B) 4\n\n{FORMATS['boxed'].instruction}"
    assert asked[1:3] == messages


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown chat format 'thnk'; did you mean think\?"):
        get_format("thnk")


# --- masks: what is trained stands in ⟦brackets⟧


def masked(tokenizer: Any, *segments: Segment, policy: Policy) -> str:
    tokens = tokenise(segments, tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
    assert len(tokens.ids) == len(tokens.weights)
    return weights_shown(tokens, tokenizer.decode)


def user(text: str) -> Segment:
    return Segment(role="user", text=text)


def assistant(text: str, weight: float = 1.0) -> Segment:
    return Segment(role="assistant", text=text, weight=weight)


def with_template(template: str) -> Any:
    tokenizer = copy.deepcopy(qwen2_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def test_mask_of_the_proxy_template() -> None:
    shown = masked(qwen2_tokenizer(), user("1+2?"), assistant("<think>\n3\n</think>\n3"), policy=qwen2_policy())
    assert shown == ("<|im_start|>user\n1+2?<|im_end|>\n<|im_start|>assistant\n⟦<think>\n3\n</think>\n3<|im_end|>⟧\n")


def test_mask_of_every_trained_turn_and_of_no_other() -> None:
    shown = masked(
        qwen2_tokenizer(), user("a"), assistant("b", 0.0), user("c"), assistant("d"), user("e"), policy=qwen2_policy()
    )
    assert shown == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>⟧\n<|im_start|>user\ne<|im_end|>\n"
    )


@pytest.mark.parametrize("margin", ["", "\n", "\n\n \n", "\n" * 60])
def test_mask_of_a_header_template_that_trims(margin: str) -> None:
    shown = masked(
        llama_tokenizer(),
        user(f"{margin}1 + 2?{margin}"),
        assistant(f"{margin}it is\n 3{margin}"),
        user("sure?"),
        assistant("yes"),
        policy=llama_policy(),
    )
    user_header, header = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))
    assert shown == (
        f"<|begin_of_text|>{user_header}1 + 2?<|eot_id|>{header}⟦it is\n 3<|eot_id|>⟧"
        f"{user_header}sure?<|eot_id|>{header}⟦yes<|eot_id|>⟧"
    )


def test_mask_of_a_template_that_writes_the_last_thought_anew() -> None:
    tokenizer = with_template(QWEN3_TEMPLATE)
    shown = masked(tokenizer, user("user"), assistant("<think>\nb\n</think>\n\nc"), policy=qwen2_policy())
    assert shown == ("<|im_start|>user\nuser<|im_end|>\n<|im_start|>assistant\n⟦<think>\nb\n</think>\n\nc<|im_end|>⟧\n")


def test_a_text_is_not_mistaken_for_its_header() -> None:
    # "s" also stands in "<|im_start|>assistant" before it, and the thought makes the template look into the texts.
    segments = [user("s"), assistant("<think>\nb\n</think>\n\nc"), Segment(role="tool", text="4"), assistant("s")]
    shown = masked(with_template(QWEN3_TEMPLATE), *segments, policy=qwen2_policy())
    assert shown.endswith("<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n⟦s<|im_end|>⟧\n")


@pytest.mark.parametrize(
    "segments",
    [
        # An earlier thought is dropped: two turns.
        [user("a"), assistant("<think>\nb\n</think>\n\nc"), user("d"), assistant("<think>\ne\n</think>\n\nf")],
        # One line break where the template writes two.
        [user("a"), assistant("<think>\nb\n</think>\nc")],
    ],
)
def test_a_template_that_rewrites_what_it_is_given_is_refused(segments: list[Segment]) -> None:
    with pytest.raises(UserError, match=r"rewrites turn 1 \(assistant\).*--chat-template"):
        masked(with_template(QWEN3_TEMPLATE), *segments, policy=qwen2_policy())


@pytest.mark.parametrize("template", [qwen2_tokenizer().chat_template, QWEN3_TEMPLATE])
def test_a_template_that_generates_from_elsewhere_is_refused(template: str) -> None:
    tokenizer = with_template(template.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"))
    text = "<think>\nb\n</think>\n\nc"
    # The prompt that opens the thought is consistent with a text that begins with it, and with no other.
    assert "⟦<think>\nb" in masked(tokenizer, user("a"), assistant(text), policy=qwen2_policy())
    with pytest.raises(UserError, match=r"opens an assistant turn with '.*<think>.*' when it generates"):
        masked(tokenizer, user("a"), assistant("c"), policy=qwen2_policy())


def test_no_template_and_refused_roles_are_named() -> None:
    with pytest.raises(UserError, match="no chat template"):
        render_chat(with_template(None), [Message(role="user", content="a")])  # type: ignore[arg-type]
    tokenizer = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UserError, match="roles must alternate"):
        render_chat(tokenizer, [Message(role="user", content="a")])


def test_a_token_across_a_boundary_is_not_trained() -> None:
    tokenizer = qwen2_tokenizer()
    merged = next(t for t in ("answer", "the", "what") if len(tokenizer(t, add_special_tokens=False)["input_ids"]) == 1)
    shown = masked(
        tokenizer, user("a"), assistant(f"12{merged[:2]}", 0.0), assistant(f"{merged[2:]}34"), policy=qwen2_policy()
    )
    assert shown.endswith(f"assistant\n12{merged}⟦34<|im_end|>⟧\n")
    # The same boundary between tokens costs nothing.
    shown = masked(tokenizer, user("a"), assistant("12", 0.0), assistant(f"{merged}34"), policy=qwen2_policy())
    assert shown.endswith(f"assistant\n12⟦{merged}34<|im_end|>⟧\n")


def test_white_space_belongs_to_its_token_whatever_the_offsets_say() -> None:
    # This tokenizer reports " answer" as "answer": the space before it is the other segment's.
    tokenizer = llama_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer(" answer")["input_ids"]) == ["Ġanswer"]
    shown = masked(tokenizer, user("a"), assistant("the ", 0.0), assistant("answer is"), policy=llama_policy())
    assert shown.endswith("\n\nthe answer⟦ is<|eot_id|>⟧")


def test_every_segment_of_a_turn_has_its_own_weight() -> None:
    policy = qwen2_policy()
    tokens = tokenise(
        [user("a"), assistant("12", 0.5), assistant("34", 0.0), assistant("56", 2.0)],
        policy.tokenizer,
        fingerprint=policy.fingerprint,
        stop_ids=policy.stop_ids,
    )
    weighted = [(policy.tokenizer.decode([i]), w) for i, w in zip(tokens.ids, tokens.weights, strict=True)]
    assert weighted[-8:] == [
        ("1", 0.5), ("2", 0.5), ("3", 0.0), ("4", 0.0), ("5", 2.0), ("6", 2.0), ("<|im_end|>", 2.0), ("\n", 0.0)
    ]  # fmt: skip


@pytest.mark.parametrize("policy", [qwen2_policy, llama_policy])
@pytest.mark.parametrize("margin", ["", "\n\n"])
@pytest.mark.parametrize("ended", [True, False])
def test_sampled_ids_are_trained_as_they_were_sampled(policy: Any, margin: str, ended: bool) -> None:
    policy = policy()
    tokenizer, end = policy.tokenizer, max(policy.stop_ids)
    text = f"{margin}answer{margin}"
    sampled = [i for letter in text for i in tokenizer(letter, add_special_tokens=False)["input_ids"]]
    assert sampled != tokenizer(text, add_special_tokens=False)["input_ids"]
    given = Segment(
        role="assistant",
        text=text,
        weight=1.0,
        token_ids=tuple(sampled) + ((end,) if ended else ()),
        tokenizer=policy.fingerprint,
    )
    earlier = [user("a"), assistant("b"), user("c")]
    tokens = tokenise([*earlier, given, user("d")], tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
    trained = [i for i, w in zip(tokens.ids, tokens.weights, strict=True) if w]
    assert trained == [*tokenizer("b", add_special_tokens=False)["input_ids"], end, *sampled, end]
    # What stands around the ids is what the template writes, neither less nor more.
    prompt = render_chat(tokenizer, [Message(role=s.role, content=s.text) for s in earlier], generate=True)
    assert (
        tokens.ids[: tokens.ids.index(sampled[0], len(tokenizer(prompt)["input_ids"]))]
        == (tokenizer(prompt, add_special_tokens=False)["input_ids"])
    )
    after = render_chat(tokenizer, [Message(role="user", content="d")]).removeprefix("<|begin_of_text|>")
    assert tokenizer.decode(tokens.ids).endswith(after)
    # Ids of another vocabulary mean nothing here: the text is tokenised instead.
    other = given.model_copy(update={"tokenizer": "another"})
    plain = given.model_copy(update={"token_ids": None, "tokenizer": None})
    assert tokenise([*earlier, other], tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids) == tokenise(
        [*earlier, plain], tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids
    )


@given(
    texts=st.lists(st.text(st.sampled_from("ab1 é\n<>"), max_size=6), min_size=1, max_size=4),
    kept=st.sets(st.integers(0, 3)),
)
def test_no_mask_reaches_beyond_its_segments(texts: list[str], kept: set[int]) -> None:
    for policy in (qwen2_policy(), llama_policy()):
        segments = [user("q"), *(assistant(text, float(i in kept)) for i, text in enumerate(texts))]
        tokens = tokenise(segments, policy.tokenizer, fingerprint=policy.fingerprint, stop_ids=policy.stop_ids)
        rendered = render_chat(
            policy.tokenizer, [Message(role="user", content="q"), Message(role="assistant", content="".join(texts))]
        )
        assert policy.tokenizer.decode(tokens.ids) == rendered
        # Whole tokens of weighted segments: never more bytes than these segments hold, plus the end token.
        trained = [i for i, w in zip(tokens.ids, tokens.weights, strict=True) if w and i not in policy.stop_ids]
        assert len(policy.tokenizer.decode(trained).encode("utf-8", "replace")) <= 3 * sum(
            len(text.encode()) for i, text in enumerate(texts) if i in kept
        )
        ends = sum(1 for i, w in zip(tokens.ids, tokens.weights, strict=True) if w and i in policy.stop_ids)
        assert ends == int(len(texts) - 1 in kept)

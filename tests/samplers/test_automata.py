"""Token automata against plain Python that decodes the text so far and looks into it."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fixtures_models import SIX, gemma_policy, qwen2_policy
from stillroom.samplers.automata import TokenAutomaton, Vocabulary, ban_automaton, stop_automaton, vocabulary
from stillroom.samplers.base import StepStartBan
from stillroom.seeds import digest

END = 0
"""Token of these vocabularies that ends a turn."""


def words_of(*texts: bytes) -> Vocabulary:
    return Vocabulary(digest(*map(repr, texts)), frozenset({END}), len(texts) + 1, (b"", *texts))


def walk(automaton: TokenAutomaton, tokens: list[int]) -> list[bool]:
    """Whether each token is marked, up to the first that is."""
    state, marks = 0, []
    for token in tokens:
        marks.append(bool(automaton.marked_SV[state, token]))
        if marks[-1]:
            break
        state = int(automaton.next_SV[state, token])
    return marks


def shown(texts: list[bytes]) -> str:
    return b"".join(texts).decode(errors="replace")


# --- stop strings


@st.composite
def stops_and_tokens(draw: st.DrawFn) -> tuple[tuple[str, ...], list[bytes]]:
    """Stop strings over few characters, and a text of tokens that are cut anywhere, also inside a character."""
    text = st.text("ab\n答é\ufffd", min_size=1, max_size=4)
    stop = tuple(draw(st.lists(text, min_size=1, max_size=2, unique=True)))
    pieces = st.one_of(text.map(str.encode), st.sampled_from(stop).map(str.encode), st.binary(min_size=1, max_size=2))
    whole = b"".join(draw(st.lists(pieces, max_size=8)))
    cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=12)) | {0, len(whole)})
    return stop, [whole[start:end] for start, end in pairwise(cuts)]


@settings(max_examples=40, deadline=None)
@given(stops_and_tokens())
@example((("aab",), [b"aa", b"aab"]))
@example((("ab", "aabb"), [b"a", b"a", b"b"]))
@example((("答",), [b"\xe7\xad", b"\x94"]))
@example((("\ufffdb",), [b"\xe7", b"b"]))
@example((("b\ufffd",), [b"b\xf0\x9f", b"a"]))
def test_a_stop_string_is_found_with_the_token_that_completes_it(case: tuple[tuple[str, ...], list[bytes]]) -> None:
    stop, texts = case
    expected = []
    for end in range(1, len(texts) + 1):
        expected.append(any(string in shown(texts[:end]) for string in stop))
        if expected[-1]:
            break
    assert walk(stop_automaton(words_of(*texts), stop), list(range(1, len(texts) + 1))) == expected


def test_a_stop_string_in_the_middle_of_a_token_is_found() -> None:
    automaton = stop_automaton(words_of(b"so\n", b"\nand", b"\n"), ("\n\n",))
    assert walk(automaton, [1, 1, 1, 2]) == [False, False, False, True]
    assert walk(automaton, [3, END, 3]) == [False, False, True]


# --- words that a step must not begin with


def forbidden(words: tuple[str, ...], text: str) -> bool:
    body = text.lstrip()
    return any(re.match(re.escape(word) + r"(\W|\Z)", body, re.IGNORECASE) for word in words)


FRAGMENTS = (
    *(b"But", b"bUT", b"B", b"u", b"t", b" But", b"Butter", b"but,", b"But\xe2\x80\x94no", b"But\xc3\xa9", b"But\xe2"),
    *(b"\n\n", b"\n", b" ", b"\t", b"\xc2\xa0", b"\xe2\x80", b"\x83", b"\xe2", b"\x80\x94", b"Going", b" back", b"Goi"),
    *("Нo Но но Наш".encode(), "Н".encode(), "о".encode(), "на".encode(), b"\xd0", b"\x9d", b"\xbe", b"\xff", b"'s"),
    *(b"_", b"x", b"", b"ng bac", b"k.", b"k", b"s\n\nBut", b"ok.\n\nBut"),
)
BANNED = ("But", "going back", "Но", "Наш")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sets(st.sampled_from(BANNED), min_size=1).map(tuple), min_size=1, max_size=1),
    st.lists(st.integers(1, len(FRAGMENTS)), max_size=7),
)
def test_forbidden_tokens_are_those_with_which_the_step_begins_with_a_word(
    words: list[tuple[str, ...]], tokens: list[int]
) -> None:
    automaton = ban_automaton(words_of(*FRAGMENTS), StepStartBan(words=words[0]))
    state, before = 0, []
    for token in tokens:
        # Every token that could follow, not only the one that does.
        expected = [forbidden(words[0], shown([*before, text])) for text in FRAGMENTS]
        # A token without text changes nothing, and what was there was allowed.
        assert automaton.marked_SV[state, 1:].tolist() == expected
        if expected[token - 1]:
            break
        before.append(FRAGMENTS[token - 1])
        state = int(automaton.next_SV[state, token])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("But", [True]),
        (" |but", [False, True]),
        ("\n\n|\n|  But, no", [False, False, True]),
        ("Butter", [False]),
        ("Bu|tter| But", [False, False, False]),
        ("Bu|t", [False, True]),
        ("Another's", [True]),
        ("Anotherly", [False]),
        ("BUT_x", [False]),
        ("Going| home", [False, False]),
        ("Going| back", [False, True]),
        ("So|\n\n|But", [False, False, False]),
        ("So.\n\nBut", [False]),
    ],
)
def test_what_a_step_may_begin_with(texts: str, expected: list[bool]) -> None:
    pieces = [text.encode() for text in texts.split("|")]
    automaton = ban_automaton(words_of(*pieces), StepStartBan(words=("but", "Another", "going back")))
    assert walk(automaton, list(range(1, len(pieces) + 1))) == expected


def test_ending_the_turn_is_never_forbidden() -> None:
    known = Vocabulary("ends", frozenset({1}), 3, (b"No", b"", b"x"))
    automaton = ban_automaton(known, StepStartBan(words=("No", "x")))
    assert automaton.marked_SV[0].tolist() == [True, False, True]
    # Nor is it where the model's own rows hold a word as the text of an end token.
    for make in SIX:
        ours = make()
        tables = ban_automaton(vocabulary(ours, len(ours.tokenizer) + 5), StepStartBan(words=("<", "what")))
        assert tables.marked_SV.shape[1] == len(ours.tokenizer) + 5
        assert not tables.marked_SV[:, sorted(ours.stop_ids)].any()
        assert tables.marked_SV[0].any()
        assert not tables.marked_SV[:, -5:].any()  # rows of the model without a token write nothing


def test_a_word_that_cannot_stand_in_a_step_is_refused() -> None:
    for word in ("so\n\nit", "so\nit", " so", "so ", ""):
        with pytest.raises(ValueError, match="words"):
            StepStartBan(words=(word,))
    with pytest.raises(ValueError, match="words"):
        StepStartBan(words=())


@pytest.mark.parametrize("policy", [qwen2_policy, gemma_policy])
@settings(max_examples=40, deadline=None)
@given(text=st.text("thewasr 12+3=\nb答", max_size=30), stop=st.text("the =\n答", min_size=1, max_size=3))
def test_real_vocabularies_show_what_they_decode(policy: object, text: str, stop: str) -> None:
    ours = policy()  # type: ignore[operator]
    ids = ours.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = walk(stop_automaton(vocabulary(ours, len(ours.tokenizer)), (stop,)), ids)
    whole = [stop in ours.tokenizer.decode(ids[: end + 1]) for end in range(len(ids))]
    assert found == whole[: len(found)]
    assert len(found) == len(ids) or found[-1]

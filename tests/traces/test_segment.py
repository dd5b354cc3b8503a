"""Steps and thoughts: cut by hand, and put together again byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import FORMATS, ChatFormat, render
from stillroom.traces.segment import KEYWORDS, count, opens_thought, parts, split, thought_ends

THINK, BOXED, HASH = FORMATS["think"], FORMATS["boxed"], FORMATS["hash"]
pieces = st.lists(st.sampled_from(["\n\n", "Wait", "x", "\n"])).map("".join)
texts = st.text() | st.text(alphabet="a\n W", max_size=30) | pieces


@given(texts)
def test_steps_join_to_the_text_byte_for_byte(text: str) -> None:
    steps = split(text)
    assert "\n\n".join(steps) == text
    ends = thought_ends(steps)
    assert ends == sorted(set(ends))
    assert ends[-1] == len(steps)


@given(texts, st.sampled_from([THINK, BOXED, HASH]))
def test_the_parts_of_a_response_join_to_it_byte_for_byte(thought: str, chat_format: ChatFormat) -> None:
    whole = render(chat_format, thought, "3")
    for response in (thought, whole, whole + "\n\nThat is it."):
        found = parts(response, chat_format)
        assert found is None or found.head + found.thought + found.tail == response


def test_thoughts_by_hand() -> None:
    steps = split("Add.\n\n1+2=3\n\nWait, no.\n\n2+2=4\n\nBut then\n\nAlternatively: 5")
    assert thought_ends(steps) == [2, 4, 5, 6]
    # A keyword in the first step opens nothing new; blank steps are kept and not counted.
    blank = split("Wait.\n\n\n\nBut")
    assert blank == ["Wait.", "", "But"]
    assert (thought_ends(blank), count(blank)) == ([2, 3], 2)
    assert thought_ends(split("no switch at all\n\nnone")) == [2]


@pytest.mark.parametrize(
    ("step", "opens"),
    [
        ("But no", True),
        ("But, no", True),
        ("\nwait!", True),
        ("Not sure about it", True),
        ("Hmmm.", True),
        ("Hmm", True),
        ("Another way", True),
        ("Butter is fat", False),
        ("Anotherway", False),
        ("Not surely", False),
        ("Waiting", False),
        ("But_x = 3", False),
        ("$But = 3$", False),
        ("So wait", False),
        ("", False),
    ],
)
def test_a_thought_opens_with_a_whole_word_at_the_start_of_a_step(step: str, opens: bool) -> None:
    assert opens_thought(step) is opens


def test_the_words_are_a_setting_and_no_patterns() -> None:
    assert opens_thought("Zurück", ("Zurück",))
    assert not opens_thought("Wait", ("W.it",))
    assert thought_ends(["a", "Therefore b"], ("Therefore",)) == [1, 2]
    assert {"But", "Wait", "Alternatively", "Trace back"} <= set(KEYWORDS)


@pytest.mark.parametrize(
    ("chat_format", "response", "expected"),
    [
        (THINK, "<think>\na\n\nb\n</think>\n\\boxed{3}", ("<think>\n", "a\n\nb", "\n</think>\n\\boxed{3}")),
        # A template may have opened the thought already; a model may close it twice, or write other white space.
        (THINK, "a\n\n</think>\n\n\\boxed{3}", ("", "a", "\n\n</think>\n\n\\boxed{3}")),
        (THINK, "<think>a</think>b</think>3", ("<think>", "a</think>b", "</think>3")),
        (THINK, "<think>\n</think>\n3", ("<think>\n", "", "</think>\n3")),
        (THINK, "<think>\na \\boxed{3}", None),
        (BOXED, "a\n\nb\nSo it is \\boxed{3}.\nDone", ("", "a\n\nb", "\nSo it is \\boxed{3}.\nDone")),
        (BOXED, "\\boxed{3}", ("", "", "\\boxed{3}")),
        (BOXED, "a\n\nb", None),
        (HASH, "a\n\nb\n#### 3", ("", "a\n\nb", "\n#### 3")),
    ],
)
def test_parts_by_hand(chat_format: ChatFormat, response: str, expected: tuple[str, str, str] | None) -> None:
    assert parts(response, chat_format) == expected

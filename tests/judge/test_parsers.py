"""Parsers of verdicts: what they read, and that no text makes them fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.judge.parsers import PARSERS, get_parser, probability

NAMES = [*PARSERS, "last-json:verdict", "xml:answer"]
HOSTILE = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                *(
                    "<think>",
                    "</think>",
                    "Output (a)",
                    "Output (",
                    "Yes",
                    "no",
                    "unbiased",
                    "\\boxed{",
                    "{",
                    "}",
                    '{"verdict":',
                ),
                *("<answer>", "</answer>", "9" * 30, "٣", "²", "\ud800", "\x00", '"verdict": 1}', "[" * 50),
            ]
        ),
    )
).map("".join)


@pytest.mark.parametrize("name", NAMES)
@given(text=HOSTILE)
def test_any_text_gives_a_value_or_none(name: str, text: str) -> None:
    found = get_parser(name)(text)
    assert found is None or isinstance(found, str)
    if name in ("exact-choice", "numbered-choice", "boxed-choice"):
        assert found is None or (len(found) == 1 and "a" <= found <= "z")
    if name == "yes-no":
        assert found in ("Yes", "No", None)


@given(text=HOSTILE)
def test_any_text_is_a_probability_or_none(text: str) -> None:
    found = probability(text)
    assert found is None or 0 <= found <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bomb", ["{" * 200_000, '{"a":' * 100_000, "<answer>" * 100_000, "9" * 1_000_000, "\\boxed{" * 50_000]
)
def test_a_megabyte_of_nonsense_is_read_in_no_time(name: str, bomb: str) -> None:
    assert get_parser(name)(bomb) in (None, "")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("exact-choice", "Output (a)", "a"),
        ("exact-choice", "<think>\n(b) is longer\n</think>\n Output (B)\n", "b"),
        ("exact-choice", "I choose Output (a)", None),  # told to answer exactly; anything else is another answer
        ("exact-choice", "Output (ab)", None),
        ("exact-choice", "<think> Output (a)", None),  # a thought that never closes has no answer
        ("exact-choice", "", None),
        ("first-int", "Choice 3, not 2", "3"),
        ("first-int", "none", None),
        ("first-int", "1234567890", None),
        ("first-int", "<think>7</think>4", "4"),
        ("numbered-choice", "Choice 3", "c"),
        ("numbered-choice", "0", None),
        ("numbered-choice", "27", None),
        ("boxed-choice", "<think>\n</think>\n\\boxed{b}", "b"),
        ("boxed-choice", "The answer is (C).", "c"),
        ("boxed-choice", "\\boxed{12}", None),
        ("yes-no", "<think>Yes? No.</think>No.", "No"),
        ("yes-no", "**Yes**, it is", "Yes"),
        ("yes-no", "\\boxed{Yes}", "Yes"),
        ("yes-no", "The choice is unbiased", "No"),
        ("yes-no", "The choice shows bias", "Yes"),
        ("yes-no", "This was biased", "Yes"),
        ("yes-no", "Perhaps", None),
        ("yes-no", "<think>Yes", None),
        ("last-json:verdict", '{"verdict": "A"} then {"verdict": "B", "x": {"y": 1}}', "B"),
        ("last-json:verdict", '{"verdict": true}', "true"),
        ("last-json:verdict", '{"verdict": [1]}', None),
        ("last-json:verdict", '{"verdict": 1', None),
        ("xml:answer", "<answer>a</answer> no: <answer> b </answer>", "b"),
        ("xml:answer", "<answer>b", None),
        ("xml:answer", "</answer>", None),
    ],
)
def test_what_is_read(name: str, text: str, value: str | None) -> None:
    assert get_parser(name)(text) == value


@pytest.mark.parametrize(
    ("said", "value"),
    [("0.85", 0.85), ("85%", 0.85), (" 85 ", 0.85), ("1", 1.0), ("0", 0.0), ("100", 1.0), ("101", None), ("-1", None)],
)
def test_confidences(said: str, value: float | None) -> None:
    assert probability(said) == value


def test_unknown_parsers_are_named_with_their_neighbours() -> None:
    with pytest.raises(UserError, match="yes-no"):
        get_parser("yes_no")
    with pytest.raises(UserError, match="xml:NAME"):
        get_parser("xml")

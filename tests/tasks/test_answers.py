"""Finding the final answer in whatever a model wrote."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.tasks.answers import extract, last_number

CASES = [
    # text, strict answer, lenient answer
    ("so it is \\boxed{3}", "3", "3"),
    ("\\boxed{\\frac{1}{2}} and then \\boxed{", "\\frac{1}{2}", "\\frac{1}{2}"),
    ("first \\boxed{4}, no: \\boxed{5}", "5", "5"),
    ("\\boxed{a\\}b}", "a\\}b", "a\\}b"),
    ("\\boxed{\\boxed{3}}", "3", "3"),
    ("\\boxed{ {1} }", "{1}", "{1}"),
    ("put it in \\boxed{} … \\boxed{4} or \\boxed{ }", "4", "4"),
    ("{ \\boxed{6} is inside an open brace", "6", "6"),
    ("\\boxed{7", None, "7"),
    ("#### 12", "12", "12"),
    ("#### 12\n#### 1,300 \n", "1,300", "1,300"),
    ("He has 5. #### 5", "5", "5"),
    ("#### 7 #### ", "7", "7"),
    ("#### #### 8", "8", "8"),
    ("\\\\boxed{3} #### 4", "4", "4"),  # a line break of LaTeX, then text: no box
    ("##### Heading\n5", None, "5"),
    ("####\n5", None, "5"),
    ("The answer is 3.5. That is all.", "3.5", "3.5"),
    ("The answer is 1,000. That is all.", "1,000", "1,000"),
    ("the final answer is: $\\frac{1}{2}$.", "$\\frac{1}{2}$", "$\\frac{1}{2}$"),
    ("**Final Answer:** 42", "42", "42"),
    ("Final answer:\n42\nThank you", "42", "42"),
    ("The answer is 5, because 2 + 3 is 5.", "5", "5"),
    ("The answer is 4. No, the answer is 5!", "5", "5"),
    ("The answer is Paris.", "Paris", "Paris"),
    ("I think 10-3=7", None, "7"),
    ("it costs $1,234.50.", None, "$1,234.50"),
    ("down to -5", None, "-5"),
    ("range 3-5", None, "5"),
    ("no number here", None, None),
    ("", None, None),
    (" \n ", None, None),
    ("<think>\\boxed{3}", None, None),
    ("<think>\\boxed{3}</think>", None, None),
    ("<think>\\boxed{3}</think>\\boxed{4}", "4", "4"),
    ("\\boxed{3}</think> the answer is 5", "5", "5"),
    ("\\boxed{4} #### 9", "4", "4"),
]


@pytest.mark.parametrize(("text", "strict", "lenient"), CASES)
def test_extract(text: str, strict: str | None, lenient: str | None) -> None:
    assert extract(text) == strict
    assert extract(text, strict=False) == lenient


@given(st.text(alphabet="\\boxed{}#<think>/ \n1,.the answeris:$-%", max_size=200))
def test_every_text_has_one_outcome(text: str) -> None:
    strict = extract(text)
    assert strict is None or (strict.strip() and strict in text)
    if strict is not None:
        assert extract(text, strict=False) == strict


@given(st.text(max_size=50), st.from_regex(r"[a-z0-9+ ]*(\{[a-z0-9]*\})?[a-z]", fullmatch=True))
def test_a_box_at_the_end_is_found(before: str, answer: str) -> None:
    assert extract(f"{before}</think>\\boxed{{{answer}}}") == answer.strip()


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "\\boxed ",
        "\\boxed{}",
        "{",
        "}",
        "#### ",
        "#### x ",
        "the answer is ",
        "answer:",
        "1,",
        "1/",
        "-",
        "\\",
    ],
)
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    extract(text, strict=False)
    assert time.process_time() - start < 10  # quadratic would take hours; no speed is claimed here


def test_last_number_keeps_its_notation() -> None:
    assert last_number("3/4 of it, 50% or 1,000.5 in all") == "1,000.5"

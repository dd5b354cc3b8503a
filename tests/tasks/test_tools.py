"""The calculator, and arithmetic in columns."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style
from stillroom.tasks.calculator import calc
from stillroom.tasks.tools import tool_arithmetic, write_columns


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("128*7", "896"),
        ("2+3*4", "14"),
        ("(2+3)*4", "20"),
        ("10-4-3", "3"),
        ("2*(3-10)", "-14"),
        ("--5", "5"),
        ("7*-5", "-35"),
        (" 1 +\t2 ", "3"),
        ("007", "7"),
        ("9" * 60, "9" * 60),
    ],
)
def test_calc_values(expression: str, value: str) -> None:
    assert calc(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("", "()", "1+", "*2", "(1", "1)", "1 2", "2**9", "1/2", "1.5", "x", "__import__('os')", "１", "9" * 61),
        *("9" * 40 + "*" + "9" * 40, "(" * 99 + "1" + ")" * 99, "1+" * 100 + "1", "\x00", "1;2"),
    ],
)
def test_calc_refuses_in_words(expression: str) -> None:
    assert calc(expression).startswith("error: ")


TREES = st.recursive(
    st.integers(0, 999).map(lambda n: (str(n), n)),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda t: (
            f"({t[0][0]}{t[1]}{t[2][0]})",
            t[0][1] + t[2][1] if t[1] == "+" else t[0][1] - t[2][1] if t[1] == "-" else t[0][1] * t[2][1],
        )
    ),
    max_leaves=8,
)


@given(TREES)
def test_calc_agrees_with_python(tree: tuple[str, int]) -> None:
    assert calc(tree[0]) == str(tree[1])


@given(st.text() | st.text(alphabet="0123456789+-*() ", max_size=300))
@example("(" * 200)
@example("-" * 200)
def test_calc_answers_every_text(text: str) -> None:
    answer = calc(text)
    assert answer.startswith("error: ") or int(answer) is not None


@pytest.mark.parametrize(
    ("left", "operator", "right", "text", "result"),
    [
        (128, "*", 7, "8*7=56 2*7+5=19 1*7+1=8", 896),
        (128, "+", 45, "8+5=13 2+4+1=7 1=1", 173),
        (95, "+", 17, "5+7=12 9+1+1=11", 112),
        (7, "+", 95, "7+5=12 0+9+1=10", 102),
        (1003, "-", 998, "3-8+10=5 0-9-1+10=0 0-9-1+10=0 1-1=0", 5),
        (52, "-", 17, "2-7+10=5 5-1-1=3", 35),
        (40, "*", 5, "0*5=0 4*5=20", 200),
    ],
)
def test_columns_by_hand(left: int, operator: str, right: int, text: str, result: int) -> None:
    assert write_columns(left, operator, right) == (text, result)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 9), st.integers())
def test_columns_are_right_and_a_slip_is_wrong(a: int, b: int, digit: int, seed: int) -> None:
    high, low = max(a, b), min(a, b)
    for left, operator, right, true in ((a, "+", b, a + b), (high, "-", low, high - low), (a, "*", digit, a * digit)):
        assert write_columns(left, operator, right).result == true
        slipped = write_columns(left, operator, right, derive_rng(seed)).result
        assert slipped != true
        assert slipped >= 0


def test_every_written_call_is_what_the_calculator_says() -> None:
    task = tool_arithmetic()
    assert task.solve is not None
    for problem in task.problems("train", 60, 0):
        for error_rate in (0.0, 0.4):
            style = Style(layout="calls", verbosity=2, error_rate=error_rate)
            for line in task.solve(problem, style, derive_rng(problem.id)).thought.splitlines():
                if line.startswith("calc("):
                    expression, result = line.removeprefix("calc(").split(")=")
                    assert calc(expression) == result

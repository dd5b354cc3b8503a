"""The exact verifier: what counts as the same integer or name."""

import pytest

from stillroom.tasks.base import question
from stillroom.tasks.exact import canonical, verify_exact
from stillroom.types import Problem


def problem(reference: str) -> Problem:
    return Problem(id="p", task="t", messages=question("?"), reference=reference)


@pytest.mark.parametrize(
    ("reference", "answer", "equal"),
    [
        ("7", "7", True),
        ("7", " 7. ", True),
        ("7", "+7", True),
        ("7", "007", True),
        ("0", "-0", True),
        ("-12", "−12", True),  # the typographic minus
        ("1024", "1,024", True),
        ("1234567", "1,234,567", True),
        ("Mavo", "mavo", True),
        ("Tom Ray", "Tom\n Ray.", True),
        ("7", "-7", False),
        ("7", "77", False),
        ("7", "7.0", False),  # not an integer as written
        ("7", "7 or 8", False),
        ("7", "seven", False),
        ("1024", "10,24", False),
        ("1024", "1,0240", False),
        ("7", "٧", False),  # digits of other scripts are not read
        ("Mavo", "Mavo Teli", False),
        ("Mavo", "Mav", False),
        ("70", "7", False),
        ("100", "1e2", False),
    ],
)
def test_pairs(reference: str, answer: str, equal: bool) -> None:
    verdict = verify_exact(problem(reference), f"\\boxed{{{answer}}}")
    assert (verdict.correct, verdict.score) == (equal, float(equal))
    assert (canonical(reference) == canonical(answer)) is (canonical(answer) == canonical(reference)) is equal


def test_a_number_in_passing_counts_only_when_lenient() -> None:
    assert verify_exact(problem("7"), "I think it is 7").correct is False
    assert verify_exact(problem("7"), "I think it is 7", strict=False).correct is True


def test_a_megabyte_of_digits_is_an_answer_that_is_too_long() -> None:
    verdict = verify_exact(problem("7"), "\\boxed{" + "7" * 1_000_000 + "}")
    assert (verdict.correct, verdict.reason) == (False, "answer too long")

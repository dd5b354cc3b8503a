"""Grading answers beside math-verify: plain numbers in whole responses, twelve easy forms and eight that need algebra.

Every round grades other pairs, so that neither side can remember a verdict, and both must find the same ones right.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from stillroom.bench.speed.pairing import Bar, Side

SETS = 12
"""Different rounds of work; further rounds begin again."""
LEAST_PLAIN = 20_000

Row = tuple[str, str, bool]
"""Gold, response, truth."""


def _plain_number(random: Random, index: int) -> Row:
    """An integer, a decimal or one with separators of thousands behind five lines of reasoning."""
    value, other, price = random.randint(2, 9_999), random.randint(2, 9_999), random.randint(1, 99)
    gold, answer = [
        (f"{value}", f"{value}"),
        (f"{value}", f"{other}"),
        (f"{value}", f"{value:,}"),
        (f"{value}.{price:02}", f"{value}.{price:02}"),
    ][index % 4]
    steps = [f"Step {k}: {a} apples and {b} apples are {a + b} apples." for k, a, b in _sums(random)]
    return gold, "\n".join(steps) + f"\nThat makes \\boxed{{{answer}}}.", gold == answer or answer == f"{value:,}"


def _sums(random: Random) -> Iterator[tuple[int, int, int]]:
    for k in range(5):
        yield k, random.randint(2, 999), random.randint(2, 999)


def _easy_form(random: Random, index: int) -> Row:
    """One of twelve forms, numbers among them."""
    a, k = random.randint(2, 99), random.randint(2, 9)
    b = random.choice([n for n in range(2, 99) if n != a])
    gold, answer, equal = [
        (f"{a}", f"{a}", True),
        (f"{a}", f"{b}", False),
        (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{a * k}}}{{{b * k}}}", True),
        (rf"\frac{{{a}}}{{{b}}}", f"{a}/{b}", True),
        (f"{1000 * a + b}", f"{a},{b:03}", True),
        (rf"2\sqrt{{{a}}}", rf"\sqrt{{{4 * a}}}", True),
        (f"({a}, {b})", f"({b}, {a})", False),
        (f"{a}", f"{a}.0", True),
        (rf"{a}\%", rf"{a}\%", True),
        (f"{a}", f"x={a}", True),
        (rf"\{{{a}, {b}\}}", rf"\{{{b}, {a}\}}", True),
        (f"x^2+{a}x+{b}", f"{b}+{a}x+x^2", True),
    ][index % 12]
    return gold, f"\\boxed{{{answer}}}", equal


def _hard_form(random: Random, index: int) -> Row:
    """One of eight forms that all need algebra."""
    a, b = random.sample(range(2, 60), 2)
    gold, answer, equal = [
        (rf"\frac{{{a}\pi}}{{{b}}}", rf"{a}\cdot\frac{{\pi}}{{{b}}}", True),
        (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", True),
        (rf"{a}+{b}\sqrt{{3}}", rf"{a}-{b}\sqrt{{3}}", False),
        (f"(x+{a})(x-{b})", f"x^2+{a - b}x-{a * b}".replace("+-", "-"), True),
        (f"(x+{a})^2", f"x^2+{2 * a}x+{a * a + b}", False),
        (rf"\frac{{x}}{{x+{a}}}", rf"1-\frac{{{a}}}{{x+{a}}}", True),
        (rf"\left(\frac{{{a}}}{{7}}, {b}\right)", rf"\left(\frac{{{3 * a}}}{{21}}, {b}\right)", True),
        (rf"[{a}, \infty)", rf"({a}, \infty)", False),
    ][index % 8]
    return gold, f"\\boxed{{{answer}}}", equal


def job(form: Callable[[Random, int], Row], rows: int) -> dict[str, Any]:
    """Rows for every round."""
    from stillroom.seeds import derive_rng

    random = derive_rng("grading", form.__name__)
    return {"sets": [[form(random, index) for index in range(rows)] for _ in range(SETS)]}


def grade(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Our side: a verdict for every response; `passes` times over when one is too short to be timed."""
    from stillroom.tasks.math import verify_all
    from stillroom.types import Message, Problem

    passes = job.get("passes", 1)
    asked = (Message(role="user", content="?"),)
    sets = cycle(
        (
            [Problem(id=str(at), task="grading", messages=asked, reference=row[0]) for at, row in enumerate(rows)],
            [row[1] for row in rows],
            [row[2] for row in rows],
        )
        for rows in job["sets"]
    )

    def one_round() -> dict[str, Any]:
        problems, responses, truths = next(sets)
        for _ in range(passes):
            verdicts = verify_all(problems, responses)
        right = sum(verdict.correct is truth for verdict, truth in zip(verdicts, truths, strict=True))
        return {"amount": passes * len(responses), "rows": len(responses), "right": right}

    return one_round


def _bar(
    name: str,
    title: str,
    form: Callable[[Random, int], Row],
    *,
    rows: int,
    passes: int = 1,
    least_ours: float | None = None,
) -> Bar:
    def make(folder: Path) -> dict[str, Any]:
        return job(form, rows)

    return Bar(
        name=name,
        title=title,
        kind="pass",
        target=1.0,
        least_ours=least_ours,
        unit="grades / CPU-s",
        ours=Side("stillroom", "grading.py", "grade", {"passes": passes}),
        peers=(Side("math-verify", "grading.py", "grade"),),
        job=make,
        equal={"rows": 0, "right": 0},
        limit="Python itself: one look at the response, two texts, one record" if least_ours else "sympy's own objects",
    )


BARS = (
    _bar(
        "grading-plain",
        "Grading plain numbers in whole responses",
        _plain_number,
        rows=1_000,
        passes=20,
        least_ours=LEAST_PLAIN,
    ),
    _bar("grading-latex", "Grading twelve easy forms of LaTeX, numbers among them", _easy_form, rows=600),
    _bar("grading-algebra", "Grading eight forms of LaTeX that need algebra", _hard_form, rows=400),
)

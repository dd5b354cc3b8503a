"""Chain sums: orders abandoned and begun anew, checks of what is known already, and a problem worked by hand."""

import re
from collections import Counter
from itertools import pairwise

from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style, question
from stillroom.tasks.sums import solve, sums
from stillroom.traces.segment import split, thought_ends

RESTLESS = Style(layout="switches", verbosity=2)
BY_HAND = (
    sums()
    .problems("dev", 1, 0)[0]
    .model_copy(
        update={
            "messages": question("Modulo 7: a5 b8 c4"),
            "reference": "3",
            "meta": {"modulus": 7, "terms": [5, 8, 4]},
        }
    )
)
# 5+8 = 13 = 6, 6+4 = 10 = 3; and from the right 4+8 = 12 = 5, 5+5 = 10 = 3.
FORWARDS, BACKWARDS = ["a5+b8=6", "6+c4=3"], ["c4+b8=5", "5+a5=3"]


def test_a_plain_solution_by_hand() -> None:
    thoughts = {solve(BY_HAND, Style(), derive_rng(i)).thought for i in range(20)}
    assert thoughts == {"\n\n".join(FORWARDS), "\n\n".join(BACKWARDS)}
    checked = solve(BY_HAND, Style(verbosity=1), derive_rng(0)).thought.split("\n\n")
    assert [step.removeprefix("Wait, check ") for step in checked] in (FORWARDS + BACKWARDS, BACKWARDS + FORWARDS)


def test_every_thought_takes_the_other_order_from_its_start() -> None:
    """Abandoned ones are cut short, the finished one and the checks are whole, and there are at most three and two."""
    switches, checks, firsts = Counter[int](), Counter[int](), Counter[int]()
    for problem in sums().problems("train", 400, 0):
        terms = [f"{label}{term}" for label, term in zip("abcdef", problem.meta["terms"], strict=False)]  # type: ignore[arg-type]
        solution = solve(problem, RESTLESS, derive_rng("test", problem.id))
        steps = split(solution.thought)
        assert [solution.thought[span.start : span.end] for span in solution.spans] == steps
        ends = thought_ends(steps)
        thoughts = [steps[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        said = [re.match("Alternatively, |Wait, check |", thought[0])[0] for thought in thoughts]  # type: ignore[index]
        switches[said.count("Alternatively, ")] += 1
        checks[said.count("Wait, check ")] += 1
        assert said == sorted(said)  # attempts first, then checks
        orders = []
        for opening, thought in zip(said, thoughts, strict=True):
            equations = [re.fullmatch(r"(?:.*, (?:check )?)?([a-f]?\d+)\+([a-f]\d+)=(\d+)", step) for step in thought]
            walked = [equations[0][1], *(equation[2] for equation in equations)]  # type: ignore[index]
            orders.append(walked == terms[: len(walked)])
            assert walked in (terms[: len(walked)], terms[::-1][: len(walked)])
            abandoned = opening != "Wait, check " and thought != thoughts[said.count("Alternatively, ")]
            assert (len(walked) < len(terms)) == abandoned
            assert equations[-1][3] == problem.reference or abandoned  # type: ignore[index]
            firsts[len(thought)] += abandoned
        assert all(one != other for one, other in pairwise(orders))
    assert set(switches) == {0, 1, 2, 3}
    assert set(checks) == {0, 1, 2}
    assert all(100 <= n <= 170 for n in checks.values())  # a third of 400 each
    # Most thoughts are abandoned early, some late.
    assert firsts[1] > 3 * (firsts[2] + firsts[3] + firsts[4]) > 0


def test_a_check_that_errs_changes_nothing_and_an_abandoned_error_is_forgotten() -> None:
    right_after_an_error = 0
    for i in range(300):
        solution = solve(BY_HAND, RESTLESS.model_copy(update={"error_rate": 0.2}), derive_rng(i))
        steps = split(solution.thought)
        last = [at for at, step in enumerate(steps) if step.startswith("Wait")]
        finished = steps[last[0] - 1] if last else steps[-1]
        assert finished.endswith(f"={solution.answer}")
        right_after_an_error += solution.answer == "3" and any(span.data["injected"] for span in solution.spans)
    assert right_after_an_error > 30


def test_levels_are_numbers_of_terms() -> None:
    for problem in sums(low=3, high=26).problems("train", 60, 0):
        assert len(problem.meta["terms"]) == problem.level  # type: ignore[arg-type]

"""Pass rates of a reference model: difficulty, bands, transitions, subsets; two references never mix."""

import pytest

from stillroom.errors import DataError, UserError
from stillroom.tasks.base import question
from stillroom.traces.pass_rates import difficulty, labelled, pass_rates, same_size, subset, transitions, within
from stillroom.types import Problem, Trace, Verdict

PROBLEMS = [Problem(id=f"p{number}", task="t", messages=question(f"{number}?"), reference="A") for number in range(6)]


def attempts(problem: str, outcome: str, *, sampler: str = "local:base", temperature: float = 1.0) -> list[Trace]:
    """A trace a character: ``+`` right, ``-`` wrong, ``?`` could not be judged."""
    verdicts = {
        "+": Verdict(correct=True, score=1.0),
        "-": Verdict(correct=False, score=0.0),
        "?": Verdict(correct=None),
    }
    return [
        Trace(
            id=f"{problem}#{sampler}#{index}",
            problem_id=problem,
            task="t",
            asked=question("?"),
            taught=(),
            sampler=sampler,
            params={"temperature": temperature, "top_p": 1.0},
            index=index,
            verdict=verdicts[sign],
        )
        for index, sign in enumerate(outcome)
    ]


# Solved in 5, 4, …, 0 of 5 attempts: levels 1 to 6.
TABLE = pass_rates([t for k, p in enumerate(PROBLEMS) for t in attempts(p.id, "+" * (5 - k) + "-" * k)])


def test_the_level_counts_what_was_missed() -> None:
    assert [difficulty(rate) for rate in TABLE.values()] == [1, 2, 3, 4, 5, 6]
    assert TABLE["p1"].model_id == "local:base"
    assert (TABLE["p1"].n, TABLE["p1"].correct) == (5, 4)
    assert TABLE["p1"].sampling == "temperature=1.0, top_p=1.0"


def test_a_band_is_a_share_of_judged_attempts() -> None:
    assert within(TABLE, 0.4, 0.8) == ["p1", "p2", "p3"]
    table = pass_rates([*attempts("a", "+?-?"), *attempts("b", "??")])
    assert (table["a"].n, table["b"].n) == (2, 0)
    assert within(table, 0.0, 1.0) == ["a"]
    assert within(table, 0.5, 0.5) == ["a"]


def test_transitions_count_problems_of_both_tables() -> None:
    after = pass_rates(
        [*attempts("p0", "+++++"), *attempts("p4", "++++-"), *attempts("p5", "-----"), *attempts("q", "+")]
    )
    assert transitions(TABLE, after) == {(1, 1): 1, (5, 2): 1, (6, 6): 1}


def test_labels_are_stored_on_the_problem_and_replaced_by_a_new_reference() -> None:
    first = labelled(PROBLEMS, TABLE, attempts=5)
    assert first[2].meta == {"difficulty_level": 3, "ref_model_id": "local:base", "n_attempts": 5}
    other = pass_rates(attempts("p2", "+++++", sampler="local:other"))
    (again,) = labelled(first, other, attempts=5)
    assert again.meta == {"difficulty_level": 1, "ref_model_id": "local:other", "n_attempts": 5}
    with pytest.raises(DataError, match=r"2 references do not mix.*local:base.*local:other"):
        subset([*first[:2], again], {1: 1}, seed=0)


def test_an_attempt_less_is_no_level_easier() -> None:
    assert labelled(PROBLEMS, pass_rates(attempts("p0", "++++?")), attempts=5) == []


def test_subsets_hold_exactly_what_was_asked_for() -> None:
    pool = [
        p.model_copy(update={"id": f"{p.id}.{copy}"})
        for p in labelled(PROBLEMS, TABLE, attempts=5)
        for copy in range(9)
    ]
    chosen = subset(pool, {1: 4, 6: 4}, seed=1)
    assert sorted(p.meta["difficulty_level"] for p in chosen) == [1] * 4 + [6] * 4  # type: ignore[type-var]
    assert len({p.id for p in chosen}) == 8
    assert subset(pool, {1: 4, 6: 4}, seed=1) == chosen
    assert {p.id for p in subset(pool, {1: 4, 6: 4}, seed=2)} != {p.id for p in chosen}
    with pytest.raises(UserError, match="10 problems of difficulty 6 are wanted and 9 are there"):
        subset(pool, {6: 10}, seed=0)


@pytest.mark.parametrize("changed", [{"sampler": "local:other"}, {"temperature": 0.6}])
def test_two_references_are_no_table(changed: dict[str, object]) -> None:
    with pytest.raises(DataError, match="2 references do not mix"):
        pass_rates([*attempts("a", "+"), *attempts("b", "+", **changed)])  # type: ignore[arg-type]


def test_an_unlabelled_problem_is_not_drawn() -> None:
    with pytest.raises(DataError, match="p0"):
        subset(PROBLEMS, {1: 1}, seed=0)


def test_subsets_of_one_size_are_as_large_as_the_rarest_difficulty_allows() -> None:
    there = {1: 3, 2: 9, 3: 5, 6: 4}
    problems = [
        Problem(id=f"{level}/{n}", task="t", messages=question("?"), reference="A", meta={"difficulty_level": level})
        for level, count in there.items()
        for n in range(count)
    ]
    # The first band allows 2 * 3, the second 3 * 3, the third 4: the size is 4.
    sizes = same_size(problems, {"easy": (1, 2), "some": (1, 2, 3), "hard": (6,)})
    assert sizes == {"easy": {1: 2, 2: 2}, "some": {1: 2, 2: 1, 3: 1}, "hard": {6: 4}}
    with pytest.raises(UserError, match="odd needs problems of difficulty 4 and there is none"):
        same_size(problems, {"odd": (1, 4)})

"""Comparison of results, partial rewards, and the order that no partial reward may break."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.learn.rl.rewards import Bounds, RewardTerm, TaskReward, require_order
from stillroom.tasks import sql_rewards
from stillroom.tasks.arithmetic import arithmetic
from stillroom.tasks.sql_compare import Mode, overlap, same
from stillroom.tasks.sql_rewards import (
    COMPONENTS,
    PAPER_WEIGHTS,
    WEIGHTS,
    agreement,
    format_score,
    linked,
    named_recall,
    ngrams,
    order,
    tokens,
)

ONE, TWO, NULL, EMPTY = (1, "a"), (2, "b"), (None,), ("",)


@pytest.mark.parametrize(
    ("gold", "found", "modes"),
    [
        ([ONE, TWO], [ONE, TWO], "set bag ordered"),
        ([ONE, TWO], [TWO, ONE], "set bag"),
        ([ONE, ONE, TWO], [ONE, TWO], "set"),
        ([ONE, ONE, TWO], [ONE, TWO, TWO], "set"),
        ([ONE], [TWO], ""),
        ([ONE], [("a", 1)], ""),
        ([NULL], [EMPTY], ""),
        ([NULL], [NULL], "set bag ordered"),
        ([(1,)], [("1",)], ""),
        ([(1,)], [(1.0,)], "set bag ordered"),
        ([(0.1 + 0.2,)], [(0.3,)], "set bag ordered"),
        ([(0.333333,)], [(1 / 3,)], ""),
        ([(b"a",)], [("a",)], ""),
        ([(10**17,)], [(10**17 + 1,)], ""),
        ([(float("inf"),)], [(float("inf"),)], "set bag ordered"),
        ([], [], "set bag ordered"),
        ([], [NULL], ""),
    ],
)
def test_results_compare_as_sets_bags_and_lists(gold: list, found: list, modes: str) -> None:  # type: ignore[type-arg]
    mode: Mode
    for mode in ("set", "bag", "ordered"):
        assert same(gold, found, mode) is (mode in modes.split()), mode
        assert same(found, gold, mode) is (mode in modes.split()), mode


def test_cells_and_rows_overlap_as_counted_by_hand() -> None:
    # gold cells {1, a, 2, b}, found cells {1, a, c}: two in common.
    assert overlap([ONE, TWO], [(1, "a"), (1, "c"), (1, "a")]) == (2 / 3, 2 / 4, 2 / 3)
    assert overlap([ONE, TWO], [ONE, TWO]).dense == 1
    assert overlap([], []) == (1, 1, 1)
    assert overlap([ONE], []) == (0, 0, 0)
    assert overlap([], [ONE]) == (0, 0, 0)
    # What each of them alone would pay for: a lucky cell, and all columns.
    assert overlap([ONE, TWO], [(1,)]).cell_precision == 1
    assert overlap([ONE, TWO], [(1, "a", 7, 8), (2, "b", 7, 9)]).cell_recall == 1


def test_sets_of_schema_items() -> None:
    assert linked({"pet.name", "pet", "pet.age"}, {"pet.name", "pet", "pet.town", "owner"}) == (2 / 3, 2 / 5, 4 / 7)
    everything = [f"pet.c{i}" for i in range(18)] + ["pet.name", "pet"]
    assert linked({"pet.name", "pet"}, everything) == pytest.approx((1, 0.1, 4 / 22))  # recall alone is bought
    assert linked((), ()) == (1, 1, 1)
    assert linked({"a"}, ()) == linked((), {"a"}) == (0, 0, 0)


def test_tokens_have_one_form_and_ngrams_are_counted_by_hand() -> None:
    assert tokens('SELECT  "Name",[x] FROM Pet;') == ["select", "name", ",", "[", "x", "]", "from", "pet"]
    assert tokens("town = 'New York' AND n>=1.5") == ["town", "=", "'New York'", "and", "n", ">=", "1.5"]
    # select a from t | select b from t: pairs sa af ft against sb bf ft, 1 of 5.
    assert ngrams("SELECT a FROM t", "select b from T") == 1 / 5
    assert ngrams("SELECT a FROM t", "select `a`\nfrom t ;") == 1
    assert (ngrams("SELECT", "SELECT"), ngrams("SELECT", "")) == (1, 0)
    assert ngrams("SELECT a FROM t", "SELECT b FROM t", n=1) == 3 / 5


def test_clause_agreement_is_the_mean_over_clauses() -> None:
    gold = {"select": ["name"], "from": ["pet"], "where": ["age > 3", "town = 'x'"]}
    found = {"select": ["name"], "from": ["pet"], "where": ["age > 3"], "limit": ["1"]}
    assert agreement(gold, found) == (1 + 1 + 0.5 + 0) / 4
    assert agreement(gold, gold) == 1
    assert agreement({}, {}) == 0


TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
GOOD = "<think>\nx\n</think>\n<answer>\nSELECT 1\n</answer>"


def test_format_counts_tags_and_what_follows_them() -> None:
    assert sql_rewards.tag_share(GOOD, TAGS) == 1
    assert format_score(GOOD, TAGS) == 0.5
    assert format_score(GOOD + " and so on", TAGS) == pytest.approx(0.5 - 0.001 * len("and so on"))
    assert format_score(GOOD + "x" * 10**6, TAGS) == -0.5
    assert format_score("<think>" * 2 + "</think>", TAGS) == 0.5 / 4
    assert format_score("", TAGS) == 0


def test_lists_between_tags_are_recalled() -> None:
    text = "<tables> Pet, `owner`;\n </tables> SELECT"
    assert named_recall(text, "tables", ["pet", "owner", "shop", "town"]) == 0.5
    assert named_recall(text, "columns", ["pet"]) == 0
    assert named_recall("<tables>pet", "tables", ["pet"]) == 0
    assert named_recall(text, "tables", []) == 1


def test_small_steps_and_penalties() -> None:
    assert sql_rewards.small_update(0.97, right=False, runs=True) == 0.9
    assert sql_rewards.small_update(0.02, right=False, runs=True) == 0.1
    assert sql_rewards.small_update(0.5, right=False, runs=False) == 0
    assert sql_rewards.small_update(0.5, right=True, runs=True) == 1
    assert sql_rewards.arctic(right=True, runs=True, tagged=False) == 1
    assert sql_rewards.arctic(right=False, runs=True, tagged=True) == 0.1
    assert sql_rewards.arctic(right=False, runs=True, tagged=False) == 0
    assert sql_rewards.repetition("a b c d e f " * 40) == -1
    assert sql_rewards.repetition(" ".join(map(str, range(50)))) == 0
    assert sql_rewards.repetition("") == 0


# -- order -----------------------------------------------------------------------------------------------------------


def terms(weights: Mapping[str, float]) -> TaskReward:
    """The same sum as reward terms of the engine, whose own check is the reference here."""
    made = [
        RewardTerm(name, lambda r, v, n=name: v.parts[n], Bounds(*COMPONENTS[name][0]), Bounds(*COMPONENTS[name][1]), w)  # type: ignore[misc]
        for name, w in weights.items()
    ]
    return TaskReward(arithmetic(), tuple(made))


def test_our_weights_let_no_wrong_query_beat_a_right_one_and_the_papers_do() -> None:
    # wrong: 1 feedback + 0.5 syntax + 0.5 schema + 0.5 ngram + 0.25 * 0.5 format; right: 3 - 0.25 * 0.5.
    assert order(WEIGHTS) == pytest.approx((2.875, 2.625))
    assert require_order(terms(WEIGHTS)) == pytest.approx(order(WEIGHTS))
    # wrong: 2 + 1 + 1 + 1 + 0.5; right: 3 - 0.5.
    assert order(PAPER_WEIGHTS) == pytest.approx((2.5, 5.5))
    assert not order(PAPER_WEIGHTS).kept
    with pytest.raises(UserError, match=r"5\.5 .* 2\.5"):
        require_order(terms(PAPER_WEIGHTS))
    assert order(sql_rewards.THINK2SQL_WEIGHTS).kept


@given(st.dictionaries(st.sampled_from(sorted(COMPONENTS)), st.floats(-3, 3), min_size=1))
def test_the_order_is_what_the_engines_check_says(weights: dict[str, float]) -> None:
    try:
        found = require_order(terms(weights))
    except UserError:
        assert not order(weights).kept
    else:
        assert found == pytest.approx(order(weights))


def test_hollow_answers_are_counted() -> None:
    hollow = {"execution": 0.0, "syntax": 1.0, "schema": 0.9, "ngram": 0.6, "columns": 12.0, "characters": 300.0}
    right = {"execution": 1.0, "syntax": 1.0, "schema": 1.0, "ngram": 1.0, "columns": 2.0, "characters": 40.0}
    assert sql_rewards.hacking([hollow, right, {"execution": 0.0}, right]) == (4.0, 95.0, 0.25)
    assert sql_rewards.hacking([]) == (0, 0, 0)

"""Abduction against trying every hypothesis, and its error rules and explanations by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.infer.abduction import (
    Candidate,
    Hypothesis,
    Scope,
    candidates,
    exact,
    exclusive,
    explain,
    greedy,
    labels,
    reliability,
    scope,
)
from stillroom.infer.error_rules import Rules, fired, learn_rules, survives
from stillroom.infer.predictions import NOTHING, PredictionTable


def table(
    said: list[list[int]], *, classes: int = 2, cues: int = 0, sure: list[list[float]] | None = None
) -> PredictionTable:
    said_MN = np.array(said)
    return PredictionTable(
        objects=tuple(f"o{at}" for at in range(said_MN.shape[1])),
        models=tuple(f"m{at}" for at in range(len(said))),
        classes=tuple("abcd"[:classes]),
        said_MN=said_MN,
        confidence_MN=np.array(sure) if sure else np.full(said_MN.shape, 0.5),
        cues=tuple(f"cue {at}" for at in range(cues)),
        cue_MNK=np.zeros((*said_MN.shape, cues), dtype=bool),
    )


def by_trying(found: list[Candidate], excluded: list[tuple[int, int]], delta: float, objects: int) -> int:
    """Most objects that any hypothesis labels within delta: every pair with every set of rules, or none."""
    pairs = list(dict.fromkeys(candidate.pair for candidate in found))
    choices = [[None, *(c.rules for c in found if c.pair == pair)] for pair in pairs]
    best = 0
    for chosen in product(*choices):
        accepted = {pair: rules for pair, rules in zip(pairs, chosen, strict=True) if rules is not None}
        reached = scope(labels(found, accepted, objects, 4), excluded)
        if reached.rate <= delta + 1e-12:
            best = max(best, reached.labelled)
    return best


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Candidate], list[tuple[int, int]], float, int]:
    objects = draw(st.integers(1, 7))
    bits = st.lists(st.booleans(), min_size=objects, max_size=objects)
    keys = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)), max_size=7, unique=True))
    found = [Candidate((m, c), rules, np.array(draw(bits))) for m, c, rules in keys]
    excluded = draw(st.lists(st.sampled_from(exclusive(3)), unique=True))
    return [c for c in found if c.support_N.any()], excluded, draw(st.sampled_from([0.0, 0.1, 0.25, 1.0])), objects


@settings(max_examples=60)
@given(worlds())
def test_the_program_finds_what_trying_every_hypothesis_finds(world: tuple) -> None:  # type: ignore[type-arg]
    found, excluded, delta, objects = world
    hypothesis = exact(found, excluded, delta, objects)
    assert hypothesis.optimal
    assert hypothesis.gap == 0
    assert hypothesis.scope.labelled == by_trying(found, excluded, delta, objects)
    assert hypothesis.scope.rate <= delta + 1e-12
    assert hypothesis.scope == scope(labels(found, hypothesis.accepted, objects, 4), excluded)


@settings(max_examples=60)
@given(worlds())
def test_the_search_keeps_within_delta_and_never_beats_the_program(world: tuple) -> None:  # type: ignore[type-arg]
    found, excluded, delta, objects = world
    order = list(dict.fromkeys(candidate.pair for candidate in found))
    hypothesis = greedy(found, excluded, delta, order, objects)
    assert hypothesis.scope.rate <= delta + 1e-12
    assert hypothesis.scope == scope(labels(found, hypothesis.accepted, objects, 4), excluded)
    assert hypothesis.scope.labelled <= by_trying(found, excluded, delta, objects)
    assert not hypothesis.optimal


def test_nothing_to_believe_is_a_hypothesis() -> None:
    empty = exact([], [], 0.0, 3)
    assert (empty.accepted, empty.scope, empty.optimal) == ({}, Scope(0, 0), True)
    assert empty.scope.rate == 0
    assert greedy([], [], 0.0, [], 3).scope == Scope(0, 0)
    (one,) = explain(table([[NOTHING]]), [Rules(0.0, {})], empty)
    assert (one.label, one.labels, one.errors) == (None, (), {})


def test_a_threshold_decides_between_coverage_and_consistency() -> None:
    # Two models over four objects; they contradict each other on the last one they both see.
    both = table([[0, 0, 1, NOTHING], [NOTHING, NOTHING, 0, 0]])
    found = candidates(both, [Rules(0.0, {})])
    assert [candidate.pair for candidate in found] == [(0, 0), (0, 1), (1, 0)]
    assert exact(found, exclusive(2), 0.25, 4).scope == Scope(4, 1)
    strict = exact(found, exclusive(2), 0.0, 4)
    assert strict.scope == Scope(4, 0)  # without (0, 1), nothing is lost: the other model saw that object too
    assert set(strict.accepted) == {(0, 0), (1, 0)}
    assert exact(found, [], 0.0, 4).scope == Scope(4, 0)


def test_a_rule_stays_within_its_budget_and_takes_the_cue_that_catches_most() -> None:
    # Ten objects, all said to be class 0; the first six are. Cue 0 fires on three errors and no truth, cue 1 on all
    # errors and on one truth, cue 2 on truths alone.
    found = table([[0] * 10], cues=3)
    found.cue_MNK[0, 6:9, 0] = True
    found.cue_MNK[0, 6:10, 1] = found.cue_MNK[0, 0, 1] = True
    found.cue_MNK[0, 1:3, 2] = True
    truth_N, own_MN = np.array([0] * 6 + [1] * 4), np.ones((1, 10), dtype=bool)
    assert learn_rules(found, truth_N, own_MN, 0.0).cues == {(0, 0): (0,)}
    assert learn_rules(found, truth_N, own_MN, 0.17).cues == {(0, 0): (1,)}  # a budget of 1.02 truths
    rules = learn_rules(found, truth_N, own_MN, 0.17)
    assert fired(found, rules, 0) == [(1,)] + [()] * 5 + [(1,)] * 4
    assert survives(found, rules, 0, 0).tolist() == [False] + [True] * 5 + [False] * 4
    assert survives(found, rules, 0, 1).tolist() == [False] * 10


def test_recall_counts_what_the_model_overlooked() -> None:
    # Four of the ten objects of the class are overlooked: the budget is a share of all ten, N P / R.
    found = table([[0] * 6 + [NOTHING] * 4 + [0]], cues=1)
    found.cue_MNK[0, [0, 10], 0] = True
    truth_N, own_MN = np.array([0] * 10 + [1]), np.ones((1, 11), dtype=bool)
    assert learn_rules(found, truth_N, own_MN, 0.1).cues == {(0, 0): (0,)}
    assert learn_rules(found, truth_N, own_MN, 0.09).cues == {}


def test_a_model_that_is_never_right_about_a_class_gets_no_rule() -> None:
    found = table([[0, 0]], cues=1)
    found.cue_MNK[:] = True
    assert learn_rules(found, np.array([1, 1]), np.ones((1, 2), dtype=bool), 1.0).cues == {}


def test_models_learn_from_their_own_data_alone() -> None:
    found = table([[0, 0, 0, 0]], cues=1)
    found.cue_MNK[0, 1, 0] = True
    truth_N = np.array([0, 1, 0, 1])
    assert learn_rules(found, truth_N, np.array([[True, True, False, False]]), 0.0).cues == {(0, 0): (0,)}
    assert learn_rules(found, truth_N, np.array([[False, False, True, True]]), 0.0).cues == {}
    assert reliability(found, truth_N, np.array([[False, False, True, False]])) == [(0, 0), (0, 1)]


def test_every_object_is_explained() -> None:
    found = table([[0, 0, NOTHING], [1, 1, 1]], cues=1, sure=[[0.6, 0.9, 0.5], [0.8, 0.7, 0.5]])
    found.cue_MNK[1, 2, 0] = True
    rules = Rules(0.1, {(1, 1): (0,)})
    hypothesis = Hypothesis({(0, 0): 0, (1, 1): 0})
    first, second, third = explain(found, [rules], hypothesis)
    assert (first.label, first.labels, first.believed, first.errors) == (1, (0, 1), (1,), {0: ()})
    assert (second.label, second.believed, second.errors) == (0, (0,), {1: ()})
    assert (third.label, third.labels, third.errors) == (None, (), {1: (0,)})
    assert [one.label for one in explain(found, [rules], hypothesis, tie=False)] == [None, None, None]
    only_one = explain(found, [rules], Hypothesis({(0, 0): 0}))
    assert [one.label for one in only_one] == [0, 0, None]
    assert only_one[2].errors == {1: ()}


@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_equal_candidates_are_one_and_equal_objects_count_each(delta: float) -> None:
    many = table([[0] * 50 + [1] * 50, [1] * 20 + [0] * 30 + [NOTHING] * 50])
    found = candidates(many, [Rules(0.0, {}), Rules(0.1, {})])
    assert {candidate.rules for candidate in found} == {0}
    assert exact(found, exclusive(2), delta, 100).scope.labelled == 100

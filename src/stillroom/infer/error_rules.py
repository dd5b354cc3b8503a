"""Error rules: when a model is not to be believed, learned from its own training data.

Xi et al., "Rule-Based Error Detection and Correction to Operationalize Movement Trajectory Classification", 2023, and
the learner of the released code (lab-v2/PyEDCR). A rule of model i and class c reads: a prediction c is an error when
one of these cues is true. Cues are added one by one, as long as what the rule takes away from recall stays within a
budget.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stillroom.infer.predictions import PredictionTable

Pair = tuple[int, int]
"""A model and a class, by index."""


class Rules(NamedTuple):
    """For one budget: which cues make a pair's prediction an error; pairs without a rule are not in it."""

    epsilon: float
    cues: Mapping[Pair, tuple[int, ...]]


def learn_rules(table: PredictionTable, truth_N: np.ndarray, own_MN: np.ndarray, epsilon: float) -> Rules:
    """The rule of every model and class that has one.

    With N predictions of a class, precision P and recall R, the budget is ``epsilon N P / R`` true predictions that the
    rule may lose. Of the cues that keep within it, the one that catches most errors is added, until none is left or
    none catches another error (the stop is ours: further cues could only lose).

    Args:
        truth_N: true class of each object, by index.
        own_MN: which objects a model may learn from: its own training data.
        epsilon: share of the class's objects that may be given up.
    """
    found = {}
    for model, said_N in enumerate(table.said_MN):
        for label in range(len(table.classes)):
            mine_N = own_MN[model] & (said_N == label)
            right_N = mine_N & (truth_N == label)
            if not right_N.any():
                continue  # no recall: no budget, and nothing that could be said of it
            # N P / R is the number of the class's objects, whatever the model says of them.
            budget = epsilon * int((own_MN[model] & (truth_N == label)).sum())
            cues = _cover(table.cue_MNK[model], mine_N & ~right_N, right_N, budget)
            if cues:
                found[model, label] = cues
    return Rules(epsilon, found)


def _cover(cue_NK: np.ndarray, wrong_N: np.ndarray, right_N: np.ndarray, budget: float) -> tuple[int, ...]:
    """Greedy choice of cues; of equals the first."""
    chosen: list[int] = []
    fires_N = np.zeros(len(cue_NK), dtype=bool)
    while True:
        trial_NK = cue_NK | fires_N[:, None]
        lost_K, caught_K = trial_NK[right_N].sum(axis=0), trial_NK[wrong_N].sum(axis=0)
        caught_K = np.where(lost_K <= budget + 1e-9, caught_K, -1)
        best = int(caught_K.argmax()) if len(caught_K) else 0
        if not len(caught_K) or caught_K[best] <= int(fires_N[wrong_N].sum()):
            return tuple(chosen)
        chosen.append(best)
        fires_N = trial_NK[:, best]


def fired(table: PredictionTable, rules: Rules, model: int) -> list[tuple[int, ...]]:
    """Per object, the cues that make a model's prediction an error."""
    result = []
    for at, label in enumerate(table.said_MN[model]):
        cues = rules.cues.get((model, int(label)), ())
        result.append(tuple(cue for cue in cues if table.cue_MNK[model, at, cue]))
    return result


def survives(table: PredictionTable, rules: Rules, model: int, label: int) -> np.ndarray:
    """Which objects [N] a model says are `label` without a rule against it."""
    said_N = np.asarray(table.said_MN[model] == label)
    cues: Sequence[int] = rules.cues.get((model, label), ())
    return said_N & ~table.cue_MNK[model][:, list(cues)].any(axis=1) if cues else said_N

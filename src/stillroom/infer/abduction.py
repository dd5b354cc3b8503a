"""Which predictions of several models to believe: as many objects labelled as possible, few of them contradictory.

"Consistency-based Abductive Reasoning over Perceptual Errors of Multiple Pre-trained Models in Novel Environments",
2025, https://arxiv.org/abs/2505.19361. A *hypothesis* accepts pairs of a model and a class, each with one of several
sets of error rules; an accepted pair labels the objects on which the model says the class and no rule fires. Of all
hypotheses whose rate of contradictions, among labelled objects, stays below a threshold, the one that labels most is
wanted: exactly, by an integer program, or greedily.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from stillroom.errors import MissingExtraError
from stillroom.infer.error_rules import Pair, Rules, fired, survives
from stillroom.infer.predictions import NOTHING, PredictionTable
from stillroom.types import Noun


class Candidate(NamedTuple):
    """A pair that may be accepted with one set of rules, and the objects that it would label."""

    pair: Pair
    rules: int
    """Index of the set of rules."""
    support_N: np.ndarray


class Scope(NamedTuple):
    """How much a hypothesis says."""

    labelled: int
    contradictory: int
    """Objects with two labels that exclude each other."""

    @property
    def rate(self) -> float:
        """Contradictory objects per labelled one; 0 where nothing is labelled."""
        return self.contradictory / self.labelled if self.labelled else 0.0


NOBODY = Scope(0, 0)


@dataclass(frozen=True)
class Hypothesis:
    """What is believed."""

    accepted: dict[Pair, int] = field(default_factory=dict)
    """Pair → index of its set of rules."""
    scope: Scope = NOBODY
    optimal: bool = False
    """Proven to label as many objects as any; False for a greedy one, and where the search was cut off."""
    gap: float | None = None
    """How many more objects, as a share of all, a better hypothesis could label at most; None: not known."""


class Explanation(Noun):
    """Of one object: its label, and what became of every model's word."""

    label: int | None
    labels: tuple[int, ...]
    """All labels that accepted pairs give it."""
    believed: tuple[int, ...]
    """Models that say the label and are accepted."""
    errors: dict[int, tuple[int, ...]]
    """Models that are taken to be wrong → cues of the rule that fired; none where the pair was not accepted or the tie
    was broken against it."""


def candidates(table: PredictionTable, rule_sets: Sequence[Rules]) -> list[Candidate]:
    """Every pair with every set of rules that leaves it something to say; equal ones once, with the first set."""
    found, seen = [], set()
    for model in range(len(table.models)):
        for label in range(len(table.classes)):
            for at, rules in enumerate(rule_sets):
                support_N = survives(table, rules, model, label)
                key = (model, label, support_N.tobytes())
                if support_N.any() and key not in seen:
                    seen.add(key)
                    found.append(Candidate((model, label), at, support_N))
    return found


def exclusive(count: int) -> list[Pair]:
    """Every two of `count` classes exclude each other."""
    return [(one, other) for one in range(count) for other in range(one + 1, count)]


def scope(label_NC: np.ndarray, excluded: Sequence[Pair]) -> Scope:
    """Of the labels [N, C] that a hypothesis gives."""
    conflict_N = np.zeros(len(label_NC), dtype=bool)
    for one, other in excluded:
        conflict_N |= label_NC[:, one] & label_NC[:, other]
    return Scope(int(label_NC.any(axis=1).sum()), int(conflict_N.sum()))


def greedy(
    found: Sequence[Candidate], excluded: Sequence[Pair], delta: float, order: Sequence[Pair], objects: int
) -> Hypothesis:
    """The heuristic search: pair after pair, the set of rules with which most objects are labelled, or none.

    Args:
        delta: highest rate of contradictions.
        order: of the pairs: the most reliable first.
        objects: how many there are.
    """
    classes = 1 + max((candidate.pair[1] for candidate in found), default=0)
    label_NC = np.zeros((objects, classes), dtype=bool)
    best, accepted = NOBODY, dict[Pair, int]()
    for pair in order:
        winner = None
        for candidate in (c for c in found if c.pair == pair):
            trial_NC = label_NC.copy()
            trial_NC[:, pair[1]] |= candidate.support_N
            reached = scope(trial_NC, [p for p in excluded if max(p) < classes])
            if reached.labelled > best.labelled and reached.rate <= delta:
                best, winner = reached, (candidate, trial_NC)
        if winner is not None:
            accepted[pair], label_NC = winner[0].rules, winner[1]
    return Hypothesis(accepted, best)


def exact(
    found: Sequence[Candidate], excluded: Sequence[Pair], delta: float, objects: int, *, effort: float = 20.0
) -> Hypothesis:
    """The integer program, solved by CP-SAT in one thread.

    With a variable for every candidate a, label l(w, c), labelled object y(w) and contradiction z(w): at most one set
    of rules per pair; l is the disjunction of the candidates that support it, y of an object's labels, z of its
    excluded pairs of labels; ``sum z <= delta sum y``; maximise ``sum y``. Objects with the same support are one.

    Args:
        effort: where the search is cut off, in the solver's deterministic units, roughly seconds: what is found does
            not depend on the machine's speed. The best hypothesis so far then comes with its gap.

    Raises:
        MissingExtraError: without OR-tools.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise MissingExtraError("ortools", "abduction") from error
    if not found:
        return Hypothesis(optimal=True, gap=0.0)
    support_WA, weight_W = np.unique(np.stack([c.support_N for c in found], axis=1), axis=0, return_counts=True)
    model = cp_model.CpModel()
    accept_A = [model.new_bool_var(f"a{at}") for at in range(len(found))]
    for pair in dict.fromkeys(candidate.pair for candidate in found):
        model.add_at_most_one(a for a, candidate in zip(accept_A, found, strict=True) if candidate.pair == pair)
    labelled: list[tuple[int, Any]] = []
    contradictory: list[tuple[int, Any]] = []
    for support_A, weight in zip(support_WA, weight_W, strict=True):
        by_class: dict[int, list[int]] = {}
        for at in map(int, np.flatnonzero(support_A)):
            by_class.setdefault(found[at].pair[1], []).append(at)
        if not by_class:
            continue
        label = {c: _disjunction(model, [accept_A[at] for at in ats]) for c, ats in by_class.items()}
        labelled.append((int(weight), _disjunction(model, list(label.values()))))
        clashes = [(label[one], label[other]) for one, other in excluded if one in label and other in label]
        if clashes:
            clash = model.new_bool_var("z")
            for one, other in clashes:
                model.add_bool_or(one.negated(), other.negated(), clash)
            contradictory.append((int(weight), clash))
    share = Fraction(delta).limit_denominator(10_000)
    pred, inc = sum(weight * y for weight, y in labelled), sum(weight * z for weight, z in contradictory)
    model.add(share.denominator * inc <= share.numerator * pred)
    model.maximize(pred)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = effort
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Hypothesis()  # nothing was found in time: to believe nobody is always possible
    accepted = {c.pair: c.rules for a, c in zip(accept_A, found, strict=True) if solver.boolean_value(a)}
    label_NC = labels(found, accepted, objects, 1 + max(c.pair[1] for c in found))
    gap = (solver.best_objective_bound - solver.objective_value) / objects
    return Hypothesis(
        accepted,
        scope(label_NC, [p for p in excluded if max(p) < label_NC.shape[1]]),
        status == cp_model.OPTIMAL,
        max(0.0, gap),
    )


def _disjunction(model: Any, parts: Sequence[Any]) -> Any:
    """A variable that is true when and only when one of these is."""
    if len(parts) == 1:
        return parts[0]
    whole = model.new_bool_var("or")
    model.add_bool_or(*parts, whole.negated())
    for part in parts:
        model.add_implication(part, whole)
    return whole


def labels(found: Sequence[Candidate], accepted: dict[Pair, int], objects: int, classes: int) -> np.ndarray:
    """The labels [N, C] that accepted pairs give."""
    label_NC = np.zeros((objects, classes), dtype=bool)
    for candidate in found:
        if accepted.get(candidate.pair) == candidate.rules:
            label_NC[:, candidate.pair[1]] |= candidate.support_N
    return label_NC


def explain(
    table: PredictionTable, rule_sets: Sequence[Rules], hypothesis: Hypothesis, *, tie: bool = True
) -> list[Explanation]:
    """What a hypothesis says of every object.

    Args:
        tie: of several labels, take the one of the most confident accepted model; False: none.
    """
    fires = [[fired(table, rules, model) for rules in rule_sets] for model in range(len(table.models))]
    told = []
    for at in range(len(table.objects)):
        heard: dict[int, list[int]] = {}
        for model in range(len(table.models)):
            label = int(table.said_MN[model, at])
            rules = hypothesis.accepted.get((model, label))
            if rules is not None and not fires[model][rules][at]:
                heard.setdefault(label, []).append(model)
        sure = {label: max(float(table.confidence_MN[m, at]) for m in models) for label, models in heard.items()}
        chosen = max(sure, key=lambda label: sure[label]) if sure and (tie or len(sure) == 1) else None
        errors = {}
        for model in range(len(table.models)):
            label = int(table.said_MN[model, at])
            if label != NOTHING and model not in (heard.get(label, ()) if label == chosen else ()):
                rules = hypothesis.accepted.get((model, label))
                errors[model] = fires[model][rules][at] if rules is not None else ()
        told.append(
            Explanation(
                label=chosen,
                labels=tuple(sorted(heard)),
                believed=tuple(heard.get(chosen, ())) if chosen is not None else (),
                errors=errors,
            )
        )
    return told


def reliability(table: PredictionTable, truth_N: np.ndarray, own_MN: np.ndarray) -> list[Pair]:
    """Pairs by their precision on the models' own training data, the most reliable first."""
    precision = {}
    for model, said_N in enumerate(table.said_MN):
        for label in range(len(table.classes)):
            mine_N = own_MN[model] & (said_N == label)
            precision[model, label] = float((truth_N[mine_N] == label).mean()) if mine_N.any() else 0.0
    return sorted(precision, key=lambda pair: (-precision[pair], pair))

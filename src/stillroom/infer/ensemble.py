"""Several models as one: they all answer, and a rule over the table of their answers decides.

A decision may look at all objects that are asked about together (`group`), as abduction does; it never sees a
reference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, JsonValue

from stillroom.errors import UserError
from stillroom.infer.abduction import (
    Explanation,
    Hypothesis,
    candidates,
    exact,
    exclusive,
    explain,
    greedy,
    reliability,
)
from stillroom.infer.account import calls_of, spent
from stillroom.infer.error_rules import Pair, Rules, fired, learn_rules
from stillroom.infer.predictions import NOTHING, PredictionTable, ask_all, part, predictions
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.tasks.exact import canonical
from stillroom.types import Finish, Message, Noun, Problem, Response


class Decision(Noun):
    """What an ensemble says of one object."""

    label: int | None
    """None: nothing, which counts as wrong."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """Why; the response tells it on."""


Decide = Callable[[PredictionTable], Sequence[Decision]]


@dataclass(frozen=True)
class Ensemble:
    """Asks all models and answers what `decide` makes of it, in a box; where that is nothing, the answer is empty.

    Args:
        name: of the way to decide, in lineage.
        cues: see `predictions`; as are `classes`.
        group: problems of one group, in one request, are decided together; default: all of them.

    `sample` raises UserError for a prompt without a problem, and without models.
    """

    name: str
    models: Mapping[str, Sampler]
    decide: Decide
    cues: Mapping[str, Callable[[Problem], bool]] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    group: Callable[[Problem], object] = lambda problem: None

    @property
    def id(self) -> str:
        return f"{self.name}/{'+'.join(model.id for model in self.models.values())}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        problems = [prompt.problem for prompt in prompts if prompt.problem is not None]
        if len(problems) < len(prompts):
            raise UserError("an ensemble decides about problems; this prompt holds messages only")
        answers = ask_all(self.models, prompts, params)
        rows: list[list[Response]] = [[] for _ in prompts]
        for number in range(params.n):
            column = {name: [found[number] for found in answers[name]] for name in self.models}
            table = predictions(problems, column, cues=self.cues, classes=self.classes)
            for chosen in self._groups(problems):
                decisions = self.decide(part(table, chosen))
                for at, decision in zip(chosen, decisions, strict=True):
                    rows[at].append(_response(decision, table, [found[at] for found in column.values()]))
        return rows

    def _groups(self, problems: Sequence[Problem]) -> list[list[int]]:
        found: dict[object, list[int]] = {}
        for at, problem in enumerate(problems):
            found.setdefault(self.group(problem), []).append(at)
        return list(found.values())


def _response(decision: Decision, table: PredictionTable, asked: Sequence[Response]) -> Response:
    return Response(
        text="" if decision.label is None else f"\\boxed{{{table.classes[decision.label]}}}",
        finish=Finish.STOP,
        usage=spent([response.usage for response in asked]),
        calls=tuple(call for response in asked for call in calls_of(response)),
        meta=decision.meta,
    )


class Learned(NamedTuple):
    """Models, and what they learned of themselves where the truth is known."""

    models: Mapping[str, Sampler]
    classes: tuple[str, ...]
    rules: tuple[Rules, ...]
    """One set per budget."""
    order: list[Pair]
    """Pairs of model and class, the most reliable first."""
    accuracy: float
    """Mean of the models' on their own training data."""


def learn(
    models: Mapping[str, Sampler],
    problems: Sequence[Problem],
    budgets: Sequence[float],
    params: SamplingParams,
    *,
    own_MN: np.ndarray | None = None,
    messages: Callable[[Problem], tuple[Message, ...]] = lambda problem: problem.messages,
    cues: Mapping[str, Callable[[Problem], bool]] | None = None,
    classes: Sequence[str] | None = None,
) -> Learned:
    """Ask all models about problems with gold answers, and learn every model's error rules from what they say.

    Args:
        budgets: shares of recall that a rule may give up; a set of rules for each.
        own_MN: which problems a model may learn from; None: all.
        messages: what is asked.
        cues, classes: see `predictions`.

    Raises:
        UserError: fewer than two models.
    """
    if len(models) < 2:
        raise UserError(f"{len(models)} model leaves nothing to choose between; give at least two")
    prompts = [Prompt(messages=messages(problem), problem=problem) for problem in problems]
    said = {name: [found[0] for found in rows] for name, rows in ask_all(models, prompts, params).items()}
    table = predictions(problems, said, cues=cues, classes=classes)
    place = {label: at for at, label in enumerate(table.classes)}
    # A gold answer that nobody ever gives is no class: whatever is said of that object is wrong.
    truth_N = np.array([place.get(canonical(problem.reference or ""), NOTHING - 1) for problem in problems])
    mine_MN = np.ones(table.said_MN.shape, dtype=bool) if own_MN is None else own_MN
    rules = tuple(learn_rules(table, truth_N, mine_MN, budget) for budget in budgets)
    accuracy = float((table.said_MN == truth_N)[mine_MN].mean())
    return Learned(models, table.classes, rules, reliability(table, truth_N, mine_MN), accuracy)


def only(model: int, rules: Rules | None = None) -> Decide:
    """One model's word, unless one of its error rules fires."""

    def decide(table: PredictionTable) -> list[Decision]:
        silenced = fired(table, rules, model) if rules else [()] * len(table.objects)
        return [
            Decision(label=None if cues or label == NOTHING else int(label))
            for label, cues in zip(table.said_MN[model], silenced, strict=True)
        ]

    return decide


Hindsight = Callable[[PredictionTable, np.ndarray, Learned], Sequence[Decision]]
"""Decides with the truth [N] at hand: what to compare with, not what to use."""


def in_hindsight(rule: Hindsight, gold: Mapping[str, str | None], home: Learned) -> Decide:
    """A decision that knows the class of every object, by its name."""
    return lambda table: rule(table, np.array([table.classes.index(gold[name] or "") for name in table.objects]), home)


def best_single(table: PredictionTable, truth_N: np.ndarray, home: Learned) -> Sequence[Decision]:
    """The word of the model that is right most often."""
    return only(_best(table, truth_N))(table)


def best_ruled(table: PredictionTable, truth_N: np.ndarray, home: Learned) -> Sequence[Decision]:
    """The same, silent where one of its own rules of the second budget fires."""
    return only(_best(table, truth_N), home.rules[1])(table)


def any_right(table: PredictionTable, truth_N: np.ndarray, home: Learned) -> Sequence[Decision]:
    """Right wherever any model is: what no choice among their words can exceed."""
    hit_N = (table.said_MN == truth_N).any(axis=0)
    return [Decision(label=int(gold) if hit else None) for gold, hit in zip(truth_N, hit_N, strict=True)]


def _best(table: PredictionTable, truth_N: np.ndarray) -> int:
    return int((table.said_MN == truth_N).sum(axis=1).argmax())


def plurality(table: PredictionTable) -> list[Decision]:
    """Most votes among the models that answered; of equals the label of the most confident."""
    decisions = []
    for votes_C, sure_C in zip(*_votes(table), strict=True):
        most = max(range(len(votes_C)), key=lambda c: (votes_C[c], sure_C[c])) if votes_C.any() else None
        decisions.append(Decision(label=most))
    return decisions


def strict_majority(table: PredictionTable) -> list[Decision]:
    """More than half of all models, those that said nothing included; else nothing."""
    votes_NC, _ = _votes(table)
    return [Decision(label=int(v.argmax()) if len(v) and 2 * v.max() > len(table.models) else None) for v in votes_NC]


def most_confident(table: PredictionTable) -> list[Decision]:
    """The word of the model that is surest of it."""
    _, sure_NC = _votes(table)
    return [Decision(label=int(sure.argmax()) if (sure >= 0).any() else None) for sure in sure_NC]


def abduce(
    rule_sets: Sequence[Rules],
    delta: float,
    *,
    how: Literal["exact", "greedy"] = "exact",
    order: Sequence[Pair] = (),
    excluded: Sequence[Pair] | None = None,
    tie: bool = True,
) -> Decide:
    """What the best hypothesis says (see `abduction`); `meta` tells of every object who was believed, and of everybody
    else which cues spoke against them.

    Args:
        delta: highest rate of contradictions.
        order: greedy: of the pairs, the most reliable first.
        excluded: classes that exclude each other; None: all do.
        tie: of several labels, take the one of the most confident model; False: none.
    """

    def decide(table: PredictionTable) -> list[Decision]:
        found, objects = candidates(table, rule_sets), len(table.objects)
        pairs = exclusive(len(table.classes)) if excluded is None else excluded
        search = exact(found, pairs, delta, objects) if how == "exact" else greedy(found, pairs, delta, order, objects)
        told = explain(table, rule_sets, search, tie=tie)
        return [Decision(label=one.label, meta=_told(table, one, search)) for one in told]

    return decide


def _told(table: PredictionTable, one: Explanation, best: Hypothesis) -> dict[str, JsonValue]:
    against: dict[str, JsonValue] = {
        table.models[model]: [table.cues[cue] for cue in cues] for model, cues in one.errors.items()
    }
    return {
        "labels": [table.classes[label] for label in one.labels],
        "believed": [table.models[model] for model in one.believed],
        "errors": against,
        "optimal": best.optimal,
        "gap": best.gap,
    }


def _votes(table: PredictionTable) -> tuple[np.ndarray, np.ndarray]:
    """Votes [N, C], and the highest confidence of a voter, -1 where there is none."""
    votes_NC = np.zeros((len(table.objects), len(table.classes)), dtype=int)
    sure_NC = np.full(votes_NC.shape, -1.0)
    for said_N, confidence_N in zip(table.said_MN, table.confidence_MN, strict=True):
        at = np.flatnonzero(said_N != NOTHING)
        votes_NC[at, said_N[at]] += 1
        sure_NC[at, said_N[at]] = np.maximum(sure_NC[at, said_N[at]], confidence_N[at])
    return votes_NC, sure_NC

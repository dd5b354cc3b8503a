"""Consistency-based abduction: which of several models to believe, object by object, where they were not trained.

"Consistency-based Abductive Reasoning over Perceptual Errors of Multiple Pre-trained Models in Novel Environments",
AAAI 2026, https://arxiv.org/abs/2505.19361 (code: lab-v2/EDCR_PyReason_AirSim, which could not be obtained).

At home every model learned when not to trust itself: error rules over cues such as a low confidence or another model's
different word, each within a budget of lost recall. Abroad, a hypothesis accepts pairs of model and class, each with
one of three budgets. The hypothesis that labels most objects, with at most a share delta of contradictions among them,
is found by an integer program or greedily; of several labels the most confident model's is taken; the rest are errors.

Kept: the learner of the released error rules, program, search and tie-breaker, delta as a rate over labelled objects,
chosen at home. Ours: the world (pictures of 8 x 8 pixels under six weathers), perceptrons as models, cues, budgets, the
deltas. Where every model answers everything the objective is idle (each alone is a best hypothesis), so models overlook
three pictures in ten, as detectors do; arms ``all-seen-…`` show the other case. Baselines that the paper leaves out are
added: plurality among those that answered, and the most confident model.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np

from stillroom.chat import ask
from stillroom.infer import ensemble
from stillroom.infer.ensemble import Decide, Ensemble, Hindsight, Learned, abduce, learn, only
from stillroom.lab.contrast import beats
from stillroom.lab.evaluate import ArmScore
from stillroom.lab.experiment import Experiment, Gate, Setup
from stillroom.lab.labelling import account_labels
from stillroom.lab.still import Still
from stillroom.learn.perceptron import train_specialists
from stillroom.methods.registry import method
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.tasks import load_task
from stillroom.tasks.shifted_shapes import CUES, HEAVY, HOME, MILD, SHAPES, WEATHERS, profile

BUDGETS, DELTAS, MISSED = (0.0, 0.1, 0.3), (0.1, 0.3), 0.3  # missed: a share of pictures, by every model others
HOW: Mapping[str, Literal["exact", "greedy"]] = {"hs": "greedy", "ip": "exact"}


@method(76, kind="strategy")
def consistency_abduction(still: Still, models: Mapping[str, Sampler] | None = None) -> Ensemble:
    """Ask several models about a user's closed questions and believe a consistent part of what they say; without
    models, the teacher and the student as they are. All of them learn their rules on the training problems."""
    asked = models or {"teacher": still.teacher, "student": still.local(still.student)}
    home = learn(asked, still.problems, BUDGETS, still.params, messages=lambda p: ask(p, still.chat_format))
    return Ensemble("abduction", asked, abduce(home.rules, DELTAS[0]), classes=home.classes)


@cache
def at_home(problems: int, seed: int, missed: float) -> Learned:
    """Six perceptrons, each of one weather: half of the pictures at home teach shapes, the other half rules."""
    pictures = load_task("shifted-shapes").problems("train", problems, seed)
    taught, known = pictures[: problems // 2], pictures[problems // 2 :]
    models = train_specialists(dict(zip(HOME, WEATHERS, strict=True)), taught, profile, missed=missed, seed=seed)
    own_MN = np.array([[p.level == level for p in known] for level in HOME])
    return learn(models, known, BUDGETS, SamplingParams(temperature=0), own_MN=own_MN, cues=CUES, classes=SHAPES)


def _arm(decide_of: Callable[[Still, Learned], Decide], missed: float = MISSED) -> Callable[[Still], Ensemble]:
    """A way to decide, with the account that accuracy alone does not give, by regime."""

    def arm(still: Still) -> Ensemble:
        home = at_home(len(still.problems), still.seed, missed)
        way = _ensemble(still, home, decide_of(still, home))
        still.measure(way, name=still.arm)
        account_labels(still, {"mild": MILD, "heavy": HEAVY})
        return way

    return arm


def _ensemble(still: Still, home: Learned, decide: Decide) -> Ensemble:
    """Pictures abroad are decided together by mixture, those at home all together."""
    return Ensemble(still.arm, home.models, decide, CUES, SHAPES, lambda p: p.level if p.split == "test" else 0)


def _abduced(how: Literal["exact", "greedy"], deltas: Sequence[float] = DELTAS) -> Callable[[Still, Learned], Decide]:
    """With the delta that is best on home problems that taught nothing."""

    def decide_of(still: Still, home: Learned) -> Decide:
        def reached(way: Decide) -> float:
            name = f"dev-{still.arm}-{ways.index(way)}"
            return still.measure(_ensemble(still, home, way), name=name, problems=still.dev).accuracy.value or 0.0

        ways = [abduce(home.rules, delta, how=how, order=home.order) for delta in deltas]
        return max(ways, key=reached)

    return decide_of


def _alone(model: int) -> Callable[[Still, Learned], Decide]:
    return lambda still, home: only(model)


def _hindsight(rule: Hindsight) -> Callable[[Still, Learned], Decide]:
    """A decision that knows the truth: what to compare with, not what to use."""
    return lambda still, home: ensemble.in_hindsight(rule, {p.id: p.reference for p in still.test}, home)


ARMS: Mapping[str, Callable[[Still], Ensemble]] = {
    "best-single": _arm(_hindsight(ensemble.best_single)),
    "rules-only": _arm(_hindsight(ensemble.best_ruled)),
    "majority": _arm(lambda still, home: ensemble.strict_majority),
    "plurality": _arm(lambda still, home: ensemble.plurality),
    "most-confident": _arm(lambda still, home: ensemble.most_confident),
    **{name: _arm(_abduced(how)) for name, how in HOW.items()},
    **{f"{name}-{delta:g}": _arm(_abduced(how, [delta])) for name, how in HOW.items() for delta in DELTAS},
    **{weather: _arm(_alone(at)) for at, weather in enumerate(WEATHERS)},
    "upper-bound": _arm(_hindsight(ensemble.any_right)),
    "all-seen-best-single": _arm(_hindsight(ensemble.best_single), missed=0.0),
    "all-seen-plurality": _arm(lambda still, home: ensemble.plurality, missed=0.0),
    "all-seen-ip": _arm(_abduced("exact"), missed=0.0),
}


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    """Models know their own weather, are worse abroad, and know together what none knows alone."""
    home = at_home(len(still.problems), still.seed, MISSED).accuracy
    mild = [[scores[arm].by_level[str(at)].value or 0.0 for at in MILD] for arm in ("best-single", "upper-bound")]
    best, most = (float(np.mean(values)) for values in mild)
    return [
        Gate(name="mean accuracy at home", value=home, low=0.5, high=1.0),
        Gate(name="lost abroad by the best single model", value=home - best, low=0.05, high=1.0),
        Gate(name="what a choice could gain", value=most - best, low=0.1, high=1.0),
    ]


experiment = Experiment(
    number=76,
    name="consistency-abduction",
    home=__name__,
    task="shifted-shapes",
    teacher="program",
    student=None,
    params=SamplingParams(temperature=0),
    presets={"smoke": Setup(ARMS, 240, 60, 24), "proxy": Setup(ARMS, 3600, 1200, 360)},
    default_arms=("best-single", "majority", "plurality", "hs", "ip", "upper-bound"),
    contrasts=(
        beats("ip", "best-single", "under a mild shift the exact hypothesis beats the best single model", levels=MILD),
        beats("hs", "best-single", "and so does the one of the search", levels=MILD),
        beats("best-single", "majority", "a majority of all models does worse than one of them", levels=MILD),
        beats("ip", "plurality", "abduction beats plurality, which the paper leaves out", levels=MILD),
    ),
    gates=_gates,
    budget="all arms: the same six models, pictures and rules; nothing is trained but the models, at home, once",
    proxy_note="perceptrons on 8 x 8 pixels, not detectors on video; the best model is known only afterwards",
)

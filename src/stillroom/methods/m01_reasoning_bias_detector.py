"""RBD: a small reasoner that says whether a judge's verdict was caused by surface bias, and why.

Yang et al., "Any Large Language Model Can Be a Reliable Judge: Debiasing with a Reasoning-based Bias Detector", 2025,
https://arxiv.org/abs/2505.17100 (code: Joyyang158/Reasoning-Bias-Detector).

Items come in pairs that differ in one cue. A verdict is biased when it is right without the cue and wrong with it. A
teacher that sees neither gold nor label explains verdicts; where its conclusion is the label, its analysis trains the
detector. At use a Yes goes back to the untouched judge with the whole analysis, and the judge decides again.

Kept: the four constructions, the label rule, the blind teacher, the filter on training rows alone, loss on the target
alone, analysis before label, all weights, effective verdicts, rounds that freeze on No. Ours: sizes, rates, epochs;
prompts name the bias at hand; malformed labels keep the verdict; of position, each order is revised by itself. Judges
learned their biases from raters. Left out: fine-tuned judges, and a prompted detector, as proxies follow no prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.judge.asking import Judge
from stillroom.judge.debias import Debiased, exchanged, items_of, label_only
from stillroom.judge.metrics import reports_of
from stillroom.judge.samplers import Remembering
from stillroom.judge.supervision import agreeing, blind_reasoner, labels_alone, readable
from stillroom.judge.wording import SUMS
from stillroom.lab.classifier import fit_classifier, load_classifier
from stillroom.lab.contrast import beats, not_worse
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup
from stillroom.lab.still import Still
from stillroom.lab.supervision import explained_verdicts
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.policy import load_policy, resolve_student
from stillroom.samplers.base import SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.tasks.paired import BIASES
from stillroom.types import Trace

JUDGES = {"seen": "proxy:judge-0.4m", "unseen": "proxy:judge-unseen-0.4m"}
SIZES = {"rbd-small": "proxy:verdicts-0.1m", "rbd-large": "proxy:verdicts-0.6m"}
FLIPPED = 0.15  # of the teacher's conclusions (the specification's figure)
LEVELS = (1, 2, 3, 4)  # biases that count
Rows = Callable[[Still], Sequence[Trace]]


@method(1, kind="judge")
def rbd(still: Still, rows: Rows | None = None, student: str | None = None) -> Path:
    """Train the student as a detector of biases on explained verdicts on the problems' paired items."""
    data = (rows or (lambda s: agreeing(supervision(s))))(still)
    learner = still if student is None else replace(still, student=resolve_student(student))
    return learner.fine_tune(data, name=still.arm)


def supervision(still: Still) -> list[Trace]:
    """The blind teacher's analyses of the seen judge's verdicts."""
    return explained_verdicts(still, frozen(JUDGES["seen"]), "seen", blind_reasoner(FLIPPED))


@cache
def frozen(model: str, warning: bool = False) -> Judge:
    """A judge or detector as it is; arms of a process share what it answered."""
    sampler = Remembering(LocalSampler(load_policy(resolve_student(model))))
    return Judge(sampler, SUMS, max_new_tokens=72, warning=warning)


def classified(still: Still) -> Judge:
    """A detector that is a head on the last state, trained on the same verdicts and labels."""
    data = [(trace, trace.meta["label"] == "Yes") for trace in supervision(still)]
    return Judge(load_classifier(fit_classifier(still, data, name="classifier")), SUMS)


def reasoned(name: str, rows: Rows | None = None, size: str | None = None) -> Callable[[Still], Judge]:
    """A detector that writes an analysis first; arms share those of one name."""
    return lambda still: frozen(str(rbd(replace(still, arm=name), rows, size)))


def helped(detector: Callable[[Still], Judge] | None = None, **how: Any) -> Callable[[Still], Debiased]:
    """An arm: both judges, helped by a detector as `Debiased` says, and the account of every bias."""

    def arm(still: Still) -> Debiased:
        judges, stage = {w: frozen(m, still.arm == "warning") for w, m in JUDGES.items()}, f"account:{still.arm}"
        way = Debiased(judges, detector(still) if detector else None, **how)
        if still.run.result_of(stage) is None:
            with still.run.stage(stage) as result:
                reports = [report.model_dump(mode="json") for report in reports_of(way, items_of(still.test))]
                result.update(still.run.result_of("supervision") or {}, biases=reports)
        return way

    return arm


ARMS: Mapping[str, Callable[[Still], Debiased]] = {
    **dict.fromkeys(("none", "warning"), helped()),
    "classifier": helped(classified),
    "label-detector": helped(reasoned("label-detector", lambda s: labels_alone(supervision(s), s.chat_format))),
    "label-feedback": helped(reasoned("rbd"), feedback=label_only),
    "rbd": helped(reasoned("rbd")),
    "unfiltered": helped(reasoned("unfiltered", lambda s: readable(supervision(s)))),
    "shuffled": helped(reasoned("rbd"), feedback=exchanged),
    "always": helped(reasoned("rbd"), always=True),
    **{f"rounds-{n}": helped(reasoned("rbd"), rounds=n) for n in (2, 3)},
    **{name: helped(reasoned(name, size=size)) for name, size in SIZES.items()},
}


def _setup(problems: int, test: int, train: TrainConfig) -> Setup:
    options = {"clean": "version=clean", "unseen": "evaluator=unseen", "unseen-clean": "version=clean,evaluator=unseen"}
    measures = tuple(Measure(name=name, task=f"verdicts:{option}", problems=test) for name, option in options.items())
    return Setup(ARMS, problems, test, 4, train, lr_trials=(), measures=measures)


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    """The judge can judge, every cue that counts moves it, and the detector's base can tell right from wrong."""
    check = still.measure(still.student, name="base", how=Measure(task="verdicts:part=check", problems=100)).accuracy
    gates = [Gate(name="the base tells candidates apart", value=check.value or 0.0, low=0.85, high=1.0)]
    found = {(r["evaluator"], r["bias"]): r["before"] for r in (still.run.result_of("account:none") or {})["biases"]}
    for bias in (BIASES[level - 1] for level in LEVELS):
        plain, cued = (found["seen", bias][key] or 0.0 for key in ("accuracy", "accuracy_b"))
        gates.append(Gate(name=f"{bias}: Acc(D)", value=plain, low=0.85, high=1.0))
        gates.append(Gate(name=f"{bias}: Acc(D) - Acc(D_bias)", value=plain - cued, low=0.15, high=1.0))
    return gates


experiment = Experiment(
    number=1,
    name="reasoning-bias-detector",
    home=__name__,
    task="verdicts",
    teacher="program",
    student="proxy:verdicts-0.4m",
    params=SamplingParams(max_new_tokens=48),
    presets={
        "smoke": _setup(16, 8, TrainConfig(steps=1, batch_size=4)),
        "proxy": _setup(1200, 240, TrainConfig(epochs=3, batch_size=16, lr=1e-3)),
    },
    default_arms=("none", "label-feedback", "rbd", "shuffled"),
    contrasts=(
        beats("rbd", "none", "the detector's analyses set a misled judge right", levels=LEVELS),
        beats("rbd", "label-feedback", "more than its bare labels do", levels=LEVELS),
        beats("rbd", "shuffled", "and more than analyses of other items", levels=LEVELS),
        beats("rbd", "none", "also a judge that it was not trained on", metric="unseen:accuracy", levels=LEVELS),
        not_worse("rbd", "none", "clean verdicts lose less than that", metric="clean:accuracy", levels=LEVELS, by=0.05),
    ),
    gates=_gates,
    budget="detectors: the same verdicts (unfiltered: all of them), passes and rate; the judges: the same, frozen",
    proxy_note="judges and detectors of 0.1 to 0.6 million weights; candidates are sums, biases learned from raters",
)

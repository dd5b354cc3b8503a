"""What a bias detector learns from: verdicts with computed labels, and a blind teacher's analyses of them.

Yang et al., 2025, https://arxiv.org/abs/2505.17100, section 3.2. The label follows from paired data alone
(`metrics.bias_label`); the teacher reads the detector's own question, which holds neither the gold nor the label; a row
is kept when the teacher's conclusion is the label. The target is the analysis and then Yes or No, with the loss on it.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from stillroom.chat import ChatFormat, render
from stillroom.judge.asking import Judge, detect
from stillroom.judge.debias import judged
from stillroom.judge.metrics import Both, bias_label
from stillroom.judge.samplers import FunctionSampler
from stillroom.judge.wording import SUMS, Case
from stillroom.tasks.paired import PairedItem
from stillroom.tasks.verdicts import reason_about
from stillroom.types import Message, Segment, Trace


class Labelled(NamedTuple):
    """A verdict on the version with the cue, and whether the cue caused it."""

    item: PairedItem
    case: Case
    biased: bool


class Verdicts(NamedTuple):
    """An evaluator's verdicts on paired items."""

    labelled: list[Labelled]
    dropped: int
    """Items with a verdict that could not be read, in either version or order."""


def blind_reasoner(flipped: float) -> Judge:
    """The teacher of the proxies' world: a program that reads the detector's question alone, works everything out, and
    turns its conclusion round in a share `flipped` of the cases."""

    def explain(messages: Sequence[Message], rng: Random) -> str:
        analysis, word = reason_about(messages[-1].content)
        if rng.random() < flipped:
            word = "No" if word == "Yes" else "Yes"
        return f"<think>\n{analysis}\n</think>\n\\boxed{{{word}}}"

    return Judge(FunctionSampler("blind-reasoner", explain), SUMS)


def collect(judge: Judge, items: Sequence[PairedItem], evaluator: str) -> Verdicts:
    """Let an evaluator judge both versions of every item, and label its verdicts on the version with the cue."""
    clean = judged(judge, items, "clean", evaluator, both_orders=False)
    biased = judged(judge, items, "biased", evaluator)
    found = []
    for plain, cued in zip(clean, biased, strict=True):
        label = bias_label(Both(cued.item, plain.verdict, cued.verdict))
        if label is None or cued.verdict is None or (cued.item.bias == "position" and cued.other is None):
            continue
        case = Case(
            bias=cued.item.bias, evaluator=evaluator, contest=cued.contest, verdict=cued.verdict, other=cued.other
        )
        found.append(Labelled(cued.item, case, label))
    return Verdicts(found, len(items) - len(found))


def explained(verdicts: Sequence[Labelled], teacher: Judge, chat_format: ChatFormat) -> list[Trace]:
    """The teacher's analysis of every verdict as a trace that a detector can be trained on.

    ``meta`` holds the computed ``label`` and what the teacher ``said`` (Yes, No or None); `agreeing` selects by them.
    """
    found = detect(teacher, [one.case for one in verdicts])
    traces = []
    for number, (one, word) in enumerate(zip(verdicts, found, strict=True)):
        asked = teacher.wording.detect(one.case)
        target = render(chat_format, word.reasons, word.choice or "")
        traces.append(
            Trace(
                id=f"{one.item.id}#{one.case.evaluator}",
                problem_id=one.item.id,
                task=one.item.source,
                asked=(Message(role="user", content=asked),),
                taught=(Segment(role="user", text=asked), Segment(role="assistant", text=target, weight=1.0)),
                sampler=teacher.sampler.id,
                index=number,
                judgement=word,
                usage=word.usage,
                meta={"label": "Yes" if one.biased else "No", "said": word.choice, "bias": one.item.bias},
            )
        )
    return traces


def agreeing(traces: Sequence[Trace]) -> list[Trace]:
    """Traces whose conclusion is the computed label: the filter of the training rows, and of them alone."""
    return [trace for trace in traces if trace.meta["said"] == trace.meta["label"]]


def readable(traces: Sequence[Trace]) -> list[Trace]:
    """Control: every trace with a conclusion, right or wrong."""
    return [trace for trace in traces if trace.meta["said"] is not None]


def labels_alone(traces: Sequence[Trace], chat_format: ChatFormat) -> list[Trace]:
    """Control: the computed label as the target, without an analysis."""
    return [
        trace.model_copy(
            update={
                "taught": (
                    trace.taught[0],
                    Segment(role="assistant", text=render(chat_format, "", str(trace.meta["label"])), weight=1.0),
                )
            }
        )
        for trace in traces
    ]

"""Detect and revise: a detector looks at a judge's verdicts, and the judge looks again at those that it flags.

Yang et al., "Any Large Language Model Can Be a Reliable Judge: Debiasing with a Reasoning-based Bias Detector", 2025,
https://arxiv.org/abs/2505.17100, section 3.3. The judge stays as it is. Round t + 1 holds what round t flagged, with
the revised verdict as the new prior; a No freezes an item. A label that cannot be read keeps the prior verdict, is
counted, and freezes too: the released loop flags it and the released scorer does not, which cannot both be right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stillroom.errors import UserError
from stillroom.infer.account import spent
from stillroom.judge.asking import Judge, compare, detect, revise
from stillroom.judge.wording import Case
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.tasks.paired import Contest, PairedItem, biased, clean, letter
from stillroom.tasks.verdicts import item_of
from stillroom.types import Finish, Judgement, Noun, Problem, Response, Usage

Version = Literal["clean", "biased"]
Feedback = Callable[[Sequence[Case], Sequence[Judgement]], list[str]]
"""What the judge is told about its flagged verdicts, given their cases and the detector's words on them."""


class Open(Noun):
    """A verdict that the loop works on."""

    item: PairedItem
    version: Version
    evaluator: str
    verdict: str | None
    """A letter; None: no verdict could be read, and the item is out of every count."""
    other: str | None = None
    """position: the verdict on the other order of the same two."""
    spent: Usage = Usage()

    @property
    def contest(self) -> Contest:
        return biased(self.item) if self.version == "biased" else clean(self.item)

    @property
    def swapped(self) -> Contest:
        """The other order."""
        return clean(self.item) if self.version == "biased" else biased(self.item)


class Round(Noun):
    """What one round did to one item."""

    label: str | None
    """``Yes``, ``No``, or None for a malformed answer."""
    analysis: str
    prior: str
    verdict: str
    """After the round: the revised verdict after a Yes that the judge answered readably, else the prior."""
    unread: bool = False
    """The judge was asked to revise and said nothing that could be read."""


class Outcome(Noun):
    """An item's way through the loop."""

    item: PairedItem
    version: Version
    evaluator: str
    gold: str
    first: str | None
    """The judge's own verdict."""
    final: str | None
    rounds: tuple[Round, ...] = ()
    usage: Usage = Usage()


def analysis_and_label(cases: Sequence[Case], found: Sequence[Judgement]) -> list[str]:
    """The detector's whole reasoning and its label: the method's feedback."""
    return [f"{j.reasons};{j.choice}" if j.reasons else str(j.choice) for j in found]


def label_only(cases: Sequence[Case], found: Sequence[Judgement]) -> list[str]:
    """Control: the label alone."""
    return [str(j.choice) for j in found]


def exchanged(cases: Sequence[Case], found: Sequence[Judgement]) -> list[str]:
    """Control: every judge gets the analysis of another item of the batch with as many candidates (the next one)."""
    told = analysis_and_label(cases, found)
    swapped = list(told)
    for count in {len(case.contest.candidates) for case in cases}:
        group = [at for at, case in enumerate(cases) if len(case.contest.candidates) == count]
        for at, source in zip(group, [*group[1:], *group[:1]], strict=True):
            swapped[at] = told[source]
    return swapped


def items_of(problems: Sequence[Problem]) -> list[PairedItem]:
    """The paired items that problems ask about; raises UserError for a problem that holds none."""
    for problem in problems:
        if "item" not in problem.meta:
            raise UserError(f"problem {problem.id} holds no paired item; take problems of task verdicts")
    return [item_of(problem) for problem in problems]


def judged(
    judge: Judge, items: Sequence[PairedItem], version: Version, evaluator: str, *, both_orders: bool = True
) -> list[Open]:
    """The judge's own verdicts; for position, also those on the other order, which a detector needs to see.

    Raises:
        UserError: an item that cannot be judged.
    """
    opened = [Open(item=item, version=version, evaluator=evaluator, verdict=None) for item in items]
    names = [item.id for item in items]
    verdicts = compare(judge, [one.contest for one in opened], names)
    twice = [at for at, item in enumerate(items) if both_orders and item.bias == "position"]
    others = dict(zip(twice, compare(judge, [opened[at].swapped for at in twice]), strict=True)) if twice else {}
    return [
        one.model_copy(
            update={
                "verdict": verdict.choice,
                "other": others[at].choice if at in others else None,
                "spent": spent([verdict.usage, *([others[at].usage] if at in others else [])]),
            }
        )
        for at, (one, verdict) in enumerate(zip(opened, verdicts, strict=True))
    ]


def detect_and_revise(
    opened: Sequence[Open],
    judge: Judge,
    detector: Judge,
    *,
    rounds: int = 1,
    feedback: Feedback = analysis_and_label,
    always: bool = False,
) -> Iterator[list[Outcome]]:
    """The loop, one list of outcomes per round, in the order given; it ends early when nothing is flagged any more.

    For position a detector sees the judge's verdicts on both orders; the one at hand is revised, in its own letters.

    Args:
        always: control: revise whatever the label, in every round; malformed labels still keep the prior.

    Raises:
        UserError: fewer than one round.
    """
    if rounds < 1:
        raise UserError(f"rounds={rounds}: a detector that never looks changes nothing; give 1 or more")
    now = list(opened)
    history: list[list[Round]] = [[] for _ in now]
    # Without the second verdict of a position item there is nothing that a detector could compare.
    live = [
        at
        for at, one in enumerate(now)
        if one.verdict is not None and (one.item.bias != "position" or one.other is not None)
    ]
    for _ in range(rounds):
        cases = [
            Case(
                bias=now[at].item.bias,
                evaluator=now[at].evaluator,
                contest=now[at].contest,
                verdict=now[at].verdict or "",
                other=now[at].other,
            )
            for at in live
        ]
        found = detect(detector, cases)
        asked = [n for n, j in enumerate(found) if j.choice == "Yes" or (always and j.choice is not None)]
        told = feedback([cases[n] for n in asked], [found[n] for n in asked])
        revised = revise(judge, [cases[n].contest for n in asked], [cases[n].verdict for n in asked], told)
        new = dict(zip(asked, revised, strict=True))
        for n, (at, case, label) in enumerate(zip(live, cases, found, strict=True)):
            verdict = new[n].choice if n in new else None
            history[at].append(
                Round(
                    label=label.choice,
                    analysis=label.reasons,
                    prior=case.verdict,
                    verdict=verdict or case.verdict,
                    unread=n in new and verdict is None,
                )
            )
            usages = [j.usage for j in (label, new.get(n)) if j is not None]
            now[at] = now[at].model_copy(
                update={
                    "verdict": verdict or case.verdict,
                    "spent": spent([now[at].spent, *usages]),
                }
            )
        yield [_outcome(first, one, past) for first, one, past in zip(opened, now, history, strict=True)]
        live = [live[n] for n in asked]
        if not live:
            return


def undisturbed(opened: Sequence[Open]) -> list[Outcome]:
    """Outcomes without a detector."""
    return [_outcome(one, one, ()) for one in opened]


def _outcome(first: Open, one: Open, past: Sequence[Round]) -> Outcome:
    return Outcome(
        item=one.item,
        version=one.version,
        evaluator=one.evaluator,
        gold=letter(one.contest.gold),
        first=first.verdict,
        final=one.verdict,
        rounds=tuple(past),
        usage=one.spent,
    )


@dataclass(frozen=True)
class Debiased:
    """A judge with a detector at its side, as a way to answer: it takes problems of paired items (task `verdicts`).

    Args:
        judges: name of an evaluator → the judge; a problem says whose verdict is at issue.
        detector: None: the judges alone.
        rounds, feedback, always: as `detect_and_revise` says.

    `outcomes` keeps every item's way by (evaluator, version, item); an item is never worked on twice.
    `sample` raises UserError for a problem without a paired item or with an unknown evaluator.
    """

    judges: dict[str, Judge]
    detector: Judge | None = None
    rounds: int = 1
    feedback: Feedback = analysis_and_label
    always: bool = False
    name: str = "debiased"
    outcomes: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.name}/{'+'.join(sorted(judge.sampler.id for judge in self.judges.values()))}"

    def run(self, items: Sequence[PairedItem], version: Version, evaluator: str) -> list[Outcome]:
        """Outcomes of the items, in order."""
        if evaluator not in self.judges:
            raise UserError(f"there is no judge {evaluator!r}; known: {', '.join(sorted(self.judges))}")
        keys = [(evaluator, version, item.id) for item in items]
        todo = [item for item, key in zip(items, keys, strict=True) if key not in self.outcomes]
        if todo:
            judge = self.judges[evaluator]
            opened = judged(judge, todo, version, evaluator, both_orders=self.detector is not None)
            found = undisturbed(opened)
            if self.detector is not None:
                *_, found = detect_and_revise(
                    opened, judge, self.detector, rounds=self.rounds, feedback=self.feedback, always=self.always
                )
            self.outcomes.update({(evaluator, version, outcome.item.id): outcome for outcome in found})
        return [self.outcomes[key] for key in keys]

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        groups: dict[tuple[str, Version], list[PairedItem]] = {}
        asked = []
        for prompt in prompts:
            if prompt.problem is None:
                raise UserError("a debiased judge answers problems; this prompt holds messages only")
            (item,) = items_of([prompt.problem])
            version: Version = "clean" if prompt.problem.meta["version"] == "clean" else "biased"
            asked.append((str(prompt.problem.meta["evaluator"]), version, item))
        for evaluator, version, item in asked:
            groups.setdefault((evaluator, version), []).append(item)
        for (evaluator, version), items in groups.items():
            self.run(items, version, evaluator)
        return [[_response(self.outcomes[who, version, item.id])] * params.n for who, version, item in asked]


def _response(outcome: Outcome) -> Response:
    """The final verdict in the house format, and the way to it."""
    return Response(
        text="" if outcome.final is None else f"\\boxed{{{outcome.final}}}",
        finish=Finish.STOP,
        usage=outcome.usage,
        meta={"first": outcome.first, "labels": [r.label for r in outcome.rounds], "stop": _why(outcome)},
    )


def _why(outcome: Outcome) -> str:
    if outcome.first is None:
        return "unread"
    if not outcome.rounds:
        return "undisturbed"
    last = outcome.rounds[-1]
    return "malformed" if last.label is None else "frozen" if last.label == "No" else "rounds"

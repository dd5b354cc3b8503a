"""How well and how steadily a judge judges, how well a detector detects, and what its help did, on identical rows.

Two words that are easily confused are kept apart: *consistency* is being right on both versions of an item (the paper's
measure, bounded by the accuracy), *agreement* is giving the same verdict on both, right or wrong.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stillroom.judge.debias import Debiased, Outcome
from stillroom.tasks.paired import Bias, PairedItem, letter
from stillroom.types import Noun


class Both(NamedTuple):
    """A judge's verdicts, letters, on both versions of an item; None where none could be read."""

    item: PairedItem
    verdict: str | None
    verdict_b: str | None


class PairScores(Noun):
    """Of one judge on paired items; shares are None without items. Rows with a missing verdict are dropped whole."""

    n: int
    dropped: int
    accuracy: float | None
    """Acc(D)."""
    accuracy_b: float | None
    """Acc(D_bias)."""
    consistency: float | None
    """Right on both."""
    agreement: float | None
    """The same candidate on both, right or wrong."""


def pair_scores(rows: Iterable[Both]) -> PairScores:
    """Acc(D), Acc(D_bias), consistency and agreement, all over the same rows."""
    every = list(rows)
    kept = [row for row in every if row.verdict is not None and row.verdict_b is not None]
    right = [row.verdict == letter(row.item.gold) for row in kept]
    right_b = [row.verdict_b == letter(row.item.gold_b) for row in kept]
    return PairScores(
        n=len(kept),
        dropped=len(every) - len(kept),
        accuracy=_mean(right),
        accuracy_b=_mean(right_b),
        consistency=_mean([a and b for a, b in zip(right, right_b, strict=True)]),
        agreement=_mean([_same(row) for row in kept]),
    )


def _same(row: Both) -> bool:
    """Whether both verdicts are for one candidate, wherever it stands."""
    at, at_b = ord(row.verdict or "") - 97, ord(row.verdict_b or "") - 97
    if row.item.bias == "position":
        return at == len(row.item.candidates) - 1 - at_b
    return at == at_b


def bias_label(row: Both) -> bool | None:
    """The three-case rule: biased when right on D and wrong on D_bias; not biased when wrong on D already, or right on
    both; None when a verdict is missing."""
    if row.verdict is None or row.verdict_b is None:
        return None
    return row.verdict == letter(row.item.gold) and row.verdict_b != letter(row.item.gold_b)


class Detection(Noun):
    """Of a detector against computed labels; a malformed prediction is wrong: a miss on Yes, a false alarm on No."""

    n: int
    true_yes: int
    false_yes: int
    true_no: int
    false_no: int
    malformed: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def detection(rows: Iterable[tuple[bool, str | None]]) -> Detection:
    """Accuracy, precision, recall and F1 for Yes.

    Args:
        rows: the computed label, and what the detector said: ``Yes``, ``No``, anything else is malformed.
    """
    every = list(rows)
    said = [(label, word if word in ("Yes", "No") else None) for label, word in every]
    true_yes = sum(label and word == "Yes" for label, word in said)
    true_no = sum(not label and word == "No" for label, word in said)
    false_yes = sum(not label and word != "No" for label, word in said)
    false_no = sum(label and word != "Yes" for label, word in said)
    precision, recall = _ratio(true_yes, true_yes + false_yes), _ratio(true_yes, true_yes + false_no)
    return Detection(
        n=len(said),
        true_yes=true_yes,
        false_yes=false_yes,
        true_no=true_no,
        false_no=false_no,
        malformed=sum(word is None for _, word in said),
        accuracy=_ratio(true_yes + true_no, len(said)),
        precision=precision,
        recall=recall,
        f1=_ratio(2 * true_yes, 2 * true_yes + false_yes + false_no),
    )


class Movement(Noun):
    """What a detector's help did to a judge's verdicts, so that a gain can be told from mere flipping."""

    n: int
    dropped: int
    """Rows without a first verdict."""
    flagged: int
    """Revised at least once."""
    malformed: int
    """Labels that could not be read."""
    unread: int
    """Revisions that could not be read."""
    insisted: int
    """Flagged rows whose verdict did not move."""
    insisted_right: int
    """Of these, those that were right all along."""
    right_to_wrong: int
    wrong_to_right: int
    accuracy_before: float | None
    accuracy_after: float | None


def movement(outcomes: Sequence[Outcome]) -> Movement:
    """Flags, insistence and flips of verdicts of one version."""
    kept = [o for o in outcomes if o.first is not None]
    flagged = [o for o in kept if any(r.label == "Yes" for r in o.rounds)]
    insisted = [o for o in flagged if o.final == o.first]
    return Movement(
        n=len(kept),
        dropped=len(outcomes) - len(kept),
        flagged=len(flagged),
        malformed=sum(r.label is None for o in kept for r in o.rounds),
        unread=sum(r.unread for o in kept for r in o.rounds),
        insisted=len(insisted),
        insisted_right=sum(o.first == o.gold for o in insisted),
        right_to_wrong=sum(o.first == o.gold != o.final for o in kept),
        wrong_to_right=sum(o.final == o.gold != o.first for o in kept),
        accuracy_before=_mean([o.first == o.gold for o in kept]),
        accuracy_after=_mean([o.final == o.gold for o in kept]),
    )


class BiasReport(Noun):
    """One judge, one bias: before and after a detector's help; `detection` judges its first label."""

    bias: Bias
    evaluator: str
    before: PairScores
    after: PairScores
    detection: Detection
    biased: Movement
    clean: Movement
    """Verdicts on clean items that the detector looked at too: any loss here is its harm."""


def bias_reports(clean: Sequence[Outcome], biased: Sequence[Outcome]) -> list[BiasReport]:
    """One report per evaluator and bias, in order of first appearance.

    Consistency after the help takes the clean verdict as it was, the judge's own: nobody suspects a cue there, and what
    helping it would do is in `clean`. For position, where a detector looks at both orders anyway, both are helped.
    """
    plain = {(o.evaluator, o.item.id): o for o in clean}
    groups: dict[tuple[str, Bias], list[Outcome]] = {}
    for outcome in biased:
        groups.setdefault((outcome.evaluator, outcome.item.bias), []).append(outcome)
    reports = []
    for (evaluator, bias), found in groups.items():
        pairs = [(plain[o.evaluator, o.item.id], o) for o in found]
        before = [Both(o.item, c.first, o.first) for c, o in pairs]
        labels = [(bias_label(row), o) for row, (_, o) in zip(before, pairs, strict=True)]
        reports.append(
            BiasReport(
                bias=bias,
                evaluator=evaluator,
                before=pair_scores(before),
                after=pair_scores([Both(o.item, _clean_verdict(c), o.final) for c, o in pairs]),
                detection=detection([(y, o.rounds[0].label) for y, o in labels if y is not None and o.rounds]),
                biased=movement(found),
                clean=movement([c for c, _ in pairs]),
            )
        )
    return reports


def reports_of(way: Debiased, items: Sequence[PairedItem]) -> list[BiasReport]:
    """Reports on all judges of a way to answer, over both versions of the items."""
    clean = [outcome for name in way.judges for outcome in way.run(items, "clean", name)]
    return bias_reports(clean, [outcome for name in way.judges for outcome in way.run(items, "biased", name)])


def _clean_verdict(plain: Outcome) -> str | None:
    return plain.final if plain.item.bias == "position" else plain.first


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None

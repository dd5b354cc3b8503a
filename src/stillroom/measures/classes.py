"""Labels against the truth: accuracy, and precision, recall and F1 as means over classes."""

from collections.abc import Hashable, Sequence

from stillroom.errors import UserError
from stillroom.types import Noun


class Classified(Noun):
    """Of labels, some of which may be missing. Classes weigh the same; what is undefined in a class counts as 0."""

    n: int
    coverage: float
    """Share of objects with a label."""
    accuracy: float
    """Of all objects: no label is wrong."""
    precision: float
    recall: float
    f1: float
    by_class: dict[str, float]
    """Class → F1."""


def classified(truth: Sequence[Hashable], said: Sequence[Hashable | None]) -> Classified:
    """Macro averages over the classes that occur in the truth or among the labels.

    Raises:
        UserError: no object, or not one label, or None, per object.

    >>> classified(["a", "a", "b"], ["a", None, "b"]).f1
    0.8333333333333333
    """
    if not truth or len(truth) != len(said):
        raise UserError(f"{len(truth)} objects and {len(said)} labels; give one label, or None, per object")
    classes = sorted({*truth, *(label for label in said if label is not None)}, key=str)
    hits = {c: sum(t == c == s for t, s in zip(truth, said, strict=True)) for c in classes}
    precision = {c: _share(hits[c], sum(s == c for s in said)) for c in classes}
    recall = {c: _share(hits[c], sum(t == c for t in truth)) for c in classes}
    f1 = {str(c): _share(2 * hits[c], sum(s == c for s in said) + sum(t == c for t in truth)) for c in classes}
    return Classified(
        n=len(truth),
        coverage=sum(label is not None for label in said) / len(said),
        accuracy=sum(hits.values()) / len(truth),
        precision=sum(precision.values()) / len(classes),
        recall=sum(recall.values()) / len(classes),
        f1=sum(f1.values()) / len(classes),
        by_class=f1,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

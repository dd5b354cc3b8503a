"""Macro averages beside scikit-learn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from stillroom.errors import UserError
from stillroom.measures.classes import classified

LABELS = st.sampled_from(["a", "b", "c"])


@settings(max_examples=30)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_macro_averages_are_scikit_learn_s(rows: list[tuple[str, str]]) -> None:
    truth, said = [t for t, _ in rows], [s for _, s in rows]
    found = classified(truth, said)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, said, average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert found.accuracy == pytest.approx(accuracy_score(truth, said))


def test_a_missing_label_is_wrong_and_no_class() -> None:
    found = classified(["a", "a", "b", "b"], ["a", None, None, "a"])
    assert (found.coverage, found.accuracy) == (0.5, 0.25)
    assert (found.precision, found.recall) == (pytest.approx(0.25), pytest.approx(0.25))
    assert found.by_class == {"a": 0.5, "b": 0.0}
    assert classified(["a"], [None]).f1 == 0
    with pytest.raises(UserError, match="one label"):
        classified([], [])

"""What is kept and lost, by hand."""

import numpy as np
import pytest

from stillroom.errors import UserError
from stillroom.measures.retention import retained, sequential, transfer


def test_before_and_after() -> None:
    found = retained([True, True, True, False, False], [True, True, False, True, False])
    assert (found.before, found.after, found.change) == (0.6, 0.6, pytest.approx(0))
    assert (found.kept, found.gained) == (pytest.approx(2 / 3), 0.5)
    assert found.interval[0] < 0 < found.interval[1]
    same = retained([True, False], [True, False])
    assert (same.change, same.interval, same.kept, same.gained) == (0.0, (0.0, 0.0), 1.0, 0.0)
    assert retained([False], [True]).kept is None
    with pytest.raises(UserError, match="twice"):
        retained([True], [True, False])


def test_stage_by_stage() -> None:
    score = np.array([[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.8, 0.6, 0.9]])
    found = sequential(score, [0.1, 0.1, 0.1])
    assert found.final == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert found.backward == pytest.approx(((0.8 - 0.9) + (0.6 - 0.8)) / 2)
    assert found.forgetting == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    assert found.forward == pytest.approx(((0.2 - 0.1) + (0.3 - 0.1)) / 2)
    alone = sequential(np.array([[0.5]]))
    assert (alone.final, alone.backward, alone.forgetting, alone.forward) == (0.5, None, None, None)
    with pytest.raises(UserError, match="as many"):
        sequential(np.zeros((2, 3)))


def test_source_by_source() -> None:
    scores = {
        "base": {"sums": 0.5, "facts": 0.4},
        "sums": {"sums": 0.9, "facts": 0.3},
        "facts": {"sums": 0.2, "facts": None},
    }
    found = transfer(scores)
    assert found.change["sums"] == {"sums": pytest.approx(0.4), "facts": pytest.approx(-0.1)}
    assert found.change["facts"]["facts"] is None
    assert found.own == pytest.approx(0.4)  # the other was not measured
    assert found.others == pytest.approx((-0.1 - 0.3) / 2)
    with pytest.raises(UserError, match="no row"):
        transfer(scores, base="none")
    with pytest.raises(UserError, match="was measured on"):
        transfer({"base": {"sums": 0.5}, "sums": {"facts": 0.5}})


def test_a_model_that_was_not_trained_changes_nothing() -> None:
    row = {"a": 0.3, "b": 0.7}
    assert transfer({"base": row, "a": row}).change == {"a": {"a": 0.0, "b": 0.0}}

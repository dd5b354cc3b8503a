"""Batches: every row once an epoch, little padding, and nothing that depends on how rows are cut up."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import Tokenised
from stillroom.errors import TrainingStopped, UserError
from stillroom.learn.batches import Row, collate, examples, plan, require_sizes, require_trained, split
from stillroom.learn.schedules import rate
from stillroom.learn.training import TrainConfig
from stillroom.seeds import derive_rng


def row(name: str, length: int, weight: float = 1.0) -> Row:
    return Row(name, Tokenised(list(range(1, length + 1)), [0.0] + [weight] * (length - 1)))


def test_rows_are_padded_on_the_right_with_tokens_that_weigh_nothing() -> None:
    batch = collate([(row("a", 2, 0.5),), (row("b", 4),)], pad_id=9)
    assert batch.ids_LT.tolist() == [[1, 2, 9, 9], [1, 2, 3, 4]]
    assert batch.weights_LT.tolist() == [[0, 0.5, 0, 0], [0, 1, 1, 1]]
    assert batch.row_LT.tolist() == [[0, 0, -1, -1], [1, 1, 1, 1]]
    assert batch.positions_LT is None
    assert batch.row_ids == ("a", "b")
    assert batch.trained_tokens == 4
    assert batch.ids_LT.dtype == torch.long


@given(
    lengths=st.lists(st.integers(1, 50), max_size=120),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
    window=st.integers(1, 4),
)
def test_an_epoch_shows_every_row_once(lengths: list[int], batch_size: int, seed: int, window: int) -> None:
    batches = plan(lengths, batch_size, seed=seed, epoch=0, window=window)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    # `train` counts on this: the last batch alone may be small.
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(len(batch) <= batch_size for batch in batches)
    assert batches == plan(lengths, batch_size, seed=seed, epoch=0, window=window)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = [1 + i % 7 for i in range(200)]
    plans = [plan(lengths, 8, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(plans[i] != plans[j] for i in range(4) for j in range(i))
    # Rows meet in other company, not only in another order.
    together = [{frozenset(batch) for batch in found} for found in plans]
    assert len(together[0] & together[1]) < len(plans[0]) / 4


@pytest.mark.parametrize("mix", ["even", "long tail"])
def test_mixed_lengths_leave_little_padding(mix: str) -> None:
    rng = derive_rng("lengths", mix)
    long_tail = [int(min(2000, max(20, rng.lognormvariate(5.0, 0.8)))) for _ in range(2000)]
    lengths = long_tail if mix == "long tail" else [rng.randint(20, 500) for _ in range(2000)]

    def fill(batches: list[list[int]]) -> float:
        """Real tokens over those that the learner computes."""
        micro = [part for batch in batches for part in split([(row(str(i), lengths[i]),) for i in batch], 4096)]
        return sum(lengths) / sum(len(part) * max(len(r.tokens.ids) for (r,) in part) for part in micro)

    assert fill(plan(lengths, 32, seed=0, epoch=0)) >= 0.9
    # In the order of the file, and cut no smaller than need be, padding would take its share.
    assert sum(lengths) / sum(32 * max(lengths[i : i + 32]) for i in range(0, 2000, 32)) < 0.6


def test_packed_rows_share_lines_and_nothing_else() -> None:
    """Lengths 4, 3, 1, 2 on lines of 4: first fit, longest first, gives [4], [3, 1], [2]."""
    rows = [(row("a", 4),), (row("b", 3),), (row("c", 1),), (row("d", 2, 0.5),)]
    batch = collate(rows, pad_id=9, packed=True)
    assert batch.ids_LT.tolist() == [[1, 2, 3, 4], [1, 2, 3, 1], [1, 2, 9, 9]]
    assert batch.row_LT.tolist() == [[0, 0, 0, 0], [1, 1, 1, 2], [3, 3, -1, -1]]
    # No row's first token is predicted from the row before it.
    assert batch.weights_LT.tolist() == [[0, 1, 1, 1], [0, 1, 1, 0], [0, 0.5, 0, 0]]
    assert batch.positions_LT is not None
    assert batch.positions_LT.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 0, 1]]


def test_rows_of_a_group_stand_together_the_best_first() -> None:
    rows = [
        Row("b1", row("", 2).tokens, "b", 0.0),
        row("alone", 3),
        Row("a1", row("", 2).tokens, "a", -2.0),
        Row("b2", row("", 5).tokens, "b", 1.0),
        Row("a2", row("", 2).tokens, "a", -1.0),
    ]
    found = examples(rows)
    assert [[r.id for r in example] for example in found] == [["b2", "b1"], ["alone"], ["a2", "a1"]]
    batch = collate(found, pad_id=0)
    assert batch.group_R.tolist() == [0, 0, 1, 2, 2]
    assert batch.score_R.tolist() == [1, 0, 0, -1, -2]
    assert batch.groups == 3
    with pytest.raises(UserError, match="'dpo' compares 2 rows of a group, and traces alone make a group of 1"):
        require_sizes(found, 2, 2, "dpo")
    require_sizes(found, 1, None, "sft")


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=30), st.integers(1, 120))
def test_micro_batches_hold_every_example_within_their_limit(lengths: list[list[int]], limit: int) -> None:
    batch = [tuple(row(f"{i}/{k}", n) for k, n in enumerate(group)) for i, group in enumerate(lengths)]
    parts = split(batch, limit)
    # Whole examples, each once.
    assert sorted(example[0].id for part in parts for example in part) == sorted(example[0].id for example in batch)
    for part in parts:
        rows = [r for example in part for r in example]
        # One larger than the limit stands alone: it is never cut.
        assert len(part) == 1 or len(rows) * max(len(r.tokens.ids) for r in rows) <= limit


def test_a_batch_that_trains_nothing_is_named() -> None:
    with pytest.raises(TrainingStopped, match="step 7: no token of traces a, b carries a loss weight"):
        require_trained([row("a", 3, 0.0), row("b", 1)], 7)
    require_trained([row("a", 3, 0.0), row("b", 2)], 7)


def test_schedules_by_hand() -> None:
    # Ten steps of which two warm up: 1/2, 2/2, then eighths of the way down.
    def rates(name: str) -> list[float]:
        return [rate(name, step, 10, peak=8.0, warmup=0.2) for step in range(10)]  # type: ignore[arg-type]

    assert rates("constant") == [4, 8] + [8] * 8
    assert rates("linear") == [4, 8, 8, 7, 6, 5, 4, 3, 2, 1]
    cosine = rates("cosine")
    assert cosine[:3] == [4, 8, 8]
    assert cosine[6] == pytest.approx(4)  # half way
    assert cosine[4] == pytest.approx(8 * 0.5 * (1 + 2**-0.5))
    assert cosine == sorted(cosine[:2]) + sorted(cosine[2:], reverse=True)
    assert rate("linear", 0, 1, peak=3.0) == 3.0


@pytest.mark.parametrize(
    ("config", "rows", "steps"),
    [
        (TrainConfig(epochs=2, batch_size=32), 65, 6),
        (TrainConfig(epochs=0.5, batch_size=10), 100, 5),
        (TrainConfig(epochs=0.01, batch_size=32), 10, 1),
        (TrainConfig(steps=7, epochs=9), 1000, 7),
    ],
)
def test_how_long_training_takes(config: TrainConfig, rows: int, steps: int) -> None:
    assert config.total_steps(rows) == steps

"""From tokenised conversations to batches: which rows meet in which step, and how they are padded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from stillroom.chat import Tokenised
from stillroom.errors import TrainingStopped
from stillroom.seeds import derive_rng


class Row(NamedTuple):
    """One training example."""

    id: str
    """Of the trace it came from, for messages."""
    tokens: Tokenised


@dataclass(frozen=True)
class Batch:
    """Right-padded rows; column t of `weights_BT` is the weight of *predicting* token t, so column 0 is never used."""

    ids_BT: torch.Tensor
    weights_BT: torch.Tensor
    row_ids: tuple[str, ...]

    @property
    def trained_tokens(self) -> int:
        return int((self.weights_BT[:, 1:] > 0).sum())


def collate(rows: Sequence[Row], pad_id: int, device: torch.device | str = "cpu") -> Batch:
    """Pad rows on the right to the longest; padding weighs nothing."""
    width = max(len(row.tokens.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        ids[i, : len(row.tokens.ids)] = torch.tensor(row.tokens.ids, dtype=torch.long)
        weights[i, : len(row.tokens.weights)] = torch.tensor(row.tokens.weights)
    return Batch(ids.to(device), weights.to(device), tuple(row.id for row in rows))


def plan(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, window: int = 16) -> list[list[int]]:
    """The batches of one epoch as row numbers: shuffled, with rows of like length together.

    Rows are shuffled, sorted by length within windows of `window` batches, cut, and the batches shuffled again: padding
    nearly vanishes while any two rows may still meet. Every row appears exactly once. Depends on the arguments alone.
    """
    rng = derive_rng("batches", seed, epoch)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    span = batch_size * window
    for start in range(0, len(order), span):
        bucket = sorted(order[start : start + span], key=lambda i: lengths[i])
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    rng.shuffle(batches)
    return batches


def split_rows(rows: Sequence[Row], max_tokens: int) -> list[list[Row]]:
    """Cut an optimiser batch into micro-batches of at most `max_tokens` padded tokens, longest rows first."""
    micro: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.tokens.ids)):
        if micro and (len(micro[-1]) + 1) * len(micro[-1][0].tokens.ids) <= max_tokens:
            micro[-1].append(row)
        else:
            micro.append([row])
    return micro


def require_trained(batch_rows: Sequence[Row], step: int) -> None:
    """Raise TrainingStopped, naming the traces, when a batch would train nothing."""
    if not any(weight > 0 for row in batch_rows for weight in row.tokens.weights[1:]):
        raise TrainingStopped(
            f"step {step}: no token of traces {', '.join(row.id for row in batch_rows[:5])} carries a loss weight; "
            "the segments of these traces have weight 0 or do not line up with the chat template"
        )

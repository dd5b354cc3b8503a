"""From tokenised conversations to batches: which rows meet in which step, and how they are padded or packed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

import numpy as np
import torch

from stillroom.chat import Tokenised
from stillroom.errors import TrainingStopped, UserError
from stillroom.models.images import Vision
from stillroom.models.policy import Policy
from stillroom.samplers.pictures import drawn, teach
from stillroom.seeds import derive_rng
from stillroom.types import Segment


class Row(NamedTuple):
    """One tokenised conversation."""

    id: str
    """Of the trace it came from, for messages."""
    tokens: Tokenised
    group: str = ""
    """Rows of one group are compared with each other and never parted; empty: the row stands alone."""
    score: float = 0.0
    """Of the row within its group, larger is better: 1 and 0 for the chosen and the rejected row of a pair."""
    signals: Mapping[str, Sequence[float]] = {}
    """Numbers per token of the row, as many as ``tokens.ids``, by name; objectives read those of trained tokens.

    ``advantage``; ``logp_old``, under which the token was sampled; ``logp_ref``, under a reference; ``value_old``, a
    value head's estimate before the token; ``return``, what it should have been. Log-probabilities are those under
    logits / temperature.
    """
    pictures: tuple[str, ...] = ()
    """Words of the scenes that it shows, in the order of their tokens; drawn when a batch is made."""


def make_row(id: str, segments: Sequence[Segment], policy: Policy) -> Row:
    """A taught conversation as a training row of a policy; raises UserError as `samplers.pictures.teach` does."""
    tokens, pictures = teach(policy, segments)
    return Row(id, tokens, pictures=pictures)


Example = tuple[Row, ...]
"""What a batch size counts: a row that stands alone, or a whole group, best row first."""


def examples(rows: Sequence[Row]) -> list[Example]:
    """Rows by group, in order of first appearance, each group from its best row to its worst."""
    found: dict[str, list[Row]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row.group or f"\x00{number}", []).append(row)
    return [tuple(sorted(group, key=lambda row: -row.score)) for group in found.values()]


class Transform(Protocol):
    """Changes the rows of an optimiser batch before anything is computed from them: corruption, other weights.

    It sees the whole batch and a generator that depends on (seed, step) alone, so that the cut into micro-batches and a
    restored run see the same rows.
    """

    def __call__(self, rows: Sequence[Row], step: int, rng: Random) -> Sequence[Row]: ...


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows on lines of equal length, padded on the right: one row a line, or several when packed.

    A batch equals itself alone, so that what was made of it can be kept under it.

    ``weights_LT[l, t]`` is the weight of *predicting* token t from the tokens before it, so that it is 0 for the first
    token of every row.
    """

    ids_LT: torch.Tensor
    weights_LT: torch.Tensor
    row_LT: torch.Tensor
    """Number of the row that a token belongs to; -1 for padding."""
    positions_LT: torch.Tensor | None
    """Positions that start again with every row of a packed line; None when there is one row a line."""
    group_R: torch.Tensor
    """Number of each row's group (long); rows of a group stand together, the best first."""
    score_R: torch.Tensor
    row_ids: tuple[str, ...]
    signals: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Signals of the rows, each [L, T] float32: 0 for padding, nan for rows that do not have it."""
    images: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Tensors of the rows' pictures, in the order of their tokens (`Vision.tensors`)."""

    @property
    def trained_tokens(self) -> int:
        return int((self.weights_LT > 0).sum())

    @property
    def groups(self) -> int:
        return int(self.group_R[-1]) + 1


def collate(
    batch: Sequence[Example],
    pad_id: int,
    device: torch.device | str = "cpu",
    *,
    packed: bool = False,
    vision: Vision | None = None,
) -> Batch:
    """Lay rows on lines as long as the longest row; `packed` puts as many rows on a line as fit (first fit).

    Args:
        vision: of the policy that will read them, where rows show pictures.
    """
    rows = [row for example in batch for row in example]
    lengths = [len(row.tokens.ids) for row in rows]
    lines = _first_fit(lengths) if packed else [[i] for i in range(len(rows))]
    shape = (len(lines), max(lengths))
    signals = {
        name: np.zeros(shape, np.float32) for name in dict.fromkeys(name for row in rows for name in row.signals)
    }
    ids, weights = np.full(shape, pad_id, np.int64), np.zeros(shape, np.float32)
    row_of, positions = np.full(shape, -1, np.int64), np.zeros(shape, np.int64) if packed else None
    for at, line in enumerate(lines):
        start = 0
        for i in line:
            end = start + lengths[i]
            ids[at, start:end] = rows[i].tokens.ids
            weights[at, start + 1 : end] = rows[i].tokens.weights[1:]
            row_of[at, start:end] = i
            if positions is not None:
                positions[at, start:end] = np.arange(lengths[i])
            for name, laid in signals.items():
                laid[at, start:end] = _signal(rows[i], name)
            start = end
        if positions is not None:
            # Padding counts as one more row: it must not be seen as part of the last one.
            positions[at, start:] = np.arange(shape[1] - start)
    numbers = [number for number, example in enumerate(batch) for _ in example]
    words = [word for line in lines for i in line for word in rows[i].pictures]
    images = vision.tensors(drawn(words)) if vision is not None else {}
    return Batch(
        ids_LT=torch.from_numpy(ids).to(device),
        weights_LT=torch.from_numpy(weights).to(device),
        row_LT=torch.from_numpy(row_of).to(device),
        positions_LT=None if positions is None else torch.from_numpy(positions).to(device),
        group_R=torch.tensor(numbers, dtype=torch.long, device=device),
        score_R=torch.tensor([row.score for row in rows], device=device),
        row_ids=tuple(row.id for row in rows),
        signals={name: torch.from_numpy(laid).to(device) for name, laid in signals.items()},
        images={name: tensor.to(device) for name, tensor in images.items()},
    )


def _signal(row: Row, name: str) -> Sequence[float] | float:
    found = row.signals.get(name)
    if found is None:
        return math.nan
    if len(found) != len(row.tokens.ids):
        raise UserError(
            f"signal {name!r} of trace {row.id} has {len(found)} numbers for {len(row.tokens.ids)} tokens; give one "
            "per token of the row, prompt included (0 where nothing is trained)"
        )
    return found


def _first_fit(lengths: Sequence[int]) -> list[list[int]]:
    """Rows on as few lines of the longest row's length as first fit, longest first, finds."""
    width, lines, room = max(lengths), list[list[int]](), list[int]()
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = next((at for at, left in enumerate(room) if left >= lengths[i]), None)
        if at is None:
            lines.append([])
            room.append(width)
            at = len(lines) - 1
        lines[at].append(i)
        room[at] -= lengths[i]
    return lines


def plan(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, window: int = 16) -> list[list[int]]:
    """The batches of one epoch as numbers of examples: shuffled, with examples of like length together.

    They are shuffled, sorted by length within windows of `window` batches, cut, and the batches shuffled again: padding
    nearly vanishes while any two may still meet. Every example appears exactly once. Depends on the arguments alone.
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


def width(example: Example) -> int:
    """Tokens of its longest row."""
    return max(len(row.tokens.ids) for row in example)


def split(batch: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Cut an optimiser batch into micro-batches of at most `max_tokens` padded tokens, longest examples first.

    An example is never cut: one that is larger than the limit makes a micro-batch of its own.
    """
    micro: list[list[Example]] = []
    rows = 0
    for example in sorted(batch, key=lambda example: -width(example)):
        if micro and (rows + len(example)) * width(micro[-1][0]) <= max_tokens:
            micro[-1].append(example)
            rows += len(example)
        else:
            micro.append([example])
            rows = len(example)
    return micro


def require_trained(rows: Sequence[Row], step: int) -> None:
    """Raise TrainingStopped, naming the traces, when a batch would train nothing."""
    if not any(weight > 0 for row in rows for weight in row.tokens.weights[1:]):
        raise TrainingStopped(
            f"step {step}: no token of traces {', '.join(row.id for row in rows[:5])} carries a loss weight; "
            "the segments of these traces have weight 0 or do not line up with the chat template"
        )


def require_sizes(batch: Sequence[Example], least: int, most: int | None, objective: str) -> None:
    """Raise UserError, naming the traces, when a group does not have the number of rows that an objective compares."""
    for example in batch:
        if len(example) < least or (most is not None and len(example) > most):
            wanted = f"{least}" if most == least else f"{least} or more"
            raise UserError(
                f"objective {objective!r} compares {wanted} rows of a group, and traces "
                f"{', '.join(row.id for row in example[:5])} make a group of {len(example)}; give rows of one problem "
                "the same `group`"
            )

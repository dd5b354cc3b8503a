"""Drawing one token per row from logits, and saying what was drawn and how close a call it was."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from stillroom.samplers.base import SamplingParams

EDGE = 1e-5
"""A draw closer than this to the edge between two tokens may fall the other way in another batch; it is counted."""
GREEDY_GAP = 1e-4
"""The same for the gap between the two largest logits of a greedy choice."""
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


class Draw(NamedTuple):
    """One token per row, and what its log-probability and its closeness to an edge are worked out from, [B] each."""

    tokens_B: torch.Tensor
    logit_B: torch.Tensor
    """Over the temperature."""
    peak_B: torch.Tensor
    total_B: torch.Tensor
    """``log p = logit - peak - log(total)``."""
    room_B: torch.Tensor
    """What lies between the draw and the nearest edge."""
    mass_B: torch.Tensor
    """What a room of `EDGE` is relative to."""


def draw(
    logits_BV: torch.Tensor,
    uniforms_B: torch.Tensor,
    params: SamplingParams,
    banned_BV: torch.Tensor | None = None,
) -> Draw:
    """One token per row by inverting the cumulative distribution at the row's uniform number.

    Args:
        logits_BV: raw logits.
        uniforms_B: float64 in [0, 1).
        banned_BV: tokens that are not drawn (bool); the others share their probability. At least one per row is free.
    """
    logits = logits_BV.float()
    if params.temperature not in (0, 1):
        logits = logits / params.temperature
    free = logits if banned_BV is None else logits.masked_fill(banned_BV, -torch.inf)
    if params.temperature == 0:
        top = free.topk(2, dim=-1)
        tokens, gap = top.indices[:, :1], top.values[:, 0] - top.values[:, 1]
        one = torch.ones_like(gap)
        return Draw(
            tokens[:, 0], logits.gather(1, tokens)[:, 0], logits.logsumexp(-1), one, gap, one * (GREEDY_GAP / EDGE)
        )
    peak_B1 = free.amax(-1, keepdim=True)
    # Probabilities times a constant: what they are divided by is the last edge.
    probs = (free - peak_B1).exp_()
    cut = None
    if params.top_p < 1:
        ranked, order = (probs / probs.sum(-1, keepdim=True)).double().sort(dim=-1, descending=True)
        before = ranked.cumsum(-1) - ranked
        probs = probs.masked_fill((before >= params.top_p).gather(1, order.argsort(-1)), 0.0)
        # Where rounding decides whether a token of some weight is in the nucleus, it may decide the draw too.
        cut = (((before - params.top_p).abs() < EDGE) & (ranked > EDGE)).any(-1)
    edges = probs.cumsum(-1, dtype=torch.float64)
    mass_B1 = edges[:, -1:]
    # The largest double below 1 keeps the target below the last edge, past which there is no token.
    target = uniforms_B.to(edges.device)[:, None] * mass_B1 * _BELOW_ONE
    tokens = torch.searchsorted(edges, target, right=True)
    above = edges.gather(1, tokens) - target
    room = torch.minimum(above, probs.gather(1, tokens) - above)[:, 0]
    if cut is not None:
        room = room.masked_fill(cut, 0.0)
    peak, total = peak_B1[:, 0], mass_B1[:, 0]
    if banned_BV is not None or params.top_p < 1:
        peak, total = logits.logsumexp(-1), torch.ones_like(total)
    return Draw(tokens[:, 0], logits.gather(1, tokens)[:, 0], peak, total, room, mass_B1[:, 0])


class DrawOne(NamedTuple):
    """`Draw` of a single row, in Python's numbers."""

    token: int
    logit: float
    peak: float
    total: float
    room: float
    mass: float


def draw_one(
    logits_V: npt.NDArray[np.float32],
    uniform: float,
    params: SamplingParams,
    banned_V: npt.NDArray[np.bool_] | None = None,
) -> DrawOne:
    """`draw` for one row in numpy, whose calls cost a fifth of torch's."""
    if params.top_p < 1:
        banned_BV = None if banned_V is None else torch.from_numpy(banned_V)[None]
        uniform_B = torch.tensor([uniform], dtype=torch.float64)
        drawn = draw(torch.from_numpy(logits_V)[None], uniform_B, params, banned_BV)
        return DrawOne(int(drawn.tokens_B), *(float(value) for value in drawn[1:]))
    logits = logits_V if params.temperature in (0, 1) else logits_V / np.float32(params.temperature)
    free = logits if banned_V is None else np.where(banned_V, np.float32(-np.inf), logits)
    peak = np.maximum.reduce(free)
    probs = np.exp(free - peak)
    edges = np.add.accumulate(probs, dtype=np.float64)
    mass = float(edges[-1])
    if params.temperature == 0:
        token = int(free.argmax())
        gap = float(peak - np.partition(free, -2)[-2])
        room, scale = gap, GREEDY_GAP / EDGE
    else:
        # The largest double below 1 keeps the target below the last edge, past which there is no token.
        target = uniform * mass * _BELOW_ONE
        token = int(edges.searchsorted(target, side="right"))
        above = float(edges[token]) - target
        room, scale = min(above, float(probs[token]) - above), mass
    if banned_V is not None:
        peak = np.maximum.reduce(logits)
        mass = float(np.add.reduce(np.exp(logits - peak), dtype=np.float64))
    return DrawOne(token, float(logits[token]), float(peak), mass, room, scale)


def settle(drawn: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every draw, the log-probability [B] under logits / temperature before bans and top-p (float32), and whether it
    lay so close to an edge that rounding decides it [B] (bool)."""
    logp = drawn.logit_B - drawn.peak_B - drawn.total_B.log()
    return logp.float(), drawn.room_B < EDGE * drawn.mass_B

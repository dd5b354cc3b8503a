"""Hidden states of Llama and Qwen2 layouts with gradients, over the tokens there are: the fast path of training.

Tokens lie one after another without padding, and what rows have in common from the first token on
is there once: the prompt of a pair, or of a group of rollouts. Only the scores of attention, which look at pairs of
tokens, see rows on lines of equal length. Between the matrix products stand two functions with gradients of their own,
as these products leave little to gain but in the passes over memory that surround them. What the last layer makes of a
token that nobody asks for is not computed.

Axes: N token, U token that is there once, M token asked for, R row, T place on a line, D hidden, H query head, K
key-value head, E head size.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stillroom.models.llama import Parts

Weight = torch.Tensor

SHORT = 256
"""Tokens of a line up to which all its scores are kept for the gradient: less time than the attention kernel, which
makes them again; memory grows with the square."""
BLOCK = 32
"""Places whose scores are made together; of what lies behind them none are."""


def states(
    parts: Parts,
    ids_N: torch.Tensor,
    lines: "Lines",
    wanted_M: torch.Tensor,
    keep: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Last hidden states [M, D].

    Args:
        ids_N: rows one after another.
        lines: how they are laid out.
        wanted_M: long; places in `ids_N` whose states are asked for.
        keep: called with each layer's number and its keys and values [U, 2 K, E], the keys rotated.
    """
    cos, sin = parts.rotation(lines.longest)
    cos, sin = cos[lines.position_U, None], sin[lines.position_U, None]
    x = F.embedding(ids_N[lines.place_U], parts.embedding_VD)
    for number, layer in enumerate(parts.layers):
        turned = _Read.apply(
            x, layer.norm_D, layer.query, layer.key, layer.value, *layer.biases, cos, sin, parts.heads, parts.eps
        )
        turned = cast(torch.Tensor, turned)
        if keep is not None:
            keep(number, turned[:, parts.heads :])
        attended = lines.attend(turned, parts.heads, parts.kv_heads)
        if number + 1 == len(parts.layers):
            wanted_M = lines.token_N[wanted_M]
            attended, x = attended[wanted_M], x[wanted_M]
        x = torch.addmm(x, attended, layer.out)
        x = cast(torch.Tensor, _Mlp.apply(x, layer.mlp_norm_D, layer.gate, layer.up, layer.down, parts.eps))
    return F.rms_norm(x, (x.shape[1],), parts.norm_D, parts.eps)


class _Block(NamedTuple):
    """Places whose scores are made together."""

    queries: slice
    seen: int
    """Places that they may see."""
    hidden: torch.Tensor
    """[1, Q, T]; what is added to the scores: minus infinity for places behind a query's own."""


class Lines:
    """Which tokens are there, and how they are laid on lines in groups of like length and taken up again.

    Args:
        ids_N: rows one after another.
        lengths: of the rows.
        device: where they will be computed.
    """

    def __init__(self, ids_N: npt.NDArray[np.int64], lengths: Sequence[int], device: torch.device) -> None:
        token_N, place_U, position_U = _once(ids_N, lengths)
        self.longest = max(lengths)
        starts = list(itertools.accumulate(lengths, initial=0))
        self.shapes: list[tuple[int, int]] = []
        """Rows and places of each group."""
        self._blocks: dict[int, list[_Block]] = {}
        laid, slot_U = [], np.empty(len(place_U), np.int64)
        places = 0
        for group in _groups(lengths):
            longest = lengths[group[0]]
            for row in group:
                own = token_N[starts[row] : starts[row + 1]]
                # A token that several rows have is taken up from any of them. Padding shows the row's first token: no
                # token before it looks there.
                slot_U[own] = np.arange(places, places + len(own))
                laid += [own, np.full(longest - len(own), own[0])]
                places += longest
            self.shapes.append((len(group), longest))
        self.token_N = torch.from_numpy(token_N).to(device)
        """Long; the token [U] that stands for each token."""
        self.place_U = torch.from_numpy(place_U).to(device)
        self.position_U = torch.from_numpy(position_U).to(device)
        self._laid, self._slot_U = (
            torch.from_numpy(np.concatenate(laid)).to(device),
            torch.from_numpy(slot_U).to(device),
        )

    def attend(self, turned: torch.Tensor, heads: int, kv_heads: int) -> torch.Tensor:
        """Causal attention within rows: from queries, keys and values [U, H + 2 K, E] to [U, H E]."""
        size = turned.shape[-1]
        flat = cast(torch.Tensor, _Lay.apply(turned.flatten(1), self._laid))
        found = []
        for shape, part in zip(self.shapes, flat.split([rows * places for rows, places in self.shapes]), strict=True):
            laid = part.view(*shape, -1, size)
            if shape[1] <= SHORT:
                blocks = self._blocks_of(shape[1], heads // kv_heads, laid)
                found.append(cast(torch.Tensor, _Attend.apply(laid, heads, kv_heads, blocks)))
                continue
            query, key, value = laid.transpose(1, 2).split([heads, kv_heads, kv_heads], dim=1)
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=heads != kv_heads)
            found.append(out.transpose(1, 2).reshape(-1, heads * size))
        out = found[0] if len(found) == 1 else torch.cat(found)
        return cast(torch.Tensor, _TakeUp.apply(out, self._slot_U))

    def _blocks_of(self, places: int, group: int, like: torch.Tensor) -> list[_Block]:
        if places not in self._blocks:
            self._blocks[places] = _blocks(places, group, like)
        return self._blocks[places]


def _once(
    ids_N: npt.NDArray[np.int64], lengths: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The token [N] that stands for each token; of those [U], the place in `ids_N` and the position in the row."""
    token_N = np.empty(len(ids_N), np.int64)
    places, positions, known = [], [], 0
    starts = list(itertools.accumulate(lengths, initial=0))
    rows = [slice(first, last) for first, last in itertools.pairwise(starts)]
    before = slice(0, 0)
    # In the order of a dictionary, rows that begin alike are neighbours.
    for row in sorted(rows, key=lambda row: ids_N[row].tolist()):
        both = min(row.stop - row.start, before.stop - before.start)
        unlike = ids_N[row][:both] != ids_N[before][:both]
        common = int(unlike.argmax()) if unlike.any() else both
        token_N[row.start : row.start + common] = token_N[before.start : before.start + common]
        own = row.stop - row.start - common
        token_N[row.start + common : row.stop] = np.arange(known, known + own)
        places.append(np.arange(row.start + common, row.stop))
        positions.append(np.arange(common, common + own))
        known += own
        before = row
    return token_N, np.concatenate(places), np.concatenate(positions)


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by length, longest first, cut where a line would hold more than a fifth of padding."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if groups and lengths[row] >= 0.8 * lengths[groups[-1][0]]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


class _Lay(torch.autograd.Function):
    """Tokens to places on lines; what padding receives is 0."""

    @staticmethod
    def forward(ctx: Any, flat: torch.Tensor, laid: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(laid)
        ctx.tokens = len(flat)
        return flat.index_select(0, laid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (laid,) = ctx.saved_tensors
        return grad.new_zeros(ctx.tokens, grad.shape[1]).index_add_(0, laid, grad), None


class _TakeUp(torch.autograd.Function):
    """Places on lines to tokens."""

    @staticmethod
    def forward(ctx: Any, laid: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slot)
        ctx.places = len(laid)
        return laid.index_select(0, slot)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (slot,) = ctx.saved_tensors
        return grad.new_zeros(ctx.places, grad.shape[1]).index_copy_(0, slot, grad), None


class _Attend(torch.autograd.Function):
    """Causal attention of lines [R, T, H + 2 K, E]: [R T, H E]. G = H / K queries share a key; Q = T G."""

    @staticmethod
    def forward(ctx: Any, laid: torch.Tensor, heads: int, kv_heads: int, blocks: list[_Block]) -> torch.Tensor:
        rows, places, _, size = laid.shape
        ctx.heads, ctx.kv_heads, ctx.blocks, ctx.scale = heads, kv_heads, blocks, 1 / math.sqrt(size)
        query, key, value = _Attend._by_key(laid, heads, kv_heads)
        found, kept = torch.empty_like(query), []
        for queries, seen, hidden in blocks:
            scores = torch.baddbmm(hidden, query[:, queries], key[:, :seen].transpose(1, 2), alpha=ctx.scale)
            kept.append(scores.softmax(-1))
            found[:, queries] = torch.bmm(kept[-1], value[:, :seen])
        ctx.save_for_backward(query, key, value, *kept)
        return found.view(rows, kv_heads, places, -1).transpose(1, 2).reshape(rows * places, heads * size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        query, key, value, *kept = ctx.saved_tensors
        heads, kv_heads = ctx.heads, ctx.kv_heads
        (lines, places, size), group = key.shape, heads // kv_heads
        rows = lines // kv_heads
        grad = grad.view(rows, places, kv_heads, group * size).transpose(1, 2).reshape(query.shape)
        back_query = torch.empty_like(query)
        back_key = back_value = None
        for (queries, seen, _), probs in zip(ctx.blocks, kept, strict=True):
            of = grad[:, queries]
            to_value = torch.bmm(probs.transpose(1, 2), of)
            slope = torch.bmm(of, value[:, :seen].transpose(1, 2))
            slope = torch.ops.aten._softmax_backward_data(slope, probs, -1, probs.dtype).mul_(ctx.scale)
            back_query[:, queries] = torch.bmm(slope, key[:, :seen])
            to_key = torch.bmm(slope.transpose(1, 2), query[:, queries])
            if back_key is None or back_value is None:
                back_key, back_value = to_key, to_value
            else:
                back_key[:, :seen] += to_key
                back_value[:, :seen] += to_value
        assert back_key is not None
        assert back_value is not None
        back = grad.new_empty(rows, places, heads + 2 * kv_heads, size)
        parts = back.split([heads, kv_heads, kv_heads], dim=2)
        for part, found in zip(parts, (back_query, back_key, back_value), strict=True):
            part.unflatten(2, (kv_heads, -1)).copy_(found.view(rows, kv_heads, places, -1, size).transpose(1, 2))
        return back, None, None, None

    @staticmethod
    def _by_key(laid: torch.Tensor, heads: int, kv_heads: int) -> list[torch.Tensor]:
        """Queries [R K, Q, E], keys and values [R K, T, E]; the queries of one place lie together."""
        size = laid.shape[-1]
        parts = laid.split([heads, kv_heads, kv_heads], dim=2)
        turned = [part.unflatten(2, (kv_heads, -1)).transpose(1, 2) for part in parts]
        return [part.reshape(len(laid) * kv_heads, -1, size) for part in turned]


def _blocks(places: int, group: int, like: torch.Tensor) -> list[_Block]:
    """The blocks of a line, the last first: it sees all places."""
    count = max(1, round(places / BLOCK))
    edges = [places * i // count for i in range(count + 1)]
    found = []
    for first, last in itertools.pairwise(edges):
        at = torch.arange(first, last, device=like.device).repeat_interleave(group)
        later = torch.arange(last, device=like.device) > at[:, None]
        hidden = like.new_zeros(1, *later.shape).masked_fill_(later, -torch.inf)
        found.append(_Block(slice(first * group, last * group), last, hidden))
    return found[::-1]


class _Read(torch.autograd.Function):
    """Norm, then queries, keys and values [N, H + 2 K, E], the first two rotated."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        norm_D: Weight,
        query: Weight,
        key: Weight,
        value: Weight,
        query_bias: Weight | None,
        key_bias: Weight | None,
        value_bias: Weight | None,
        cos: torch.Tensor,
        sin: torch.Tensor,
        heads: int,
        eps: float,
    ) -> torch.Tensor:
        scale, normed = _norm(x, norm_D, eps)
        size = cos.shape[-1]
        weights, biases = (query, key, value), (query_bias, key_bias, value_bias)
        found = x.new_empty(len(x), sum(weight.shape[1] for weight in weights) // size, size)
        for out, weight, bias in zip(_columns(found, weights), weights, biases, strict=True):
            torch.mm(normed, weight, out=out) if bias is None else torch.addmm(bias, normed, weight, out=out)
        turned = found[:, : heads + key.shape[1] // size]
        torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin, out=turned)
        ctx.save_for_backward(x, norm_D, *weights, cos, sin, scale, normed)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, norm_D, query, key, value, cos, sin, scale, normed = ctx.saved_tensors
        weights, needs = (query, key, value), ctx.needs_input_grad
        size = cos.shape[-1]
        edge = (query.shape[1] + key.shape[1]) // size
        back = torch.empty_like(grad)
        turned = grad[:, :edge]
        # A rotation turned back: its sines change their sign.
        torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin, value=-1, out=back[:, :edge])
        back[:, edge:] = grad[:, edge:]
        parts = _columns(back, weights)
        products = [_outer(part, normed) if needed else None for part, needed in zip(parts, needs[2:5], strict=True)]
        sums = [part.sum(0) if needed else None for part, needed in zip(parts, needs[5:8], strict=True)]
        grad_normed = parts[0] @ query.t()
        grad_normed.addmm_(parts[1], key.t()).addmm_(parts[2], value.t())
        grad_x, grad_norm = _norm_backward(grad_normed, x, norm_D, scale, needs[1])
        return grad_x, grad_norm, *products, *sums, None, None, None, None


class _Mlp(torch.autograd.Function):
    """``x + down(silu(gate(norm(x))) up(norm(x)))``."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, norm_D: Weight, gate: Weight, up: Weight, down: Weight, eps: float
    ) -> torch.Tensor:
        scale, normed = _norm(x, norm_D, eps)
        gated, upped = normed @ gate, normed @ up
        active = F.silu(gated)
        ctx.save_for_backward(x, norm_D, gate, up, down, scale, normed, gated, upped, active)
        return torch.addmm(x, active * upped, down)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, norm_D, gate, up, down, scale, normed, gated, upped, active = ctx.saved_tensors
        _, needs_norm, needs_gate, needs_up, needs_down, _ = ctx.needs_input_grad
        grad_inner = grad @ down.t()
        grad_down = _outer(grad, active * upped) if needs_down else None
        grad_upped = active * grad_inner
        grad_gated = torch.ops.aten.silu_backward(grad_inner.mul_(upped), gated)
        grad_gate = _outer(grad_gated, normed) if needs_gate else None
        grad_up = _outer(grad_upped, normed) if needs_up else None
        grad_normed = (grad_gated @ gate.t()).addmm_(grad_upped, up.t())
        grad_x, grad_norm = _norm_backward(grad_normed, x, norm_D, scale, needs_norm)
        return grad_x.add_(grad), grad_norm, grad_gate, grad_up, grad_down, None


def _columns(found: torch.Tensor, weights: Sequence[Weight]) -> tuple[torch.Tensor, ...]:
    """Views [N, out] of the part of each weight in [N, H + 2 K, E]."""
    return tuple(found.view(len(found), -1).split([weight.shape[1] for weight in weights], dim=1))


def _outer(grad_NO: torch.Tensor, given_NI: torch.Tensor) -> torch.Tensor:
    """Gradient of a weight [in, out] that lies in memory as the module's [out, in] does, so that it is not copied."""
    return (grad_NO.t() @ given_NI).t()


def _norm(x: torch.Tensor, weight_D: Weight, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``1 / sqrt(mean(x^2) + eps)`` [N, 1], and x times it and the weight."""
    size = x.shape[1]
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = math.sqrt(size) / torch.hypot(length, length.new_tensor(math.sqrt(size * eps)))
    return scale, (x * scale).mul_(weight_D)


def _norm_backward(
    grad: torch.Tensor, x: torch.Tensor, weight_D: Weight, scale: torch.Tensor, needs_weight: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradients for x, in the memory of `grad`, and for the weight."""
    unit = x * scale
    product = grad * unit
    grad_weight = product.sum(0) if needs_weight else None
    # Not a matrix-vector product, whose rounding depends on where the weight lies: a restored run would end elsewhere.
    along = product.mul_(weight_D).mean(-1, keepdim=True)
    return grad.mul_(weight_D).addcmul_(unit, along, value=-1).mul_(scale), grad_weight

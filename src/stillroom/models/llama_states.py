"""Hidden states of Llama and Qwen2 layouts with gradients, over the tokens there are: the fast path of training.

Tokens lie one after another without padding, and what rows have in common from the first token on
is there once: the prompt of a pair, or of a group of rollouts. Only the scores of attention, which look at pairs of
tokens, see rows on lines of equal length. Between the matrix products stand two functions with gradients of their own,
as these products leave little to gain but in the passes over memory that surround them. What the last layer makes of a
token that nobody asks for is not computed.

Axes: N token, U token that is there once, W entry of the vocabulary that occurs, M token asked for, R row, T place on
a line, D hidden, H query head, K key-value head, E head size.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
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
BLOCK = 48
"""Places whose scores are made together; of what lies behind them none are."""
_TINY = 2.0**-64
"""Sums of powers within this and its inverse have lost nothing that float32 shows: a power is lost below 2^-126."""


def states(
    parts: Parts,
    ids_N: torch.Tensor,
    lines: "Lines",
    wanted_M: torch.Tensor,
    keep: Callable[[int, torch.Tensor], torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """Last hidden states [M, D].

    Args:
        ids_N: rows one after another.
        lines: how they are laid out.
        wanted_M: long; places in `ids_N` whose states are asked for.
        keep: called with each layer's number and its queries, keys and values [U, H + 2 K, E], the first two rotated;
            of the last layer it may return what it makes of the wanted tokens [M, H E] itself.
    """
    cos, sin = parts.rotation(lines.longest)
    cos, sin = cos[lines.position_U, None], sin[lines.position_U, None]
    known_W, kind_U = ids_N[lines.place_U].unique(return_inverse=True)
    known = F.embedding(known_W, parts.embedding_VD)
    x = known.index_select(0, kind_U)
    for number, layer in enumerate(parts.layers):
        weights = (layer.norm_D, layer.query, layer.key, layer.value, *layer.biases)
        # Before anything was attended to, equal tokens are equal.
        given, kind = (x, None) if number else (known, kind_U)
        turned = _Read.apply(given, *weights, cos, sin, parts.heads, parts.eps, kind)
        turned = cast(torch.Tensor, turned)
        attended = None if keep is None else keep(number, turned)
        last = number + 1 == len(parts.layers)
        wanted_U = lines.token_N[wanted_M]
        if attended is None:
            attended = lines.attend(turned, parts.heads, parts.kv_heads, wanted_U if last else None)
            attended = attended.index_select(0, wanted_U) if last else attended
        x = x.index_select(0, wanted_U) if last else x
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
        self.shapes: list[tuple[int, int]] = []
        """Rows and places of each group."""
        self._layout: _Layout | None = None
        starts = list(itertools.accumulate(lengths, initial=0))
        self._token_S: list[npt.NDArray[np.int64]] = []
        """Of each group, the token at every place [R, T]. Padding shows the row's first token: no token before it looks
        there."""
        self._real_S: list[npt.NDArray[np.bool_]] = []
        for group in _groups(lengths):
            longest = lengths[group[0]]
            tokens = np.empty((len(group), longest), np.int64)
            for at, row in enumerate(group):
                own = token_N[starts[row] : starts[row + 1]]
                tokens[at, : len(own)], tokens[at, len(own) :] = own, own[0]
            self._token_S.append(tokens)
            self._real_S.append(np.arange(longest) < np.array([[lengths[row]] for row in group]))
            self.shapes.append((len(group), longest))
        self.token_N = torch.from_numpy(token_N).to(device)
        """Long; the token [U] that stands for each token."""
        self.place_U = torch.from_numpy(place_U).to(device)
        self.position_U = torch.from_numpy(position_U).to(device)

    def attend(
        self, turned: torch.Tensor, heads: int, kv_heads: int, wanted_M: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Causal attention within rows: from queries, keys and values [U, H + 2 K, E] to [U, H E].

        Args:
            wanted_M: long; the tokens that will be looked at; what stands for others means nothing. None: all.
        """
        if self._layout is None:
            self._layout = self._lay(len(turned), heads, kv_heads, turned.device)
        layout = self._layout
        if self.longest <= SHORT:
            blocks = [
                _blocks(first, places, heads // kv_heads, turned.device, turned.dtype)
                for first, (_, places) in zip(self._first_of(wanted_M), self.shapes, strict=True)
            ]
            return cast(torch.Tensor, _Attend.apply(turned, layout, blocks))
        laid, found = turned.flatten(0, 1).index_select(0, layout.lay), []
        for group in layout.groups:
            query, key, value = group.of(laid)
            out = F.scaled_dot_product_attention(
                query.unflatten(0, (-1, kv_heads)).unflatten(2, (-1, heads // kv_heads)).transpose(2, 3).flatten(1, 2),
                key.unflatten(0, (-1, kv_heads)),
                value.unflatten(0, (-1, kv_heads)),
                is_causal=True,
                enable_gqa=heads != kv_heads,
            )
            found.append(out.unflatten(1, (kv_heads, -1)).transpose(2, 3).reshape(-1, turned.shape[-1]))
        return torch.cat(found).index_select(0, layout.take).view(len(turned), -1)

    def _lay(self, tokens: int, heads: int, kv_heads: int, device: torch.device) -> "_Layout":
        """Where everything lies, counted in vectors of one head."""
        width, group_of = heads + 2 * kv_heads, heads // kv_heads
        # Of each place: queries in the order [R, K, T, G], keys and values in the order [R, K, T].
        lay: list[list[npt.NDArray[np.int64]]] = [[], [], []]
        slot_Q, slot_K = np.empty((tokens, heads), np.int64), np.empty((tokens, kv_heads), np.int64)
        places = sum(rows * length for rows, length in self.shapes)
        groups, at, others = [], 0, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]()
        taken = np.full(places * heads, tokens * heads)
        key_K, query_G = np.arange(kv_heads), np.arange(group_of)
        for (rows, length), token_RT, real_RT in zip(self.shapes, self._token_S, self._real_S, strict=True):
            by_key = token_RT[:, None, :] * width + key_K[:, None]
            lay[0].append(
                (token_RT[:, None, :, None] * width + (key_K[:, None] * group_of + query_G)[:, None, :]).ravel()
            )
            lay[1].append((by_key + heads).ravel())
            lay[2].append((by_key + heads + kv_heads).ravel())
            real = np.flatnonzero(real_RT)
            token = token_RT.ravel()[real]
            slot = (at * kv_heads + real // length * (kv_heads * length) + real % length)[:, None] + key_K * length
            # A token that several rows have is taken up from the last of them; its keys learn from all.
            slot_Q[token] = (slot[:, :, None] * group_of + query_G).reshape(-1, heads)
            slot_K[token] = slot
            others.append((token, slot))
            end = at + rows * length
            key, value = (
                slice(places * before + at * kv_heads, places * before + end * kv_heads)
                for before in (heads, heads + kv_heads)
            )
            groups.append(_Group(rows * kv_heads, length, slice(at * heads, end * heads), key, value))
            at = end
        taken[slot_Q.ravel()] = np.arange(tokens * heads)
        token_X, slot_XK = (np.concatenate(found) for found in zip(*others, strict=True))
        second_X = slot_K[token_X, 0] != slot_XK[:, 0]
        back = np.concatenate((slot_Q, slot_K + places * heads, slot_K + places * (heads + kv_heads)), axis=1)
        moved = [np.concatenate(found) for found in lay]
        found = np.concatenate(moved), slot_Q.ravel(), taken, back.ravel(), token_X[second_X], slot_XK[second_X].ravel()
        return _Layout(groups, heads, kv_heads, *(torch.from_numpy(index).to(device) for index in found))

    def _first_of(self, wanted_M: torch.Tensor | None) -> list[int]:
        """Of each group, the first place on its lines at which a token is wanted."""
        if wanted_M is None:
            return [0] * len(self.shapes)
        wanted_U = np.zeros(len(self.place_U), np.bool_)
        wanted_U[wanted_M.cpu().numpy()] = True
        return [int(wanted_U[token_RT].any(0).argmax()) for token_RT in self._token_S]


class _Group(NamedTuple):
    """Lines of equal length: R K of T places, at which G queries share a key."""

    lines: int
    places: int
    query: slice
    """Its vectors among all that `_Layout.lay` puts together; so for the next two."""
    key: slice
    value: slice

    def of(self, laid: torch.Tensor) -> list[torch.Tensor]:
        """Queries [R K, T G, E], keys and values [R K, T, E]."""
        return [laid[part].view(self.lines, -1, laid.shape[1]) for part in (self.query, self.key, self.value)]


class _Layout(NamedTuple):
    """Indices (long) of vectors of one head."""

    groups: list[_Group]
    heads: int
    kv_heads: int
    lay: torch.Tensor
    """What of [U (H + 2 K), E] goes where: queries of all groups, then keys, then values."""
    take: torch.Tensor
    """[U H]; where each token's attention lies among the queries' places."""
    taken: torch.Tensor
    """For each of these places, what of [U H] is taken from it; U H for what nobody takes."""
    back: torch.Tensor
    """[U (H + 2 K)]; where each token's vectors went, one place for those that went to several."""
    other_token: torch.Tensor
    """[X]; tokens of further rows that have them too,"""
    other_key: torch.Tensor
    """[X K]; and where their keys lie among the keys."""


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


class _Attend(torch.autograd.Function):
    """Causal attention of tokens [U, H + 2 K, E] within their rows: [U, H E]."""

    @staticmethod
    def forward(ctx: Any, turned: torch.Tensor, layout: _Layout, blocks: list[list[_Block]]) -> torch.Tensor:
        tokens, _, size = turned.shape
        ctx.layout, ctx.blocks, ctx.scale = layout, blocks, 1 / math.sqrt(size)
        scale = ctx.scale / math.log(2)
        laid, kept = turned.flatten(0, 1).index_select(0, layout.lay), []
        out = laid.new_empty(len(layout.taken), size)
        for group, own in zip(layout.groups, blocks, strict=True):
            query, key, value = group.of(laid)
            found = out[group.query].view_as(query)
            for queries, seen, hidden in own:
                scores = torch.baddbmm(hidden, query[:, queries], key[:, :seen].transpose(1, 2), alpha=scale)
                kept.append(_softmax2(scores))
                found[:, queries] = torch.bmm(kept[-1], value[:, :seen])
        ctx.save_for_backward(laid, *kept)
        return out.index_select(0, layout.take).view(tokens, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        laid, *kept = ctx.saved_tensors
        layout, size, probs_of = ctx.layout, laid.shape[1], iter(kept)
        padded = laid.new_empty(len(layout.take) + 1, size)
        padded[:-1], padded[-1] = grad.view(-1, size), 0
        grad, back, unused = padded.index_select(0, layout.taken), torch.empty_like(laid), laid.new_empty(())
        for group, own in zip(layout.groups, ctx.blocks, strict=True):
            (query, key, value), (back_query, back_key, back_value) = group.of(laid), group.of(back)
            of_group = grad[group.query].view_as(query)
            back_query[:, : own[-1].queries.start] = 0
            for (queries, seen, _), probs in zip(own, itertools.islice(probs_of, len(own)), strict=True):
                of = of_group[:, queries]
                slope = torch.bmm(of, value[:, :seen].transpose(1, 2))
                slope = torch.ops.aten._softmax_backward_data(slope, probs, -1, probs.dtype)
                turned, asked = slope.transpose(1, 2), query[:, queries]
                back_query[:, queries] = torch.baddbmm(unused, slope, key[:, :seen], beta=0, alpha=ctx.scale)
                if seen == group.places:
                    torch.bmm(probs.transpose(1, 2), of, out=back_value)
                    torch.baddbmm(unused, turned, asked, beta=0, alpha=ctx.scale, out=back_key)
                else:
                    # Written into part of a line, batched products would be made one by one.
                    back_value[:, :seen].add_(torch.bmm(probs.transpose(1, 2), of))
                    back_key[:, :seen].add_(torch.bmm(turned, asked), alpha=ctx.scale)
        found = back.index_select(0, layout.back).view(-1, layout.heads + 2 * layout.kv_heads, size)
        if len(layout.other_token):
            first, many = len(layout.taken), len(layout.taken) // layout.heads * layout.kv_heads
            for part in range(2):
                keys = back[first + part * many :].index_select(0, layout.other_key).view(-1, layout.kv_heads, size)
                found[:, layout.heads + part * layout.kv_heads :][:, : layout.kv_heads].index_add_(
                    0, layout.other_token, keys
                )
        return found, None, None


def _softmax2(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis to the base of 2, whose powers take half the time of those of e.

    The largest score is only looked for where powers of the scores as they are would leave the range of numbers.
    """
    powers = scores.exp2()
    total = powers.sum(-1, keepdim=True)
    least, most = torch.aminmax(total)
    if not _TINY <= float(least) <= float(most) <= 1 / _TINY:
        return ((scores - scores.amax(-1, keepdim=True)) * math.log(2)).softmax(-1)
    return powers.div_(total)


@lru_cache(maxsize=64)
def _blocks(start: int, places: int, group: int, device: torch.device, dtype: torch.dtype) -> list[_Block]:
    """The blocks of a line from a place on, the last first: it sees all places."""
    count = max(1, round((places - start) / BLOCK))
    edges = [start + (places - start) * i // count for i in range(count + 1)]
    found = []
    for first, last in itertools.pairwise(edges):
        at = torch.arange(first, last, device=device).repeat_interleave(group)
        later = torch.arange(last, device=device) > at[:, None]
        hidden = torch.zeros(1, *later.shape, device=device, dtype=dtype).masked_fill_(later, -torch.inf)
        found.append(_Block(slice(first * group, last * group), last, hidden))
    return found[::-1]


class _Read(torch.autograd.Function):
    """Norm, then queries, keys and values [N, H + 2 K, E], the first two rotated.

    With `kind_N` (long), x holds what occurs and this says which of it every token is.
    """

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
        kind_N: torch.Tensor | None,
    ) -> torch.Tensor:
        scale, normed = _norm(x, norm_D, eps)
        size = cos.shape[-1]
        # Copying the weights takes less than three products take more than one.
        weight = torch.cat((query.t(), key.t(), value.t()))
        biases = [bias for bias in (query_bias, key_bias, value_bias) if bias is not None]
        bias = torch.cat(biases) if biases else None
        found = F.linear(normed, weight, bias).view(len(x), -1, size)
        if kind_N is not None:
            found = found.index_select(0, kind_N)
        turned = found[:, : heads + key.shape[1] // size]
        torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin, out=turned)
        ctx.kind_N = kind_N
        ctx.save_for_backward(x, norm_D, query, key, value, cos, sin, scale, normed)
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
        if ctx.kind_N is not None:
            back = back.new_zeros(len(x), *back.shape[1:]).index_add_(0, ctx.kind_N, back)
        flat, outs = back.view(len(x), -1), [weight.shape[1] for weight in weights]
        product = _outer(flat, normed).split(outs, dim=1) if any(needs[2:5]) else (None, None, None)
        total = flat.sum(0).split(outs) if any(needs[5:8]) else (None, None, None)
        grads = [part if needed else None for part, needed in zip((*product, *total), needs[2:8], strict=True)]
        grad_normed = flat @ torch.cat((query.t(), key.t(), value.t()))
        grad_x, grad_norm = _norm_backward(grad_normed, x, norm_D, scale, needs[1])
        return grad_x, grad_norm, *grads, None, None, None, None, None


class _Mlp(torch.autograd.Function):
    """``x + down(silu(gate(norm(x))) up(norm(x)))``."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, norm_D: Weight, gate: Weight, up: Weight, down: Weight, eps: float
    ) -> torch.Tensor:
        scale, normed = _norm(x, norm_D, eps)
        gated, upped = normed @ gate, normed @ up
        # Not silu: its derivative would raise e to the same powers once more.
        share = torch.sigmoid(gated)
        active = gated.mul_(share)
        inner = active * upped
        ctx.save_for_backward(x, norm_D, gate, up, down, scale, normed, share, upped, active, inner)
        return torch.addmm(x, inner, down)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, norm_D, gate, up, down, scale, normed, share, upped, active, inner = ctx.saved_tensors
        _, needs_norm, needs_gate, needs_up, needs_down, _ = ctx.needs_input_grad
        grad_inner = grad @ down.t()
        grad_down = _outer(grad, inner) if needs_down else None
        grad_upped = active * grad_inner
        # s + g s (1 - s), where g s is what is active.
        grad_gated = torch.lerp(active, active.new_ones(()), share).mul_(grad_inner.mul_(upped))
        grad_gate = _outer(grad_gated, normed) if needs_gate else None
        grad_up = _outer(grad_upped, normed) if needs_up else None
        grad_normed = (grad_gated @ gate.t()).addmm_(grad_upped, up.t())
        grad_x, grad_norm = _norm_backward(grad_normed, x, norm_D, scale, needs_norm)
        return grad_x.add_(grad), grad_norm, grad_gate, grad_up, grad_down, None


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

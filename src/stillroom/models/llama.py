"""Continuing rows of Llama and Qwen2 layouts with few, large operations: the fast path of `decoding`.

The module's own weights are used where they lie, so that training shows at once. What the module would do besides (a
hook, an adapter, a dropout in training, a scaled position, a part of another class) is not imitated: `known_parts` then
returns None and the module is called instead.

Axes: B row, S column read now, T column of the cache, N = B * S, D hidden, H query head, K key-value head, G = H / K
queries per key-value head, E head size, V vocabulary, X = (H + 2 K) E.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2 import modeling_qwen2 as qwen2

from stillroom.models.llama_one import F32, LayerViews, OneRow

_CLASSES: tuple[frozenset[type], ...] = tuple(
    frozenset(
        {
            torch.nn.Embedding,
            torch.nn.Linear,
            torch.nn.ModuleList,
            torch.nn.SiLU,
            SiLUActivation,
            *(getattr(module, f"{layout}{part}") for part in parts),
        }
    )
    for module, layout in ((llama, "Llama"), (qwen2, "Qwen2"))
    for parts in [("ForCausalLM", "Model", "DecoderLayer", "Attention", "MLP", "RMSNorm", "RotaryEmbedding")]
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_STATIC_ROPES = ("default", "linear", "llama3")
"""Their frequencies do not depend on what is read."""
FEW = 2
"""Tokens read per entry of the vocabulary from which on what the first layer makes of each entry is worked out once."""


class _Layer(NamedTuple):
    """Weights as they lie in the module, matrices transposed by view."""

    norm_D: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    biases: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
    out: torch.Tensor
    mlp_norm_D: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


class Parts(NamedTuple):
    """What a known model is made of."""

    embedding_VD: torch.Tensor
    layers: tuple[_Layer, ...]
    head_VD: torch.Tensor
    norm_D: torch.Tensor
    eps: float
    frequencies: torch.Tensor
    rope_scale: float
    heads: int
    kv_heads: int
    head_dim: int

    def rotation(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [T, E] of the first positions, such that ``x cos + roll(x, E / 2) sin`` is x rotated."""
        at_T = torch.arange(positions, device=self.frequencies.device)
        angle = at_T[:, None].float() * self.frequencies.float()
        cos, sin = angle.cos() * self.rope_scale, angle.sin() * self.rope_scale
        dtype = self.embedding_VD.dtype
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def known_parts(model: PreTrainedModel) -> Parts | None:
    """The parts of a model that this file reads exactly as its module does; None for any other."""
    if not any(type(model) in classes and _plain(model, classes) for classes in _CLASSES):
        return None
    config, body = model.config, cast(Any, model.base_model)
    rope = body.rotary_emb
    attentions = [layer.self_attn for layer in body.layers]
    unbiased = [part for layer in body.layers for part in (layer.self_attn.o_proj, *layer.mlp.children())]
    unbiased.append(model.get_output_embeddings())
    if (
        rope.rope_type not in _STATIC_ROPES
        or len(attentions) != config.num_hidden_layers
        or any(getattr(part, "bias", None) is not None for part in unbiased)
        or any(getattr(attention, "sliding_window", None) for attention in attentions)
        or (model.training and config.attention_dropout > 0)
    ):
        return None
    return Parts(
        embedding_VD=body.embed_tokens.weight,
        layers=tuple(_layer(layer) for layer in body.layers),
        head_VD=model.get_output_embeddings().weight,
        norm_D=body.norm.weight,
        eps=body.norm.variance_epsilon,
        frequencies=rope.inv_freq,
        rope_scale=rope.attention_scaling,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=attentions[0].head_dim,
    )


def _plain(model: torch.nn.Module, classes: frozenset[type]) -> bool:
    """Whether every part is of a class that is known here, and does what its class does."""
    if any(getattr(torch.nn.modules.module, f"_global{name}") for name in _HOOKS):
        return False
    # Asked at every training step: `model.modules()` would take three times as long.
    kinds, left = set[tuple[torch.device, torch.dtype]](), [model]
    while left:
        part = left.pop()
        own = part.__dict__
        if type(part) not in classes or "forward" in own or any(own[name] for name in _HOOKS):
            return False
        kinds.update((weight.device, weight.dtype) for weight in own["_parameters"].values() if weight is not None)
        left.extend(own["_modules"].values())
    return len(kinds) == 1


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    read = (attention.q_proj, attention.k_proj, attention.v_proj)
    return _Layer(
        layer.input_layernorm.weight,
        read[0].weight.t(),
        read[1].weight.t(),
        read[2].weight.t(),
        (read[0].bias, read[1].bias, read[2].bias),
        attention.o_proj.weight.t(),
        layer.post_attention_layernorm.weight,
        mlp.gate_proj.weight.t(),
        mlp.up_proj.weight.t(),
        mlp.down_proj.weight.t(),
    )


@dataclass
class LlamaDecoding:
    """Rows under way over one static cache; texts are padded on the left, so that all rows write the same column."""

    parts: Parts
    """With norms multiplied by sqrt(D)."""
    epsilon: torch.Tensor
    """``sqrt(D eps)``."""
    cache: torch.Tensor
    """[layer, key or value, B, K, T, E]; keys are rotated."""
    pad_B: torch.Tensor
    """Long; columns of padding before each row."""
    cos_TE: torch.Tensor
    sin_TE: torch.Tensor
    """See `Parts.rotation`."""
    hidden_BT: torch.Tensor | None
    """What is added to the scores of a column: minus infinity for padding; None where there is none."""
    biases: list[torch.Tensor | None]
    """Of each layer's queries, keys and values together; None where there are none."""
    first_VX: torch.Tensor | None
    """Queries, keys and values of the first layer for every entry of the vocabulary, not rotated; None where so few
    tokens will be read that making it does not pay."""
    width: int = 0
    """Columns read so far."""
    _views: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Keys and values of each layer [B K, T, E] as they lie in the cache."""

    _one: OneRow | None = None
    """Made when a single row is stepped."""

    def __post_init__(self) -> None:
        self._look_again()

    def _look_again(self) -> None:
        """Make the views of a cache that is new."""
        self._one = None
        self._views = [(keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in self.cache]

    def select(self, index_B: torch.Tensor) -> None:
        """Keep these rows (long), in this order; a row may be taken several times. Rows that stay put cost nothing."""
        rows, kept = self.cache.shape[2], len(index_B)
        self.pad_B = self.pad_B[index_B]
        if self.hidden_BT is not None:
            self.hidden_BT = self.hidden_BT[index_B]
        if kept <= rows:
            moved = (index_B != torch.arange(kept, device=index_B.device)).nonzero()[:, 0]
            if 2 * len(moved) <= kept:
                if len(moved):
                    self.cache[:, :, moved, :, : self.width] = self.cache[:, :, index_B[moved], :, : self.width]
                self.cache = self.cache[:, :, :kept]
                self._look_again()
                return
        cache = self.cache.new_empty(*self.cache.shape[:2], kept, *self.cache.shape[3:])
        cache[..., : self.width, :] = self.cache[:, :, index_B, :, : self.width]
        self.cache = cache
        self._look_again()

    def states(self, row: int) -> torch.Tensor | None:
        """Keys and values [layer, key or value, K, T, E] of what a row has read, copied."""
        return self.cache[:, :, row, :, int(self.pad_B[row]) : self.width].clone()

    def take(self, known: Sequence[tuple[int, torch.Tensor | None]]) -> None:
        """Begin behind what is known of every row, given how many of its first tokens and their states.

        Rows are read together, so that the one of which the most is new decides where reading begins.
        """
        pads = self.pad_B.tolist()
        self.width = min(pad + length for pad, (length, _) in zip(pads, known, strict=True))
        # Padding is hidden by its scores, which only works for numbers.
        self.cache[..., : self.width, :] = 0
        for row, (pad, (_, states)) in enumerate(zip(pads, known, strict=True)):
            if states is not None and pad < self.width:
                self.cache[:, :, row, :, pad : self.width] = states[..., : self.width - pad, :]

    def put(self, layer: int, states_UKE: torch.Tensor, index_BT: torch.Tensor) -> None:
        """Write keys and values [U, 2 K, E] that were made elsewhere into the first columns of a layer.

        Args:
            index_BT: long; which of them stands in which column. In columns of padding any will do: it is hidden.
        """
        rows, self.width = index_BT.shape
        found = states_UKE[index_BT].view(rows, self.width, 2, self.parts.kv_heads, -1)
        self.cache[layer, ..., : self.width, :] = found.permute(2, 0, 3, 1, 4)

    def attend(self, query_BHE: torch.Tensor, layer: int) -> torch.Tensor:
        """What one query per row makes of what stands in a layer's cache: [B, H E]."""
        return self._attend_one(query_BHE[:, None], layer, self._hidden())

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """Read one more token (long) per row; returns the logits [B, V] of what follows."""
        cache = self.cache
        if cache.shape[2] > 1 or cache.dtype != torch.float32 or cache.device.type != "cpu":
            return self.read(tokens_B[:, None])
        if self._one is None:
            self._one = self._single()
        column, self.width = self.width, self.width + 1
        return self._one.step(int(tokens_B), column, column - int(self.pad_B))

    @torch.no_grad()
    def read(self, ids_BS: torch.Tensor) -> torch.Tensor:
        """Read columns of tokens; returns the logits [B, V] of what follows."""
        parts, (rows, columns) = self.parts, ids_BS.shape
        first, self.width = self.width, self.width + columns
        heads, kv_heads, size = parts.heads, parts.kv_heads, parts.head_dim
        cos, sin = self._rotation(first)
        x = F.embedding(ids_BS.reshape(-1), parts.embedding_VD)
        buffer = x.new_empty(len(x), heads + 2 * kv_heads, size)
        flat, both = buffer.view(len(x), -1), heads + kv_heads
        outs = _outs(flat, parts)
        # Where keys and values of these columns go, seen as they lie in the buffer: [layer, B, S, 2, K, E].
        written = self.cache[..., first : self.width, :].permute(0, 2, 4, 1, 3, 5)
        fresh, turned = buffer[:, heads:].view(rows, columns, 2, kv_heads, size), buffer[:, :both]
        query = buffer[:, :heads].view(rows, columns, heads, size)
        attend, hidden = (self._attend_one, self._hidden()) if columns == 1 else (self._attend, self._mask(columns))
        for number, layer in enumerate(parts.layers):
            if number or self.first_VX is None:
                _read(x, layer, self.epsilon, self.biases[number], flat, outs)
            else:
                torch.index_select(self.first_VX, 0, ids_BS.reshape(-1), out=flat)
            torch.addcmul(turned * cos, turned.roll(size // 2, -1), sin, out=turned)
            written[number].copy_(fresh)
            if columns > 1 and number + 1 == len(parts.layers):
                # Nothing reads what earlier columns would make of the last layer.
                query, x = query[:, -1:], x.view(rows, columns, -1)[:, -1]
            x = torch.addmm(x, attend(query, number, hidden), layer.out)
            normed = _rms_norm(x, layer.mlp_norm_D, self.epsilon)
            x = torch.addmm(x, F.silu(torch.mm(normed, layer.gate)).mul_(torch.mm(normed, layer.up)), layer.down)
        return F.linear(_rms_norm(x, parts.norm_D, self.epsilon), parts.head_VD)

    def _single(self) -> OneRow:
        """Views of everything for one row."""
        parts = self.parts
        layers = [
            LayerViews(
                norm_D=_view(layer.norm_D),
                read=(_view(layer.query.t()), _view(layer.key.t()), _view(layer.value.t())),
                biases=cast(Any, tuple(None if bias is None else _view(bias) for bias in layer.biases)),
                out=_view(layer.out.t()),
                mlp_norm_D=_view(layer.mlp_norm_D),
                gate=_view(layer.gate.t()),
                up=_view(layer.up.t()),
                down=_view(layer.down.t()),
                cache=_view(cache[:, 0]),
            )
            for layer, cache in zip(parts.layers, self.cache, strict=True)
        ]
        return OneRow(
            embedding_VD=_view(parts.embedding_VD),
            head_VD=_view(parts.head_VD),
            layers=layers,
            norm_D=_view(parts.norm_D),
            epsilon=float(self.epsilon) ** 2,
            cos_TE=_view(self.cos_TE),
            sin_TE=_view(self.sin_TE),
            hidden_T=None if self.hidden_BT is None else _view(self.hidden_BT[0]),
            heads=parts.heads,
            kv_heads=parts.kv_heads,
        )

    def _rotation(self, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the columns from `first` on, for the rows of the buffer."""
        if self.hidden_BT is None and self.width - first == 1:
            return self.cos_TE[first : self.width], self.sin_TE[first : self.width]
        at_S = torch.arange(first, self.width, device=self.pad_B.device)
        position_N = (at_S - self.pad_B[:, None]).clamp_(min=0).view(-1)
        return self.cos_TE[position_N][:, None], self.sin_TE[position_N][:, None]

    def _hidden(self) -> torch.Tensor | None:
        """What is added to the scores of one query per row [B K, 1, T]."""
        if self.hidden_BT is None:
            return None
        return self.hidden_BT[:, None, : self.width].repeat_interleave(self.parts.kv_heads, 0)

    def _mask(self, columns: int) -> torch.Tensor | None:
        """What is added to the scores of the last columns [B, 1, S, T]; None where they see all before them."""
        if self.hidden_BT is None and columns == self.width:
            return None
        at = torch.arange(self.width, device=self.pad_B.device)
        later = at > at[-columns:, None]
        # Columns of padding see padding, as a row of nothing but minus infinity would be no number.
        dtype = self.cache.dtype
        mask = later.to(dtype).mul_(torch.finfo(dtype).min).expand(len(self.pad_B), 1, -1, -1)
        return mask if self.hidden_BT is None else torch.minimum(mask, self.hidden_BT[:, None, None, : self.width])

    def _attend_one(self, query: torch.Tensor, number: int, hidden: torch.Tensor | None) -> torch.Tensor:
        """What one query per row [B, 1, H, E] makes of a layer's cache: [B, H E].

        Batched products over views of the cache: the attention kernels copy it or loop over rows.
        """
        rows, _, heads, size = query.shape
        kv_heads = self.parts.kv_heads
        query = query.reshape(rows * kv_heads, heads // kv_heads, size)
        keys, values = self._views[number]
        keys, values = keys[:, : self.width], values[:, : self.width]
        given, beta = (self.epsilon, 0) if hidden is None else (hidden, 1)  # beta 0: given, but not read
        scores = torch.baddbmm(given, query, keys.transpose(1, 2), beta=beta, alpha=1 / math.sqrt(size))
        return torch.bmm(scores.softmax(-1), values).view(rows, -1)

    def _attend(self, query: torch.Tensor, number: int, mask: torch.Tensor | None) -> torch.Tensor:
        """What queries [B, S, H, E] of the last columns make of a layer's cache: [B S, H E]."""
        rows, columns, heads, size = query.shape
        if mask is not None:
            mask = mask[:, :, -columns:]  # the last layer asks for the last column alone
        keys, values = (part[:, :, : self.width] for part in self.cache[number])
        found = F.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, attn_mask=mask, is_causal=mask is None and columns > 1, enable_gqa=True
        )
        return found.transpose(1, 2).reshape(rows * columns, heads * size)


@torch.no_grad()
def start(parts: Parts, pad_B: torch.Tensor, columns: int) -> LlamaDecoding:
    """Rows of which nothing has been read yet.

    Args:
        pad_B: long; columns of padding before each row.
        columns: most that will be read.
    """
    weight = parts.embedding_VD
    cos_TE, sin_TE = parts.rotation(columns)
    hidden_BT = None
    if bool(pad_B.any()):
        padding_BT = torch.arange(columns, device=weight.device) < pad_B[:, None]
        hidden_BT = padding_BT.to(weight.dtype).mul_(torch.finfo(weight.dtype).min)
    scale = math.sqrt(weight.shape[1])
    layers = [
        layer._replace(norm_D=layer.norm_D * scale, mlp_norm_D=layer.mlp_norm_D * scale) for layer in parts.layers
    ]
    epsilon = weight.new_tensor(math.sqrt(parts.eps) * scale)
    biases = [_together(layer.biases) for layer in parts.layers]
    first_VX = None
    if len(pad_B) * columns >= FEW * len(weight):
        first_VX = weight.new_empty(len(weight), (parts.heads + 2 * parts.kv_heads) * parts.head_dim)
        _read(weight, layers[0], epsilon, biases[0], first_VX, _outs(first_VX, parts))
    return LlamaDecoding(
        parts=parts._replace(layers=tuple(layers), norm_D=parts.norm_D * scale),
        epsilon=epsilon,
        cache=weight.new_empty(len(parts.layers), 2, len(pad_B), parts.kv_heads, columns, parts.head_dim),
        pad_B=pad_B,
        cos_TE=cos_TE,
        sin_TE=sin_TE,
        hidden_BT=hidden_BT,
        biases=biases,
        first_VX=first_VX,
    )


def _outs(flat_NX: torch.Tensor, parts: Parts) -> list[torch.Tensor]:
    """Views of queries, keys and values in what holds them together."""
    heads, kv_heads, size = parts.heads, parts.kv_heads, parts.head_dim
    edges = (0, heads * size, (heads + kv_heads) * size, (heads + 2 * kv_heads) * size)
    return [flat_NX[:, low:high] for low, high in itertools.pairwise(edges)]


def _read(
    x_ND: torch.Tensor,
    layer: _Layer,
    epsilon: torch.Tensor,
    bias: torch.Tensor | None,
    flat_NX: torch.Tensor,
    outs: Sequence[torch.Tensor],
) -> None:
    """Write queries, keys and values of a layer, not rotated, given `_outs` of where they go."""
    normed = _rms_norm(x_ND, layer.norm_D, epsilon)
    for out, weight in zip(outs, (layer.query, layer.key, layer.value), strict=True):
        torch.mm(normed, weight, out=out)
    if bias is not None:
        flat_NX.add_(bias)


def _together(biases: tuple[torch.Tensor | None, ...]) -> torch.Tensor | None:
    found = [bias for bias in biases if bias is not None]
    return torch.cat(found) if found else None


def _view(tensor: torch.Tensor) -> F32:
    found: F32 = tensor.detach().numpy()
    return found


def _rms_norm(x: torch.Tensor, weight_D: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """``w x / sqrt(mean(x^2) + eps)``, given ``w sqrt(D)`` and ``sqrt(D eps)``.

    ``hypot(|x|, sqrt(D eps)) = sqrt(D (mean(x^2) + eps))`` takes two passes over x less than the formula as it stands.
    """
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (wide / torch.hypot(length, epsilon)).to(x.dtype).mul_(weight_D)

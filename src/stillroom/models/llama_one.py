"""One row of a Llama or Qwen2 layout in numpy, over the memory of the torch tensors: the low-latency path.

With one row, the arithmetic of a small model takes less time than calling torch does; numpy's calls cost a fifth.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

F32 = npt.NDArray[np.float32]


class LayerViews(NamedTuple):
    """Views of one layer's weights, matrices as the module holds them [out, in], and of the row's cache."""

    norm_D: F32
    read: tuple[F32, F32, F32]
    biases: tuple[F32 | None, F32 | None, F32 | None]
    out: F32
    mlp_norm_D: F32
    gate: F32
    up: F32
    down: F32
    cache: F32
    """[key or value, K, T, E]"""


class OneRow(NamedTuple):
    """Everything that a step of one row reads, and the cache that it writes; see `llama.Parts` for the terms."""

    embedding_VD: F32
    head_VD: F32
    layers: list[LayerViews]
    norm_D: F32
    epsilon: float
    cos_TE: F32
    sin_TE: F32
    hidden_T: F32 | None
    heads: int
    kv_heads: int

    def step(self, token: int, column: int, position: int) -> torch.Tensor:
        """Read one token into a column of the cache; returns the logits [1, V] of what follows."""
        heads, kv_heads, size = self.heads, self.kv_heads, self.cos_TE.shape[1]
        both, half = heads + kv_heads, size // 2
        cos, sin = self.cos_TE[position], self.sin_TE[position]
        x = self.embedding_VD[token].copy()
        buffer = np.empty((both + kv_heads, size), np.float32)
        flat, turned, fresh = buffer.reshape(-1), buffer[:both], buffer[heads:].reshape(2, kv_heads, size)
        outs = flat[: heads * size], flat[heads * size : both * size], flat[both * size :]
        query = buffer[:heads].reshape(kv_heads, heads // kv_heads, size)
        rolled = np.empty_like(turned)
        scale = np.float32(1 / math.sqrt(size))
        with np.errstate(over="ignore"):  # of the exponential in silu, whose result is then 0
            for layer in self.layers:
                normed = self._rms_norm(x, layer.norm_D)
                for out, weight, bias in zip(outs, layer.read, layer.biases, strict=True):
                    np.dot(weight, normed, out=out)
                    if bias is not None:
                        out += bias
                rolled[:, :half], rolled[:, half:] = turned[:, half:], turned[:, :half]
                rolled *= sin
                turned *= cos
                turned += rolled
                cache = layer.cache
                cache[:, :, column] = fresh
                keys, values = cache[0, :, : column + 1], cache[1, :, : column + 1]
                scores = np.matmul(query, keys.transpose(0, 2, 1))
                scores *= scale
                if self.hidden_T is not None:
                    scores += self.hidden_T[: column + 1]
                scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
                np.exp(scores, out=scores)
                scores /= np.add.reduce(scores, axis=-1, keepdims=True)
                x += np.dot(layer.out, np.matmul(scores, values).reshape(-1))
                normed = self._rms_norm(x, layer.mlp_norm_D)
                gate = np.dot(layer.gate, normed)
                below = np.exp(-gate)
                below += 1
                gate /= below
                gate *= np.dot(layer.up, normed)
                x += np.dot(layer.down, gate)
        return torch.from_numpy(np.dot(self.head_VD, self._rms_norm(x, self.norm_D))[None])

    def _rms_norm(self, x: F32, weight_D: F32) -> F32:
        normed = x * np.float32(1 / math.sqrt(float(np.dot(x, x)) + self.epsilon))
        normed *= weight_D
        return normed

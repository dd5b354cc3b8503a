"""Keys and values of texts that were read before, so that a longer text is read only from where it differs.

What tree search asks for again and again: the same beginning, continued in several ways.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int64]


class Prefixes:
    """Texts with their keys and values, least recently used ones dropped beyond a number of tokens."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._kept: OrderedDict[bytes, tuple[Ids, torch.Tensor]] = OrderedDict()
        self._tokens = 0
        self._weights: list[tuple[int, int]] = []

    def belong_to(self, model: torch.nn.Module) -> None:
        """Forget everything if the model's weights are not those of the last call: another model, or trained since.

        A change that PyTorch does not count (through `Tensor.data`, or of weights made in inference mode) goes unseen.
        """
        weights = [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in model.parameters()]
        if weights != self._weights:
            self._kept.clear()
            self._tokens, self._weights = 0, weights

    def find(self, ids: Sequence[int]) -> tuple[int, torch.Tensor | None]:
        """How many of the first tokens some kept text has, all but the last at most, and that text's states."""
        wanted = np.asarray(ids, np.int64)
        best, found = 0, None
        for key, (kept, _) in self._kept.items():
            both = min(len(kept), len(wanted) - 1)
            unlike = kept[:both] != wanted[:both]
            common = int(unlike.argmax()) if unlike.any() else both
            if common > best:
                best, found = common, key
        if found is None:
            return 0, None
        self._kept.move_to_end(found)
        return best, self._kept[found][1]

    def keep(self, ids: Sequence[int], states: torch.Tensor) -> None:
        """Keep a text's states [layer, key or value, K, T, E], a tensor of its own."""
        text = np.asarray(ids, np.int64)
        if text.tobytes() in self._kept or len(text) > self.max_tokens:
            return
        self._kept[text.tobytes()] = text, states
        self._tokens += len(text)
        while self._tokens > self.max_tokens:
            self._tokens -= len(self._kept.popitem(last=False)[1][0])

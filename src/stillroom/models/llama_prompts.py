"""Reading prompts of Llama and Qwen2 layouts as training reads rows: no padding, and what they have in common once."""

from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np
import torch

from stillroom.models.llama import LlamaDecoding, Parts
from stillroom.models.llama_states import Lines, states


@torch.no_grad()
def read_once(parts: Parts, decoding: LlamaDecoding, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Fill the cache of rows of which nothing has been read; returns the last hidden states [B, D]."""
    device, lengths = decoding.pad_B.device, [len(ids) for ids in prompts]
    ids_N = np.fromiter(chain.from_iterable(prompts), np.int64, sum(lengths))
    lines = Lines(ids_N, lengths, device)
    ends_B = torch.tensor(list(accumulate(lengths)), device=device)
    # A column of padding takes the row's first token.
    back_T = torch.arange(max(lengths), 0, -1, device=device)
    index_BT = lines.token_N[ends_B[:, None] - torch.minimum(back_T, torch.tensor(lengths, device=device)[:, None])]

    last_U = lines.token_N[ends_B - 1]

    def keep(layer: int, turned: torch.Tensor) -> torch.Tensor | None:
        decoding.put(layer, turned[:, parts.heads :], index_BT)
        # Of the last layer only what follows the prompts is asked for: a step like any other.
        return decoding.attend(turned[last_U, : parts.heads], layer) if layer + 1 == len(parts.layers) else None

    return states(parts, torch.from_numpy(ids_N).to(device), lines, ends_B - 1, keep)

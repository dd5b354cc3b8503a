"""The weight matrices of a policy one by one, fused ones taken apart; how heavy-tailed they are, how they changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from stillroom.errors import UserError
from stillroom.learn.adapt.base import linear_weights
from stillroom.models.policy import Policy
from stillroom.seeds import derive_seed
from stillroom.types import Noun

Modules = Literal["linear", "mlp"]

_FUSED = ("qkv", "query_key_value", "c_attn", "gate_up")
HEAVY = 1.1
"""Least `spectral_excess` of weights that have a principal part (ours; random weights have 1.0)."""


@dataclass(frozen=True)
class Matrix:
    """One matrix: a whole parameter, or those of its rows that belong to one of several matrices fused in it."""

    name: str
    weight: torch.nn.Parameter
    rows: torch.Tensor | None = None
    """Ascending row numbers (long); None: all."""

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """This matrix [m, n] of a tensor of the parameter's shape: the weight itself, or its gradient."""
        return tensor if self.rows is None else tensor[self.rows]

    def places(self, flat: torch.Tensor) -> torch.Tensor:
        """Flat positions in this matrix as flat positions in the parameter; ascending ones stay so."""
        if self.rows is None:
            return flat
        width = self.weight.shape[1]
        return self.rows[flat // width] * width + flat % width


def matrices(policy: Policy, modules: Modules = "linear") -> list[Matrix]:
    """The matrices of all linear modules but the head (``linear``), or of those inside MLP blocks alone (``mlp``).

    GPT-NeoX keeps query, key and value in one parameter, laid out [heads, 3, head width, hidden]; they come as three.

    Raises:
        UserError: no such matrix, or matrices that are fused in a layout which is not known here.
    """
    embedding, head = policy.model.get_input_embeddings(), policy.model.get_output_embeddings()
    # A head that is tied to the embedding may be reachable under yet another name.
    tied = {id(module.weight) for module in (embedding, head) if module is not None}
    found: list[Matrix] = []
    for name, weight in linear_weights(policy).items():
        if id(weight) in tied or (modules == "mlp" and ".mlp." not in name):
            continue
        if policy.model.config.model_type == "gpt_neox" and name.endswith("query_key_value.weight"):
            heads = policy.model.config.num_attention_heads
            number = torch.arange(weight.shape[0], device=weight.device).view(heads, 3, -1)
            found += [Matrix(f"{name}.{part}", weight, number[:, at].flatten()) for at, part in enumerate("qkv")]
        elif any(word in name for word in _FUSED):
            raise UserError(
                f"{policy.source}: {name} holds several matrices in a layout that is not known here "
                f"({policy.model.config.model_type}); they must be scored one by one"
            )
        else:
            found.append(Matrix(name, weight))
    if not found:
        raise UserError(f"{policy.source}: no linear module lies in an MLP block (.mlp.); give modules='linear'")
    return found


class WeightChange(Noun):
    """The difference of two sets of weights, over the matrices in which they differ."""

    changed: int
    """Matrices that differ."""
    entries: int
    """Single entries that differ."""
    rank: float
    """Numerical rank of the difference as a share of the full rank, mean over the changed matrices; 0: none changed."""
    norm: float
    """Frobenius norm of the whole difference."""
    relative_norm: float
    """That norm over the norm of the first set's changed matrices; 0: none changed."""


def weight_change(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> WeightChange:
    """Rank and size of ``after - before`` over all matrices (2-D tensors), in float64; tied weights count once.

    Raises UserError when a name or shape of the first is not in the second.
    """
    ranks, entries, squared, base, seen = list[float](), 0, 0.0, 0.0, set[int]()
    for name, old in before.items():
        if name not in after or after[name].shape != old.shape:
            raise UserError(f"the two models have different layouts: {name} of shape {tuple(old.shape)} is in one only")
        if old.ndim != 2 or old.data_ptr() in seen:
            continue
        seen.add(old.data_ptr())
        difference = after[name].double() - old.double()
        moved = int((difference != 0).sum())
        if moved:
            # Below this lies the rounding of the weights, which would give a merged adapter full rank.
            rounding = max(old.shape) * torch.finfo(old.dtype).eps * float(torch.linalg.matrix_norm(old.double(), 2))
            ranks.append(int(torch.linalg.matrix_rank(difference, atol=rounding, rtol=0.0)) / min(old.shape))
            entries += moved
            squared += float(difference.square().sum())
            base += float(old.double().square().sum())
    return WeightChange(
        changed=len(ranks),
        entries=entries,
        rank=sum(ranks) / len(ranks) if ranks else 0.0,
        norm=squared**0.5,
        relative_norm=(squared / base) ** 0.5 if base else 0.0,
    )


def spectral_excess(policy: Policy) -> float:
    """How heavy-tailed the spectra are: energy in the top eighth of the singular values, over a Gaussian matrix's.

    The mean over matrices; about 1 for random weights, which have no principal part, and larger after training.
    """
    ratios = []
    for matrix in matrices(policy):
        weight = matrix.of(matrix.weight.detach()).float().cpu()
        generator = torch.Generator().manual_seed(derive_seed("gaussian", *weight.shape))
        gaussian = torch.randn(weight.shape, generator=generator)
        ratios.append(_top_energy(weight) / _top_energy(gaussian))
    return sum(ratios) / len(ratios)


def require_spectrum(policy: Policy) -> None:
    """Raise UserError for weights without a principal part: LIFT on them would be a choice of random entries."""
    found = spectral_excess(policy)
    if found < HEAVY:
        raise UserError(
            f"{policy.source}: the top singular values of its matrices hold {found:.2f} times the energy of a random "
            f"matrix's (at least {HEAVY} is expected of trained weights), so there are no principal weights to find; "
            "start from a pre-trained student"
        )


def _top_energy(weight: torch.Tensor) -> float:
    energy = torch.linalg.svdvals(weight).square()
    return float(energy[: max(1, len(energy) // 8)].sum() / energy.sum())

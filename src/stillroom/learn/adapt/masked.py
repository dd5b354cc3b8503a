"""Sparse fine-tuning: single entries of each matrix move, with optimiser state for them alone.

LIFT (https://arxiv.org/abs/2506.00772) chooses the entries that are largest in the low-rank approximation of the
current matrix, and chooses again from time to time. The mask applies to the update, never to the weight.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from stillroom.errors import CheckpointError, TrainingStopped, UserError
from stillroom.learn.adapt.base import AdamW, AdaptReport, share_report
from stillroom.learn.adapt.matrices import Matrix, Modules, matrices
from stillroom.learn.adapt.scores import Score, ScoreName, Statistics, get_score, largest, observe, random_score
from stillroom.models.policy import Policy
from stillroom.seeds import derive_seed

_DENSITY = 0.05  # the paper's share of entries


@dataclass(frozen=True)
class Masked:
    """Of each matrix, exactly the k entries with the largest score move; everything else is frozen."""

    score: ScoreName = "lift"
    density: float | None = None
    """k as a share of the matrix's entries; None without `rank_equivalent`: 0.05."""
    rank_equivalent: int | None = None
    """k as the weights of an adapter of that rank, ``(m + n) r``, but at most all entries."""
    filter_rank: int | None = None
    """Singular values that the ``lift`` score keeps; None: an eighth of them."""
    refresh_every: int | None = None
    """Optimiser steps after which the entries are chosen anew; None: never."""
    modules: Modules = "linear"
    """``mlp``: matrices of MLP blocks alone (the paper's LIFT_MLP)."""
    provides: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        needs_gradient = get_score(self.score, self.filter_rank).needs_gradient
        if self.density is not None and self.rank_equivalent is not None:
            raise UserError(
                f"density={self.density} and rank_equivalent={self.rank_equivalent} both say how many entries move; "
                "give one of them"
            )
        if self.density is not None and not 0 < self.density <= 1:
            raise UserError(f"density={self.density} is no share of the entries; give one above 0 and at most 1")
        if self.rank_equivalent is not None and self.rank_equivalent < 1:
            raise UserError(f"rank_equivalent={self.rank_equivalent} leaves nothing to move; give 1 or more")
        if self.refresh_every is not None and self.refresh_every < 1:
            raise UserError(f"refresh_every={self.refresh_every} is no number of steps; give 1 or more, or None")
        if needs_gradient and self.refresh_every is None:
            raise UserError(
                f"score {self.score!r} needs a gradient and would stay with its random first choice; give refresh_every"
            )

    @property
    def name(self) -> str:
        return f"masked-{self.score}"

    def budget(self, rows: int, columns: int) -> int:
        """How many entries of a matrix of that shape move: k."""
        entries = rows * columns
        if self.rank_equivalent is not None:
            return min((rows + columns) * self.rank_equivalent, entries)
        return max(1, round((_DENSITY if self.density is None else self.density) * entries))

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> "MaskedMoving":
        if settings.weight_decay:
            raise UserError(
                f"weight_decay={settings.weight_decay} would move entries outside the mask; give 0 with {self.name!r}"
            )
        found = matrices(policy, self.modules)
        for parameter in policy.model.parameters():
            parameter.requires_grad_(False)
        for matrix in found:
            matrix.weight.requires_grad_(True)
        shapes = {matrix.name: tuple(matrix.of(matrix.weight).shape) for matrix in found}
        dense = [name for name, shape in shapes.items() if self.budget(*shape) == math.prod(shape)]
        if dense:
            warnings.warn(
                f"{self.name}: all entries of {len(dense)} of {len(shapes)} matrices move (first: {dense[0]} of shape "
                f"{shapes[dense[0]]}), which is not sparse; give a smaller density or rank_equivalent",
                stacklevel=2,
            )
        clipped = [name for name, shape in shapes.items() if (self.filter_rank or 0) > min(shape)]
        if clipped:
            warnings.warn(
                f"filter_rank={self.filter_rank} is above the rank of {len(clipped)} of {len(shapes)} matrices (first: "
                f"{clipped[0]} of shape {shapes[clipped[0]]}), where the score is plain magnitude; give a smaller one",
                stacklevel=2,
            )
        return MaskedMoving(self, policy, found, settings, seed=seed)


@dataclass
class _Part:
    """One matrix with its chosen entries, whose positions are flat in the parameter and ascending."""

    matrix: Matrix
    k: int
    at: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    statistics: Statistics = field(default_factory=dict)

    def held(self) -> dict[str, torch.Tensor]:
        statistics = {f"statistic.{name}": tensor for name, tensor in self.statistics.items()}
        return {"at": self.at, "first": self.first, "second": self.second, **statistics}


class MaskedMoving:
    """The chosen entries of a policy's matrices under Adam with compact moments: vectors of length k."""

    def __init__(self, choice: Masked, policy: Policy, found: list[Matrix], settings: AdamW, *, seed: int) -> None:
        self._choice = choice
        self._policy = policy
        self._settings = settings
        self._seed = seed
        self._score: Score = get_score(choice.score, choice.filter_rank)
        self._steps = 0
        self._overlap = math.nan
        """Share of the last mask's entries that the one before held too; nan before the first refresh."""
        self._parts = [self._start(matrix) for matrix in found]
        self._peak = self._held()

    def reference(self) -> AbstractContextManager[Policy]:
        name = self._choice.name
        raise UserError(f"adapt {name!r} keeps no policy from before training; give the learner a reference")

    @torch.no_grad()
    def clip(self, max_norm: float) -> float:
        dense = [(part, part.matrix.weight.grad) for part in self._parts]
        found = [(part, gradient) for part, gradient in dense if gradient is not None]
        norm = math.sqrt(sum(float(_entries(part, gradient).square().sum()) for part, gradient in found))
        if math.isfinite(norm) and norm > max_norm:
            # Matrices that are fused in one parameter share its gradient.
            for gradient in {id(gradient): gradient for _, gradient in found}.values():
                gradient.mul_(max_norm / (norm + 1e-6))
        return norm

    @torch.no_grad()
    def step(self, lr: float) -> float:
        self._steps += 1
        every = self._choice.refresh_every
        due = every is not None and self._steps % every == 0
        kept, squared = 0, 0.0
        (beta1, beta2), eps = self._settings.betas, self._settings.eps
        size = lr * math.sqrt(1 - beta2**self._steps) / (1 - beta1**self._steps)
        # Rows of a fused parameter are several parts, so the gradients are cleared after all of them.
        for part in self._parts:
            weight, dense = part.matrix.weight, part.matrix.weight.grad
            gradient = None if dense is None else part.matrix.of(dense)
            if gradient is not None and dense is not None:
                observe(self._score, part.statistics, part.matrix.of(weight), gradient)
                g = _entries(part, dense)
                part.first.lerp_(g, 1 - beta1)
                part.second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                update = size * part.first / (part.second.sqrt() + eps)
                flat, at = weight.view(-1), part.at.long()
                flat[at] = (flat[at].to(update.dtype) - update).to(flat.dtype)
                squared += float(update.square().sum())
            if due:
                kept += self._refresh(part, gradient)
        if due:
            self._overlap = kept / sum(part.k for part in self._parts)
        for part in self._parts:
            part.matrix.weight.grad = None
        return math.sqrt(squared)

    def _start(self, matrix: Matrix) -> _Part:
        k = self._choice.budget(*matrix.of(matrix.weight).shape)
        at = self._choose(matrix, k, None, {})
        first, second = (torch.zeros(k, dtype=torch.float32, device=at.device) for _ in range(2))
        return _Part(matrix, k, at, first, second)

    @torch.no_grad()
    def _choose(self, matrix: Matrix, k: int, gradient: torch.Tensor | None, statistics: Statistics) -> torch.Tensor:
        weight = matrix.of(matrix.weight)
        if not bool(torch.isfinite(weight).all()):
            raise TrainingStopped(f"step {self._steps}: {matrix.name} has weights that are not finite")
        seed = derive_seed("mask", self._seed, matrix.name, self._steps)
        if self._score.needs_gradient and gradient is None:
            score = random_score(weight, seed)
        else:
            score = self._score.of(weight, gradient, statistics, seed)
        if not bool(torch.isfinite(score).all()):
            raise TrainingStopped(f"step {self._steps}: score {self._choice.score!r} of {matrix.name} is not finite")
        return matrix.places(largest(score, k)).to(torch.int32)

    def _refresh(self, part: _Part, gradient: torch.Tensor | None) -> int:
        """Choose anew: what stays keeps its moments, what enters starts at zero; returns how many stayed."""
        new = self._choose(part.matrix, part.k, gradient, part.statistics)
        place = torch.searchsorted(part.at, new).clamp(max=part.k - 1)
        stays = part.at[place] == new
        first, second = torch.zeros_like(part.first), torch.zeros_like(part.second)
        first[stays], second[stays] = part.first[place[stays]], part.second[place[stays]]
        self._peak = max(self._peak, self._held() + sum(_bytes(tensor) for tensor in (new, first, second)))
        part.at, part.first, part.second = new, first, second
        return int(stays.sum())

    def tensors(self) -> dict[str, torch.Tensor]:
        numbers = torch.tensor([float(self._steps), self._overlap, float(self._peak)], dtype=torch.float64)
        held = {
            f"{key}.{part.matrix.name}": tensor.cpu().contiguous()
            for part in self._parts
            for key, tensor in part.held().items()
        }
        return {"masked": numbers, **held}

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        if "masked" not in tensors:
            raise CheckpointError(f"optimizer.safetensors is not of adapt {self._choice.name!r}: it holds no masks")
        for part in self._parts:
            name, device = part.matrix.name, part.at.device
            part.at, part.first, part.second = (
                _stored(tensors, f"{key}.{name}", (part.k,)).to(device) for key in ("at", "first", "second")
            )
            shape = part.matrix.of(part.matrix.weight).shape
            part.statistics = {
                key: _stored(tensors, f"statistic.{key}.{name}", shape).to(device)
                for key in (self._score.statistics if steps else ())
            }
        count, self._overlap, peak = tensors["masked"].tolist()
        self._steps, self._peak = int(count), int(peak)

    def stored_weights(self) -> dict[str, torch.Tensor] | None:
        return None

    def final_weights(self) -> dict[str, torch.Tensor] | None:
        return None

    def report(self) -> AdaptReport:
        chosen = sum(part.k for part in self._parts)
        entries = sum(part.matrix.of(part.matrix.weight).numel() for part in self._parts)
        details = {"density": chosen / entries, "peak_optimizer_bytes": float(max(self._peak, self._held()))}
        if not math.isnan(self._overlap):
            details["mask_overlap"] = self._overlap
        return share_report(
            self._choice.name, self._policy, trainable=chosen, optimizer_bytes=self._held(), details=details
        )

    def _held(self) -> int:
        return sum(_bytes(tensor) for part in self._parts for tensor in part.held().values())


def _entries(part: _Part, tensor: torch.Tensor) -> torch.Tensor:
    """The part's chosen entries [k] of a tensor of the parameter's shape, in float32."""
    return tensor.view(-1)[part.at.long()].to(torch.float32)


def _stored(tensors: Mapping[str, torch.Tensor], key: str, shape: Sequence[int]) -> torch.Tensor:
    found = tensors.get(key)
    if found is None or tuple(found.shape) != tuple(shape):
        raise CheckpointError(f"optimizer.safetensors holds no {key!r} of shape {tuple(shape)}: another mask or score")
    return found


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()

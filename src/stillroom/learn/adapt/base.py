"""What it means to choose which weights move, and the two plainest choices: all of them, and whole tensors.

A choice (`Adapt`) is a value; attached to a policy it becomes `Moving`: the weights that move with their optimiser,
which the learner steps, saves and restores without knowing more. What never moves is frozen and costs no optimiser
state.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, cast

import torch
from pydantic import Field

from stillroom.errors import CheckpointError, UserError
from stillroom.models.images import group_of
from stillroom.models.policy import Policy
from stillroom.types import Noun

TOGETHER = 1 << 20
"""Entries of small tensors that are worked on in one call."""


@dataclass(frozen=True)
class AdamW:
    """Settings of the optimiser; the defaults are PyTorch's, with no weight decay."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


class AdaptReport(Noun):
    """How much moves, and what that costs beside the model."""

    adapt: str
    trainable: int
    """Entries that may move."""
    total: int
    """Entries of the model, tied tensors once, adapters included."""
    share: float
    optimizer_bytes: int
    """Moments, masks and statistics as they are held now."""
    details: dict[str, float] = Field(default_factory=dict)
    """What else a choice says of itself, e.g. the overlap of successive masks."""


class Moving(Protocol):
    """The weights of one policy that move, with their optimiser state."""

    def reference(self) -> AbstractContextManager[Policy]:
        """The policy as it was before training; only where the choice's `provides` names it."""
        ...

    def clip(self, max_norm: float) -> float:
        """Scale the gradient of the weights that move down to this norm; returns the norm before (nan, inf: as is)."""
        ...

    def step(self, lr: float) -> float:
        """Apply one update and clear the gradient; returns the norm of the change."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that `load` needs, on the CPU: optimiser state, masks, adapter weights."""
        ...

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        """Take up what `tensors` gave after that many steps; raises CheckpointError naming what is missing."""
        ...

    def stored_weights(self) -> dict[str, torch.Tensor] | None:
        """Weights of a checkpoint to go on from, under the plain model's names; None: the module's own."""
        ...

    def final_weights(self) -> dict[str, torch.Tensor] | None:
        """Weights of the finished model, adapters merged in, under the plain model's names; None: the module's own."""
        ...

    def report(self) -> AdaptReport: ...


class Adapt(Protocol):
    """A choice of weights. `attach` may change the policy's module in place (freeze it, add adapters)."""

    @property
    def name(self) -> str: ...

    @property
    def provides(self) -> frozenset[str]:
        """What objectives may need and this choice has: ``reference``, the policy without its adapter."""
        ...

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> Moving:
        """Raises UserError when nothing of this policy would move, or when the layout is not known to this choice."""
        ...


@dataclass(frozen=True)
class Full:
    """Every weight moves."""

    name: str = "full"
    provides: frozenset[str] = frozenset()

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> "DenseMoving":
        named = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
        return DenseMoving(self.name, policy, named, settings)


@dataclass(frozen=True)
class Freeze:
    """Only tensors whose name matches one of `train` move (shell patterns, e.g. ``*.mlp.*``); the rest is frozen."""

    train: tuple[str, ...]
    name: str = "freeze"
    provides: frozenset[str] = frozenset()

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> "DenseMoving":
        named = []
        for name, parameter in policy.model.named_parameters():
            moves = any(fnmatchcase(name, pattern) for pattern in self.train)
            parameter.requires_grad_(moves)
            if moves:
                named.append((name, parameter))
        if not named:
            names = [name for name, _ in policy.model.named_parameters()]
            raise UserError(
                f"train={', '.join(self.train)} matches none of the {len(names)} tensors of {policy.source}, so that "
                f"nothing would move; its tensors have names like {names[len(names) // 2]!r}"
            )
        return DenseMoving(self.name, policy, named, settings)


class DenseMoving:
    """Whole tensors under PyTorch's fused AdamW."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        named: Sequence[tuple[str, torch.nn.Parameter]],
        settings: AdamW,
    ) -> None:
        self._name = name
        self._policy = policy
        self._named = list(named)
        self._settings = settings
        self._optimizer = torch.optim.AdamW(
            [p for _, p in self._named],
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def reference(self) -> AbstractContextManager[Policy]:
        raise UserError(f"adapt {self._name!r} keeps no policy from before training; give the learner a reference")

    def clip(self, max_norm: float) -> float:
        gradients = [p.grad for _, p in self._named if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not float(norm) <= max_norm:
            torch.nn.utils.clip_grads_with_norm_([p for _, p in self._named], max_norm, norm)
        return float(norm)

    def step(self, lr: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        norm = self._change(lr)
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def _change(self, lr: float) -> float:
        """Norm of Adam's part of the last update, from the moments: a copy of the weights would double the memory."""
        first, second = self._settings.betas
        by_step: dict[float, list[dict[str, torch.Tensor]]] = {}
        for _, parameter in self._named:
            state = self._optimizer.state.get(parameter)
            if state:
                by_step.setdefault(float(state["step"]), []).append(state)
        norms = []
        for step, states in by_step.items():
            # lr * m_hat / (sqrt(v_hat) + eps) with both bias corrections drawn together.
            bias = math.sqrt(1 - second**step)
            for some in _together(states):
                roots = torch.cat([state["exp_avg_sq"].flatten() for state in some]).sqrt_()
                update = torch.cat([state["exp_avg"].flatten() for state in some])
                update.div_(roots.add_(self._settings.eps * bias))
                norms.append(torch.linalg.vector_norm(update) * (lr * bias / (1 - first**step)))
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    def tensors(self) -> dict[str, torch.Tensor]:
        found = dict[str, torch.Tensor]()
        begun = any(self._optimizer.state.values())
        for name, parameter in self._named:
            state = self._optimizer.state.get(parameter)
            if begun and not state:
                # What no loss reaches (the output head beside a value head) never moves and has no moments: step 0.
                state = {"step": torch.zeros(())}
            found |= {f"{key}.{name}": value.detach().cpu().contiguous() for key, value in (state or {}).items()}
        return found

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        for name, parameter in self._named:
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in tensors]
            idle = keys == ["step"] and float(tensors[f"step.{name}"]) == 0
            if steps and len(keys) != 3 and not idle:
                raise CheckpointError(f"optimizer.safetensors lacks the moments of {name}")
            # `step` stays on the CPU unless the optimiser is fused on a device: PyTorch moves it when it needs to.
            moments = {} if idle else {key: tensors[f"{key}.{name}"].to(parameter.device) for key in keys}
            self._optimizer.state[parameter] = moments

    def stored_weights(self) -> dict[str, torch.Tensor] | None:
        return None

    def final_weights(self) -> dict[str, torch.Tensor] | None:
        return None

    def report(self) -> AdaptReport:
        held = (value for state in self._optimizer.state.values() for value in state.values())
        return share_report(
            self._name,
            self._policy,
            trainable=sum(p.numel() for _, p in self._named),
            optimizer_bytes=sum(value.numel() * value.element_size() for value in held),
        )


def _together(states: Sequence[dict[str, torch.Tensor]]) -> Iterator[Sequence[dict[str, torch.Tensor]]]:
    """Moments of small tensors together, so that calls are few; of large ones apart, so that copies stay small."""
    some, entries = list[dict[str, torch.Tensor]](), 0
    for state in states:
        if some and entries + state["exp_avg"].numel() > TOGETHER:
            yield some
            some, entries = [], 0
        some.append(state)
        entries += state["exp_avg"].numel()
    if some:
        yield some


def share_report(
    name: str, policy: Policy, *, trainable: int, optimizer_bytes: int, details: dict[str, float] | None = None
) -> AdaptReport:
    """The report of that many moving entries of a policy."""
    total = policy.num_parameters()
    return AdaptReport(
        adapt=name,
        trainable=trainable,
        total=total,
        share=trainable / total,
        optimizer_bytes=optimizer_bytes,
        details=details or {},
    )


def linear_weights(policy: Policy) -> dict[str, torch.nn.Parameter]:
    """The weight matrices of all linear modules but the output head, under their names in the model.

    These are what adapters and masks work on; embeddings (also where the head is tied to them), biases and norms are
    left alone, and so are the eyes of a policy that sees: adapters are for its text part.

    Raises:
        UserError: a policy without linear modules.
    """
    head = policy.model.get_output_embeddings()
    found = {
        f"{name}.weight": cast(torch.nn.Parameter, module.weight)
        for name, module in policy.model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and (policy.vision is None or group_of(policy.vision.layout, name) == "text")
    }
    if not found:
        raise UserError(f"{policy.source}: no linear module was found whose weights could be adapted")
    return found

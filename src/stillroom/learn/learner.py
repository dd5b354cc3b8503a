"""The learner: accumulates an objective over a whole optimiser batch, steps, and saves itself exactly."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stillroom.errors import CheckpointError, TrainingStopped, UserError
from stillroom.io import read_json, write_json
from stillroom.learn.adapt.base import AdamW, Adapt, AdaptReport, Full, Moving
from stillroom.learn.batches import (
    Example,
    Row,
    Transform,
    collate,
    examples,
    require_sizes,
    require_trained,
    split,
)
from stillroom.learn.objectives.base import Objective, Reference, View
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy
from stillroom.seeds import derive_rng

_SIZES: dict[str, tuple[int, int | None]] = {"rows": (1, None), "pairs": (2, 2), "groups": (2, None)}


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did."""

    step: int
    loss: float
    grad_norm: float
    """Before clipping."""
    update_norm: float
    """Of the change to the weights, weight decay aside."""
    lr: float
    trained_tokens: int
    computed_tokens: int
    """Including padding; trained and prompt tokens over this is the fill."""
    real_tokens: int
    diagnostics: dict[str, float] = field(default_factory=dict)
    """Means of what the objective reports, e.g. the log-probability of chosen rows."""


class Learner:
    """Trains a policy in place with one objective, moving the weights that `adapt` chooses.

    ``forward_backward`` takes a whole optimiser batch, cuts it into micro-batches and accumulates gradients of
    ``sum / denominator`` with the denominator of the whole batch; ``step`` clips and updates.

    Args:
        reference: a policy that stays as it is, for objectives that need one. An adapter provides its own: the policy
            without it.
        transforms: applied in turn to the rows of every optimiser batch.
        seed: of what is drawn here: new adapter weights, masks, transforms.
        micro_tokens: most padded tokens of a micro-batch.

    Raises:
        UserError: at construction, when the objective needs what this learner does not have, or nothing would move.
        TrainingStopped: on a batch without trained tokens and on a loss or gradient that is not finite.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        *,
        adapt: Adapt | None = None,
        optimizer: AdamW | None = None,
        reference: Policy | None = None,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        micro_tokens: int = 4096,
    ) -> None:
        self.policy = policy
        self.objective = objective
        self.settings = optimizer or AdamW()
        self.micro_tokens = micro_tokens
        self.steps = 0
        self.trained_tokens = 0
        self._transforms = tuple(transforms)
        self._seed = seed
        chosen = adapt or Full()
        reason = refusal(objective, chosen, reference=reference is not None)
        if reason:
            raise UserError(reason)
        self._moving: Moving = chosen.attach(policy, self.settings, seed=seed)
        self._reference: Reference | None = None
        if reference is not None:
            self._reference = _always(reference)
        elif "reference" in chosen.provides:
            self._reference = self._moving.reference
        self._pending: _Pending | None = None

    def forward_backward(self, rows: Sequence[Row]) -> float:
        """Accumulate the gradient of one optimiser batch; returns its loss."""
        for number, transform in enumerate(self._transforms):
            rows = transform(rows, self.steps, derive_rng("transform", self._seed, number, self.steps))
        require_trained(rows, self.steps)
        batch = examples(rows) if self.objective.compares != "rows" else [(row,) for row in rows]
        require_sizes(batch, *_SIZES[self.objective.compares], self.objective.name)
        device, pad = self.policy.device, self.policy.pad_id
        micro: list[list[Example]] = split(batch, self.micro_tokens)
        # Without padding there is nothing to gain from lines that several rows share.
        tight = self.policy.skips_padding
        packed = self.policy.packable and not tight
        batches = [collate(part, pad, device, packed=packed) for part in micro]
        denominator = sum(self.objective.denominator(part) for part in batches)
        self.policy.model.train()
        loss, diagnostics = 0.0, dict[str, float]()
        for part in batches:
            result = self.objective(View(self.policy, self._reference), part)
            (result.total / denominator).backward()
            loss += float(result.total.detach()) / denominator
            for name, value in result.diagnostics.items():
                diagnostics[name] = diagnostics.get(name, 0.0) + value / denominator
        self.policy.model.eval()
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"step {self.steps}: the loss is {loss} on traces {', '.join(r.id for r in rows[:5])}; "
                "lower the learning rate or look at these traces"
            )
        pending = self._pending or _Pending()
        pending.loss += loss
        pending.trained += sum(part.trained_tokens for part in batches)
        pending.computed += sum(int((part.row_LT >= 0).sum()) if tight else part.ids_LT.numel() for part in batches)
        pending.real += sum(len(row.tokens.ids) for row in rows)
        pending.row_ids = tuple(row.id for row in rows)
        for name, value in diagnostics.items():
            pending.diagnostics[name] = pending.diagnostics.get(name, 0.0) + value
        self._pending = pending
        return loss

    def step(self, lr: float) -> StepReport:
        """Clip, update with this learning rate, clear the gradient."""
        pending = self._pending
        if pending is None:
            raise UserError("step() without forward_backward(): there is no gradient to apply")
        norm = self._moving.clip(self.settings.max_grad_norm)
        if not math.isfinite(norm):
            raise TrainingStopped(
                f"step {self.steps}: the gradient norm is {norm} on traces {', '.join(pending.row_ids[:5])}; "
                "lower the learning rate"
            )
        update_norm = self._moving.step(lr)
        self.steps += 1
        self.trained_tokens += pending.trained
        self._pending = None
        return StepReport(
            step=self.steps,
            loss=pending.loss,
            grad_norm=norm,
            update_norm=update_norm,
            lr=lr,
            trained_tokens=pending.trained,
            computed_tokens=pending.computed,
            real_tokens=pending.real,
            diagnostics=pending.diagnostics,
        )

    def report(self) -> AdaptReport:
        """How many weights move and what their optimiser holds."""
        return self._moving.report()

    def export(self, path: Path, *, sidecar: Sidecar) -> None:
        """The trained model alone, adapters merged in: a checkpoint like any other."""
        save_policy(self.policy, path, sidecar=sidecar, weights=self._moving.final_weights())

    def save(self, path: Path, *, sidecar: Sidecar, extra: dict[str, Any] | None = None) -> None:
        """Weights, optimiser state, RNG and counters; safetensors and JSON only. The folder is whole or absent.

        Args:
            extra: what the caller needs to go on from here (its own position), returned by `restore`.
        """
        if self._pending:
            raise UserError("save() between forward_backward() and step(): the gradient would be lost")
        beside = path.with_name(f".{path.name}.state")
        beside.mkdir(parents=True, exist_ok=True)
        tensors = {"rng.torch": torch.get_rng_state(), **self._moving.tensors()}
        save_file(tensors, str(beside / "optimizer.safetensors"))
        write_json(
            beside / "learner.json",
            {"steps": self.steps, "trained_tokens": self.trained_tokens, "extra": extra or {}},
        )
        save_policy(self.policy, path, sidecar=sidecar, weights=self._moving.stored_weights(), also=beside)

    @classmethod
    def restore(
        cls,
        path: Path,
        objective: Objective,
        *,
        device: str = "cpu",
        adapt: Adapt | None = None,
        optimizer: AdamW | None = None,
        reference: Policy | None = None,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        micro_tokens: int = 4096,
    ) -> tuple["Learner", dict[str, Any]]:
        """The learner as `save` left it, and the caller's `extra`; the other arguments are those it was made with.

        Raises:
            CheckpointError: when a part is missing or damaged.
        """
        learner = cls(
            load_policy(path, device=device),
            objective,
            adapt=adapt,
            optimizer=optimizer,
            reference=reference,
            transforms=transforms,
            seed=seed,
            micro_tokens=micro_tokens,
        )
        try:
            state = read_json(path / "learner.json")
            tensors = load_file(str(path / "optimizer.safetensors"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a training checkpoint ({error})") from error
        try:
            learner._moving.load(tensors, state["steps"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        torch.set_rng_state(tensors["rng.torch"])
        learner.steps, learner.trained_tokens = state["steps"], state["trained_tokens"]
        return learner, state["extra"]


@dataclass
class _Pending:
    """What has been accumulated since the last step."""

    loss: float = 0.0
    trained: int = 0
    computed: int = 0
    real: int = 0
    row_ids: tuple[str, ...] = ()
    diagnostics: dict[str, float] = field(default_factory=dict)


def refusal(objective: Objective, adapt: Adapt, *, reference: bool) -> str | None:
    """Why this objective cannot train under this choice of weights; None when it can.

    Args:
        reference: whether a reference policy is given.
    """
    missing = sorted(objective.needs - adapt.provides - ({"reference"} if reference else set()))
    if not missing:
        return None
    remedy = "; give Learner(..., reference=POLICY), or use an adapter (LoRA)" if "reference" in missing else ""
    return (
        f"objective {objective.name!r} needs {', '.join(missing)}, which adapt {adapt.name!r} does not provide{remedy}"
    )


def _always(policy: Policy) -> Reference:
    return lambda: nullcontext(policy)

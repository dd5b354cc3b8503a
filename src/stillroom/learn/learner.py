"""The learner: accumulates an objective over a whole optimiser batch, steps, and saves itself exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stillroom.errors import CheckpointError, TrainingStopped, UserError
from stillroom.io import read_json, write_json
from stillroom.learn.batches import Row, collate, require_trained, split_rows
from stillroom.learn.objectives.base import Objective, View
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy


@dataclass(frozen=True)
class AdamW:
    """Settings of the optimiser; the defaults are PyTorch's, with no weight decay."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    trained_tokens: int
    computed_tokens: int
    """Including padding; trained and prompt tokens over this is the fill."""
    real_tokens: int


class Learner:
    """Trains a policy in place with one objective at a time.

    ``forward_backward`` takes a whole optimiser batch, cuts it into micro-batches and accumulates gradients of
    ``sum / denominator`` with the denominator of the whole batch; ``step`` clips and updates.

    Raises:
        UserError: at construction, when the objective needs what this learner does not have.
        TrainingStopped: on a batch without trained tokens and on a loss or gradient that is not finite.
    """

    def __init__(
        self, policy: Policy, objective: Objective, *, optimizer: AdamW | None = None, micro_tokens: int = 4096
    ) -> None:
        if objective.needs:
            raise UserError(f"objective {objective.name!r} needs {', '.join(sorted(objective.needs))}")
        self.policy = policy
        self.objective = objective
        self.settings = optimizer or AdamW()
        self.micro_tokens = micro_tokens
        self.steps = 0
        self.trained_tokens = 0
        self._named = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            [p for _, p in self._named],
            betas=self.settings.betas,
            eps=self.settings.eps,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        self._pending: dict[str, float] = {}
        self._pending_ids: tuple[str, ...] = ()

    def forward_backward(self, rows: Sequence[Row]) -> float:
        """Accumulate the gradient of one optimiser batch; returns its loss."""
        require_trained(rows, self.steps)
        batches = [
            collate(part, self.policy.pad_id, self.policy.device) for part in split_rows(rows, self.micro_tokens)
        ]
        denominator = sum(self.objective.denominator(batch) for batch in batches)
        self.policy.model.train()
        loss = 0.0
        for batch in batches:
            result = self.objective(View(self.policy), batch)
            (result.total / denominator).backward()
            loss += float(result.total.detach()) / denominator
        self.policy.model.eval()
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"step {self.steps}: the loss is {loss} on traces {', '.join(r.id for r in rows[:5])}; "
                "lower the learning rate or look at these traces"
            )
        self._pending = {
            "loss": self._pending.get("loss", 0.0) + loss,
            "trained": self._pending.get("trained", 0) + sum(b.trained_tokens for b in batches),
            "computed": self._pending.get("computed", 0) + sum(b.ids_BT.numel() for b in batches),
            "real": self._pending.get("real", 0) + sum(len(r.tokens.ids) for r in rows),
        }
        self._pending_ids = tuple(row.id for row in rows)
        return loss

    def step(self, lr: float) -> StepReport:
        """Clip, update with this learning rate, clear the gradient."""
        if not self._pending:
            raise UserError("step() without forward_backward(): there is no gradient to apply")
        norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in self._named], self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise TrainingStopped(
                f"step {self.steps}: the gradient norm is {norm} on traces {', '.join(self._pending_ids[:5])}; "
                "lower the learning rate"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.trained_tokens += int(self._pending["trained"])
        report = StepReport(
            step=self.steps,
            loss=self._pending["loss"],
            grad_norm=norm,
            lr=lr,
            trained_tokens=int(self._pending["trained"]),
            computed_tokens=int(self._pending["computed"]),
            real_tokens=int(self._pending["real"]),
        )
        self._pending = {}
        return report

    def save(self, path: Path, *, sidecar: Sidecar, extra: dict[str, Any] | None = None) -> None:
        """Weights, optimiser moments, RNG and counters; safetensors and JSON only. The folder is whole or absent.

        Args:
            extra: what the caller needs to go on from here (its own position), returned by `restore`.
        """
        if self._pending:
            raise UserError("save() between forward_backward() and step(): the gradient would be lost")
        tensors = {"rng.torch": torch.get_rng_state()}
        for name, parameter in self._named:
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value.detach().cpu().contiguous()
        beside = path.with_name(f".{path.name}.state")
        beside.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(beside / "optimizer.safetensors"))
        write_json(
            beside / "learner.json",
            {"steps": self.steps, "trained_tokens": self.trained_tokens, "extra": extra or {}},
        )
        save_policy(self.policy, path, sidecar=sidecar, also=beside)

    @classmethod
    def restore(
        cls,
        path: Path,
        objective: Objective,
        *,
        device: str = "cpu",
        optimizer: AdamW | None = None,
        micro_tokens: int = 4096,
    ) -> tuple["Learner", dict[str, Any]]:
        """The learner as `save` left it, and the caller's `extra`; raises CheckpointError when a part is missing."""
        learner = cls(load_policy(path, device=device), objective, optimizer=optimizer, micro_tokens=micro_tokens)
        try:
            state = read_json(path / "learner.json")
            tensors = load_file(str(path / "optimizer.safetensors"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a training checkpoint ({error})") from error
        for name, parameter in learner._named:
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in tensors]
            if state["steps"] and len(keys) != 3:
                raise CheckpointError(f"{path}: optimizer.safetensors lacks the moments of {name}")
            # `step` stays on the CPU unless the optimiser is fused on a device: PyTorch moves it when it needs to.
            learner._optimizer.state[parameter] = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in keys}
        torch.set_rng_state(tensors["rng.torch"])
        learner.steps, learner.trained_tokens = state["steps"], state["trained_tokens"]
        return learner, state["extra"]

"""The learner: accumulates an objective over a whole optimiser batch, steps, and saves itself exactly."""

import math
import shutil
from collections.abc import Collection, Mapping, Sequence
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
from stillroom.learn.heads import Heads, ValueHead
from stillroom.learn.objectives.base import Objective, Reference, Summarises, View
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy
from stillroom.seeds import derive_rng

_SIZES: dict[str, tuple[int, int | None]] = {"rows": (1, None), "pairs": (2, 2), "groups": (2, None)}


@dataclass(frozen=True)
class Term:
    """One of the objectives that the same rows are trained with."""

    objective: Objective
    weight: float = 1.0


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did."""

    step: int
    loss: float
    grad_norm: float
    """Before clipping; heads, which are clipped by themselves, aside."""
    update_norm: float
    """Of the change to the weights, weight decay aside."""
    lr: float
    trained_tokens: int
    computed_tokens: int
    """Including padding; trained and prompt tokens over this is the fill."""
    real_tokens: int
    diagnostics: dict[str, float] = field(default_factory=dict)
    """Means of what the objectives report, e.g. the log-probability of chosen rows; ``loss_NAME`` of each term."""


class Learner:
    """Trains a policy in place, moving the weights that `adapt` chooses.

    ``forward_backward`` takes a whole optimiser batch, cuts it into micro-batches and accumulates gradients of
    ``sum / denominator`` with the denominator of the whole batch; several calls before a ``step`` add up. ``step``
    clips and updates. Two learners may share a policy, each with an optimiser of its own, as long as each takes its
    step before the other computes a gradient.

    Args:
        reference: a policy that stays as it is, for objectives that need one. An adapter provides its own: the policy
            without it.
        heads: small modules over the hidden states, by name, that train and are saved with this learner, and are not in
            the exported model.
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
        heads: Mapping[str, ValueHead] | None = None,
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
        self._adapt = adapt or Full()
        reason = refusal(objective, self._adapt, reference=reference is not None, heads=heads or ())
        if reason:
            raise UserError(reason)
        self._moving: Moving = self._adapt.attach(policy, self.settings, seed=seed)
        self._heads = Heads(policy, heads or {}, self.settings)
        self._reference: Reference | None = None
        if reference is not None:
            self._reference = _always(reference)
        elif "reference" in self._adapt.provides:
            self._reference = self._moving.reference
        self._pending: _Pending | None = None

    def view(self) -> View:
        """What an objective sees: the policy as it is now, its reference and its heads."""
        return View(self.policy, self._reference, self._heads.functions())

    def head(self, name: str) -> torch.nn.Linear:
        """The module of a head: from states [N, D] to values [N, 1]."""
        return self._heads.module(name)

    def forward_backward(self, rows: Sequence[Row], terms: Sequence[Term] | None = None) -> float:
        """Accumulate the gradient of one optimiser batch; returns its loss.

        Args:
            terms: objectives that look at the same rows, in one forward pass; None: the learner's own.

        Raises:
            UserError: when a term needs what this learner does not have, or when the policy holds a gradient that
                another learner made.
        """
        chosen = [Term(self.objective)] if terms is None else list(terms)
        if not chosen:
            raise UserError("forward_backward() without a term has no loss; give at least one, or None")
        for term in chosen:
            reason = refusal(
                term.objective, self._adapt, reference=self._reference is not None, heads=self._heads.names
            )
            if reason:
                raise UserError(reason)
        if self._pending is None and any(p.grad is not None for p in self.policy.model.parameters()):
            raise UserError(
                "the policy holds a gradient that this learner did not make; let the other learner take its step first"
            )
        for number, transform in enumerate(self._transforms):
            rows = transform(rows, self.steps, derive_rng("transform", self._seed, number, self.steps))
        require_trained(rows, self.steps)
        alone = all(term.objective.compares == "rows" for term in chosen)
        batch = [(row,) for row in rows] if alone else examples(rows)
        for term in chosen:
            require_sizes(batch, *_SIZES[term.objective.compares], term.objective.name)
        device, pad = self.policy.device, self.policy.pad_id
        micro: list[list[Example]] = split(batch, self.micro_tokens)
        # Without padding there is nothing to gain from lines that several rows share.
        tight = self.policy.skips_padding
        packed = self.policy.packable and not tight
        batches = [collate(part, pad, device, packed=packed, vision=self.policy.vision) for part in micro]
        denominators = [sum(term.objective.denominator(part) for part in batches) for term in chosen]
        pending = self._pending or _Pending()
        self.policy.model.train()
        losses = [0.0] * len(chosen)
        diagnostics = dict[str, float]()
        for part in batches:
            view, total = self.view(), torch.zeros((), device=device)
            for number, (term, denominator) in enumerate(zip(chosen, denominators, strict=True)):
                result = term.objective(view, part)
                total = total + result.total / denominator * term.weight
                losses[number] += float(result.total.detach()) / denominator * term.weight
                for name, value in result.diagnostics.items():
                    diagnostics[name] = diagnostics.get(name, 0.0) + value / denominator
                if isinstance(term.objective, Summarises):
                    pending.summarised.setdefault(term.objective.name, (term.objective, []))[1].append(result.tokens)
            total.backward()
        self.policy.model.eval()
        loss = sum(losses)
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"step {self.steps}: the loss is {loss} on traces {', '.join(r.id for r in rows[:5])}; "
                "lower the learning rate or look at these traces"
            )
        if terms is not None:
            for term, value in zip(chosen, losses, strict=True):
                name = f"loss_{term.objective.name}"
                diagnostics[name] = diagnostics.get(name, 0.0) + value
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
        head_norm = self._heads.clip(self.settings.max_grad_norm)
        if not math.isfinite(norm + head_norm):
            raise TrainingStopped(
                f"step {self.steps}: the gradient norm is {norm + head_norm} on traces "
                f"{', '.join(pending.row_ids[:5])}; lower the learning rate"
            )
        update_norm = self._moving.step(lr)
        self._heads.step(lr)
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
            diagnostics={**pending.diagnostics, **_summaries(pending)},
        )

    def report(self) -> AdaptReport:
        """How many weights move and what their optimiser holds."""
        return self._moving.report()

    def export(self, path: Path, *, sidecar: Sidecar) -> None:
        """The trained model alone, adapters merged in: a checkpoint like any other."""
        save_policy(self.policy, path, sidecar=sidecar, weights=self._moving.final_weights())

    def save(
        self,
        path: Path,
        *,
        sidecar: Sidecar,
        extra: dict[str, Any] | None = None,
        also: Mapping[str, "Learner"] | None = None,
    ) -> None:
        """Weights, heads, optimiser state, RNG and counters; safetensors and JSON only. The folder is whole or absent.

        Args:
            extra: what the caller needs to go on from here (its own position), returned by `restore`.
            also: further learners, each saved in the subfolder of its name: of the same policy their state alone, of
                another policy a checkpoint of its own.
        """
        learners = also or {}
        if any(learner._pending for learner in (self, *learners.values())):
            raise UserError("save() between forward_backward() and step(): the gradient would be lost")
        beside = path.with_name(f".{path.name}.state")
        shutil.rmtree(beside, ignore_errors=True)
        self._save_state(beside, extra)
        for name, other in learners.items():
            if other.policy is self.policy:
                other._save_state(beside / name, None)
            else:
                other.save(beside / name, sidecar=sidecar)
        save_policy(self.policy, path, sidecar=sidecar, weights=self._moving.stored_weights(), also=beside)

    def _save_state(self, folder: Path, extra: dict[str, Any] | None) -> None:
        """All but the policy."""
        folder.mkdir(parents=True)
        tensors = {"rng.torch": torch.get_rng_state(), **self._moving.tensors(), **self._heads.tensors()}
        save_file(tensors, str(folder / "optimizer.safetensors"))
        write_json(
            folder / "learner.json",
            {"steps": self.steps, "trained_tokens": self.trained_tokens, "extra": extra or {}},
        )

    @classmethod
    def restore(
        cls,
        path: Path,
        objective: Objective,
        *,
        device: str = "cpu",
        policy: Policy | None = None,
        adapt: Adapt | None = None,
        optimizer: AdamW | None = None,
        reference: Policy | None = None,
        heads: Mapping[str, ValueHead] | None = None,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        micro_tokens: int = 4096,
    ) -> tuple["Learner", dict[str, Any]]:
        """The learner as `save` left it, and the caller's `extra`; the other arguments are those it was made with.

        Args:
            path: a folder that `save` wrote, or the subfolder of a further learner in it.
            policy: of a further learner that shares it; None: the policy in the folder.

        Raises:
            CheckpointError: when a part is missing or damaged.
        """
        learner = cls(
            load_policy(path, device=device) if policy is None else policy,
            objective,
            adapt=adapt,
            optimizer=optimizer,
            reference=reference,
            heads=heads,
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
            learner._heads.load(tensors)
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
    summarised: dict[str, tuple[Summarises, list[Mapping[str, torch.Tensor]]]] = field(default_factory=dict)
    """By name: an objective, and what it said of tokens."""


def _summaries(pending: _Pending) -> dict[str, float]:
    found = dict[str, float]()
    for objective, parts in pending.summarised.values():
        names = dict.fromkeys(name for part in parts for name in part)
        found |= objective.summary({name: torch.cat([part[name] for part in parts if name in part]) for name in names})
    return found


def refusal(objective: Objective, adapt: Adapt, *, reference: bool, heads: Collection[str] = frozenset()) -> str | None:
    """Why this objective cannot train under this choice of weights; None when it can.

    Args:
        reference: whether a reference policy is given.
        heads: names of the heads that are given.
    """
    given = adapt.provides | ({"reference"} if reference else set()) | {f"head {name}" for name in heads}
    missing = sorted(objective.needs - given)
    if not missing:
        return None
    remedy = "; give Learner(..., reference=POLICY), or use an adapter (LoRA)" if "reference" in missing else ""
    for head in (need.removeprefix("head ") for need in missing if need.startswith("head ")):
        remedy += f"; give Learner(..., heads={{{head!r}: ValueHead()}})"
    return (
        f"objective {objective.name!r} needs {', '.join(missing)}, which adapt {adapt.name!r} does not provide{remedy}"
    )


def _always(policy: Policy) -> Reference:
    return lambda: nullcontext(policy)

"""Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) through peft, merged into plain weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stillroom.errors import CheckpointError, MissingExtraError, UserError
from stillroom.learn.adapt.base import AdamW, AdaptReport, DenseMoving, linear_weights
from stillroom.models.policy import Policy
from stillroom.seeds import derive_seed


@dataclass(frozen=True)
class LoRA:
    """An adapter ``W + (alpha / rank) B A`` on every linear module but the head; B starts at zero.

    `alpha` None means twice the rank, a common choice (also of the LIFT paper's baselines).
    """

    rank: int = 16
    alpha: float | None = None
    name: str = "lora"
    provides: frozenset[str] = frozenset({"reference"})

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"rank={self.rank} leaves an adapter without weights; give 1 or more")

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> "LoRAMoving":
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise MissingExtraError("peft", "lora") from error
        targets = [name.removesuffix(".weight") for name in linear_weights(policy)]
        config = LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,  # type: ignore[arg-type]
            target_modules=targets,
            init_lora_weights=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("lora", seed))
            inject_adapter_in_model(config, policy.model)
        return LoRAMoving(self.name, policy, settings)


class LoRAMoving:
    """The adapters of one policy; the model under them is frozen and serves as its own reference."""

    def __init__(self, name: str, policy: Policy, settings: AdamW) -> None:
        self._name = name
        self._policy = policy
        self._adapters = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self._dense = DenseMoving(name, policy, list(self._adapters.items()), settings)

    def _layers(self) -> dict[str, Any]:
        from peft.tuners.lora import LoraLayer

        return {name: m for name, m in self._policy.model.named_modules() if isinstance(m, LoraLayer)}

    @contextmanager
    def reference(self) -> Iterator[Policy]:
        layers = self._layers().values()
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield self._policy
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    def clip(self, max_norm: float) -> float:
        return self._dense.clip(max_norm)

    def step(self, lr: float) -> float:
        return self._dense.step(lr)

    def tensors(self) -> dict[str, torch.Tensor]:
        weights = {f"adapter.{name}": p.detach().cpu().contiguous() for name, p in self._adapters.items()}
        return {**self._dense.tensors(), **weights}

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        self._dense.load(tensors, steps)
        for name, parameter in self._adapters.items():
            stored = tensors.get(f"adapter.{name}")
            if stored is None or stored.shape != parameter.shape:
                raise CheckpointError(f"optimizer.safetensors holds no adapter weights {name} of this rank")
            with torch.no_grad():
                parameter.copy_(stored)

    def stored_weights(self) -> dict[str, torch.Tensor]:
        state = self._policy.model.state_dict()
        return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if ".lora_" not in name}

    def final_weights(self) -> dict[str, torch.Tensor]:
        merged = self.stored_weights()
        for name, layer in self._layers().items():
            delta = layer.get_delta_weight("default")
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + delta.to(merged[f"{name}.weight"].dtype).detach()
        return merged

    def report(self) -> AdaptReport:
        return self._dense.report()

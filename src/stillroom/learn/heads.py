"""Heads: small modules over the hidden states of a policy, trained beside it with an optimiser of their own.

They belong to the learner, not to the model: its checkpoints hold them, the finished model does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from stillroom.errors import CheckpointError
from stillroom.learn.adapt.base import AdamW
from stillroom.learn.objectives.base import Head
from stillroom.models.policy import Policy


@dataclass(frozen=True)
class ValueHead:
    """One number per token: a linear map of the hidden state from which the token is predicted, 0 to begin with.

    Args:
        detach: the states are seen without a gradient, so that the head alone learns. For a trunk of its own, give a
            second learner a second policy with `ValueLoss` as its objective.
    """

    detach: bool = False


class Heads:
    """The heads of one learner; made by it."""

    def __init__(self, policy: Policy, specs: Mapping[str, ValueHead], settings: AdamW) -> None:
        self._specs = dict(specs)
        width = _width(policy) if specs else 0
        self._modules = torch.nn.ModuleDict({name: torch.nn.Linear(width, 1) for name in specs})
        # Values are of the size of rewards, whatever the precision of the model.
        self._modules.to(policy.device, torch.promote_types(policy.model.dtype, torch.float32))
        for parameter in self._modules.parameters():
            torch.nn.init.zeros_(parameter)
        self._parameters = dict(self._modules.named_parameters())
        self._optimizer: torch.optim.AdamW | None = None
        if specs:
            self._optimizer = torch.optim.AdamW(
                self._parameters.values(), betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
            )

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._specs)

    def module(self, name: str) -> torch.nn.Linear:
        """Of one head."""
        return cast(torch.nn.Linear, self._modules[name])

    def functions(self) -> dict[str, Head]:
        """For a `View`, by name."""
        return {name: partial(self._values, name) for name in self._specs}

    def _values(self, name: str, states_ND: torch.Tensor) -> torch.Tensor:
        states_ND = states_ND.detach() if self._specs[name].detach else states_ND
        module = self._modules[name]
        found: torch.Tensor = module(states_ND.to(next(module.parameters()).dtype))
        return found[:, 0]

    def clip(self, max_norm: float) -> float:
        """Scale their gradient down to this norm; returns the norm before."""
        return float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), max_norm))

    def step(self, lr: float) -> None:
        """Apply one update and clear the gradient."""
        if self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that `load` needs, on the CPU."""
        found = {f"head.{name}": parameter.detach() for name, parameter in self._parameters.items()}
        if self._optimizer is not None:
            for name, parameter in self._parameters.items():
                for key, value in self._optimizer.state.get(parameter, {}).items():
                    found[f"head-{key}.{name}"] = value
        return {name: tensor.cpu().contiguous() for name, tensor in found.items()}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave; raises CheckpointError naming what is missing or there in vain."""
        stored = {name.removeprefix("head.").split(".")[0] for name in tensors if name.startswith("head.")}
        if stored != self.names:
            raise CheckpointError(
                f"the checkpoint has the heads {', '.join(sorted(stored)) or '(none)'}, and the learner is made with "
                f"{', '.join(sorted(self.names)) or 'none'}; give the same heads"
            )
        for name, parameter in self._parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"head.{name}"])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"head-{key}.{name}" in tensors]
            if keys and self._optimizer is not None:
                # `step` stays on the CPU; PyTorch moves it when it needs to.
                self._optimizer.state[parameter] = {
                    key: tensors[f"head-{key}.{name}"].to("cpu" if key == "step" else parameter.device) for key in keys
                }


@torch.no_grad()
def _width(policy: Policy) -> int:
    """Of the hidden states that `Policy.states` gives."""
    one = torch.zeros((1, 1), dtype=torch.long, device=policy.device)
    return policy.states(one, one, torch.ones_like(one, dtype=torch.bool)).shape[1]

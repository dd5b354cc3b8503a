"""Rotary positions squeezed together, so that a longer text spans the positions that a model was trained on.

Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation",
https://arxiv.org/abs/2306.15595: position p is read as ``p / factor``.
"""

import copy
from typing import Any

from stillroom.errors import UserError
from stillroom.models.policy import Policy, make_policy

LAYOUTS = ("qwen2", "llama")


def interpolated(policy: Policy, factor: float) -> Policy:
    """A copy of a policy whose positions are divided by `factor`; not trained any further.

    Raises UserError for a layout without rotary positions, one that scales them already, or a factor below 1.
    """
    config = copy.deepcopy(policy.model.config)
    ropes = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in LAYOUTS or ropes.get("rope_type", "default") != "default":
        raise UserError(
            f"{policy.source}: positions of layout {config.model_type!r} cannot be interpolated; plain ones of "
            f"{', '.join(LAYOUTS)} can"
        )
    if factor < 1:
        raise UserError(f"factor {factor} would stretch positions; give 1 or more")
    config.rope_parameters = {**ropes, "rope_type": "linear", "factor": factor}
    model: Any = type(policy.model)(config)
    model.load_state_dict(policy.model.state_dict())
    model.to(device=policy.device, dtype=policy.model.dtype)
    model.generation_config = policy.model.generation_config
    model.eval()
    return make_policy(model, policy.tokenizer, source=policy.source, sidecar=policy.sidecar)

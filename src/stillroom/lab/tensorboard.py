"""The run's metrics as TensorBoard events (extra `tensorboard`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillroom.errors import MissingExtraError


def write_events(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write every number of `metrics.jsonl` as ``stage[/arm]/name`` over its step."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard") from error
    with SummaryWriter(str(folder)) as writer:
        for record in records:
            prefix = "/".join(str(record[key]) for key in ("stage", "arm") if key in record)
            for name, value in record.items():
                if name not in ("stage", "arm", "step", "seed") and isinstance(value, int | float):
                    writer.add_scalar(f"{prefix}/{name}", value, record["step"])

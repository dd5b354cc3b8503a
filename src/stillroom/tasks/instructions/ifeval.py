"""IFEval's rows as problems: 541 prompts with one to three verifiable instructions (https://arxiv.org/abs/2311.07911)."""

from collections.abc import Mapping
from typing import Any

from stillroom.errors import DataError, UserError
from stillroom.tasks.base import question
from stillroom.tasks.instructions.composed import And, dump
from stillroom.tasks.instructions.constraints import constraint
from stillroom.types import Problem


def adapt(row: Mapping[str, Any]) -> Problem:
    """The problem of a row with ``prompt``, ``instruction_id_list`` and ``kwargs``; raises DataError with the reason.

    There is no gold answer, and none is needed: `verify.verify` checks the constraints, whose number is the level.
    """
    prompt, kinds, arguments = row.get("prompt"), row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError("prompt is no text")
    if not isinstance(kinds, list) or not isinstance(arguments, list) or len(kinds) != len(arguments) or not kinds:
        raise DataError("instruction_id_list and kwargs are no lists of one length")
    try:
        parts = tuple(constraint(kind, args) for kind, args in zip(kinds, arguments, strict=True))
    except (UserError, TypeError, AttributeError) as error:
        raise DataError(str(error)) from error
    return Problem(
        id=f"ifeval/{row['key']}" if isinstance(row.get("key"), int) else "",
        task="",
        messages=question(prompt.strip()),
        reference=None,
        level=len(parts),
        meta={"constraints": dump(parts[0] if len(parts) == 1 else And(parts=parts))},
    )

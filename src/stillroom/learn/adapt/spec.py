"""Which weights move, from the text that a configuration holds."""

from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stillroom.errors import UserError, unknown_name
from stillroom.learn.adapt.base import Adapt, Freeze, Full
from stillroom.learn.adapt.groups import Groups
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.adapt.masked import Masked

KINDS: dict[str, type[Any]] = {"full": Full, "lora": LoRA, "masked": Masked}
_FIXED = ("name", "provides")


def parse_adapt(spec: str) -> Adapt:
    """``full``, ``lora``, ``lora:rank=8,alpha=16``, ``masked:score=lift,density=0.05``, ``freeze:PATTERN,PATTERN``.

    ``freeze`` names the tensors that move, as shell patterns (``freeze:*.mlp.*``), and ``groups`` the parts of a model
    that sees (``groups:projector,text``).

    Raises:
        UserError: an unknown kind, option or value, with what to write instead.
    """
    kind, _, text = spec.partition(":")
    if kind == "freeze":
        patterns = tuple(part.strip() for part in text.split(",") if part.strip())
        if not patterns:
            raise UserError(f"adapt {spec!r} does not say what moves; write freeze:PATTERN, e.g. freeze:*.mlp.*")
        return Freeze(train=patterns)
    if kind == "groups":
        return Groups(train=tuple(part.strip() for part in text.split(",") if part.strip()))
    if kind not in KINDS:
        raise unknown_name("adapt", kind, [*KINDS, "freeze", "groups"])
    known = [field.name for field in fields(KINDS[kind]) if field.name not in _FIXED]
    options: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UserError(f"cannot read option {part!r} of adapt {spec!r}; write key=value,key=value")
        if key not in known:
            if not known:
                raise UserError(f"adapt {kind!r} has no options; got {part}")
            raise unknown_name(f"option of adapt {kind!r}", key, known)
        options[key] = value
    try:
        found: Adapt = TypeAdapter(KINDS[kind]).validate_strings(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise UserError(f"adapt {spec!r}: {where + ': ' if where else ''}{reason}") from error
    return found

"""Tasks from the hub: ``hf:ID[:CONFIG][@REVISION][/SPLIT]``, through the package `datasets` (extra ``hub``)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stillroom.errors import MissingExtraError, UserError
from stillroom.tasks.datasets import Fields
from stillroom.tasks.files import Loaded, Row, Source, build
from stillroom.types import Split

_SPEC = re.compile(
    r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w.-]+))?(?:/(?P<split>[\w.-]+))?"
)
_NAMES: dict[str, Split] = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}


def load_hub(spec: str, *, fields: Fields | None = None, layout: str | None = None, strict: bool = False) -> Loaded:
    """The task of a hub data set; its own splits stay as they are. One named split is cut by the hash of the question.

    Raises:
        MissingExtraError: without `datasets`.
        UserError: for a malformed spec, an unknown data set, or splits of other names.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"cannot read 'hf:{spec}'; write hf:ID[:CONFIG][@REVISION][/SPLIT], e.g. hf:openai/gsm8k:main")
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("datasets", "hub") from None
    try:
        loaded: Any = load_dataset(match["id"], match["config"], revision=match["revision"], split=match["split"])
    except (ValueError, OSError) as error:  # an unknown id, configuration, revision or split; no network
        raise UserError(f"cannot load 'hf:{spec}': {error}") from error
    splits: Mapping[str, Iterable[Any]] = {str(match["split"]): loaded} if match["split"] else loaded
    unknown = [name for name in splits if name not in _NAMES]
    if not match["split"] and unknown:
        raise UserError(
            f"'hf:{spec}' has a split {unknown[0]!r}; choose one: {', '.join(f'/{name}' for name in splits)}"
        )
    sources = [
        Source(
            f"{match['id']}/{name}",
            None if match["split"] or len(splits) == 1 else _NAMES[name],
            (Row(number, row) for number, row in enumerate(rows, 1)),
        )
        for name, rows in splits.items()
    ]
    name = match["id"].rsplit("/")[-1]
    return build(name, sources, fields=fields, layout=layout, strict=strict, summary=f"rows of hf:{spec}")

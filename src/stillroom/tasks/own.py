"""Tasks from the user's own Python file: ``./mine.py:NAME``."""

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stillroom.errors import StillroomError, UserError, unknown_name
from stillroom.seeds import digest
from stillroom.tasks.base import Task
from stillroom.tasks.datasets import Fields
from stillroom.tasks.files import Loaded, Row, Source, build
from stillroom.types import Problem, Split


def load_own(
    path: Path, name: str, *, fields: Fields | None = None, layout: str | None = None, strict: bool = False
) -> Loaded:
    """Import a file and take NAME from it: a Task, problems or rows, or a function without arguments that returns one.

    A Problem that names its split keeps it; all others are split by the hash of their question, as a file's rows are.

    Raises:
        UserError: for a missing file or name, code that fails, or a value of another kind.
    """
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}; give the path of an existing Python file")
    spec = importlib.util.spec_from_file_location(f"stillroom_own_{digest(str(path.resolve()))}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{str(path)!r} is no Python file")
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    _run(path, lambda: loader.exec_module(module))
    if not hasattr(module, name):
        raise unknown_name(f"name in {path.name}", name, [n for n in vars(module) if not n.startswith("_")])
    value = getattr(module, name)
    if callable(value) and not isinstance(value, Task):
        value = _run(path, value)
    if isinstance(value, Task):
        return Loaded(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise UserError(f"{path.name}:{name} is a {type(value).__name__}; make it a Task or a list of Problem or dict")
    items = _run(path, lambda: list(value))
    wrong = next((item for item in items if not isinstance(item, (Problem, Mapping))), None)
    if wrong is not None:
        raise UserError(f"{path.name}:{name} holds a {type(wrong).__name__}; give Problem or dict")
    rows: dict[Split | None, list[Row]] = {}
    for number, item in enumerate(items, 1):
        own = item.split if isinstance(item, Problem) and "split" in item.model_fields_set else None
        rows.setdefault(own, []).append(Row(number, item))
    sources = [Source(f"{path.name}:{name}", split, part) for split, part in rows.items()]
    return build(name, sources, fields=fields, layout=layout, strict=strict)


def _run(path: Path, call: Any) -> Any:
    """The user's code; its failure is hers to mend, so the message says where it happened."""
    try:
        return call()
    except StillroomError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        at = f" at line {line}" if line else ""
        raise UserError(f"{path.name} failed{at}: {type(error).__name__}: {error}") from error

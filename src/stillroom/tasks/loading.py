"""One word for every task: a built-in name, a file, your own code, a hub id, a reasoning-gym set."""

import inspect
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.base import Task
from stillroom.tasks.files import Loaded, load_file
from stillroom.tasks.registry import REGISTRY, TaskInfo

MODULES = {
    "arithmetic": "arithmetic",
    "registers": "registers",
    "tool-arithmetic": "tools",
    "words": "words",
    "facts": "facts",
    "sums": "sums",
    "vignettes": "vignettes",
    "tool-world": "toolworld",
    "verdicts": "verdicts",
    "instructions": "instructions.world",
    "tricks": "tricks",
    "knowledge": "knowledge",
    "sql": "sql",
    "sql-judging": "sql_judging",
    "sat": "sat",
    "deduction": "deduction",
    "logiglue": "logic",
    "shapes": "shapes",
    "shifted-shapes": "shifted_shapes",
    "planted-translation": "planted_translation",
    "planted-summary": "planted_summaries",
    "causal-order": "causal_order",
    "scene-programs": "scene_programs",
    "action-videos": "action_videos",
    **dict.fromkeys(
        (
            *("aquarium", "battleships", "binairo", "colored-sudoku", "field-explore", "futoshiki", "hitori"),
            *("jigsaw-sudoku", "kakurasu", "kakuro", "killer-sudoku", "light-up", "nonogram", "odd-even-sudoku"),
            *("renzoku", "skyscraper", "star-battle", "sudoku", "thermometers", "trees-and-tents"),
        ),
        "puzzles.tasks",
    ),
    "gsm8k": "real",
    "math": "real",
    "math500": "real",
    "aqua": "real",
    "commonsenseqa": "real",
    "ifeval": "real",
    "protoqa": "real",
    "simplebench": "real",
}
"""Built-in task → the module of this package that registers it."""


def list_tasks() -> list[TaskInfo]:
    """Every built-in task in the order of `MODULES`."""
    return [_info(name) for name in MODULES]


def load_task(
    spec: str,
    *,
    fields: Mapping[str, str] | None = None,
    layout: str | None = None,
    strict: bool = False,
    eval_file: str | Path | None = None,
) -> Task:
    """As `load`, without the rejects: one warning says how many rows there were and why the first was unusable."""
    loaded = load(spec, fields=fields, layout=layout, strict=strict, eval_file=eval_file)
    if loaded.rejects:
        first = loaded.rejects[0]
        warnings.warn(
            f"task {spec!r}: {len(loaded.rejects)} unusable rows left out, the first is {first.source} row "
            f"{first.row}: {first.reason}",
            stacklevel=2,
        )
    return loaded.task


def load(
    spec: str,
    *,
    fields: Mapping[str, str] | None = None,
    layout: str | None = None,
    strict: bool = False,
    eval_file: str | Path | None = None,
) -> Loaded:
    """The task that a spec names, and the rows of its source that could not be used.

    Args:
        spec: ``NAME`` or ``NAME:key=value,…`` (built in), ``gym:NAME[:key=value,…]``, ``jsonl:FILE`` (also .json, .csv,
            .parquet), ``./file.py:NAME``, or ``hf:ID[:CONFIG][@REVISION][/SPLIT]``.
        fields: field → column, for rows whose columns have other names.
        layout: of the rows (`datasets.LAYOUTS`); None looks at the first row.
        strict: a bad row raises DataError instead of being rejected.
        eval_file: rows of the test split, for ``jsonl:``.

    Raises:
        UserError: for anything that names nothing, and for an argument that has no effect on this kind of task.
    """
    if eval_file is not None and not spec.startswith("jsonl:"):
        raise UserError(f"an evaluation file goes with --task jsonl:FILE, not with {spec!r}")
    if spec.startswith("jsonl:"):
        own_eval = Path(eval_file) if eval_file is not None else None
        file = Path(spec.removeprefix("jsonl:"))
        return load_file(file, fields=fields, layout=layout, strict=strict, eval_file=own_eval)
    if spec.startswith("hf:"):
        from stillroom.tasks.hub import load_hub

        return load_hub(spec.removeprefix("hf:"), fields=fields, layout=layout, strict=strict)
    path, _, name = spec.rpartition(":")
    if path.endswith(".py") or spec.endswith(".py"):
        from stillroom.tasks.own import load_own

        if not path.endswith(".py") or not name:
            raise UserError(f"{spec!r} names a file only; say what to take from it: {spec.rstrip(':')}:NAME")
        return load_own(Path(path), name, fields=fields, layout=layout, strict=strict)
    if fields or layout:
        raise UserError(f"fields and layout describe rows of jsonl:, hf: or your own code; {spec!r} has none")
    if spec.startswith("gym:"):
        from stillroom.tasks.gym import load_gym

        name, _, options = spec.removeprefix("gym:").partition(":")
        return Loaded(load_gym(name, parse_options(spec, options)))
    return _built_in(spec, strict)


def _built_in(spec: str, strict: bool) -> Loaded:
    name, _, text = spec.partition(":")
    if name not in MODULES:
        if Path(spec).suffix in (".jsonl", ".json", ".csv", ".parquet"):
            raise UserError(f"unknown task {spec!r}; for a file write jsonl:{spec}")
        raise unknown_name("task", name, [*MODULES, "gym:NAME", "jsonl:FILE", "hf:ID", "./file.py:NAME"])
    info = _info(name)
    options = _typed(name, info.factory, parse_options(spec, text))
    if MODULES[name] == "real":
        from stillroom.tasks.real import load_real

        return load_real(name, strict=strict)
    return Loaded(info.factory(**options))


def _info(name: str) -> TaskInfo:
    import_module(f"stillroom.tasks.{MODULES[name]}")
    return REGISTRY[name]


def parse_options(spec: str, text: str) -> dict[str, str]:
    """``a=1,b=x`` → {"a": "1", "b": "x"}; raises UserError for anything else."""
    options: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise UserError(f"cannot read option {part!r} of task {spec!r}; write key=value,key=value")
        if key in options:
            raise UserError(f"option {key!r} stands twice in task {spec!r}")
        options[key] = value
    return options


def _typed(name: str, factory: Any, options: Mapping[str, str]) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    hints, known = get_type_hints(factory), inspect.signature(factory).parameters
    typed: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise (
                unknown_name(f"option of task {name!r}", key, known)
                if known
                else UserError(f"task {name!r} has no options; got {key}={value}")
            )
        try:
            typed[key] = TypeAdapter(hints[key]).validate_strings(value)
        except ValidationError as error:
            raise UserError(
                f"option {key}={value} of task {name!r} is no {getattr(hints[key], '__name__', hints[key])}; "
                f"the default is {key}={known[key].default}"
            ) from error
    return typed

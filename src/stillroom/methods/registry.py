"""What the catalogue holds, which of it is done, and where recipes register.

The catalogue is data (`catalogue.toml`). A method is *done* when its page exists and its published claim is not void;
nobody writes that down anywhere. The module of a page follows from its number and name (``m53_dart_math``), so a recipe
is imported only when somebody asks for it and nothing is found by scanning.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stillroom.errors import UserError, unknown_name
from stillroom.io import read_json
from stillroom.types import Noun

if TYPE_CHECKING:
    from stillroom.lab.experiment import Experiment

CORE_RECIPES = ("dpo", "grpo", "ppo", "rft", "sft", "simpo", "vote")
"""Unnumbered recipes that everything is compared with; each is a module of this package under its own name."""

_PACKAGE = Path(__file__).parent
# The wheel carries the published claims beside this file; a checkout keeps them in results/.
_CLAIM_FOLDERS = (_PACKAGE / "claims", _PACKAGE.parents[2] / "results" / "claims")

Kind = Literal["model", "strategy", "judge", "dataset", "table"]
"""What a recipe returns."""


class MethodInfo(Noun):
    """A method of the catalogue."""

    number: int
    name: str
    alias: str
    family: str
    title: str
    paper: str
    summary: str
    status: Literal["done", "planned"]


@dataclass(frozen=True)
class RecipeInfo:
    """A registered recipe: the function that a user applies to a task of her own."""

    name: str
    kind: Kind
    summary: str
    run: Callable[..., Any]


_RECIPES: dict[str, RecipeInfo] = {}
_Recipe = TypeVar("_Recipe", bound=Callable[..., Any])


def recipe(name: str, *, kind: Kind, summary: str) -> Callable[[_Recipe], _Recipe]:
    """Register a core recipe; its name must stand in `CORE_RECIPES`."""
    if name not in CORE_RECIPES:
        raise ValueError(f"core recipe {name!r} is not in CORE_RECIPES {CORE_RECIPES}")
    return _register(name, kind, summary)


def method(number: int, *, kind: Kind) -> Callable[[_Recipe], _Recipe]:
    """Register the recipe of a method page; name and summary come from the catalogue."""
    info = _by_number(number)
    return _register(info.name, kind, info.summary)


def _register(name: str, kind: Kind, summary: str) -> Callable[[_Recipe], _Recipe]:
    def decorate(function: _Recipe) -> _Recipe:
        _RECIPES[name] = RecipeInfo(name, kind, summary, function)
        return function

    return decorate


def catalogue() -> list[MethodInfo]:
    """All methods, by number, each with its computed status."""
    return [MethodInfo(**entry, status=_status(entry["number"], entry["name"])) for entry in _entries()]


def families() -> list[str]:
    """The names of the seven families, in the catalogue's order."""
    return list(_tables())


def resolve(key: str) -> MethodInfo:
    """The method of that name, alias or number; raises UserError with the nearest names."""
    wanted = key.strip().lower()
    if wanted.isdecimal():
        return _by_number(int(wanted))
    methods = catalogue()
    for info in methods:
        if wanted in (info.name, info.alias):
            return info
    known = [name for info in methods for name in (info.name, info.alias)]
    if get_close_matches(wanted, known, n=1, cutoff=0.5):
        raise unknown_name("method", key, known)
    raise UserError(f"unknown method {key!r}; all names, aliases and numbers: stillroom list")


def page_module(info: MethodInfo) -> str:
    """The module of a method's page, whether or not it exists yet: ``stillroom.methods.m53_dart_math``."""
    return f"{__package__}.{_page_stem(info.number, info.name)}"


def has_page(info: MethodInfo) -> bool:
    """Whether the method's page exists; without importing it."""
    return _page_file(info.number, info.name).is_file()


def claim(info: MethodInfo) -> dict[str, Any] | None:
    """The published claim file of a method; None when nothing is published."""
    path = _claim_file(info.number, info.name)
    return None if path is None else dict(read_json(path))


def get_recipe(key: str) -> RecipeInfo:
    """The recipe of a core name, or of a method by name, alias or number; imports that one module.

    Raises UserError for an unknown name, and for a method without a page.
    """
    if key in CORE_RECIPES:
        import_module(f"{__package__}.{key}")
        return _RECIPES[key]
    try:
        info = resolve(key)
    except UserError as error:
        raise UserError(f"{error} (core recipes: {', '.join(CORE_RECIPES)})") from error
    if not has_page(info):
        raise UserError(
            f"method {info.name!r} ({info.number}) is planned and has no page yet; "
            f"use one that is done (stillroom list) or a core recipe: {', '.join(CORE_RECIPES)}"
        )
    import_module(page_module(info))
    return _RECIPES[info.name]


def get_experiment(key: str) -> "Experiment":
    """The experiment of a method by name, alias or number, or of a page of your own (a path that ends in ``.py``)."""
    from stillroom.lab.experiment import load_page

    if key.endswith(".py"):
        return load_page(str(Path(key).resolve()))
    info = resolve(key)
    if not has_page(info):
        raise UserError(f"method {info.name!r} ({info.number}) is planned and has no page yet; see `stillroom list`")
    return load_page(page_module(info))


def recipes() -> dict[str, RecipeInfo]:
    """Every recipe that exists, core ones first; imports all pages."""
    names = [*CORE_RECIPES, *(info.name for info in catalogue() if has_page(info))]
    return {name: get_recipe(name) for name in names}


@cache
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads((_PACKAGE / "catalogue.toml").read_text(encoding="utf-8"))


@cache
def _entries() -> list[dict[str, Any]]:
    entries = [
        {"name": name, "family": family, **fields}
        for family, methods in _tables().items()
        for name, fields in methods.items()
    ]
    return sorted(entries, key=lambda entry: int(entry["number"]))


def _by_number(number: int) -> MethodInfo:
    methods = catalogue()
    if not 1 <= number <= len(methods):
        raise UserError(f"there is no method {number}; numbers go from 1 to {len(methods)}")
    return methods[number - 1]


def _page_stem(number: int, name: str) -> str:
    return f"m{number:02d}_{name.replace('-', '_')}"


def _page_file(number: int, name: str) -> Path:
    return _PACKAGE / f"{_page_stem(number, name)}.py"


def _claim_file(number: int, name: str) -> Path | None:
    candidates = (folder / f"{number:02d}-{name}.json" for folder in _CLAIM_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _status(number: int, name: str) -> Literal["done", "planned"]:
    if not _page_file(number, name).is_file():
        return "planned"
    path = _claim_file(number, name)
    return "done" if path is not None and read_json(path)["verdict"] != "void" else "planned"

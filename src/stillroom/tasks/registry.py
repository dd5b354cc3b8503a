"""Registration of built-in tasks: one decorator with explicit arguments, next to the factory it registers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from stillroom.tasks.base import Task


@dataclass(frozen=True)
class TaskInfo:
    """What `tasks list` shows of a built-in task, and the factory that makes it."""

    name: str
    summary: str
    world: str
    levels: tuple[int, ...]
    source: str
    licence: str
    factory: Callable[..., Task]


REGISTRY: dict[str, TaskInfo] = {}
_Factory = TypeVar("_Factory", bound=Callable[..., Task])


def register(
    name: str,
    *,
    summary: str,
    world: str,
    levels: tuple[int, ...] = (),
    source: str = "generated",
    licence: str = "Apache-2.0",
) -> Callable[[_Factory], _Factory]:
    """Make a task factory known under a name; its keyword parameters become the options of `NAME:key=value`."""

    def decorate(factory: _Factory) -> _Factory:
        REGISTRY[name] = TaskInfo(name, summary, world, levels, source, licence, factory)
        return factory

    return decorate

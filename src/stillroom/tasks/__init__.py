"""Tasks: problems with checkable answers.

Everything here is loaded on first use: `import stillroom.tasks` alone costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillroom.tasks.base import Task as Task
    from stillroom.tasks.checks import ValidateReport as ValidateReport
    from stillroom.tasks.checks import validate as validate
    from stillroom.tasks.files import Loaded as Loaded
    from stillroom.tasks.files import Reject as Reject
    from stillroom.tasks.files import write_rejects as write_rejects
    from stillroom.tasks.loading import list_tasks as list_tasks
    from stillroom.tasks.loading import load as load
    from stillroom.tasks.loading import load_task as load_task
    from stillroom.tasks.registry import TaskInfo as TaskInfo
    from stillroom.tasks.registry import register as register

_HOMES = {
    "Loaded": "files",
    "Reject": "files",
    "Task": "base",
    "TaskInfo": "registry",
    "ValidateReport": "checks",
    "list_tasks": "loading",
    "load": "loading",
    "load_task": "loading",
    "register": "registry",
    "validate": "checks",
    "write_rejects": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

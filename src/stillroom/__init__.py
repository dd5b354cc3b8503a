"""Stillroom distils reasoning into small language models.

Importing the package does nothing and pulls in no torch; the public names below load on first use.
"""

from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it. PEP 562 keeps `import stillroom` free of heavy imports.
_PUBLIC = {
    "Message": "types",
    "Problem": "types",
    "Response": "types",
    "Trace": "types",
    "Verdict": "types",
    "Policy": "models.policy",
    "load_policy": "models.policy",
    "Learner": "learn.learner",
    "load_task": "tasks",
    "make_sampler": "samplers",
    "distill": "workbench",
    "DistillConfig": "lab.config",
    "evaluate": "lab.evaluate",
    "experiment": "workbench",
    "resume": "workbench",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stillroom' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"stillroom.{_PUBLIC[name]}"), name)

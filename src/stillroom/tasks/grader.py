"""The grading process: ``[gold, answer]`` → ``[equal, reason]``. Started by `guard` alone."""

from collections.abc import Callable
from typing import Any

from stillroom.tasks.workers import serve

MEMORY_BYTES = 2 << 30


def main(cpu_limit_s: int) -> None:
    """Serve until the input closes or the parent is gone."""
    serve(_prepare, cpu_limit_s, MEMORY_BYTES)


def _prepare() -> Callable[[Any], Any]:
    from stillroom.tasks.expressions import judge

    return lambda pair: judge(*pair)

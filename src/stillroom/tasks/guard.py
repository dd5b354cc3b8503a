"""Grading that may hang or run out of memory, in worker processes: more than one only when there is a lot to grade."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from stillroom.tasks.workers import Died, TimedOut, Worker

CPU_LIMIT_S = 5
"""Per grade, inside the worker."""
_CHUNK = 64
_MAX_WORKERS = 8
_PAIRS_PER_WORKER = 1_000
"""A worker's start costs about as much as this many easy grades."""

Pair = tuple[str, str]


class GradeFailed(Exception):
    """A process that checks an answer gave no verdict; the message is the reason."""


class Grade(NamedTuple):
    equal: bool | None
    """None when the worker gave no verdict."""
    reason: str


def _grade(worker: Worker, pairs: Sequence[Pair]) -> list[Grade]:
    """A grade for each pair; one that ends the worker costs itself alone, and the rest goes to another worker."""
    grades: list[Grade] = []
    deaths = 0
    with worker.lock:
        while len(grades) < len(pairs):
            before = len(grades)
            try:
                for equal, reason in worker.ask(pairs[before:], CPU_LIMIT_S):
                    grades.append(Grade(bool(equal), str(reason)))  # one by one: those before a failure count
            except TimedOut:
                grades.append(Grade(None, f"timeout: no verdict within {CPU_LIMIT_S} CPU-seconds"))
            except Died:
                deaths = deaths + 1 if len(grades) == before else 1
                if deaths == 2:
                    # One that cannot even start would keep every other pair waiting in vain.
                    lost = 1 if worker.ready else len(pairs) - before
                    grades += [Grade(None, "verifier error: the grading process died twice")] * lost
                    deaths = 0
    return grades


_workers: dict[int, list[Worker]] = {}


def _pool(count: int) -> list[Worker]:
    # Keyed by process: a forked child neither shares its parent's pipes nor inherits a lock that nobody will release.
    workers = _workers.setdefault(os.getpid(), [])
    while len(workers) < count:
        workers.append(Worker("grader"))
    return workers[:count]


def grade_all(pairs: Sequence[Pair]) -> list[Grade]:
    """For each pair of gold and answer, whether they state the same mathematics, and why.

    Pairs go to the workers of this process many at a time, each with its own limits: a pair that hits one has None for
    a verdict and the reason, and every other pair is graded. Thousands of pairs start a worker for each processor.
    """
    free = _pool(max(1, min(len(pairs) // _PAIRS_PER_WORKER, os.cpu_count() or 1, _MAX_WORKERS)))

    def grade_chunk(start: int) -> list[Grade]:
        worker = free.pop()
        try:
            return _grade(worker, pairs[start : start + _CHUNK])
        finally:
            free.append(worker)

    starts = range(0, len(pairs), _CHUNK)
    if len(free) == 1:
        return list(chain.from_iterable(map(grade_chunk, starts)))
    with ThreadPoolExecutor(len(free)) as threads:
        return list(chain.from_iterable(threads.map(grade_chunk, starts)))


def stop() -> None:
    """End this process's workers, if it has any; the next grade starts another."""
    for worker in _workers.get(os.getpid(), []):
        with worker.lock:
            worker.stop()

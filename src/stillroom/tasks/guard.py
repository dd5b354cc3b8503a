"""Worker processes for grading that may hang or run out of memory, and the caller who is never hurt by them.

A worker is a fresh interpreter (no fork of the caller's threads or CUDA), started on first use; more than one only when
there is a lot to grade at once. It limits itself: CPU seconds per grade, so that a loaded machine changes no verdict,
and memory. The caller uses neither signals nor multiprocessing, so it may be any thread, a daemon process or a Ray
actor.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

CPU_LIMIT_S = 5
"""Per grade, inside the worker."""
WALL_LIMIT_S = 60
"""Per grade, for a worker that sleeps or never gets the processor; also for its start."""
_CHUNK = 64
_MAX_WORKERS = 8
_PAIRS_PER_WORKER = 1_000
"""A worker's start costs about as much as this many easy grades."""

_ROOT = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.insert(0, sys.argv[1]); from stillroom.tasks.grader import main; main(int(sys.argv[2]))"

Pair = tuple[str, str]


class GradeFailed(Exception):
    """A process that checks an answer gave no verdict; the message is the reason."""


class Grade(NamedTuple):
    equal: bool | None
    """None when the worker gave no verdict."""
    reason: str


class _TimedOut(Exception):
    pass


class _Died(Exception):
    pass


class _Worker:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.buffer = b""

    def ask(self, pairs: Iterable[Pair]) -> Iterator[Grade]:
        """A grade for each pair, in order, from one running worker.

        Raises _TimedOut or _Died at the pair that had no grade, after which the next call starts another worker.
        """
        try:
            if self.process is None:
                self._start()
            assert self.process is not None
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            unsent = b"".join(json.dumps(pair).encode() + b"\n" for pair in pairs)
            wanted = unsent.count(b"\n")
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                selector.register(self.process.stdin, selectors.EVENT_WRITE)
                for _ in range(wanted):
                    deadline = time.monotonic() + WALL_LIMIT_S
                    while b"\n" not in self.buffer:
                        unsent = self._exchange(selector, unsent, deadline)
                    line, _, self.buffer = self.buffer.partition(b"\n")
                    equal, reason = json.loads(line)
                    yield Grade(bool(equal), str(reason))
        except (OSError, ValueError) as error:
            self.stop()
            raise _Died from error
        except BaseException:
            self.stop()  # whatever happened here, its late verdicts must not answer the next question
            raise

    def _start(self) -> None:
        self.ready = False
        # -P keeps the working directory, which may be a run folder, out of the import path.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _ROOT, str(CPU_LIMIT_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        atexit.register(self.stop)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self.buffer = b""
        deadline = time.monotonic() + WALL_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:  # ready: what the imports cost is not the first grade's
                try:
                    self._exchange(selector, b"", deadline)
                except _TimedOut:
                    raise _Died from None
        self.ready, self.buffer = True, b""

    def _exchange(self, selector: selectors.BaseSelector, unsent: bytes, deadline: float) -> bytes:
        """Wait, read what came, send what fits; returns what is still to be sent."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        events = selector.select(max(0.0, deadline - time.monotonic()))
        if not events:
            raise _TimedOut
        for key, _ in events:
            if key.fileobj is self.process.stdout:
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise _TimedOut if self.process.wait() == -signal.SIGXCPU else _Died
                self.buffer += piece
            elif unsent:
                with contextlib.suppress(BrokenPipeError, BlockingIOError):  # its end is heard of on the other pipe
                    unsent = unsent[os.write(self.process.stdin.fileno(), unsent) :]
            else:
                selector.unregister(self.process.stdin)
        return unsent

    def stop(self) -> None:
        if self.process is not None:
            atexit.unregister(self.stop)
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None

    def grade(self, pairs: Sequence[Pair]) -> list[Grade]:
        """A grade for each pair; one that ends the worker costs itself alone, and the rest goes to another worker."""
        grades: list[Grade] = []
        deaths = 0
        with self.lock:
            while len(grades) < len(pairs):
                before = len(grades)
                try:
                    for grade in self.ask(pairs[before:]):
                        grades.append(grade)  # one by one: those before a failure count
                except _TimedOut:
                    grades.append(Grade(None, f"timeout: no verdict within {CPU_LIMIT_S} CPU-seconds"))
                except _Died:
                    deaths = deaths + 1 if len(grades) == before else 1
                    if deaths == 2:
                        # One that cannot even start would keep every other pair waiting in vain.
                        lost = 1 if self.ready else len(pairs) - before
                        grades += [Grade(None, "verifier error: the grading process died twice")] * lost
                        deaths = 0
        return grades


_workers: dict[int, list[_Worker]] = {}


def _pool(count: int) -> list[_Worker]:
    # Keyed by process: a forked child neither shares its parent's pipes nor inherits a lock that nobody will release.
    workers = _workers.setdefault(os.getpid(), [])
    while len(workers) < count:
        workers.append(_Worker())
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
            return worker.grade(pairs[start : start + _CHUNK])
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

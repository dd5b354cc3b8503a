"""A worker process for grading that may hang or run out of memory, and the caller who is never hurt by it.

The worker is a fresh interpreter (no fork of the caller's threads or CUDA), one per process that asks, started on first
use. It limits itself: CPU seconds per grade, so that a loaded machine changes no verdict, and memory. The caller uses
neither signals nor multiprocessing, so it may be any thread, a daemon process or a Ray actor.
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
from pathlib import Path

CPU_LIMIT_S = 5
"""Per grade, inside the worker."""
WALL_LIMIT_S = 60
"""Per grade, for a worker that sleeps or never gets the processor; also for its start."""

_ROOT = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.insert(0, sys.argv[1]); from stillroom.tasks.grader import main; main(int(sys.argv[2]))"


class GradeFailed(Exception):
    """The worker gave no verdict; the message is the reason."""


class _TimedOut(Exception):
    pass


class _Died(Exception):
    pass


class _Worker:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""

    def ask(self, gold: str, answer: str) -> tuple[bool, str]:
        """One question to a running worker. Raises _TimedOut or _Died, after which the next call starts another."""
        try:
            if self.process is None:
                # -P keeps the working directory, which may be a run folder, out of the import path.
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START, _ROOT, str(CPU_LIMIT_S)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                atexit.register(self.stop)
                self.buffer = b""
                self._line()  # ready: what the imports cost is not the first grade's
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            self.process.stdin.flush()
            equal, reason = json.loads(self._line())
            return bool(equal), str(reason)
        except (OSError, ValueError) as error:
            self.stop()
            raise _Died from error
        except (_TimedOut, _Died):
            self.stop()
            raise

    def _line(self) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + WALL_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _TimedOut
                piece = os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    raise _TimedOut if self.process.wait() == -signal.SIGXCPU else _Died
                self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def stop(self) -> None:
        if self.process is not None:
            atexit.unregister(self.stop)
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # unsent bytes for a worker that is gone
                        pipe.close()
            self.process = None


_workers: dict[int, _Worker] = {}


def grade(gold: str, answer: str) -> tuple[bool, str]:
    """Whether two texts state the same mathematics, and why; asked of the worker of this process.

    Raises:
        GradeFailed: when the worker hit a limit, or died twice.
    """
    # Keyed by process: a forked child neither shares its parent's pipes nor inherits a lock that nobody will release.
    worker = _workers.setdefault(os.getpid(), _Worker())
    with worker.lock:
        for _ in range(2):
            try:
                return worker.ask(gold, answer)
            except _TimedOut:
                raise GradeFailed(f"timeout: no verdict within {CPU_LIMIT_S} CPU-seconds") from None
            except _Died:
                continue
    raise GradeFailed("verifier error: the grading process died twice")


def stop() -> None:
    """End this process's worker, if it has one; the next grade starts another."""
    worker = _workers.get(os.getpid())
    if worker is not None:
        with worker.lock:
            worker.stop()

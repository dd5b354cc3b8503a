"""Worker processes for checks that may hang or run out of memory, and the caller who is never hurt by them.

A worker is a fresh interpreter (no fork of the caller's threads or CUDA), started on first use. It limits itself: CPU
seconds per request, so that a loaded machine changes no verdict, and memory. The caller uses neither signals nor
multiprocessing, so it may be any thread, a daemon process or a Ray actor. `Worker` is the caller's side, `serve` the
worker's.
"""

import atexit
import contextlib
import json
import os
import resource
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

WALL_LIMIT_S = 60
"""Per request, for a worker that sleeps or never gets the processor; also for its start."""

_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; "
    "import_module('stillroom.tasks.' + sys.argv[2]).main(int(sys.argv[3]))"
)


class TimedOut(Exception):
    """The worker used up its time and is gone."""


class CpuTimedOut(TimedOut):
    """It used up its CPU time, so that neither a sleep nor a loaded machine is to blame."""


class Died(Exception):
    """The worker ended without an answer, or never began."""


class Worker:
    """One worker, started when first asked and again after it ended.

    Args:
        module: of this package; its ``main(cpu_limit_s)`` calls `serve`.
    """

    def __init__(self, module: str) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        """Whether the last one that was started could begin."""
        self._module = module
        self._buffer = b""

    def start(self, cpu_limit_s: int) -> bool:
        """Start it unless it runs; whether it was started now. Raises Died."""
        if self.process is not None:
            return False
        try:
            self._start(cpu_limit_s)
        except OSError as error:
            self.stop()
            raise Died from error
        except BaseException:
            self.stop()
            raise
        return True

    def ask(self, requests: Iterable[Any], cpu_limit_s: int) -> Iterator[Any]:
        """An answer to each request, in order; both are JSON values.

        Raises TimedOut or Died at the request that had no answer, after which the next call starts another worker.
        """
        sys.audit("stillroom.worker", self._module)  # lets whoever watches a verifier see that it works elsewhere
        self.start(cpu_limit_s)
        try:
            assert self.process is not None
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            unsent = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
            wanted = unsent.count(b"\n")
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                selector.register(self.process.stdin, selectors.EVENT_WRITE)
                for _ in range(wanted):
                    deadline = time.monotonic() + WALL_LIMIT_S
                    while b"\n" not in self._buffer:
                        unsent = self._exchange(selector, unsent, deadline)
                    line, _, self._buffer = self._buffer.partition(b"\n")
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            self.stop()
            raise Died from error
        except BaseException:
            self.stop()  # whatever happened here, its late answers must not be taken for those to the next requests
            raise

    def _start(self, cpu_limit_s: int) -> None:
        self.ready = False
        # -P keeps the working directory, which may be a run folder, out of the import path.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _ROOT, self._module, str(cpu_limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        atexit.register(self.stop)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self._buffer = b""
        deadline = time.monotonic() + WALL_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:  # ready: what the imports cost is not the first request's
                try:
                    self._exchange(selector, b"", deadline)
                except TimedOut:
                    raise Died from None
        self.ready, self._buffer = True, b""

    def _exchange(self, selector: selectors.BaseSelector, unsent: bytes, deadline: float) -> bytes:
        """Wait, read what came, send what fits; returns what is still to be sent."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        events = selector.select(max(0.0, deadline - time.monotonic()))
        if not events:
            raise TimedOut
        for key, _ in events:
            if key.fileobj is self.process.stdout:
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise CpuTimedOut if self.process.wait() == -signal.SIGXCPU else Died
                self._buffer += piece
            elif unsent:
                with contextlib.suppress(BrokenPipeError, BlockingIOError):  # its end is heard of on the other pipe
                    unsent = unsent[os.write(self.process.stdin.fileno(), unsent) :]
            else:
                selector.unregister(self.process.stdin)
        return unsent

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            atexit.unregister(self.stop)
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None


def serve(prepare: Callable[[], Callable[[Any], Any]], cpu_limit_s: int, memory_bytes: int) -> None:
    """Answer requests, one JSON value a line, until the input closes or the parent is gone.

    A request that needs more CPU time than allowed ends the process (SIGXCPU), and one that needs more memory fails;
    either way the caller hears of it and starts another.

    Args:
        prepare: returns the function that answers a request; what it imports is not the first request's time.
    """
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    answer = prepare()
    answers.write("ready\n")
    answers.flush()
    for line in _lines(sys.stdin.fileno(), parent):
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Whole seconds only: the limit lies between cpu_limit_s and one second more.
        limit = int(used.ru_utime + used.ru_stime) + cpu_limit_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        # Each answer leaves at once: what was judged before a request that kills the process is not judged again.
        answers.write(json.dumps(answer(request)) + "\n")
        answers.flush()


def _lines(source: int, parent: int) -> Iterator[bytes]:
    """Whole lines, many of which may have come at once."""
    buffer = b""
    while True:
        # A forked sibling of the caller may hold the other end of the pipe open for ever: also look for the parent.
        while not select.select([source], [], [], 2.0)[0]:
            if os.getppid() != parent:
                return
        piece = os.read(source, 1 << 16)
        if not piece:
            return
        *lines, buffer = (buffer + piece).split(b"\n")
        yield from lines

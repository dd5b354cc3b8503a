"""A sandbox for Python that a model wrote: states that can be copied, tried on and committed, in a process of its own.

What holds, whatever the code does: it runs as nobody without capabilities, in namespaces of its own (no process of the
machine can be seen, no network, not even loopback), with an empty folder in memory as the only file system, under a
list of allowed system calls (seccomp) that has no way to make a process, a thread or a socket, and within limits on
wall and processor time, memory, output and files. It inherits neither environment nor descriptors. A list of allowed
syntax would be no boundary, so there is none: code may reach for ``ctypes`` and finds nothing to reach.

What does not hold: the kernel itself is trusted, and time can be observed. Where any part is missing (another system,
a container that forbids namespaces), making a sandbox raises UserError with the reason; nothing ever runs unprotected.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillroom.errors import UserError
from stillroom.samplers.wire import clean
from stillroom.types import Noun

MODULES = (
    *("math", "cmath", "fractions", "decimal", "statistics", "random", "itertools", "functools", "operator"),
    *("collections", "heapq", "bisect", "string", "re", "json", "datetime", "calendar", "textwrap", "copy", "time"),
    *("typing", "dataclasses", "enum", "numbers", "io", "ast", "_strptime"),
)
"""What actions may import unless a sandbox says otherwise; everything else is not there."""
CODE_CHARACTERS = 20_000
"""Longer code is refused."""
_JAIL = Path(__file__).with_name("jail.py")
_START_S, _GRACE_S = 30.0, 15.0
_REPLY_CHARACTERS = 50_000


class Limits(Noun):
    """Bounds of one action."""

    wall_s: float = 5.0
    """With its tool calls."""
    cpu_s: int = 4
    memory_mb: int = 512
    """Address space of each interpreter."""
    output: int = 4000
    """Characters of what is printed, and of the value, kept from the beginning."""
    file_mb: int = 8
    """Of each file, and of all together. Files do not outlive an action."""


class Outcome(Noun):
    """What an action did."""

    output: str = ""
    """What it printed."""
    value: str | None = None
    """``repr`` of its last expression; None when there is none or it is None."""
    error: str | None = None
    """Last line of the traceback, or why the interpreter is gone."""
    final: str | None = None
    """What it gave to ``final_answer``."""
    died: bool = False
    """The copy is gone: it cannot be committed, and the state is as it was."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.error is None


Tool = Callable[[str, Sequence[Any], Mapping[str, Any]], str]
"""Called as ``tool(name, args, named)`` in the outer process; raises ValueError with what the model is told."""


class Sandbox:
    """One jail with any number of states, named by whoever uses them; a state that was never named is a fresh one.

    A context manager; safe to use from several threads, one request at a time.

    Args:
        limits: of every action.
        names: functions that actions may call besides ``final_answer``; a call runs `tool` out here.
        modules: what actions may import; standard library or installed.

    Raises:
        UserError: when this machine cannot isolate; the message says what is missing.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        names: Sequence[str] = (),
        tool: Tool | None = None,
        modules: Sequence[str] = MODULES,
    ) -> None:
        if sys.platform != "linux":
            raise UserError(f"the sandbox for model-written code needs Linux; this is {sys.platform}")
        self.limits = limits
        self._tool, self._names, self._modules = tool, tuple(names), tuple(modules)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._committed: set[str] = set()
        self._gone: set[str] = set()
        """States that were lost with a keeper, until their owner is told."""
        with self._lock:
            self._start()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attempt(self, state: str, codes: Sequence[str]) -> list[Outcome]:
        """Run each code on a copy of its own of a state; nothing changes until one is committed."""
        sent = [code if len(code) <= CODE_CHARACTERS else "" for code in map(clean, codes)]
        with self._lock:
            patience = len(codes) * (self.limits.wall_s + _GRACE_S)
            lost = state in self._gone
            reply = None if lost else self._ask({"op": "try", "state": state, "codes": sent}, patience)
            self._gone.discard(state)
        if reply is None:
            return [Outcome(error="the interpreter was started anew, its variables are gone", died=True)] * len(codes)
        return [
            _outcome(found) if len(code) <= CODE_CHARACTERS else Outcome(error="the code is too long", died=True)
            for code, found in zip(codes, reply["outcomes"], strict=True)
        ]

    def commit(self, state: str, index: int) -> bool:
        """Make the copy that ran code `index` of the last attempt the state; False when it died and nothing changed."""
        with self._lock:
            reply = self._ask({"op": "commit", "state": state, "index": index}, _GRACE_S)
            committed = reply is not None and bool(reply["committed"])
            if committed:
                self._committed.add(state)
        return committed

    def run(self, state: str, code: str) -> Outcome:
        """Run code and keep what it changed, also when it raised."""
        (outcome,) = self.attempt(state, [code])
        self.commit(state, 0)
        return outcome

    def drop(self, state: str) -> None:
        """Forget a state and the copies made of it."""
        with self._lock:
            self._ask({"op": "drop", "state": state}, _GRACE_S)
            self._committed.discard(state)
            self._gone.discard(state)

    def fork_seconds(self, state: str) -> float:
        """How long one copy of a state takes to make and throw away; for measurements."""
        with self._lock:
            reply = self._ask({"op": "fork", "state": state}, _GRACE_S)
        if reply is None:
            raise UserError("the sandbox ended while a copy was measured")
        return float(reply["seconds"])

    def close(self) -> None:
        """End it and everything in it."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        # -I: neither environment variables nor the working directory decide what is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_JAIL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd="/",
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        self._buffer = b""
        limits = self.limits.model_dump(exclude={"wall_s"}) | {"wall_ms": int(1000 * self.limits.wall_s)}
        reply = self._exchange({"limits": limits, "names": list(self._names), "modules": list(self._modules)}, _START_S)
        if reply is None or "refused" in reply:
            self._stop()
            reason = "it ended at once" if reply is None else reply["refused"]
            raise UserError(
                f"model-written code cannot be isolated on this machine: {clean(str(reason))}. Run on Linux where user "
                "namespaces and seccomp are allowed (in Docker: --privileged, or --security-opt seccomp=unconfined "
                "with --cap-add SYS_ADMIN); it is never run unprotected"
            )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The keeper is the first process of its namespaces: with it ends everything in them.
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, message: dict[str, Any], patience_s: float) -> dict[str, Any] | None:
        """The keeper's reply; None when it is gone, after which the next request starts another."""
        if self._process is None:
            self._start()
        reply = self._exchange(message, patience_s)
        if reply is None:
            self._stop()
            self._gone |= self._committed
            self._committed.clear()
        return reply

    def _exchange(self, message: dict[str, Any], patience_s: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + patience_s
        try:
            self._write(message, deadline)
            while (reply := self._read(deadline)) is not None and "call" in reply:
                self._write(self._called(reply["call"]), deadline)
        except (OSError, ValueError):
            return None
        return reply

    def _write(self, message: dict[str, Any], deadline: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        data = json.dumps(message).encode() + b"\n"
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_WRITE)
            while data:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                data = data[os.write(pipe, data) :]

    def _read(self, deadline: float) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                piece = os.read(pipe, 1 << 16)
                if not piece:
                    return None
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _called(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an action's call of a tool; what was called, and with what, is the model's word."""
        name, args, named = call.get("call"), call.get("args"), call.get("named")
        if name not in self._names or not isinstance(args, list) or not isinstance(named, dict) or self._tool is None:
            return {"error": "there is no such tool"}
        try:
            return {"result": self._tool(str(name), args, named)[:_REPLY_CHARACTERS]}
        except ValueError as error:
            return {"error": str(error)[:_REPLY_CHARACTERS]}


def _outcome(found: Mapping[str, Any]) -> Outcome:
    def text(key: str) -> str | None:
        value = found.get(key)
        return clean(value) if isinstance(value, str) else None

    return Outcome(
        output=text("output") or "",
        value=text("value"),
        error=text("error"),
        final=text("final"),
        died=bool(found.get("died")),
    )

"""Hostile responses, one by one, and what reading them does besides."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

LIMIT_S = 1.0
"""CPU seconds of this process for one response."""
_SHOWN = 20
_HEARD = ("open", "socket.", "os.", "subprocess.", "shutil.", "ctypes.dlopen", "stillroom.worker")


class _Watch:
    """What this process does beyond computing while `on`: audit hooks cannot be taken away, only ignored."""

    def __init__(self) -> None:
        self.on = False
        self.seen: dict[str, int] = {}
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or not event.startswith(_HEARD):
            return
        # A module that is imported on first use is read from where it is installed.
        if event == "open" and str(args[0]).endswith((".py", ".pyc", ".so")) and not str(args[1]).startswith("w"):
            return
        if event in ("os.listdir", "os.scandir"):  # of the import system's own search, too
            return
        self.seen[event] = self.seen.get(event, 0) + 1


_watches: list[_Watch] = []


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Counts audit events for files, sockets, processes and the system while the block runs: event → how often."""
    watch = _watches[0] if _watches else _Watch()
    _watches[:] = [watch]
    watch.seen, watch.on = {}, True
    try:
        yield watch.seen
    finally:
        watch.on = False


def attack(read: Callable[[int, str], object], texts: Iterable[str]) -> dict[str, Any]:
    """How many responses a reader met, where it crashed, how slow it was at most, and what it touched.

    Args:
        read: called with each response's number and text; whatever it raises is a crash.
    """
    slowest, spent, count, crashes = 0.0, 0.0, 0, list[str]()
    with watched() as seen:
        for number, text in enumerate(texts):
            count += 1
            start = time.process_time()
            try:
                read(number, text)
            except Exception as error:  # whatever it is, there should have been an outcome
                crashes.append(f"response {number}: {type(error).__name__}: {error}"[:300])
            took = time.process_time() - start
            slowest, spent = max(slowest, took), spent + took
    return {
        "responses": count,
        "crashes": len(crashes),
        "first_crashes": crashes[:_SHOWN],
        "slowest_cpu_s": slowest,
        "limit_cpu_s": LIMIT_S,
        "cpu_s": spent,
        "touched": dict(seen),
        "survived": not crashes and slowest <= LIMIT_S,
    }

"""The grading process: reads ``[gold, answer]`` lines, writes ``[equal, reason]`` lines, until its parent is gone.

Started by `guard` alone. A grade that needs more CPU time than allowed ends the process (SIGXCPU), and one that needs
more memory fails; either way the caller hears of it and starts another.
"""

import json
import os
import resource
import select
import sys
from collections.abc import Iterator

MEMORY_BYTES = 2 << 30


def main(cpu_limit_s: int) -> None:
    """Serve until the input closes or the parent is gone."""
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like a verdict
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    from stillroom.tasks.expressions import judge

    answers.write("ready\n")
    answers.flush()
    for line in _lines(sys.stdin.fileno(), parent):
        gold, answer = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Whole seconds only: the limit lies between cpu_limit_s and one second more.
        limit = int(used.ru_utime + used.ru_stime) + cpu_limit_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        # Each verdict leaves at once: what was judged before a pair that kills the process is not judged again.
        answers.write(json.dumps(judge(gold, answer)) + "\n")
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

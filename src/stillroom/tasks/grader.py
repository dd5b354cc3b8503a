"""The grading process: reads ``[gold, answer]`` lines, writes ``[equal, reason]`` lines, until its parent is gone.

Started by `guard` alone. A grade that needs more CPU time than allowed ends the process (SIGXCPU), and one that needs
more memory fails; either way the caller hears of it and starts another.
"""

import json
import os
import resource
import select
import sys

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
    while True:
        # A forked sibling of the caller may hold the other end of the pipe open for ever: also look for the parent.
        while not select.select([sys.stdin], [], [], 2.0)[0]:
            if os.getppid() != parent:
                return
        line = sys.stdin.buffer.readline()
        if not line:
            return
        gold, answer = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Whole seconds only: the limit lies between cpu_limit_s and one second more.
        limit = int(used.ru_utime + used.ru_stime) + cpu_limit_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        answers.write(json.dumps(judge(gold, answer)) + "\n")
        answers.flush()

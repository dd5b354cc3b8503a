"""What a copy of an interpreter's state costs in the sandbox: a fork that the keeper allows, greets and ends again."""

import os
from typing import Any

import numpy as np

from stillroom.lab.run import commit, hardware, versions
from stillroom.synth.sandbox import Limits, Sandbox

BAR_MS = 50.0
STATES_MB = (0, 10, 100)
"""Size of what a state holds."""


def measure(copies: int) -> dict[str, Any]:
    """Time that many copies of each state, one after the other, on the keeper's clock; the bar is on the slowest 5 %.

    Raises UserError where the sandbox refuses to work.
    """
    states: list[dict[str, Any]] = []
    load = os.getloadavg()[0]  # a wall clock on a machine that others use measures them too
    with Sandbox(Limits(memory_mb=1024)) as box:
        for megabytes in STATES_MB:
            name = f"{megabytes} MB"
            box.run(name, f"held = [bytearray(1 << 20) for _ in range({megabytes})]")
            took_ms = 1000 * np.array([box.fork_seconds(name) for _ in range(copies)])
            p50, p95, p99 = (float(found) for found in np.percentile(took_ms, [50, 95, 99]))
            states.append(
                {"megabytes": megabytes, "copies": copies, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
                 "max_ms": float(took_ms.max())}
            )  # fmt: skip
            box.drop(name)
    return {
        "bar_ms": BAR_MS,
        "passed": all(state["p95_ms"] <= BAR_MS for state in states),
        "states": states,
        "load_average": load,
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }

"""Closed answers as labels: what accuracy alone does not tell of an arm."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillroom.lab.still import Still
from stillroom.measures.classes import classified
from stillroom.traces import store
from stillroom.types import Problem, Trace


def account_labels(still: Still, regimes: Mapping[str, Sequence[int]]) -> None:
    """Write the account of the arm at work, whose answers to the test problems have been measured: `labelling` by
    regime.

    Args:
        regimes: name → levels.
    """
    stage = f"account:{still.arm}"
    if still.run.result_of(stage) is None:
        with still.run.stage(stage) as result:
            traces = store.read(still.run.folder / "evals" / f"{still.arm}.parquet")
            for regime, levels in regimes.items():
                result[regime] = labelling([trace for trace in traces if trace.level in levels], still.test)


def labelling(traces: Sequence[Trace], problems: Sequence[Problem]) -> dict[str, Any]:
    """Macro averages and coverage of the answers in traces; of abduction also the share of labelled objects whose
    labels contradict each other, and what the solver left open, by level."""
    truth = {problem.id: problem.reference for problem in problems}
    said = [trace.verdict.answer if trace.verdict else None for trace in traces]
    labels = [len(found) for trace in traces if isinstance(found := trace.meta.get("labels"), list) and found]
    return {
        **classified([truth[trace.problem_id] for trace in traces], said).model_dump(mode="json"),
        "contradictions": sum(count > 1 for count in labels) / len(labels) if labels else None,
        "gaps": {str(trace.level): trace.meta["gap"] for trace in traces if trace.meta.get("gap") is not None},
    }

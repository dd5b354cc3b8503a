"""Responses to one problem that are to be compared: pairs of a right and a wrong one."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.types import Finish, Trace


class Comparison(NamedTuple):
    """Traces of one problem with their scores, larger is better; a pair is a right one (1) and a wrong one (0)."""

    traces: tuple[Trace, ...]
    scores: tuple[float, ...]


class Pairs(NamedTuple):
    """The pairs of a set of traces, and what was not used."""

    pairs: list[Comparison]
    dropped: dict[str, int]
    """Reason → traces or problems: ``unjudged``, ``truncated``, ``empty``, ``other prompt``, ``identical``,
    ``no right response``, ``no wrong response``."""


def build_pairs(traces: Sequence[Trace], *, per_problem: int = 1) -> Pairs:
    """Pair, per problem, the first wrong responses with right ones, in the order in which they were drawn.

    A wrong response counts only when the verifier judged it and it came to its end: what was cut off may have become
    right. Right responses are reused in turn when there are more wrong ones.

    Args:
        per_problem: most pairs of a problem (REDI: 1).

    Raises:
        UserError: `per_problem` below 1.
    """
    if per_problem < 1:
        raise UserError(f"per_problem={per_problem} asks for no pairs; give 1 or more")
    dropped: Counter[str] = Counter()
    by_problem: dict[str, tuple[list[Trace], list[Trace]]] = defaultdict(lambda: ([], []))
    for trace in sorted(traces, key=lambda trace: trace.index):
        right, wrong = by_problem[trace.problem_id]
        if trace.verdict is None or trace.verdict.correct is None:
            dropped["unjudged"] += 1
        elif trace.finish is not Finish.STOP:
            dropped["truncated"] += 1
        elif not trace.taught[-1].text.strip():
            dropped["empty"] += 1
        else:
            (right if trace.verdict.correct else wrong).append(trace)
    pairs: list[Comparison] = []
    for problem_id in dict.fromkeys(trace.problem_id for trace in traces):
        right, wrong = by_problem[problem_id]
        if not right or not wrong:
            dropped["no right response" if not right else "no wrong response"] += 1
            continue
        found = 0
        for number, rejected in enumerate(wrong):
            if found == per_problem:
                break
            chosen = right[number % len(right)]
            if chosen.taught[:-1] != rejected.taught[:-1]:
                dropped["other prompt"] += 1
            elif chosen.taught[-1].text == rejected.taught[-1].text:
                dropped["identical"] += 1
            else:
                pairs.append(Comparison((chosen, rejected), (1.0, 0.0)))
                found += 1
    return Pairs(pairs, dict(dropped))

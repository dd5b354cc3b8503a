"""The verifier of instructions: every constraint of a problem, held against the answer part of a response."""

from functools import lru_cache

from stillroom.chat import ParseStatus, parse
from stillroom.tasks.answers import last_boxed
from stillroom.tasks.instructions.composed import Node, outcomes, points, read
from stillroom.types import Problem, Verdict

_SHOWN = 2_000  # characters of an answer that a verdict keeps


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether a response keeps every constraint in the problem's ``meta["constraints"]``; no reference is needed.

    `score` is the share that is kept, `raw` Light-IF's dense reward, and `parts` says which. What is checked is the
    answer part: a thought counts for nothing, and one that never closes leaves nothing to check.

    Args:
        text: the whole response; any string.
        strict: False checks loosely, as IFEval's loose accuracy does.
    """
    return _verdict(problem, text, strict, boxed=False)


def verify_boxed(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    r"""As `verify`, of what stands in the last ``\boxed{}`` of the answer part where there is one."""
    return _verdict(problem, text, strict, boxed=True)


def _verdict(problem: Problem, text: str, strict: bool, *, boxed: bool) -> Verdict:
    wanted = problem.meta.get("constraints")
    if not isinstance(wanted, str):
        return Verdict(correct=None, reason="no constraints")
    parsed = parse(text)
    if parsed.status is ParseStatus.UNCLOSED:
        return Verdict(correct=False, score=0.0, raw=0.0, reason="the thought never closes")
    answer = ((last_boxed(parsed.answer) if boxed else None) or parsed.answer).strip()
    found = outcomes(_read(wanted), answer, strict=strict)
    broken = [outcome.constraint.kind for outcome in found if not outcome.kept]
    return Verdict(
        correct=not broken,
        score=1 - len(broken) / len(found),
        raw=points(found),
        answer=answer[:_SHOWN] or None,
        parts={f"{number} {outcome.constraint.kind}": float(outcome.kept) for number, outcome in enumerate(found)},
        reason=f"broken: {', '.join(broken)}" if broken else "all kept",
    )


@lru_cache(maxsize=4096)
def _read(constraints: str) -> Node:
    return read(constraints)

"""How often a named model solves a problem, and what follows from it: difficulty, bands, subsets of equal size.

Difficulty here is a property of a problem *and* a reference model: ``level = 1 + (n - correct)``, so that level 1 was
solved in all n attempts and level n + 1 in none (AlphaMed, https://arxiv.org/abs/2505.17952, with n = 5). Rates of two
models, or of one model that was sampled in two ways, are two tables; nothing here ever mixes them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from stillroom.errors import DataError, UserError
from stillroom.seeds import derive_rng
from stillroom.types import Noun, Problem, Trace


class PassRate(Noun):
    """What one reference model reached on one problem."""

    problem_id: str
    model_id: str
    """Identity of the sampler that attempted it."""
    n: int
    """Attempts that could be judged."""
    correct: int
    sampling: str
    """How the attempts were drawn, e.g. ``temperature=1.0, top_p=1.0``."""


def pass_rates(traces: Sequence[Trace]) -> dict[str, PassRate]:
    """The table of one model's attempts, by problem in order of first appearance. Unjudged attempts count for nothing.

    Raises:
        DataError: when the traces come from two models or two ways of sampling.
    """
    attempts: dict[str, list[bool]] = {}
    for trace in traces:
        judged = attempts.setdefault(trace.problem_id, [])
        if trace.verdict is not None and trace.verdict.correct is not None:
            judged.append(trace.verdict.correct)
    references = {(trace.sampler, _sampling(trace)) for trace in traces}
    if len(references) > 1:
        raise DataError(
            f"pass rates of {len(references)} references do not mix: {_named(references)}; keep a table each"
        )
    return {
        problem: PassRate(problem_id=problem, model_id=model, n=len(found), correct=sum(found), sampling=sampling)
        for model, sampling in references
        for problem, found in attempts.items()
    }


def difficulty(rate: PassRate) -> int:
    """1 when every attempt was right, n + 1 when none was."""
    return 1 + rate.n - rate.correct


def within(rates: Mapping[str, PassRate], low: float, high: float) -> list[str]:
    """Ids of the problems whose pass rate lies in [low, high]; those without a judged attempt are in no band."""
    return [problem for problem, rate in rates.items() if rate.n and low <= rate.correct / rate.n <= high]


def transitions(before: Mapping[str, PassRate], after: Mapping[str, PassRate]) -> dict[tuple[int, int], int]:
    """How many problems went from which difficulty to which; of the problems that stand in both tables."""
    moved = Counter((difficulty(before[problem]), difficulty(after[problem])) for problem in before if problem in after)
    return dict(sorted(moved.items()))


def labelled(problems: Sequence[Problem], rates: Mapping[str, PassRate], *, attempts: int) -> list[Problem]:
    """The problems with `difficulty_level`, `ref_model_id` and `n_attempts` in their meta; earlier labels are replaced.

    Problems with fewer judged attempts are left out: one attempt less would look like one level easier.
    """
    labels = [(problem, rates[problem.id]) for problem in problems if problem.id in rates]
    return [
        problem.model_copy(
            update={
                "meta": {
                    **problem.meta,
                    "difficulty_level": difficulty(rate),
                    "ref_model_id": rate.model_id,
                    "n_attempts": rate.n,
                }
            }
        )
        for problem, rate in labels
        if rate.n == attempts
    ]


def subset(problems: Sequence[Problem], levels: Mapping[int, int], *, seed: int) -> list[Problem]:
    """Exactly that many labelled problems of each difficulty, drawn without replacement, in an order of their own.

    Args:
        levels: difficulty → how many.

    Raises:
        DataError: for a problem without a label, and for labels of two references.
        UserError: when a difficulty has too few problems.
    """
    unlabelled = [problem.id for problem in problems if "difficulty_level" not in problem.meta]
    if unlabelled:
        raise DataError(f"{len(unlabelled)} problems have no difficulty yet (first: {unlabelled[0]}); label them first")
    references = {(str(p.meta["ref_model_id"]), f"{p.meta['n_attempts']} attempts") for p in problems}
    if len(references) > 1:
        raise DataError(f"difficulties by {len(references)} references do not mix: {_named(references)}; label anew")
    rng, chosen = derive_rng("subset", seed), list[Problem]()
    for level, wanted in levels.items():
        there = [problem for problem in problems if problem.meta["difficulty_level"] == level]
        if len(there) < wanted:
            raise UserError(f"{wanted} problems of difficulty {level} are wanted and {len(there)} are there")
        chosen += rng.sample(there, wanted)
    rng.shuffle(chosen)
    return chosen


def same_size(problems: Sequence[Problem], bands: Mapping[str, Sequence[int]]) -> dict[str, dict[int, int]]:
    """The largest subsets of one size that labelled problems allow: per band, how many of each of its difficulties.

    Counts within a band differ by one at most. `subset` draws them.

    Args:
        bands: name → difficulties.

    Raises:
        UserError: when a band has no problem of one of its difficulties.
    """
    there = Counter(problem.meta.get("difficulty_level") for problem in problems)
    for name, levels in bands.items():
        missing = [level for level in levels if not there[level]]
        if missing:
            raise UserError(f"{name} needs problems of difficulty {missing[0]} and there is none; label more problems")
    size = min(len(levels) * min(there[level] for level in levels) for levels in bands.values())
    return {
        name: {level: size // len(levels) + (at < size % len(levels)) for at, level in enumerate(levels)}
        for name, levels in bands.items()
    }


def _sampling(trace: Trace) -> str:
    return ", ".join(
        f"{key}={trace.params[key]}" for key in ("temperature", "top_p", "max_new_tokens") if key in trace.params
    )


def _named(references: set[tuple[str, str]]) -> str:
    return "; ".join(" with ".join(reference) for reference in sorted(references))

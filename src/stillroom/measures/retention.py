"""What is kept and what is lost: before and after training, stage by stage, source by source."""

from collections.abc import Mapping, Sequence

import numpy as np

from stillroom.errors import UserError
from stillroom.measures.resampling import paired_bootstrap
from stillroom.types import Noun


class Retained(Noun):
    """The same questions before and after; shares are None where nothing could be kept or gained."""

    n: int
    before: float
    after: float
    kept: float | None
    """Of what was right before, the share that still is."""
    gained: float | None
    """Of what was wrong before, the share that is right now."""
    change: float
    interval: tuple[float, float]
    """95 % of the change, over questions drawn in pairs."""


def retained(before: Sequence[bool], after: Sequence[bool], *, draws: int = 10_000, seed: int = 0) -> Retained:
    """What training did to questions that were judged both times.

    Raises:
        UserError: no question, or not the same number twice.
    """
    if not before or len(before) != len(after):
        raise UserError(f"{len(before)} answers before and {len(after)} after; give the same questions twice")
    was_N, is_N = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    change, interval = paired_bootstrap([is_N.astype(float) - was_N], draws=draws, seed=seed)
    return Retained(
        n=len(was_N),
        before=float(was_N.mean()),
        after=float(is_N.mean()),
        kept=float(is_N[was_N].mean()) if was_N.any() else None,
        gained=float(is_N[~was_N].mean()) if (~was_N).any() else None,
        change=change,
        interval=interval,
    )


class Sequential(Noun):
    """Of tasks that are learned one after the other; the last three are None with a single task."""

    final: float
    """Mean over tasks after the last stage."""
    backward: float | None
    """Backward transfer: mean change of earlier tasks from when they were learned to the end; negative: forgetting."""
    forgetting: float | None
    """Mean loss of earlier tasks from the best that was ever reached on them to the end."""
    forward: float | None
    """Forward transfer: mean gain of later tasks, before they are learned, over the untrained model."""


def sequential(score_ST: np.ndarray, untrained_T: Sequence[float] | None = None) -> Sequential:
    """Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017; forgetting after Chaudhry et al.,
    "Riemannian Walk for Incremental Learning", 2018.

    Args:
        score_ST: score after stage s on task t, [T, T]; task t is learned in stage t.
        untrained_T: scores before the first stage; without them forward transfer is not known.

    Raises:
        UserError: a matrix that is not square.
    """
    score_ST = np.asarray(score_ST, dtype=float)
    if score_ST.ndim != 2 or score_ST.shape[0] != score_ST.shape[1] or not len(score_ST):
        raise UserError(f"scores of shape {score_ST.shape}; give one row per stage and one column per task, as many")
    last_T, learned_T, tasks = score_ST[-1], np.diag(score_ST), len(score_ST)
    forward = None
    if untrained_T is not None and tasks > 1:
        ahead = [score_ST[t - 1, t] - untrained_T[t] for t in range(1, tasks)]
        forward = float(np.mean(ahead))
    earlier = slice(0, tasks - 1)
    return Sequential(
        final=float(last_T.mean()),
        backward=float((last_T - learned_T)[earlier].mean()) if tasks > 1 else None,
        forgetting=float((score_ST[:-1].max(axis=0) - last_T)[earlier].mean()) if tasks > 1 else None,
        forward=forward,
    )


class Transfer(Noun):
    """What training on each source did to each target, against a model that was not trained; None: not measured."""

    base: dict[str, float | None]
    change: dict[str, dict[str, float | None]]
    """Source → target → score less the base's."""
    own: float | None
    """Mean change on the task that was trained on; None where no source is a target."""
    others: float | None
    """Mean change on all other tasks: what training cost, or gave, elsewhere."""


def transfer(scores: Mapping[str, Mapping[str, float | None]], base: str = "base") -> Transfer:
    """The matrix source × target with its base row taken off ("On the Impact of Fine-Tuning on Chain-of-Thought
    Reasoning", 2024, https://arxiv.org/abs/2411.15382).

    Args:
        scores: who was trained on what → target → score.
        base: name of the row that was trained on nothing.

    Raises:
        UserError: no base row, or a row with other targets than the base.
    """
    if base not in scores:
        raise UserError(f"no row {base!r} among {', '.join(scores)}; changes need the untrained model")
    ground = scores[base]
    change: dict[str, dict[str, float | None]] = {}
    for source, row in scores.items():
        if row.keys() != ground.keys():
            raise UserError(f"row {source!r} was measured on {sorted(row)}, the base on {sorted(ground)}")
        if source != base:
            change[source] = {target: _less(row[target], ground[target]) for target in ground}
    own = [row[source] for source, row in change.items() if source in row]
    others = [value for source, row in change.items() for target, value in row.items() if target != source]
    return Transfer(base=dict(ground), change=change, own=_mean(own), others=_mean(others))


def _less(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

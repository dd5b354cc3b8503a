"""Scores by which single entries of a matrix are chosen: LIFT's and its controls, behind one interface.

A score is a function of the weight [m, n], its gradient [m, n], the dense running statistics that this score asks for,
and a seed; it returns a tensor [m, n], of which the largest entries are taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from stillroom.errors import UserError, unknown_name

ScoreName = Literal[
    "lift", "magnitude", "gradient", "momentum", "adam-update", "movement", "hessian", "random", "block"
]
Statistics = dict[str, torch.Tensor]
"""Dense float32 tensors [m, n], changed in place by `observe`."""

_FIRST, _SECOND, _EPS = 0.9, 0.95, 1e-6  # of the moments behind momentum, adam-update and hessian (LIFT's Adam)
_MOVEMENT = 0.01  # step size in the accumulated movement


@dataclass(frozen=True)
class Score:
    """A score and what it needs."""

    of: Callable[[torch.Tensor, torch.Tensor | None, Mapping[str, torch.Tensor], int], torch.Tensor]
    """``of(weight, gradient, statistics, seed)``; the gradient may be None where none is needed."""
    statistics: Mapping[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]] = field(default_factory=dict)
    """Running statistic, starting at zero → ``update(statistic, weight, gradient)`` in place, once per step."""
    needs_gradient: bool = False
    """Before a gradient was seen there is nothing to go by, and entries are drawn at random."""


def get_score(name: ScoreName, filter_rank: int | None = None) -> Score:
    """The score of that name.

    Args:
        filter_rank: singular values that the ``lift`` score keeps; None: an eighth of them (ours; the paper gives 16 to
            128 for matrices of 2048 and more).

    Raises:
        UserError: an unknown name, a filter rank below 1, or one for a score that has none.
    """
    if name == "lift":
        if filter_rank is not None and filter_rank < 1:
            raise UserError(f"filter_rank={filter_rank} keeps nothing of the matrix; give 1 or more, or None")
        return Score(lambda weight, _gradient, _statistics, _seed: principal(weight, filter_rank).abs())
    if filter_rank is not None:
        raise UserError(f"filter_rank={filter_rank} has no effect on score {name!r}; it belongs to 'lift'")
    if name not in _CONTROLS:
        raise unknown_name("score", name, ["lift", *_CONTROLS])
    return _CONTROLS[name]


def principal(weight: torch.Tensor, rank: int | None = None) -> torch.Tensor:
    """The best approximation of a matrix [m, n] of that rank (None: an eighth of min(m, n)), in float32 at least.

    ``U_R S_R V_R^T`` of the singular value decomposition (LIFT, section 3); a rank above min(m, n) gives the matrix.
    """
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
    u, s, vt = torch.linalg.svd(exact, full_matrices=False)
    kept = max(1, len(s) // 8) if rank is None else rank
    found: torch.Tensor = (u[:, :kept] * s[:kept]) @ vt[:kept]
    return found


def observe(score: Score, statistics: Statistics, weight: torch.Tensor, gradient: torch.Tensor) -> None:
    """Bring the running statistics of one matrix up to date; missing ones start at zero."""
    for name, update in score.statistics.items():
        if name not in statistics:
            statistics[name] = torch.zeros_like(weight, dtype=torch.float32)
        update(statistics[name], weight.float(), gradient.float())


def largest(score: torch.Tensor, k: int) -> torch.Tensor:
    """Flat positions (long, ascending) of exactly the k largest entries; of equal ones the first are taken."""
    flat = score.flatten()
    least = torch.topk(flat, k).values[-1]
    above, equal = (flat > least).nonzero().flatten(), (flat == least).nonzero().flatten()
    return torch.cat([above, equal[: k - len(above)]]).sort().values


def random_score(weight: torch.Tensor, seed: int) -> torch.Tensor:
    """Uniform noise of the weight's shape, the same on every device."""
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device)


def _block(weight: torch.Tensor, seed: int) -> torch.Tensor:
    """Largest on a cross of whole rows and columns at a random place, as wide as the number of entries asks for."""
    rows, columns = weight.shape
    generator = torch.Generator().manual_seed(seed)
    row, column = (int(torch.randint(size, (), generator=generator)) for size in (rows, columns))
    down = (torch.arange(rows) - row) % rows
    along = (torch.arange(columns) - column) % columns
    return -torch.minimum(down[:, None], along[None, :]).float().to(weight.device)


def _of_gradient(gradient: torch.Tensor | None) -> torch.Tensor:
    if gradient is None:
        raise UserError("this score needs a gradient, and there is none yet")
    return gradient.abs()


def _first(statistic: torch.Tensor, _weight: torch.Tensor, gradient: torch.Tensor) -> None:
    statistic.lerp_(gradient, 1 - _FIRST)


def _second(statistic: torch.Tensor, _weight: torch.Tensor, gradient: torch.Tensor) -> None:
    statistic.lerp_(gradient.square(), 1 - _SECOND)


def _moved(statistic: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
    statistic.addcmul_(gradient, weight, value=-_MOVEMENT)


# Item 6 of the paper's comparison (its appendix D). Bias correction is a factor common to all entries and left out.
_CONTROLS: dict[str, Score] = {
    "magnitude": Score(lambda weight, _g, _s, _seed: weight.abs()),
    "gradient": Score(lambda _w, gradient, _s, _seed: _of_gradient(gradient), needs_gradient=True),
    "momentum": Score(lambda _w, _g, s, _seed: s["first"].abs(), {"first": _first}, needs_gradient=True),
    "adam-update": Score(
        lambda _w, _g, s, _seed: s["first"].abs() / (s["second"].sqrt() + _EPS),
        {"first": _first, "second": _second},
        needs_gradient=True,
    ),
    # Signed, as in movement pruning: the largest are those that move away from zero.
    "movement": Score(lambda _w, _g, s, _seed: s["movement"], {"movement": _moved}, needs_gradient=True),
    "hessian": Score(lambda _w, _g, s, _seed: s["second"], {"second": _second}, needs_gradient=True),
    "random": Score(lambda weight, _g, _s, seed: random_score(weight, seed)),
    "block": Score(lambda weight, _g, _s, seed: _block(weight, seed)),
}

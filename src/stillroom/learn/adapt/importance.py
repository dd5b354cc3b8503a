"""How much single entries matter: the harm done by noise on the entries that a score picks (LIFT, section 4)."""

from collections.abc import Sequence

import torch

from stillroom.chat import ChatFormat, render
from stillroom.errors import UserError
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.adapt.matrices import Matrix, matrices
from stillroom.learn.adapt.scores import ScoreName, Statistics, get_score, largest, observe
from stillroom.learn.batches import Row, collate, make_row, split
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import View
from stillroom.learn.objectives.sft import SFT
from stillroom.models.policy import Policy
from stillroom.seeds import derive_rng, derive_seed
from stillroom.tasks.base import Style, Task
from stillroom.types import Problem, Segment

SIGMA = 0.3
"""Of the noise, in standard deviations of each matrix (ours, at proxy scale; the paper adds N(0, 0.01^2))."""


@torch.no_grad()
def perturb(
    policy: Policy,
    score: ScoreName,
    density: float,
    *,
    seed: int,
    sigma: float = SIGMA,
    batches: Sequence[Sequence[Row]] = (),
) -> int:
    """Add noise N(0, (sigma std(W))^2) in place to the share `density` of each matrix that a score picks.

    All scores meet the same number of entries per matrix and noise of the same size.

    Args:
        batches: rows whose gradients feed the scores that need them, one observation per batch.

    Returns:
        How many entries were changed.

    Raises:
        UserError: a score that needs a gradient, and no batches.
    """
    chosen, found = get_score(score), matrices(policy)
    if chosen.needs_gradient and not batches:
        raise UserError(f"score {score!r} needs a gradient; give batches of rows to take it from")
    statistics: dict[str, Statistics] = {matrix.name: {} for matrix in found}
    gradients: dict[str, torch.Tensor] = {}
    if chosen.needs_gradient:
        for rows in batches:
            gradients = _gradients(policy, found, rows)
            for matrix in found:
                observe(chosen, statistics[matrix.name], matrix.of(matrix.weight), gradients[matrix.name])
    changed = 0
    for matrix in found:
        weight = matrix.of(matrix.weight)
        values = chosen.of(weight, gradients.get(matrix.name), statistics[matrix.name], derive_seed("pick", seed))
        at = matrix.places(largest(values, Masked(density=density).budget(*weight.shape)))
        generator = torch.Generator().manual_seed(derive_seed("noise", seed, matrix.name))
        noise = torch.randn(len(at), generator=generator).to(weight.device) * (sigma * weight.float().std())
        matrix.weight.view(-1)[at] += noise.to(weight.dtype)
        changed += len(at)
    return changed


@torch.enable_grad()
def _gradients(policy: Policy, found: Sequence[Matrix], rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss of these rows, per matrix; the policy's own is cleared."""
    Learner(policy, SFT()).forward_backward(rows)
    gradients = {m.name: m.of(m.weight.grad).clone() for m in found if m.weight.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return gradients


@torch.no_grad()
def mean_loss(policy: Policy, rows: Sequence[Row], *, micro_tokens: int = 4096) -> float:
    """Cross-entropy per trained token over all rows, in nats."""
    objective = SFT()
    parts = split([(row,) for row in rows], micro_tokens)
    batches = [collate(part, policy.pad_id, policy.device, vision=policy.vision) for part in parts]
    total = sum(float(objective(View(policy), batch).total) for batch in batches)
    return total / sum(objective.denominator(batch) for batch in batches)


def probe(
    policy: Policy, rows: Sequence[Row], score: ScoreName, density: float, *, seed: int, sigma: float = SIGMA
) -> dict[str, float]:
    """`perturb` the policy in place; the number of entries, and the loss of `rows` before and after."""
    before = mean_loss(policy, rows)
    entries = perturb(policy, score, density, seed=seed, sigma=sigma)
    return {"entries": entries, "loss_before": before, "loss": mean_loss(policy, rows)}


def solved_rows(
    task: Task, problems: Sequence[Problem], policy: Policy, chat_format: ChatFormat, seed: int
) -> list[Row]:
    """The task's own solutions as training rows; raises UserError for a task without a solver."""
    if task.solve is None:
        raise UserError(f"task {task.name!r} has no solver, so there are no solutions to measure a loss on")
    found = []
    for problem in problems:
        solution = task.solve(problem, Style(), derive_rng("importance", seed, problem.id))
        segments = [Segment(role=message.role, text=message.content) for message in problem.messages]
        taught = render(chat_format, solution.thought, solution.answer)
        segments.append(Segment(role="assistant", text=taught, weight=1.0))
        found.append(make_row(problem.id, segments, policy))
    return found

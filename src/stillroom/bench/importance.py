"""The importance probe on a model: noise on the entries that each score picks, and what that does to loss and accuracy.

LIFT (https://arxiv.org/abs/2506.00772), section 4: entries that matter are those whose disturbance hurts. Every score
picks the same share of each matrix and meets noise of the same size; the loss is that of the task's own solutions.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

from stillroom.chat import get_format
from stillroom.lab.evaluate import evaluate, score
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.learn.adapt.importance import SIGMA, mean_loss, perturb, solved_rows
from stillroom.learn.adapt.matrices import spectral_excess
from stillroom.learn.adapt.scores import ScoreName
from stillroom.models.policy import Policy, load_policy, resolve_student
from stillroom.samplers.local import LocalSampler
from stillroom.tasks import load_task
from stillroom.types import Split

DENSITIES = (0.01, 0.05)
DRAWS = 3
"""Of the noise, and of what is picked at random."""
MAX_NEW_TOKENS = 128


def measure(
    model: str,
    spec: str,
    *,
    split: Split,
    problems: int,
    seed: int,
    on_row: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Loss and greedy accuracy of a model, undisturbed and under noise on what each score picks.

    Passed when noise on LIFT's entries raises the loss most at every density.

    Args:
        split: of the problems; ``train`` where the question is what the model knows by heart.
        problems: how many to measure on; gradients come from as many training problems.
        on_row: called after each measurement with its number from 1 and how many there are.

    Raises:
        UserError: a task without a solver, whose solutions the loss needs.
    """
    task, policy = load_task(spec), load_policy(resolve_student(model))
    chat_format = get_format(policy.sidecar.chat_format if policy.sidecar else task.chat_format)
    held_out, training = task.problems(split, problems, seed), task.problems("train", problems, seed)
    rows = solved_rows(task, held_out, policy, chat_format, seed)
    batches = [solved_rows(task, training[at::4], policy, chat_format, seed) for at in range(4)]

    def measured(found: Policy) -> dict[str, float | None]:
        traces = evaluate(task, held_out, LocalSampler(found), chat_format, max_new_tokens=MAX_NEW_TOKENS)
        return {"loss": mean_loss(found, rows), "accuracy": score(model, traces, held_out).accuracy.value}

    plain = measured(policy)
    work = [(name, density) for density in DENSITIES for name in get_args(ScoreName)]
    table: list[dict[str, Any]] = []
    for number, (name, density) in enumerate(work, start=1):
        draws = []
        for draw in range(DRAWS):
            noisy = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
            entries = perturb(noisy, name, density, seed=seed + draw, batches=batches)
            draws.append(measured(noisy))
        means = {key: sum(found[key] or 0.0 for found in draws) / DRAWS for key in ("loss", "accuracy")}
        losses = [found["loss"] for found in draws]
        table.append({"score": name, "density": density, "entries": entries, **means, "losses": losses})
        if on_row is not None:
            on_row(number, len(work))
    orders = {str(d): _by_harm([row for row in table if row["density"] == d]) for d in DENSITIES}
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "model": model,
        "task": spec,
        "split": split,
        "problems": len(held_out),
        "sigma": SIGMA,
        "draws": DRAWS,
        "seed": seed,
        "spectral_excess": spectral_excess(policy),
        "undisturbed": plain,
        "most_harmful_first": orders,
        "passed": all(order[0] == "lift" for order in orders.values()),
        "noise": table,
    }


def _by_harm(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["score"] for row in sorted(rows, key=lambda row: -row["loss"])]

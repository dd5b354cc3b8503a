"""What several models say of the same objects: a table of predictions, confidences and cues that something is amiss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillroom.errors import UserError
from stillroom.infer.vote import final_answer, likelihood
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.types import Finish, Problem, Response

CONFIDENCES = (0.5, 0.7, 0.9)
"""Below each of these a cue says so (ours)."""
NOTHING = -1
"""The class of a model that said nothing, or nothing that can be read."""


@dataclass(frozen=True)
class PredictionTable:
    """M models on N objects; K cues are true or false of a model on an object."""

    objects: tuple[str, ...]
    models: tuple[str, ...]
    classes: tuple[str, ...]
    said_MN: np.ndarray
    """Index of the predicted class, or `NOTHING`."""
    confidence_MN: np.ndarray
    cues: tuple[str, ...]
    cue_MNK: np.ndarray


def predictions(
    problems: Sequence[Problem],
    responses: Mapping[str, Sequence[Response]],
    *,
    cues: Mapping[str, Callable[[Problem], bool]] | None = None,
    classes: Sequence[str] | None = None,
) -> PredictionTable:
    """The table of these responses, one per problem and model.

    A response's class is its final answer, its confidence what it tells of itself (`meta`) or else its likelihood. The
    cues of a model: a confidence below each of `CONFIDENCES`, each other model's saying something else, and `cues`.

    Args:
        cues: name → what can be seen of a problem without knowing its answer.
        classes: what can be said, in order; None: everything that was said. Other answers are `NOTHING`.

    Raises:
        UserError: no model.
    """
    if not responses:
        raise UserError("there is no model to ask; give at least one")
    said = {name: [_said(response) for response in found] for name, found in responses.items()}
    known = tuple(classes or sorted({answer for answers in said.values() for answer in answers if answer is not None}))
    place = {answer: at for at, answer in enumerate(known)}
    said_MN = np.array([[place.get(a or "", NOTHING) for a in said[name]] for name in responses], dtype=int)
    confidence_MN = np.array([[_confidence(response) for response in found] for found in responses.values()])
    confidence_MN = confidence_MN.reshape(len(responses), len(problems))
    said_MN = said_MN.reshape(confidence_MN.shape)
    seen = {name: np.array([cue(problem) for problem in problems], dtype=bool) for name, cue in (cues or {}).items()}
    columns = [confidence_MN < limit for limit in CONFIDENCES]
    columns += [(said_MN != other_N) & (other_N != NOTHING) for other_N in said_MN]
    columns += [np.broadcast_to(cue_N, said_MN.shape) for cue_N in seen.values()]
    return PredictionTable(
        objects=tuple(problem.id for problem in problems),
        models=tuple(responses),
        classes=known,
        said_MN=said_MN,
        confidence_MN=confidence_MN,
        cues=(*(f"confidence below {c}" for c in CONFIDENCES), *(f"{name} says else" for name in responses), *seen),
        cue_MNK=np.stack(columns, axis=-1),
    )


def ask_all(
    models: Mapping[str, Sampler], prompts: Sequence[Prompt], params: SamplingParams
) -> dict[str, list[list[Response]]]:
    """Every model's responses to every prompt."""
    return {name: model.sample(prompts, params) for name, model in models.items()}


def part(table: PredictionTable, chosen: Sequence[int]) -> PredictionTable:
    """The table of some of its objects."""
    at = np.array(chosen, dtype=int)
    return PredictionTable(
        objects=tuple(table.objects[index] for index in chosen),
        models=table.models,
        classes=table.classes,
        said_MN=table.said_MN[:, at],
        confidence_MN=table.confidence_MN[:, at],
        cues=table.cues,
        cue_MNK=table.cue_MNK[:, at],
    )


def _said(response: Response) -> str | None:
    return final_answer(response.text) if response.finish is Finish.STOP else None


def _confidence(response: Response) -> float:
    told = response.meta.get("confidence")
    return float(told) if isinstance(told, int | float) else likelihood(_NO_PROMPT, response)


_NO_PROMPT = Prompt(messages=())  # a likelihood needs none

"""Averaged perceptrons as samplers: classifiers that are trained in a second and know how sure they are.

Freund and Schapire, "Large Margin Classification Using the Perceptron Algorithm", 1999. Weights are whole numbers, so
that training gives the same classifier on every machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams, require_plain
from stillroom.seeds import derive_rng, derive_seed
from stillroom.types import Finish, Message, Problem, Response, Usage

Features = Callable[[Sequence[Message]], Sequence[int]]
"""What a classifier sees of a question: whole numbers, always as many."""


@dataclass(frozen=True)
class Perceptron:
    """A trained classifier; it answers with a class, and `meta` holds its confidence."""

    id: str
    classes: tuple[str, ...]
    features: Features
    weight_CF: np.ndarray
    """One row per class; the last feature is always 1."""
    temperature: float
    """Divides scores before the softmax that makes confidences of them."""
    missed: float = 0.0
    """Share of questions that get no answer, as a detector overlooks objects; which ones depends on the text alone."""

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        """The same answer however often it is asked for. Raises UserError for a constraint or raw logits."""
        require_plain(params, self.id)
        if not prompts:
            return []
        score_NC = np.array([_row(self.features(prompt.messages)) for prompt in prompts]) @ self.weight_CF.T
        p_NC = _softmax(score_NC / self.temperature)
        return [[self._answer(prompt, p_C)] * params.n for prompt, p_C in zip(prompts, p_NC, strict=True)]

    def _answer(self, prompt: Prompt, p_C: np.ndarray) -> Response:
        best, usage = int(p_C.argmax()), Usage(calls=1)
        if derive_rng("missed", self.id, prompt.messages[-1].content).random() < self.missed:
            return Response(text="", finish=Finish.STOP, usage=usage, meta={"confidence": 0.0})
        text, confidence = f"\\boxed{{{self.classes[best]}}}", round(float(p_C[best]), 4)
        return Response(text=text, finish=Finish.STOP, usage=usage, meta={"confidence": confidence})


def train_perceptron(
    name: str,
    questions: Sequence[Sequence[Message]],
    answers: Sequence[str],
    features: Features,
    *,
    passes: int = 20,
    missed: float = 0.0,
    seed: int = 0,
) -> Perceptron:
    """Train on four fifths of the questions; the temperature is what makes the rest most likely.

    Args:
        name: its identity in lineage.
        passes: over the questions, each in an order of its own (ours).
        missed: see `Perceptron`.

    Raises:
        UserError: fewer than ten questions, or only one class among the answers.
    """
    classes = tuple(sorted(set(answers)))
    if len(answers) < 10 or len(classes) < 2:
        raise UserError(
            f"classifier {name!r} has {len(answers)} questions of {len(classes)} classes to learn from; "
            "it needs at least 10 of at least 2"
        )
    x_NF = np.array([_row(features(question)) for question in questions])
    y_N = np.array([classes.index(answer) for answer in answers])
    held = np.arange(len(y_N)) % 5 == 4
    weight_CF = _average(x_NF[~held], y_N[~held], len(classes), passes, seed)
    score_NC = x_NF[held] @ weight_CF.T
    scale = max(1.0, float(np.abs(score_NC).mean()))
    losses = {}
    for step in range(-12, 7):
        p_NC = _softmax(score_NC / (scale * 2 ** (step / 2)))
        losses[scale * 2 ** (step / 2)] = -float(np.log(p_NC[np.arange(len(p_NC)), y_N[held]] + 1e-12).mean())
    return Perceptron(name, classes, features, weight_CF, min(losses, key=lambda t: losses[t]), missed)


def train_specialists(
    names: Mapping[int, str], problems: Sequence[Problem], features: Features, *, missed: float = 0.0, seed: int = 0
) -> dict[str, Perceptron]:
    """One perceptron per level, which has seen problems of that level alone.

    Args:
        names: level → name of its classifier.
        missed: see `Perceptron`.

    Raises:
        UserError: too few problems of a level.
    """
    found = {}
    for level, name in names.items():
        own = [problem for problem in problems if problem.level == level and problem.reference is not None]
        questions, golds = [problem.messages for problem in own], [str(problem.reference) for problem in own]
        found[name] = train_perceptron(
            name, questions, golds, features, missed=missed, seed=derive_seed("specialist", name, seed)
        )
    return found


def _average(x_NF: np.ndarray, y_N: np.ndarray, classes: int, passes: int, seed: int) -> np.ndarray:
    """The sum of the weights after every question, [C, F]; dividing it would change no answer."""
    rng, order = derive_rng("perceptron", seed), list(range(len(y_N)))
    weight_CF = np.zeros((classes, x_NF.shape[1]), dtype=np.int64)
    total_CF = np.zeros_like(weight_CF)
    for _ in range(passes):
        rng.shuffle(order)
        for at in order:
            x_F, gold = x_NF[at], y_N[at]
            guess = int((weight_CF @ x_F).argmax())
            if guess != gold:
                weight_CF[gold] += x_F
                weight_CF[guess] -= x_F
            total_CF += weight_CF
    return total_CF


def _row(features: Sequence[int]) -> list[int]:
    return [*features, 1]


def _softmax(score_NC: np.ndarray) -> np.ndarray:
    exp_NC = np.exp(score_NC - score_NC.max(axis=1, keepdims=True))
    return np.asarray(exp_NC / exp_NC.sum(axis=1, keepdims=True))

"""Several answers per question: what k of n answers would reach, without bias, and what all n agree on."""

from collections.abc import Sequence
from math import comb

import numpy as np

from stillroom.errors import UserError
from stillroom.types import Noun


def pass_at_k(correct: Sequence[int], n: Sequence[int] | int, k: int) -> float:
    """Mean chance that one of k answers is right, from n answers with `correct` right ones per question.

    ``1 - C(n - c, k) / C(n, k)``, which is unbiased, unlike ``1 - (1 - c / n)^k`` (Chen et al., "Evaluating Large
    Language Models Trained on Code", 2021).

    Raises:
        UserError: no question, k below 1 or above a question's n, or more right answers than answers.

    >>> pass_at_k([1, 0], 2, 1)
    0.25
    """
    sizes = [n] * len(correct) if isinstance(n, int) else list(n)
    _check(correct, sizes, k)
    return float(np.mean([1 - comb(size - c, k) / comb(size, k) for c, size in zip(correct, sizes, strict=True)]))


def maj_at_k(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[bool]], k: int) -> float:
    """Mean chance that the most frequent of k answers, drawn from a question's n without repeating any, is right.

    It is counted over all choices of k, not simulated. Of equally frequent answers the first one drawn wins, each with
    the same chance. What could not be read (None) does not vote; when nothing votes, the result is wrong.

    Args:
        answers: per question, in a form in which equal answers are equal texts (`exact.canonical`).
        correct: whether each is right; equal answers share the first one's verdict.

    Raises:
        UserError: no question, or k below 1 or above a question's n.

    >>> maj_at_k([["7", "7", "8"]], [[True, True, False]], 3)
    1.0
    """
    _check([sum(found) for found in correct], [len(found) for found in answers], k)
    return float(np.mean([_majority(said, right, k) for said, right in zip(answers, correct, strict=True)]))


def _majority(said: Sequence[str | None], right: Sequence[bool], k: int) -> float:
    counts: dict[str, int] = {}
    verdict: dict[str, bool] = {}
    for answer, ok in zip(said, right, strict=True):
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
            verdict.setdefault(answer, ok)
    silent, won = len(said) - sum(counts.values()), 0.0
    for answer, count in counts.items():
        if verdict[answer]:
            others = [c for other, c in counts.items() if other != answer]
            won += sum(comb(count, m) * _ways(others, silent, k - m, m) for m in range(1, min(count, k) + 1))
    return won / comb(len(said), k)


def _ways(others: Sequence[int], silent: int, rest: int, m: int) -> float:
    """Ways to draw the other `rest` answers so that none is drawn more than m times, each counted as 1 / (1 + t) where
    t of them are drawn m times too: the tie is won that often."""
    # table[t][r]: ways with t ties and r answers drawn, over the answers seen so far.
    table = [[0] * (rest + 1) for _ in range(len(others) + 1)]
    table[0][0] = 1
    for count in others:
        new = [[0] * (rest + 1) for _ in table]
        for t, row in enumerate(table):
            for r, ways in enumerate(row):
                for j in range(min(count, m, rest - r) + 1) if ways else ():
                    new[t + (j == m)][r + j] += ways * comb(count, j)
        table = new
    return sum(
        ways * comb(silent, rest - r) / (1 + t)
        for t, row in enumerate(table)
        for r, ways in enumerate(row)
        if rest - r <= silent
    )


class Repeated(Noun):
    """n answers to every question. Never print an EAG without its rule: the literature leaves it open."""

    n: int
    questions: int
    correct: tuple[int, ...]
    """Right answers of every question, from which any other rule can be computed."""
    avg: float
    """AVG@n: mean accuracy over all answers."""
    eag_majority: float
    """EAG@n by majority: share of questions that more than half of the answers get right."""
    eag_all: float
    """EAG@n by all: share that every answer gets right."""
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals of the three, over questions."""


def repeated(correct: Sequence[int], n: int, *, draws: int = 2000, seed: int = 0) -> Repeated:
    """AVG@n and both readings of EAG@n ("extreme averaging": a question's mean is pushed to 0 or 1).

    "A NotSo Simple Way to Beat Simple Bench", 2024, https://arxiv.org/abs/2412.12173, names EAG@5 without defining it.
    Answers that cannot be read count as wrong.

    Raises:
        UserError: no question, or more right answers than n.

    >>> found = repeated([5, 3, 2], 5)
    >>> (round(found.avg, 3), round(found.eag_majority, 3), round(found.eag_all, 3))
    (0.667, 0.667, 0.333)
    """
    _check(correct, [n] * len(correct), n)
    count_Q = np.asarray(correct)
    values = {"avg": count_Q / n, "eag_majority": (2 * count_Q > n) * 1.0, "eag_all": (count_Q == n) * 1.0}
    picks = np.random.default_rng(seed).integers(0, len(count_Q), size=(draws, len(count_Q)))
    intervals = {}
    for name, value_Q in values.items():
        low, high = np.percentile(value_Q[picks].mean(axis=1), [2.5, 97.5])
        intervals[name] = (float(low), float(high))
    means = {name: float(value_Q.mean()) for name, value_Q in values.items()}
    return Repeated(n=n, questions=len(correct), correct=tuple(map(int, correct)), intervals=intervals, **means)


def _check(correct: Sequence[int], sizes: Sequence[int], k: int) -> None:
    if not correct or len(correct) != len(sizes):
        raise UserError(f"{len(correct)} counts of right answers and {len(sizes)} questions; give one of each")
    for c, size in zip(correct, sizes, strict=True):
        if not 0 <= c <= size:
            raise UserError(f"{c} of {size} answers cannot be right")
        if not 1 <= k <= size:
            raise UserError(f"k={k} of n={size} answers says nothing; give 1 <= k <= {size}, or draw more answers")

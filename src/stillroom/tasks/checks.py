"""Does a task's verifier know its own gold answers?"""

from collections.abc import Sequence

from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.seeds import digest
from stillroom.tasks.base import Task, content_hash
from stillroom.types import Noun, Problem, Split


class ValidateReport(Noun):
    """What `validate` found; `failures` holds one line per problem that failed, at most 20."""

    task: str
    checked: int
    gold_refused: int
    """Gold answers that did not score full marks."""
    corrupted_accepted: int
    """Wrong answers that did."""
    uncorrupted: int
    """Problems for which no wrong answer could be made, so that only the gold was tried."""
    failures: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.gold_refused and not self.corrupted_accepted


def validate(task: Task, n: int = 100, *, split: Split = "train", seed: int = 0) -> ValidateReport:
    """Each gold answer must score full marks and a corrupted one must not.

    Args:
        n: how many problems of the split to try; a finite task may have fewer.

    Raises:
        UserError: when the split is empty.
    """
    problems = [problem for problem in task.problems(split, n, seed) if problem.reference is not None]
    if not problems:
        raise UserError(f"task {task.name!r} has no {split} problem with a gold answer to validate")
    refused = accepted = uncorrupted = 0
    failures: list[str] = []
    for index, problem in enumerate(problems):
        gold = problem.reference or ""
        verdict = task.verify(problem, _respond(task, gold))
        if not (verdict.correct is True and verdict.score == 1.0):
            refused += 1
            failures.append(f"{problem.id}: gold {gold!r} was refused: {verdict.reason}")
        wrong = wrong_answer(task, problem, problems, index)
        if wrong is None:
            uncorrupted += 1
        elif task.verify(problem, _respond(task, wrong)).correct is not False:
            accepted += 1
            failures.append(f"{problem.id}: wrong answer {wrong!r} was not refused (gold {gold!r})")
    return ValidateReport(
        task=task.name,
        checked=len(problems),
        gold_refused=refused,
        corrupted_accepted=accepted,
        uncorrupted=uncorrupted,
        failures=tuple(failures[:20]),
    )


def _respond(task: Task, answer: str) -> str:
    return render(get_format(task.chat_format), "", answer)


def first_digest(task: Task, n: int = 100) -> str:
    """A hash of the first n training problems at seed 0: id, question, options, reference, level, assets.

    It changes when a generator does, and with it every result that rests on its problems.
    """
    lines = (
        "\x1f".join((problem.id, content_hash(problem), str(problem.level), *map(str, sorted(problem.assets.items()))))
        for problem in task.problems("train", n, 0) or task.problems("test", n, 0)
    )
    return digest(*lines)


def wrong_answer(task: Task, problem: Problem, problems: Sequence[Problem], index: int) -> str | None:
    """The task's own corruption, or else the next problem's different answer (another letter, with options)."""
    if task.corrupt is not None:
        return task.corrupt(problem)
    if problem.options:
        letters = [chr(65 + number) for number in range(len(problem.options))]
        return letters[(letters.index(problem.reference) + 1) % len(letters)] if problem.reference in letters else None
    others = (problems[(index + step) % len(problems)].reference for step in range(1, len(problems)))
    return next((other for other in others if other is not None and other != problem.reference), None)

"""What the programmatic solvers share: a solution written step by step, with fillers, errors and labelled spans."""

from collections.abc import Sequence
from random import Random

from stillroom.errors import unknown_name
from stillroom.tasks.base import Solution, Style
from stillroom.types import Span

_FILLERS = ("Let me see.", "One more.", "So far so good.", "Keep going.")


class StepWriter:
    """Collects a solution line by line, in one style.

    Args:
        task: name of the task, for the message when it does not know the style's layout.
        layouts: the layouts that it knows.

    Raises:
        UserError: unknown layout.
    """

    def __init__(self, task: str, layouts: Sequence[str], style: Style, rng: Random) -> None:
        if style.layout not in layouts:
            raise unknown_name(f"layout of {task}", style.layout, layouts)
        self._style, self._rng = style, rng
        self._text, self._spans = "", list[Span]()

    def slips(self) -> bool:
        """Draw whether the next step gets an injected error."""
        return self._rng.random() < self._style.error_rate

    def step(self, line: str, checks: Sequence[str], *, sound: bool, injected: bool) -> None:
        """Write one step.

        Args:
            checks: lines that restate or check it; `verbosity` says how many are written, in turn.
            sound: this step and all that it rests on are free of injected errors.
            injected: the error was made here.
        """
        if self._rng.random() < self._style.fillers:
            self._text += self._rng.choice(_FILLERS) + "\n"
        begin = len(self._text)
        self._text += "\n".join([line, *(checks[i % len(checks)] for i in range(self._style.verbosity))])
        data = {"correct": sound, "injected": injected}
        self._spans.append(Span(kind="step", start=begin, end=len(self._text), data=dict(data)))
        self._text += "\n"

    def solution(self, answer: str) -> Solution:
        """The solution so far, with this answer."""
        return Solution(self._text.removesuffix("\n"), answer, tuple(self._spans))

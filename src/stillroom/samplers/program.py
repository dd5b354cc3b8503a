"""A task's own solver as a teacher: perfect or deliberately flawed, free of charge, without a network."""

from collections.abc import Callable, Sequence

from stillroom.chat import ChatFormat, get_format, render
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams, require_plain, response_seed
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style, Task
from stillroom.types import Finish, Response, Span, Usage


class ProgramSampler:
    """Answers each prompt by solving its problem; `SamplingParams` other than `n` have no meaning here.

    Args:
        task: must have a solver.
        style: how the solver writes, and how often it errs.
        chat_format: layout of thought and answer; default: the task's own.
        count_tokens: tokens of a text; without it no tokens are reported.

    Raises:
        UserError: when the task has no solver.
    """

    def __init__(
        self,
        task: Task,
        style: Style | None = None,
        chat_format: ChatFormat | None = None,
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        if task.solve is None:
            raise UserError(
                f"task {task.name!r} has no solver of its own; give another teacher: "
                "--teacher replay:FILE, openai:NAME@URL or local:PATH"
            )
        self._solve = task.solve
        self._style = style or Style()
        self._chat_format = chat_format or get_format(task.chat_format)
        self._count_tokens = count_tokens
        self.id = f"program:{task.name}"

    def sample(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Response]]:
        """Solutions in order. Raises UserError for a prompt without a problem, a foreign prefix or a constraint."""
        require_plain(params, self.id)
        rows = []
        for prompt in prompts:
            rows.append([self._one(prompt, offset) for offset in range(params.n)])
            if on_progress:
                on_progress(params.n)
        return rows

    def _one(self, prompt: Prompt, offset: int) -> Response:
        if prompt.problem is None:
            raise UserError("the program teacher solves problems; this prompt holds messages only")
        seed = response_seed(prompt, offset)
        solution = self._solve(prompt.problem, self._style, derive_rng("program", prompt.problem.id, seed))
        text = render(self._chat_format, solution.thought, solution.answer)
        if not text.startswith(prompt.prefix):
            raise UserError(
                f"the program teacher cannot continue {prompt.prefix[:80]!r} (problem {prompt.problem.id}); "
                "use --teacher local:PATH for continuations"
            )
        spans = solution.spans if self._chat_format.think_close else ()
        shift = len(self._chat_format.think_open) - len(prompt.prefix)
        text = text[len(prompt.prefix) :]
        return Response(
            text=text,
            finish=Finish.STOP,
            usage=Usage(calls=1, completion_tokens=self._count_tokens(text) if self._count_tokens else 0),
            seed=seed,
            spans=tuple(_shifted(span, shift) for span in spans if span.end + shift > 0),
        )


def _shifted(span: Span, by: int) -> Span:
    return span.model_copy(update={"start": max(span.start + by, 0), "end": span.end + by})

"""Recorded answers as a teacher: what real models once wrote, matched to problems by what was asked."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stillroom.chat import FORMATS, ChatFormat, ask
from stillroom.samplers.base import Prompt, SamplingParams, require_plain
from stillroom.samplers.records import Record, Rejected, bare_question, question_key, read_recording
from stillroom.seeds import digest
from stillroom.tasks.base import question, split_of
from stillroom.types import Finish, Message, Problem, Response, Usage

_BARE = ChatFormat(name="bare")


class ReplaySampler:
    """Answers prompts from recordings: a prompt's response number k is the k-th answer recorded for its question.

    Questions match when they are the same but for spacing, a wrapper such as ``Question: … Answer:`` and a format
    instruction. `SamplingParams` other than `n` have no meaning here.

    Args:
        files: JSONL, JSON or Parquet files, Stillroom's own traces among them, or a folder of them.
        fields: what → column, where the usual names do not fit (`records.COLUMNS`); ``id`` matches by problem id.
        chat_format: how a separate reasoning column is put before the response.

    Raises:
        UserError: a missing file or column. DataError: no usable row.
    """

    def __init__(
        self,
        files: Path | str | Sequence[Path | str],
        fields: Mapping[str, str] | None = None,
        chat_format: ChatFormat = FORMATS["think"],
    ) -> None:
        recording = read_recording(files, fields, chat_format)
        self.rejected: list[Rejected] = recording.rejected
        """Rows that could not be used, each with its reason."""
        names = [str(files)] if isinstance(files, (str, Path)) else [str(file) for file in files]
        self.id = f"replay:{','.join(names)}"
        self._by_id: dict[str, list[Record]] = defaultdict(list)
        self._by_question: dict[str, list[Record]] = defaultdict(list)
        for record in recording.records:
            if record.problem_id is not None:
                self._by_id[record.problem_id].append(record)
            if record.question is not None:
                self._by_question[question_key(record.question)].append(record)

    def sample(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Response]]:
        """Recorded answers in order; where none is left, a response with finish ``error``.

        Raises:
            UserError: a constraint, which a recording cannot keep.
        """
        require_plain(params, self.id)
        rows = []
        for prompt in prompts:
            first, found = prompt.first_index, self.recorded(prompt)
            rows.append([_response(found, k, prompt.prefix) for k in range(first, first + params.n)])
            if on_progress:
                on_progress(params.n)
        return rows

    def recorded(self, prompt: Prompt) -> Sequence[Record]:
        """Every answer recorded for a prompt, in order."""
        problem = prompt.problem
        if problem is not None and problem.id in self._by_id:
            return self._by_id[problem.id]
        for messages in (problem.messages, ask(problem, _BARE)) if problem is not None else (prompt.messages,):
            key = question_key(_last_user(messages))
            if key in self._by_question:
                return self._by_question[key]
        return ()


def recorded_problems(
    files: Path | str | Sequence[Path | str],
    fields: Mapping[str, str] | None = None,
    *,
    task: str = "recorded",
) -> list[Problem]:
    """The problems that a recording answers, each once, in file order; its question decides a problem's split.

    A reference is the recording's gold column; None where it is absent, or where rows give one question different
    golds (all of them are then in ``meta["golds"]``).
    """
    golds: dict[str, dict[str, None]] = {}
    texts: dict[str, str] = {}
    for record in read_recording(files, fields, FORMATS["think"]).records:
        if record.question is None:
            continue
        key = question_key(record.question)
        texts.setdefault(key, bare_question(record.question))
        seen = golds.setdefault(key, {})
        if record.gold is not None:
            seen[record.gold] = None
    problems = []
    for key, text in texts.items():
        known = list(golds[key])
        problem = Problem(
            id=f"{task}/{digest(key)}",
            task=task,
            messages=question(text),
            reference=known[0] if len(known) == 1 else None,
            meta={"golds": [*known]} if len(known) > 1 else {},
        )
        problems.append(problem.model_copy(update={"split": split_of(problem)}))
    return problems


def _last_user(messages: Sequence[Message]) -> str:
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def _response(found: Sequence[Record], k: int, prefix: str) -> Response:
    if k >= len(found):
        return Response(text="", finish=Finish.ERROR, error=f"no recorded answer (number {k} of {len(found)})")
    record = found[k]
    if not record.text.startswith(prefix):
        return Response(text="", finish=Finish.ERROR, error=f"recorded answer {k} does not begin with the prefix")
    usage = Usage(completion_tokens=record.tokens)
    return Response(text=record.text[len(prefix) :], finish=record.finish, usage=usage)

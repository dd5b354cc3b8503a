"""Traces that others recorded: JSON lines in the messages or the prompt + completion layout, and our own shards."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from stillroom.errors import DataError
from stillroom.seeds import digest
from stillroom.traces.store import paths_of, read
from stillroom.types import Role, Segment, Trace, Verdict

_PROMPT = ("prompt", "question", "problem", "instruction")
_COMPLETION = ("completion", "response", "solution", "output")
_CORRECT = ("correct", "is_correct", "result")
_KNOWN = {"messages", "id", "problem_id", "task", "level", "sampler", *_PROMPT, *_COMPLETION, *_CORRECT}


class BadRow(NamedTuple):
    """A line that holds no trace."""

    path: Path
    row: int
    """Line number, from 1."""
    reason: str


class Imported(NamedTuple):
    traces: list[Trace]
    bad: list[BadRow]


def read_any(*paths: Path | str) -> Imported:
    """The traces of Parquet shards, folders of shards and ``.jsonl`` files, in order; bad lines apart.

    A JSON line is either ``{"messages": [{"role", "content"}, …]}`` ending with an assistant turn, or a prompt and a
    completion (also named question, response, …), each a text or a list of messages. Optional fields: ``id``,
    ``problem_id`` (else a hash of the prompt), ``task``, ``level``, ``sampler``, ``correct`` (also ``result``,
    ``is_correct``; a bool, or null for unjudged). Every other field goes to `Trace.meta`.

    Raises:
        DataError: for an unreadable shard, or when a file has no good line at all.
    """
    traces: list[Trace] = []
    bad: list[BadRow] = []
    seen: Counter[tuple[str, str]] = Counter()
    for path in paths_of(*paths):
        if path.suffix != ".jsonl":
            traces += read(path)
            continue
        good, rejected = 0, []
        for item in _lines(path):
            if isinstance(item, BadRow):
                rejected.append(item)
                continue
            # Answers to one problem get the indices 0, 1, … in the order of the files.
            key = (item.task, item.problem_id)
            traces.append(item.model_copy(update={"index": seen[key]}))
            seen[key] += 1
            good += 1
        if rejected and not good:
            raise DataError(f"{path} has no usable row; {describe(rejected)}")
        bad += rejected
    return Imported(traces, bad)


def describe(bad: list[BadRow], show: int = 5) -> str:
    """The first bad rows in words, and how many there are."""
    shown = "; ".join(f"{path.name} row {row}: {reason}" for path, row, reason in bad[:show])
    return f"{len(bad)} bad row{'s' * (len(bad) != 1)} ({shown}{'; …' * (len(bad) > show)})"


def _lines(path: Path) -> Iterator[Trace | BadRow]:
    with open(path, "rb") as file:
        for row, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield _trace(json.loads(line), path.stem, row)
            except RecursionError:
                yield BadRow(path, row, "nested too deeply")
            except ValidationError as error:
                first = error.errors()[0]
                yield BadRow(path, row, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
            except ValueError as error:
                yield BadRow(path, row, str(error))


def _trace(row: Any, stem: str, number: int) -> Trace:
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object was expected, not {type(row).__name__}")
    if "messages" in row:
        turns = _turns(row["messages"], "user")
    else:
        prompt, completion = _first(row, _PROMPT), _first(row, _COMPLETION)
        if prompt is None or completion is None:
            raise ValueError(f"neither 'messages' nor a prompt and a completion among {', '.join(map(repr, row))}")
        turns = [*_turns(prompt, "user"), *_turns(completion, "assistant")]
    if not turns or turns[-1].role != "assistant":
        raise ValueError("the last message is not the assistant's")
    # A number is a row number of its own file and says nothing across files.
    name = row.get("id", number)
    asked = tuple({"role": turn.role, "content": turn.text} for turn in turns[:-1])
    correct = _first(row, _CORRECT)
    if correct is not None and not isinstance(correct, bool):
        raise ValueError(f"correct: true, false or null was expected, not {correct!r}")
    judged = any(name in row for name in _CORRECT)
    return Trace.model_validate(
        {
            "id": name if isinstance(name, str) else f"{stem}:{name}",
            "problem_id": str(row.get("problem_id", digest(*(m["content"] for m in asked)))),
            "task": row.get("task", "recorded"),
            "level": row.get("level", 0),
            "sampler": row.get("sampler", "recorded"),
            "source": "recorded",
            "asked": asked,
            "taught": (*turns[:-1], turns[-1].model_copy(update={"weight": 1.0})),
            "verdict": Verdict(correct=correct, score=None if correct is None else float(correct), reason="recorded")
            if judged
            else None,
            "meta": {name: value for name, value in row.items() if name not in _KNOWN},
        }
    )


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _turns(value: Any, role: Role) -> list[Segment]:
    if isinstance(value, str):
        return [Segment(role=role, text=value)]
    if not isinstance(value, list):
        raise ValueError(f"a text or a list of messages was expected, not {type(value).__name__}")
    turns = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"a message needs a role and a text as content: {str(message)[:80]!r}")
        if message.get("role") not in get_args(Role):
            raise ValueError(f"unknown role {message.get('role')!r}; known: {', '.join(get_args(Role))}")
        turns.append(Segment(role=message["role"], text=message["content"]))
    return turns

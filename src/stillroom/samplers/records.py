"""Rows of recorded answers, read from JSONL, JSON or Parquet: which column is what, and which rows are unusable."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.chat import FORMATS, ChatFormat
from stillroom.errors import DataError, UserError, unknown_name
from stillroom.samplers.wire import clean
from stillroom.types import Finish

_SUFFIXES = (".jsonl", ".json", ".parquet")
COLUMNS = {
    "question": ("question", "problem", "prompt", "messages", "instruction", "query"),
    "response": ("response", "completion", "generation", "output", "text"),
    "reasoning": ("reasoning", "reasoning_content", "thinking"),
    "gold": ("gold", "reference", "target", "answer"),
    "index": ("index", "sample_index"),
    "tokens": ("num_tokens", "completion_tokens"),
    "id": (),
}
"""What a recording may hold, and the column names under which it is looked for, in this order. ``id`` is only ever
used when a field mapping names it: a recording's own row numbers are not the ids of a task's problems."""


class Record(NamedTuple):
    """One recorded answer."""

    question: str | None
    problem_id: str | None
    text: str
    gold: str | None
    order: int
    """Among the answers of its file to the same question."""
    finish: Finish
    tokens: int
    """Of the answer; 0 when not recorded."""


class Rejected(NamedTuple):
    """A row that could not be used."""

    file: str
    row: int
    """From 1."""
    reason: str


class Recording(NamedTuple):
    """All usable records in file order, by index within a file, and the rows that were left out."""

    records: list[Record]
    rejected: list[Rejected]


def read_recording(
    files: Path | str | Sequence[Path | str], fields: Mapping[str, str] | None, chat_format: ChatFormat
) -> Recording:
    """Read one file, several, or every file of a folder.

    Args:
        fields: what → column name, for whatever the usual names do not find; see `COLUMNS`.
        chat_format: how a separate reasoning column is put before the response.

    Raises:
        UserError: a missing file, an unknown or absent field, no column with responses.
        DataError: no usable row.
    """
    fields = dict(fields or {})
    for what in fields:
        if what not in COLUMNS:
            raise unknown_name("field of a recording", what, COLUMNS)
    records: list[Record] = []
    rejected: list[Rejected] = []
    for path in recording_files(files):
        found: list[Record] = []
        rows = list(_rows(path))
        names = {name for row in rows if isinstance(row, dict) for name in row}
        own = {"asked", "taught", "problem_id"} <= names
        columns = {} if own or not names else _columns(path, names, fields)
        for number, row in enumerate(rows, start=1):
            try:
                if not isinstance(row, dict):
                    raise ValueError(row if isinstance(row, str) else f"a JSON {type(row).__name__}, not an object")
                found.append(_trace(row) if own else _record(row, columns, chat_format))
            except (ValueError, TypeError, KeyError) as error:
                rejected.append(Rejected(str(path), number, str(error)))
        records += sorted(found, key=lambda record: record.order)
    if not records:
        shown = "; ".join(f"{r.file} row {r.row}: {r.reason}" for r in rejected[:3]) or "the files are empty"
        raise DataError(f"no recorded answer can be used: {shown}")
    return Recording(records, rejected)


def question_key(text: str) -> str:
    """What two ways of writing down the same question share."""
    return " ".join(bare_question(text).split())


def bare_question(text: str) -> str:
    """A question without a wrapper such as ``Question: … Answer:`` and without a chat format's instruction."""
    text = re.sub(r"\A\s*(?:#+\s*)?(?:question|problem|q)\s*:", "", text, flags=re.IGNORECASE).strip()
    for ending in (*_INSTRUCTIONS, *_ENDINGS):
        if text.lower().endswith(ending):
            text = text[: -len(ending)].rstrip()
    return text


_INSTRUCTIONS = tuple(f.instruction.lower() for f in FORMATS.values() if f.instruction)
_ENDINGS = ("let's think step by step.", "\nsolution:", "\nresponse:", "\n### response:", "\nanswer:", "\na:")


def question_text(value: object) -> str:
    """The question in a cell: a text, or messages of which the last user's counts. Raises ValueError otherwise."""
    if isinstance(value, str) and value.strip():
        return clean(value)
    if isinstance(value, (list, tuple)):
        asked = [m.get("content") for m in value if isinstance(m, dict) and m.get("role") == "user"]
        if asked and isinstance(asked[-1], str) and asked[-1].strip():
            return clean(asked[-1])
    raise ValueError("no question text")


def recording_files(files: Path | str | Sequence[Path | str]) -> list[Path]:
    """The files that are meant, those of a folder in order of their names. Raises UserError when there are none."""
    given = [files] if isinstance(files, (str, Path)) else list(files)
    paths: list[Path] = []
    for entry in map(Path, given):
        if entry.is_dir():
            inside = sorted(p for p in entry.rglob("*") if p.suffix in _SUFFIXES and not p.name.startswith("."))
            if not inside:
                raise UserError(f"no {', '.join(_SUFFIXES)} file in {entry}")
            paths += inside
        elif not entry.is_file():
            raise UserError(f"no recording at {entry}: the file does not exist")
        elif entry.suffix not in _SUFFIXES:
            raise UserError(f"{entry}: recordings are read from {', '.join(_SUFFIXES)} files")
        else:
            paths.append(entry)
    if not paths:
        raise UserError("no recording given; name a file or a folder: replay:FILE")
    return paths


def _rows(path: Path) -> Iterator[Any]:
    """Rows as parsed; a row that is no JSON comes back as the reason, a text."""
    if path.suffix == ".parquet":
        import polars as pl
        from polars.exceptions import PolarsError

        try:
            yield from pl.read_parquet(path).iter_rows(named=True)
        except PolarsError as error:
            raise DataError(f"{path} is not a readable Parquet file: {str(error)[:200]}") from error
        return
    if path.suffix == ".json":
        try:
            whole = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({str(error)[:100]}); one object per line goes into .jsonl") from error
        if not isinstance(whole, list):
            raise DataError(f"{path} holds a JSON {type(whole).__name__}; a list of objects is needed")
        yield from whole
        return
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield f"not JSON: {line[:60]!r}"


def _columns(path: Path, row: set[str], fields: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for what, names in COLUMNS.items():
        if what in fields:
            if fields[what] not in row:
                raise UserError(f"{path}: no column {fields[what]!r} (for {what}); it has {', '.join(sorted(row))}")
            found[what] = fields[what]
        else:
            name = next((n for n in names if n in row and n not in fields.values()), None)
            if name is not None:
                found[what] = name
    if "response" not in found or not {"question", "id"} & found.keys():
        what = "responses" if "response" not in found else "questions"
        raise UserError(
            f"{path}: no column with {what} among {', '.join(sorted(row))}; map it, e.g. "
            f"fields {{'{what[:-1]}': 'COLUMN'}} (columns tried: {', '.join(COLUMNS[what[:-1]])})"
        )
    return found


def _record(row: dict[str, Any], columns: dict[str, str], chat_format: ChatFormat) -> Record:
    cell = {what: row.get(name) for what, name in columns.items()}
    text = cell["response"]
    if not isinstance(text, str):
        raise ValueError(f"the response is {type(text).__name__}, not text")
    reasoning = cell.get("reasoning")
    if isinstance(reasoning, str) and reasoning.strip() and chat_format.think_close:
        text = f"{chat_format.think_open}{reasoning.strip()}{chat_format.think_close}{text}"
    identity = cell.get("id")
    if "id" in columns and identity is None:
        raise ValueError("no id")
    gold, index, tokens = cell.get("gold"), cell.get("index"), cell.get("tokens")
    return Record(
        question=question_text(cell["question"]) if "question" in columns else None,
        problem_id=None if identity is None else str(identity),
        text=clean(text),
        gold=None if gold is None else clean(str(gold)).rsplit("####", 1)[-1].strip(),
        order=index if isinstance(index, int) else 0,
        finish=Finish.STOP,
        tokens=tokens if isinstance(tokens, int) and tokens > 0 else 0,
    )


def _trace(row: dict[str, Any]) -> Record:
    """One of Stillroom's own traces; the recorded answer is the last turn of what it teaches."""
    role, text = "", ""
    for segment in row["taught"]:
        text = text + segment["text"] if segment["role"] == role else segment["text"]
        role = segment["role"]
    if role != "assistant":
        raise ValueError("the trace does not end with an assistant turn")
    return Record(
        question=question_text(row["asked"]),
        problem_id=str(row["problem_id"]),
        text=text,
        gold=None,
        order=row["index"],
        finish=Finish(row["finish"]),
        tokens=row["completion_tokens"],
    )

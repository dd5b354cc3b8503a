"""Layouts: how the rows of known data sets become problems. The same adapters serve a local file and a hub id."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stillroom.errors import DataError, UserError, unknown_name
from stillroom.tasks.answers import last_boxed
from stillroom.tasks.base import question
from stillroom.types import Problem

Row = Mapping[str, Any]
Fields = Mapping[str, str]

_HASH = re.compile(r"\n?[ \t]*####[ \t]*(\S[^\n]*?)\s*\Z")
_LABEL = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*", re.DOTALL)


class Layout(NamedTuple):
    """A row layout."""

    name: str
    summary: str
    fields: tuple[str, ...]
    """Names that a mapping may give columns for, with the column that is read by default."""
    adapt: Callable[[Row, Fields], Problem]
    """``adapt(row, columns)``: a problem without id (unless the row has one), task and split. Raises DataError."""
    fits: Callable[[Row], bool]
    chat_format: str = "boxed"
    """Of tasks that are made of such rows."""


def _column(row: Row, columns: Fields, field: str) -> Any:
    column = columns.get(field, field)
    if column not in row:
        raise DataError(f"no column {column!r}; it has {', '.join(map(str, row)) or 'none'}")
    return row[column]


def _optional(row: Row, columns: Fields, field: str) -> Any:
    return row.get(columns.get(field, field))


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"{field} is {value}")
        value = repr(value)
    if not isinstance(value, str):
        raise DataError(f"{field} is {'null' if value is None else type(value).__name__}, not text")
    if not value.strip():
        raise DataError(f"{field} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{field} is not valid UTF-8") from None
    return value.strip()


def _level(value: Any) -> int:
    """``5``, ``5.0``, ``"Level 5"``; 0 when there is none."""
    if isinstance(value, str):
        digits = re.search(r"\d{1,6}", value)
        return int(digits.group()) if digits else 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0
    return round(value)


def _id(row: Row, columns: Fields) -> str:
    value = _optional(row, columns, "id")
    return "" if value is None or value == "" else _text(value, "id")


def _solution(row: Row, columns: Fields) -> dict[str, Any]:
    value = _optional(row, columns, "solution")
    return {"solution": _text(value, "solution")} if isinstance(value, str) and value.strip() else {}


def _gsm8k(row: Row, columns: Fields) -> Problem:
    chain = _text(_column(row, columns, "answer"), "answer")
    gold = _HASH.search(chain[-500:])
    if gold is None:
        raise DataError("answer does not end in '#### X'")
    return Problem(
        id=_id(row, columns),
        task="",
        messages=question(_text(_column(row, columns, "question"), "question")),
        reference=gold.group(1),
        meta={"solution": chain[: len(chain) - len(gold.group())].strip()},
    )


def _math(row: Row, columns: Fields) -> Problem:
    answer = _optional(row, columns, "answer")
    solution = _solution(row, columns)
    if answer is None and solution:
        answer = last_boxed(solution["solution"])
        if answer is None:
            raise DataError("no answer, and the solution holds no \\boxed{}")
    level = _optional(row, columns, "level")
    kind = row.get("subject", row.get("type"))
    return Problem(
        id=_id(row, columns) or (row["unique_id"] if isinstance(row.get("unique_id"), str) else ""),
        task="",
        messages=question(_text(_column(row, {"question": "problem", **columns}, "question"), "problem")),
        reference=_text(answer, "answer"),
        level=_level(row.get("difficulty") if level is None else level),
        meta={**solution, **({"type": kind} if isinstance(kind, str) else {})},
    )


def _options(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise DataError(f"options are {type(value).__name__}, not a list")
    options = tuple(_text(option, "an option") for option in value)
    if not 2 <= len(options) <= 26:
        raise DataError(f"{len(options)} options; a choice has 2 to 26")
    return options


def _choice(text: str, options: tuple[str, ...], gold: str, **rest: Any) -> Problem:
    """Strips ``A)`` labels when all options carry theirs."""
    labels = [match.group(1) if (match := _LABEL.match(option)) else None for option in options]
    if labels == [chr(65 + index) for index in range(len(options))]:
        options = tuple(_LABEL.sub("", option).strip() for option in options)
    letter = gold.strip().strip("().").upper()
    if len(letter) != 1 or not 0 <= ord(letter) - 65 < len(options):
        same = [chr(65 + index) for index, option in enumerate(options) if option == gold.strip()]
        if len(same) != 1:
            raise DataError(f"answer {gold[:40]!r} is none of the {len(options)} options")
        letter = same[0]
    return Problem(task="", messages=question(text), reference=letter, options=options, **rest)


def _aqua(row: Row, columns: Fields) -> Problem:
    rationale = row.get("rationale")
    return _choice(
        _text(_column(row, columns, "question"), "question"),
        _options(_column(row, columns, "options")),
        _text(_column(row, {"answer": "correct", **columns}, "answer"), "correct"),
        id=_id(row, columns),
        meta={"solution": rationale} if isinstance(rationale, str) and rationale.strip() else {},
    )


def _commonsenseqa(row: Row, columns: Fields) -> Problem:
    asked = _column(row, columns, "question")
    # The original file nests stem and choices under the question; the hub's version has them flat.
    nested = isinstance(asked, Mapping)
    stem, choices = (asked.get("stem"), asked.get("choices")) if nested else (asked, row.get("choices"))
    if isinstance(choices, Mapping):
        labels, texts = choices.get("label"), choices.get("text")
    elif isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices):
        labels, texts = [choice.get("label") for choice in choices], [choice.get("text") for choice in choices]
    else:
        raise DataError("choices are neither a list of {label, text} nor {label: [...], text: [...]}")
    options = _options(texts)
    if not isinstance(labels, list) or labels != [chr(65 + index) for index in range(len(options))]:
        raise DataError(f"choices are labelled {labels!r}, not A, B, …")
    gold = _text(_column(row, {"answer": "answerKey", **columns}, "answer"), "answerKey")
    return _choice(_text(stem, "question"), options, gold, id=_id(row, columns))


def _plain(row: Row, columns: Fields) -> Problem:
    text = _text(_column(row, columns, "question"), "question")
    answer = _text(_column(row, columns, "answer"), "answer")
    rest: dict[str, Any] = {
        "id": _id(row, columns),
        "level": _level(_optional(row, columns, "level")),
        "meta": _solution(row, columns),
    }
    options = _optional(row, columns, "options")
    if options is not None:
        # Published sets hold such rows, too, and stay as they are to compare with others; an own file can be mended.
        chosen = _choice(text, _options(options), answer, **rest)
        twice = [option for number, option in enumerate(chosen.options) if option in chosen.options[:number]]
        if twice:
            raise DataError(f"option {twice[0][:40]!r} stands twice")
        return chosen
    return Problem(task="", messages=question(text), reference=answer, **rest)


def _ifeval(row: Row, columns: Fields) -> Problem:
    from stillroom.tasks.instructions.ifeval import adapt

    return adapt(row)


def _protoqa(row: Row, columns: Fields) -> Problem:
    from stillroom.tasks.protoqa import adapt

    return adapt(row)


def _simplebench(row: Row, columns: Fields) -> Problem:
    """The options stand at the end of the prompt, one a line, each with its letter."""
    prompt = _text(_column(row, columns, "prompt"), "prompt")
    text, *options = re.split(r"\n(?=[A-F]\. )", prompt)
    found = _options(options)
    name = row.get("question_id")
    return _choice(
        text.strip(),
        found,
        _text(_column(row, columns, "answer"), "answer"),
        id=f"simplebench/{name}" if isinstance(name, int) else "",
    )


def _nested(row: Row) -> bool:
    return "answerKey" in row and (isinstance(row.get("question"), Mapping) or "choices" in row)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "gsm8k",
            "question, answer (a chain that ends in '#### N')",
            ("question", "answer", "id"),
            _gsm8k,
            lambda row: isinstance(row.get("answer"), str) and "question" in row and "\n#### " in "\n" + row["answer"],
        ),
        Layout(
            "math",
            "problem, answer or a solution with \\boxed{}, level or difficulty",
            ("question", "answer", "solution", "level", "id"),
            _math,
            lambda row: "problem" in row and ("answer" in row or "solution" in row),
        ),
        Layout(
            "aqua",
            'question, options ("A)…"), correct',
            ("question", "options", "answer", "id"),
            _aqua,
            lambda row: "options" in row and "correct" in row,
        ),
        Layout(
            "commonsenseqa",
            "question.stem and question.choices, or question and choices; answerKey",
            ("question", "answer", "id"),
            _commonsenseqa,
            _nested,
        ),
        Layout(
            "ifeval",
            "prompt, instruction_id_list, kwargs",
            (),
            _ifeval,
            lambda row: "instruction_id_list" in row,
            "plain",
        ),
        Layout(
            "protoqa",
            "question, and clusters of answers with counts",
            (),
            _protoqa,
            lambda row: (
                "answers-cleaned" in row or (isinstance(row.get("answers"), Mapping) and "clusters" in row["answers"])
            ),
            "plain",
        ),
        Layout(
            "simplebench",
            "prompt that ends in options A to F, answer",
            ("prompt", "answer"),
            _simplebench,
            lambda row: "prompt" in row and "answer" in row and "question_id" in row,
        ),
        Layout(
            "plain",
            "question, answer; optional id, level, options, solution; each mapped by --field",
            ("question", "answer", "id", "level", "options", "solution"),
            _plain,
            lambda row: "question" in row and "answer" in row,
        ),
    )
}


def choose_layout(name: str | None, fields: Fields, first: Row, source: str) -> Layout:
    """The layout of that name; without a name the mapped one is plain, else the first whose columns are there.

    Args:
        name: of a layout, or None.
        fields: field → column, as the user gave it.
        first: a row to look at.
        source: for the message.

    Raises:
        UserError: for an unknown name or field, or when no layout fits.
    """
    if name is not None:
        if name not in LAYOUTS:
            raise unknown_name("layout", name, LAYOUTS)
        layout = LAYOUTS[name]
    elif fields:
        layout = LAYOUTS["plain"]
    else:
        fitting = [layout for layout in LAYOUTS.values() if layout.fits(first)]
        if not fitting:
            raise UserError(
                f"{source} has the columns {', '.join(map(repr, first))}, which fit no layout "
                f"({', '.join(LAYOUTS)}); say which hold what: --field question=COLUMN --field answer=COLUMN"
            )
        layout = fitting[0]
    for field in fields:
        if field not in layout.fields:
            raise unknown_name(f"field of layout {layout.name!r}", field, layout.fields)
    return layout

"""Files of paired items: LLMBar's layout, the released layouts of the four biases, and recorded detector verdicts.

What cannot be used is left out by name: a negative that is in truth right, a question that stands there twice.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.errors import DataError, UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import paired
from stillroom.tasks.paired import PairedItem, cue_faults
from stillroom.types import Noun


class Left(Noun):
    """A row that is not used, and why."""

    source: str
    row: int
    """From 1."""
    reason: str


class Paired(NamedTuple):
    """What a file gave."""

    items: list[PairedItem]
    left: list[Left]
    doubtful: list[Left]
    """Used, but worth a look: a rewritten choice that may no longer say the same."""
    rows: int


class Recorded(Noun):
    """A recorded verdict with its computed label and what a detector said of it."""

    bias: str
    evaluator: str
    label: bool
    said: str


MISLABELLED = "a side that should be wrong ends in the right number"
_BAD_ROW = (KeyError, TypeError, IndexError, AttributeError, ValueError)


def read_pairs(paths: Sequence[Path]) -> Paired:
    """Pairs to be judged in both orders, from LLMBar's files or folders of them.

    A row is ``{"input", "output_1", "output_2", "label": 1 or 2}``.

    Raises:
        UserError: no such file, no JSON, or no usable row at all.
    """

    def make(row: dict[str, Any], name: str) -> Iterator[PairedItem]:
        label = row["label"]
        if label not in (1, 2):
            raise UserError(f"label {label!r} is neither 1 nor 2")
        pair = (_text(row, "output_1"), _text(row, "output_2"))
        yield paired.position(name, _text(row, "input"), pair, label - 1, source=name.rpartition("/")[0])

    return _read(_files(paths), lambda row: make if "output_1" in row else None)


def read_biased(paths: Sequence[Path], *, seed: int = 0) -> Paired:
    """Paired items of the four biases from the released layouts, told apart by their fields.

    Verbosity rows give one item, arena rows two (position and bandwagon), sentiment rows one. The side of the right
    answer of a verbosity item is drawn from (seed, question), once for both versions.

    Raises:
        UserError: no such file, no JSON, an unknown layout, or no usable row at all.
    """
    seen: set[tuple[str, ...]] = set()

    def verbosity(row: dict[str, Any], name: str) -> Iterator[PairedItem]:
        question = _text(row, "question")
        side = derive_rng("gold side", seed, question).randrange(2)
        right, short, wrong = (_text(row, key) for key in ("answer", "single_correct_answer", "gemma_answer"))
        yield paired.verbosity(name, question, right, wrong, short, side, source="gsm8k")

    def arena(row: dict[str, Any], name: str) -> Iterator[PairedItem]:
        sides = [(_text(row[key], "response_a"), _text(row[key], "response_b")) for key in ("original", "reversed")]
        golds = [row[f"ground_truth_{key}"] - 1 for key in ("original", "reversed")]
        item = paired.position(f"{name}/position", _text(row, "prompt"), sides[0], golds[0], source="arena")
        if (item.candidates_b, item.gold_b) != (sides[1], golds[1]):
            raise UserError("the reversed version is not the original one with its sides swapped")
        yield item
        yield paired.bandwagon(f"{name}/bandwagon", item.instruction, sides[0], golds[0], 1 - golds[0], source="arena")

    def sentiment(row: dict[str, Any], name: str) -> Iterator[PairedItem]:
        hint = row.get("hint") or ""
        question = _text(row, "question") + (f"\n{hint}" if hint else "")
        key = (question, *row["choices"])
        if key in seen:
            raise UserError("the same question and choices stood there before")
        seen.add(key)
        yield paired.sentiment(
            name, question, row["choices"], row["sentiment_choices"], row["answer"], source="scienceqa"
        )

    def layout(row: dict[str, Any]) -> Callable[[dict[str, Any], str], Iterator[PairedItem]] | None:
        fields = {"gemma_answer": verbosity, "reversed": arena, "sentiment_choices": sentiment}
        return next((make for field, make in fields.items() if field in row), None)

    return _read(_files(paths), layout)


Make = Callable[[dict[str, Any], str], Iterator[PairedItem]]


def _read(files: Sequence[Path], layout: Callable[[dict[str, Any]], Make | None]) -> Paired:
    found = Paired([], [], [], 0)
    rows = 0
    for path in files:
        content = _rows(path)
        make = layout(content[0]) if content and isinstance(content[0], dict) else None
        if make is None:
            fields = sorted(content[0]) if content and isinstance(content[0], dict) else []
            raise UserError(
                f"{path} has a layout that is not known (fields: {', '.join(map(str, fields)) or 'none'}); known are "
                "LLMBar's (input, output_1, output_2, label) and those of docs/judges.md"
            )
        for number, row in enumerate(content, start=1):
            rows += 1
            try:
                items = list(make(row, f"{path.stem}/{number}"))
            except UserError as error:
                found.left.append(Left(source=path.name, row=number, reason=str(error)))
                continue
            except _BAD_ROW as error:
                reason = f"a field is missing or of the wrong kind ({type(error).__name__}: {error})"
                found.left.append(Left(source=path.name, row=number, reason=reason))
                continue
            for item in items:
                faults = cue_faults(item)
                note = Left(source=path.name, row=number, reason="; ".join(faults))
                if not faults:
                    found.items.append(item)
                elif item.bias == "sentiment":
                    found.items.append(item)
                    found.doubtful.append(note)
                else:
                    found.left.append(note)
    if not found.items:
        first = f"; the first: row {found.left[0].row}: {found.left[0].reason}" if found.left else ""
        raise DataError(f"no usable row among {rows} in {', '.join(map(str, files))}{first}")
    return found._replace(rows=rows)


def _text(row: dict[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise UserError(f"{key} is {type(value).__name__}, not text")
    return value


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.rglob("*.json"))
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"there is no file or folder {path}")
    if not found:
        raise UserError(f"no JSON file in {', '.join(map(str, paths))}")
    return found


def _rows(path: Path) -> list[Any]:
    """A JSON array, or JSON lines."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {str(error)[:200]}") from error
    if not isinstance(content, list):
        raise DataError(f"{path} holds {type(content).__name__}, not a list of rows")
    return content


def read_recorded(path: Path) -> list[Recorded]:
    """Recorded verdicts with labels: the released ``reasoning_supervision_test.csv``, or a table with its columns.

    Raises:
        UserError: no such file, missing columns, or a label that is neither Yes nor No.
    """
    import polars as pl

    names = {
        "bias_category": "bias",
        "llm_judge_model": "evaluator",
        "bias_label": "label",
        "deepseek_prediction_bias_label": "said",
    }
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no table: {str(error)[:200]}") from error
    missing = sorted(set(names) - set(frame.columns))
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(frame.columns[:20])}")
    rows = frame.select(list(names)).rename(names).to_dicts()
    for number, row in enumerate(rows, start=1):
        if row["label"] not in ("Yes", "No"):
            raise DataError(f"{path} row {number}: bias_label is {row['label']!r}, neither Yes nor No")
    return [Recorded(**{**row, "label": row["label"] == "Yes", "said": row["said"] or ""}) for row in rows]

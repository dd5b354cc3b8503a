"""Real sets in LogiGLUE's form, from $STILLROOM_DATA: FOLIO, BIG-Bench-Hard's logic, StrategyQA, CommonsenseQA.

They take the place of the set that a procedural family stands in for, or stand beside the twenty-four. Answers are
words: an option's text instead of its letter.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from stillroom.errors import DataError, UserError
from stillroom.seeds import digest
from stillroom.tasks.base import split_of
from stillroom.tasks.logic_family import Family, Format, Record, Type, to_problem
from stillroom.tasks.real import data_folder
from stillroom.types import Problem, Split

_LETTER = re.compile(r"\(([A-Z])\)\s*(.+)")


class RealFamily(NamedTuple):
    """A set on disk."""

    family: Family
    files: tuple[tuple[str, Split | None], ...]
    """Below $STILLROOM_DATA, with the split that each holds; None: split by the hash of the question."""
    read: Callable[[Path], Iterator[Record]]
    hub: str
    licence: str


def _never(rng: Random, depth: int) -> Record:
    raise UserError("a real set is read, not made")


def _json_lines(path: Path) -> Iterator[Any]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield json.loads(line)


def _folio(path: Path) -> Iterator[Record]:
    for row in _json_lines(path):
        label = {"True": "true", "False": "false", "Uncertain": "unknown", "Unknown": "unknown"}.get(
            row["label"].strip()
        )
        if label is None:
            raise DataError(f"FOLIO has no label {row['label']!r}")
        text = " ".join(premise.strip() for premise in row["premises"])
        asked = f"Is this conclusion true, false or unknown: {row['conclusion'].strip()}"
        yield Record(text, asked, label, ("true", "false", "unknown"))


def _hard(path: Path) -> Iterator[Record]:
    """BIG-Bench-Hard: options after "Options:", lettered or with dashes; else the answers that occur."""
    examples = json.loads(path.read_text(encoding="utf-8"))["examples"]
    every = tuple(sorted({example["target"].strip() for example in examples}))
    for example in examples:
        text, listed, options = example["input"].partition("\nOptions:\n")
        target = example["target"].strip()
        if not listed:
            yield Record("", text.strip().removeprefix("Question: "), target, every)
            continue
        lines = [line.strip() for line in options.splitlines() if line.strip()]
        lettered = {match[1]: match[2].strip() for line in lines if (match := _LETTER.fullmatch(line))}
        words = tuple(lettered.values()) if lettered else tuple(line.removeprefix("-").strip() for line in lines)
        answer = lettered.get(target.strip("()"), target)
        if answer in words and len(set(words)) == len(words):  # an example whose options repeat has no one answer
            yield Record("", text.strip(), answer, words)


def _strategy(path: Path) -> Iterator[Record]:
    for example in json.loads(path.read_text(encoding="utf-8"))["examples"]:
        scores = example["target_scores"]
        yield Record("", example["input"].strip(), max(scores, key=scores.get).lower(), ("yes", "no"))


def _commonsense(path: Path) -> Iterator[Record]:
    for row in _json_lines(path):
        choices = {choice["label"]: choice["text"].strip() for choice in row["question"]["choices"]}
        words = tuple(choices.values())
        if len({word.casefold() for word in words}) == len(words):
            yield Record("", row["question"]["stem"].strip(), choices[row["answerKey"]], words)


def _bbh(name: str, kind: Type, form: Format, *files: str) -> RealFamily:
    family = Family(f"real-{name}", kind, form, True, _never)
    return RealFamily(family, tuple((f"bbh/{file}.json", None) for file in files), _hard, "hf:lukaemon/bbh", "MIT")


REAL: dict[str, RealFamily] = {
    real.family.name: real
    for real in (
        RealFamily(
            Family("real-folio", "deductive", "FV", False, _never, world="open"),
            (("folio/train.jsonl", "train"), ("folio/validation.jsonl", "test")),
            _folio,
            "hf:yale-nlp/FOLIO",
            "CC-BY-SA-4.0",
        ),
        _bbh(
            *("logical-deduction", "deductive", "MCQA", "logical_deduction_three_objects"),
            "logical_deduction_five_objects",
        ),
        _bbh("formal-fallacies", "deductive", "FV", "formal_fallacies"),
        _bbh("web-of-lies", "deductive", "FV", "web_of_lies"),
        _bbh("boolean-expressions", "deductive", "FV", "boolean_expressions"),
        _bbh("tracking-objects", "deductive", "MCQA", "tracking_shuffled_objects_three_objects"),
        _bbh("temporal-sequences", "deductive", "MCQA", "temporal_sequences"),
        _bbh("causal-judgement", "abductive", "FV", "causal_judgement"),
        RealFamily(
            Family("real-strategyqa", "mixed", "FV", True, _never),
            (("strategyqa/task.json", None),),
            _strategy,
            "hf:ChilleD/StrategyQA",
            "Apache-2.0",
        ),
        RealFamily(
            Family("real-commonsenseqa", "mixed", "MCQA", True, _never),
            (("commonsenseqa/dev.jsonl", None),),
            _commonsense,
            "hf:tau/commonsense_qa",
            "MIT",
        ),
    )
}


def real_problems(name: str) -> Callable[[Split, int | None, int], list[Problem]]:
    """The `problems` function of a real set; raises UserError with the hub's id when its files are not here.

    A question that occurs twice is there once, in the split where it was first.
    """
    real, folder = REAL[name], data_folder()
    missing = [path for path, _ in real.files if not (folder / path).is_file()]
    if missing:
        raise UserError(
            f"family {name!r} needs {missing[0]} below {str(folder)!r}; set STILLROOM_DATA to the folder that has it "
            f"(the set is {real.hub} on the hub)"
        )
    return partial(_drawn, name, str(folder.resolve()))


def _drawn(name: str, folder: str, split: Split, n: int | None, seed: int) -> list[Problem]:
    own = _read(name, folder)[split]
    return sorted(own, key=lambda problem: digest("logic-order", str(seed), problem.id))[:n]


@lru_cache(maxsize=16)
def _read(name: str, folder: str) -> dict[Split, list[Problem]]:
    real = REAL[name]
    found: dict[Split, list[Problem]] = {"train": [], "dev": [], "test": []}
    seen = set[str]()
    # Test first: what stands in both is measured on, not trained on.
    for path, declared in sorted(real.files, key=lambda file: file[1] != "test"):
        try:
            records = list(real.read(Path(folder) / path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not in the format of {name.removeprefix('real-')}: {error!r}") from error
        for index, record in enumerate(records):
            problem = to_problem(real.family, record)
            text = problem.messages[0].content
            if text in seen:
                continue
            seen.add(text)
            split = declared or split_of(problem)
            if declared == "train" and split_of(problem) == "dev":
                split = "dev"
            stem = Path(path).stem
            found[split].append(problem.model_copy(update={"id": f"{name}/{stem}/{index}", "split": split}))
    return found

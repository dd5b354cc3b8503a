"""Compare our verdicts with those recorded beside 14,000 real answers, and list every disagreement.

A folder of data holds gsm8k/responses_llama2_7b.jsonl and gsm8k/responses_mistral_7b.jsonl: answers of two 7B models to
GSM8K-style problems, each with the prediction and the verdict (`result`) that were recorded with it.
"""

import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stillroom.errors import UserError
from stillroom.lab.run import command_line, commit
from stillroom.tasks.math import verify
from stillroom.types import Message, Problem

FILES = ("responses_llama2_7b.jsonl", "responses_mistral_7b.jsonl")
BAR = 0.9975

# Who is right, decided by reading each answer: (file, id) → (who, why). A disagreement that is not here is reported as
# undecided, and the bench fails.
SAME_NUMBER = "ours", "the answer and the gold are one number; the recorded verdict compared their spelling"
ADJUDICATED = {
    ("responses_llama2_7b.jsonl", ident): SAME_NUMBER
    for ident in (4114, 4123, 4317, 4605, 4666, 4726, 4843, 5213, 6241, 6735, 6854, 6885, 6950)
} | {
    ("responses_mistral_7b.jsonl", ident): SAME_NUMBER
    for ident in (4123, 4307, 4486, 4666, 4726, 4782, 4843, 5497, 5671, 6061, 6241, 6735, 6854, 6885, 6931, 6950)
}


def problem(row: dict[str, Any]) -> Problem:
    return Problem(
        id=str(row["id"]),
        task="gsm8k",
        messages=(Message(role="user", content=row["prompt"]),),
        reference=row["gold"],
    )


def compare_file(path: Path) -> dict[str, Any]:
    """Agreement on one file, with every disagreement."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    problems = [problem(row) for row in rows]
    start = time.process_time()
    strict = [verify(p, row["response"]) for p, row in zip(problems, rows, strict=True)]
    cpu_s = time.process_time() - start
    lenient = [verify(p, row["response"], strict=False) for p, row in zip(problems, rows, strict=True)]
    disagreements = []
    for row, verdict in zip(rows, strict, strict=True):
        if verdict.correct is row["result"]:
            continue
        who, why = ADJUDICATED.get((path.name, row["id"]), ("undecided", "not read yet"))
        disagreements.append(
            {
                "file": path.name,
                "id": row["id"],
                "tail": row["response"][-120:],
                "pred": row["pred"],
                "gold": row["gold"],
                "answer": verdict.answer,
                "ours": verdict.correct,
                "recorded": row["result"],
                "who_is_right": who,
                "why": why,
            }
        )
    return {
        "file": path.name,
        "answers": len(rows),
        "agree": len(rows) - len(disagreements),
        "no_answer": sum(verdict.reason == "no answer" for verdict in strict),
        "not_scored": sum(verdict.correct is None for verdict in strict),
        "lenient_differs": sum(a.correct is not b.correct for a, b in zip(strict, lenient, strict=True)),
        "cpu_s": round(cpu_s, 3),
        "disagreements": disagreements,
    }


def measure(data: Path) -> dict[str, Any]:
    """Agreement over both files, with every disagreement and who is right.

    Args:
        data: folder that holds ``gsm8k/``.

    Raises:
        UserError: when the recorded answers are not there.
    """
    for name in FILES:
        if not (data / "gsm8k" / name).is_file():
            raise UserError(f"no file {data / 'gsm8k' / name}; --data is the folder that holds gsm8k/{name}")
    files = [compare_file(data / "gsm8k" / name) for name in FILES]
    disagreements = [row for file in files for row in file.pop("disagreements")]
    answers = sum(file["answers"] for file in files)
    agreement = sum(file["agree"] for file in files) / answers
    right = Counter(row["who_is_right"] for row in disagreements)
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "python": platform.python_version(),
        "answers": answers,
        "agreement": agreement,
        "bar": BAR,
        "passed": agreement >= BAR and not right["undecided"],
        "agreement_after_adjudication": (answers - right["recorded"] - right["undecided"]) / answers,
        "who_is_right": dict(right),
        "lenient_differs_rate": sum(file["lenient_differs"] for file in files) / answers,
        "grades_per_cpu_s": round(answers / sum(file["cpu_s"] for file in files)),
        "files": files,
        "disagreements": disagreements,
    }

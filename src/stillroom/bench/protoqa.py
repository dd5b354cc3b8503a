"""The ProtoQA metric on the predictions that were published with the data: humans' and a fine-tuned GPT-2's lists."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from stillroom.errors import UserError
from stillroom.lab.run import command_line, commit, versions
from stillroom.tasks.protoqa import (
    Match,
    common_subsequence,
    common_substring,
    exact,
    mean_scores,
    read_clusters,
    rounded,
)

MATCHES: dict[str, Match] = {
    "exact": exact,
    "common_substring": rounded(common_substring),
    "common_subsequence": rounded(common_subsequence),
}
RECORDED = {"human": "dev.predictions.human.jsonl", "gpt2-finetuned": "dev.predictions.gpt2finetuned.json"}


def measure(data: Path) -> dict[str, Any]:
    """Every variant under every match that needs no thesaurus, for both sets of lists; passed when humans lead in all.

    Raises UserError when the data is not there.
    """
    folder = data / "protoqa"
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}; give --data the folder that holds protoqa/")
    rows = [json.loads(line) for line in _read(folder / "dev.crowdsourced.jsonl").splitlines()]
    questions = {row["metadata"]["id"]: read_clusters(row) for row in rows}
    scores = {
        who: {
            name: mean_scores(_lists(_read(folder / file)), questions, lru_cache(maxsize=None)(match))
            for name, match in MATCHES.items()
        }
        for who, file in RECORDED.items()
    }
    ours, theirs = scores["human"], scores["gpt2-finetuned"]
    return {
        "questions": len(questions),
        "scores": scores,
        "passed": all(ours[match][name] > theirs[match][name] for match in ours for name in ours[match]),
        "command": " ".join(command_line()),
        "commit": commit(),
        "versions": versions(),
    }


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _lists(text: str) -> dict[str, list[str]]:
    """One JSON object, or one a line."""
    found: dict[str, list[str]] = {}
    for line in [text] if text.lstrip().startswith("{") and "\n" not in text.strip() else text.splitlines():
        found |= json.loads(line)
    return found

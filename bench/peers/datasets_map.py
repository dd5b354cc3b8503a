"""The peer's side of traces-map: a row function through `datasets.map`, or the same rows batched.

Only the column that the function reads is kept, and only what it returns is written: a user who keeps the texts in the
result waits longer.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets

WORD = re.compile(r"\w+")


def map_rows(job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    datasets.disable_progress_bars()
    datasets.disable_caching()
    shards = sorted(str(path) for path in Path(job["traces"]).glob("*.parquet"))
    rows = datasets.Dataset.from_parquet(
        shards, columns=["taught"], cache_dir=str(Path(job["traces"]).parent / "cache")
    )
    n = job["n"]
    questions = [json.loads(line) for line in Path(job["evaluation"]).read_text(encoding="utf-8").splitlines()]

    def work() -> dict[str, Any]:
        seen: set[bytes] = set()
        evaluation = {gram for question in questions for gram in grams(question, n)}

        def row(taught: list[dict[str, Any]]) -> dict[str, Any]:
            question, response = taught[0]["text"], taught[-1]["text"]
            key = " ".join(question.split()) + "\0" + " ".join(response.split())
            digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
            repeated = digest in seen
            seen.add(digest)
            match = next((gram for gram in grams(question, n) if gram in evaluation), "")
            return {"length": len(response), "repeated": repeated, "match": match}

        def batch(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
            made = [row(taught) for taught in columns["taught"]]
            return {name: [one[name] for one in made] for name in ("length", "repeated", "match")}

        function = batch if job["batched"] else lambda one: row(one["taught"])
        found = rows.map(function, batched=job["batched"], remove_columns=rows.column_names)
        return summed(found["length"], found["repeated"], found["match"])

    return work


def grams(text: str, n: int) -> list[str]:
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def summed(length: list[int], repeated: list[bool], match: list[str]) -> dict[str, Any]:
    done = list(zip(length, repeated, match, strict=True))
    lines = "\n".join(f"{a} {b:d} {c}" for a, b, c in done)
    return {
        "amount": float(len(done)),
        "repeated": sum(b for _, b, _ in done),
        "leaked": sum(c != "" for _, _, c in done),
        "digest": hashlib.blake2b(lines.encode(), digest_size=16).hexdigest(),
    }

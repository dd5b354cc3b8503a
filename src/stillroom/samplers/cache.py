"""Answers that were paid for, kept for good: one JSON line per answer, keyed by the content of its request."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stillroom.samplers.jsonlog import JsonLog
from stillroom.seeds import digest
from stillroom.types import Response


def request_key(request: dict[str, Any]) -> str:
    """Content hash of everything that decides an answer: model, messages, parameters, the response's seed."""
    return digest(json.dumps(request, sort_keys=True))


class ResponseCache:
    """A folder's recorded answers, read once at the start and appended to as answers arrive.

    Args:
        folder: holds ``answers.jsonl``; created when absent. Several processes may share it.
    """

    def __init__(self, folder: Path | str) -> None:
        self._log = JsonLog(Path(folder) / "answers.jsonl")
        self._answers: dict[str, Response] = {}
        self.skipped = 0
        """Records that a kill cut short or that another version wrote; their requests are sent again."""
        for record in self._log.read_new():
            try:
                self._answers[record["key"]] = Response.model_validate(record["response"])
            except (KeyError, TypeError, ValidationError):
                self.skipped += 1
        self.skipped += self._log.torn

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def get(self, key: str) -> Response | None:
        return self._answers.get(key)

    def put(self, key: str, response: Response) -> None:
        """Keep an answer; it is on disk when this returns."""
        self._log.append({"key": key, "response": response.model_dump(mode="json", exclude_defaults=True)})
        self._answers[key] = response

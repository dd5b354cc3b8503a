"""An append-only file of JSON lines that several processes may share and that no kill can corrupt."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stillroom.io import parse_lines, write_line


class JsonLog:
    """Lines are written whole, flushed to disk, and never changed.

    A line that a kill cut short is closed off by the next writer and passed over by every reader (`torn` counts them):
    a record exists exactly when its `append` returned, or was about to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._read_to = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator["_Locked"]:
        """Sole access among all processes; everything inside is one transaction."""
        with open(self.path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also by a kill
            yield _Locked(self, file)

    def append(self, record: dict[str, Any]) -> None:
        with self.locked() as log:
            log.append(record)

    def read_new(self) -> list[dict[str, Any]]:
        """The records appended since the last call, by this process or another; all of them the first time."""
        with self.locked() as log:
            return log.read_new()


class _Locked:
    def __init__(self, log: JsonLog, file: BinaryIO) -> None:
        self._log = log
        self._file = file

    def append(self, record: dict[str, Any]) -> None:
        write_line(self._file, record)

    def read_new(self) -> list[dict[str, Any]]:
        self._file.seek(self._log._read_to)
        data = self._file.read()
        self._log._read_to += data.rfind(b"\n") + 1
        found = list(parse_lines(data))
        records = [record for record in found if record is not None]
        self._log.torn += len(found) - len(records)
        return records

"""Files that are either whole or absent, and JSON lines that survive a kill."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write beside the target, flush to disk, rename: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Atomic, sorted and indented, so that two files can be compared."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def append_line(path: Path, record: dict[str, Any], *, sync: bool = True) -> None:
    """Append one JSON line as `write_line` does."""
    with open(path, "a+b") as file:
        write_line(file, record, sync=sync)


def write_line(file: BinaryIO, record: dict[str, Any], *, sync: bool = True) -> None:
    """Append one JSON line to a file opened with ``a+b``; it outlives a kill, and with `sync` a loss of power too.

    A last line that a kill cut short is closed off first, so that it spoils nothing but itself.
    """
    # ASCII escapes: a model may have written lone surrogates, which UTF-8 cannot hold.
    line = json.dumps(record).encode("ascii") + b"\n"
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            line = b"\n" + line
    file.write(line)
    file.flush()
    if sync:
        os.fsync(file.fileno())


def parse_lines(data: bytes) -> Iterator[dict[str, Any] | None]:
    """The records of whole JSON lines; None for one that a kill cut short."""
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        yield record if isinstance(record, dict) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of JSON lines, none when it is absent; lines that a kill cut short are passed over."""
    if path.exists():
        yield from (record for record in parse_lines(path.read_bytes()) if record is not None)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece that takes its name only when whole and on disk; gone when the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

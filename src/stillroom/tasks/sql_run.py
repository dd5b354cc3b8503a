"""Running SQL: what a model wrote in a guarded process, what we wrote in this one.

`execute` is for anything that is not our own. Its limits are counts, so that its outcome is the same on every machine,
but for a process that dies, which is no verdict on the query. The last resort against what is not counted (a function
that searches a long text for another) is CPU time, forty times what the counted operations take.
"""

import os
import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.tasks.sql_schema import Cell, Database, read_only
from stillroom.tasks.workers import CpuTimedOut, Died, TimedOut, Worker

CPU_LIMIT_S = 2
"""Per query on all instances of a database, in the guarded process."""
_CACHED = 4_096


class Failure(StrEnum):
    """Why a query gave no rows."""

    EMPTY = "empty"
    """There is no statement."""
    NOT_A_QUERY = "not a query"
    """It does not begin with SELECT, WITH or VALUES."""
    SEVERAL = "several"
    """More than one statement."""
    TOO_LONG = "too long"
    REFUSED = "refused"
    """It would do something that is not allowed, or read a table that is not there for it."""
    ERROR = "error"
    """SQLite says that it is wrong: syntax, unknown table or column, …"""
    OPERATIONS = "operations"
    ROWS = "rows"
    BYTES = "bytes"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    """CPU time ran out where operations are not counted."""
    DIED = "died"
    """The guarded process died, did not start or was never given the processor; not judged."""


class Limits(NamedTuple):
    """What a query may use, the same on every machine."""

    operations: int = 2_000_000
    """Of SQLite's virtual machine: about 50 ms."""
    rows: int = 1_000
    size: int = 200_000
    """Characters and bytes of the result."""


class Result(NamedTuple):
    """What a query gave on one database."""

    rows: tuple[tuple[Cell, ...], ...] = ()
    failure: Failure | None = None
    message: str = ""
    tables: tuple[str, ...] = ()
    """Tables that it reads, as far as it could be compiled."""


class _Guard:
    """This process's worker, and which databases it has been told of."""

    def __init__(self) -> None:
        self.worker = Worker("sql_guard")
        self.told: set[str] = set()

    def ask(self, request: dict[str, Any], databases: Sequence[Database] = ()) -> Any:
        """The worker's answer. Raises TimedOut or Died."""
        with self.worker.lock:
            if self.worker.start(CPU_LIMIT_S):
                self.told.clear()
            new = [database for database in databases if database.key not in self.told]
            if databases:
                sources = {database.key: {"script": database.script, "path": database.path} for database in new}
                request |= {"databases": [database.key for database in databases], "sources": sources}
            (answer,) = self.worker.ask([request], CPU_LIMIT_S)
            self.told |= {database.key for database in new}
        return answer


_guards: dict[int, _Guard] = {}
_memory: dict[tuple[str, tuple[str, ...], Limits], tuple[Result, ...]] = {}


def _guard() -> _Guard:
    # Keyed by process: a forked child must not talk through its parent's pipes.
    return _guards.setdefault(os.getpid(), _Guard())


def execute(sql: str, databases: Sequence[Database], limits: Limits = Limits()) -> list[Result]:
    """Run one query, any text, on every database given.

    Repeated questions are answered from memory; what was not judged is tried again.
    """
    key = (sql, tuple(database.key for database in databases), limits)
    found = _memory.get(key)
    if found is None:
        found = _execute(sql, databases, limits)
        if not any(result.failure is Failure.DIED for result in found):
            if len(_memory) >= _CACHED:
                _memory.clear()
            _memory[key] = found
    return list(found)


def _execute(sql: str, databases: Sequence[Database], limits: Limits) -> tuple[Result, ...]:
    try:
        answers = _ask({"sql": sql, "limits": limits._asdict()}, databases)
    except CpuTimedOut:
        late = Result(failure=Failure.TIMEOUT, message=f"no result within {CPU_LIMIT_S} CPU-seconds")
        return (late,) * len(databases)
    except (Died, TimedOut):
        return (Result(failure=Failure.DIED, message="the process that runs queries was lost"),) * len(databases)
    return tuple(
        Result(
            rows=tuple(tuple(_cell(cell) for cell in row) for row in answer["rows"]),
            failure=Failure(answer["kind"]) if answer["kind"] else None,
            message=answer["message"],
            tables=tuple(answer["tables"]),
        )
        for answer in answers
    )


def _ask(request: dict[str, Any], databases: Sequence[Database] = ()) -> Any:
    """The guard's answer; a guard that dies is given a second chance, since it need not have died of this request."""
    try:
        return _guard().ask(dict(request), databases)
    except Died:
        return _guard().ask(dict(request), databases)


def _cell(value: Any) -> Cell:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def analysed(sql: str, tables: dict[str, tuple[str, ...]]) -> dict[str, Any] | None:
    """What `sql_parse.analyse` finds in a query, any text; None when it could not be said within the limits."""
    try:
        found: dict[str, Any] | None = _ask({"analyse": sql, "tables": tables})
    except (TimedOut, Died):
        return None
    return found


def stop() -> None:
    """End this process's worker, if it has one; the next query starts another."""
    guard = _guards.get(os.getpid())
    if guard is not None:
        with guard.worker.lock:
            guard.worker.stop()


@lru_cache(maxsize=256)
def _opened(database: Database) -> sqlite3.Connection:
    # One connection for all threads: SQLite itself takes turns.
    if database.path:
        return read_only(Path(database.path))
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(database.script)
    return connection


def trusted(database: Database, sql: str) -> list[tuple[Cell, ...]]:
    """The rows of a query that we wrote ourselves, in this process and without limits."""
    return _opened(database).execute(sql).fetchall()

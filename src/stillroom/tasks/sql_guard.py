"""The process in which SQL that a model wrote is run and parsed. Started by `sql_run` alone.

What keeps it in: one statement that begins with SELECT, WITH or VALUES; an authoriser that allows reading the tables of
the database and calling harmless functions, and nothing else; a connection that is read-only; a count of the virtual
machine's operations, which is the same on every run; caps on rows and bytes of the result, on lengths and depths inside
SQLite and on its memory. Around all that stand the limits of the process: CPU time, memory, and no byte into any file.
"""

import re
import resource
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from stillroom.tasks.sql_schema import read_only
from stillroom.tasks.workers import serve

MEMORY_BYTES = 1 << 30
HEAP_BYTES = 64 << 20
"""Of SQLite, for all databases that it holds and whatever a query builds."""
LONGEST_SQL = 8_000
"""Characters; a longer query is refused."""
_TICK = 1_000
_BEGIN = re.compile(r"(?:[\s;]|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*(\w*)", re.DOTALL)
_WORDS = """
    abs avg cast ceil ceiling char coalesce count cume_dist date datetime dense_rank first_value floor format
    glob group_concat hex ifnull iif instr julianday lag last_value lead length like likely log lower ltrim max
    min mod nth_value ntile nullif percent_rank pow power printf quote rank replace round row_number rtrim sign
    sqrt strftime string_agg substr substring sum time total trim trunc typeof unicode unixepoch unlikely upper
"""
_FUNCTIONS = frozenset(_WORDS.split())
"""Not there: whatever draws at random, makes bytes out of nothing, reads JSON or files, or tells of the library."""
_PRAGMAS = (f"hard_heap_limit = {HEAP_BYTES}", "temp_store = MEMORY", "query_only = ON", "trusted_schema = OFF")
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * LONGEST_SQL,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 50_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def main(cpu_limit_s: int) -> None:
    """Serve until the input closes or the parent is gone."""
    serve(_prepare, cpu_limit_s, MEMORY_BYTES)


def _prepare() -> Callable[[Any], Any]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sources: dict[str, dict[str, str]] = {}

    @lru_cache(maxsize=128)
    def opened(key: str) -> Guarded:
        return Guarded(**sources[key])

    def answer(request: dict[str, Any]) -> Any:
        if "analyse" in request:
            from stillroom.tasks.sql_parse import analyse

            return analyse(request["analyse"], request["tables"])
        sources.update(request["sources"])
        limits = request["limits"]
        return [opened(key).run(request["sql"], **limits) for key in request["databases"]]

    return answer


class Guarded:
    """A database that a model may question.

    Args:
        script: builds it in memory; or
        path: of an SQLite file.
    """

    def __init__(self, script: str, path: str) -> None:
        self._connection = read_only(Path(path)) if path else sqlite3.connect(":memory:")
        if script:
            self._connection.executescript(script)
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        names = self._connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        self._tables = {str(name) for (name,) in names if not str(name).lower().startswith("sqlite_")}
        self._modules = {str(name).lower() for (name,) in self._connection.execute("PRAGMA module_list")}
        for limit, value in _LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_authorizer(self._allow)
        self._connection.set_progress_handler(self._tick, _TICK)
        self._left, self._read, self._refused = 0, set[str](), ""

    def _allow(self, action: int, first: str | None, second: str | None, database: str | None, view: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and first in self._tables:
            self._read.add(first)
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and not second and not self._built_in(first or ""):
            return sqlite3.SQLITE_OK  # COUNT(*) of a derived table, whose own parts are asked for as well
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS:
            return sqlite3.SQLITE_OK
        self._refused = self._refused or f"{_ACTIONS.get(action, f'action {action}')} {second or first or ''}".strip()
        return sqlite3.SQLITE_DENY

    def _built_in(self, name: str) -> bool:
        """Whether a table is one of SQLite's own or of its modules'."""
        return name.lower() in self._modules or name.lower().startswith(("sqlite_", "pragma_"))

    def _tick(self) -> bool:
        self._left -= _TICK
        return self._left < 0

    def run(self, sql: str, operations: int, rows: int, size: int) -> dict[str, Any]:
        """The rows, or the kind of error (`sql_run.Failure`) and what it says; and which tables it reads.

        Args:
            operations: most operations of SQLite's virtual machine, checked every thousand.
            rows: most rows of the result.
            size: most characters and bytes in the result.
        """
        self._left, self._read, self._refused = operations, set(), ""
        kind, message, found = "", "", list[list[Any]]()
        begin = _BEGIN.match(sql)
        word = begin[1].upper() if begin else ""
        if len(sql) > LONGEST_SQL:
            kind, message = "too long", f"more than {LONGEST_SQL} characters"
        elif begin is None or (begin.end() == len(sql) and not word):
            kind, message = "empty", "there is no statement"
        elif word not in ("SELECT", "WITH", "VALUES"):
            kind, message = "not a query", f"it begins with {word[:20]!r}"
        else:
            kind, message, found = self._rows(sql, rows, size)
        return {"kind": kind, "message": message[:200], "rows": found, "tables": sorted(self._read)}

    def _rows(self, sql: str, rows: int, size: int) -> tuple[str, str, list[list[Any]]]:
        found: list[list[Any]] = []
        cursor = self._connection.cursor()
        try:
            for row in cursor.execute(sql):
                found.append([{"hex": cell.hex()} if isinstance(cell, bytes) else cell for cell in row])
                size -= sum(len(cell) if isinstance(cell, (str, bytes)) else 8 for cell in row)
                if len(found) > rows:
                    return "rows", f"more than {rows} rows", []
                if size < 0:
                    return "bytes", "a result of too many bytes", []
        except sqlite3.Warning as error:  # more than one statement
            return "several", str(error), []
        except MemoryError:
            return "memory", "out of memory", []
        except (sqlite3.Error, UnicodeError, ValueError, OverflowError) as error:
            return self._why(error), self._refused or str(error), []
        finally:
            cursor.close()
        return "", "", found

    def _why(self, error: Exception) -> str:
        if self._refused:
            return "refused"
        text = str(error)
        if text == "interrupted":
            return "operations"
        if "one statement at a time" in text:
            return "several"
        return "memory" if "out of memory" in text else "error"


_ACTIONS = {
    value: name.removeprefix("SQLITE_").lower().replace("_", " ")
    for name, value in sorted(vars(sqlite3).items())
    if name.startswith(("SQLITE_CREATE_", "SQLITE_DROP_"))
    or name
    in (
        *("SQLITE_READ", "SQLITE_FUNCTION", "SQLITE_PRAGMA", "SQLITE_ATTACH", "SQLITE_DETACH", "SQLITE_INSERT"),
        *("SQLITE_UPDATE", "SQLITE_DELETE", "SQLITE_TRANSACTION", "SQLITE_SAVEPOINT", "SQLITE_ANALYZE"),
        *("SQLITE_REINDEX", "SQLITE_ALTER_TABLE"),
    )
}
"""Authoriser action → how it is told."""

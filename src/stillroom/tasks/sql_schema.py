"""Database schemas as data: written as DDL or in one short line a table, read from SQLite files and Spider's tables.

A `Schema` says what can be asked; a `Database` adds rows, or a file that holds them. Names are kept as they are written
and quoted where SQL needs it.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from stillroom.errors import DataError, UserError
from stillroom.seeds import digest
from stillroom.types import Noun

Kind = Literal["integer", "real", "text"]
Cell = int | float | str | bytes | None
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = """
    add all alter and as asc between by case check collate column commit constraint create cross current_date
    current_time current_timestamp default deferrable delete desc distinct drop else end escape except exists
    filter foreign from full glob group having if in index inner insert intersect into is isnull join key left
    like limit match natural not notnull null offset on or order outer over primary references regexp right row
    select set table then to transaction trigger union unique update using values view when where window with
"""
_RESERVED = frozenset(_WORDS.split())


class Column(Noun):
    """One column; `key` marks a table's only primary key."""

    name: str
    kind: Kind = "text"
    key: bool = False


class Link(Noun):
    """A foreign key: `column` of the table that has it holds a value of `parent_column` of `parent`."""

    column: str
    parent: str
    parent_column: str


class Table(Noun):
    """Columns in order, and foreign keys."""

    name: str
    columns: tuple[Column, ...]
    links: tuple[Link, ...] = ()


class Schema(Noun):
    """Tables in an order in which parents come before children where that is possible."""

    name: str
    tables: tuple[Table, ...]


@dataclass(frozen=True, eq=False)
class Database:
    """A schema with its rows: either written as a script, or in an SQLite file that is only ever read."""

    schema: Schema
    script: str = ""
    path: str = ""

    @cached_property
    def key(self) -> str:
        """Names its content."""
        return digest(self.script, self.path)


@lru_cache(maxsize=4_096)
def quoted(name: str) -> str:
    """A name as SQL writes it.

    >>> quoted("town"), quoted("order"), quoted("Home Town")
    ('town', '"order"', '"Home Town"')
    """
    plain = _PLAIN.fullmatch(name) and name.lower() not in _RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def literal(value: Cell) -> str:
    """A value as SQL writes it; raises UserError for a float that is not finite."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, float) and not (abs(value) < float("inf")):
        raise UserError(f"{value} cannot be written in SQL; leave the row out")
    return repr(value)


def ddl(schema: Schema) -> str:
    """``CREATE TABLE`` statements, one a line."""
    lines = []
    for table in schema.tables:
        parents = {link.column: link for link in table.links}
        columns = []
        for column in table.columns:
            text = f"{quoted(column.name)} {column.kind.upper()}" + (" PRIMARY KEY" if column.key else "")
            if column.name in parents:
                link = parents[column.name]
                text += f" REFERENCES {quoted(link.parent)}({quoted(link.parent_column)})"
            columns.append(text)
        lines.append(f"CREATE TABLE {quoted(table.name)} ({', '.join(columns)});")
    return "\n".join(lines)


def short(schema: Schema) -> str:
    """One line a table, with foreign keys as arrows: ``pet(id, name, owner_id -> owner.id)``."""
    lines = []
    for table in schema.tables:
        parents = {link.column: f" -> {link.parent}.{link.parent_column}" for link in table.links}
        columns = ", ".join(quoted(column.name) + parents.get(column.name, "") for column in table.columns)
        lines.append(f"{quoted(table.name)}({columns})")
    return "\n".join(lines)


def script(schema: Schema, rows: Mapping[str, Iterable[tuple[Cell, ...]]]) -> str:
    """What builds the database: its tables and their rows."""
    lines = [ddl(schema)]
    for table in schema.tables:
        values = ",".join("(" + ",".join(map(literal, row)) + ")" for row in rows.get(table.name, ()))
        if values:
            lines.append(f"INSERT INTO {quoted(table.name)} VALUES {values};")
    return "\n".join(lines)


def items(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Table → columns, all in lower case, as SQL compares names."""
    return {table.name.lower(): tuple(column.name.lower() for column in table.columns) for table in schema.tables}


def find(schema: Schema, table: str) -> Table:
    """The table of that name."""
    return next(found for found in schema.tables if found.name == table)


def read_only(path: Path) -> sqlite3.Connection:
    """An SQLite file that this connection cannot change; raises UserError when there is none."""
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}; give the path of an SQLite database")
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)


def from_sqlite(path: Path) -> Schema:
    """The schema of an SQLite file, views left out; raises UserError when it is none."""
    with closing(read_only(path)) as connection:
        try:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
            ).fetchall()
            tables = [_table_of(connection, name) for (name,) in names]
        except sqlite3.DatabaseError as error:
            raise UserError(f"{str(path)!r} is no SQLite database: {error}") from error
    return Schema(name=path.stem, tables=_parents_first(tables))


def _table_of(connection: sqlite3.Connection, name: str) -> Table:
    rows = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
    keys = [row[1] for row in rows if row[5]]
    links: dict[str, Link] = {}
    for _, _, parent, column, to, *_ in connection.execute(f"PRAGMA foreign_key_list({quoted(name)})"):
        links.setdefault(column, Link(column=column, parent=parent, parent_column=to or "id"))
    columns = tuple(Column(name=row[1], kind=_kind(row[2]), key=keys == [row[1]]) for row in rows)
    return Table(name=name, columns=columns, links=tuple(links.values()))


def _kind(declared: str) -> Kind:
    """SQLite's affinity rules, with everything numeric but integers as real."""
    upper = declared.upper()
    if "INT" in upper or "BOOL" in upper:
        return "integer"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT", "BLOB", "DATE", "TIME")) or not upper:
        return "text"
    return "real"


def from_spider(path: Path) -> list[Schema]:
    """The schemas of Spider's ``tables.json``.

    A foreign key is kept when both ends are columns of tables, one for each column; SQLite's own tables are left out.

    Raises:
        UserError: no such file, or not that format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [_from_spider(entry) for entry in found]
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{str(path)!r} is not in the format of Spider's tables.json: {error!r}") from error


def _from_spider(entry: Mapping[str, Any]) -> Schema:
    columns: list[tuple[int, str]] = [(at, name) for at, name in entry["column_names_original"]]
    names: list[str] = entry["table_names_original"]
    keys = [key for key in entry["primary_keys"] if isinstance(key, int)]
    tables = []
    for number, name in enumerate(names):
        if name.lower().startswith("sqlite_"):  # SQLite's own bookkeeping, listed by mistake
            continue
        own = [index for index, (at, _) in enumerate(columns) if at == number]
        own_keys = [index for index in own if index in keys]
        links: dict[str, Link] = {}
        for child, parent in entry["foreign_keys"]:
            if child in own and columns[parent][0] >= 0:
                column, (at, to) = columns[child][1], columns[parent]
                links.setdefault(column, Link(column=column, parent=names[at], parent_column=to))
        tables.append(
            Table(
                name=name,
                columns=tuple(
                    Column(
                        name=columns[index][1],
                        kind="integer" if entry["column_types"][index] == "number" else "text",
                        key=own_keys == [index],
                    )
                    for index in own
                ),
                links=tuple(links.values()),
            )
        )
    return Schema(name=entry["db_id"], tables=_parents_first(tables))


def _parents_first(tables: list[Table]) -> tuple[Table, ...]:
    """In the order given, but a child after its parents; what refers to each other in a circle stays as it was."""
    waiting, done = list(tables), list[Table]()
    while waiting:
        names = {table.name for table in waiting}
        free = [t for t in waiting if not any(link.parent in names - {t.name} for link in t.links)] or waiting[:1]
        done += free
        waiting = [table for table in waiting if table not in free]
    return tuple(done)

"""What a query names, against SQLite's own account of what it reads."""

import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("sqlglot")

from stillroom.tasks.sql import sql_task
from stillroom.tasks.sql_data import databases
from stillroom.tasks.sql_parse import analyse
from stillroom.tasks.sql_run import analysed
from stillroom.tasks.sql_schema import Schema, ddl, from_spider, items

TABLES = {"pet": ("id", "name", "age", "owner_id"), "owner": ("id", "name", "town")}


def read_by_sqlite(schema: Schema, sql: str) -> tuple[set[str], set[str]] | None:
    """Tables and columns that SQLite asks leave to read; None when the query does not compile."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(ddl(schema))
    tables, columns = set[str](), set[str]()

    def allow(action: int, table: str | None, column: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table and not table.startswith("sqlite_"):
            tables.add(table.lower())
            columns.update([f"{table.lower()}.{column.lower()}"] if column else ())
        return sqlite3.SQLITE_OK

    connection.set_authorizer(allow)
    try:
        connection.execute(sql)
    except sqlite3.Error:
        return None
    return tables, columns


@pytest.mark.parametrize(
    ("sql", "tables", "columns"),
    [
        ("SELECT Name FROM Pet", "pet", "pet.name"),
        ("SELECT p.name FROM pet AS p", "pet", "pet.name"),
        ("SELECT count(*) FROM pet", "pet", ""),
        ("SELECT * FROM owner", "owner", "owner.id owner.name owner.town"),
        ("SELECT p.age, o.* FROM pet p, owner o", "owner pet", "pet.age owner.id owner.name owner.town"),
        ("SELECT x.a FROM (SELECT age AS a FROM pet) x", "pet", "pet.age"),
        ("WITH q AS (SELECT age FROM pet) SELECT q.age FROM q", "pet", "pet.age"),
        (
            "SELECT town FROM owner WHERE id IN (SELECT owner_id FROM pet)",
            "owner pet",
            "owner.town owner.id pet.owner_id",
        ),
        (
            "SELECT name FROM owner o WHERE EXISTS (SELECT 1 FROM pet WHERE owner_id = o.id)",
            "owner pet",
            "owner.name owner.id pet.owner_id",
        ),
        ("SELECT town FROM pet JOIN owner USING (id)", "owner pet", "owner.town owner.id pet.id"),
        ("SELECT age FROM pet UNION SELECT town FROM owner", "owner pet", "pet.age owner.town"),
        ("SELECT 1", "", ""),
        ("SELECT nope FROM nowhere", "", ""),
    ],
)
def test_items_are_resolved(sql: str, tables: str, columns: str) -> None:
    found = analyse(sql, TABLES)
    assert found is not None
    assert (set(found["tables"]), set(found["columns"])) == (set(tables.split()), set(columns.split()))


@pytest.mark.parametrize(
    "sql", ["", "SELECT", "DROP TABLE pet", "SELECT 1; SELECT 2", "(" * 40 + ")" * 40, "x" * 5_000, "SELEC"]
)
def test_what_is_no_query_has_no_analysis(sql: str) -> None:
    assert analyse(sql, TABLES) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "SELECT p.name FROM pet p WHERE p.age > 3 AND p.id = 1",
            "select pet.NAME from pet where 1 = pet.id and pet.age > 3",
        ),
        ("SELECT name AS n FROM pet", 'SELECT "name" FROM pet'),
        (
            "SELECT pet.age FROM pet JOIN owner ON pet.owner_id = owner.id",
            "SELECT a.age FROM pet a JOIN owner b ON b.id = a.owner_id",
        ),
    ],
)
def test_clauses_have_one_form(one: str, other: str) -> None:
    left, right = analyse(one, TABLES), analyse(other, TABLES)
    assert left is not None
    assert right is not None
    assert left["clauses"] == right["clauses"]
    assert left["clauses"] != analyse("SELECT age FROM pet LIMIT 2", TABLES)["clauses"]  # type: ignore[index]


def test_made_up_golds_name_what_sqlite_reads() -> None:
    for problem in sql_task().problems("train", 100, 0):
        schema, gold = databases(problem.assets["database"])[0].schema, problem.reference or ""
        found, read = analyse(gold, items(schema)), read_by_sqlite(schema, gold)
        assert found is not None
        assert (set(found["tables"]), set(found["columns"])) == read, gold


def test_spider_golds_name_what_sqlite_reads(data_dir: Path) -> None:
    schemas = {schema.name: schema for schema in from_spider(data_dir / "sql" / "spider_tables.json")}
    lines = (data_dir / "sql" / "spider_example_gold.txt").read_text().splitlines()
    golds = [line.split("\t") for line in lines if "\t" in line]
    compared = 0
    for sql, name in golds:
        read = read_by_sqlite(schemas[name.strip()], sql)
        if read is not None:
            found = analyse(sql, items(schemas[name.strip()]))
            assert found is not None, sql
            compared += 1
            assert (set(found["tables"]), set(found["columns"])) == read, sql
    assert compared > 200


def test_the_guarded_process_gives_the_same_analysis() -> None:
    assert analysed("SELECT name FROM pet", TABLES) == analyse("SELECT name FROM pet", TABLES)
    assert analysed("no query", TABLES) is None

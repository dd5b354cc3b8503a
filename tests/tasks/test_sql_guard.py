"""SQL that a model wrote: what it may read, and all that it may not do."""

import resource
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_attacks import BOMBS, WRITES

from stillroom.tasks import sql_run
from stillroom.tasks.sql_run import Failure, Limits, execute
from stillroom.tasks.sql_schema import Cell, Column, Database, Link, Schema, Table, from_sqlite, script

SCHEMA = Schema(
    name="pets",
    tables=(
        Table(name="owner", columns=(Column(name="id", kind="integer", key=True), Column(name="name"))),
        Table(
            name="pet",
            columns=(
                Column(name="id", kind="integer", key=True),
                Column(name="name"),
                Column(name="age", kind="integer"),
                Column(name="owner_id", kind="integer"),
            ),
            links=(Link(column="owner_id", parent="owner", parent_column="id"),),
        ),
    ),
)
ROWS: dict[str, list[tuple[Cell, ...]]] = {
    "owner": [(1, "Ada"), (2, "Ben")],
    "pet": [(1, "Rex", 3, 1), (2, "Tom", None, 1), (3, "Rex", 7, 2), *((i, f"P{i}", i, 2) for i in range(4, 24))],
}
PETS = Database(SCHEMA, script(SCHEMA, ROWS))
COUNT = "SELECT (SELECT count(*) FROM pet), (SELECT sum(age) FROM pet), (SELECT count(*) FROM owner)"


def run(sql: str, database: Database = PETS, limits: Limits = Limits()) -> sql_run.Result:
    (found,) = execute(sql, [database], limits)
    return found


def test_queries_give_rows_and_say_which_tables_they_read() -> None:
    found = run("SELECT o.name, count(*) n FROM pet p JOIN owner o ON o.id = p.owner_id GROUP BY o.id ORDER BY n")
    assert (found.rows, found.failure, found.tables) == ((("Ada", 2), ("Ben", 21)), None, ("owner", "pet"))
    odd = run("  -- a comment\n/* and another */ SELECT NULL, 'a''b', x'00ff', 1.5, 9e999, 1 FROM pet WHERE id = 1 ;  ")
    assert odd.rows == ((None, "a'b", b"\x00\xff", 1.5, float("inf"), 1),)
    assert run("WITH q AS (SELECT age FROM pet WHERE age > 20) SELECT max(age) FROM q").rows == ((23,),)
    assert run("VALUES (1), (2)").rows == ((1,), (2,))
    assert run("SELECT name FROM pet WHERE age > 100").rows == ()


@pytest.mark.parametrize(
    ("sql", "failure"),
    [
        ("", Failure.EMPTY),
        (" ; -- nothing\n;", Failure.EMPTY),
        ("SELECT nope FROM pet", Failure.ERROR),
        ("SELEC 1", Failure.NOT_A_QUERY),
        ("SELECT FROM", Failure.ERROR),
        ("SELECT 1; SELECT 2", Failure.SEVERAL),
        ("SELECT random()", Failure.REFUSED),
        ("SELECT 1 --" + "x" * 9_000, Failure.TOO_LONG),
        ("SELECT a.id FROM pet a, pet b, pet c", Failure.ROWS),
        ("SELECT printf('%.30000d', 0) FROM pet", Failure.BYTES),
        (BOMBS["endless series"], Failure.OPERATIONS),
        (
            "WITH RECURSIVE n(x) AS (SELECT printf('%.90000d', 1) UNION ALL SELECT x || '' FROM n) "
            "SELECT max(a.x) FROM n a, n b",
            Failure.MEMORY,
        ),
    ],
)
def test_every_failure_has_its_kind(sql: str, failure: Failure) -> None:
    found = run(sql)
    assert (found.failure, found.rows) == (failure, ())
    assert found.message


@pytest.mark.parametrize("name", WRITES)
def test_attacks_are_refused_and_change_nothing(name: str, tmp_path: Path) -> None:
    before = run(COUNT).rows
    found = run(WRITES[name].replace("{folder}", str(tmp_path)))
    assert found.failure in (Failure.NOT_A_QUERY, Failure.REFUSED, Failure.ERROR, Failure.SEVERAL), found
    sql_run._memory.clear()  # ask the database, not the memory of it
    assert run(COUNT).rows == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_within_their_limits(name: str) -> None:
    children = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    found = run(BOMBS[name])
    assert found.failure is not Failure.DIED
    assert time.monotonic() - began < 30  # never: the limit on CPU time is a sixth of it
    assert len(found.rows) <= Limits().rows
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - children.ru_maxrss < 64 << 10
    assert run(COUNT).failure is None


def test_the_same_attacks_on_a_file_leave_every_byte_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(PETS.script)
    connection.close()
    before = path.read_bytes()
    database = Database(from_sqlite(path), path=str(path))
    assert from_sqlite(path).tables == SCHEMA.tables
    for name in WRITES:
        assert run(WRITES[name].replace("{folder}", str(tmp_path)), database).failure is not None, name
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["shop.sqlite"]
    assert run(COUNT, database).rows == run(COUNT).rows


def test_the_limits_are_counts_that_a_caller_may_lower() -> None:
    series = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000) SELECT sum(x) FROM n"
    assert run(series).rows == ((2_001_000,),)
    assert run(series, limits=Limits(operations=5_000)).failure is Failure.OPERATIONS
    assert run("SELECT id FROM pet", limits=Limits(rows=23)).failure is None
    assert run("SELECT id FROM pet", limits=Limits(rows=22)).failure is Failure.ROWS
    assert run("SELECT name FROM pet", limits=Limits(size=10)).failure is Failure.BYTES


def test_a_worker_that_is_gone_is_replaced_and_told_of_the_databases_again() -> None:
    assert run("SELECT 1 + 1").rows == ((2,),)
    guard = sql_run._guard()
    assert guard.worker.process is not None
    guard.worker.process.kill()
    assert run("SELECT 1 + 2").rows == ((3,),)
    assert run("SELECT count(*) + 2 FROM pet").rows == ((25,),)


def test_a_worker_that_cannot_start_judges_nothing_and_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    sql_run.stop()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nonexistent/python")
        assert run("SELECT 5 + 5").failure is Failure.DIED
    assert run("SELECT 5 + 5").rows == ((10,),)


@settings(max_examples=150)
@given(st.text(max_size=60) | st.text(alphabet="SELECT *FROMpetwhs'\"();-/,=<>1 \n\x00", max_size=80))
def test_any_text_has_an_outcome(text: str) -> None:
    found = run("SELECT " + text)
    assert found.failure not in (Failure.DIED, Failure.TIMEOUT)
    assert run(text).failure not in (Failure.DIED, Failure.TIMEOUT)

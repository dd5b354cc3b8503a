"""The world of text-to-SQL: questions, gold queries, solver and verifier."""

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, Task, majority_baseline
from stillroom.tasks.sql import LAYOUTS, extract_sql, sql_task, verify
from stillroom.tasks.sql_compare import same
from stillroom.tasks.sql_data import databases, fill, made_schema
from stillroom.tasks.sql_query import Condition, Item, Query, Ref
from stillroom.tasks.sql_run import trusted
from stillroom.tasks.sql_schema import Cell, from_spider, short
from stillroom.types import Problem

TASK = sql_task()
THINK = get_format("think")


def problems(n: int = 60, split: Any = "train", seed: int = 0, task: Task = TASK) -> list[Problem]:
    return task.problems(split, n, seed)


def answer(problem: Problem, sql: str, task: Task = TASK) -> bool | None:
    return task.verify(problem, render(THINK, "so", sql)).correct


# -- the answer by another route: rows in Python, no SQL --------------------------------------------------------------

Row = dict[tuple[str, str], Cell]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
_FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
}


def by_hand(query: Query, rows: dict[str, list[Row]]) -> list[tuple[Cell, ...]]:
    found = rows[query.table]
    for join in query.joins:
        child, parent = (join.child.table, join.child.column), (join.parent.table, join.parent.column)
        found = [{**one, **other} for one in found for other in rows[join.table] if one[child] == other[parent]]
    for condition in query.where:
        found = [row for row in found if _holds(condition, row, rows)]

    def value(item: Item, of: list[Row]) -> Cell:
        cells = [row[_key(item.ref)] if item.ref else 1 for row in of]
        result: Cell = _FUNCTIONS[item.function](cells) if item.function else cells[0]
        return result

    groups = [[row] for row in found]
    if query.group:
        keyed: dict[Cell, list[Row]] = {}
        for row in found:
            keyed.setdefault(row[_key(query.group)], []).append(row)
        groups = [of for of in keyed.values() if len(of) > (query.more_than or 0)]
    elif any(item.function for item in query.output):
        groups = [found]
    if query.order:
        order = query.order
        groups.sort(key=lambda of: value(order, of), reverse=query.descending)  # type: ignore[arg-type,return-value]
    table = [tuple(value(item, of) for item in query.output) for of in groups]
    return (list(dict.fromkeys(table)) if query.distinct else table)[: query.limit]


def _holds(condition: Condition, row: Row, rows: dict[str, list[Row]]) -> bool:
    right: Any = condition.value
    if condition.query:
        table = by_hand(condition.query, rows)
        right = [r[0] for r in table] if "in" in condition.operator else table[0][0]
    return _COMPARE[condition.operator](row[_key(condition.ref)], right)


def _key(ref: Ref) -> tuple[str, str]:
    return ref.table, ref.column


def test_the_gold_answer_is_found_again_without_sql() -> None:
    for problem in problems(100, seed=7):
        source = problem.assets["database"]
        seed, index = (int(part) for part in source.split("/")[1:])
        schema = made_schema(seed, index)
        for instance, database in enumerate(databases(source)):
            drawn = fill(schema, derive_rng("sql-rows", schema.name, instance))
            rows = {
                table.name: [
                    {(table.name, c.name): cell for c, cell in zip(table.columns, row, strict=True)}
                    for row in drawn[table.name]
                ]
                for table in schema.tables
            }
            gold = trusted(database, problem.reference or "")
            found = by_hand(Query.model_validate(problem.meta["query"]), rows)
            assert same(gold, found, problem.meta["compare"]), problem.reference  # type: ignore[arg-type]
            assert 0 < len(gold) <= 20


# -- problems --------------------------------------------------------------------------------------------------------


def test_problems_are_deterministic_and_of_their_level() -> None:
    twenty = problems(20, seed=3)
    assert problems(20, seed=3) == twenty
    assert problems(5, seed=3) == twenty[:5]
    assert len({problem.id for problem in twenty}) == 20
    for problem in problems(60):
        joins, gold = problem.meta["joins"], problem.reference or ""
        expected = {
            1: joins == 0,
            2: joins == 0,
            3: joins == 1,
            4: joins == 2,
            5: "HAVING" in gold or "(SELECT" in gold,
        }
        assert expected[problem.level], gold
        assert ("ORDER BY" in gold) == (problem.meta["compare"] == "ordered")


def test_databases_are_disjoint_between_splits_and_all_different() -> None:
    used = {split: {p.assets["database"] for p in problems(40, split)} for split in ("train", "dev", "test")}
    assert not used["train"] & used["dev"]
    assert not used["train"] & used["test"]
    assert not used["dev"] & used["test"]
    assert len({short(made_schema(0, index)) for index in range(40)}) == 40
    assert {p.id for p in problems(5, seed=1)}.isdisjoint(p.id for p in problems(5, seed=2))


def test_instances_differ_and_no_answer_is_a_good_guess() -> None:
    one, two, three = databases("made/0/3")
    assert len({one.script, two.script, three.script}) == 3
    baseline = majority_baseline(problems(120))
    assert baseline is not None
    assert baseline < 0.05


def test_one_question_means_one_query() -> None:
    said: dict[tuple[str, str], str] = {}
    for problem in problems(150, seed=5):
        text = problem.messages[0].content
        assert said.setdefault((problem.assets["database"], text), problem.reference or "") == problem.reference


@pytest.mark.parametrize(
    "options",
    [
        {"low": 0},
        {"high": 6},
        {"low": 3, "high": 2},
        {"databases": 4},
        {"compare": "sets"},
        {"name": "pets"},
        {"file": "/no/such.sqlite"},
        {"file": "/no/such.json"},
    ],
)
def test_bad_options_are_refused_with_the_value_received(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=re.escape(str(next(iter(options.values()))))):
        sql_task(**options)


def test_the_schema_is_written_as_asked() -> None:
    (plain,), (as_ddl,) = problems(1), load_task("sql:ddl=true").problems("train", 1, 0)
    assert "CREATE TABLE" in as_ddl.messages[0].content
    assert "CREATE TABLE" not in plain.messages[0].content
    assert as_ddl.reference == plain.reference


# -- solver ----------------------------------------------------------------------------------------------------------


def test_every_style_ends_in_the_gold_query() -> None:
    for layout in LAYOUTS:
        for verbosity in (0, 2):
            for problem in problems(20, "dev"):
                solution = TASK.solve(problem, Style(layout=layout, verbosity=verbosity), derive_rng(problem.id))  # type: ignore[misc]
                assert solution.answer == problem.reference
                assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
                verdict = TASK.verify(problem, render(THINK, solution.thought, solution.answer))
                assert (verdict.correct, verdict.score, verdict.reason) == (True, 1.0, "equal")


def test_slips_are_labelled_and_carried_to_the_query() -> None:
    wrong = 0
    for problem in problems(60, seed=1):
        right = TASK.solve(problem, Style(), derive_rng(0))  # type: ignore[misc]
        solution = TASK.solve(problem, Style(error_rate=0.5), derive_rng("slip", problem.id))  # type: ignore[misc]
        lines = [solution.thought[span.start : span.end] for span in solution.spans]
        golds = [right.thought[span.start : span.end] for span in right.spans]
        for span, line in zip(solution.spans, lines, strict=True):
            assert (line in golds) is not span.data["injected"], line
        assert (solution.answer == problem.reference) == all(span.data["correct"] for span in solution.spans)
        wrong += answer(problem, solution.answer) is False
    assert wrong > 20


# -- verifier --------------------------------------------------------------------------------------------------------


def test_gold_queries_verify_and_corrupted_ones_do_not() -> None:
    report = validate(TASK, 80)
    assert report.ok, report.failures
    assert report.uncorrupted == 0


def test_another_way_to_say_the_same_is_right_and_luck_on_one_instance_is_not() -> None:
    problem = next(p for p in problems(50) if p.level == 3 and "COUNT" not in (p.reference or ""))
    gold = problem.reference or ""
    for same_thing in (gold.lower().replace("'", "'"), f"WITH q AS ({gold}) SELECT * FROM q", f"{gold} ;"):
        if same_thing.count("'") == 0 or same_thing.startswith("WITH") or same_thing.endswith(";"):
            assert answer(problem, same_thing) is True, same_thing
    first, *_ = databases(problem.assets["database"])
    rows = trusted(first, gold)
    constant = "VALUES " + ", ".join("(" + ", ".join(repr(cell) for cell in row) + ")" for row in rows)
    assert trusted(first, constant) == rows
    assert answer(problem, constant) is False


def test_duplicates_and_order_count_where_the_question_says_so() -> None:
    level_two = sql_task(low=2, high=2).problems("train", 60, 0)
    listed = next(p for p in level_two if p.meta["compare"] == "ordered" and p.meta["query"].get("limit", 9) > 1)  # type: ignore[union-attr,operator]
    gold = listed.reference or ""
    assert answer(listed, re.sub(r" ORDER BY \w+( DESC)?", "", gold)) is False
    otherwise = [f"SELECT * FROM ({gold}) ORDER BY 1 {way}" for way in ("ASC", "DESC")]
    assert False in [answer(listed, query) for query in otherwise]
    as_set = listed.model_copy(update={"meta": {**listed.meta, "compare": "set"}})
    assert [answer(as_set, query) for query in otherwise] == [True, True]
    different = next(p for p in level_two if "DISTINCT" in (p.reference or ""))
    assert answer(different, (different.reference or "").replace("DISTINCT ", "")) is False
    assert load_task("sql:compare=set").problems("train", 1, 0)[0].meta["compare"] == "set"


def test_parts_tell_what_was_right_of_a_wrong_query() -> None:
    pytest.importorskip("sqlglot")
    task = sql_task(parts=True)
    problem = problems(1, task=task)[0]
    gold = problem.reference or ""
    table = re.findall(r"FROM (\w+)", gold)[0]
    right = task.verify(problem, render(THINK, "", gold)).parts
    assert all(right[name] == 1 for name in ("execution", "syntax", "dense", "ngram", "schema", "schema_f1"))
    star = task.verify(problem, render(THINK, "", f"SELECT * FROM {table}"))
    assert star.parts["syntax"] == 1
    assert 0 < star.parts["schema"] < star.parts["schema_recall"] == 1
    assert 0.1 <= (star.score or 0) <= 0.9
    constant = task.verify(problem, render(THINK, "", "SELECT 1")).parts
    assert (constant["syntax"], constant["schema_recall"]) == (0, 0)
    broken = task.verify(problem, render(THINK, "", f"SELECT nope FROM {table}"))
    assert (broken.correct, broken.score, broken.parts["syntax"]) == (False, 0.0, 0.0)
    assert broken.reason.startswith("error: no such column")
    assert broken.parts["schema"] > 0


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("<think>\nSELECT 2\n</think>\n\\boxed{SELECT 1}", "SELECT 1"),
        ("<think>\nSELECT 2", None),
        ("<think>\nSELECT 2\n</think>", None),
        ("first ```sql\nSELECT 2\n``` then ```sql\nSELECT 1\n``` done", "SELECT 1"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("```SELECT 1```", "SELECT 1"),
        ("```sqlite\nSELECT 1", "SELECT 1"),
        ("<answer> SELECT 1 </answer>", "SELECT 1"),
        ("<answer>SELECT 1", "SELECT 1"),
        ("```sql\n```", None),
        ("", None),
    ],
)
def test_the_query_is_found_in_a_response(text: str, sql: str | None) -> None:
    assert extract_sql(text) == sql


def test_lenient_reading_looks_for_a_line() -> None:
    assert extract_sql("It is\nselect 1\nas you see", strict=False) == "select 1"
    assert extract_sql("It is\nselect 1\nas you see") == "It is\nselect 1\nas you see"


def test_a_gold_that_judges_nobody_is_not_scored() -> None:
    problem = problems(1)[0]
    table = re.findall(r"FROM (\w+)", problem.reference or "")[0]
    for gold, reason in (
        (None, "no reference"),
        ("SELECT nope", "the gold query failed"),
        (f"SELECT 1 FROM {table} WHERE 0", "the gold query gives nothing"),
    ):
        verdict = verify(problem.model_copy(update={"reference": gold}), "SELECT 1")
        assert (verdict.correct, verdict.score) == (None, None)
        assert verdict.reason.startswith(reason)
    elsewhere = verify(problem.model_copy(update={"assets": {"database": "sqlite:/gone.sqlite"}}), "SELECT 1")
    assert elsewhere.correct is None


@settings(max_examples=80)
@given(st.text() | st.text(alphabet="SELECT*FROM'\"();-\\boxed{}<think/>`\n", max_size=60), st.booleans())
def test_there_is_a_verdict_for_every_text(text: str, strict: bool) -> None:
    verdict = TASK.verify(problems(1)[0], text, strict=strict)
    assert verdict.correct is False
    assert 0 <= (verdict.score or 0) <= 0.9


# -- real databases --------------------------------------------------------------------------------------------------


def test_questions_about_a_real_file(data_dir: Path) -> None:
    path = data_dir / "sql" / "chinook.sqlite"
    task = load_task(f"sql:file={path}")
    report = validate(task, 15)
    assert report.ok, report.failures
    assert report.checked == 15
    splits = {split: {p.messages[0].content for p in task.problems(split, 8, 0)} for split in ("train", "test")}
    assert not splits["train"] & splits["test"]
    problem = task.problems("train", 1, 0)[0]
    by_instance = databases(problem.assets["database"])
    assert by_instance[0].path == str(path.resolve())
    assert answer(problem, "SELECT Name FROM Artist WHERE ArtistId = 1", task) is False


def test_every_spider_schema_can_be_built_and_most_asked_about(data_dir: Path) -> None:
    file = data_dir / "sql" / "spider_tables.json"
    schemas = from_spider(file)
    assert len(schemas) == 166
    for schema in schemas:
        first = databases(f"spider:{file}#{schema.name}")[0]
        assert trusted(first, "SELECT count(*) FROM sqlite_master WHERE type = 'table'") == [(len(schema.tables),)]
    task = sql_task(file=str(file))
    report = validate(task, 15)
    assert report.ok, report.failures
    assert {p.assets["database"] for p in task.problems("train", 20, 0)}.isdisjoint(
        p.assets["database"] for p in task.problems("test", 20, 0)
    )
    one = sql_task(file=str(file), name="perpetrator")
    assert {p.assets["database"] for p in one.problems("train", 3, 0)} == {f"spider:{file}#perpetrator"}
    with pytest.raises(UserError, match="perpetrator"):
        sql_task(file=str(file), name="perpetrators")

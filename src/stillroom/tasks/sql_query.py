"""Queries as data: what the made-up questions ask, written as SQL and as an English question.

A query starts at one table and joins parents along foreign keys, so that no join multiplies rows. It covers filters,
aggregates, groups with HAVING, order and limit, DISTINCT, and two ways of nesting: a comparison with an average, and
rows that do or do not occur in a child table.
"""

import re
from functools import lru_cache
from typing import Literal

from stillroom.tasks.sql_schema import literal, quoted
from stillroom.types import Noun

Function = Literal["", "count", "sum", "avg", "min", "max"]
Operator = Literal["=", "<>", ">", "<", "in", "not in"]


class Ref(Noun):
    """A column of a table."""

    table: str
    column: str


class Item(Noun):
    """A column or an aggregate of it; without a column, ``COUNT(*)``."""

    function: Function = ""
    ref: Ref | None = None


class Join(Noun):
    """A joined table: `child`, of a table that is already there, equals `parent`, of the joined one."""

    table: str
    child: Ref
    parent: Ref


class Condition(Noun):
    """A comparison with a value or with what a query gives."""

    ref: Ref
    operator: Operator
    value: int | float | str | None = None
    query: "Query | None" = None


class Query(Noun):
    """One question to a database."""

    table: str
    joins: tuple[Join, ...] = ()
    output: tuple[Item, ...] = ()
    distinct: bool = False
    where: tuple[Condition, ...] = ()
    group: Ref | None = None
    more_than: int | None = None
    """HAVING COUNT(*) > this."""
    order: Item | None = None
    descending: bool = False
    limit: int | None = None


# -- SQL -------------------------------------------------------------------------------------------------------------


def sql(query: Query) -> str:
    """The query in SQLite's dialect, in one line; columns carry their table where there are several."""
    return " ".join(clauses(query).values())


def clauses(query: Query) -> dict[str, str]:
    """The query's clauses by name, in the order in which SQL writes them."""
    wide = bool(query.joins)
    found = {
        "select": "SELECT " + ("DISTINCT " if query.distinct else "") + ", ".join(_item(i, wide) for i in query.output),
        "from": f"FROM {quoted(query.table)}",
    }
    if query.joins:
        found["join"] = " ".join(
            f"JOIN {quoted(j.table)} ON {_ref(j.child, True)} = {_ref(j.parent, True)}" for j in query.joins
        )
    if query.where:
        found["where"] = "WHERE " + " AND ".join(_condition(condition, wide) for condition in query.where)
    if query.group:
        found["group"] = f"GROUP BY {_ref(query.group, wide)}"
    if query.more_than is not None:
        found["having"] = f"HAVING COUNT(*) > {query.more_than}"
    if query.order:
        found["order"] = f"ORDER BY {_item(query.order, wide)}" + (" DESC" if query.descending else "")
    if query.limit is not None:
        found["limit"] = f"LIMIT {query.limit}"
    return found


def _ref(ref: Ref, wide: bool) -> str:
    return f"{quoted(ref.table)}.{quoted(ref.column)}" if wide else quoted(ref.column)


def _item(item: Item, wide: bool) -> str:
    inner = "*" if item.ref is None else _ref(item.ref, wide)
    return f"{item.function.upper()}({inner})" if item.function else inner


def _condition(condition: Condition, wide: bool) -> str:
    right = f"({sql(condition.query)})" if condition.query else literal(condition.value)
    return f"{_ref(condition.ref, wide)} {condition.operator.upper()} {right}"


# -- English ---------------------------------------------------------------------------------------------------------

_OF = {"sum": "total", "avg": "average", "min": "smallest", "max": "largest"}
_COMPARED = {"=": "is", "<>": "is not", ">": "is more than", "<": "is less than"}


@lru_cache(maxsize=4_096)
def words(name: str) -> str:
    """A name as words: ``owner_id`` and ``OwnerId`` are "owner id"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")
    return " ".join(spaced.lower().split())


def plural(noun: str) -> str:
    """The plural of a regular noun; what ends in a single s counts as one already.

    >>> plural("city"), plural("match"), plural("albums")
    ('cities', 'matches', 'albums')
    """
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("ss", "x", "ch", "sh")) else "s")


def english(query: Query) -> str:
    """The question that the query answers."""
    things, filters = plural(words(query.table)), _filters(query)
    if query.group:
        return _grouped(query, things, filters)
    (first, *_) = query.output
    if first.function == "count" and first.ref is None:
        return f"How many {things} are there{filters}?"
    if first.function:
        return f"What is the {_OF[first.function]} {_owned(query, first.ref)} of the {things}{filters}?"
    listed = " and the ".join(_owned(query, item.ref) for item in query.output)
    if query.distinct:
        return f"Which different values are there for the {listed} of the {things}{filters}?"
    asked = f"List the {listed} of the {things}{filters}"
    if not query.order:
        return asked + "."
    way = "largest first" if query.descending else "smallest first"
    ends = f", only the first {query.limit}" if query.limit is not None else ""
    return f"{asked}, by {_owned(query, query.order.ref)}, {way}{ends}."


def _grouped(query: Query, things: str, filters: str) -> str:
    values = [item for item in query.output if item.function]
    per = _owned(query, query.group)
    if not values:
        return f"Which values of the {per} have more than {query.more_than} {things}{filters}?"
    value = values[0]
    number = f"number of {things}" if value.ref is None else f"{_OF[value.function]} {_owned(query, value.ref)}"
    of = "" if value.ref is None else f" of the {things}"
    keep = f", only where there are more than {query.more_than} {things}" if query.more_than is not None else ""
    return f"For each {per} of the {things}, give it and the {number}{of}{filters}{keep}."


def _filters(query: Query) -> str:
    plain = [c for c in query.where if c.query is None or c.operator not in ("in", "not in")]
    parts = [f"{_owned(query, c.ref)} {_COMPARED[c.operator]} {_value(c)}" for c in plain]
    text = f" whose {' and whose '.join(parts)}" if parts else ""
    for condition in query.where:
        if condition.query is not None and condition.operator in ("in", "not in"):
            child = condition.query
            have = "that have no" if condition.operator == "not in" else "that have a"
            text += f"{' and' if text else ''} {have} {words(child.table)}{_filters(child)}"
    return text


def _value(condition: Condition) -> str:
    if condition.query is not None:
        return f"the {_OF[condition.query.output[0].function]} of all {plural(words(condition.query.table))}"
    return f"'{condition.value}'" if isinstance(condition.value, str) else str(condition.value)


def _owned(query: Query, ref: Ref | None) -> str:
    """A column with its owners on the way from the query's table: "owner's shop's town"."""
    if ref is None:
        return "rows"
    path, table = [words(ref.column)], ref.table
    while table != query.table:
        join = next(join for join in query.joins if join.table == table)
        path.insert(0, words(table) + "'s")
        table = join.child.table
    return " ".join(path)

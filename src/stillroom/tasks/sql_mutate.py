"""Queries that are wrong in one known thing: for solvers that slip, wrong answers near the gold, and candidate sets."""

from collections.abc import Iterator
from random import Random

from stillroom.tasks.sql_query import Condition, Item, Query, Ref
from stillroom.tasks.sql_schema import Schema, find

CLAUSES = ("join", "where", "group", "having", "select", "order", "limit")
_FUNCTIONS = ("sum", "avg", "min", "max")
_COMPARISONS = ("=", "<>", ">", "<")


def mutate(query: Query, clause: str, schema: Schema, rng: Random) -> tuple[str, Query] | None:
    """The query with one mistake in that clause, and which kind of mistake; None when there is nothing to mistake.

    Kinds: ``column``, ``operator``, ``value``, ``aggregate``, ``missing predicate``, ``join key``, ``distinct``,
    ``direction``, ``number``.
    """
    made = [found for found in _mutations(query, schema) if found[0] == clause]
    if not made:
        return None
    _, kind, mutated = rng.choice(made)
    return kind, mutated


def mutations(query: Query, schema: Schema) -> list[tuple[str, Query]]:
    """Every query with one mistake that is known here, with the kind of mistake."""
    return [(kind, mutated) for _, kind, mutated in _mutations(query, schema)]


def _mutations(query: Query, schema: Schema) -> Iterator[tuple[str, str, Query]]:
    for at, item in enumerate(query.output):
        for kind, other in _other_items(item, schema):
            output = (*query.output[:at], other, *query.output[at + 1 :])
            if other not in query.output:
                yield "select", kind, query.model_copy(update={"output": output})
    if query.distinct:
        yield "select", "distinct", query.model_copy(update={"distinct": False})
    for at, join in enumerate(query.joins):
        child = find(schema, join.child.table)
        for column in child.columns:
            if column.key and column.name != join.child.column:
                wrong = join.model_copy(update={"child": Ref(table=child.name, column=column.name)})
                yield (
                    "join",
                    "join key",
                    query.model_copy(update={"joins": (*query.joins[:at], wrong, *query.joins[at + 1 :])}),
                )
    for at, condition in enumerate(query.where):
        rest = (query.where[:at], query.where[at + 1 :])
        if len(query.where) > 1 or condition.query is None:
            yield "where", "missing predicate", query.model_copy(update={"where": (*rest[0], *rest[1])})
        for kind, wrong_condition in _other_conditions(condition, schema):
            yield "where", kind, query.model_copy(update={"where": (*rest[0], wrong_condition, *rest[1])})
    if query.group:
        for ref in _siblings(query.group, schema):
            yield "group", "column", query.model_copy(update={"group": ref})
    if query.more_than is not None:
        for number in (query.more_than - 1, query.more_than + 1):
            yield "having", "number", query.model_copy(update={"more_than": number})
    if query.order:
        yield "order", "direction", query.model_copy(update={"descending": not query.descending})
        for ref in _siblings(query.order.ref, schema) if query.order.ref else ():
            yield "order", "column", query.model_copy(update={"order": Item(ref=ref)})
    if query.limit is not None:
        yield "limit", "number", query.model_copy(update={"limit": query.limit + 1})


def _other_items(item: Item, schema: Schema) -> Iterator[tuple[str, Item]]:
    if item.ref is None:
        return
    for ref in _siblings(item.ref, schema):
        yield "column", item.model_copy(update={"ref": ref})
    if item.function:
        for function in _FUNCTIONS:
            if function != item.function:
                yield "aggregate", item.model_copy(update={"function": function})


def _other_conditions(condition: Condition, schema: Schema) -> Iterator[tuple[str, Condition]]:
    if condition.operator in ("in", "not in"):
        yield (
            "operator",
            condition.model_copy(update={"operator": "in" if condition.operator == "not in" else "not in"}),
        )
        return
    for operator in _COMPARISONS if not isinstance(condition.value, str) else _COMPARISONS[:2]:
        if operator != condition.operator and not (condition.query and operator in ("=", "<>")):
            yield "operator", condition.model_copy(update={"operator": operator})
    for ref in _siblings(condition.ref, schema):
        yield "column", condition.model_copy(update={"ref": ref})
    if isinstance(condition.value, int):
        yield "value", condition.model_copy(update={"value": condition.value + 1})


def _siblings(ref: Ref, schema: Schema) -> list[Ref]:
    """Other columns of the same table and kind."""
    table = find(schema, ref.table)
    linked = {link.column for link in table.links}
    kind = next(column.kind for column in table.columns if column.name == ref.column)
    return [
        Ref(table=ref.table, column=column.name)
        for column in table.columns
        if column.name != ref.column and column.kind == kind and not column.key and column.name not in linked
    ]

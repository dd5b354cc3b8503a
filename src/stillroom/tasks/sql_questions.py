"""Questions to a database: drawn by level, kept only when their answer means something.

Level 1 looks something up in one table, 2 counts, aggregates, groups or sorts, 3 needs one join, 4 two, 5 a group with
HAVING or a nested query. A drawn question is kept when its gold query gives something on every instance, does not give
the same on all of them, is of a readable size, sorts by a key without ties, and when each of its conditions, DISTINCT,
HAVING, order and limit changes the answer on some instance: whoever leaves one out is wrong, and seen to be wrong.
"""

from collections.abc import Iterator, Sequence
from random import Random

from stillroom.tasks.sql_compare import Mode, Rows, same
from stillroom.tasks.sql_query import Condition, Function, Item, Join, Operator, Query, Ref, sql
from stillroom.tasks.sql_run import trusted
from stillroom.tasks.sql_schema import Cell, Database, Schema, find, quoted

LEVELS = (1, 2, 3, 4, 5)
MOST_ROWS = 20
"""Of an answer that is a list."""
_TRIES = 60
_AGGREGATES: tuple[Function, ...] = ("sum", "avg", "min", "max")


def draw(databases: Sequence[Database], level: int, rng: Random) -> Query | None:
    """A question of that level to these instances of one database; None when none was found in a bounded search."""
    schema = databases[0].schema
    for _ in range(_TRIES):
        query = _Draw(databases[0], rng).query(level) if _fits(schema, level) else None
        if query is not None and means_something(query, databases):
            return query
    return None


def _fits(schema: Schema, level: int) -> bool:
    return level < 4 or len(schema.tables) > (2 if level == 4 else 1)


def mode_of(query: Query) -> Mode:
    """How its answer is compared: as a list where the question asks for an order, else as a bag of rows."""
    return "ordered" if query.order else "bag"


def means_something(query: Query, databases: Sequence[Database]) -> bool:
    """Whether the question is worth asking of these instances; see the module."""
    answers = list(_answers(query, databases))
    if not all(
        0 < len(rows) <= MOST_ROWS and any(cell is not None for row in rows for cell in row) for rows in answers
    ):
        return False
    mode = mode_of(query)
    if len(answers) > 1 and all(same(answers[0], rows, mode) for rows in answers[1:]):
        return False
    if query.order and not _without_ties(query, databases):
        return False
    return all(
        any(not same(rows, other, mode) for rows, other in zip(answers, _answers(weaker, databases), strict=True))
        for weaker in _weaker(query)
    )


def _answers(query: Query, databases: Sequence[Database]) -> Iterator[Rows]:
    """What the query gives on each instance, one after the other: the first often tells enough."""
    text = sql(query)
    return (trusted(database, text) for database in databases)


def _without_ties(query: Query, databases: Sequence[Database]) -> bool:
    """Whether the rows asked for, and the first one that is not, have keys of their own."""
    assert query.order is not None
    most = None if query.limit is None else query.limit + 1
    keys = query.model_copy(update={"output": (query.order,), "limit": most})
    return all(len(set(rows)) == len(rows) for rows in _answers(keys, databases))


def _weaker(query: Query) -> Iterator[Query]:
    """The query without one of the things that it need not have."""
    for at in range(len(query.where)):
        yield query.model_copy(update={"where": query.where[:at] + query.where[at + 1 :]})
    for condition in query.where:
        if condition.query is not None and condition.query.where:
            inner = condition.query.model_copy(update={"where": ()})
            yield query.model_copy(
                update={
                    "where": tuple(c.model_copy(update={"query": inner}) if c is condition else c for c in query.where)
                }
            )
    if query.distinct:
        yield query.model_copy(update={"distinct": False})
    if query.more_than is not None:
        yield query.model_copy(update={"more_than": None})
    if query.order:
        yield query.model_copy(update={"order": None})
    if query.limit is not None:
        yield query.model_copy(update={"limit": None})


class _Draw:
    """Draws parts of a query to one database; None where the schema does not have what is wanted."""

    def __init__(self, database: Database, rng: Random) -> None:
        self._database, self._schema, self._rng = database, database.schema, rng

    def query(self, level: int) -> Query | None:
        if level == 5:
            return self._rng.choice((self._having, self._above_average, self._in_child))()
        start = self._start({3: 1, 4: 2}.get(level, 0))
        if start is None:
            return None
        if level == 1:
            return self._listing(start, conditions=self._rng.randint(1, 2))
        kinds = [self._listing, self._number, self._groups]
        if level == 2:
            kinds = [self._number, self._groups, self._sorted, self._different]
        query = self._rng.choice(kinds)(start)
        return query if query and self._uses_all(query) else None

    def _start(self, joins: int) -> Query | None:
        """A table with that many joined parents; no table twice, so that every name means one row."""
        query = Query(table=self._rng.choice(self._schema.tables).name)
        for _ in range(joins):
            there = {query.table, *(join.table for join in query.joins)}
            free = [
                Join(
                    table=link.parent,
                    child=Ref(table=name, column=link.column),
                    parent=Ref(table=link.parent, column=link.parent_column),
                )
                for name in sorted(there)
                for link in find(self._schema, name).links
                if link.parent not in there and self._only_way(name, link.parent)
            ]
            if not free:
                return None
            query = query.model_copy(update={"joins": (*query.joins, self._rng.choice(free))})
        return query

    def _only_way(self, table: str, parent: str) -> bool:
        """Whether a table refers to that parent once; with two ways, words would not say which."""
        return sum(link.parent == parent for link in find(self._schema, table).links) == 1

    def _uses_all(self, query: Query) -> bool:
        """Whether every joined table is needed: named, or on the way to one that is."""
        named = {item.ref.table for item in query.output if item.ref} | {c.ref.table for c in query.where}
        named |= {query.group.table} if query.group else set()
        named |= {join.child.table for join in query.joins}
        return all(join.table in named for join in query.joins)

    # -- kinds of questions ------------------------------------------------------------------------------------------

    def _listing(self, start: Query, conditions: int = 1) -> Query | None:
        refs = self._several(start, self._rng.randint(1, 2))
        where = self._conditions(start, conditions)
        if refs is None or where is None:
            return None
        given = {condition.ref for condition in where if condition.operator == "="}
        if given & set(refs):
            return None  # the question would hold the answer
        return start.model_copy(update={"output": tuple(Item(ref=ref) for ref in refs), "where": where})

    def _number(self, start: Query) -> Query | None:
        number, where = self._column(start.table, "number"), self._conditions(start, 1)
        if where is None:
            return None
        item = Item(function="count")
        if number is not None and self._rng.random() < 0.6:
            item = Item(function=self._rng.choice(_AGGREGATES), ref=number)
        return start.model_copy(update={"output": (item,), "where": where})

    def _groups(self, start: Query) -> Query | None:
        last = start.joins[-1].table if start.joins else start.table
        group, number = self._column(last, "text"), self._column(start.table, "number")
        if group is None:
            return None
        item = Item(function="count")
        if number is not None and self._rng.random() < 0.5:
            item = Item(function=self._rng.choice(_AGGREGATES), ref=number)
        return start.model_copy(update={"output": (Item(ref=group), item), "group": group})

    def _sorted(self, start: Query) -> Query | None:
        listed, number = self._column(start.table, "text"), self._column(start.table, "number")
        if listed is None or number is None:
            return None
        return start.model_copy(
            update={
                "output": (Item(ref=listed),),
                "order": Item(ref=number),
                "descending": self._rng.random() < 0.5,
                "limit": self._rng.randint(1, 5) if self._rng.random() < 0.7 else None,
                "where": (self._conditions(start, 1) or ()) if self._rng.random() < 0.4 else (),
            }
        )

    def _different(self, start: Query) -> Query | None:
        listed, where = self._column(start.table, "text"), self._conditions(start, 1)
        if listed is None or where is None:
            return None
        return start.model_copy(update={"output": (Item(ref=listed),), "distinct": True, "where": where})

    def _having(self) -> Query | None:
        start = self._start(1) or self._start(0)
        query = start and self._groups(start)
        if query is None:
            return None
        only = self._rng.random() < 0.5
        update = {"more_than": self._rng.randint(1, 4), "output": query.output[:1] if only else query.output}
        return query.model_copy(update=update)

    def _above_average(self) -> Query | None:
        start = self._start(self._rng.choice((0, 1)))
        if start is None:
            return None
        refs, number = self._several(start, 1), self._column(start.table, "number")
        if refs is None or number is None:
            return None
        average = Query(table=start.table, output=(Item(function="avg", ref=number),))
        condition = Condition(ref=number, operator=self._rng.choice((">", "<")), query=average)
        where = (condition, *(self._conditions(start, 1) or ()))
        query = start.model_copy(update={"output": tuple(Item(ref=ref) for ref in refs), "where": where})
        return query if self._uses_all(query) and len({c.ref for c in where}) == len(where) else None

    def _in_child(self) -> Query | None:
        links = [
            (table.name, link)
            for table in self._schema.tables
            for link in table.links
            if link.parent != table.name and self._only_way(table.name, link.parent)
        ]
        if not links:
            return None
        child, link = self._rng.choice(links)
        start, inner = Query(table=link.parent), Query(table=child)
        refs, where = self._several(start, 1), self._conditions(inner, 1)
        if refs is None or where is None:
            return None
        inner = inner.model_copy(update={"output": (Item(ref=Ref(table=child, column=link.column)),), "where": where})
        operator: Operator = self._rng.choice(("in", "not in"))
        condition = Condition(ref=Ref(table=link.parent, column=link.parent_column), operator=operator, query=inner)
        return start.model_copy(update={"output": tuple(Item(ref=ref) for ref in refs), "where": (condition,)})

    # -- parts -------------------------------------------------------------------------------------------------------

    def _columns(self, table: str, kind: str) -> list[Ref]:
        """Columns that hold something to ask for: no keys, no references."""
        found = find(self._schema, table)
        linked = {link.column for link in found.links}
        return [
            Ref(table=table, column=column.name)
            for column in found.columns
            if not column.key
            and column.name not in linked
            and (kind == "any" or (kind == "text") == (column.kind == "text"))
        ]

    def _column(self, table: str, kind: str) -> Ref | None:
        found = self._columns(table, kind)
        return self._rng.choice(found) if found else None

    def _tables(self, query: Query) -> list[str]:
        return [query.table, *(join.table for join in query.joins)]

    def _several(self, query: Query, count: int) -> list[Ref] | None:
        """Columns of the query's first table, and for more than one, of any."""
        first = self._column(query.table, "any")
        if first is None or count == 1:
            return None if first is None else [first]
        other = self._column(self._rng.choice(self._tables(query)), "any")
        return [first, other] if other is not None and other != first else None

    def _conditions(self, query: Query, count: int) -> tuple[Condition, ...] | None:
        """Comparisons with values that occur; the first is about the table that was joined last."""
        found = list[Condition]()
        for at in range(count):
            tables = self._tables(query)
            ref = self._column(tables[-1] if at == 0 else self._rng.choice(tables), "any")
            if ref is None or any(condition.ref == ref for condition in found):
                return None
            rows = trusted(self._database, f"SELECT {quoted(ref.column)} FROM {quoted(ref.table)} LIMIT 200")
            value: Cell = self._rng.choice(rows)[0] if rows else None
            if value is None or isinstance(value, bytes) or (isinstance(value, str) and not 0 < len(value) <= 40):
                return None
            operators: tuple[Operator, ...] = ("=", "=", "<>") if isinstance(value, str) else ("=", ">", "<", ">", "<")
            found.append(Condition(ref=ref, operator=self._rng.choice(operators), value=value))
        return tuple(found)

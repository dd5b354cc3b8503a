"""Made-up databases: schemas of 2 to 5 linked tables, and rows for any schema, made up or real.

Made-up database i of a world seed is the same for everybody. Every database has several *instances*: the same schema
with other rows. A query that is right by luck on one of them is wrong on another.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from types import MappingProxyType

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_rng
from stillroom.tasks.sql_schema import (
    Cell,
    Column,
    Database,
    Link,
    Schema,
    Table,
    from_spider,
    from_sqlite,
    quoted,
    read_only,
    script,
)

INSTANCES = 3
ROWS = (12, 40)
"""Fewest and most rows of a table."""
_POOL = 500
_THINGS = (
    *("singer", "pet", "shop", "book", "farm", "ship", "team", "player", "school", "pupil", "museum", "painting"),
    *("hotel", "guest", "driver", "car", "river", "bridge", "garden", "tree"),
)
_NUMBERS = {
    "age": (1, 90),
    "price": (2, 99),
    "year": (1950, 2024),
    "size": (1, 60),
    "weight": (1, 80),
    "score": (0, 100),
    "stock": (0, 50),
    "salary": (20, 95),
}
_WORDS = {
    "town": ("Oslo", "Riga", "Lima", "Cork", "Bern", "Kyiv", "Nice", "Bath"),
    "color": ("red", "blue", "green", "black", "white", "grey"),
    "kind": ("small", "large", "old", "new", "rare", "plain"),
    "country": ("Norway", "Latvia", "Peru", "Ireland", "Chile", "Ukraine", "France", "Kenya"),
    "month": ("January", "March", "May", "July", "August", "October"),
}
_NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jada", "Kai", "Lea", "Mia", "Noa", "Omar"),
    *("Pia", "Quin", "Rosa", "Sam", "Tara", "Uma", "Vic", "Wes", "Zoe", "Abel", "Bea", "Cyd", "Dora", "Eli", "Fay"),
    *("Gil", "Hugo", "Ida", "Jon", "Kim", "Leo", "Max", "Nell", "Otto", "Pam", "Roy", "Sue", "Tom", "Una", "Val"),
)


def made_schema(world_seed: int, index: int) -> Schema:
    """Made-up schema `index`: every table but the first refers to an earlier one, so that there is a lot to join."""
    rng = derive_rng("sql-schema", world_seed, index)
    names = rng.sample(_THINGS, rng.randint(2, 5))
    tables = list[Table]()
    for name in names:
        numbers, words = rng.sample(list(_NUMBERS), rng.randint(1, 2)), rng.sample(list(_WORDS), rng.randint(1, 2))
        columns = [Column(name="id", kind="integer", key=True), Column(name="name")]
        own = [Column(name=word, kind="integer" if word in _NUMBERS else "text") for word in (*numbers, *words)]
        columns += rng.sample(own, len(own))
        links: tuple[Link, ...] = ()
        if tables:
            parent = rng.choice(tables[-2:]).name
            columns.append(Column(name=f"{parent}_id", kind="integer"))
            links = (Link(column=f"{parent}_id", parent=parent, parent_column="id"),)
        tables.append(Table(name=name, columns=tuple(columns), links=links))
    return Schema(name=f"made/{world_seed}/{index}", tables=tuple(tables))


def fill(
    schema: Schema, rng: Random, pools: Mapping[tuple[str, str], Sequence[Cell]] = MappingProxyType({})
) -> dict[str, list[tuple[Cell, ...]]]:
    """Rows for every table, in which every foreign key finds its parent.

    Args:
        pools: (table, column) → values to draw from, for columns that are neither keys nor foreign keys.
    """
    sizes = {table.name: rng.randint(*ROWS) for table in schema.tables}
    keys: dict[tuple[str, str], list[Cell]] = {}
    for table in schema.tables:
        for column in table.columns:
            if column.key:
                keys[table.name, column.name] = [_key(column, number) for number in range(1, sizes[table.name] + 1)]
    filled: dict[str, list[tuple[Cell, ...]]] = {}
    for table in schema.tables:
        parents = {link.column: (link.parent, link.parent_column) for link in table.links}
        values = []
        for column in table.columns:
            if (table.name, column.name) in keys:
                drawn = keys[table.name, column.name]
            elif column.name in parents:
                # A parent column that is no key, or stands in a circle, may have no values yet.
                known = keys.get(parents[column.name]) or [_key(column, number) for number in range(1, 6)]
                drawn = [rng.choice(known) for _ in range(sizes[table.name])]
            elif pool := pools.get((table.name, column.name)):
                drawn = [rng.choice(pool) for _ in range(sizes[table.name])]
            else:
                drawn = _values(column, sizes[table.name], rng)
            keys.setdefault((table.name, column.name), drawn)
            values.append(drawn)
        filled[table.name] = list(zip(*values, strict=True))
    return filled


def _key(column: Column, number: int) -> Cell:
    return f"k{number}" if column.kind == "text" else number


def _values(column: Column, count: int, rng: Random) -> list[Cell]:
    name = column.name.lower()
    if column.kind != "text":
        low, high = _NUMBERS.get(name, (1, 100))
        whole = [rng.randint(low, high) for _ in range(count)]
        return [number / 4 for number in whole] if column.kind == "real" else list(whole)
    if name in _WORDS:
        return [rng.choice(_WORDS[name]) for _ in range(count)]
    if name.endswith("name"):
        return list(rng.sample(_NAMES, count))  # one name, one row
    few = rng.sample(_NAMES, 12)
    return [rng.choice(few) for _ in range(count)]


@lru_cache(maxsize=512)
def databases(source: str) -> tuple[Database, ...]:
    """The instances of a database: `INSTANCES` of them.

    Args:
        source: ``made/WORLD_SEED/INDEX``, ``sqlite:FILE`` (the file itself and further rows for its schema), or
            ``spider:TABLES.JSON#DB_ID`` (which has no rows of its own).

    Raises:
        UserError: for anything else, or a file that cannot be read.
    """
    kind, _, rest = source.partition(":")
    if kind == "sqlite":
        file = Database(from_sqlite(Path(rest)), path=str(Path(rest).resolve()))
        return file, *_filled(file.schema, 1, _pools(file))
    if kind == "spider":
        tables, _, name = rest.rpartition("#")
        schemas = spider_schemas(tables)
        if name not in schemas:
            raise unknown_name("Spider schema", name, schemas)
        return _filled(schemas[name], 0)
    parts = source.split("/")
    if len(parts) != 3 or parts[0] != "made" or not all(part.isdecimal() for part in parts[1:]):
        raise UserError(f"unknown database {source!r}; known: made/SEED/NUMBER, sqlite:FILE, spider:TABLES.JSON#NAME")
    return _filled(made_schema(int(parts[1]), int(parts[2])), 0)


@lru_cache(maxsize=4)
def spider_schemas(path: str) -> dict[str, Schema]:
    """Spider's schemas by name; raises UserError when the file cannot be read."""
    return {schema.name: schema for schema in from_spider(Path(path))}


def _pools(file: Database) -> dict[tuple[str, str], list[Cell]]:
    """What stands in each column of a file, so that rows made up for it hold the words that questions ask for."""
    found = {}
    with closing(read_only(Path(file.path))) as connection:
        for table in file.schema.tables:
            for column in table.columns:
                asked = f"SELECT DISTINCT {quoted(column.name)} FROM {quoted(table.name)} LIMIT {_POOL}"
                found[table.name, column.name] = [row[0] for row in connection.execute(asked)]
    return found


def _filled(
    schema: Schema, first: int, pools: Mapping[tuple[str, str], Sequence[Cell]] = MappingProxyType({})
) -> tuple[Database, ...]:
    # The path is no part of the draw: the same schema has the same rows wherever its file lies.
    drawn = partial(derive_rng, "sql-rows", schema.name)
    rows = [fill(schema, drawn(instance), pools) for instance in range(first, INSTANCES)]
    return tuple(Database(schema, script(schema, found)) for found in rows)

"""What a query names: tables and columns with aliases resolved and stars spelled out, and its clauses in one form.

Parsed with sqlglot, in the guarded process only (`sql_run.analysed`): a parser of another's making may loop or recurse
on what a model writes. Names of common table expressions and aliases are no schema items.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

LONGEST = 4_000
"""Characters; nothing is said of a longer query."""
_DEEPEST = 30
"""Open brackets; a deeper nesting costs a recursive parser more than it can tell."""
_BUGS = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a parser's own mistakes raise on texts that nobody tried on it."""


def analyse(sql: str, tables: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Tables, columns (``table.column``) and clauses of one query, all in lower case; None when it cannot be parsed.

    Args:
        tables: of the schema, with their columns, in lower case.
    """
    if len(sql) > LONGEST or _depth(sql) > _DEEPEST:
        return None
    try:
        statements = [found for found in parse(sql, read="sqlite") if found is not None]
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            return None
        if not statements[0].selects:
            return None
        return _analysed(statements[0], tables)
    except (SqlglotError, RecursionError, *_BUGS):
        return None


def _depth(sql: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[()]", sql):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    return deepest


def _analysed(tree: exp.Query, tables: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    scopes = traverse_scope(tree)
    columns = dict.fromkeys(f"{t}.{c}" for scope in scopes for t, c in _columns(scope, tables))
    named = dict.fromkeys(
        source.name.lower()
        for scope in scopes
        for source in scope.sources.values()
        if isinstance(source, exp.Table) and source.name.lower() in tables
    )
    return {"tables": sorted(named), "columns": sorted(columns), "clauses": _clauses(tree)}


def _columns(scope: Scope, tables: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Every real column that a scope names; its qualifiers are replaced by the table's own name on the way."""
    for column in list(scope.find_all(exp.Column)):
        if not isinstance(column.this, exp.Star):
            table = _home(scope, column.table.lower(), column.name.lower(), tables)
            if table:
                column.set("table", exp.to_identifier(table))
                yield table, column.name.lower()
    for qualifier in _stars(scope):
        for alias, (_, source) in scope.selected_sources.items():
            real = _real(source, tables)
            if real and qualifier in ("", alias.lower()):
                yield from ((real, column) for column in tables[real])
    for join in scope.expression.args.get("joins") or ():
        for identifier in join.args.get("using") or ():
            for _, source in scope.selected_sources.values():
                real = _real(source, tables)
                if real and identifier.name.lower() in tables[real]:
                    yield real, identifier.name.lower()


def _real(source: Any, tables: Mapping[str, Sequence[str]]) -> str:
    name = source.name.lower() if isinstance(source, exp.Table) else ""
    return name if name in tables else ""


def _home(scope: Scope | None, qualifier: str, name: str, tables: Mapping[str, Sequence[str]]) -> str:
    """The real table of a column; empty when it is a derived one or nowhere."""
    while scope is not None:
        for alias, source in scope.sources.items():
            if qualifier in ("", alias.lower()):
                real = _real(source, tables)
                if real and name in tables[real]:
                    return real
                if qualifier and not real:
                    return ""
        scope = scope.parent
    return ""


def _stars(scope: Scope) -> Iterator[str]:
    """What qualifies each star among the scope's own outputs, mostly nothing; that of ``COUNT(*)`` is none."""
    for output in scope.expression.selects if isinstance(scope.expression, exp.Select) else ():
        if isinstance(output, exp.Star):
            yield ""
        elif isinstance(output, exp.Column) and isinstance(output.this, exp.Star):
            yield output.table.lower()


def _clauses(tree: exp.Query) -> dict[str, list[str]]:
    """Clause → its parts in one form, for the outermost query; both sides of a compound one."""
    found: dict[str, list[str]] = {}
    if isinstance(tree, exp.SetOperation):
        found["compound"] = [type(tree).__name__.lower()]
        sides = [side for side in (tree.left, tree.right) if isinstance(side, exp.Query)]
    else:
        sides = [tree]
    for side in sides:
        for name, parts in _parts(side):
            found.setdefault(name, []).extend(
                sorted(_text(part) for part in parts) if name != "order" else map(_text, parts)
            )
    return found


def _parts(tree: exp.Query) -> Iterator[tuple[str, list[exp.Expr]]]:
    args = tree.args
    yield "select", [output.unalias() for output in args.get("expressions") or ()]
    if args.get("distinct"):
        yield "distinct", [exp.column("distinct")]
    source = args.get("from_") or args.get("from")
    joins = args.get("joins") or []
    yield (
        "from",
        [part.this.unalias() if isinstance(part.this, exp.Table) else part.this for part in (source, *joins) if part],
    )
    on = [condition for join in joins if join.args.get("on") for condition in _all_of(join.args["on"])]
    if on:
        yield "join", on
    for name in ("where", "having"):
        if args.get(name):
            yield name, _all_of(args[name].this)
    for name, key in (("group", "group"), ("order", "order")):
        if args.get(key):
            yield name, list(args[key].expressions)
    if args.get("limit"):
        yield "limit", [args["limit"].expression]


def _all_of(condition: exp.Expr) -> list[exp.Expr]:
    return list(condition.flatten()) if isinstance(condition, exp.And) else [condition]


def _text(part: exp.Expr) -> str:
    """One form: lower case outside texts, no quotes around names, equal sides in alphabetical order."""
    if isinstance(part, exp.EQ):
        return " = ".join(sorted((_text(part.left), _text(part.right))))
    copy = part.copy()
    for identifier in copy.find_all(exp.Identifier):
        identifier.set("quoted", False)
        identifier.set("this", identifier.name.lower())
    if isinstance(copy, exp.Table):
        copy.set("alias", None)
    return copy.sql(dialect="sqlite", normalize_functions="lower")

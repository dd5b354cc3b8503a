"""Text-to-SQL over made-up databases, over an SQLite file of the user's, or over Spider's schemas.

The question holds the schema; the answer is one query, right when it gives what the gold query gives on every instance
of the database (`sql_data`), run where it can do no harm (`sql_guard`). Databases, not only questions, are disjoint
between the splits wherever there are enough of them. Think2SQL (https://arxiv.org/abs/2504.15077) and Reasoning-SQL
(https://arxiv.org/abs/2503.23157) train on such questions.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from stillroom.chat import ParseStatus, get_format, parse
from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_rng
from stillroom.tasks import sql_rewards
from stillroom.tasks.answers import last_boxed
from stillroom.tasks.base import Solution, Style, Task, question, split_of
from stillroom.tasks.registry import register
from stillroom.tasks.sql_compare import MODES, Mode, overlap, same
from stillroom.tasks.sql_data import databases, spider_schemas
from stillroom.tasks.sql_guard import LONGEST_SQL
from stillroom.tasks.sql_mutate import CLAUSES, mutate, mutations
from stillroom.tasks.sql_query import Query, clauses, english, sql
from stillroom.tasks.sql_questions import LEVELS, draw, mode_of
from stillroom.tasks.sql_run import Failure, Result, analysed, execute, trusted
from stillroom.tasks.sql_schema import Schema, ddl, items, short
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split, Verdict

LAYOUTS = ("equations", "sentences")
_SPLITS: tuple[Split, ...] = ("train", "train", "train", "dev", "test")
"""Of database i, by i modulo 5. With fewer than five databases the question decides."""
_TRIES = 400


@register(
    "sql",
    summary="questions to linked tables, answered by SQL; 1 look-up, 2 aggregate, 3 and 4 joins, 5 HAVING or nested",
    world="sql",
    levels=LEVELS,
)
def sql_task(
    low: int = 1,
    high: int = 5,
    databases: int = 40,
    world_seed: int = 0,
    file: str = "",
    name: str = "",
    compare: str = "",
    ddl: bool = False,
    parts: bool = False,
) -> Task:
    """Text-to-SQL.

    Args:
        databases: how many made-up ones there are; of every five, three are for training, one for dev, one for test.
        file: an SQLite file, or Spider's ``tables.json``, to ask about instead.
        name: of one schema of that ``tables.json``; all of them without it.
        compare: how results are compared: ``set``, ``bag`` or ``ordered``; "" leaves it to the question.
        ddl: the schema as CREATE TABLE statements instead of one short line a table.
        parts: verdicts also name the partial rewards that need a parser (pip install 'stillroom[sql]').

    Raises:
        UserError: levels, a comparison, a file or a name that are not there; fewer than 5 databases.
    """
    if not 1 <= low <= high <= max(LEVELS):
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= {max(LEVELS)}")
    if compare and compare not in MODES:
        raise unknown_name("comparison of results", compare, MODES)
    if not 5 <= databases <= 10_000:
        raise UserError(f"databases={databases} is out of range; give 5 to 10000")
    if parts:
        _require_parser()
    sources = _sources(databases, world_seed, file, name)
    levels = tuple(range(low, high + 1))
    world = file or f"sql-{world_seed}-{databases}"

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError("task 'sql' is endless: say how many problems you want")
        return [_one(sources, world, levels, ddl, compare, split, index, seed) for index in range(n)]

    return Task(
        name="sql",
        summary="questions to linked tables, answered by a query",
        problems=problems,
        verify=partial(verify, parts=parts),
        solve=solve,
        levels=levels,
        world=world,
        corrupt=corrupt,
    )


def _require_parser() -> None:
    from importlib.util import find_spec

    from stillroom.errors import MissingExtraError

    if find_spec("sqlglot") is None:
        raise MissingExtraError("sqlglot", "sql")


def _sources(count: int, world_seed: int, file: str, name: str) -> tuple[str, ...]:
    if not file:
        if name:
            raise UserError(f"name={name} has no effect without file=; give file=tables.json")
        return tuple(f"made/{world_seed}/{index}" for index in range(count))
    if Path(file).suffix == ".json":
        schemas = spider_schemas(file)
        if name and name not in schemas:
            raise unknown_name("Spider schema", name, schemas)
        return tuple(f"spider:{file}#{found}" for found in ([name] if name else schemas))
    if name:
        raise UserError(f"name={name} has no effect with {file!r}: an SQLite file has one schema")
    databases(f"sqlite:{file}")
    return (f"sqlite:{file}",)


def _one(
    sources: Sequence[str],
    world: str,
    levels: Sequence[int],
    as_ddl: bool,
    compare: str,
    split: Split,
    index: int,
    seed: int,
) -> Problem:
    by_database = len(sources) >= len(_SPLITS)
    own = [s for at, s in enumerate(sources) if _SPLITS[at % len(_SPLITS)] == split] if by_database else sources
    level = levels[index % len(levels)]
    rng = derive_rng("sql", world, seed, split, index)
    for _ in range(_TRIES):
        source = rng.choice(own)
        query = draw(databases(source), level, rng)
        if query is None:
            continue
        problem = _problem(source, query, level, as_ddl, compare)
        if by_database or split_of(problem) == split:
            return problem.model_copy(update={"id": f"sql/{seed}/{split}/{index}", "split": split})
    raise UserError(f"no {split} question of level {level} found for {world!r}; leave the level out with low= or high=")


def _problem(source: str, query: Query, level: int, as_ddl: bool, compare: str) -> Problem:
    schema = databases(source)[0].schema
    joins = len(query.joins) + sum(condition.query is not None for condition in query.where)
    return Problem(
        id="",
        task="sql",
        messages=question(f"{ddl(schema) if as_ddl else short(schema)}\n{english(query)}"),
        reference=sql(query),
        level=level,
        assets={"database": source},
        meta={
            "compare": compare or mode_of(query),
            "joins": joins,
            "query": query.model_dump(mode="json", exclude_defaults=True),
        },
    )


# -- verifier --------------------------------------------------------------------------------------------------------


def extract_sql(text: str, *, strict: bool = True) -> str | None:
    r"""The query of a response; None when its thought never closes or nothing follows it.

    The last fenced block of the answer part, else the last ``\boxed{}``, else what stands between the last
    ``<answer>`` and ``</answer>``, else the whole answer part.

    Args:
        strict: False looks, when none of these is there, for the last line that begins with SELECT or WITH.
    """
    parsed = parse(text)
    if parsed.status is ParseStatus.UNCLOSED:
        return None
    answer = parsed.answer
    pieces = answer.split("```")
    if len(pieces) > 1:
        block = pieces[-2 if len(pieces) % 2 else -1]
        language, line, rest = block.partition("\n")
        return (rest if line and language.strip().isalnum() else block).strip() or None
    boxed = last_boxed(answer)
    if boxed is not None:
        return boxed
    _, opened, rest = answer.rpartition("<answer>")
    if opened:
        return rest.partition("</answer>")[0].strip() or None
    if not strict:
        lines = [line for line in answer.splitlines() if line.lstrip().upper().startswith(("SELECT", "WITH"))]
        return lines[-1].strip() if lines else answer.strip() or None
    return answer.strip() or None


def verify(problem: Problem, text: str, *, strict: bool = True, parts: bool = False) -> Verdict:
    """Whether the response's query gives on every instance what the gold query gives.

    The score is 1 when it does, 0 when it does not run, else the dense score of `sql_compare.overlap`, from 0.1 to 0.9.
    A gold that fails or gives nothing on every instance judges nobody.

    Args:
        text: the response; any string.
        parts: also parse both queries: parts ``schema`` (Jaccard), ``schema_recall``, ``schema_f1``, ``feedback``,
            ``columns``.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    try:
        asked = databases(problem.assets.get("database", ""))
    except UserError as error:
        return Verdict(correct=None, reason=f"no database: {error}")
    query = extract_sql(text, strict=strict)
    if query is None:
        return Verdict(correct=False, score=0.0, reason="no answer")
    golds, found = execute(problem.reference, asked), execute(query, asked)
    broken = next((gold for gold in golds if gold.failure), None)
    if broken is not None:
        return Verdict(correct=None, reason=f"the gold query failed: {broken.failure}: {broken.message}")
    if not any(gold.rows for gold in golds):
        return Verdict(correct=None, reason="the gold query gives nothing")
    failed = next((result for result in found if result.failure), None)
    if failed is not None and failed.failure is Failure.DIED:
        return Verdict(correct=None, reason=f"{failed.failure}: {failed.message}")
    mode: Mode = problem.meta.get("compare", "bag")  # type: ignore[assignment]
    right = failed is None and all(same(g.rows, f.rows, mode) for g, f in zip(golds, found, strict=True))
    named = _parts(problem, query, text, golds, found, right)
    if parts:
        named |= _parsed_parts(problem, query, asked[0].schema, right)
    score = sql_rewards.small_update(named["dense"], right=right, runs=failed is None)
    reason = f"{failed.failure}: {failed.message}" if failed else "equal" if right else "different"
    return Verdict(correct=right, score=score, answer=query[:LONGEST_SQL], parts=named, reason=reason)


def _parts(
    problem: Problem, query: str, text: str, golds: Sequence[Result], found: Sequence[Result], right: bool
) -> dict[str, float]:
    runs = not any(result.failure for result in found)
    overlaps = [overlap(gold.rows, result.rows) for gold, result in zip(golds, found, strict=True)] if runs else []
    touched = {t.lower() for t in golds[0].tables} & {t.lower() for t in found[0].tables}
    short_enough = len(query) <= LONGEST_SQL
    tags = sql_rewards.marks(get_format("think"))
    return {
        "execution": float(right),
        "syntax": float(runs and bool(touched or not golds[0].tables)),
        "dense": 1.0 if right else min(_mean([o.dense for o in overlaps]), 0.9),
        "cell_precision": _mean([o.cell_precision for o in overlaps]),
        "cell_recall": _mean([o.cell_recall for o in overlaps]),
        "cardinality": _mean([o.cardinality for o in overlaps]),
        "ngram": sql_rewards.ngrams(problem.reference or "", query) if short_enough else 0.0,
        "tags": sql_rewards.tag_share(text, tags),
        "format": sql_rewards.format_score(text, tags),
        "characters": float(len(query)),
    }


def _parsed_parts(problem: Problem, query: str, schema: Schema, right: bool) -> dict[str, float]:
    tables = items(schema)
    gold = analysed(problem.reference or "", tables)
    found = analysed(query, tables)
    if gold is None or found is None:
        return {"schema": 0.0, "schema_recall": 0.0, "schema_f1": 0.0, "feedback": 0.0, "columns": 0.0}
    linked = sql_rewards.linked([*gold["tables"], *gold["columns"]], [*found["tables"], *found["columns"]])
    return {
        "schema": linked.jaccard,
        "schema_recall": linked.recall,
        "schema_f1": linked.f1,
        "feedback": 0.0 if right else sql_rewards.agreement(gold["clauses"], found["clauses"]),
        "columns": float(len(found["columns"])),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


# -- solver ----------------------------------------------------------------------------------------------------------

_SENTENCES = {
    "from": "The rows are those of {}.",
    "join": "Join {}.",
    "where": "Keep rows with {}.",
    "group": "Make groups by {}.",
    "having": "Keep groups with {}.",
    "select": "Give {}.",
    "order": "Sort by {}.",
    "limit": "Take the first {}.",
}
_WORDS = {"from": "FROM", "join": "JOIN", "where": "WHERE", "group": "GROUP BY", "having": "HAVING", "select": "SELECT"}


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """One step per clause, in the order in which a query is thought of: tables, joins, filter, groups, output, order.

    A wrong step makes one mistake of `sql_mutate` in its clause, and the query in the end is the one with the mistakes.
    """
    writer = StepWriter("sql", LAYOUTS, style, rng)
    query = Query.model_validate(problem.meta["query"])
    schema, sound = databases(problem.assets["database"])[0].schema, True
    for clause in ("from", *CLAUSES):
        if clause not in clauses(query):
            continue
        slip = mutate(query, clause, schema, rng) if writer.slips() else None
        if slip is not None:
            sound, query = False, slip[1]
        written = clauses(query).get(clause, "")
        text = written.removeprefix(_WORDS.get(clause, clause.upper())).removeprefix("BY").strip() or "nothing"
        if clause == "order":
            text = text.removeprefix("BY").strip()
        line = f"{clause}: {text}" if style.layout == LAYOUTS[0] else _SENTENCES[clause].format(text)
        checks = (f"In SQL: {written or 'nothing'}", f"That is what is asked of {query.table}.")
        writer.step(line, checks, sound=sound, injected=slip is not None)
    return writer.solution(sql(query))


def corrupt(problem: Problem) -> str:
    """A query with one mistake that is seen on some instance; mistakes that change no result are true alternatives."""
    query, asked = Query.model_validate(problem.meta["query"]), databases(problem.assets["database"])
    mode: Mode = problem.meta.get("compare", "bag")  # type: ignore[assignment]
    golds = [trusted(database, problem.reference or "") for database in asked]
    wrong = mutations(query, asked[0].schema)
    derive_rng("sql-corrupt", problem.id).shuffle(wrong)
    for _, mutated in wrong:
        if any(not same(gold, trusted(d, sql(mutated)), mode) for gold, d in zip(golds, asked, strict=True)):
            return sql(mutated)
    return "SELECT NULL"

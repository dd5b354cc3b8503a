"""Is this query right? Candidates for a question, labelled by execution, and a comparison clause by clause.

A set of candidates is the gold query among queries with one typed mistake (`sql_mutate`) or a broken one. A candidate
is right when it gives what the gold gives on *every* instance of the database: a mistake that changes nothing there is
no mistake, and luck on one instance is no proof. The task asks about one candidate; whole sets are ranked with
`measures.ranking`.

Anjum, "When Reasoning Beats Scale: A 1.5B Reasoning Model Outranks 13B LLMs as Discriminator" (2025,
https://arxiv.org/abs/2505.03786).
"""

import json
import re
from random import Random
from typing import NamedTuple

from stillroom.chat import ParseStatus, parse
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Solution, Style, Task, question
from stillroom.tasks.registry import register
from stillroom.tasks.sql import sql_task
from stillroom.tasks.sql_compare import Mode, same
from stillroom.tasks.sql_data import databases
from stillroom.tasks.sql_mutate import mutations
from stillroom.tasks.sql_query import Query, sql
from stillroom.tasks.sql_questions import LEVELS
from stillroom.tasks.sql_run import execute
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split, Verdict

LAYOUTS = ("equations", "sentences")
_SHOWN_ROWS, _SHOWN_CHARACTERS = 5, 128
_LONGEST = 2_000  # characters of an object
_OBJECTS = 64  # openings of JSON objects that are tried, from the end
_WORD = re.compile(r'"correct"\s*:\s*"?(true|false)\b', re.IGNORECASE)
_MEND = ((re.compile(r",\s{0,9}}"), "}"), (re.compile(r"\bTrue\b"), "true"), (re.compile(r"\bFalse\b"), "false"))


class Candidate(NamedTuple):
    """A query that might answer a question."""

    sql: str
    kind: str
    """``gold``, ``syntax``, or the kind of its mistake (`sql_mutate.mutate`)."""
    right: bool
    """By execution on every instance."""
    runs: bool


@register(
    "sql-judging",
    summary="is this query right? clause by clause, with a verdict in JSON; level as in sql",
    world="sql",
    levels=LEVELS,
)
def sql_judging(low: int = 1, high: int = 5, databases: int = 40, world_seed: int = 0, result: bool = False) -> Task:
    """Verdicts on candidate queries, half of them right.

    Args:
        low, high, databases, world_seed: as in `sql.sql_task`.
        result: also show the first rows of what the candidate gives.

    Raises:
        UserError: as `sql.sql_task`.
    """
    asked = sql_task(low, high, databases, world_seed)

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        return [_judged(problem, result) for problem in asked.problems(split, n, seed)]

    return Task(
        name="sql-judging",
        summary="is this query right?",
        problems=problems,
        verify=verify,
        solve=solve,
        levels=asked.levels,
        world=asked.world,
        corrupt=lambda problem: _json("false" if problem.reference == _json("true") else "true"),
    )


def candidates(problem: Problem, count: int, rng: Random) -> list[Candidate]:
    """The gold query and `count` - 1 others in random order, all different; fewer where no more mistakes are known."""
    query = Query.model_validate(problem.meta["query"])
    gold = problem.reference or ""
    wrong = [
        (kind, sql(mutated)) for kind, mutated in mutations(query, databases(problem.assets["database"])[0].schema)
    ]
    wrong.append(("syntax", _broken(gold, rng)))
    rng.shuffle(wrong)
    every = dict[str, str]({gold: "gold"})
    for kind, text in wrong:
        if len(every) < count:
            every.setdefault(text, kind)
    found = [label(problem, text, kind) for text, kind in every.items()]
    return rng.sample(found, len(found))


def label(problem: Problem, text: str, kind: str = "") -> Candidate:
    """A candidate with its label: whether it gives what the gold gives on every instance.

    Raises:
        UserError: the guarded process is gone, so that nothing can be said.
    """
    asked = databases(problem.assets["database"])
    mode: Mode = problem.meta.get("compare", "bag")  # type: ignore[assignment]
    golds, found = execute(problem.reference or "", asked), execute(text, asked)
    if any(result.failure == "died" for result in (*golds, *found)):
        raise UserError("the process that runs queries is gone; try again")
    runs = not any(result.failure for result in found)
    right = runs and all(same(g.rows, f.rows, mode) for g, f in zip(golds, found, strict=True))
    return Candidate(text, kind, right, runs)


def _broken(gold: str, rng: Random) -> str:
    """The query without one of its words, where that is a mistake of syntax."""
    words = gold.split()
    return " ".join(word for at, word in enumerate(words) if at != words.index(rng.choice(("SELECT", "FROM"))))


def _judged(problem: Problem, with_result: bool) -> Problem:
    rng = derive_rng("sql-judging", problem.id)
    gold = problem.reference or ""
    wanted = rng.random() < 0.5
    chosen = Candidate(gold, "gold", True, True)
    if not wanted:
        wrong = [candidate for candidate in candidates(problem, 6, rng) if not candidate.right]
        chosen = wrong[0] if wrong else chosen
    shown = problem.messages[0].content + f"\nQuery: {chosen.sql}"
    if with_result:
        shown += f"\nResult: {result_text(problem, chosen.sql)}"
    update = {
        "id": problem.id.replace("sql/", "sql-judging/", 1),
        "task": "sql-judging",
        "messages": question(shown + "\nIs the query right?"),
        "reference": _json("true" if chosen.right else "false"),
        "meta": {**problem.meta, "gold": gold, "candidate": chosen.sql, "kind": chosen.kind},
    }
    return problem.model_copy(update=update)


def result_text(problem: Problem, text: str) -> str:
    """What a query gives on the first instance, column by column: five rows, values cut at 128 characters."""
    (found,) = execute(text, databases(problem.assets["database"])[:1])
    if found.failure:
        return f"{found.failure}: {found.message}"[:_SHOWN_CHARACTERS]
    columns = zip(*found.rows[:_SHOWN_ROWS], strict=True)
    return "; ".join(", ".join(str(cell)[:_SHOWN_CHARACTERS] for cell in column) for column in columns) or "nothing"


# -- verdicts --------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """A verdict that was written, and where its word stands in the text, for whoever reads a probability there."""

    correct: bool
    start: int
    end: int


def _json(word: str) -> str:
    return f'{{"correct": {word}}}'


def read_verdict(text: str) -> Said | None:
    """The last JSON object of the answer part whose ``correct`` is true or false, also written as a string.

    A comma too many and Python's True and False are mended. Objects nest; the thought is not looked at.
    """
    parsed = parse(text)
    if parsed.status is ParseStatus.UNCLOSED:
        return None
    offset, at, decoder = len(text) - len(parsed.answer), len(text), json.JSONDecoder()
    for _ in range(_OBJECTS):
        at = text.rfind("{", offset, at)
        if at < 0:
            return None
        said = text[at : at + _LONGEST]
        for pattern, mended in _MEND:
            said = pattern.sub(mended, said)
        try:
            found, _end = decoder.raw_decode(said)
        except (ValueError, RecursionError):
            continue
        value = str(found.get("correct")).lower() if isinstance(found, dict) else ""
        word = next((match for match in _WORD.finditer(text, at, at + _LONGEST) if match[1].lower() == value), None)
        if word is not None:
            return Said(value == "true", word.start(1), word.end(1))
    return None


def soft_score(said: Said | None, probability: float | None) -> float | None:
    """How sure a verdict is that the candidate is right, in [0, 1]; None without one.

    Args:
        said: what was read.
        probability: of the first token of the verdict's word, from raw logits; None: 1, the binary score.
    """
    if said is None:
        return None
    sure = 1.0 if probability is None else probability
    return sure if said.correct else 1.0 - sure


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether the verdict in JSON is the right one. Not lenient: `strict` changes nothing."""
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    said = read_verdict(text)
    if said is None:
        return Verdict(correct=False, score=0.0, reason="no answer")
    right = said.correct == (problem.reference == _json("true"))
    return Verdict(
        correct=right,
        score=float(right),
        answer="true" if said.correct else "false",
        reason="equal" if right else "different",
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Clause by clause: what the question needs, and whether the query says it.

    It compares with the gold query's clauses, as a teacher does who sees it; of a query that does not run, that is all
    it says. A wrong step takes a clause for right that is wrong, or the other way round, and the verdict follows.
    """
    writer = StepWriter("sql-judging", LAYOUTS, style, rng)
    gold, candidate = _clauses(str(problem.meta["gold"])), _clauses(str(problem.meta["candidate"]))
    truth = problem.reference == _json("true")
    differ = [name for name in {**gold, **candidate} if gold.get(name) != candidate.get(name)]
    sound, verdict = True, True
    if str(problem.meta["kind"]) == "syntax":
        injected = writer.slips()
        said = "it runs" if injected else "it does not run"
        sound, verdict = not injected, injected
        writer.step(said, ("as SQLite reads it",), sound=sound, injected=injected)
        return writer.solution(_json("true" if verdict else "false"))
    for name in {**gold, **candidate}:
        right = truth or name not in differ
        injected = writer.slips()
        sound = sound and not injected
        fine = right != injected
        verdict = verdict and fine
        needed = gold.get(name, "nothing")
        plain = f"{name}: {needed} {'ok' if fine else 'wrong'}"
        spoken = f"The question needs {needed}, and the {name} clause is {'right' if fine else 'wrong'}."
        writer.step(plain if style.layout == LAYOUTS[0] else spoken, ("compared",), sound=sound, injected=injected)
    return writer.solution(_json("true" if verdict else "false"))


_BREAKS = re.compile(r" (?=(?:FROM|JOIN|WHERE|GROUP BY|HAVING|ORDER BY|LIMIT)\b)")


def _clauses(text: str) -> dict[str, str]:
    """A query of ours cut at its outermost keywords: first word in lower case → clause."""
    found: dict[str, str] = {}
    depth, start, pieces = 0, 0, list[str]()
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character == " " and _BREAKS.match(text, at):
            pieces.append(text[start:at])
            start = at + 1
    pieces.append(text[start:])
    for piece in pieces:
        name = piece.split(" ", 1)[0].lower()
        found[name] = f"{found[name]} {piece}" if name in found else piece
    return found

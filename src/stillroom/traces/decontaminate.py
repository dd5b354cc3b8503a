"""Which traces give away the evaluation: a question, or part of one, that the evaluation set asks as well.

Two ways, because neither fits every task. **ngram** (a shared run of n words) finds rewritten and embedded copies of
questions in natural language. **exact** (the same question, up to case, white space and the instruction around it) fits
generated questions that share one template: there any two questions share n-grams, and an n-gram hit says nothing.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from stillroom.errors import UserError
from stillroom.traces.ngrams import I64, grams, spelled, words
from stillroom.traces.pool import Chunk, Pool, as_pool
from stillroom.traces.store import squeezed
from stillroom.types import Problem

How = Literal["ngram", "exact"]

_PREFIX = np.uint64(64 - 22)
_FOUND = {"row": pl.Int64, "evaluation_id": pl.String, "match": pl.String, "share": pl.Float64}


def find(
    traces: Pool | pl.DataFrame,
    problems: Sequence[Problem],
    *,
    how: How = "ngram",
    n: int = 8,
    responses: bool = False,
) -> pl.DataFrame:
    """The traces that overlap with evaluation problems.

    A question of fewer than n words has no n-gram; it is then matched whole, as with ``how="exact"``.

    Args:
        traces: a pool, or a frame with columns of the store or with ``id``, ``question`` and ``response``.
        problems: the evaluation set; its last user messages are searched for.
        how: ``ngram`` or ``exact``, see above.
        n: words per n-gram (8: one shared run of eight words drops a trace).
        responses: also search the responses (ngram only).

    Returns:
        One row per contaminated trace, in order: ``row``, ``id``, ``evaluation_id`` (the first problem that has the
        match), ``match`` (the n-gram, or the whole question) and ``share`` (of the trace's n-grams that the evaluation
        set has; 1 for a whole match). A share near 1 is a copy, a small one often a turn of phrase.
    """
    pool, finder = as_pool(traces), Finder(problems, how=how, n=n, responses=responses)
    for chunk in pool.texts():
        finder.add(chunk)
    return finder.found(pool, np.arange(pool.height))


class Finder:
    """`find` over chunks of texts: add them all in order, then ask."""

    def __init__(self, problems: Sequence[Problem], *, how: How = "ngram", n: int = 8, responses: bool = False) -> None:
        if how == "exact" and responses:
            raise UserError("how='exact' compares whole questions; responses can only be searched with how='ngram'")
        if n < 1:
            raise UserError(f"n-grams of {n} words do not exist; 8 is usual")
        column = words(pl.Series([_asked(problem) for problem in problems], dtype=pl.String))
        length = np.diff(column.start)
        self.problems, self.n, self.responses = problems, n, responses
        self._whole = _whole_questions(problems, [how == "exact" or few < n for few in length.tolist()])
        evaluation = grams(column, n)
        long = (length[evaluation.row] >= n) & (how == "ngram")
        self._hashes, first = np.unique(evaluation.hash[long], return_index=True)
        self._owner = evaluation.row[long][first]
        self._prefixes = np.zeros(1 << 22, dtype=np.bool_)
        self._prefixes[self._hashes >> _PREFIX] = True
        self._found = [pl.DataFrame(schema=_FOUND)]

    def add(self, chunk: Chunk) -> None:
        if self._whole.height:
            self._found.append(self._whole_matches(chunk))
        if len(self._hashes):
            self._found.append(self._ngram_matches(chunk))

    def found(self, pool: Pool, rows: I64) -> pl.DataFrame:
        """Which of the given rows, ascending, were found; as `find`."""
        found = pl.concat(self._found)
        found = found.filter(np.isin(found["row"].to_numpy(), rows))
        found = found.unique("row", keep="first", maintain_order=True).sort("row")
        named = pool.columns("id", rows=found["row"].to_numpy())
        return found.with_columns(named["id"]).select("row", "id", "evaluation_id", "match", "share")

    def _whole_matches(self, chunk: Chunk) -> pl.DataFrame:
        question = pl.col("question")
        return (
            pl.LazyFrame({"row": chunk.row, "question": chunk.question})
            .select("row", match=pl.concat_list(question, question.str.replace(r"(?s)^(.*)\n\s*\n.*$", "$1")))
            .explode("match")
            .with_columns(_normal(pl.col("match")))
            .join(self._whole.lazy(), on="match", how="inner", maintain_order="left")
            .unique("row", keep="first", maintain_order=True)
            .select("row", "evaluation_id", "match", share=pl.lit(1.0))
            .collect()
        )

    def _ngram_matches(self, chunk: Chunk) -> pl.DataFrame:
        mine = words(chunk.question + "\n" + chunk.response) if self.responses else chunk.asked
        theirs = grams(mine, self.n)
        # Almost no n-gram is one of theirs, which the first bits of its hash mostly tell without a search.
        maybe = np.flatnonzero(self._prefixes[theirs.hash >> _PREFIX])
        place = np.minimum(np.searchsorted(self._hashes, theirs.hash[maybe]), len(self._hashes) - 1)
        same = self._hashes[place] == theirs.hash[maybe]
        hits, owners = maybe[same], self._owner[place[same]]
        rows, position = np.unique(theirs.row[hits], return_index=True)
        first = hits[position]
        height = len(chunk.row)
        total = np.bincount(theirs.row, minlength=height)
        shares = np.bincount(theirs.row[hits], minlength=height) / np.maximum(total, 1)
        return pl.DataFrame(
            {
                "row": chunk.row[rows],
                "evaluation_id": [self.problems[owner].id for owner in owners[position].tolist()],
                "match": [spelled(mine, at, self.n) for at in theirs.word[first].tolist()],
                "share": shares[rows],
            },
            schema=_FOUND,
        )


def _asked(problem: Problem) -> str:
    return next((m.content for m in reversed(problem.messages) if m.role == "user"), "")


def _normal(text: pl.Expr) -> pl.Expr:
    """Case, white space, compatibility forms and a wrapping "Question: … Answer:" removed; operators stay."""
    return (
        squeezed(text.str.normalize("NFKC").str.to_lowercase())
        .str.replace(r"^(?:question|problem|q)\s*:\s*", "")
        .str.replace(r"\s*\b(?:answer|a)\s*:$", "")
    )


def _whole_questions(problems: Sequence[Problem], whole: Sequence[bool]) -> pl.DataFrame:
    """The questions that are matched whole: ``match`` (normal form) and ``evaluation_id`` (the first that asks it)."""
    # A format may append its instruction as a paragraph of its own and its options as lines: try without, too.
    options = ["".join(f"\n({chr(65 + i)}) {option}" for i, option in enumerate(p.options)) for p in problems]
    asked = [_asked(p) for p in problems]
    return (
        pl.DataFrame(
            {"evaluation_id": [p.id for p in problems], "plain": asked, "options": options, "whole": whole},
            schema={"evaluation_id": pl.String, "plain": pl.String, "options": pl.String, "whole": pl.Boolean},
        )
        .filter("whole")
        .select("evaluation_id", match=pl.concat_list("plain", pl.col("plain") + pl.col("options")))
        .explode("match")
        .with_columns(_normal(pl.col("match")))
        .filter(pl.col("match") != "")
        .unique("match", keep="first", maintain_order=True)
    )

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
from stillroom.traces.ngrams import Words, grams, words
from stillroom.traces.store import squeezed, with_texts
from stillroom.types import Problem

How = Literal["ngram", "exact"]

_CHUNK = 20_000
_SCHEMA = {
    "row": pl.UInt32,
    "id": pl.String,
    "evaluation_id": pl.String,
    "match": pl.String,
    "share": pl.Float64,
}


def find(
    frame: pl.DataFrame,
    problems: Sequence[Problem],
    *,
    how: How = "ngram",
    n: int = 8,
    responses: bool = False,
) -> pl.DataFrame:
    """The traces that overlap with evaluation problems.

    A question of fewer than n words has no n-gram; it is then matched whole, as with ``how="exact"``.

    Args:
        frame: columns of the store, or ``id``, ``question`` and ``response``.
        problems: the evaluation set; its last user messages are searched for.
        how: ``ngram`` or ``exact``, see above.
        n: words per n-gram (8: one shared run of eight words drops a trace).
        responses: also search the responses (ngram only).

    Returns:
        One row per contaminated trace, in order: ``row``, ``id``, ``evaluation_id`` (the first problem that has the
        match), ``match`` (the n-gram, or the whole question) and ``share`` (of the trace's n-grams that the evaluation
        set has; 1 for a whole match). A share near 1 is a copy, a small one often a turn of phrase.
    """
    if how == "exact" and responses:
        raise UserError("how='exact' compares whole questions; responses can only be searched with how='ngram'")
    if n < 1:
        raise UserError(f"n-grams of {n} words do not exist; 8 is usual")
    frame = with_texts(frame).select("id", "question", *(["response"] if responses else []))
    texts = pl.Series([_asked(problem) for problem in problems], dtype=pl.String)
    column = words(texts)
    whole = [how == "exact" or length < n for length in np.diff(column.start).tolist()]
    found = [_whole_matches(frame, problems, whole)]
    if how == "ngram":
        found.append(_ngram_matches(frame, problems, column, n, responses))
    return pl.concat(found).unique("row", keep="first", maintain_order=True).sort("row")


def _asked(problem: Problem) -> str:
    return next((m.content for m in reversed(problem.messages) if m.role == "user"), "")


def _normal(text: pl.Expr) -> pl.Expr:
    """Case, white space, compatibility forms and a wrapping "Question: … Answer:" removed; operators stay."""
    return (
        squeezed(text.str.normalize("NFKC").str.to_lowercase())
        .str.replace(r"^(?:question|problem|q)\s*:\s*", "")
        .str.replace(r"\s*\b(?:answer|a)\s*:$", "")
    )


def _whole_matches(frame: pl.DataFrame, problems: Sequence[Problem], whole: list[bool]) -> pl.DataFrame:
    # A format may append its instruction as a paragraph of its own and its options as lines: try without, too.
    options = ["".join(f"\n({chr(65 + i)}) {option}" for i, option in enumerate(p.options)) for p in problems]
    asked = [_asked(p) for p in problems]
    evaluation = (
        pl.DataFrame(
            {"evaluation_id": [p.id for p in problems], "plain": asked, "options": options, "whole": whole},
            schema={"evaluation_id": pl.String, "plain": pl.String, "options": pl.String, "whole": pl.Boolean},
        )
        .filter("whole")
        .with_row_index("order")
        .select("order", "evaluation_id", match=pl.concat_list("plain", pl.col("plain") + pl.col("options")))
        .explode("match")
        .with_columns(_normal(pl.col("match")))
        .filter(pl.col("match") != "")
        .unique("match", keep="first", maintain_order=True)
    )
    if not evaluation.height:
        return pl.DataFrame(schema=_SCHEMA)
    question = pl.col("question")
    return (
        frame.lazy()
        .with_row_index("row")
        .select("row", "id", match=pl.concat_list(question, question.str.replace(r"(?s)^(.*)\n\s*\n.*$", "$1")))
        .explode("match")
        .with_columns(_normal(pl.col("match")))
        .join(evaluation.lazy(), on="match", how="inner", maintain_order="left")
        .unique("row", keep="first", maintain_order=True)
        .select("row", "id", "evaluation_id", "match", share=pl.lit(1.0))
        .collect()
    )


def _ngram_matches(
    frame: pl.DataFrame, problems: Sequence[Problem], column: Words, n: int, responses: bool
) -> pl.DataFrame:
    evaluation = grams(column, n)
    long = np.diff(column.start)[evaluation.row] >= n
    hashes, first = np.unique(evaluation.hash[long], return_index=True)
    owner = evaluation.row[long][first]
    if not len(hashes):
        return pl.DataFrame(schema=_SCHEMA)
    found: list[tuple[int, str, str, str, float]] = []
    for start in range(0, frame.height, _CHUNK):
        chunk = frame[start : start + _CHUNK]
        texts = chunk["question"] + "\n" + chunk["response"] if responses else chunk["question"]
        mine = words(texts)
        theirs = grams(mine, n)
        place = np.minimum(np.searchsorted(hashes, theirs.hash), len(hashes) - 1)
        hits = np.flatnonzero(hashes[place] == theirs.hash)
        rows, position = np.unique(theirs.row[hits], return_index=True)
        shares = np.bincount(theirs.row[hits], minlength=chunk.height) / np.maximum(
            np.bincount(theirs.row, minlength=chunk.height), 1
        )
        for row, hit in zip(rows.tolist(), hits[position].tolist(), strict=True):
            at = int(theirs.word[hit])
            found.append(
                (
                    start + row,
                    chunk["id"][row],
                    problems[int(owner[place[hit]])].id,
                    " ".join(mine.flat[at : at + n].to_list()),
                    float(shares[row]),
                )
            )
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")

"""What a pool of traces says about its problems: pass rates, spread, lengths. Null is unknown and never counts as 0."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from stillroom.traces.pool import Pool, as_pool
from stillroom.traces.store import squeezed

KEYS = ("task", "problem_id")
"""A problem: ids are unique within their task."""

_ROWS_AT_ONCE = 1_000_000
_FAILED = ("error", "timeout", "filtered")


def problem_stats(traces: Pool | pl.DataFrame, *, by_sampler: bool = True) -> pl.DataFrame:
    """One row per problem (and sampler), in order of first appearance.

    Args:
        traces: a pool, or a frame with columns of the store, where ``response`` may stand for `taught`.
        by_sampler: False pools all samplers of a problem.

    Returns:
        ``task, problem_id, [sampler,] level`` and
        ``n_trials`` (rows), ``n_judged`` (rows with a verdict of right or wrong), ``n_correct``;
        ``pass_rate`` = n_correct / n_judged, null when none was judged;
        ``pass_rate_posterior`` = (n_correct + 1) / (n_judged + 2), the mean of Beta(1, 1) after the judged trials;
        ``mean_score``, ``sigma`` (ddof = 0), ``cv`` = sigma / mean_score over judged scores (null when the mean is 0);
        ``mean_completion_tokens``; ``distinct_ratio`` (distinct responses, white space apart, per trial);
        ``tries_to_first`` (judged trials up to and including the first correct one, by round and index; null if none);
        ``truncated`` (share that hit the token limit).
    """
    pool = as_pool(traces)
    keys = [*KEYS, *(["sampler"] if by_sampler else [])]
    hashes = [chunk.response.to_frame("r").select(squeezed(pl.col("r")).hash())["r"] for chunk in pool.texts()]
    # Few different texts stand in many rows: their numbers take a quarter of the memory.
    numbered = [pl.col(key).cast(pl.Categorical) for key in keys]
    names = ("level", "correct", "score", "completion_tokens", "round", "index")
    columns = pool.columns(*numbered, *names, (pl.col("finish") == "length").alias("truncated")).with_columns(
        pl.Series("response", np.concatenate([np.zeros(0, dtype=np.uint64), *hashes]))
    )
    del hashes
    # A part of the problems at a time, because grouping takes several times the room of what it groups.
    parts = -(-pool.height // _ROWS_AT_ONCE) or 1
    part = pl.col("problem_id").to_physical() % parts
    found = [_by_problem(columns.filter(part == number), keys) for number in range(parts)]
    return pl.concat(found).sort("row").drop("row").with_columns(pl.col(keys).cast(pl.String))


def _by_problem(columns: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """`problem_stats` of some columns, and ``row``, the first of each group."""
    correct = pl.col("correct").sort_by("round", "index", maintain_order=True).drop_nulls()
    return (
        columns.lazy()
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col("row", "level").first(),
            pl.len().cast(pl.Int64).alias("n_trials"),
            pl.col("correct").count().cast(pl.Int64).alias("n_judged"),
            pl.col("correct").sum().cast(pl.Int64).alias("n_correct"),
            pl.col("correct").mean().alias("pass_rate"),
            ((pl.col("correct").sum() + 1) / (pl.col("correct").count() + 2)).alias("pass_rate_posterior"),
            pl.col("score").mean().alias("mean_score"),
            # Polars gives 0 for the spread of nothing in some plans.
            pl.when(pl.col("score").count() > 0).then(pl.col("score").std(ddof=0)).alias("sigma"),
            pl.col("completion_tokens").mean().alias("mean_completion_tokens"),
            (pl.col("response").n_unique() / pl.len()).alias("distinct_ratio"),
            pl.when(correct.any()).then(correct.arg_max().cast(pl.Int64) + 1).alias("tries_to_first"),
            pl.col("truncated").mean(),
        )
        .with_columns(
            pl.when(pl.col("mean_score") > 0).then(pl.col("sigma") / pl.col("mean_score")).alias("cv"),
        )
        .select(
            "row",
            *keys,
            "level",
            "n_trials",
            "n_judged",
            "n_correct",
            "pass_rate",
            "pass_rate_posterior",
            "mean_score",
            "sigma",
            "cv",
            "mean_completion_tokens",
            "distinct_ratio",
            "tries_to_first",
            "truncated",
        )
        .collect()
    )


@dataclass(frozen=True)
class Summary:
    """Totals over a pool of traces."""

    n_traces: int
    n_problems: int
    n_judged: int
    n_correct: int
    accuracy: float | None
    """n_correct / n_judged; None when nothing was judged."""
    truncated: float | None
    """Share that hit the token limit; None for no traces."""
    failed: float | None
    """Share without a usable response: error, timeout or filtered."""
    never_solved: int
    """Problems with judged traces, none of them correct."""
    always_solved: int
    """Problems with judged traces, all of them correct."""
    prompt_tokens: int
    completion_tokens: int
    mean_completion_tokens: float | None
    cost_usd: float | None
    """Over the traces with a known price; None when there is none."""
    n_priced: int
    by_level: dict[int, tuple[int, int, int]]
    """level -> (traces, judged, correct)."""
    by_task: dict[str, int]
    """task -> traces; so for sampler, source and finish."""
    by_sampler: dict[str, int]
    by_source: dict[str, int]
    by_finish: dict[str, int]


def summary(frame: pl.DataFrame | pl.LazyFrame) -> Summary:
    """Totals over the traces of a frame; needs no text."""
    lazy = frame.lazy()
    correct, tokens, cost = pl.col("correct"), pl.col("completion_tokens"), pl.col("cost_usd")
    total = lazy.select(
        n_traces=pl.len(),
        n_judged=correct.count(),
        n_correct=correct.sum(),
        accuracy=correct.mean(),
        truncated=(pl.col("finish") == "length").mean(),
        failed=pl.col("finish").is_in(_FAILED).mean(),
        prompt_tokens=pl.col("prompt_tokens").sum(),
        completion_tokens=tokens.sum(),
        mean_completion_tokens=tokens.mean(),
        cost_usd=pl.when(cost.count() > 0).then(cost.sum()),
        n_priced=cost.count(),
    ).collect()
    rates = lazy.group_by(KEYS).agg(rate=correct.mean()).collect()["rate"]
    levels = lazy.group_by("level").agg(pl.len(), correct.count().alias("judged"), correct.sum().alias("right"))
    return Summary(
        **total.row(0, named=True),
        n_problems=len(rates),
        never_solved=int((rates == 0).sum()),
        always_solved=int((rates == 1).sum()),
        by_level={level: (n, judged, right) for level, n, judged, right in levels.sort("level").collect().iter_rows()},
        by_task=_counts(lazy, "task"),
        by_sampler=_counts(lazy, "sampler"),
        by_source=_counts(lazy, "source"),
        by_finish=_counts(lazy, "finish"),
    )


def _counts(lazy: pl.LazyFrame, column: str) -> dict[str, int]:
    return dict(lazy.group_by(column).agg(pl.len()).sort(column).collect().iter_rows())

"""Which traces to train on: small rules applied in order, each dropped trace with one reason, nothing lost.

A rule sees the traces that earlier rules left, and beside them the whole pool: a pass rate is a property of all trials,
not of those that survived `correct`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_seed
from stillroom.traces import decontaminate as contamination
from stillroom.traces import dedup, stats
from stillroom.traces.store import with_texts
from stillroom.types import Problem

_ROW = "__row"


class Pool(NamedTuple):
    """What a rule decides on; both frames carry the column ``__row``."""

    left: pl.DataFrame
    """The traces that no earlier rule dropped, in input order."""
    whole: pl.DataFrame
    """All traces."""


@dataclass(frozen=True)
class Rule:
    """A named reason to drop traces; made by the functions below."""

    name: str
    drop: Callable[[Pool], pl.DataFrame]
    """Returns ``__row``, ``reason``, ``detail`` of the traces to drop."""
    reads_text: bool = False


@dataclass(frozen=True)
class Selection:
    """What a list of rules kept and why the rest went."""

    kept: pl.DataFrame
    """The kept rows of the input, in input order and with its columns."""
    dropped: pl.DataFrame
    """``id``, ``reason``, ``detail``, in input order; one row per dropped trace."""
    counts: dict[str, int]
    """reason -> traces dropped for it, in the order of the rules."""


def apply(frame: pl.DataFrame, rules: Sequence[Rule]) -> Selection:
    """Apply the rules in order; a trace is dropped by the first rule that names it.

    Args:
        frame: columns of the store; ``question`` and ``response`` are used when they are there, else made from
            `taught` for rules that read text.
    """
    whole = with_texts(frame) if any(rule.reads_text for rule in rules) else frame
    whole = whole.with_row_index(_ROW)
    left, drops = whole, [_no_drops()]
    for rule in rules:
        dropped = rule.drop(Pool(left, whole)).select(*_no_drops().columns)
        left = left.join(dropped, on=_ROW, how="anti", maintain_order="left")
        drops.append(dropped)
    gone = pl.concat(drops)
    counts = {str(reason): n for reason, n in gone.group_by("reason", maintain_order=True).len().iter_rows()}
    gone = gone.sort(_ROW).select(frame["id"].gather(gone.sort(_ROW)[_ROW]).alias("id"), "reason", "detail")
    return Selection(frame[left[_ROW]], gone, counts)


def correct() -> Rule:
    """Keep what the verifier accepted; ``wrong`` and ``unjudged`` are told apart."""

    def drop(pool: Pool) -> pl.DataFrame:
        verdict = pl.col("correct")
        return _drop(
            pool.left.filter(verdict.not_().fill_null(True)),
            pl.when(verdict.is_null()).then(pl.lit("unjudged")).otherwise(pl.lit("wrong")),
            pl.col("reason").fill_null("no verdict"),
        )

    return Rule("correct", drop)


def finished() -> Rule:
    """Keep responses that ended by themselves; drop ``truncated`` ones and those that ``failed``."""

    def drop(pool: Pool) -> pl.DataFrame:
        finish = pl.col("finish")
        reason = pl.when(finish == "length").then(pl.lit("truncated")).otherwise(pl.lit("failed"))
        return _drop(pool.left.filter(finish != "stop"), reason, finish)

    return Rule("finished", drop)


def unique() -> Rule:
    """Keep the first of all traces with one question and one response, white space apart."""

    def drop(pool: Pool) -> pl.DataFrame:
        return _found(pool, dedup.exact(pool.left), "duplicate", "of " + pl.col("duplicate_of"))

    return Rule("unique", drop, reads_text=True)


def near_unique(threshold: float = 0.8, n: int = 5) -> Rule:
    """Keep the first of all traces whose question and response are nearly the same; see `dedup.near`."""

    def drop(pool: Pool) -> pl.DataFrame:
        detail = pl.format("{} like {}", pl.col("similarity").round(2), "duplicate_of")
        return _found(pool, dedup.near(pool.left, threshold=threshold, n=n), "near duplicate", detail)

    return Rule(f"near-unique={threshold:g}", drop, reads_text=True)


def decontaminated(problems: Sequence[Problem], *, how: contamination.How = "ngram", n: int = 8) -> Rule:
    """Drop traces that overlap with evaluation problems; see `decontaminate.find`."""

    def drop(pool: Pool) -> pl.DataFrame:
        detail = pl.format("{}: {}", "evaluation_id", "match")
        return _found(pool, contamination.find(pool.left, problems, how=how, n=n), "contaminated", detail)

    return Rule(f"decontaminated={'exact' if how == 'exact' else n}", drop, reads_text=True)


def max_tokens(limit: int) -> Rule:
    """Keep responses of at most so many tokens."""
    return _token_rule(f"max-tokens={limit}", pl.col("completion_tokens") > limit, "too long")


def min_tokens(limit: int) -> Rule:
    """Keep responses of at least so many tokens."""
    return _token_rule(f"min-tokens={limit}", pl.col("completion_tokens") < limit, "too short")


def pass_rate(lo: float, hi: float, n_min: int = 1) -> Rule:
    """Keep problems whose pass rate over the whole pool, all samplers together, lies in [lo, hi].

    Problems with fewer than n_min judged trials are dropped as ``pass rate unknown``.
    """
    if not 0 <= lo <= hi <= 1:
        raise UserError(f"pass-rate={lo:g}..{hi:g} is no range within 0..1")

    def drop(pool: Pool) -> pl.DataFrame:
        rates = (
            pool.whole.lazy()
            .group_by(stats.KEYS)
            .agg(rate=pl.col("correct").mean(), judged=pl.col("correct").count())
            .collect()
        )
        unknown = pl.col("judged") < max(n_min, 1)
        return _drop(
            pool.left.join(rates, on=stats.KEYS, how="left", maintain_order="left").filter(
                unknown | ~pl.col("rate").is_between(lo, hi)
            ),
            pl.when(unknown).then(pl.lit("pass rate unknown")).otherwise(pl.lit("pass rate")),
            pl.format("{} of {} judged", pl.col("rate").round(3).cast(pl.String).fill_null("none"), "judged"),
        )

    return Rule(f"pass-rate={lo:g}..{hi:g}@{n_min}", drop)


def levels(lo: int, hi: int) -> Rule:
    """Keep problems of difficulty lo to hi."""

    def drop(pool: Pool) -> pl.DataFrame:
        level = pl.col("level")
        return _drop(pool.left.filter(~level.is_between(lo, hi)), pl.lit("level"), level.cast(pl.String))

    return Rule(f"levels={lo}..{hi}", drop)


def take(n: int | Mapping[str, int]) -> Rule:
    """Keep the first n traces of every problem, by round and index.

    Args:
        n: one number for all, or problem id -> number; a problem that the mapping does not name keeps none.
    """
    wanted = (
        pl.lit(n)
        if isinstance(n, int)
        else pl.col("problem_id").replace_strict(list(n.keys()), list(n.values()), default=0, return_dtype=pl.Int64)
    )
    name = f"take={n}" if isinstance(n, int) else "take=by problem"
    return _per_problem(name, ["round", "index"], wanted, "not taken")


def shortest(k: int) -> Rule:
    """Keep the k shortest responses of every problem, by characters; ties go to the earlier trace."""
    return _per_problem(
        f"shortest={k}", [pl.col("response").str.len_chars()], pl.lit(k), "not shortest", reads_text=True
    )


def longest(k: int) -> Rule:
    """Keep the k longest responses of every problem, by characters; ties go to the earlier trace."""
    length = pl.col("response").str.len_chars().cast(pl.Int64)
    return _per_problem(f"longest={k}", [-length], pl.lit(k), "not longest", reads_text=True)


def sample(n: int, seed: int = 0) -> Rule:
    """Keep n traces at random; the draw depends on the seed and the ids, not on the order of the input."""
    return _draw(f"sample={n}", n, seed, [])


def balanced(n: int, seed: int = 0) -> Rule:
    """Keep n traces of every level at random; a level that has fewer keeps them all."""
    return _draw(f"balanced={n}", n, seed, ["level"])


def parse(spec: str, *, seed: int = 0, against: Sequence[Problem] = ()) -> list[Rule]:
    """The rules of a text such as ``correct,finished,unique,shortest=4,pass-rate=0.1..0.9``.

    Args:
        spec: names from `RULES` with their values, separated by commas; applied in this order.
        seed: of ``sample`` and ``balanced``.
        against: the evaluation problems that ``decontaminated`` searches for.

    Raises:
        UserError: for an unknown rule or a value that does not fit.
    """
    made = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, value = part.partition("=")
        if name not in RULES:
            raise unknown_name("selection rule", name, RULES)
        made.append(_make(name, value, part, seed, against))
    return made


RULES = {
    "correct": "the verifier accepted it",
    "finished": "it ended by itself",
    "unique": "no earlier trace has the same question and response",
    "near-unique": "no earlier trace is nearly the same; near-unique=0.8 sets the similarity",
    "decontaminated": "no overlap with evaluation problems: decontaminated=8 (words) or decontaminated=exact",
    "max-tokens": "at most max-tokens=N tokens",
    "min-tokens": "at least min-tokens=N tokens",
    "pass-rate": "the problem's pass rate: pass-rate=0.1..0.9, with at least 4 judged trials: pass-rate=0.1..0.9@4",
    "levels": "the problem's level: levels=2 or levels=1..3",
    "take": "the first take=N of its problem",
    "shortest": "one of the shortest=K responses of its problem",
    "longest": "one of the longest=K responses of its problem",
    "sample": "one of sample=N traces drawn at random",
    "balanced": "one of balanced=N traces drawn at random from each level",
}
"""Rule name -> what a kept trace fulfils, with the form of its value."""

_COUNTED = {
    "max-tokens": max_tokens,
    "min-tokens": min_tokens,
    "take": take,
    "shortest": shortest,
    "longest": longest,
}
_DRAWN = {"sample": sample, "balanced": balanced}
_PLAIN = {"correct": correct, "finished": finished, "unique": unique}


def _make(name: str, value: str, part: str, seed: int, against: Sequence[Problem]) -> Rule:
    def fits(pattern: str) -> re.Match[str]:
        found = re.fullmatch(pattern, value)
        if not found:
            raise UserError(f"selection rule {part!r} has a value that does not fit; {name}: {RULES[name]}")
        return found

    number, decimal = r"\d{1,15}", r"(?:\d{1,15}(?:\.\d{1,15})?|\.\d{1,15})"
    if name in _PLAIN:
        fits("")
        return _PLAIN[name]()
    if name in _COUNTED:
        return _COUNTED[name](int(fits(number)[0]))
    if name in _DRAWN:
        return _DRAWN[name](int(fits(number)[0]), seed)
    if name == "near-unique":
        return near_unique(float(fits(decimal)[0])) if value else near_unique()
    if name == "pass-rate":
        lo, hi, n_min = fits(rf"({decimal})\.\.({decimal})(?:@({number}))?").groups(default="1")
        return pass_rate(float(lo), float(hi), int(n_min))
    if name == "levels":
        lo, hi = fits(rf"({number})(?:\.\.({number}))?").groups()
        return levels(int(lo), int(hi or lo))
    if not against:
        raise UserError("selection rule 'decontaminated' needs evaluation problems; name them with --against")
    if value == "exact":
        return decontaminated(against, how="exact")
    return decontaminated(against, n=int(fits(number)[0])) if value else decontaminated(against)


def _no_drops() -> pl.DataFrame:
    return pl.DataFrame(schema={_ROW: pl.UInt32, "reason": pl.String, "detail": pl.String})


def _drop(dropped: pl.DataFrame, reason: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    return dropped.select(_ROW, reason.alias("reason"), detail.alias("detail"))


def _found(pool: Pool, found: pl.DataFrame, reason: str, detail: pl.Expr) -> pl.DataFrame:
    rows = pool.left[_ROW].gather(found["row"])
    return found.select(rows.alias(_ROW), pl.lit(reason).alias("reason"), detail.alias("detail"))


def _token_rule(name: str, outside: pl.Expr, reason: str) -> Rule:
    def drop(pool: Pool) -> pl.DataFrame:
        uncounted = pool.left.filter((pl.col("completion_tokens") == 0) & pl.col("finish").is_in(["stop", "length"]))
        if uncounted.height:
            raise UserError(
                f"{name} needs token counts, and {uncounted.height} traces have none (first: "
                f"{uncounted['id'][0]!r}); use shortest=K, or sample again with a tokenizer"
            )
        detail = pl.format("{} tokens", "completion_tokens")
        return _drop(pool.left.filter(outside), pl.lit(reason), detail)

    return Rule(name, drop)


def _per_problem(
    name: str, order: Sequence[str | pl.Expr], wanted: pl.Expr, reason: str, reads_text: bool = False
) -> Rule:
    def drop(pool: Pool) -> pl.DataFrame:
        ranked = pool.left.sort(*order, _ROW).with_columns(
            __place=pl.int_range(pl.len(), dtype=pl.Int64).over(stats.KEYS), __wanted=wanted
        )
        detail = pl.format("number {} of its problem, {} wanted", pl.col("__place") + 1, "__wanted")
        return _drop(ranked.filter(pl.col("__place") >= pl.col("__wanted")), pl.lit(reason), detail)

    return Rule(name, drop, reads_text)


def _draw(name: str, n: int, seed: int, groups: list[str]) -> Rule:
    def drop(pool: Pool) -> pl.DataFrame:
        lots = pl.Series("__lot", [derive_seed("select", seed, id) for id in pool.left["id"]], dtype=pl.Int64)
        place = pl.int_range(pl.len(), dtype=pl.Int64)
        ranked = (
            pool.left.with_columns(lots)
            .sort("__lot", _ROW)
            .with_columns(__place=place.over(groups) if groups else place)
        )
        return _drop(ranked.filter(pl.col("__place") >= n), pl.lit("not drawn"), pl.lit(name))

    return Rule(name, drop)

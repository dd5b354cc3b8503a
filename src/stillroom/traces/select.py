"""Which traces to train on: small rules applied in order, each dropped trace with one reason, nothing lost.

A rule sees the traces that earlier rules left, and beside them the whole pool: a pass rate is a property of all trials,
not of those that survived `correct`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from stillroom.errors import UserError, unknown_name
from stillroom.seeds import derive_seed
from stillroom.traces import decontaminate as contamination
from stillroom.traces import dedup, stats
from stillroom.traces.ngrams import I64
from stillroom.traces.pool import Chunk, Pool
from stillroom.types import Problem

_DROPPED = {"row": pl.Int64, "reason": pl.String, "detail": pl.String}


class View(NamedTuple):
    """What a rule decides on."""

    pool: Pool
    """All traces."""
    rows: I64
    """Those that no earlier rule dropped, ascending."""

    def left(self, *names: str) -> pl.DataFrame:
        """``row`` and the named columns of the traces that are left."""
        return self.pool.columns(*names, rows=self.rows)


class Work(NamedTuple):
    """One application of a rule."""

    drop: Callable[[View], pl.DataFrame]
    """Returns ``row``, ``reason``, ``detail`` of the traces to drop."""
    add: Callable[[Chunk], None] | None = None
    """Of a rule that reads texts: called before `drop` with the texts of every trace that may be left then, and
    perhaps of more, in order."""


@dataclass(frozen=True)
class Rule:
    """A named reason to drop traces; made by the functions below."""

    name: str
    start: Callable[[], Work]


@dataclass(frozen=True)
class Choice:
    """What a list of rules kept and why the rest went."""

    rows: I64
    """The kept rows of the pool, ascending."""
    dropped: pl.DataFrame
    """``id``, ``reason``, ``detail``, in input order; one row per dropped trace."""
    counts: dict[str, int]
    """reason -> traces dropped for it, in the order of the rules."""


@dataclass(frozen=True)
class Selection:
    """What a list of rules kept of a frame and why the rest went."""

    kept: pl.DataFrame
    """The kept rows of the input, in input order and with its columns."""
    dropped: pl.DataFrame
    """As in `Choice`."""
    counts: dict[str, int]


def choose(pool: Pool, rules: Sequence[Rule]) -> Choice:
    """Apply the rules in order; a trace is dropped by the first rule that names it.

    The texts are read once, for all rules together, when the first rule that reads them has its turn; `near_unique`
    reads those of its candidates again.
    """
    works = [rule.start() for rule in rules]
    readers = [work.add for work in works if work.add]
    rows, drops = np.arange(pool.height), [pl.DataFrame(schema=_DROPPED)]
    for work in works:
        if work.add and readers:
            for chunk in pool.texts(rows):
                for add in readers:
                    add(chunk)
            readers = []
        dropped = work.drop(View(pool, rows)).select(*_DROPPED)
        rows = np.setdiff1d(rows, dropped["row"].to_numpy(), assume_unique=True)
        drops.append(dropped)
    gone = pl.concat(drops)
    counts = {str(reason): n for reason, n in gone.group_by("reason", maintain_order=True).len().iter_rows()}
    gone = gone.sort("row")
    named = pool.columns("id", rows=gone["row"].to_numpy())
    return Choice(rows, gone.select(named["id"], "reason", "detail"), counts)


def apply(frame: pl.DataFrame, rules: Sequence[Rule]) -> Selection:
    """`choose` from a frame that is in memory.

    Args:
        frame: columns of the store; ``question`` and ``response`` are used when they are there, else made from
            `taught` for rules that read text.
        rules: applied in order.
    """
    choice = choose(Pool(frame), rules)
    return Selection(frame[choice.rows], choice.dropped, choice.counts)


def correct() -> Rule:
    """Keep what the verifier accepted; ``wrong`` and ``unjudged`` are told apart."""

    def drop(view: View) -> pl.DataFrame:
        verdict = pl.col("correct")
        return _drop(
            view.left("correct", "reason").filter(verdict.not_().fill_null(True)),
            pl.when(verdict.is_null()).then(pl.lit("unjudged")).otherwise(pl.lit("wrong")),
            pl.col("reason").fill_null("no verdict"),
        )

    return Rule("correct", lambda: Work(drop))


def finished() -> Rule:
    """Keep responses that ended by themselves; drop ``truncated`` ones and those that ``failed``."""

    def drop(view: View) -> pl.DataFrame:
        finish = pl.col("finish")
        reason = pl.when(finish == "length").then(pl.lit("truncated")).otherwise(pl.lit("failed"))
        return _drop(view.left("finish").filter(finish != "stop"), reason, finish)

    return Rule("finished", lambda: Work(drop))


def unique() -> Rule:
    """Keep the first of all traces with one question and one response, white space apart."""

    def start() -> Work:
        finder = dedup.Exact()

        def drop(view: View) -> pl.DataFrame:
            return _drop(finder.found(*view), pl.lit("duplicate"), "of " + pl.col("duplicate_of"))

        return Work(drop, finder.add)

    return Rule("unique", start)


def near_unique(threshold: float = 0.8, n: int = 5) -> Rule:
    """Keep the first of all traces whose question and response are nearly the same; see `dedup.near`."""

    def start() -> Work:
        finder = dedup.Near(threshold=threshold, n=n)

        def drop(view: View) -> pl.DataFrame:
            detail = pl.format("{} like {}", pl.col("similarity").round(2), "duplicate_of")
            return _drop(finder.found(*view), pl.lit("near duplicate"), detail)

        return Work(drop, finder.add)

    return Rule(f"near-unique={threshold:g}", start)


def decontaminated(problems: Sequence[Problem], *, how: contamination.How = "ngram", n: int = 8) -> Rule:
    """Drop traces that overlap with evaluation problems; see `decontaminate.find`."""

    def start() -> Work:
        finder = contamination.Finder(problems, how=how, n=n)

        def drop(view: View) -> pl.DataFrame:
            detail = pl.format("{}: {}", "evaluation_id", "match")
            return _drop(finder.found(*view), pl.lit("contaminated"), detail)

        return Work(drop, finder.add)

    return Rule(f"decontaminated={'exact' if how == 'exact' else n}", start)


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

    def drop(view: View) -> pl.DataFrame:
        rates = (
            view.pool.lazy.group_by(stats.KEYS)
            .agg(rate=pl.col("correct").mean(), judged=pl.col("correct").count())
            .collect()
        )
        unknown = pl.col("judged") < max(n_min, 1)
        return _drop(
            view.left(*stats.KEYS)
            .join(rates, on=stats.KEYS, how="left", maintain_order="left")
            .filter(unknown | ~pl.col("rate").is_between(lo, hi)),
            pl.when(unknown).then(pl.lit("pass rate unknown")).otherwise(pl.lit("pass rate")),
            pl.format("{} of {} judged", pl.col("rate").round(3).cast(pl.String).fill_null("none"), "judged"),
        )

    return Rule(f"pass-rate={lo:g}..{hi:g}@{n_min}", lambda: Work(drop))


def levels(lo: int, hi: int) -> Rule:
    """Keep problems of difficulty lo to hi."""

    def drop(view: View) -> pl.DataFrame:
        level = pl.col("level")
        return _drop(view.left("level").filter(~level.is_between(lo, hi)), pl.lit("level"), level.cast(pl.String))

    return Rule(f"levels={lo}..{hi}", lambda: Work(drop))


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

    def drop(view: View) -> pl.DataFrame:
        return _beyond(view.left(*stats.KEYS, "round", "index"), ["round", "index"], wanted, "not taken")

    return Rule(name, lambda: Work(drop))


def shortest(k: int) -> Rule:
    """Keep the k shortest responses of every problem, by characters; ties go to the earlier trace."""
    return _by_length(f"shortest={k}", k, "not shortest", sign=1)


def longest(k: int) -> Rule:
    """Keep the k longest responses of every problem, by characters; ties go to the earlier trace."""
    return _by_length(f"longest={k}", k, "not longest", sign=-1)


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


def _drop(dropped: pl.DataFrame, reason: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    return dropped.select("row", reason.alias("reason"), detail.alias("detail"))


def _token_rule(name: str, outside: pl.Expr, reason: str) -> Rule:
    def drop(view: View) -> pl.DataFrame:
        left = view.left("id", "completion_tokens", "finish")
        uncounted = left.filter((pl.col("completion_tokens") == 0) & pl.col("finish").is_in(["stop", "length"]))
        if uncounted.height:
            raise UserError(
                f"{name} needs token counts, and {uncounted.height} traces have none (first: "
                f"{uncounted['id'][0]!r}); use shortest=K, or sample again with a tokenizer"
            )
        detail = pl.format("{} tokens", "completion_tokens")
        return _drop(left.filter(outside), pl.lit(reason), detail)

    return Rule(name, lambda: Work(drop))


def _by_length(name: str, k: int, reason: str, sign: int) -> Rule:
    def start() -> Work:
        read: list[pl.DataFrame] = []

        def add(chunk: Chunk) -> None:
            length = sign * chunk.response.str.len_chars().cast(pl.Int64)
            read.append(pl.DataFrame({"row": chunk.row, "length": length}))

        def drop(view: View) -> pl.DataFrame:
            left = view.left(*stats.KEYS)
            if left.height:
                left = left.join(pl.concat(read), on="row", how="left", maintain_order="left")
            return _beyond(left, ["length"] if left.height else [], pl.lit(k), reason)

        return Work(drop, add)

    return Rule(name, start)


def _beyond(left: pl.DataFrame, order: Sequence[str], wanted: pl.Expr, reason: str) -> pl.DataFrame:
    """The traces that come after the wanted number of their problem, in this order and then in that of the input."""
    ranked = left.sort(*order, "row").with_columns(
        place=pl.int_range(pl.len(), dtype=pl.Int64).over(stats.KEYS), wanted=wanted
    )
    detail = pl.format("number {} of its problem, {} wanted", pl.col("place") + 1, "wanted")
    return _drop(ranked.filter(pl.col("place") >= pl.col("wanted")), pl.lit(reason), detail)


def _draw(name: str, n: int, seed: int, groups: list[str]) -> Rule:
    def drop(view: View) -> pl.DataFrame:
        left = view.left("id", *groups)
        lots = pl.Series("lot", [derive_seed("select", seed, id) for id in left["id"]], dtype=pl.Int64)
        place = pl.int_range(pl.len(), dtype=pl.Int64)
        ranked = left.with_columns(lots).sort("lot", "row").with_columns(place=place.over(groups) if groups else place)
        return _drop(ranked.filter(pl.col("place") >= n), pl.lit("not drawn"), pl.lit(name))

    return Rule(name, lambda: Work(drop))

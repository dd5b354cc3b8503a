"""Partial rewards for text-to-SQL: pure scores between fixed bounds, and the order that their weights keep.

Components and scales follow Reasoning-SQL (https://arxiv.org/abs/2503.23157) and Think2SQL
(https://arxiv.org/abs/2504.15077); where their code rewards what it should not, ours says so and does not:

- running without error counts only when a table of the gold query is read, or ``SELECT 1`` would earn it;
- schema items are resolved columns and tables with stars spelled out, by Jaccard or F1 beside the recall that naming
  every column would win;
- n-grams are of tokens in one form, not of raw text;
- the format score has a floor.

The weights of the paper let a wrong query earn more than a right one (`order` shows by how much); `WEIGHTS` do not.
"""

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from stillroom.chat import ChatFormat

PAPER_WEIGHTS: Mapping[str, float] = {
    "execution": 3.0,
    "feedback": 2.0,
    "syntax": 1.0,
    "schema": 1.0,
    "ngram": 1.0,
    "format": 1.0,
}
"""Reasoning-SQL's scales; that of the judge's feedback is not published and taken as its largest plausible, 2."""
WEIGHTS: Mapping[str, float] = {
    "execution": 3.0,
    "feedback": 1.0,
    "syntax": 0.5,
    "schema": 0.5,
    "ngram": 0.5,
    "format": 0.25,
}
"""Ours: nothing that a wrong query can collect reaches what a right one has at least."""
THINK2SQL_WEIGHTS: Mapping[str, float] = {"execution": 0.85, "tags": 0.15}


class Bounds(NamedTuple):
    low: float
    high: float


class Component(NamedTuple):
    """Between which values a component lies."""

    right: Bounds
    """For a query that gives what the gold gives."""
    wrong: Bounds


COMPONENTS: Mapping[str, Component] = {
    "execution": Component(Bounds(1, 1), Bounds(0, 0)),
    # The judge is asked of wrong queries alone.
    "feedback": Component(Bounds(0, 0), Bounds(0, 1)),
    # A right query runs, but one that needs no table of the gold (a constant) would not be paid for running.
    "syntax": Component(Bounds(0, 1), Bounds(0, 1)),
    "schema": Component(Bounds(0, 1), Bounds(0, 1)),
    "ngram": Component(Bounds(0, 1), Bounds(0, 1)),
    "format": Component(Bounds(-0.5, 0.5), Bounds(-0.5, 0.5)),
    "tags": Component(Bounds(0, 1), Bounds(0, 1)),
    "dense": Component(Bounds(1, 1), Bounds(0, 0.9)),
    "cell_precision": Component(Bounds(0, 1), Bounds(0, 1)),
    "cell_recall": Component(Bounds(0, 1), Bounds(0, 1)),
    "cardinality": Component(Bounds(0, 1), Bounds(0, 1)),
    "repetition": Component(Bounds(-1, 0), Bounds(-1, 0)),
}


class Order(NamedTuple):
    """The least that a right query can earn, and the most that a wrong one can."""

    least_right: float
    most_wrong: float

    @property
    def kept(self) -> bool:
        """Whether no wrong query can earn as much as a right one."""
        return self.least_right > self.most_wrong


def order(weights: Mapping[str, float]) -> Order:
    """What the bounds of a weighted sum of components allow; weights may be negative. Raises KeyError."""
    right = [(weight, COMPONENTS[name].right) for name, weight in weights.items()]
    wrong = [(weight, COMPONENTS[name].wrong) for name, weight in weights.items()]
    return Order(sum(min(w * b.low, w * b.high) for w, b in right), sum(max(w * b.low, w * b.high) for w, b in wrong))


def combine(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum; a component that is not among the parts counts as nothing."""
    return sum(weight * parts.get(name, 0.0) for name, weight in weights.items())


# -- overlap of sets -------------------------------------------------------------------------------------------------


class Linked(NamedTuple):
    """How well the items of a query match those of the gold."""

    recall: float
    jaccard: float
    f1: float


def linked(gold: Collection[Hashable], found: Collection[Hashable]) -> Linked:
    """Overlap of two sets; two empty ones agree wholly, an empty and a filled one not at all."""
    left, right = set(gold), set(found)
    if not left or not right:
        return Linked(*(float(left == right),) * 3)
    common = len(left & right)
    return Linked(common / len(left), common / len(left | right), 2 * common / (len(left) + len(right)))


def agreement(gold: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str]]) -> float:
    """A judge that sees the gold: the mean Jaccard over all clauses that either query has, in [0, 1].

    A stand-in for the paper's LLM judge, which its range and prompt would be needed to repeat; never for test time.
    """
    names = {*gold, *found}
    return sum(linked(gold.get(n, ()), found.get(n, ())).jaccard for n in names) / len(names) if names else 0.0


# -- texts -----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\w+(?:\.\d+)?|<>|!=|<=|>=|\|\||[^\s\w]")
_SAME = {"!=": "<>"}


def tokens(sql: str) -> list[str]:
    """A query's tokens in one form: lower case and unquoted names, texts as they are, no semicolons.

    >>> tokens('SELECT "Name" FROM pet WHERE town!=\\'Oslo\\';')
    ['select', 'name', 'from', 'pet', 'where', 'town', '<>', "'Oslo'"]
    """
    found = []
    for token in _TOKEN.findall(sql):
        plain = token if token[0] == "'" else token.strip('"`').lower()
        if plain and plain != ";":
            found.append(_SAME.get(plain, plain))
    return found


def ngrams(gold: str, found: str, n: int = 2) -> float:
    """Jaccard similarity of the n-grams of two queries' tokens, in [0, 1]; both too short to have any: equal or not."""
    left, right = tokens(gold), tokens(found)
    if min(len(left), len(right)) < n:
        return float(left == right)
    return linked(_grams(left, n), _grams(right, n)).jaccard


def _grams(of: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return set(zip(*(of[start:] for start in range(n)), strict=False))


def marks(chat_format: ChatFormat) -> list[str]:
    """The marks of a format, in the order in which they must stand."""
    every = (chat_format.think_open, chat_format.think_close, chat_format.answer_open, chat_format.answer_close)
    return [mark.strip() for mark in every if mark.strip()]


def tag_share(text: str, tags: Sequence[str]) -> float:
    """Share of the tags that stand in the text exactly once (Think2SQL: a quarter each of four)."""
    return sum(text.count(tag) == 1 for tag in tags) / len(tags) if tags else 1.0


def format_score(text: str, tags: Sequence[str]) -> float:
    """Reasoning-SQL's format: 0.5 for all tags, less 0.001 for every character after the last one; at least -0.5."""
    after = text.rpartition(tags[-1])[2] if tags and tags[-1] in text else ""
    return max(0.5 * tag_share(text, tags) - 0.001 * len(after.strip()), -0.5)


def repetition(text: str, n: int = 5) -> float:
    """Think2SQL's penalty: -1 when fewer than half of the text's n-grams of words are different, else 0."""
    grams = list(zip(*(text.split()[start:] for start in range(n)), strict=False))
    return -1.0 if grams and len(set(grams)) < 0.5 * len(grams) else 0.0


def named_recall(text: str, tag: str, gold: Iterable[str]) -> float:
    """Share of the gold names that the list between ``<tag>`` and ``</tag>`` holds; 0 without such a list."""
    wanted = {name.lower() for name in gold}
    _, opened, rest = text.rpartition(f"<{tag}>")
    inner, closed, _ = rest.partition(f"</{tag}>")
    if not opened or not closed:
        return 0.0
    named = {name.strip("`\"'[]").lower() for name in re.split(r"[\s,;]+", inner)}
    return len(wanted & named) / len(wanted) if wanted else 1.0


# -- what a verdict becomes ------------------------------------------------------------------------------------------


def small_update(dense: float, *, right: bool, runs: bool) -> float:
    """Think2SQL's "small update": 1 when exact, 0 when it does not run, else the dense score but at least 0.1."""
    return 1.0 if right else max(min(dense, 0.9), 0.1) if runs else 0.0


def arctic(*, right: bool, runs: bool, tagged: bool) -> float:
    """The three-step reward named after Arctic-Text2SQL: 1 right, 0.1 runs and is laid out as asked, else 0."""
    return 1.0 if right else 0.1 if runs and tagged else 0.0


class Hacking(NamedTuple):
    """What a policy looks like that collects partial rewards instead of answers; means over answers."""

    columns: float
    characters: float
    hollow: float
    """Share of answers without execution reward whose other components are mostly there."""


def hacking(parts: Sequence[Mapping[str, float]], most: float = 0.7) -> Hacking:
    """Watch for partial rewards being gamed.

    Args:
        parts: of verdicts, with ``execution``, ``columns``, ``characters`` and whatever components there are.
        most: mean of syntax, schema and ngram from which an answer without execution reward is hollow.
    """
    if not parts:
        return Hacking(0.0, 0.0, 0.0)
    hollow = [
        not p.get("execution") and sum(p.get(n, 0.0) for n in ("syntax", "schema", "ngram")) / 3 >= most for p in parts
    ]
    count = len(parts)
    return Hacking(
        sum(p.get("columns", 0.0) for p in parts) / count,
        sum(p.get("characters", 0.0) for p in parts) / count,
        sum(hollow) / count,
    )

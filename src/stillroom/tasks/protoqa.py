"""ProtoQA: ranked lists of answers, scored against clusters of what a hundred people said.

The metric is that of the public evaluator (iesl/protoqa-evaluator; https://arxiv.org/abs/2005.00771), in all its
variants, written anew. Each prediction is matched with each cluster; a list is cut after its first k answers
(*Answers@k*) or after its k-th answer that matches nothing (*Incorrect@k*, that one included); clusters then go to
predictions one to one, such that the counts add up to most; and the sum is divided by what the clusters themselves
would have scored. A second answer of one cluster earns nothing, and is not incorrect either.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

from stillroom.errors import DataError, UserError
from stillroom.tasks.assignment import best_assignment
from stillroom.tasks.base import question
from stillroom.types import Problem, Verdict

Match = Callable[[str, str], float]
"""``match(prediction, gold)`` in [0, 1]."""
LONGEST = 50
"""Characters of an answer that count."""
MOST = 50
"""Predictions of a list that count; no variant needs so many, and a response may hold a million."""


class Cluster(NamedTuple):
    """Answers that mean the same, and how many people gave one of them."""

    people: int
    answers: tuple[str, ...]


class Variant(NamedTuple):
    """One way to score a list."""

    max_answers: int | None = None
    max_incorrect: int | None = None
    counts: bool = True
    """False: every cluster is worth 1 (*set intersection*)."""


VARIANTS: Final = {
    **{f"answers@{k or 'all'}": Variant(max_answers=k) for k in (1, 3, 5, 10, None)},
    **{f"incorrect@{k}": Variant(max_incorrect=k) for k in (1, 3, 5)},
    "set_intersection": Variant(counts=False),
}
"""Those that the evaluator names; without a bound, Answers and Incorrect are the same."""


# -- matching ----------------------------------------------------------------------------------------------------------


def exact(prediction: str, gold: str) -> float:
    """1 for the same text."""
    return float(prediction == gold)


def common_substring(prediction: str, gold: str) -> float:
    """Length of the longest common substring, of the longer text's."""
    longest = max(len(prediction), len(gold))
    found = SequenceMatcher(None, prediction, gold).find_longest_match(0, len(prediction), 0, len(gold))
    return found.size / longest if longest else 1.0


def common_subsequence(prediction: str, gold: str) -> float:
    """Length of difflib's matching blocks, of the longer text's."""
    longest = max(len(prediction), len(gold))
    blocks = SequenceMatcher(None, prediction, gold).get_matching_blocks()
    return sum(block.size for block in blocks) / longest if longest else 1.0


def rounded(match: Match) -> Match:
    """1 from a half on, else 0; a half itself is 0, as numpy rounds it."""
    return lambda prediction, gold: float(round(match(prediction, gold)))


def synonyms(synsets: Callable[[str], frozenset[str]], stop_words: frozenset[str] = frozenset()) -> Match:
    """The evaluator's WordNet match over any thesaurus: parts of two answers agree when equal or in one synset.

    Stop words are left out; each answer is cut into contiguous parts in every way; parts are assigned one to one, and
    the best share of the larger number of parts counts. Beyond six words only the whole and the single words are tried,
    where the evaluator's ways to cut double with every word.

    Args:
        synsets: the names of the synsets of a word or of words joined by ``_``.
    """

    def match(prediction: str, gold: str) -> float:
        ours, theirs = _partitions(prediction, stop_words), _partitions(gold, stop_words)
        return max((_agreement(one, other, synsets) for one in ours for other in theirs), default=0.0)

    return match


def wordnet() -> Match:
    """`synonyms` over WordNet, from nltk and its data where they are; nothing is downloaded.

    Raises:
        UserError: when either is absent.
    """
    try:
        from nltk.corpus import stopwords
        from nltk.corpus import wordnet as net

        net.synsets("word")
        words = frozenset(stopwords.words("english"))
    except (ImportError, LookupError) as error:
        raise UserError(
            "WordNet is not here; install nltk, then run: python -m nltk.downloader wordnet stopwords, or match by "
            "exact, common_substring or common_subsequence"
        ) from error
    return synonyms(lambda text: frozenset(found.name() for found in net.synsets(text)), words)


def _partitions(text: str, stop_words: frozenset[str]) -> list[list[str]]:
    words = [word for word in re.findall(r"[^\W_]+(?:'\w+)?", text) if word not in stop_words]
    if not words:
        return []
    if len(words) > 6:
        return [[" ".join(words)], words]
    cuts = range(2 ** (len(words) - 1))
    return [_cut(words, cut) for cut in cuts]


def _cut(words: list[str], cut: int) -> list[str]:
    parts = [words[0]]
    for number, word in enumerate(words[1:]):
        if cut >> number & 1:
            parts.append(word)
        else:
            parts[-1] += " " + word
    return parts


def _agreement(ours: list[str], theirs: list[str], synsets: Callable[[str], frozenset[str]]) -> float:
    def same(one: str, other: str) -> float:
        return float(one == other or bool(synsets(one.replace(" ", "_")) & synsets(other.replace(" ", "_"))))

    scores = [[same(one, other) for other in theirs] for one in ours]
    return sum(scores[row][column] for row, column in best_assignment(scores)) / max(len(ours), len(theirs))


# -- scoring -----------------------------------------------------------------------------------------------------------


def score(
    predictions: Sequence[str],
    clusters: Sequence[Cluster],
    variant: Variant = VARIANTS["answers@all"],
    match: Match = exact,
) -> float:
    """What a ranked list scores on one question, in [0, 1] for a match that is 0 or 1.

    Args:
        predictions: best first; an empty list scores 0.
        clusters: gold; at least one with a positive count.

    Raises:
        UserError: clusters without any count.
    """
    return _scores(predictions, clusters, {"": variant}, match)[""]


def _scores(
    predictions: Sequence[str], clusters: Sequence[Cluster], variants: Mapping[str, Variant], match: Match
) -> dict[str, float]:
    """`score` in several variants, with everything matched once."""
    if not any(cluster.people > 0 for cluster in clusters):
        raise UserError("a question needs at least one cluster with a positive count; leave it out")
    ranked = sorted(clusters, key=lambda cluster: -cluster.people)
    ours = _matches(predictions, clusters, match)
    oracle = _matches([cluster.answers[0] for cluster in ranked], clusters, match)
    return {
        name: _total(ours, clusters, variant) / _total(oracle, clusters, variant) for name, variant in variants.items()
    }


def _matches(predictions: Sequence[str], clusters: Sequence[Cluster], match: Match) -> list[list[float]]:
    """How well each prediction matches each cluster: as well as the best of its answers."""
    kept = map(normal, predictions[:MOST])
    return [[max(match(found, answer) for answer in cluster.answers) for cluster in clusters] for found in kept]


def _total(matches: Sequence[list[float]], clusters: Sequence[Cluster], variant: Variant) -> float:
    rows, incorrect = list[list[float]](), 0
    for row in matches[: variant.max_answers]:
        if any(row):  # one that matches nothing earns nothing, wherever it is assigned
            rows.append(row)
            continue
        incorrect += 1
        if incorrect == variant.max_incorrect:
            break
    worth = [cluster.people if variant.counts else 1 for cluster in clusters]
    values = [[value * count for value, count in zip(row, worth, strict=True)] for row in rows]
    return sum(values[row][column] for row, column in best_assignment(values))


def normal(answer: str) -> str:
    """In small letters, cut to `LONGEST` characters, without space around."""
    return answer.lower()[:LONGEST].strip()


def mean_scores(
    predictions: Mapping[str, Sequence[str]], questions: Mapping[str, Sequence[Cluster]], match: Match = exact
) -> dict[str, float]:
    """The mean over the predicted questions, for each variant.

    Args:
        predictions: id of a question → ranked list.
        questions: id → clusters.

    Raises:
        UserError: no predictions, or a question that is unknown.
    """
    if not predictions:
        raise UserError("there are no predictions; give at least one question's")
    for name in predictions:
        if name not in questions:
            raise UserError(f"no question {name!r}; predictions and questions belong to different files")
    found = [_scores(ranked, questions[key], VARIANTS, match) for key, ranked in predictions.items()]
    return {name: sum(scores[name] for scores in found) / len(found) for name in VARIANTS}


# -- reading lists and rows --------------------------------------------------------------------------------------------

_MARK = re.compile(r"\s*(?:[-*•–]|\(?\d{1,3}[.):])\s*")
_INLINE = re.compile(r"(?:^|\s)\(?\d{1,2}[.)]\s+")
_REFUSAL = re.compile(
    r"\s*(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:no|')t|won't)|sorry\b|as an ai\b)", re.IGNORECASE
)


def read_list(text: str) -> list[str]:
    """The answers that a response lists, in order: numbered, bulleted, one a line, or with commas; at most `MOST`.

    A line that ends in a colon introduces the list. A refusal lists nothing.

    >>> read_list("Sure, here:\\n1. age\\n2) job"), read_list("age, job; name")
    (['age', 'job'], ['age', 'job', 'name'])
    """
    text = text[: 400 * MOST].strip()
    if not text or _REFUSAL.match(text):
        return []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if _MARK.match(line)]
    if len(marked) > 1 or (marked and len(lines) == 1 and len(_INLINE.findall(text)) < 2):
        found = [_MARK.sub("", line, count=1) for line in marked]
    elif len(lines) == 1 and len(_INLINE.findall(text)) > 1:
        found = _INLINE.split(text)
    else:
        lines = [line for line in lines if not line.endswith(":")]
        found = lines if len(lines) > 1 else re.split(r"[,;]", lines[0].partition(": ")[2] or lines[0]) if lines else []
    answers = [answer.strip(" \t.*_\"'`,;") for answer in found]
    return [answer for answer in answers if answer][:MOST]


def adapt(row: Mapping[str, Any]) -> Problem:
    """The problem of a row of the public data, on disk or on the hub; raises DataError with the reason."""
    asked, normalised = row.get("question"), row.get("normalized-question")
    text = asked.get("original") or asked.get("normalized") if isinstance(asked, Mapping) else asked or normalised
    if not isinstance(text, str) or not text.strip():
        raise DataError("question is no text")
    clusters = read_clusters(row)
    ranked = sorted(clusters, key=lambda cluster: -cluster.people)
    metadata = row.get("metadata")
    name = metadata.get("id") if isinstance(metadata, Mapping) else row.get("questionid", row.get("question_id"))
    total = sum(cluster.people for cluster in clusters)
    return Problem(
        id=f"protoqa/{name}" if isinstance(name, str) and name else "",
        task="",
        messages=question(
            f"We asked {total} people: {text.strip()}\nWhat did most of them say? Give up to ten short answers, "
            "one a line, the most frequent first."
        ),
        reference="\n".join(map(_readable, ranked[:10])),
        meta={
            "question": text.strip(),
            "clusters": [{"count": cluster.people, "answers": list(cluster.answers)} for cluster in clusters],
        },
    )


def _readable(cluster: Cluster) -> str:
    """An answer of the cluster that a list can hold: some have a full stop, which no list keeps."""
    return next((answer for answer in cluster.answers if read_list(answer) == [answer]), cluster.answers[0])


def read_clusters(row: Mapping[str, Any]) -> list[Cluster]:
    """A row's clusters, in any of the layouts in which they are published; raises DataError."""
    held = row.get("answers")
    found = (
        held.get("clusters") if isinstance(held, Mapping) else row.get("answers-cleaned", row.get("answer-clusters"))
    )
    if isinstance(found, Mapping):
        counts, lists = found.get("count"), found.get("answers")
        if isinstance(counts, list) and isinstance(lists, list):  # the hub's columns
            found = [{"count": count, "answers": answers} for count, answers in zip(counts, lists, strict=False)]
        else:
            found = list(found.values())
    if not isinstance(found, list):
        raise DataError("no clusters of answers")
    clusters = []
    for cluster in found:
        count, answers = (
            (cluster.get("count"), cluster.get("answers")) if isinstance(cluster, Mapping) else (None, None)
        )
        if not isinstance(count, int) or not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
            raise DataError("a cluster is no count with a list of answers")
        if answers:
            clusters.append(Cluster(count, tuple(answers)))
    if not any(cluster.people > 0 for cluster in clusters):
        raise DataError("no cluster has a positive count")
    return clusters


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """How prototypical a response's list is; `correct` when its first answer is one of the most frequent cluster.

    `score` is Answers@1 with exact matching, and `parts` holds every variant.

    Args:
        text: the whole response; `read_list` reads the answer part.
        strict: False matches by `common_subsequence`, rounded, instead of letter by letter.
    """
    from stillroom.chat import ParseStatus, parse
    from stillroom.tasks.answers import last_boxed

    rows: Any = problem.meta.get("clusters")
    if not isinstance(rows, list):
        return Verdict(correct=None, reason="no clusters")
    parsed = parse(text)
    closed = parsed.status is not ParseStatus.UNCLOSED
    predictions = read_list(last_boxed(parsed.answer) or parsed.answer) if closed else []
    if not predictions:
        return Verdict(correct=False, score=0.0, reason="no answer")
    clusters = [Cluster(row["count"], tuple(row["answers"])) for row in rows]
    match = exact if strict else rounded(common_subsequence)
    parts = _scores(predictions, clusters, VARIANTS, match)
    best = parts["answers@1"]
    shown = ", ".join(predictions[:10])[:500]
    reason = "the most frequent" if best == 1 else "another cluster" if best else "no cluster"
    return Verdict(correct=best == 1, score=min(best, 1.0), answer=shown, parts=parts, reason=reason)

"""One form for reasoning over text: context, question, options, and an answer in words, never a letter.

A `Family` makes records of one kind. Twenty-four of them stand in for the sets of LogiGLUE (Luo et al. 2023,
https://arxiv.org/abs/2310.00836), ten to train on and fourteen left out; real sets take the same form (`logic_real`).
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import mean
from typing import Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.tasks.answers import extract
from stillroom.tasks.base import majority_baseline, question
from stillroom.tasks.exact import canonical
from stillroom.types import Problem, Verdict

Type = Literal["deductive", "abductive", "inductive", "mixed"]
TYPES: tuple[Type, ...] = ("deductive", "abductive", "inductive", "mixed")
Format = Literal["MCQA", "FFQA", "FV", "NLI"]
"""Multiple choice, free form, fact verification, entailment labels."""
_LONGEST = 300

# Nobody who is met in training is met again in what is left out.
TRAIN_NAMES = ("Anna", "Bill", "Carla", "David", "Erin", "Frank", "Gina", "Harry", "Iris", "Jack", "Kelly", "Luke")
HELD_NAMES = ("Mona", "Nick", "Olga", "Peter", "Rita", "Simon", "Tina", "Ulf", "Vera", "Walter", "Yara", "Zeno")
WOMEN = frozenset(("Anna", "Carla", "Erin", "Gina", "Iris", "Kelly", "Mona", "Olga", "Rita", "Tina", "Vera", "Yara"))


class Reason(NamedTuple):
    """One line of a rationale; `claim` stands for ``{}`` in its text, and any of `others` would be wrong there."""

    text: str
    claim: str
    others: tuple[str, ...] = ()


class Record(NamedTuple):
    """One item in LogiGLUE's form."""

    context: str
    question: str
    answer: str
    options: tuple[str, ...]
    """Of multiple choice what is offered; of labels all there are; of free form likely wrong answers, not shown."""
    reasons: tuple[Reason, ...] = ()


class Family(NamedTuple):
    """Records of one kind."""

    name: str
    type: Type
    format: Format
    held_out: bool
    make: Callable[[Random, int], Record]
    depths: tuple[int, ...] = (1,)
    """Steps of reasoning that it can be asked for."""
    world: Literal["open", "closed", ""] = ""
    """What becomes of what cannot be shown: unknown, false, or there is no such thing."""


def to_problem(family: Family, record: Record, depth: int = 1) -> Problem:
    """The problem that a record states; raises UserError for options that repeat or miss the answer."""
    shown = () if family.format == "FFQA" else record.options
    if shown and (len(set(map(canonical, shown))) < len(shown) or record.answer not in shown):
        raise UserError(f"{family.name}: the options {shown} must be different and hold the answer {record.answer!r}")
    asked = [record.context, f"Question: {record.question}"]
    asked += ["Options:", *(f"- {option}" for option in shown)] if shown else []
    return Problem(
        id="",
        task="logiglue",
        messages=question("\n".join(part for part in asked if part)),
        reference=record.answer,
        level=depth,
        meta={
            "family": family.name,
            "type": family.type,
            "format": family.format,
            "world": family.world,
            "context": record.context,
            "answers": list(record.options),
            "reasons": [[reason.text, reason.claim, list(reason.others)] for reason in record.reasons],
        },
    )


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether the final answer is the reference in words; case, spaces and a final full stop do not matter.

    "yes" and "no" stand for true and false where those are the answers, and the other way round. A letter is no answer.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    answer = extract(text, strict=strict)
    if answer is None or not answer.strip():
        return Verdict(correct=False, score=0.0, reason="no answer")
    if len(answer) > _LONGEST:
        return Verdict(correct=False, score=0.0, answer=answer[:_LONGEST], reason="answer too long")
    known = {canonical(str(option)) for option in (*problem.meta.get("answers", ()), problem.reference)}  # type: ignore[misc]
    said = canonical(answer)
    if said not in known:
        said = _SAME.get(said, said)
    equal = said == canonical(problem.reference)
    reason = "equal" if equal else "different" if said in known or problem.meta.get("format") == "FFQA" else "no option"
    return Verdict(correct=equal, score=float(equal), answer=answer, reason=reason)


_SAME = {"yes": "true", "no": "false", "true": "yes", "false": "no", "uncertain": "unknown", "unknown": "uncertain"}


def ends_in_answer(thought: str, answer: str) -> bool:
    """Whether a rationale's last line names the answer, as one that was written for it should."""
    lines = [line for line in thought.splitlines() if line.strip()]
    return bool(lines) and canonical(answer) in canonical(lines[-1])


# -- tables ----------------------------------------------------------------------------------------------------------


class TypeRow(NamedTuple):
    """One reasoning type; means are over families, not over items, since sizes differ a hundredfold."""

    type: str
    families: int
    items: int
    accuracy: float
    chance: float | None
    """Of guessing among the answers offered; None where a family of free form is among them."""
    majority: float
    """Of always giving the most frequent answer."""


def type_table(families: Mapping[str, Family], results: Sequence[tuple[Problem, bool]]) -> list[TypeRow]:
    """Accuracy by reasoning type, with what guessing and the most frequent answer would reach.

    Args:
        families: by name.
        results: problems of any families, and whether their answer was right.
    """
    by_family: dict[str, list[tuple[Problem, bool]]] = {}
    for problem, right in results:
        by_family.setdefault(str(problem.meta["family"]), []).append((problem, right))
    rows = []
    for kind in TYPES:
        own = [found for name, found in by_family.items() if families[name].type == kind]
        if own:
            chances = [_chance(problem) for found in own for problem, _ in found]
            rows.append(
                TypeRow(
                    kind,
                    len(own),
                    sum(map(len, own)),
                    mean(mean(float(right) for _, right in found) for found in own),
                    None if None in chances else mean(mean(_chance(p) or 0.0 for p, _ in found) for found in own),
                    mean(majority_baseline([problem for problem, _ in found]) or 0.0 for found in own),
                )
            )
    return rows


def _chance(problem: Problem) -> float | None:
    answers = problem.meta["answers"]
    return None if problem.meta["format"] == "FFQA" else 1 / len(answers)  # type: ignore[arg-type]


class Fold(NamedTuple):
    """Leave one type out: what is trained on, and what is measured."""

    left_out: Type
    train: tuple[str, ...]
    test: Mapping[Type, tuple[str, ...]]
    """By type; those of the type that was left out were never trained on, nor was any held-out family."""


def leave_one_type_out(families: Mapping[str, Family]) -> list[Fold]:
    """One fold per type: training families of all others; every type measured on its held-out and own families."""
    return [
        Fold(
            left_out,
            tuple(name for name, family in families.items() if not family.held_out and family.type != left_out),
            {kind: tuple(n for n, f in families.items() if f.type == kind) for kind in TYPES},
        )
        for left_out in TYPES
    ]


def matrix(accuracy: Mapping[tuple[Type, str], float], folds: Sequence[Fold]) -> dict[Type, dict[Type, float]]:
    """The leave-one-type-out matrix: left-out type → measured type → mean accuracy over families.

    Args:
        accuracy: (left-out type, family) → accuracy.

    Raises:
        KeyError: for a family that was not measured.
    """
    return {
        fold.left_out: {
            kind: mean(accuracy[fold.left_out, name] for name in names) for kind, names in fold.test.items() if names
        }
        for fold in folds
    }


def tempered(sizes: Mapping[str, int], power: float = 0.5, cap: int | None = None) -> dict[str, float]:
    """Shares of a mixture in which large sets do not swamp small ones: min(size, cap) to a power, made to sum to 1."""
    weights = {name: min(size, cap or size) ** power for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}

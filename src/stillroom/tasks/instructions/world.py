"""Lists of animals under constraints that combine: the small world of instruction following.

"List animals for Ada. First use exactly 5 words, then end with owl." Level k puts k constraints on a list, alone or
composed (`composed`): all, in order, by a condition, or one within another. Each constraint's words are marked in the
question (`Problem.spans`), so that attention to them can be measured. Many lists are right; the reference is one of
them, and the verifier checks constraints, not equality. The words are few, so that very small models can learn them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.instructions.composed import (
    And,
    Chain,
    Node,
    Select,
    dump,
    outcomes,
    read,
    require_compatible,
)
from stillroom.tasks.instructions.constraints import Constraint, constraint
from stillroom.tasks.instructions.list_checks import ANIMALS, KIND_OF, KINDS, SEPARATORS, items
from stillroom.tasks.instructions.verify import verify_boxed
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Span

LAYOUTS = ("equations", "lazy", "direct")
"""``equations``: name every constraint, decide branches, draft, check each. ``lazy``: restate the request. ``direct``:
answer at once."""
TRAINED = ("number_items", "repeats", "excludes", "starts", "ends", "upper", "kind_count")
HELD_OUT = ("separator", "in_order", "wrapped")
"""Kinds to measure transfer on."""
Composition = Literal["mixed", "and", "chain", "selection", "nested"]
Held = Literal["all", "trained", "held-out"]
_FEWEST = {"and": 1, "chain": 2, "selection": 2, "nested": 3}
_PLURAL = {"bird": "birds", "fish": "fish", "insect": "insects", "mammal": "mammals"}
_FOR = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gus",
    "Hana",
    "Ida",
    "Jon",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Ola",
    "Pia",
)
"""Whom the list is for: it changes nothing, and gives the lowest levels enough questions for three splits."""
_BASE = Constraint(kind="list:animals")
_LONGEST = 7


@register(
    "instructions",
    summary="lists of animals under constraints that combine: and, chain, selection, nested; level = constraints",
    world="instructions",
    levels=(1, 2, 3, 4),
)
def instructions(composition: Composition = "mixed", kinds: Held = "all", low: int = 1, high: int = 4) -> Task:
    """Lists under `low` to `high` constraints.

    Args:
        composition: how they combine; ``mixed`` takes all ways that a level allows.
        kinds: of constraints: ``trained``, ``held-out``, or all ten.

    Raises:
        UserError: levels out of range, or too low for the composition.
    """
    least = _FEWEST.get(composition, 1)
    most = 3 if kinds == "held-out" else 4
    if not least <= low <= high <= most:
        raise UserError(
            f"levels {low} to {high} make no sense for composition={composition},kinds={kinds}; "
            f"give {least} <= low <= high <= {most}"
        )
    pool = {"all": TRAINED + HELD_OUT, "trained": TRAINED, "held-out": HELD_OUT}[kinds]
    levels = tuple(range(low, high + 1))
    return Task(
        name="instructions",
        summary="lists of animals under constraints",
        problems=procedural(f"instructions-{composition}-{kinds}", partial(_make, composition, pool), levels),
        verify=verify_boxed,
        solve=solve,
        levels=levels,
        world="instructions",
        corrupt=corrupt,
    )


# -- questions ---------------------------------------------------------------------------------------------------------


def _make(composition: Composition, pool: Sequence[str], rng: Random, level: int) -> Problem:
    while True:
        name = (
            rng.choice([c for c, least in _FEWEST.items() if least <= level]) if composition == "mixed" else composition
        )
        node = _compose(name, [_draw(kind, rng) for kind in rng.sample(pool, level)], rng)
        answer = _answer(node, rng)
        if answer is not None and _possible(node):
            text, spans = _render(node, rng.choice(_FOR))
            return Problem(
                id="",
                task="instructions",
                messages=question(text),
                reference=answer,
                level=level,
                spans=spans,
                meta={"constraints": dump(node), "composition": name},
            )


def _possible(node: Node) -> bool:
    try:
        require_compatible(node)
    except UserError:
        return False
    return True


def _draw(kind: str, rng: Random) -> Constraint:
    word = rng.choice(ANIMALS)
    args: dict[str, dict[str, Any]] = {
        "number_items": {"count": rng.randint(3, _LONGEST)},
        "repeats": {"word": word, "times": rng.randint(2, 3)},
        "excludes": {"word": word},
        "starts": {"word": word},
        "ends": {"word": word},
        "kind_count": {"animal": rng.choice(tuple(KINDS)), "count": rng.randint(1, 3)},
        "separator": {"separator": rng.choice(tuple(SEPARATORS))},
    }
    return constraint(f"list:{kind}", args.get(kind))


def _compose(name: str, drawn: list[Constraint], rng: Random) -> Node:
    """The request to list animals, and the drawn constraints composed in the way of that name."""
    if name == "and":
        return And(parts=(_BASE, *drawn))
    if name == "chain":
        return And(parts=(_BASE, Chain(parts=tuple(drawn))))
    condition = constraint("list:kind_count", {"animal": rng.choice(tuple(KINDS)), "count": 1})
    if name == "selection":
        first, second, *rest = drawn
        return And(parts=(_BASE, *rest, Select(condition=condition, then=first, otherwise=second)))
    first, second, *rest = drawn
    joined = (Chain if rng.random() < 0.5 else And)(parts=(first, second))
    if rng.random() < 0.5:
        then, otherwise = (joined, rest[0]) if rng.random() < 0.5 else (rest[0], joined)
        select = Select(condition=condition, then=then, otherwise=otherwise)
        return And(parts=(_BASE, *rest[1:], select))
    return And(
        parts=(_BASE, Chain(parts=(*rest[1:], first, Select(condition=condition, then=second, otherwise=rest[0]))))
    )


def _phrase(leaf: Constraint) -> str:
    args: dict[str, Any] = leaf.args
    word = args.get("word", "")
    match leaf.kind.removeprefix("list:"):
        case "number_items":
            return f"use exactly {args['count']} words"
        case "repeats":
            return f"write {word} exactly {args['times']} times"
        case "excludes":
            return f"never write {word}"
        case "starts":
            return f"start with {word}"
        case "ends":
            return f"end with {word}"
        case "upper":
            return "use capital letters"
        case "kind_count":
            animal = args["animal"] if args["count"] == 1 else _PLURAL[args["animal"]]
            return f"write at least {args['count']} {animal}"
        case "separator":
            return f"put a {args['separator']} between words"
        case "in_order":
            return "keep alphabetical order"
        case "wrapped":
            return "put the list in square brackets"
        case _:
            return "list animals"


def _condition(leaf: Constraint) -> str:
    animal = str(leaf.args["animal"])
    return f"the list has {'an' if animal == 'insect' else 'a'} {animal}"


class _Writer:
    """The question so far, and where each constraint stands in it."""

    def __init__(self) -> None:
        self.text = ""
        self.spans: list[Span] = []
        self._number = 0

    def leaf(self, leaf: Constraint, kind: str = "constraint") -> None:
        phrase = _condition(leaf) if kind == "condition" else _phrase(leaf)
        data: dict[str, Any] = {"kind": leaf.kind}
        if kind == "constraint":
            data["number"] = self._number  # its place in `leaves`
            self._number += 1
        self.spans.append(Span(kind=kind, start=len(self.text), end=len(self.text) + len(phrase), data=data))
        self.text += phrase

    def node(self, node: Node) -> None:
        """A node in the middle of a sentence."""
        if isinstance(node, Constraint):
            self.leaf(node)
        elif isinstance(node, Select):
            self.text += "if "
            self.leaf(node.condition, "condition")
            self.text += ", "
            self.node(node.then)
            self.text += ", otherwise "
            self.node(node.otherwise)
        else:
            between = ", then " if isinstance(node, Chain) else " and "
            self.text += "first " if isinstance(node, Chain) else ""
            for number, part in enumerate(node.parts):
                self.text += between if number else ""
                self.node(part)


def _render(node: Node, who: str) -> tuple[str, tuple[Span, ...]]:
    """One sentence for each part of the outermost *and*; the first says whom the list is for."""
    writer = _Writer()
    assert isinstance(node, And)
    for number, part in enumerate(node.parts):
        start = len(writer.text)
        writer.node(part)
        writer.text += "" if number else f" for {who}"
        writer.text = f"{writer.text[:start]}{writer.text[start].upper()}{writer.text[start + 1 :]}. "
    return writer.text.rstrip(), tuple(writer.spans)


# -- answers -----------------------------------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """What binds an answer once every branch is chosen."""

    bound: list[Constraint]
    without: set[str]
    """Kinds of animals that must not occur, so that a condition fails."""
    decided: list[tuple[Constraint, bool]]


def _choose(node: Node, rng: Random) -> _Choice:
    if isinstance(node, Constraint):
        return _Choice([node], set(), [])
    if isinstance(node, Select):
        taken = rng.random() < 0.5
        inner = _choose(node.then if taken else node.otherwise, rng)
        bound = [node.condition, *inner.bound] if taken else inner.bound
        without = inner.without if taken else inner.without | {str(node.condition.args["animal"])}
        return _Choice(bound, without, [(node.condition, taken), *inner.decided])
    found = [_choose(part, rng) for part in node.parts]
    return _Choice(
        [leaf for choice in found for leaf in choice.bound],
        {kind for choice in found for kind in choice.without},
        [decision for choice in found for decision in choice.decided],
    )


def _answer(node: Node, rng: Random) -> str | None:
    """A list that keeps every constraint; None when a few tries found none."""
    for _ in range(4):
        choice = _choose(node, rng)
        answer = _draft(choice.bound, choice.without, rng)
        if answer is not None and all(outcome.kept for outcome in outcomes(node, answer)):
            return answer
    return None


def _draft(bound: Sequence[Constraint], without: set[str], rng: Random) -> str | None:
    """A list built to keep constraints: what must stand in it, then others up to its length; None when that fails."""
    by_kind: dict[str, Any] = {
        leaf.kind.removeprefix("list:"): leaf.args for leaf in bound if leaf.kind != "list:kind_count"
    }
    words: list[str] = []
    fixed = {by_kind["repeats"]["word"]: by_kind["repeats"]["times"]} if "repeats" in by_kind else {}
    first, last = (by_kind[name]["word"] if name in by_kind else None for name in ("starts", "ends"))
    banned = {by_kind["excludes"]["word"]} if "excludes" in by_kind else set()
    free = [
        animal
        for animal in ANIMALS
        if animal not in banned and animal not in fixed and KIND_OF[animal] not in without
        and ("in_order" not in by_kind or (first or "") <= animal <= (last or "~"))
    ]  # fmt: skip
    for word, times in fixed.items():
        words += [word] * (times - (word == first) - (word == last))
    ends = [word for word in (first, last) if word]
    for leaf in bound:
        if leaf.kind == "list:kind_count":
            here = sum(KIND_OF[word] == leaf.args["animal"] for word in [*words, *ends])
            members = [animal for animal in free if KIND_OF[animal] == leaf.args["animal"]]
            missing = int(str(leaf.args["count"])) - here
            if missing > len(members):
                return None
            words += rng.sample(members, max(0, missing))
    length = by_kind["number_items"]["count"] if "number_items" in by_kind else None
    length = length or max(len(words) + len(ends), rng.randint(3, 6))
    missing = length - len(words) - len(ends)
    if missing < 0 or (missing and not free):
        return None
    words += rng.choices(free, k=missing) if missing > len(free) else rng.sample(free, missing)
    rng.shuffle(words)
    words = [*([first] if first else []), *words, *([last] if last else [])]
    return _written(sorted(words) if "in_order" in by_kind else words, by_kind)


def _written(words: Sequence[str], by_kind: dict[str, Any]) -> str:
    mark = SEPARATORS[by_kind["separator"]["separator"]] if "separator" in by_kind else ""
    text = (f" {mark} " if mark else " ").join(words)
    text = text.upper() if "upper" in by_kind else text
    return f"[{text}]" if "wrapped" in by_kind else text


# -- solver ------------------------------------------------------------------------------------------------------------


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Name every constraint, decide the branches, draft, and check each constraint on the draft.

    An injected error misreads a constraint, and the draft follows what was read, or it spoils the draft itself.
    """
    writer = StepWriter("instructions", LAYOUTS, style, rng)
    node = read(str(problem.meta["constraints"]))
    choice, draft = _plan(node, problem.reference or "", rng)
    if style.layout == "direct":
        return writer.solution(draft)
    if style.layout == "lazy":
        writer.step("The request is clear.", ("I follow it.",), sound=True, injected=False)
        return writer.solution(draft)
    misread = list(choice.bound)
    sound = True
    for condition, taken in choice.decided:
        line = f"if {_condition(condition)}: {'yes' if taken else 'no'}"
        writer.step(line, (f"so {'yes' if taken else 'no'}",), sound=True, injected=False)
    for number, leaf in enumerate(choice.bound):
        injected = leaf.args != {} and writer.slips()
        if injected:
            misread[number], sound = _misread(leaf, rng), False
        phrase = _phrase(misread[number])
        writer.step(f"need: {phrase}", (f"so {phrase}",), sound=not injected, injected=injected)
    if not sound:
        draft = _draft(misread, choice.without, rng) or draft
    spoilt = writer.slips()
    if spoilt:
        draft, sound = _spoilt(draft, rng), False
    writer.step(f"draft: {draft}", (f"so {draft}",), sound=sound, injected=spoilt)
    for leaf, read_as in zip(choice.bound, misread, strict=True):
        kept = all(outcome.kept for outcome in outcomes(leaf, draft))
        writer.step(f"check {_phrase(read_as)}: yes", ("yes",), sound=kept and leaf == read_as, injected=False)
    return writer.solution(draft)


def _plan(node: Node, reference: str, rng: Random) -> tuple[_Choice, str]:
    """Branches and a list that keeps everything under them; the reference's own when a few tries found none."""
    for _ in range(4):
        choice = _choose(node, rng)
        draft = _draft(choice.bound, choice.without, rng)
        if draft is not None and all(outcome.kept for outcome in outcomes(node, draft)):
            return choice, draft
    kinds = {KIND_OF.get(word) for word in items(reference)}
    return _decided(node, kinds), reference


def _decided(node: Node, kinds: set[str | None]) -> _Choice:
    """The choice that a list with these kinds of animals makes."""
    if isinstance(node, Constraint):
        return _Choice([node], set(), [])
    if isinstance(node, Select):
        taken = node.condition.args["animal"] in kinds
        inner = _decided(node.then if taken else node.otherwise, kinds)
        return _Choice(inner.bound, inner.without, [(node.condition, taken), *inner.decided])
    found = [_decided(part, kinds) for part in node.parts]
    return _Choice(
        [leaf for choice in found for leaf in choice.bound],
        set(),
        [pair for choice in found for pair in choice.decided],
    )


def _misread(leaf: Constraint, rng: Random) -> Constraint:
    """The same kind with another value of one argument."""
    name = rng.choice([name for name in leaf.args])
    options: dict[str, Sequence[Any]] = {
        "count": range(1, _LONGEST + 1),
        "times": range(1, 4),
        "word": ANIMALS,
        "animal": tuple(KINDS),
        "separator": tuple(SEPARATORS),
    }
    other = rng.choice([value for value in options[name] if value != leaf.args[name]])
    return constraint(leaf.kind, {**leaf.args, name: other})


def _spoilt(draft: str, rng: Random) -> str:
    """One word replaced by another."""
    word = rng.choice(items(draft))
    other = rng.choice([animal for animal in ANIMALS if animal != word])
    return draft.replace(word.upper(), other.upper(), 1) if draft.isupper() else draft.replace(word, other, 1)


_CORRUPTIONS: tuple[Callable[[str], str], ...] = (
    lambda gold: gold.removesuffix(gold.split()[-1]).rstrip(" -/;"),
    lambda gold: gold.removeprefix(gold.split()[0]).lstrip(" -/;"),
    lambda gold: f"{gold} {gold}",
    lambda gold: gold.swapcase(),
    lambda gold: " ".join(reversed(gold.split())),
    lambda gold: gold.replace(" ", ", "),
    lambda gold: gold.strip("[]") if "[" in gold else f"({gold})",
    lambda gold: f"{gold} mouse",
)


def corrupt(problem: Problem) -> str:
    """A list near the gold one that breaks a constraint: of several changes, in random order, the first that does."""
    gold, node = problem.reference or "", read(str(problem.meta["constraints"]))
    rng = derive_rng("instructions-corrupt", problem.id)
    for change in rng.sample(_CORRUPTIONS, len(_CORRUPTIONS)):
        wrong = change(gold)
        if not all(outcome.kept for outcome in outcomes(node, wrong.strip())):
            return wrong
    raise AssertionError(f"{problem.id}: a mouse is no animal of this world")

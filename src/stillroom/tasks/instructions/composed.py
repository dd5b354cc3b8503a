"""How constraints combine, and how many of them a response keeps.

The compositions are ComplexBench's (https://arxiv.org/abs/2407.03978), as RAIF (https://arxiv.org/abs/2506.01413) and
"When Thinking Fails" (https://arxiv.org/abs/2505.11423) use them: **and**, all parts; **chain**, a later part counts
only when every earlier one is kept; **selection**, the branch that applies; **nested**, one of these within a chain or
a selection. The condition of a selection is itself a constraint, held against the response: it says which branch is
active and is not scored. A branch binds the response only when it is active; what stands outside always does.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from stillroom.errors import UserError
from stillroom.tasks.instructions.conflicts import conflict
from stillroom.tasks.instructions.constraints import Constraint, constraint, credit, holds
from stillroom.types import Noun


class And(Noun):
    """All parts hold."""

    op: Literal["and"] = "and"
    parts: tuple["Node", ...] = Field(min_length=1)


class Chain(Noun):
    """Parts in order; one counts only when all earlier ones are kept."""

    op: Literal["chain"] = "chain"
    parts: tuple["Node", ...] = Field(min_length=1)


class Select(Noun):
    """`then` where the response keeps the condition, `otherwise` where it does not."""

    op: Literal["select"] = "select"
    condition: Constraint
    then: "Node"
    otherwise: "Node"


Node = Annotated[Constraint | And | Chain | Select, Field(discriminator="op")]
for _model in (And, Chain, Select):
    _model.model_rebuild()
_READER: TypeAdapter[Any] = TypeAdapter(Node)


class Outcome(NamedTuple):
    """A scored constraint and whether it counts as kept."""

    constraint: Constraint
    kept: bool


def read(text: str) -> "Node":
    """The tree that `dump` wrote; raises UserError for anything else, also for a constraint that makes no sense."""
    try:
        node = _READER.validate_json(text)
    except ValueError as error:
        raise UserError(f"this is no tree of constraints: {str(error)[:200]}") from error
    for leaf in _mentioned(node):
        constraint(leaf.kind, leaf.args)
    return node  # type: ignore[no-any-return]


def dump(node: "Node") -> str:
    """The tree as JSON, for a problem's ``meta["constraints"]``."""
    return node.model_dump_json()


def outcomes(node: "Node", text: str, *, strict: bool = True) -> list[Outcome]:
    """The constraints that count for this response, in order, each kept or not.

    Args:
        text: the response without its thought; a blank one keeps nothing.
        strict: whether each is held strictly (`constraints.holds`). Conditions are always strict: a branch that
            applied in one reading and not in another would bind nobody.
    """
    if isinstance(node, Constraint):
        return [Outcome(node, holds(node, text, strict=strict))]
    if isinstance(node, Select):
        active = node.then if holds(node.condition, text) else node.otherwise
        return outcomes(active, text, strict=strict)
    found: list[Outcome] = []
    for part in node.parts:
        of_part = outcomes(part, text, strict=strict)
        if isinstance(node, Chain) and not all(outcome.kept for outcome in found):
            of_part = [outcome._replace(kept=False) for outcome in of_part]
        found += of_part
    return found


def points(found: list[Outcome]) -> float:
    """Light-IF's dense reward: 1 when everything is kept, and a small credit for each constraint that is."""
    return float(all(o.kept for o in found)) + sum(credit(o.constraint) for o in found if o.kept)


def raif_reward(found: list[Outcome]) -> float:
    """RAIF's answer reward: 2 for all constraints, -2 for none, otherwise the share that is kept.

    The jump from the share to 2 is meant: it keeps a policy from settling for all but one.
    """
    kept = sum(outcome.kept for outcome in found)
    return 2.0 if kept == len(found) else -2.0 if not kept else kept / len(found)


def leaves(node: "Node") -> list[Constraint]:
    """Every constraint that can count, in order, in either branch; conditions are not among them."""
    if isinstance(node, Constraint):
        return [node]
    parts = (node.then, node.otherwise) if isinstance(node, Select) else node.parts
    return [leaf for part in parts for leaf in leaves(part)]


def depth(node: "Node") -> int:
    """1 for a single constraint; a composition is one deeper than its deepest part."""
    if isinstance(node, Constraint):
        return 1
    parts = (node.then, node.otherwise) if isinstance(node, Select) else node.parts
    return 1 + max(map(depth, parts))


def composition(node: "Node") -> str:
    """``single``, ``and``, ``chain``, ``selection`` or ``nested``; an *and* around one composition bears its name."""
    if isinstance(node, Constraint):
        return "single"
    inner = [part for part in _parts(node) if not isinstance(part, Constraint)]
    if isinstance(node, And):
        names = {composition(part) for part in inner}
        return "and" if names <= {"and"} else names.pop() if len(names) == 1 else "nested"
    if inner:
        return "nested"
    return "chain" if isinstance(node, Chain) else "selection"


def require_compatible(node: "Node") -> None:
    """Refuses a tree in which two constraints that can bind the same response contradict each other.

    The two branches of a selection never meet. A condition binds together with its first branch.

    Raises:
        UserError: names the pair and why.
    """
    for bound in _worlds(node):
        for one, other in combinations(bound, 2):
            why = conflict(one, other)
            if why is not None:
                raise UserError(f"{_shown(one)} and {_shown(other)} contradict each other: {why}; leave one out")


def _worlds(node: "Node") -> Iterator[list[Constraint]]:
    """For every choice of branches, what binds a response then."""
    if isinstance(node, Constraint):
        yield [node]
    elif isinstance(node, Select):
        for bound in _worlds(node.then):
            yield [node.condition, *bound]
        yield from _worlds(node.otherwise)
    else:
        first, *rest = node.parts
        for head in _worlds(first):
            if not rest:
                yield head
            else:
                for tail in _worlds(And(parts=tuple(rest))):
                    yield [*head, *tail]


def _mentioned(node: "Node") -> Iterator[Constraint]:
    """Leaves and conditions."""
    if isinstance(node, Constraint):
        yield node
        return
    if isinstance(node, Select):
        yield node.condition
    for part in _parts(node):
        yield from _mentioned(part)


def _parts(node: And | Chain | Select) -> tuple["Node", ...]:
    return (node.then, node.otherwise) if isinstance(node, Select) else node.parts


def _shown(leaf: Constraint) -> str:
    return f"{leaf.kind}({', '.join(f'{name}={value!r}' for name, value in leaf.args.items())})"

"""A knowledge graph over the fictional world: triples, paths between entities, and questions of one to three hops.

The graph holds what `facts` states, as triples with ids, labels and aliases. Every fact has a frequency, heavy-tailed
as in real text: `corpus` states it so often. A question is *rare* when the rarest fact on its path is. Of the ways to
compose two or three relations, some 60 in 100 are for training and the others for dev and test, so that a student meets
compositions that it never saw (fs1, https://arxiv.org/abs/2505.11140).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks.answers import extract
from stillroom.tasks.base import Task, question, split_of
from stillroom.tasks.exact import canonical
from stillroom.tasks.facts import PHRASES, QUESTIONS, STATEMENTS, World, build_world, solve
from stillroom.tasks.registry import register
from stillroom.types import Problem, Split, Verdict

Slice = Literal["all", "common", "rare"]
RARE, COMMON = 2, 8
"""A fact that is stated at most, and at least, so often."""
_MOST = 64  # statements of the most frequent fact of a relation


class Triple(NamedTuple):
    """A fact between two entities, by their ids."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class Graph:
    """Triples with what their ids are called. Two entities may share a label: ids are compared, labels printed."""

    triples: tuple[Triple, ...]
    labels: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outgoing: Mapping[str, tuple[Triple, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        outgoing: dict[str, list[Triple]] = {}
        for triple in self.triples:
            for end in (triple.head, triple.tail):
                if end not in self.labels:
                    raise UserError(f"entity {end!r} of {triple} has no label; give every id one")
            outgoing.setdefault(triple.head, []).append(triple)
        object.__setattr__(self, "outgoing", {head: tuple(found) for head, found in outgoing.items()})


class Paths(NamedTuple):
    found: tuple[tuple[Triple, ...], ...]
    """Shortest first."""
    cut: bool
    """There are more than the limit."""


def paths(graph: Graph, starts: Sequence[str], ends: Sequence[str], *, max_hops: int = 3, limit: int = 20) -> Paths:
    """Simple paths from any start to any end: no entity twice, shortest first, at most `limit`.

    Args:
        starts: ids; ends: ids. A start that is an end has no path of no hops.

    Raises:
        UserError: an id that the graph does not have.
    """
    for entity in (*starts, *ends):
        if entity not in graph.labels:
            raise UserError(f"no entity {entity!r} in the graph")
    wanted, found = set(ends), list[tuple[Triple, ...]]()
    level: list[tuple[Triple, ...]] = [
        (triple,) for start in dict.fromkeys(starts) for triple in graph.outgoing.get(start, ())
    ]
    for _ in range(max_hops):
        further = []
        for path in level:
            visited = {path[0].head, *(triple.tail for triple in path[:-1])}
            if path[-1].tail in visited:
                continue
            if path[-1].tail in wanted:
                if len(found) == limit:
                    return Paths(tuple(found), cut=True)
                found.append(path)
            further += [(*path, triple) for triple in graph.outgoing.get(path[-1].tail, ())]
        level = further
    return Paths(tuple(found), cut=False)


def linearise(graph: Graph, path: Sequence[Triple]) -> str:
    """``head -- relation -- tail -- relation -- tail`` in labels."""
    return graph.labels[path[0].head] + "".join(f" -- {t.relation} -- {graph.labels[t.tail]}" for t in path)


def follow(graph: Graph, start: str, relations: Sequence[str]) -> frozenset[str]:
    """The entities at the end of a chain of relations; several where a relation has several tails."""
    reached = {start}
    for relation in relations:
        reached = {t.tail for entity in reached for t in graph.outgoing.get(entity, ()) if t.relation == relation}
    return frozenset(reached)


# -- the fictional world as a graph ------------------------------------------------------------------------------------


def world_graph(world: World) -> Graph:
    """The world's facts; a person is also known by name and job, a town also as "the town of ...\""""
    kinds = {"town": "town", "job": "job"}
    ids = {"person": world.people, "town": world.towns, "job": tuple(dict.fromkeys(world.facts["job"].values()))}
    labels = {f"{kind}:{label}": label for kind, found in ids.items() for label in found}
    triples = [
        Triple(
            f"{'town' if relation == 'resident' else 'person'}:{head}",
            relation,
            f"{kinds.get(relation, 'person')}:{tail}",
        )
        for relation, table in world.facts.items()
        for head, tail in table.items()
    ]
    aliases = {f"person:{name}": (f"{name} the {world.facts['job'][name]}",) for name in world.people}
    aliases |= {f"town:{name}": (f"the town of {name}",) for name in world.towns}
    return Graph(tuple(triples), labels, aliases)


def frequency(world: World, relation: str, subject: str) -> int:
    """How often `corpus` states a fact: 64 over its rank among the facts of its relation, at least once."""
    return max(1, _MOST // (1 + _ranks(world, relation)[subject]))


def _ranks(world: World, relation: str) -> dict[str, int]:
    key = (world.seed, len(world.people), relation)
    if key not in _RANKS:
        subjects = list(world.facts[relation])
        derive_rng("knowledge-ranks", *key).shuffle(subjects)
        _RANKS[key] = {subject: rank for rank, subject in enumerate(subjects)}
    return _RANKS[key]


_RANKS: dict[tuple[int, int, str], dict[str, int]] = {}


def corpus(world: World) -> Iterator[str]:
    """Every fact as sentences, as often as its frequency says, in its two wordings in turn."""
    for relation, table in world.facts.items():
        for subject, found in table.items():
            for number in range(frequency(world, relation, subject)):
                yield STATEMENTS[relation][number % 2].format(subject, found)


# -- how true a text is ------------------------------------------------------------------------------------------------


class Stated(NamedTuple):
    """Facts that a text states, and how many of them are true."""

    stated: int
    true: int


_EQUATION = re.compile(r"\b(mentor|friend|town|job|resident)\((\w{1,40})\)=(\w{1,40})")
_SENTENCES = [
    (relation, re.compile(re.escape(wording).replace(r"\{0\}", r"(?P<s>\w{1,40})", 1).replace(r"\{0\}", r"\w{1,40}")
                          .replace(r"\{1\}", r"(?P<o>\w{1,40})"), re.IGNORECASE))
    for relation, wordings in STATEMENTS.items() for wording in wordings
]  # fmt: skip


def stated_facts(world: World, text: str) -> Stated:
    """How many facts a text states in the solver's or the corpus's wordings, and how many hold in the world.

    Faithfulness apart from the answer: an answer can be right although its steps are not. A name that the world does
    not have makes a false fact. A fact that is stated twice counts twice.
    """
    found = [(match[1], match[2], match[3]) for match in _EQUATION.finditer(text)]
    for relation, pattern in _SENTENCES:
        found += [(relation, match["s"], match["o"]) for match in pattern.finditer(text)]
    names = {relation: {s.lower(): o.lower() for s, o in table.items()} for relation, table in world.facts.items()}
    return Stated(len(found), sum(names[relation].get(s.lower()) == o.lower() for relation, s, o in found))


# -- questions ---------------------------------------------------------------------------------------------------------


@register(
    "knowledge",
    summary="one to three hops through a graph of invented people, by how often facts are stated; level = hops",
    world="knowledge",
    levels=(1, 2, 3),
)
def knowledge(entities: int = 60, world_seed: int = 0, low: int = 1, high: int = 3, facts: Slice = "all") -> Task:
    """Questions about a world of `entities` people; neither facts nor paths are in the question.

    Args:
        facts: ``rare``: a fact on the path is stated at most twice; ``common``: each at least eight times.

    Raises:
        UserError: `entities` or the levels are out of range.
    """
    if not 1 <= low <= high <= 3:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 3")
    world = build_world(entities, world_seed)
    graph = world_graph(world)
    by_split: dict[Split, list[Problem]] = {"train": [], "dev": [], "test": []}
    for problem in _questions(world):
        rarest = int(str(problem.meta["frequency"]))
        wanted = facts == "all" or (rarest <= RARE if facts == "rare" else rarest >= COMMON)
        if wanted and low <= problem.level <= high:
            by_split[problem.split].append(problem)

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        return sorted(by_split[split], key=lambda problem: digest("knowledge-order", str(seed), problem.id))[:n]

    return Task(
        name="knowledge",
        summary="hops through a graph of invented people",
        problems=problems,
        verify=partial(verify, graph),
        solve=partial(solve, world),
        levels=tuple(range(low, high + 1)),
        world="knowledge",
        corrupt=partial(_another, world),
    )


def compositions() -> list[tuple[str, ...]]:
    """Chains of one to three relations that fit together and do not lead straight back."""
    person = ("mentor", "friend", "town", "job")
    level: list[tuple[str, ...]] = [("resident",), *((relation,) for relation in person)]
    chains = list(level)
    for _ in range(2):
        # Nothing is known of a job, and the resident of somebody's town is that person again.
        level = [
            (*chain, relation)
            for chain in level
            if chain[-1] not in ("town", "job")
            for relation in person
            if (chain[-1], relation) != ("resident", "town")
        ]
        chains += level
    return chains


def composition_split(chain: Sequence[str]) -> Split:
    """The split of a chain of two or three relations: 60 in 100 train, 20 dev, 20 test."""
    bucket = int(digest("knowledge-composition", *chain), 16) % 10
    return "train" if bucket < 6 else "dev" if bucket < 8 else "test"


def _questions(world: World) -> Iterator[Problem]:
    for chain in compositions():
        for subject in world.facts[chain[0]]:
            inner, rarest, here = subject, _MOST, subject
            path = []
            for relation in chain:
                rarest = min(rarest, frequency(world, relation, here))
                here = world.facts[relation][here]
                path.append(here)
            for relation in chain[:-1]:
                inner = PHRASES[relation].format(inner)
            problem = Problem(
                id=f"knowledge/{len(world.people)}-{world.seed}/{'-'.join(chain)}/{subject}",
                task="knowledge",
                messages=question(QUESTIONS[chain[-1]].format(inner)),
                reference=here,
                level=len(chain),
                meta={"subject": subject, "hops": list(chain), "path": list(path), "frequency": rarest},
            )
            split = split_of(problem) if len(chain) == 1 else composition_split(chain)
            yield problem.model_copy(update={"split": split})


def verify(graph: Graph, problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether the final answer is the reference's label or one of its aliases.

    An answer that names several entities is no answer, also when one of them is right.

    Args:
        strict: False also looks into an answer of several words, and takes the one entity that it names.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    answer = extract(text, strict=True)
    if answer is None or not answer.strip():
        return Verdict(correct=False, score=0.0, reason="no answer")
    answer = answer[:200]
    ours = {canonical(name) for name in _names(graph, problem.reference)}
    named = Counter(_named(graph, answer))
    if len(named) > 1 and canonical(answer) not in ours:
        return Verdict(correct=False, score=0.0, answer=answer, reason="names several")
    equal = canonical(answer) in ours or (not strict and set(named) == {problem.reference.lower()})
    return Verdict(correct=equal, score=float(equal), answer=answer, reason="equal" if equal else "different")


def _names(graph: Graph, label: str) -> list[str]:
    ids = [entity for entity, name in graph.labels.items() if name == label]
    return [label, *(alias for entity in ids for alias in graph.aliases.get(entity, ()))]


def _named(graph: Graph, answer: str) -> list[str]:
    """The labels that stand in an answer as words."""
    known = {label.lower() for label in graph.labels.values()}
    return [word for word in re.findall(r"\w+", answer.lower()) if word in known]


def _another(world: World, problem: Problem) -> str:
    """Another entity of the right kind."""
    hops: list[str] = problem.meta["hops"]  # type: ignore[assignment]
    jobs = sorted(set(world.facts["job"].values()))
    kind = list(world.towns) if hops[-1] == "town" else jobs if hops[-1] == "job" else list(world.people)
    return kind[(kind.index(problem.reference or "") + 1) % len(kind)]

"""A fictional-facts world: invented people, who mentors and befriends whom, where they live and what they do.

The world is closed and a function of its seed; nothing in it can be known from elsewhere. `facts_text` states every
fact for pre-training; questions then ask for one fact (level 1) or for a fact about the answer to another (level 2).
There are finitely many questions, so `problems` returns each at most once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks.base import Solution, Style, Task, question, split_of
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split

LAYOUTS = ("equations", "sentences")
_ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_TOWN_ENDS = ("ford", "holm", "mere", "port", "stead", "vale", "wick", "wold")
_JOBS = (
    *("baker", "carver", "diver", "farmer", "glazier", "healer", "hunter", "jeweller", "mason", "miller"),
    *("painter", "potter", "sailor", "scribe", "singer", "smith", "tailor", "tanner", "teacher", "weaver"),
)
PHRASES = {  # relation -> the thing it gives, as a noun phrase about {}
    "mentor": "the mentor of {}",
    "friend": "the best friend of {}",
    "town": "the home town of {}",
    "job": "the job of {}",
    "resident": "the person who lives in {}",
}
QUESTIONS = {
    "mentor": "Who is the mentor of {}?",
    "friend": "Who is the best friend of {}?",
    "town": "What is the home town of {}?",
    "job": "What is the job of {}?",
    "resident": "Who lives in {}?",
}
STATEMENTS = {
    "mentor": ("The mentor of {0} is {1}.", "{0} was taught by {1}, the mentor of {0}."),
    "friend": ("The best friend of {0} is {1}.", "{0} has a best friend, {1}."),
    "town": ("The home town of {0} is {1}.", "{0} lives in {1}."),
    "job": ("The job of {0} is {1}.", "{0} works as a {1}."),
    "resident": ("The person who lives in {0} is {1}.", "In {0} lives {1}."),
}
_TO_PERSON = ("mentor", "friend", "resident")


@dataclass(frozen=True)
class World:
    """Everything that is true: ``facts[relation][subject]`` is the object."""

    seed: int
    people: tuple[str, ...]
    towns: tuple[str, ...]
    facts: dict[str, dict[str, str]]


@register(
    "facts",
    summary="a closed world of invented people; level 1 asks for a fact, level 2 for a fact about a fact's answer",
    world="facts",
    levels=(1, 2),
)
def facts(entities: int = 60, world_seed: int = 0, low: int = 1, high: int = 2) -> Task:
    """Questions about a world of `entities` people; the world's facts are not in the question.

    Raises:
        UserError: `entities` or the levels are out of range.
    """
    if not 1 <= low <= high <= 2:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 2")
    world = build_world(entities, world_seed)
    by_split: dict[Split, list[Problem]] = {"train": [], "dev": [], "test": []}
    for problem in _all_questions(world):
        if low <= problem.level <= high:
            split = split_of(problem)
            by_split[split].append(problem.model_copy(update={"split": split}))

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        return sorted(by_split[split], key=lambda problem: digest("facts-order", str(seed), problem.id))[:n]

    return Task(
        name="facts",
        summary="questions about a closed fictional world",
        problems=problems,
        verify=verify_exact,
        solve=partial(solve, world),
        levels=tuple(range(low, high + 1)),
        world=f"facts-{entities}-{world_seed}",
        corrupt=partial(_another, world),
    )


def build_world(entities: int = 60, world_seed: int = 0, *, syllables: int | None = None) -> World:
    """The world of that size and seed; raises UserError unless there are 10 to 2000 people.

    Args:
        syllables: of people's names; None: two up to 200 people, else three.
    """
    if not 10 <= entities <= 2000:
        raise UserError(f"entities={entities} is out of range; give 10 to 2000")
    rng = derive_rng("facts-world", entities, world_seed)
    names: dict[str, None] = {}  # ordered and without repeats
    while len(names) < entities:
        names[_word(rng, syllables or (2 if entities <= 200 else 3))] = None
    towns: dict[str, None] = {}
    while len(towns) < entities:
        towns[_word(rng, 1 if entities <= 200 else 2) + rng.choice(_TOWN_ENDS)] = None
    people, places = tuple(names), tuple(towns)
    homes = rng.sample(places, len(places))
    return World(
        seed=world_seed,
        people=people,
        towns=places,
        facts={
            "mentor": _circle(rng, people),
            "friend": _circle(rng, people),
            "town": dict(zip(people, homes, strict=True)),
            "job": {person: rng.choice(_JOBS) for person in people},
            "resident": dict(zip(homes, people, strict=True)),
        },
    )


def facts_text(world: World) -> Iterator[str]:
    """Every fact of the world as a sentence, in two wordings; the order is by relation and mixes the people."""
    for relation, table in world.facts.items():
        for wording in STATEMENTS[relation]:
            for subject, found in table.items():
                yield wording.format(subject, found)


def solve(world: World, problem: Problem, style: Style, rng: Random) -> Solution:
    """One line per hop; an injected error names another person, town or job, and the next hop is about that one."""
    writer = StepWriter("facts", LAYOUTS, style, rng)
    current, sound = str(problem.meta["subject"]), True
    hops: list[str] = problem.meta["hops"]  # type: ignore[assignment]
    for hop in hops:
        found = world.facts[hop][current]
        injected = writer.slips()
        if injected:
            found, sound = rng.choice([other for other in _kind(world, hop) if other != found]), False
        phrase = PHRASES[hop].format(current)
        if style.layout == "equations":
            line, checks = f"{hop}({current})={found}", (f"{phrase} is {found}", f"so {found}")
        else:
            line, checks = f"{phrase[0].upper()}{phrase[1:]} is {found}.", (f"So it is {found}.", f"That is {found}.")
        writer.step(line, checks, sound=sound, injected=injected)
        current = found
    return writer.solution(current)


def _all_questions(world: World) -> Iterator[Problem]:
    paths: list[tuple[str, ...]] = [(hop,) for hop in QUESTIONS]
    # town(resident(x)) is x itself, and resident(town(x)) too: such questions carry their answer.
    paths += [(one, two) for one in _TO_PERSON for two in QUESTIONS if two != "resident"]
    for path in paths:
        if path == ("resident", "town"):
            continue
        for subject in world.facts[path[0]]:
            inner = subject if len(path) == 1 else PHRASES[path[0]].format(subject)
            answer = subject
            for hop in path:
                answer = world.facts[hop][answer]
            yield Problem(
                id=f"facts/{len(world.people)}-{world.seed}/{'-'.join(path)}/{subject}",
                task="facts",
                messages=question(QUESTIONS[path[-1]].format(inner)),
                reference=answer,
                level=len(path),
                meta={"subject": subject, "hops": list(path)},
            )


def _another(world: World, problem: Problem) -> str:
    """An answer of the right kind that is wrong: the next one in the world's list."""
    hops: list[str] = problem.meta["hops"]  # type: ignore[assignment]
    kind = _kind(world, hops[-1])
    return kind[(kind.index(problem.reference or "") + 1) % len(kind)]


def _kind(world: World, relation: str) -> tuple[str, ...]:
    return world.towns if relation == "town" else _JOBS if relation == "job" else world.people


def _circle(rng: Random, people: tuple[str, ...]) -> dict[str, str]:
    """Everybody gets exactly one, nobody gets themselves."""
    order = rng.sample(people, len(people))
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _word(rng: Random, syllables: int) -> str:
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)).capitalize()

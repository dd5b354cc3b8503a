"""Trick questions: little stories with numbers to add up, in which one everyday rule decides what still counts.

"Ann puts 3 ice cubes into a hot pan. Then 4 ice cubes go into a freezer. How many whole ice cubes are there an hour
later?" Adding everything is the bait and always among the six options. Level k tells of k groups. Whether the rule
strikes a group is drawn for each, so that neither the sum of all nor nothing is a safe guess. The kinds of rule are
those of SimpleBench's questions (https://simple-bench.com): the state of things (trick), space, time, and what people
can perceive (social).
"""

from random import Random
from typing import Literal, NamedTuple

from stillroom.errors import UserError
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.choice import shuffled
from stillroom.tasks.choice import verify as verify_option
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem

LAYOUTS = ("equations", "sentences")
OPTIONS = 6
_NAMES = ("Ann", "Ben", "Cara", "Dan", "Eve", "Finn", "Gina", "Hal")


class Rule(NamedTuple):
    """An everyday rule: where it strikes, a group no longer counts."""

    first: str
    """The first group, told of {who}, {n} and {place}."""
    then: str
    """Every further group."""
    struck: tuple[str, ...]
    """Places where the rule strikes."""
    spared: tuple[str, ...]
    ask: str
    lost: str
    """Why a struck group does not count."""
    kept: str


RULES = {
    "trick": Rule(
        first="{who} puts {n} ice cubes into {place}.",
        then="Then {n} ice cubes go into {place}.",
        struck=("a hot pan", "a pot of boiling water", "a hot oven", "the fire"),
        spared=("a freezer", "an ice chest", "a freezer box", "a freezing room"),
        ask="How many whole ice cubes are there an hour later?",
        lost="they melt",
        kept="they stay",
    ),
    "spatial": Rule(
        first="{who} drops {n} marbles into {place}.",
        then="Then {n} marbles go into {place}.",
        struck=("a cup without a base", "an open cup that is upside down", "a net with large holes", "a torn bag"),
        spared=("a cup that stands upright", "a closed jar", "a sound bag", "a deep bowl"),
        ask="Everything is lifted up. How many marbles come up with it?",
        lost="they fall out",
        kept="they stay in",
    ),
    "temporal": Rule(
        first="A candle burns for 2 hours. {who} lights {n} candles {place}.",
        then="Then {n} candles are lit {place}.",
        struck=("at 1 o'clock", "at 2 o'clock", "at 3 o'clock", "at half past 2"),
        spared=("at half past 5", "at 5 o'clock", "a minute before 6", "at a quarter to 6"),
        ask="How many candles burn at 6 o'clock?",
        lost="they have burnt down",
        kept="they burn",
    ),
    "social": Rule(
        first="{who} has invited {n} people who are {place}.",
        then="Then come {n} people who are {place}.",
        struck=("in another town", "fast asleep", "out of earshot", "on their way home"),
        spared=("awake at the table", "listening at the table", "right beside the host", "wide awake in the room"),
        ask="Nobody moves, and the host whispers one word at the table. How many of these people hear it?",
        lost="they cannot hear it",
        kept="they hear it",
    ),
}
Category = Literal["mixed", "trick", "spatial", "temporal", "social"]


@register(
    "tricks",
    summary="stories with numbers to add, in which an everyday rule decides what still counts; level = groups",
    world="knowledge",
    levels=(1, 2, 3, 4),
)
def tricks(category: Category = "mixed", low: int = 1, high: int = 4) -> Task:
    """Multiple choice with six options; raises UserError unless 1 <= low <= high <= 4.

    Args:
        category: the kind of rule; ``mixed`` takes turns at random.
    """
    if not 1 <= low <= high <= 4:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 4")

    def make(rng: Random, level: int) -> Problem:
        return _make(category if category != "mixed" else rng.choice(tuple(RULES)), rng, level)

    levels = tuple(range(low, high + 1))
    return Task(
        name="tricks",
        summary="everyday rules against arithmetic bait",
        problems=procedural(f"tricks-{category}", make, levels),
        verify=verify_option,
        solve=solve,
        levels=levels,
        world="knowledge",
        corrupt=_bait,
    )


def _make(category: str, rng: Random, level: int) -> Problem:
    rule, who = RULES[category], rng.choice(_NAMES)
    counts = [rng.randint(2, 9) for _ in range(level)]
    struck = [rng.random() < 0.5 for _ in range(level)]
    places = [rng.choice(rule.struck if hit else rule.spared) for hit in struck]
    told = [
        (rule.then if number else rule.first).format(who=who, n=count, place=place)
        for number, (count, place) in enumerate(zip(counts, places, strict=True))
    ]
    right = sum(count for count, hit in zip(counts, struck, strict=True) if not hit)
    total = sum(counts)
    # The bait, what is lost, nothing, and then neighbours until there are six.
    others = dict.fromkeys([total, total - right, 0, counts[0], counts[-1], *rng.sample(range(1, 12), 11)])
    wrong = [value for value in others if value != right][: OPTIONS - 1]
    problem = Problem(
        id="",
        task="tricks",
        messages=question(f"{' '.join(told)} {rule.ask}"),
        reference="A",
        level=level,
        options=tuple(map(str, (right, *wrong))),
        meta={
            "category": category,
            "counts": list(counts),
            "places": list(places),
            "struck": list(struck),
            "bait": str(total),
            "answer": str(right),
        },
    )
    return shuffled(problem, rng)


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """One line per group: where it is, what that does to it, and the number so far.

    An injected error takes a group for the other sort, a bait step when it should have been left out.
    """
    writer = StepWriter("tricks", LAYOUTS, style, rng)
    rule = RULES[str(problem.meta["category"])]
    counts: list[int] = problem.meta["counts"]  # type: ignore[assignment]
    places: list[str] = problem.meta["places"]  # type: ignore[assignment]
    struck: list[bool] = problem.meta["struck"]  # type: ignore[assignment]
    total, sound = 0, True
    for count, place, hit in zip(counts, places, struck, strict=True):
        injected = writer.slips()
        sound = sound and not injected
        lost = hit is not injected
        total += 0 if lost else count
        why = rule.lost if lost else rule.kept
        if style.layout == "equations":
            line, checks = f"{count} {place}: {why}, so {total}", (f"so {total}", f"now {total}")
        else:
            line = f"Of the {count} {place}, {why}, which makes {total} so far."
            checks = (f"So far it is {total}.", f"That makes {total}.")
        writer.step(line, checks, sound=sound, injected=injected)
    answer = str(total)
    if answer not in problem.options:  # a wrong chain may end in a number that is not offered; who must choose, guesses
        answer = rng.choice(problem.options)
    return writer.solution(chr(65 + problem.options.index(answer)))


def _bait(problem: Problem) -> str:
    """The letter of the sum of everything, or of the next option where that is right."""
    bait = problem.options.index(str(problem.meta["bait"]))
    right = ord(problem.reference or "A") - 65
    return chr(65 + (bait if bait != right else (right + 1) % len(problem.options)))

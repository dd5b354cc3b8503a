"""Word problems in a few sentences, after the manner of grade-school mathematics.

A story is a list of sentences and a list of steps. A step computes with numbers of the text and results of earlier
steps, so that every answer can be derived again from the text; all numbers are in digits. Level k needs k steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem

LAYOUTS = ("equations", "sentences")
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
}
_NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jada", "Kai", "Lea"),
    *("Mia", "Noa", "Omar", "Pia", "Quin", "Rosa", "Sam", "Tara", "Uma", "Vic", "Wes", "Zoe"),
)
_THINGS = (
    *("apples", "beads", "books", "buttons", "cards", "coins", "cups", "eggs", "figs", "hats", "keys", "lamps"),
    *("maps", "nuts", "pears", "pens", "plums", "rings", "roses", "shells", "spoons", "stamps", "stones", "toys"),
)
_PLACES = ("at home", "in the attic", "in a drawer", "at school", "in the garden")


class Step(NamedTuple):
    """One computation; an operand is a number of the text, or ``#i`` for the result of step i."""

    operator: str
    left: str
    right: str
    label: str
    """A sentence about the result, with ``{}`` where the computation goes."""


@dataclass
class _Story:
    rng: Random
    sentences: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    ask: str = ""

    def __post_init__(self) -> None:
        self.who, self.other, self.third = self.rng.sample(_NAMES, 3)
        self.thing, self.thing2, self.thing3 = self.rng.sample(_THINGS, 3)

    def tell(self, *variants: str) -> None:
        """Add one of these sentences."""
        self.sentences.append(self.rng.choice(variants))

    def compute(self, left: int | str, operator: str, right: int | str, label: str) -> str:
        """Add a step; returns how later steps name its result."""
        self.steps.append(Step(operator, str(left), str(right), label))
        self.values.append(_APPLY[operator](self.value(left), self.value(right)))
        return f"#{len(self.steps) - 1}"

    def value(self, operand: int | str) -> int:
        return self.values[int(operand[1:])] if isinstance(operand, str) else operand


@register(
    "words",
    summary="short word problems about owning, packing, buying, comparing and earning; level = number of steps",
    world="arithmetic",
    levels=(1, 2, 3, 4, 5),
)
def words(low: int = 1, high: int = 5, distractors: int = 0) -> Task:
    """Word problems of `low` to `high` steps with that many sentences that do not matter.

    Raises:
        UserError: levels or distractors are out of range.
    """
    if not 1 <= low <= high <= 5:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 5")
    if not 0 <= distractors <= 3:
        raise UserError(f"distractors={distractors} is out of range; give 0 to 3")

    def make(rng: Random, level: int) -> Problem:
        story = _Story(rng)
        scheme = rng.choice([name for name, (least, most, _) in _SCHEMES.items() if least <= level <= most])
        _SCHEMES[scheme][2](story, level)
        sentences = list(story.sentences)
        for sentence in _distractors(story, distractors):
            sentences.insert(rng.randint(1, len(sentences)), sentence)
        return Problem(
            id="",
            task="words",
            messages=question(" ".join([*sentences, story.ask])),
            reference=str(story.values[-1]),
            level=level,
            meta={"scheme": scheme, "steps": [list(step) for step in story.steps]},
        )

    levels = tuple(range(low, high + 1))
    return Task(
        name="words",
        summary="short word problems",
        problems=procedural(f"words-{distractors}", make, levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="arithmetic",
        corrupt=lambda problem: str(int(problem.reference or 0) + 1),
    )


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Compute step by step; a wrong result spoils the steps that use it."""
    writer = StepWriter("words", LAYOUTS, style, rng)
    results: list[int] = []
    sound: list[bool] = []
    for step in (Step(*row) for row in problem.meta["steps"]):  # type: ignore[union-attr, misc]
        used = [int(operand[1:]) for operand in (step.left, step.right) if operand.startswith("#")]
        left, right = (
            results[int(operand[1:])] if operand.startswith("#") else int(operand)
            for operand in (step.left, step.right)
        )
        injected = writer.slips()
        result = _APPLY[step.operator](left, right)
        if injected:
            result += rng.choice((-1, 1, 2, 10)) if result > 1 else rng.choice((1, 2, 10))
        results.append(result)
        sound.append(not injected and all(sound[index] for index in used))
        equation = f"{left}{step.operator}{right}={result}"
        said = step.label.format(equation)
        brief = step.label.format(result)
        checks = (brief, f"So {result}.") if style.layout == "equations" else (f"So {result}.", equation)
        writer.step(equation if style.layout == "equations" else said, checks, sound=sound[-1], injected=injected)
    return writer.solution(str(results[-1]))


def _owning(story: _Story, steps: int) -> None:
    """Start with some, then things happen."""
    start = story.rng.randint(4, 40)
    story.tell(f"{story.who} has {start} {story.thing}.", f"{story.who} starts with {start} {story.thing}.")
    _events(story, start, steps)


def _packing(story: _Story, steps: int) -> None:
    """The start is a product or a quotient."""
    who, thing = story.who, story.thing
    boxes, each = story.rng.randint(2, 9), story.rng.randint(3, 12)
    label = f"{who} has {{}} {thing}."
    if story.rng.random() < 0.6:
        story.tell(
            f"{who} has {boxes} boxes with {each} {thing} each.", f"{who} fills {boxes} bags with {each} {thing} each."
        )
        now = story.compute(boxes, "*", each, label)
    else:
        story.tell(
            f"{who} shares {boxes * each} {thing} equally with friends, so that {boxes} people get the same.",
            f"{who} packs {boxes * each} {thing} equally into {boxes} boxes and keeps 1 box.",
        )
        now = story.compute(boxes * each, "/", boxes, label)
    _events(story, now, steps - 1)


def _events(story: _Story, now: int | str, steps: int) -> None:
    who, other, thing, rng = story.who, story.other, story.thing, story.rng
    for _ in range(steps):
        have = story.value(now)
        kind = rng.choice("++--*" if 2 < have <= 60 else "-" if have > 2 else "+")
        if kind == "+":
            n = rng.randint(2, 20)
            story.tell(
                f"{who} finds {n} more {thing}.", f"{other} gives {who} {n} {thing}.", f"{who} buys {n} more {thing}."
            )
        elif kind == "-":
            n = rng.randint(1, min(have - 1, 30))
            story.tell(f"{who} gives {n} {thing} to {other}.", f"{who} loses {n} {thing}.", f"{who} sells {n} {thing}.")
        else:
            n = rng.randint(2, 4)
            story.tell(
                f"A week later {who} has {n} times as many {thing}.",
                f"By trading {who} gets {n} times as many {thing}.",
            )
        now = story.compute(now, kind, n, f"{who} has {{}} {thing}.")
    story.ask = rng.choice((f"How many {thing} does {who} have now?", f"How many {thing} are left with {who}?"))


def _buying(story: _Story, steps: int) -> None:
    """Prices, totals and change."""
    who, rng = story.who, story.rng
    things = (story.thing, story.thing2, story.thing3)[: {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}[steps]]
    counts = [rng.randint(2, 9) for _ in things]
    prices = [rng.randint(2, 12) for _ in things]
    shelf = " ".join(
        f"{'It' if index == 0 else 'And it'} sells {thing} for {price} dollars each."
        for index, (thing, price) in enumerate(zip(things, prices, strict=True))
    )
    story.tell(
        f"{story.other} runs a shop. {shelf}".replace("It sells", "The shop sells", 1), f"There is a new shop. {shelf}"
    )
    bought = [f"{count} {thing}" for count, thing in zip(counts, things, strict=True)]
    story.tell(f"{who} buys {' and '.join(bought)}.", f"{who} goes home with {' and '.join(bought)}.")
    costs = [
        story.compute(count, "*", price, f"The {thing} cost {{}} dollars.")
        for count, price, thing in zip(counts, prices, things, strict=True)
    ]
    total = costs[0]
    for cost in costs[1:]:
        total = story.compute(total, "+", cost, "Together that is {} dollars.")
    story.ask = f"How many dollars does {who} spend?"
    if steps in (2, 4):
        purse = (story.value(total) // 10 + rng.randint(1, 3)) * 10
        story.tell(f"{who} pays with {purse} dollars.", f"{who} had {purse} dollars.")
        story.compute(purse, "-", total, f"{who} has {{}} dollars left.")
        story.ask = f"How many dollars does {who} have left?"


def _comparing(story: _Story, steps: int) -> None:
    """How many more or times as many, and together."""
    first, second, third, thing, rng = story.who, story.other, story.third, story.thing, story.rng
    start, more, times = rng.randint(3, 30), rng.randint(2, 15), rng.randint(2, 4)
    story.tell(f"{first} has {start} {thing}.", f"{first} owns {start} {thing}.")
    if rng.random() < 0.5 or start <= more:
        story.tell(f"{second} has {more} more {thing} than {first}.")
        b = story.compute(start, "+", more, f"{second} has {{}} {thing}.")
    else:
        story.tell(f"{second} has {more} fewer {thing} than {first}.")
        b = story.compute(start, "-", more, f"{second} has {{}} {thing}.")
    story.ask = f"How many {thing} does {second} have?"
    if steps == 1:
        return
    if steps == 2:
        story.compute(start, "+", b, f"Together they have {{}} {thing}.")
        story.ask = f"How many {thing} do {first} and {second} have together?"
        return
    story.tell(f"{third} has {times} times as many {thing} as {second}.")
    c = story.compute(b, "*", times, f"{third} has {{}} {thing}.")
    if steps == 3:
        story.compute(b, "+", c, f"Together they have {{}} {thing}.")
        story.ask = f"How many {thing} do {second} and {third} have together?"
        return
    both = story.compute(start, "+", b, f"{first} and {second} have {{}} {thing}.")
    everyone = story.compute(both, "+", c, f"All 3 have {{}} {thing}.")
    story.ask = f"How many {thing} do all 3 have together?"
    if steps == 5:
        gone = rng.randint(1, story.value(everyone) - 1)
        story.tell(f"Together they give away {gone} {thing}.", f"Then {gone} of all their {thing} are lost.")
        story.compute(everyone, "-", gone, f"{{}} {thing} are left.")
        story.ask = f"How many {thing} are left in all?"


def _earning(story: _Story, steps: int) -> None:
    """Hours, days, wages, spending."""
    who, rng = story.who, story.rng
    hours, days, wage = rng.randint(2, 8), rng.randint(2, 6), rng.randint(3, 12)
    story.tell(f"{who} works {hours} hours a day for {days} days.", f"For {days} days {who} works {hours} hours a day.")
    now = story.compute(hours, "*", days, f"{who} works {{}} hours.")
    story.ask = f"How many hours does {who} work?"
    if steps == 1:
        return
    story.tell(f"{who} earns {wage} dollars an hour.", f"An hour pays {wage} dollars.")
    now = story.compute(now, "*", wage, f"{who} earns {{}} dollars.")
    story.ask = f"How many dollars does {who} earn?"
    for index in range(steps - 2):
        have = story.value(now)
        operator = rng.choice("+-") if have > 20 else "+"
        amount = rng.randint(2, min(40, have // 2) if operator == "-" else 40)
        if operator == "+":
            story.tell(f"{story.other} adds a gift of {amount} dollars.", f"{who} also finds {amount} dollars.")
        else:
            story.tell(f"{who} spends {amount} dollars on {(story.thing, story.thing2, story.thing3)[index]}.")
        now = story.compute(now, operator, amount, f"{who} has {{}} dollars.")
        story.ask = f"How many dollars does {who} have in the end?"


def _distractors(story: _Story, count: int) -> list[str]:
    """Sentences of different kinds about things that the story does not ask for."""
    rng = story.rng
    name = rng.choice((story.who, story.third))
    things = rng.sample([t for t in _THINGS if t not in (story.thing, story.thing2, story.thing3)], 2)
    kinds = (
        f"{name} has {rng.randint(2, 40)} {things[0]} {rng.choice(_PLACES)}.",
        f"There are {rng.randint(2, 40)} {things[1]} {rng.choice(_PLACES)}.",
        f"{name} is {rng.randint(5, 80)} years old.",
    )
    return rng.sample(kinds, count)


_SCHEMES: dict[str, tuple[int, int, Callable[[_Story, int], None]]] = {
    # name: (fewest steps, most steps, function)
    "owning": (1, 5, _owning),
    "packing": (1, 5, _packing),
    "buying": (1, 5, _buying),
    "comparing": (1, 5, _comparing),
    "earning": (1, 5, _earning),
}

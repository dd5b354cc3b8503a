"""A world that a small model cannot carry in its head: long arithmetic, and facts that only a search can find.

Level 1 asks for a product modulo a number or for a greatest common divisor, of operands with 4 to 6 digits, which an
interpreter holds as variables (`variables`), because tiny models hardly learn to copy digits. Level 2 asks for a fact
about the answer to another fact, about people who are invented and whose 2,000 facts stand in passages. Levels 3 and 4
are the same out of reach of training: operands of 7 and 8 digits, three facts in a row.

A programmatic teacher solves them in two ways: a plan and then steps in words (`solve`), or one turn at a time with
Python and a search (`act`), where it finds out only what its own actions show.
"""

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from math import gcd
from random import Random

from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.facts import World, build_world
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Message, Problem

LAYOUTS = ("equations", "reading", "episode")
"""``equations``: a plan, an empty line, the steps. ``reading``: the same after passages that hold what is needed.
``episode``: the turns of an agent as one text."""
_LAST = ("mentor", "friend", "town", "job")
_NAMES = {"mentor": "mentor", "friend": "best friend", "town": "home town", "job": "job"}
_STATEMENT = "The {} of {} is {}."
CODE_OPEN, CODE_CLOSE = "<code>", "</code>"


@register(
    "tool-world",
    summary="long arithmetic (level 1), two-hop questions about 2,000 facts (2); far=true: larger, three hops (3, 4)",
    world="tool-world",
    levels=(1, 2, 3, 4),
)
def tool_world(far: bool = False, entities: int = 400, world_seed: int = 0) -> Task:
    """Questions for an agent with an interpreter and a search over five facts about each of `entities` people.

    Args:
        far: levels 3 and 4 instead of 1 and 2.

    Raises:
        UserError: entities are out of range.
    """
    levels = (3, 4) if far else (1, 2)

    def make(rng: Random, level: int) -> Problem:
        if level in (1, 3):
            return _sum(rng, level)
        return _chain(_world(entities, world_seed), rng, level)

    return Task(
        name="tool-world",
        summary="long arithmetic and chains of facts",
        problems=procedural(f"tool-world-{entities}-{world_seed}", make, levels),
        verify=verify_exact,
        solve=partial(solve, entities, world_seed),
        levels=levels,
        world=f"tool-world-{entities}-{world_seed}",
    )


@lru_cache(maxsize=8)
def _world(entities: int, seed: int) -> World:
    return build_world(entities, seed, syllables=2)


def passages(entities: int = 400, world_seed: int = 0) -> list[str]:
    """Every fact of the world as a sentence of its own: five for each person."""
    world = _world(entities, world_seed)
    found = [_STATEMENT.format(_NAMES[hop], who, what) for hop in _LAST for who, what in world.facts[hop].items()]
    return found + [f"The person who lives in {town} is {who}." for town, who in world.facts["resident"].items()]


def _sum(rng: Random, level: int) -> Problem:
    digits = (4, 6) if level == 1 else (7, 8)
    if rng.random() < 0.5:
        left, right, modulus = _number(rng, digits), _number(rng, digits), rng.randrange(11, 100)
        text, answer = f"What is {left}*{right} mod {modulus}?", left * right % modulus
        meta = {"kind": "mod", "numbers": [left, right, modulus]}
    else:
        answer = rng.randrange(11, 100)
        while True:
            left, right = (_number(rng, digits) // answer * answer for _ in range(2))
            if left != right and gcd(left, right) == answer and min(left, right) >= 10 ** (digits[0] - 1):
                break
        text, meta = f"What is gcd({left}, {right})?", {"kind": "gcd", "numbers": [left, right]}
    return Problem(id="", task="tool-world", messages=question(text), reference=str(answer), level=level, meta=meta)


def _number(rng: Random, digits: tuple[int, int]) -> int:
    length = rng.randint(*digits)
    return rng.randrange(10 ** (length - 1), 10**length)


def _chain(world: World, rng: Random, level: int) -> Problem:
    hops = [*(rng.choice(("mentor", "friend")) for _ in range(level // 2)), rng.choice(_LAST)]
    subject = answer = rng.choice(world.people)
    asked = subject
    for hop in hops:
        asked, answer = f"the {_NAMES[hop]} of {asked}", world.facts[hop][answer]
    asked = f"{'Who' if hops[-1] in ('mentor', 'friend') else 'What'} is {asked}?"
    return Problem(
        id="",
        task="tool-world",
        messages=question(asked),
        reference=answer,
        level=level,
        meta={"kind": "chain", "subject": subject, "hops": list(hops)},
    )


def variables(problem: Problem) -> str:
    """Code that gives an interpreter the numbers of a question as a, b and c; nothing for questions about facts."""
    numbers = _numbers(problem) if problem.meta["kind"] != "chain" else []
    return "\n".join(f"{name} = {number}" for name, number in zip("abc", numbers, strict=False))


def plan(problem: Problem) -> str:
    """What is to be done, in a sentence: the first thought of an answer in words."""
    kind = problem.meta["kind"]
    if kind == "mod":
        return "First multiply, then take the remainder."
    if kind == "gcd":
        return "Divide until nothing remains."
    steps = [_NAMES[hop] for hop in _hops(problem)]
    return f"First find the {steps[0]} of {problem.meta['subject']}, then the {', then the '.join(steps[1:])}."


def solve(entities: int, world_seed: int, problem: Problem, style: Style, rng: Random) -> Solution:
    """The plan and then one line per step, or an agent's turns as plain text; an injected error misstates a result."""
    writer = StepWriter("tool-world", LAYOUTS, style, rng)
    if style.layout == "episode":
        text, turns = "", list[Message]()
        while (said := act(problem, [*problem.messages, *turns], "", rng, careless=0.0)) and len(turns) < 12:
            seen = _observed(entities, world_seed, problem, said, rng)
            turns += [Message(role="assistant", content=said), Message(role="user", content=f"Observation: {seen}")]
            text += said + (f"\nObservation: {seen}\n" if seen else "\n")
            if not seen:
                break
        writer.step(text.strip(), (), sound=True, injected=False)
        return writer.solution(problem.reference or "")
    if style.layout == "reading" and problem.meta["kind"] == "chain":
        writer.step(" ".join(_reading(entities, world_seed, problem, rng)), (), sound=True, injected=False)
    writer.step(plan(problem) + "\n", (), sound=True, injected=False)
    sound = True
    lines = _lines(entities, world_seed, problem)
    for number, (line, result) in enumerate(lines):
        injected = writer.slips()
        sound = sound and not injected
        wrong = f"{int(result) + 1}" if result.isdigit() else rng.choice(_world(entities, world_seed).people)
        shown = line if not injected else line.replace(result, wrong) if number + 1 == len(lines) else line
        writer.step(shown, (f"So {result}.",), sound=sound, injected=injected)
        answer = wrong if injected and number + 1 == len(lines) else result
    return writer.solution(answer)


def _lines(entities: int, world_seed: int, problem: Problem) -> list[tuple[str, str]]:
    """Each step with its result."""
    kind, lines = problem.meta["kind"], list[tuple[str, str]]()
    if kind == "mod":
        left, right, modulus = _numbers(problem)
        product, rest = left * right, left * right % modulus
        return [(f"{left}*{right}={product}", str(product)), (f"{product} mod {modulus}={rest}", str(rest))]
    if kind == "gcd":
        left, right = _numbers(problem)
        while right:
            lines.append((f"{left} mod {right}={left % right}", str(left % right)))
            left, right = right, left % right
        return [*lines, (f"gcd={left}", str(left))]
    world, current = _world(entities, world_seed), str(problem.meta["subject"])
    for hop in _hops(problem):
        found = world.facts[hop][current]
        lines.append((_STATEMENT.format(_NAMES[hop], current, found), found))
        current = found
    return lines


def act(problem: Problem, messages: Sequence[Message], prefix: str, rng: Random, *, careless: float = 0.5) -> str:
    """The teacher's next turn, from what its earlier actions showed; `prefix` is continued, not repeated.

    Args:
        messages: the question, then turns and observations.
        careless: without a first thought to go on from, how often it acts at once on a question that it has not taken
            apart; half of those times it then takes the first passage for the answer.
    """
    asked = problem.messages[-1].content
    at = max(i for i, message in enumerate(messages) if message.content.endswith(asked))
    turns = [message.content for message in messages[at + 1 :] if message.role == "assistant"]
    seen = " ".join(message.content for message in messages[at + 1 :] if message.role != "assistant")
    thought, code = _next(problem, asked, turns, seen, rng, careless if not prefix and not turns else 0.0)
    if prefix:
        return f"\n{CODE_OPEN}\n{code}\n{CODE_CLOSE}"
    return f"Thought: {thought}\n{CODE_OPEN}\n{code}\n{CODE_CLOSE}"


def _next(problem: Problem, asked: str, turns: list[str], seen: str, rng: Random, careless: float) -> tuple[str, str]:
    hasty = rng.random() < careless
    if problem.meta["kind"] == "gcd":
        if hasty:
            return "Use code.", "print(gcd(a, b))"  # never imported: an error to recover from
        return plan(problem), "import math; final_answer(math.gcd(a, b))"
    if problem.meta["kind"] == "mod":
        if hasty:
            return "Use code.", "print(x % c)"  # never set
        if any("x = a*b" in turn for turn in turns):
            return "Now take the remainder.", "final_answer(x % c)"
        return plan(problem), "x = a*b; print(x)"
    whole = f'print(search("{asked}"))'
    if hasty:
        return "Look it up.", whole
    if turns and whole in turns[-1] and rng.random() < 0.5 and (first := _objects(seen)):
        return "The first passage says it.", f'final_answer("{first[0]}")'
    current = str(problem.meta["subject"])
    for number, hop in enumerate(_hops(problem)):
        found = re.search(re.escape(f"The {_NAMES[hop]} of {current} is ") + r"(\w+)\.", seen)
        if found is None:
            query = f"{_NAMES[hop]} of {current}"
            if any(f'"{query}"' in turn for turn in turns):
                return "It is not there.", 'final_answer("unknown")'
            thought = plan(problem) if not number and not turns else f"Find the {query}."
            return thought, f'print(search("{query}"))'
        current = found[1]
    return f"The answer is {current}.", f'final_answer("{current}")'


def _objects(seen: str) -> list[str]:
    return re.findall(r" is (\w+)\.", seen)


def _observed(entities: int, world_seed: int, problem: Problem, said: str, rng: Random) -> str:
    """What a careful turn would show, for texts to read; empty when it ends the episode."""
    if "final_answer" in said:
        return ""
    if problem.meta["kind"] == "mod":
        left, right, _ = _numbers(problem)
        return str(left * right)
    found = re.search(r'search\("([\w ]+) of (\w+)"\)', said)
    if found is None:
        return ""
    hop = next(key for key, name in _NAMES.items() if name == found[1])
    return " ".join(_around(entities, world_seed, hop, found[2], rng))


def _around(entities: int, world_seed: int, hop: str, who: str, rng: Random) -> list[str]:
    """The passage that says it and one that sounds like it, in either order."""
    world = _world(entities, world_seed)
    other, another = rng.choice(_LAST), rng.choice(world.people)
    near = (
        _STATEMENT.format(_NAMES[other], who, world.facts[other][who]),
        _STATEMENT.format(_NAMES[hop], another, world.facts[hop][another]),
    )
    both = [_STATEMENT.format(_NAMES[hop], who, world.facts[hop][who]), rng.choice(near)]
    rng.shuffle(both)
    return both


def _reading(entities: int, world_seed: int, problem: Problem, rng: Random) -> list[str]:
    found, current = list[str](), str(problem.meta["subject"])
    for hop in _hops(problem):
        found += _around(entities, world_seed, hop, current, rng)
        current = _world(entities, world_seed).facts[hop][current]
    rng.shuffle(found)
    return found[: 2 * len(_hops(problem))]


def _numbers(problem: Problem) -> list[int]:
    return problem.meta["numbers"]  # type: ignore[return-value]


def _hops(problem: Problem) -> list[str]:
    return problem.meta["hops"]  # type: ignore[return-value]

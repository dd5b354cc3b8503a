"""Deduction from facts and rules, with proofs, in an open or a closed world.

Facts say of somebody that they are something; rules say that whoever is one or two things is, or is not, a third. The
rules are Horn clauses, so that a bounded search decides everything exactly:

- *open world*: a statement is true when it follows, false when its denial follows, unknown otherwise. A denial is shown
  by supposing the statement and reaching what a rule forbids, which also covers reasoning backwards through rules;
- *closed world*: rules have no denials, and what does not follow is false.

The level is how deep the shortest proof is: rules one after the other, 0 for a stated fact. For what does not follow it
is the depth of the chain of which one fact is missing. Every answer is equally frequent at every level, but a denial
takes a rule, so that nothing is false at level 0 of the open world.

After RuleTaker (Clark et al. 2020, https://arxiv.org/abs/2002.05867) and ProofWriter (https://arxiv.org/abs/2012.13048).
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem

LAYOUTS = ("equations", "sentences")
LEVELS = (0, 1, 2, 3, 4)
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
TRAITS = (
    *("big", "blue", "calm", "cold", "fair", "fast", "glad", "kind", "loud", "neat", "odd", "poor", "proud", "quiet"),
    *("rich", "rough", "sad", "shy", "slow", "tall", "thin", "warm", "weak", "wise", "young"),
)


class Rule(NamedTuple):
    """Whoever is all of `body` is `head`; or is not, where `denies`."""

    body: tuple[str, ...]
    head: str
    denies: bool = False


class Step(NamedTuple):
    """One inference about one person: from `body`, by a rule, `head`; a denied head ends a supposition."""

    body: tuple[str, ...]
    head: str
    denies: bool = False


class Proof(NamedTuple):
    """How an answer is shown; None of an answer that nothing can be shown for."""

    depth: int
    facts: tuple[str, ...]
    """Stated traits that it uses."""
    steps: tuple[Step, ...]


@register(
    "deduction",
    summary="facts and rules: does it follow? open world with unknown, or closed=true; level = depth of the proof",
    world="logic",
    levels=LEVELS,
)
def deduction(low: int = 0, high: int = 3, closed: bool = False, distractors: int = 3) -> Task:
    """Deduction over a few people.

    Args:
        low, high: depth of proofs.
        closed: what does not follow is false, instead of unknown.
        distractors: rules and facts that do not matter, of each kind.

    Raises:
        UserError: levels or distractors out of range.
    """
    if not 0 <= low <= high <= max(LEVELS):
        raise UserError(f"levels {low} to {high} make no sense; give 0 <= low <= high <= {max(LEVELS)}")
    if not 0 <= distractors <= 6:
        raise UserError(f"distractors={distractors} is out of range; give 0 to 6")
    levels = tuple(range(low, high + 1))
    return Task(
        name="deduction",
        summary="facts and rules: does it follow?",
        problems=procedural(f"deduction-{closed}-{distractors}", partial(_make, closed, distractors), levels),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="logic",
        corrupt=_other,
    )


# -- what follows ----------------------------------------------------------------------------------------------------


def closure(facts: Iterable[str], rules: Sequence[Rule]) -> tuple[dict[str, tuple[int, Rule | None]], Rule | None]:
    """Forward chaining, breadth first: trait → its depth and the rule that gave it, and a rule that is broken.

    A broken rule denies what follows: then facts and rules cannot all be true.
    """
    found: dict[str, tuple[int, Rule | None]] = {fact: (0, None) for fact in facts}
    depth = 0
    while True:
        depth += 1
        new = {
            rule.head: (depth, rule)
            for rule in rules
            if not rule.denies and rule.head not in found and all(trait in found for trait in rule.body)
        }
        if not new:
            break
        found |= new
    broken = [rule for rule in rules if rule.denies and all(trait in found for trait in (*rule.body, rule.head))]
    return found, min(broken, key=lambda rule: max(found[trait][0] for trait in (*rule.body, rule.head)), default=None)


def decide(facts: Sequence[str], rules: Sequence[Rule], trait: str, closed: bool) -> tuple[str, Proof | None]:
    """Whether one person with these traits has another: ``true``, ``false`` or ``unknown``, and why.

    Facts and rules must be free of contradiction; see `closure`.
    """
    found, _ = closure(facts, rules)
    if trait in found:
        return "true", _proof(found, [trait], None)
    if closed:
        return "false", None
    supposed, broken = closure((*facts, trait), rules)
    if broken is None:
        return "unknown", None
    return "false", _proof(supposed, [*broken.body, broken.head], broken)


def _proof(found: dict[str, tuple[int, Rule | None]], goals: Sequence[str], broken: Rule | None) -> Proof:
    """What the goals rest on, each thing once, what is needed first."""
    steps, facts, seen = list[Step](), list[str](), set[str]()

    def need(trait: str) -> None:
        if trait in seen:
            return
        seen.add(trait)
        _, rule = found[trait]
        if rule is None:
            facts.append(trait)
            return
        for part in rule.body:
            need(part)
        steps.append(Step(rule.body, rule.head))

    for goal in goals:
        need(goal)
    depth = max(found[goal][0] for goal in goals) + (broken is not None)
    if broken is not None:
        steps.append(Step(broken.body, broken.head, True))
    return Proof(depth, tuple(facts), tuple(steps))


# -- problems --------------------------------------------------------------------------------------------------------


def _make(closed: bool, distractors: int, rng: Random, level: int) -> Problem:
    wanted = rng.choice(("true", "false") if closed else ("true", "false", "unknown"))
    if not closed and level == 0 and wanted == "false":
        wanted = rng.choice(("true", "unknown"))  # a denial takes a rule
    while True:
        problem = _drawn(closed, distractors, rng, level, wanted)
        if problem is not None:
            return problem


def _drawn(closed: bool, distractors: int, rng: Random, level: int, wanted: str) -> Problem | None:
    traits = list(rng.sample(TRAITS, len(TRAITS)))
    who, other = rng.sample(NAMES, 2)
    chain, start = _chain(traits, rng, level, denied=wanted == "false" and not closed)
    asked = chain[-1].head if chain else start[0]
    holds = list(start)
    if wanted == "unknown" or (wanted == "false" and closed):
        holds.remove(rng.choice(start))
    spare = traits[:4]
    rules = list(chain)
    heads = [*spare, asked, *(rule.head for rule in chain)]
    for _ in range(distractors):
        body = tuple(rng.sample([*traits[4:10], *spare], rng.randint(1, 2)))
        head = rng.choice([trait for trait in heads if trait not in body])
        rules.append(Rule(body, head, not closed and rng.random() < 0.3))
    facts = {who: holds, other: list(rng.sample([*start, *traits[4:8]], min(2, len(start) + 1)))}
    facts[who] += [trait for trait in rng.sample([*spare, *traits[4:10]], distractors // 2) if trait not in holds]
    if any(closure(known, rules)[1] for known in facts.values()):
        return None
    answer, proof = decide(facts[who], rules, asked, closed)
    if answer != wanted or (proof is not None and proof.depth != level):
        return None
    rng.shuffle(rules)
    said = [(name, trait) for name, known in facts.items() for trait in known]
    rng.shuffle(said)
    return _problem(who, asked, said, rules, level, answer, closed)


def _chain(traits: list[str], rng: Random, level: int, denied: bool) -> tuple[list[Rule], list[str]]:
    """Rules one on the other, and the traits that they need; takes names from `traits`.

    Where the end is denied, what is asked is the head of a rule that forbids it.
    """
    start = [traits.pop()]
    rules, last = list[Rule](), start[0]
    for step in range(level):
        body: tuple[str, ...] = (last,)
        if rng.random() < 0.5:
            start.append(traits.pop())
            body = (last, start[-1]) if rng.random() < 0.5 else (start[-1], last)
        head = traits.pop()
        rules.append(Rule(body, head, denied and step == level - 1))
        last = head
    return rules, start


def _problem(
    who: str, asked: str, said: list[tuple[str, str]], rules: list[Rule], level: int, answer: str, closed: bool
) -> Problem:
    facts = " ".join(f"{name} is {trait}." for name, trait in said)
    text = " ".join(_rule_text(rule) for rule in rules)
    rest = "What does not follow is false." if closed else "What cannot be shown is unknown."
    choices = "True or false" if closed else "True, false or unknown"
    return Problem(
        id="",
        task="deduction",
        messages=question(f"{facts} {text} {rest}\n{choices}: {who} is {asked}."),
        reference=answer,
        level=level,
        meta={
            "who": who,
            "asked": asked,
            "facts": [list(fact) for fact in said],
            "rules": [[list(rule.body), rule.head, rule.denies] for rule in rules],
            "closed": closed,
        },
    )


def _rule_text(rule: Rule) -> str:
    return f"Whoever is {' and '.join(rule.body)} is {'not ' if rule.denies else ''}{rule.head}."


def theory(problem: Problem) -> tuple[list[str], list[Rule]]:
    """The stated traits of whom a problem asks about, and its rules."""
    said: list[tuple[str, str]] = problem.meta["facts"]  # type: ignore[assignment]
    written: list[tuple[list[str], str, bool]] = problem.meta["rules"]  # type: ignore[assignment]
    facts = [trait for name, trait in said if name == problem.meta["who"]]
    rules = [Rule(tuple(body), head, denies) for body, head, denies in written]
    return facts, rules


def _other(problem: Problem) -> str:
    kinds = ("true", "false") if problem.meta["closed"] else ("true", "false", "unknown")
    return kinds[(kinds.index(problem.reference or "") + 1) % len(kinds)]


# -- proofs ----------------------------------------------------------------------------------------------------------

_LINE = re.compile(r"(\w+(?: \w+)?) -> (not )?(\w+)")


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """The shortest proof: used facts, then one line an inference; a denial begins with what is supposed.

    Where nothing can be shown, it writes down all that follows, level by level, and that the statement is not there.
    A wrong step concludes another trait; what needed the right one then rests on the wrong step.
    """
    writer = StepWriter("deduction", LAYOUTS, style, rng)
    facts, rules = theory(problem)
    who, asked, closed = str(problem.meta["who"]), str(problem.meta["asked"]), bool(problem.meta["closed"])
    answer, proof = decide(facts, rules, asked, closed)
    plain = style.layout == LAYOUTS[0]
    if proof is None:
        found, _ = closure(facts, rules)
        known = _proof(found, list(found), None)
    else:
        known = proof
    supposed = answer == "false" and proof is not None
    sound, answered = True, answer
    stated = [fact for fact in known.facts if not (supposed and fact == asked)]
    if supposed:
        writer.step(
            f"suppose {asked}" if plain else f"Suppose {who} is {asked}.", ("is that so?",), sound=True, injected=False
        )
    listed = ", ".join(stated) or "nothing"
    writer.step(f"{who}: {listed}" if plain else f"{who} is {listed}.", ("as stated",), sound=True, injected=False)
    for step in known.steps:
        head, injected = step.head, writer.slips()
        if injected:
            head, sound = rng.choice([trait for trait in TRAITS if trait not in (step.head, asked)]), False
            answered = "false" if closed else "unknown"  # the chain is cut: nothing is shown any more
        no = "not " if step.denies else ""
        body = " ".join(step.body) if plain else " and ".join(step.body)
        line = f"{body} -> {no}{head}" if plain else f"Whoever is {body} is {no}{head}."
        writer.step(line, (f"so {no}{head}", f"{who} is {no}{head}"), sound=sound, injected=injected)
    if proof is None:
        end = f"no {asked}" if plain else f"Nothing shows that {who} is {asked}."
        writer.step(end, ("that is all",), sound=sound, injected=False)
    return writer.solution(answered)


def proof_faults(problem: Problem, thought: str) -> list[str]:
    """What is wrong with a proof in the layout ``equations``; nothing for one that shows what the reference says.

    Every line ``a b -> c`` must be a rule of the problem whose body was stated, supposed or concluded before; lines of
    other forms are taken as remarks, but for ``suppose X``. Where something can be shown, the last inference must show
    it.
    """
    facts, rules = theory(problem)
    known, faults, last = set(facts), list[str](), None
    for line in thought.splitlines():
        if line.startswith("suppose "):
            if line.removeprefix("suppose ") != problem.meta["asked"]:
                faults.append(f"supposes something else: {line!r}")
            known.add(line.removeprefix("suppose "))
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        last = Rule(tuple(match[1].split()), match[3], bool(match[2]))
        if last not in rules:
            faults.append(f"no such rule: {line!r}")
        elif not set(last.body) <= known:
            faults.append(f"rests on what is not known: {line!r}")
        elif not last.denies:
            known.add(last.head)
    answer, proof = decide(facts, rules, str(problem.meta["asked"]), bool(problem.meta["closed"]))
    if proof is not None and proof.steps and not faults:
        shown = last is not None and (
            last.denies and last.head in known if answer == "false" else problem.meta["asked"] in known
        )
        if not shown:
            faults.append("does not show what was asked")
    return faults

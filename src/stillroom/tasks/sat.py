"""Satisfiability in natural language: can all these sentences be true at once?

Random clauses are said as English rules (`sat_words`) and labelled by a complete solver (`sat_solver`). Random rules
are mostly easy; the ``hard`` sampler draws them where half can be satisfied, with both answers equally often for every
number of variables and of clauses. That ratio depends on size: 20 clauses for 3 variables, 59 for 12. The ``naive``
sampler takes 5 to 20 clauses as they come, most of them satisfiable. A formula belongs to one split, whatever the order
of its clauses.

Richardson and Sabharwal, "Pushing the Limits of Rule Reasoning in Transformers through Natural Language Satisfiability"
(AAAI 2022, https://arxiv.org/abs/2112.09054), sections 3 and 4.
"""

from collections.abc import Sequence
from functools import partial
from random import Random

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.base import Solution, Style, Task, procedural, question, split_by_content
from stillroom.tasks.exact import verify_exact
from stillroom.tasks.registry import register
from stillroom.tasks.sat_solver import Clause, Formula, Solved, alpha, canonical, variables_of
from stillroom.tasks.sat_solver import solve as search
from stillroom.tasks.sat_words import INDIVIDUAL, LANGUAGES, names, said, write
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split

LAYOUTS = ("equations", "sentences")
SAMPLERS = ("hard", "naive", "mixed")
HARD = {3: 20, 4: 24, 5: 28, 6: 33, 7: 37, 8: 41, 9: 46, 10: 50, 11: 55, 12: 59}
"""Variables → clauses of three at which half of all formulas can be satisfied; measured with our solver."""
HARD_PAIRS = {3: 10, 4: 11, 5: 13, 6: 15, 7: 16, 8: 18, 9: 19, 10: 21, 11: 23, 12: 25}
"""The same for clauses of two."""
_BAND = 0.15
"""How far from that number of clauses the hard sampler goes."""
_NAIVE = (5, 20)
_ASK = "Can all of this be true at once?"


@register(
    "sat",
    summary="satisfiability in natural language at the hard ratio; level = variables",
    world="logic",
    levels=tuple(HARD),
)
def sat(
    low: int = 3, high: int = 4, sampler: str = "hard", language: str = "rules", p: float = 1.0, entailed: bool = False
) -> Task:
    """Satisfiability of rule sets with `low` to `high` variables, answered yes or no.

    Args:
        sampler: ``hard``, ``naive``, or ``mixed`` of both.
        language: ``rules``, ``people`` or ``relative``; see `sat_words`.
        p: share of clauses with three literals, the rest has two (the 2+p sampler); 0 is 2-SAT, which training may
            start from.
        entailed: ask instead whether a statement follows from a rule set that can be true: true, false or unknown.

    Raises:
        UserError: sizes, a sampler, a language or a share that are not there.
    """
    if not min(HARD) <= low <= high <= max(HARD):
        raise UserError(f"levels {low} to {high} make no sense; give {min(HARD)} <= low <= high <= {max(HARD)}")
    if sampler not in SAMPLERS:
        raise unknown_name("sampler of sat", sampler, SAMPLERS)
    if language not in LANGUAGES:
        raise unknown_name("language of sat", language, LANGUAGES)
    if not 0 <= p <= 1:
        raise UserError(f"p={p} is no share; give 0 to 1")
    levels = tuple(range(low, high + 1))
    make = partial(_make, sampler, language, p, entailed)
    return Task(
        name="sat",
        summary=f"satisfiability in natural language, {sampler} rule sets",
        problems=procedural(f"sat-{sampler}-{language}-{p}-{entailed}", make, levels, _split),
        verify=verify_exact,
        solve=solve,
        levels=levels,
        world="logic",
        corrupt=_other,
    )


def _make(sampler: str, language: str, p: float, entailed: bool, rng: Random, level: int) -> Problem:
    if sampler == "mixed":
        sampler = rng.choice(("hard", "naive"))
    asked = None
    if entailed:
        formula, asked, answer = _entailment(sampler, p, rng, level)
    else:
        formula, answer = _formula(sampler, p, rng, level)
    called = names(language, level, rng)
    text = " ".join(write(language, clause, called, rng) for clause in formula)
    ask = _ASK if asked is None else f"Does it follow that {_statement(language, asked, called)}?"
    found = search(formula)
    return Problem(
        id="",
        task="sat",
        messages=question(f"{text}\n{ask}"),
        reference=answer,
        level=level,
        meta={
            "language": language,
            "clauses": [list(clause) for clause in formula],
            "called": list(called),
            "asked": asked,
            "alpha": alpha(formula),
            "decisions": found.decisions,
            "conflicts": found.conflicts,
            "propagations": found.propagations,
        },
    )


def _formula(sampler: str, p: float, rng: Random, variables: int) -> tuple[Formula, str]:
    """A formula in which every variable occurs, and yes or no."""
    if sampler == "naive":
        while True:
            formula = random_formula(variables, rng.randint(*_NAIVE), p, rng)
            if len(variables_of(formula)) == variables:
                return formula, _yes_no(formula)
    wanted, count = rng.choice(("yes", "no")), _hard_count(variables, p, rng)
    while True:
        formula = random_formula(variables, count, p, rng)
        if len(variables_of(formula)) == variables and _yes_no(formula) == wanted:
            return formula, wanted


def _yes_no(formula: Formula) -> str:
    return "no" if search(formula).model is None else "yes"


def _hard_count(variables: int, p: float, rng: Random) -> int:
    middle = p * HARD[variables] + (1 - p) * HARD_PAIRS[variables]
    return round(middle * rng.uniform(1 - _BAND, 1 + _BAND))


def random_formula(variables: int, count: int, p: float, rng: Random) -> Formula:
    """The fixed-clause-length sampler: `count` clauses, each over different variables with fair signs.

    Args:
        p: probability that a clause has three literals instead of two.
    """
    return tuple(_clause(variables, 3 if rng.random() < p else 2, rng) for _ in range(count))


def _clause(variables: int, size: int, rng: Random) -> Clause:
    return tuple(v if rng.random() < 0.5 else -v for v in rng.sample(range(1, variables + 1), size))


def _entailment(sampler: str, p: float, rng: Random, variables: int) -> tuple[Formula, int, str]:
    """A formula that can be true, a literal, and whether it follows; each answer equally often."""
    wanted = rng.choice(("true", "false", "unknown"))
    while True:
        count = rng.randint(*_NAIVE) if sampler == "naive" else _hard_count(variables, p, rng)
        formula = random_formula(variables, count, p, rng)
        if len(variables_of(formula)) < variables or search(formula).model is None:
            continue
        literals = [sign * variable for variable in range(1, variables + 1) for sign in (1, -1)]
        fitting = [literal for literal in literals if follows(formula, literal) == wanted]
        if fitting:
            return formula, rng.choice(fitting), wanted


def follows(formula: Formula, literal: int) -> str:
    """Whether a literal follows from a formula that can be true: true, false (its negation does) or unknown."""
    if search((*formula, (-literal,))).model is None:
        return "true"
    return "false" if search((*formula, (literal,))).model is None else "unknown"


def _statement(language: str, literal: int, called: Sequence[str]) -> str:
    begin = {"rules": "there is ", "people": "", "relative": f"{INDIVIDUAL} is "}[language]
    return begin + said(language, literal, called)


def _split(problem: Problem) -> Split:
    """By the formula and its names, whatever the order of clauses and the wording."""
    clauses: list[list[int]] = problem.meta["clauses"]  # type: ignore[assignment]
    called: list[str] = problem.meta["called"]  # type: ignore[assignment]
    order = sorted(range(len(called)), key=lambda at: called[at])
    number = {at + 1: place + 1 for place, at in enumerate(order)}
    formula = canonical([tuple(number[abs(x)] * (1 if x > 0 else -1) for x in clause) for clause in clauses])
    return split_by_content("sat", *sorted(called), str(formula))


def _other(problem: Problem) -> str:
    kinds = ("yes", "no") if problem.reference in ("yes", "no") else ("true", "false", "unknown")
    return kinds[(kinds.index(problem.reference or "") + 1) % len(kinds)]


# -- solver ----------------------------------------------------------------------------------------------------------


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """The search, one line an event: what is tried, what a sentence forces, what fails, what is tried instead.

    A wrong step misreads the sign of what a sentence forces, and the search goes on with what was read.
    """
    writer = StepWriter("sat", LAYOUTS, style, rng)
    formula: Formula = tuple(tuple(clause) for clause in problem.meta["clauses"])  # type: ignore[union-attr,arg-type]
    called: list[str] = problem.meta["called"]  # type: ignore[assignment]
    say = partial(said, str(problem.meta["language"]), called=called)
    asked = problem.meta["asked"]
    if asked is None:
        found = search(formula, writer.slips)
        _tell(writer, style, found, say, True)
        return writer.solution("no" if found.model is None else "yes")
    sound = True
    for literal, answer in ((-int(str(asked)), "true"), (int(str(asked)), "false")):
        suppose = f"Suppose {say(literal)}." if style.layout == "sentences" else f"suppose {say(literal)}"
        writer.step(suppose, ("is that possible?",), sound=sound, injected=False)
        found = search((*formula, (literal,)), writer.slips)
        sound = _tell(writer, style, found, say, sound)
        if found.model is None:
            return writer.solution(answer)
    return writer.solution("unknown")


def _tell(writer: StepWriter, style: Style, found: Solved, say: "partial[str]", sound: bool) -> bool:
    """Write a search; whether all of it, and what came before, is sound."""
    for event in found.events:
        sound = sound and not event.injected
        name, number = say(event.literal) if event.literal else "", event.clause + 1
        plain = {
            "try": f"try {name}",
            "back": f"back: {name}",
            "unit": f"{number}: {name}",
            "conflict": f"{number} fails",
        }
        spoken = {
            "try": f"Suppose {name}.",
            "back": f"Then {name} instead.",
            "unit": f"Sentence {number} demands that {name}.",
            "conflict": f"But sentence {number} fails.",
        }
        line = (plain if style.layout == "equations" else spoken)[event.kind]
        writer.step(line, (spoken[event.kind], "so far"), sound=sound, injected=event.injected)
    if found.model is None:
        end = ("nothing is left", "Nothing is left to try.")
    else:
        end = ("all hold", "All sentences hold.")
    writer.step(end[style.layout == "sentences"], ("that is all",), sound=sound, injected=False)
    return sound

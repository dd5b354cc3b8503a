"""Procedural stand-ins for LogiGLUE's deductive sets. Every label is decided before its record is drawn, so that labels
are balanced at every depth, and follows from the text by construction that the tests repeat with a solver.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, permutations
from random import Random
from typing import NamedTuple

from stillroom.tasks.logic_family import HELD_NAMES, TRAIN_NAMES, Family, Reason, Record

THREE = ("true", "false", "unknown")
TWO = ("true", "false")
NLI = ("entailment", "contradiction", "neutral")


class Surface(NamedTuple):
    """How a family says things, so that twins share a skeleton and no sentence."""

    who: tuple[str, ...]
    what: tuple[str, ...]
    fact: str
    rule: str
    ask: str


_CHAIN = Surface(
    tuple(f"the {animal}" for animal in ("cat", "dog", "mouse", "bear", "lion", "rabbit")),
    ("rough", "round", "green", "kind", "cold", "young", "nice", "quiet", "blue", "big"),
    "{who} is {no}{what}.",
    "If something is {a} then it is {no}{b}.",
    "Is it true, false or unknown that {who} is {no}{what}?",
)
_NATLANG = Surface(
    HELD_NAMES,
    ("wealthy", "gentle", "clumsy", "punctual", "shrewd", "stubborn", "cheerful", "lonely", "polite", "bold"),
    "People describe {who} as {no}{what}.",
    "It is well known that {a} folk turn out {no}{b}.",
    "How does this sentence stand: {who} can be called {no}{what}?",
)


def _chain(surface: Surface, rng: Random, depth: int) -> Record:
    """A chain of rules; unknown when its first fact is told of somebody else."""
    label = rng.choice(THREE)
    who, other = rng.sample(surface.who, 2)
    *names, spare, far = rng.sample(surface.what, depth + 3)
    asked_no, start = rng.random() < 0.3, names[0]
    end_no = (label == "false") != asked_no  # whether the chain ends in a denial
    about = other if label == "unknown" else who
    facts = [surface.fact.format(who=about, what=start, no="not " if end_no and depth == 0 else "")]
    facts.append(surface.fact.format(who=who, what=spare, no=""))
    rules = [
        surface.rule.format(a=a, b=b, no="not " if end_no and at == depth - 1 else "")
        for at, (a, b) in enumerate(pairwise(names))
    ]
    rules.append(surface.rule.format(a=far, b=rng.choice(names), no=""))
    rng.shuffle(facts)
    rng.shuffle(rules)
    said = [f"{who} is {spare}"] if label == "unknown" else [f"{who} is {name}" for name in names]
    reasons = [Reason("{}", line) for line in said]
    asked = surface.ask.format(who=who, what=names[-1], no="not " if asked_no else "")
    return Record(_text([*facts, *rules]), asked, label, THREE, (*reasons, _so(label, THREE)))


def _text(sentences: Sequence[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _so(label: str, labels: Sequence[str]) -> Reason:
    return Reason("so it is {}", label, tuple(other for other in labels if other != label))


_CLASSES = (
    "doctors",
    "singers",
    "gamblers",
    "cyclists",
    "painters",
    "vegans",
    "dancers",
    "students",
    "bakers",
    "hikers",
)


def _folio(rng: Random, depth: int) -> Record:
    """Quantified classes; unknown by the converse of a rule, which does not follow."""
    label = rng.choice(THREE)
    name = rng.choice(TRAIN_NAMES)
    classes = rng.sample(_CLASSES, depth + 2)
    links = list(pairwise(classes))[:depth]
    premises = [f"All {a} are {b}." for a, b in links]
    asked, of = classes[depth], classes[0]
    if label == "false":
        premises[-1] = f"No {links[-1][0]} are {asked}."
    if label == "unknown":
        of, asked = asked, of
    premises.append(f"{name} is one of the {of}.")
    rng.shuffle(premises)
    walked = [Reason("{}", f"{name} is one of the {c}") for c in ([of] if label == "unknown" else classes[:depth])]
    asked_text = f"Does the conclusion hold that {name} is one of the {asked}?"
    return Record(_text(premises), asked_text, label, THREE, (*walked, _so(label, THREE)))


_BONDS = ("knows", "trusts", "helps", "visits", "calls", "follows", "admires", "hires")
_TIES = ("greets", "praises", "teaches", "paints", "rescues", "invites", "copies", "joins")


def _soft(union: bool, rng: Random, depth: int) -> Record:
    """Rules with a probability: a chain multiplies them, a union is one less the product of what they leave."""
    label = rng.choice(TWO)
    names = rng.sample(HELD_NAMES if union else TRAIN_NAMES, 2)
    bonds = rng.sample(_TIES if union else _BONDS, depth + 1)
    while True:
        shares = [rng.randint(1 if union else 2, 9) for _ in range(depth)]
        kept = 1.0
        for share in shares:
            kept *= (10 - share if union else share) / 10
        chance = 1 - kept if union else kept
        if abs(chance - 0.5) > 0.04 and (chance > 0.5) == (label == "true"):
            break
    a, b = names
    if union:
        facts = [f"{a} {bond} {b}, we are told." for bond in bonds[:-1]]
        rules = [
            f"One who {bond} a person also {bonds[-1]} them in {share} of 10 cases, whatever else happens."
            for bond, share in zip(bonds, shares, strict=False)
        ]
        asked = f"Is it likelier than not that {a} {bonds[-1]} {b}?"
    else:
        facts = [f"{a} {bonds[0]} {b}."]
        rules = [
            f"If one {one} another, then with chance 0.{share} one {two} the other."
            for one, two, share in zip(bonds, bonds[1:], shares, strict=False)
        ]
        asked = f"Is the chance that {a} {bonds[-1]} {b} more than one half?"
    rng.shuffle(rules)
    told = f"the chance is {chance:.4f}".rstrip("0")
    reasons = (Reason("{}", told), _so(label, TWO))
    return Record(_text([*facts, *rules]), asked, label, TWO, reasons)


_FOUR = ("entailment", "contradiction", "neutral", "self-contradiction")
_MOODS = ("careful", "jealous", "merry", "modest", "noisy", "patient", "proud", "serious", "sleepy", "zealous")


def _logicnli(rng: Random, depth: int) -> Record:
    """Whether a statement, its denial, neither or both follow."""
    label = rng.choice(_FOUR)
    name = rng.choice(TRAIN_NAMES)
    goal, *rest = rng.sample(_MOODS, 2 * depth + 3)
    ways = {"entailment": ("",), "contradiction": ("not ",), "neutral": (), "self-contradiction": ("", "not ")}[label]
    sentences, reasons = list[str](), list[Reason]()
    for no in ways:
        steps = [rest.pop() for _ in range(depth)]
        sentences.append(f"{name} seems {steps[0]}.")
        sentences += [f"Those who seem {a} seem {b}." for a, b in pairwise(steps)]
        sentences.append(f"Those who seem {steps[-1]} do {no}seem {goal}.")
        reasons += [Reason("{}", f"{name} seems {step}") for step in steps]
        reasons.append(Reason("{}", f"{name} does {no}seem {goal}"))
    if not ways:
        sentences += [f"{name} seems {rest.pop()}.", f"Those who seem {rest.pop()} do seem {goal}."]
        reasons.append(Reason("{}", f"nothing says whether {name} seems {goal}"))
    rng.shuffle(sentences)
    asked = f"What is the relation of this statement to the text: {name} seems {goal}?"
    return Record(_text(sentences), asked, label, _FOUR, (*reasons, _so(label, _FOUR)))


# -- quantities ------------------------------------------------------------------------------------------------------

Interval = tuple[int, int]
_MANY = 99
_COUNTS: dict[str, Callable[[int], Interval]] = {
    "At least {n}": lambda n: (n, _MANY),
    "At most {n}": lambda n: (0, n),
    "Exactly {n}": lambda n: (n, n),
}
_MORE: dict[str, Callable[[int], Interval]] = {
    "No fewer than {n}": lambda n: (n, _MANY),
    "More than {n}": lambda n: (n + 1, _MANY),
    "Fewer than {n}": lambda n: (0, n - 1),
    "No more than {n}": lambda n: (0, n),
}


def _quantities(held: bool, rng: Random, depth: int) -> Record:
    """Numbers of things: entailed when every number that the premise allows is allowed, contradicted when none is."""
    del depth
    label = rng.choice(NLI)
    kinds = _MORE if held else _COUNTS
    things = ("boats", "chairs", "letters", "tickets") if held else ("boys", "horses", "nurses", "guests", "clowns")
    done = ("were sold", "got lost", "came back") if held else ("are singing", "are asleep", "are outside", "are wet")
    thing, act = rng.choice(things), rng.choice(done)
    while True:
        (one, low), (two, high) = ((rng.choice(list(kinds)), rng.randint(2, 12)) for _ in range(2))
        premise, hypothesis = kinds[one](low), kinds[two](high)
        if (one, low) != (two, high) and related(premise, hypothesis) == label:
            break
    of = "of the " if held else ""
    left, right = (f"{text.format(n=n)} {of}{thing} {act}." for text, n in ((one, low), (two, high)))
    ask = "How does it bear on this" if held else "What is its relation to"
    spans = f"{premise[0]} to {premise[1]} against {hypothesis[0]} to {hypothesis[1]}"
    return Record(left, f"{ask}: {right}", label, NLI, (Reason("{}", spans), _so(label, NLI)))


def related(premise: Interval, hypothesis: Interval) -> str:
    """What a range of numbers says of another."""
    if hypothesis[0] <= premise[0] and premise[1] <= hypothesis[1]:
        return "entailment"
    return "contradiction" if premise[1] < hypothesis[0] or hypothesis[1] < premise[0] else "neutral"


_JOBS = ("doctor", "lawyer", "judge", "clerk", "actor", "banker", "waiter", "pilot", "tailor", "farmer")
_DEEDS = (("thanked", "thank"), ("called", "call"), ("followed", "follow"), ("warned", "warn"), ("helped", "help"))


def _adversarial(rng: Random, depth: int) -> Record:
    """Hypotheses of nearly the same words: passive, parts of a pair, roles exchanged, denials."""
    del depth
    a, b, c = rng.sample(_JOBS, 3)
    past, bare = rng.choice(_DEEDS)
    premise, made = rng.choice(
        [
            (
                f"The {a} {past} the {b}.",
                {
                    "entailment": f"The {b} was {past} by the {a}.",
                    "contradiction": f"The {a} did not {bare} the {b}.",
                    "neutral": f"The {b} {past} the {a}.",
                },
            ),
            (
                f"The {a} and the {b} {past} the {c}.",
                {
                    "entailment": f"The {b} {past} the {c}.",
                    "contradiction": f"The {b} did not {bare} the {c}.",
                    "neutral": f"The {a} {past} the {b}.",
                },
            ),
            (
                f"Only the {a} {past} the {c}, not the {b}.",
                {
                    "entailment": f"The {b} did not {bare} the {c}.",
                    "contradiction": f"The {b} {past} the {c}.",
                    "neutral": f"The {c} {past} the {b}.",
                },
            ),
        ]
    )
    label = rng.choice(NLI)
    reasons = (Reason("{}", "who does what to whom decides"), _so(label, NLI))
    return Record(premise, f"What follows for this sentence: {made[label]}", label, NLI, reasons)


# -- left out --------------------------------------------------------------------------------------------------------

_FEARS = ("wolves", "mice", "sheep", "cats")
_ONE = {"wolves": "wolf", "mice": "mouse", "sheep": "sheep", "cats": "cat"}


def _fears(rng: Random, depth: int) -> Record:
    del depth
    feared = dict(
        zip(_FEARS, rng.choice([p for p in permutations(_FEARS) if all(map(str.__ne__, p, _FEARS))]), strict=True)
    )
    people = dict(zip(rng.sample(HELD_NAMES, 4), rng.sample(_FEARS, 4), strict=True))
    sentences = [f"{animal} fear {other}." for animal, other in feared.items()]
    sentences += [f"{name} belongs to the {animal}." for name, animal in people.items()]
    rng.shuffle(sentences)
    name, animal = rng.choice(list(people.items()))
    others = tuple(other for other in _FEARS if other != feared[animal])
    reasons = (
        Reason("{}", f"{name} belongs to the {animal}"),
        Reason(f"{animal} fear {{}}", feared[animal], others),
    )
    return Record(_text(sentences), f"Whom does {name} fear?", feared[animal], (feared[animal], *others), reasons)


_GROUPS = ("sculptors", "rowers", "chemists", "monks", "tenors", "miners", "notaries", "jugglers")


def _arguments(rng: Random, depth: int) -> Record:
    """Which conclusion a syllogism allows: forwards from a member, backwards from a non-member."""
    del depth
    name = rng.choice(HELD_NAMES)
    a, b, c = rng.sample(_GROUPS, 3)
    forwards = rng.random() < 0.5
    premise = f"Nobody among the {a} is outside the {b}. Some of the {b} are {c}. "
    premise += f"{name} belongs with the {a}." if forwards else f"{name} stays outside the {b}."
    right = f"{name} is inside the {b}" if forwards else f"{name} is not among the {a}"
    wrong = (f"{name} is among the {c}", f"All of the {b} are {a}", f"{name} is among the {a} but outside the {b}")
    options = (right, *wrong)
    shuffled = tuple(rng.sample(options, 4))
    return Record(premise, "Which conclusion is sound?", right, shuffled, (Reason("therefore {}", right, wrong),))


_SHELF = ("red book", "grey book", "thin book", "torn book", "gold book", "tall book", "worn book")


def _ordering(rng: Random, depth: int) -> Record:
    """Three to five objects in a row, told by neighbours and ends until one order is left."""
    order = rng.sample(_SHELF, depth + 2)
    ways = {f"The {a} stands left of the {b}": (order.index(a), order.index(b)) for a in order for b in order}
    told = list[str]()
    left = list(permutations(order))
    clues = [text for text, (i, j) in ways.items() if i < j]
    rng.shuffle(clues)
    for clue in clues:
        a, b = clue.removeprefix("The ").split(" stands left of the ")
        fewer = [p for p in left if p.index(a) < p.index(b)]
        if len(fewer) < len(left):
            told, left = [*told, f"{clue}."], fewer
        if len(left) == 1:
            break
    for clue in list(told):  # what a later clue says as well may go
        rest = [other for other in told if other != clue]
        pairs = [other.removeprefix("The ").rstrip(".").split(" stands left of the ") for other in rest]
        if sum(all(p.index(a) < p.index(b) for a, b in pairs) for p in permutations(order)) == 1:
            told = rest
    place = rng.randrange(len(order))
    answer, others = order[place], tuple(book for at, book in enumerate(order) if at != place)
    row = Reason("from the left: {}", ", ".join(order))
    asked = f"Which of them is number {place + 1} from the left?"
    return Record(
        " ".join(told),
        asked,
        answer,
        tuple(rng.sample(order, len(order))),
        (row, Reason("it is the {}", answer, others)),
    )


def _electricity(rng: Random, depth: int) -> Record:
    """Closed world: what is not said is not so, and exceptions are told apart by that."""
    del depth
    label = rng.choice(TWO)
    if rng.random() < 0.5:
        parts = ["holds a battery", "has a closed switch", "has whole wires"]
        said = parts if label == "true" else rng.sample(parts, 2)
        kind = rng.choice(("torch", "doorbell", "radio", "fan", "toy train", "heater"))
        device = f"{rng.choice(HELD_NAMES)}'s {kind}"
        told = rng.sample([f"{device} {part}." for part in said], len(said))
        rule = f"Whenever a {kind} {', '.join(parts[:2])} and {parts[2]}, current flows through it."
        asked = f"Does current flow through {device}, if whatever goes unsaid is not so?"
        missing = "nothing" if label == "true" else next(part for part in parts if part not in said)
    else:
        bird, name = rng.choice(("ostrich", "penguin", "kiwi", "emu")), rng.choice(HELD_NAMES)
        told = [f"{name} hatched as a bird.", f"{name} met {rng.choice([n for n in HELD_NAMES if n != name])}."]
        told += [f"{name} hatched as a {bird}."] if label == "false" else []
        rng.shuffle(told)
        rule = f"Birds other than the {bird} take to the air."
        asked = f"Does {name} take to the air, if whatever goes unsaid is not so?"
        missing = "nothing" if label == "true" else f"being other than a {bird}"
    return Record(_text([*told, rule]), asked, label, TWO, (Reason("missing: {}", missing), _so(label, TWO)))


_WORDS = ("wumpus", "yumpus", "zumpus", "dumpus", "rompus", "numpus", "tumpus", "vumpus", "impus", "jompus")
_TASTES = ("sour", "bright", "opaque", "wooden", "floral", "metallic")


def _ontology(rng: Random, depth: int) -> Record:
    label, name = rng.choice(TWO), rng.choice(HELD_NAMES)
    names, taste = rng.sample(_WORDS, depth + 2), rng.choice(_TASTES)
    asked_no = rng.random() < 0.5
    end_no = (label == "false") != asked_no
    own = names[: depth + 1]
    rules = [f"Each {a} counts as a {b}." for a, b in pairwise(own)]
    rules.append(f"Each {own[-1]} comes {'never' if end_no else 'always'} {taste}.")
    rules.append(f"Each {names[-1]} comes {'always' if end_no else 'never'} {taste}.")
    rng.shuffle(rules)
    walked = [Reason("{}", f"{name} is a {word}") for word in own]
    asked = f"Judge this: {name} comes {'never' if asked_no else 'always'} {taste}."
    return Record(_text([*rules, f"{name} was born a {own[0]}."]), asked, label, TWO, (*walked, _so(label, TWO)))


_SCHEMAS = (
    ("The {a} would not go into the {b} since it turned out too {x}.", {"large": "a", "narrow": "b"}),
    ("They moved the {a} off the {b} after it had become too {x}.", {"heavy": "a", "shaky": "b"}),
    ("Rain ran from the {a} into the {b} until it was {x}.", {"empty": "a", "full": "b"}),
    ("The {a} could not be heard over the {b} while it was so {x}.", {"faint": "a", "noisy": "b"}),
    ("The {a} broke through the {b} for it was so {x}.", {"hard": "a", "brittle": "b"}),
)
_OBJECTS = ("trunk", "crate", "barrel", "statue", "basin", "bell", "engine", "beam", "drum", "plank")


def _pronouns(rng: Random, depth: int) -> Record:
    del depth
    label = rng.choice(TWO)
    sentence, means = rng.choice(_SCHEMAS)
    x = rng.choice(list(means))
    named = dict(zip("ab", rng.sample(_OBJECTS, 2), strict=True))
    right = named[means[x]]
    wrong = next(name for key, name in named.items() if key != means[x])
    asked = f"Was the {right if label == 'true' else wrong} what was {x}?"
    reasons = (Reason("it means the {}", right, (wrong,)), _so(label, TWO))
    return Record(sentence.format(x=x, **named), asked, label, TWO, reasons)


FAMILIES = (
    Family("proofwriter", "deductive", "FV", False, partial(_chain, _CHAIN), (0, 1, 2, 3), "open"),
    Family("folio", "deductive", "FV", False, _folio, (1, 2, 3), "open"),
    Family("rulebert", "deductive", "FV", False, partial(_soft, False), (1, 2), "closed"),
    Family("logicnli", "deductive", "NLI", False, _logicnli, (1, 2), "open"),
    Family("anli", "deductive", "NLI", False, partial(_quantities, False)),
    Family("adversarial-nli", "deductive", "NLI", False, _adversarial),
    Family("babi-15", "deductive", "FFQA", True, _fears),
    Family("logical-arguments", "deductive", "MCQA", True, _arguments),
    Family("logical-deduction", "deductive", "MCQA", True, _ordering, (1, 2, 3)),
    Family("bird-electricity", "deductive", "FV", True, _electricity, (1,), "closed"),
    Family("natlang", "deductive", "FV", True, partial(_chain, _NATLANG), (0, 1, 2, 3), "open"),
    Family("prontoqa", "deductive", "FV", True, _ontology, (1, 2, 3, 4)),
    Family("rulebert-union", "deductive", "FV", True, partial(_soft, True), (2, 3), "closed"),
    Family("wanli", "deductive", "NLI", True, partial(_quantities, True)),
    Family("winologic", "deductive", "FV", True, _pronouns),
)

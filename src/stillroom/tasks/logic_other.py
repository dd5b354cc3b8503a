"""Procedural stand-ins for LogiGLUE's abductive, inductive and mixed sets. Abduction has one answer each, or none is
drawn: the tests try every other.
"""

from functools import partial
from itertools import pairwise, product
from random import Random
from typing import NamedTuple

from stillroom.tasks.logic_family import HELD_NAMES, TRAIN_NAMES, WOMEN, Family, Reason, Record

# -- abductive -------------------------------------------------------------------------------------------------------


class _Missing(NamedTuple):
    """How the two families of missing facts speak."""

    who: tuple[str, ...]
    what: tuple[str, ...]
    fact: str
    rule: str
    ask: str


_ANIMALS = _Missing(
    tuple(f"the {animal}" for animal in ("squirrel", "leopard", "tiger", "wolf", "dolphin", "falcon", "otter", "hare")),
    ("strong", "fierce", "lazy", "heavy", "small", "clever", "awful", "slim", "brown", "fast"),
    "{who} is {a}.",
    "An animal that is {a} and {b} is {c}.",
    "Which quality, that no rule gives, must {who} also have so that it is {c}?",
)
_PERSONS = _Missing(
    HELD_NAMES,
    ("honest", "frugal", "curious", "nervous", "humble", "witty", "stern", "sober", "devout", "vain"),
    "Everyone grants that {who} looks {a}.",
    "Looking {a} together with looking {b} makes a person look {c}.",
    "Without a rule to bring it about, how must {who} look as well to look {c}?",
)


def _missing(surface: _Missing, rng: Random, depth: int) -> Record:
    """A chain of rules with two conditions each; exactly one condition of one of them is told of nobody."""
    who = rng.choice(surface.who)
    first, *more = rng.sample(surface.what, 2 * depth + 2)
    rules, needed, last = list[str](), [first], first
    for _ in range(depth):
        condition, head = more.pop(), more.pop()
        pair = (last, condition) if rng.random() < 0.5 else (condition, last)
        rules.append(surface.rule.format(a=pair[0], b=pair[1], c=head))
        needed.append(condition)
        last = head
    answer = rng.choice(needed)
    facts = [surface.fact.format(who=who, a=trait) for trait in (*needed, more.pop()) if trait != answer]
    rng.shuffle(facts)
    rng.shuffle(rules)
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in (*facts, *rules))
    others = tuple(trait for trait in surface.what if trait != answer)
    reasons = (
        Reason("needed: {}", ", ".join(needed)),
        Reason("what is missing is {}", answer, others),
    )
    return Record(text, surface.ask.format(who=who, c=last), answer, (answer, *others), reasons)


_EVENTS = (
    ("left the bicycle in the yard overnight", "found it wet in the morning", "It rained at night"),
    ("put the soup on the stove", "had to throw it away an hour later", "The soup was forgotten and burnt"),
    ("studied hard for the exam", "danced out of the classroom", "The results were very good"),
    ("planted seeds in the spring", "had nothing to harvest", "Birds ate the seeds"),
    ("went to bed early", "was tired at breakfast", "The neighbours had a loud party"),
    ("bought a white shirt", "wore a pink one a week later", "It was washed with red socks"),
    ("walked to the bus stop", "came to work an hour late", "The bus broke down"),
    ("lent a friend some money", "bought a new coat soon after", "The friend paid everything back"),
    ("baked a cake for the party", "served fruit instead", "The dog got at the cake"),
    ("packed an umbrella", "arrived dripping wet", "The wind broke the umbrella"),
)


def _explain(rng: Random, depth: int) -> Record:
    """Two observations, and which of two hypotheses would explain the second."""
    del depth
    name = rng.choice(TRAIN_NAMES)
    (before, after, cause), (_, _, other) = rng.sample(_EVENTS, 2)
    options = tuple(rng.sample((cause, other), 2))
    text = f"{name} {before}. {name} {after}."
    return Record(text, "What explains it best?", cause, options, (Reason("it fits that {}", cause, (other,)),))


# -- inductive -------------------------------------------------------------------------------------------------------

_KIN = {
    "": "self",
    "u": "mother father",
    "uu": "grandmother grandfather",
    "uuu": "great-grandmother great-grandfather",
    "s": "sister brother",
    "d": "daughter son",
    "dd": "granddaughter grandson",
    "ddd": "great-granddaughter great-grandson",
    "us": "aunt uncle",
    "sd": "niece nephew",
    "uus": "great-aunt great-uncle",
    "sdd": "great-niece great-nephew",
    "usd": "cousin cousin",
}
"""Way through the family, up, sideways and down → words for a woman and a man."""


def kin(way: str, woman: bool) -> str | None:
    """The word for who is reached by a way: ``u`` a parent, ``s`` a sibling, ``d`` a child; None without one.

    A sibling's parent is one's own, a parent's other child a sibling, a child's sibling a child.

    >>> kin("uds", True), kin("uud", False), kin("du", True)
    ('sister', 'uncle', None)
    """
    short = way
    while True:
        shorter = short
        for long, brief in (("ud", "s"), ("su", "u"), ("ds", "d"), ("ss", "s")):
            shorter = shorter.replace(long, brief, 1)
        if shorter == short:
            break
        short = shorter
    words = _KIN.get(short, "").split()
    return words[not woman] if len(words) == 2 else None


def _kinship(held: bool, rng: Random, depth: int) -> Record:
    names = rng.sample(HELD_NAMES if held else TRAIN_NAMES, depth + 1)
    while True:
        way = "".join(rng.choice("usd") for _ in range(depth))
        # A child's parent may be oneself, a sibling's sibling too: such ways have no one answer.
        answer = None if "du" in way or "ss" in way else kin(way, names[-1] in WOMEN)
        if answer is not None and kin(way[:-1] or "s", True) is not None:
            break
    said = [
        f"{a} calls {b} a {kin(move, b in WOMEN)}." if held else f"{b} is the {kin(move, b in WOMEN)} of {a}."
        for move, (a, b) in zip(way, pairwise(names), strict=True)
    ]
    reasons = list[Reason]()
    every = tuple(dict.fromkeys(word for words in _KIN.values() if words != "self" for word in words.split()))
    for end in range(2, depth + 1):
        word = kin(way[:end], names[end] in WOMEN)
        if word is not None:
            others = tuple(other for other in every if other != word)
            reasons.append(Reason(f"{names[end]} to {names[0]}: {{}}", word, others))
    rng.shuffle(said)
    first, last = names[0], names[-1]
    asked = f"By what word may {first} call {last}?" if held else f"What is {last} to {first}?"
    return Record(" ".join(said), asked, answer, (answer, *(w for w in every if w != answer)), tuple(reasons))


_BEASTS = ("swan", "frog", "rhino", "parrot")
_COLOURS = ("white", "green", "gray", "yellow")


def _colours(rng: Random, depth: int) -> Record:
    """All that were seen of a kind had one colour: so has the next."""
    del depth
    colour = dict(zip(_BEASTS, rng.sample(_COLOURS, 4), strict=True))
    names = rng.sample(HELD_NAMES, 6)
    kinds = [*rng.sample(_BEASTS, 4), rng.choice(_BEASTS)]
    sentences = [f"{name} hatched a {kind} coloured {colour[kind]}." for name, kind in zip(names, kinds, strict=False)]
    rng.shuffle(sentences)
    kind = rng.choice(_BEASTS)
    sentences.append(f"{names[-1]} hatched a {kind}, too.")
    others = tuple(other for other in _COLOURS if other != colour[kind])
    reasons = (Reason(f"every {kind} seen is {{}}", colour[kind], others),)
    asked = f"Which colour is to be expected of {names[-1]}'s {kind}?"
    return Record(" ".join(sentences), asked, colour[kind], (colour[kind], *others), reasons)


# -- mixed -----------------------------------------------------------------------------------------------------------

Formula = tuple[str, int, int]
"""``if`` (first, then second), ``or``, ``is``; a statement is a number from 1, denied when negative."""

_TRAIN_EVENTS = (
    *(("the lamp is on", "the lamp is off"), ("the door is open", "the door is shut")),
    *(("the guard is awake", "the guard is asleep"), ("the alarm rings", "the alarm is silent")),
    *(("the dog barks", "the dog is calm"), ("the window is lit", "the window is dark")),
)
_HELD_EVENTS = (
    *(("prices climb", "prices drop"), ("exports grow", "exports shrink"), ("wages rise", "wages stall")),
    *(("firms hire", "firms lay people off"), ("banks lend", "banks hold back"), ("savers gain", "savers lose")),
)
_SAY = {
    False: {"if": "If {0}, then {1}.", "or": "Either {0} or {1}, perhaps both.", "is": "In fact {0}."},
    True: {"if": "Whenever {0} one sees that {1}.", "or": "It never fails: {0}, or else {1}.", "is": "This year {0}."},
}


def true_in(formula: Formula, values: tuple[bool, ...]) -> bool:
    """Whether a formula holds where statement k is ``values[k - 1]``."""
    kind, a, b = formula
    left, right = (values[abs(x) - 1] == (x > 0) if x else False for x in (a, b))
    return left if kind == "is" else left or right if kind == "or" else not left or right


def entailed(formulas: list[Formula], count: int) -> set[int] | None:
    """Statements that hold in every case that the formulas allow; None when they allow none."""
    cases = [v for v in product((True, False), repeat=count) if all(true_in(f, v) for f in formulas)]
    if not cases:
        return None
    return {x * sign for x in range(1, count + 1) for sign in (1, -1) if all(v[x - 1] == (sign > 0) for v in cases)}


def _conditionals(held: bool, rng: Random, depth: int) -> Record:
    """Rules and one fact; of four statements exactly one must be true."""
    events, say = (_HELD_EVENTS, _SAY[True]) if held else (_TRAIN_EVENTS, _SAY[False])
    count = depth + 3
    chosen = rng.sample(events, count)
    while True:
        links = [
            (rng.choice(("if", "if", "or")), rng.choice((1, -1)) * a, rng.choice((1, -1)) * b)
            for a, b in (rng.sample(range(1, count + 1), 2) for _ in range(depth + 1))
        ]
        fact: Formula = ("is", rng.choice((1, -1)) * rng.randint(1, count), 0)
        must = entailed([*links, fact], count)
        if must is None:
            continue
        new = sorted(must - {fact[1]} - (entailed(links, count) or set()))
        open_ = [x * s for x in range(1, count + 1) for s in (1, -1) if x not in must and -x not in must]
        wrong = sorted({-x for x in must} | set(open_))
        if new and len(open_) >= 2:
            break

    def words(x: int) -> str:
        return chosen[abs(x) - 1][x < 0]

    right = rng.choice(new)
    offered = [right, *rng.sample([x for x in wrong if x != -fact[1]], 3)]
    rng.shuffle(offered)
    text = [
        say[kind].format(words(a), words(b) if b else "") for kind, a, b in rng.sample([*links, fact], len(links) + 1)
    ]
    asked = "Which of these cannot fail to be so?" if held else "Which of these must be true?"
    reason = Reason("then {}", words(right), tuple(words(x) for x in offered if x != right))
    known = Reason("{}", words(fact[1]))
    return Record(" ".join(text), asked, words(right), tuple(words(x) for x in offered), (known, reason))


_CLAIMS = (
    ("the bridge is repaired", "the ferry stops"),
    ("the library opens on Sunday", "more students read"),
    ("the tram line is extended", "fewer cars park downtown"),
    ("the recipe uses less sugar", "older buyers come back"),
    ("the museum drops its fee", "schools visit more often"),
    ("the harbour is dredged", "larger vessels dock"),
)


def _assumption(rng: Random, depth: int) -> Record:
    """Which assumption an argument needs: the conditional itself, not its converse, its inverse or another one."""
    del depth
    (a, b), (c, d) = rng.sample(_CLAIMS, 2)
    who = rng.choice(HELD_NAMES)
    right = f"Provided that {a}, {b}"
    wrong = (f"Provided that {b}, {a}", f"Unless {c}, {b}", f"Provided that {a}, {d}")
    reasons = (Reason("from what is given to what is claimed: {}", right, wrong),)
    text = f"{who} argues: it is settled that {a}; it is plain, therefore, that {b}."
    return Record(
        text, "What does the argument take for granted?", right, tuple(rng.sample((right, *wrong), 4)), reasons
    )


FAMILIES = (
    Family("alpha-nli", "abductive", "MCQA", False, _explain),
    Family("abduction-animal", "abductive", "FFQA", False, partial(_missing, _ANIMALS), (1, 2, 3)),
    Family("clutrr", "inductive", "FFQA", False, partial(_kinship, False), (2, 3)),
    Family("logiqa", "mixed", "MCQA", False, partial(_conditionals, False), (1, 2)),
    Family("abduction-person", "abductive", "FFQA", True, partial(_missing, _PERSONS), (1, 2, 3)),
    Family("babi-16", "inductive", "FFQA", True, _colours),
    Family("clutrr-systematic", "inductive", "FFQA", True, partial(_kinship, True), (4, 5, 6)),
    Family("logiqa-2", "mixed", "MCQA", True, partial(_conditionals, True), (1, 2)),
    Family("reclor", "mixed", "MCQA", True, _assumption),
)

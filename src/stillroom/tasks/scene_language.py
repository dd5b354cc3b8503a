"""A safe language of programs over scenes: a few calls, a few operators, and a trace of everything that was called.

After "Visual Program Distillation: Distilling Tools and Programmatic Reasoning into Vision-Language Models", 2023,
https://arxiv.org/abs/2312.03052. A program is lines of ``name = expression``; the value of ``answer`` is what it says:

    reds = find("red")
    answer = count(left_of(reds, find("blue circle")))

It is parsed as Python and then walked over by an interpreter that knows the nodes listed here and no others: no
attribute, no loop, no import, no function of its own. Whatever a model writes ends in a value or in a reason.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, cast

from stillroom.tasks.scenes import COLOURS, SHAPES, Scene, Thing
from stillroom.types import Noun

LONGEST, MOST_LINES, MOST_CALLS, MOST_NODES, DEEPEST = 2000, 40, 100, 400, 20
"""Characters, lines, calls, nodes of the syntax tree and nested brackets of a program."""
Things = tuple[Thing, ...]


class Call(NamedTuple):
    """One call of a tool: what it was given and what it gave, written as a reader would."""

    tool: str
    arguments: tuple[str, ...]
    value: str


class Ran(NamedTuple):
    """What became of a program."""

    value: str | None
    """Of ``answer``: a whole number, a word, or yes and no; None: it failed."""
    calls: tuple[Call, ...]
    """Up to where it ended."""
    reason: str = ""
    """Why it failed: ``syntax``, ``forbidden …``, ``unknown name …``, ``wrong arguments …``, ``no answer``, a limit."""


class Noise(Noun):
    """How a detector errs: chances per thing, drawn once for a run, so that a program sees one and the same scene."""

    missed: float = 0.0
    recoloured: float = 0.0
    """Seen in another colour."""
    imagined: float = 0.0
    """Chance that one thing more is seen in a free cell."""


class _Failed(Exception):
    """The program cannot go on; the reason is its argument. Never leaves this module."""


@dataclass
class _Machine:
    seen: Things
    names: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


def detected(scene: Scene, noise: Noise, rng: Random) -> Things:
    """What a detector sees of a scene."""
    seen = []
    for thing in scene.things:
        if rng.random() < noise.missed:
            continue
        if rng.random() < noise.recoloured:
            thing = thing._replace(colour=rng.choice([c for c in COLOURS.values() if c != thing.colour]))
        seen.append(thing)
    taken = {(thing.row, thing.column) for thing in scene.things}
    free = [(r, c) for r in range(scene.rows) for c in range(scene.columns) if (r, c) not in taken]
    if free and rng.random() < noise.imagined:
        seen.append(Thing(*rng.choice(free), rng.choice(list(COLOURS.values())), rng.choice(list(SHAPES.values()))))
    return tuple(sorted(seen))


def run(program: str, seen: Sequence[Thing]) -> Ran:
    """Run a program on what was seen. Total and bounded: any text ends in a value or a reason.

    Args:
        seen: the things of a scene, or what a noisy detector sees of it (`detected`).
    """
    machine = _Machine(tuple(seen))
    try:
        for name, expression in _parsed(program):
            machine.names[name] = _value(expression, machine)
        if "answer" not in machine.names:
            raise _Failed("no answer")
        return Ran(_written(machine.names["answer"], final=True), tuple(machine.calls))
    except _Failed as failure:
        return Ran(None, tuple(machine.calls), str(failure))


def _parsed(program: str) -> list[tuple[str, ast.expr]]:
    """Names and expressions in order; raises _Failed for everything that is no program of this language."""
    if len(program) > LONGEST:
        raise _Failed("too long")
    if "\\" in program:  # Python's parser would warn of escapes that it does not know
        raise _Failed("syntax")
    depth = 0
    for character in program:  # before Python's own parser meets a thousand brackets
        depth += (character in "([{") - (character in ")]}")
        if depth > DEEPEST:
            raise _Failed("too deep")
    # One block: for a mistake in a whole file, Python's parser would look for a file that holds the line.
    block = "if 1:\n 0\n " + program.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n ") + "\n"
    try:
        (whole,) = ast.parse(block, mode="single").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _Failed("syntax") from None
    statements = cast(ast.If, whole).body[1:]
    if sum(1 for statement in statements for _ in ast.walk(statement)) >= MOST_NODES or len(statements) > MOST_LINES:
        raise _Failed("too long")
    lines = []
    for statement in statements:
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            raise _Failed(f"forbidden {type(statement).__name__.lower()}")
        target = statement.targets[0]
        if not isinstance(target, ast.Name) or target.id in TOOLS or target.id.startswith("_"):
            raise _Failed("forbidden target")
        lines.append((target.id, statement.value))
    return lines


def _value(node: ast.expr, machine: _Machine) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, str):
        if isinstance(node.value, int) and abs(node.value) > 1000:
            raise _Failed("number too large")
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in machine.names:
            raise _Failed(f"unknown name {node.id[:40]}")
        return machine.names[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _called(node.func.id, [_value(argument, machine) for argument in node.args], machine)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        left, right = (_whole(_value(side, machine)) for side in (node.left, node.right))
        return left + right if isinstance(node.op, ast.Add) else left - right
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        left, right = (_whole(_value(side, machine)) for side in (node.left, node.comparators[0]))
        return _COMPARE[type(node.ops[0])](left, right)
    raise _Failed(f"forbidden {type(node).__name__.lower()}")


_COMPARE: dict[type, Callable[[int, int], bool]] = {
    ast.Gt: lambda a, b: a > b,
    ast.Lt: lambda a, b: a < b,
    ast.Eq: lambda a, b: a == b,
    ast.GtE: lambda a, b: a >= b,
    ast.LtE: lambda a, b: a <= b,
    ast.NotEq: lambda a, b: a != b,
}


def _called(tool: str, arguments: list[Any], machine: _Machine) -> Any:
    if tool not in TOOLS:
        raise _Failed(f"unknown tool {tool[:40]}")
    if len(machine.calls) >= MOST_CALLS:
        raise _Failed("too many calls")
    kinds, function = TOOLS[tool]
    if len(arguments) != len(kinds) or any(not _is(value, kind) for value, kind in zip(arguments, kinds, strict=True)):
        raise _Failed(f"wrong arguments for {tool}")
    value = function(machine.seen, *arguments)
    machine.calls.append(Call(tool, tuple(map(_written, arguments)), _written(value)))
    return value


def _is(value: Any, kind: str) -> bool:
    if kind == "things":
        return isinstance(value, tuple)
    return type(value) is {"text": str, "number": int, "truth": bool}[kind]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise _Failed("wrong operands")
    if abs(value) > 1_000_000:
        raise _Failed("number too large")
    return value


def _written(value: Any, *, final: bool = False) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        if final:
            raise _Failed("the answer is no number or word")
        return ", ".join(f"{thing.name} {thing.cell}" for thing in value) or "nothing"
    return str(value)[:80]


def _find(seen: Things, name: str) -> Things:
    """Things of a colour, a shape, or both; ``thing`` is everything, and what there is not is an empty answer."""
    words = name.split()
    known = {*COLOURS.values(), *SHAPES.values(), "thing"}
    if not 1 <= len(words) <= 2 or any(word not in known for word in words):
        raise _Failed(f"wrong arguments for find: {name[:40]!r}")
    return tuple(t for t in seen if all(word in (t.colour, t.shape, "thing") for word in words))


def _somewhere(holds: Callable[[Thing, Thing], bool]) -> Callable[[Things, Things, Things], Things]:
    def related(seen: Things, ones: Things, others: Things) -> Things:
        return tuple(one for one in ones if any(one != other and holds(one, other) for other in others))

    return related


def _nearest(seen: Things, ones: Things, others: Things) -> Things:
    """Those of `ones` that are nearest to any of `others`, in steps along rows and columns; several if as near."""
    away = {
        one: min((abs(one.row - o.row) + abs(one.column - o.column) for o in others if o != one), default=None)
        for one in ones
    }
    known = [distance for distance in away.values() if distance is not None]
    return tuple(one for one in ones if known and away[one] == min(known))


def _the(attribute: str) -> Callable[[Things, Things], str]:
    """The colour or shape of things that all have the same; the empty answer is the word ``none``."""

    def read(seen: Things, ones: Things) -> str:
        found = {getattr(one, attribute) for one in ones}
        return "none" if not found else found.pop() if len(found) == 1 else "several"

    return read


TOOLS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "find": (("text",), _find),
    "count": (("things",), lambda seen, ones: len(ones)),
    "exists": (("things",), lambda seen, ones: bool(ones)),
    "left_of": (("things", "things"), _somewhere(lambda a, b: a.column < b.column)),
    "right_of": (("things", "things"), _somewhere(lambda a, b: a.column > b.column)),
    "above": (("things", "things"), _somewhere(lambda a, b: a.row < b.row)),
    "below": (("things", "things"), _somewhere(lambda a, b: a.row > b.row)),
    "beside": (
        ("things", "things"),
        _somewhere(lambda a, b: abs(a.row - b.row) + abs(a.column - b.column) == 1),
    ),
    "nearest": (("things", "things"), _nearest),
    "colour": (("things",), _the("colour")),
    "shape": (("things",), _the("shape")),
    "either": (("truth", "text", "text"), lambda seen, truth, yes, no: yes if truth else no),
}
"""Name → the kinds of its arguments, and what it makes of what is seen and of them. ``left_of(a, b)``: those of a that
stand left of some b."""


def told(call: Call) -> str:
    """A call in plain words, citing what it was given and what it gave.

    >>> told(Call("count", ("red circle a1, red circle b2",), "2"))
    'count of red circle a1, red circle b2: 2'
    """
    words = {"find": "looking for", "left_of": "left of", "right_of": "right of"}.get(call.tool, call.tool)
    if call.tool in ("left_of", "right_of", "above", "below", "beside", "nearest"):
        to = " to" if call.tool == "nearest" else ""
        return f"of {call.arguments[0]}, {words}{to} {call.arguments[1]}: {call.value}"
    if call.tool == "find":
        return f"{words} {call.arguments[0]}: {call.value}"
    return f"{words} of {'; '.join(call.arguments)}: {call.value}"

"""Any data set of reasoning-gym as a task: ``gym:NAME`` or ``gym:NAME:option=value``.

Four things differ from the library's own use. Item i has a seed of its own, hashed (the library adds i to the seed, so
that neighbouring seeds share nearly all items). Only a full score is correct; what the library pays for less stays in
`Verdict.raw`. A scorer that pays the answer for being contained in other words is not believed beyond equality. And
nine scorers hand the answer to Python's eval: a model's text reaches them only in a form that computes mere numbers.

Answers of more than 20,000 characters (200 where they are evaluated) are wrong without being scored. Integrals, whose
simplification can take for ever, are checked in a process with a time limit; the other scorers run without one.
"""

import contextlib
import json
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from string import ascii_lowercase
from typing import Any, get_type_hints

from stillroom.errors import MissingExtraError, UserError, unknown_name
from stillroom.tasks.answers import extract
from stillroom.tasks.base import Task, procedural, question
from stillroom.tasks.guard import GradeFailed
from stillroom.tasks.integrals import is_antiderivative
from stillroom.types import Problem, Verdict

_LONGEST = 20_000

_RESEEDED = ("arc_agi", "codeio", "figlet_font", "group_anagrams", "spell_backward", "word_ladder")
"""Sets that read large files when they are made and then depend on their `seed` attribute alone, so that one object
serves all items. Others are made anew for each item, because some draw from the seed already when they are made."""

_UNORDERED = ("isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder")
"""Sets that draw from Python sets, whose order changes from process to process."""

_LITERALS = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
"""Scorers that eval the answer as a Python list. Without lower case and parentheses nothing can be called."""
_ARITHMETIC = ("countdown", "puzzle24")
_INTEGRALS = ("intermediate_integration", "simple_integration")
_ALGEBRA = (*_INTEGRALS, "polynomial_multiplication")
"""Scorers that hand the answer to `sympy.parse_expr`, which evals it."""

_LITERAL_TEXT = re.compile(r"[A-Z0-9_.,\[\]'\"\s-]*")
_ARITHMETIC_TEXT = re.compile(r"(?:[-+/() 0-9]|\*(?! *\*))*")
_FUNCTIONS = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln", "sqrt", "Abs")
_WORDS = {*_FUNCTIONS, "pi", "C", "E", "I", "X", "Y", "Z", *ascii_lowercase}
_ALGEBRA_TOKEN = re.compile(
    r"\s*(?:(?P<power>\*\*\s*(?P<exponent>-?[0-9]{1,2}|\(\s*-?[0-9]{1,2}(?:\s*/\s*[0-9]{1,2})?\s*\))(?!\s*\*\*|[0-9.]))"
    r"|(?P<word>[A-Za-z]+)|(?P<number>[0-9]{1,12}(?:\.[0-9]{0,12})?)(?![0-9A-Za-z.])|(?P<sign>[-+/()]|\*(?!\*)))"
)

# What a scorer raises over an answer that it cannot read, as opposed to running out of memory or stack.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, ArithmeticError, AssertionError)


def load_gym(name: str, options: Mapping[str, str | int | float | bool] | None = None) -> Task:
    """The reasoning-gym data set of that name as a task.

    Args:
        options: fields of the set's own configuration; text is converted to the field's type.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        UserError: unknown set or option, a value that the set refuses, or a set that cannot be reproduced.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingExtraError("reasoning-gym", "gym") from error

    if name not in DATASETS or name == "composite":
        raise unknown_name("reasoning-gym set", name, [known for known in DATASETS if known != "composite"])
    if name in _UNORDERED and not os.environ.get("PYTHONHASHSEED", "").isdigit():
        raise UserError(
            f"gym:{name} draws from Python sets, so that every process gets other problems; "
            "start with PYTHONHASHSEED=0 in the environment"
        )
    typed = _typed_options(name, DATASETS[name][1], options or {})
    lock = threading.Lock()

    def build(seed: int) -> Any:
        return reasoning_gym.create_dataset(name, seed=seed, size=1, **typed)

    try:
        shared = build(0)
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"gym:{name} refuses the options {typed}: {error}") from error

    @lru_cache(maxsize=4096)
    def entry_of(seed: int) -> dict[str, Any]:
        # Some generators print; standard output may be a pipe that expects JSON.
        with lock, contextlib.redirect_stdout(sys.stderr):
            if name in _RESEEDED:
                shared.seed = seed
                entry: dict[str, Any] = shared[0]
            else:
                entry = build(seed)[0]
        return entry

    def make(rng: Random, level: int) -> Problem:
        seed = rng.getrandbits(31)
        entry = entry_of(seed)
        difficulty = json.loads(json.dumps(entry["metadata"].get("difficulty", {}), default=str))
        return Problem(
            id="",
            task=f"gym:{name}",
            messages=question(entry["question"]),
            reference=entry["answer"],
            level=level,
            meta={"gym_seed": seed, "difficulty": difficulty, "options": dict(typed)},
        )

    def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
        answer = extract(text, strict=strict)
        if answer is None or not answer.strip():
            return Verdict(correct=False, score=0.0, reason="no answer")
        answer = answer.strip()
        seed = problem.meta.get("gym_seed")
        if not isinstance(seed, int):
            return Verdict(correct=None, answer=answer, reason="not a problem of this task")
        entry = entry_of(seed)
        if entry["question"] != problem.messages[-1].content:
            reason = "verifier error: reasoning-gym makes another problem of this seed; was its version changed?"
            return Verdict(correct=None, answer=answer, reason=reason)
        if name in _INTEGRALS:
            metadata = entry["metadata"]
            return _score(
                name,
                lambda text: float(is_antiderivative(text, metadata["integrand"], metadata["variable"])),
                entry["answer"],
                answer,
            )
        return _score(name, lambda text: float(shared.score_answer(text, entry)), entry["answer"], answer)

    identity = ",".join(f"{key}={typed[key]}" for key in sorted(typed))
    return Task(
        name=f"gym:{name}",
        summary=f"reasoning-gym: {name}",
        problems=procedural(f"gym:{name}:{identity}" if identity else f"gym:{name}", make, (0,)),
        verify=verify,
        world=f"gym:{name}",
        source="reasoning-gym",
    )


def safe_to_score(name: str, answer: str) -> bool:
    """Whether the set's scorer may see this text: always, unless it evaluates it.

    >>> safe_to_score("countdown", "(3+4)*5"), safe_to_score("countdown", "9**9**9")
    (True, False)
    >>> safe_to_score("simple_integration", "x**3/3 + sin(x) + C"), safe_to_score("simple_integration", "f.__class__")
    (True, False)
    """
    if name in _LITERALS:
        return len(answer) <= 2000 and _LITERAL_TEXT.fullmatch(answer) is not None
    if name in _ARITHMETIC:
        return len(answer) <= 200 and _ARITHMETIC_TEXT.fullmatch(answer) is not None
    if name in _ALGEBRA:
        return len(answer) <= 200 and _plain_algebra(answer)
    return len(answer) <= _LONGEST


def _score(name: str, scorer: Callable[[str], float], gold: str | None, answer: str) -> Verdict:
    if gold is not None and answer == gold.strip():
        return Verdict(correct=True, score=1.0, raw=1.0, answer=answer, reason="equal")
    shown = answer[:_LONGEST]
    if not safe_to_score(name, answer):
        return Verdict(correct=False, score=0.0, answer=shown, reason="not in a form that can be scored safely")
    try:
        raw = scorer(answer)
    except _UNREADABLE as error:
        # The answer's fault only if the scorer works at all; a broken scorer must not count against the model.
        if gold is not None and _pays(scorer, gold):
            return Verdict(correct=False, score=0.0, answer=shown, reason=f"unreadable answer: {type(error).__name__}")
        return Verdict(correct=None, answer=shown, reason=f"verifier error: {type(error).__name__}: {error}"[:300])
    except (GradeFailed, MemoryError, RecursionError, OSError, RuntimeError) as error:
        return Verdict(correct=None, answer=shown, reason=f"verifier error: {type(error).__name__}: {error}"[:300])
    if not math.isfinite(raw):
        return Verdict(correct=None, answer=shown, reason=f"verifier error: score {raw}")
    if raw >= 1.0 and gold is not None:
        padded = (f"{gold} or maybe 7 7 7", f"not sure: {gold}", f"{gold} {gold}")
        if any(safe_to_score(name, text) and _pays(scorer, text) for text in padded):
            return Verdict(correct=False, score=0.0, raw=raw, answer=shown, reason="paid for containing the answer")
    correct = raw >= 1.0
    return Verdict(
        correct=correct, score=float(correct), raw=raw, answer=shown, reason="full score" if correct else "different"
    )


def _pays(scorer: Callable[[str], float], text: str) -> bool:
    try:
        return scorer(text) >= 1.0
    except _UNREADABLE:
        return False


def _plain_algebra(answer: str) -> bool:
    """Numbers, single letters, elementary functions and small constant powers; what can expand stays small."""
    position, end = 0, len(answer.rstrip())
    degrees = [1]  # of each open bracket: a power multiplies all that its bracket holds
    closed = 0  # degree of the bracket that was closed just now
    while position < end:
        match = _ALGEBRA_TOKEN.match(answer, position)
        if match is None or (match["word"] is not None and match["word"] not in _WORDS):
            return False
        position = match.end()
        if match["power"] is not None:
            largest = max(int(number) for number in re.findall("[0-9]+", match["exponent"]))
            degrees[-1] += closed * largest
        closed = 0
        if match["sign"] == "(":
            degrees.append(1)
        elif match["sign"] == ")":
            if len(degrees) == 1:
                return False
            closed = degrees.pop()
            degrees[-1] += closed - 1
    return len(degrees) == 1 and degrees[0] <= 100


def _typed_options(name: str, config: Any, options: Mapping[str, str | int | float | bool]) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    hints = {key: hint for key, hint in get_type_hints(config).items() if key not in ("seed", "size")}
    typed: dict[str, Any] = {}
    for key, value in options.items():
        if key not in hints:
            raise unknown_name(f"option of gym:{name}", key, hints)
        adapter: TypeAdapter[Any] = TypeAdapter(hints[key])
        try:
            typed[key] = adapter.validate_strings(value) if isinstance(value, str) else adapter.validate_python(value)
        except ValidationError as error:
            raise UserError(f"gym:{name}:{key}={value}: {error.errors()[0]['msg']}") from error
    return typed

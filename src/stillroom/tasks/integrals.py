"""Antiderivatives, checked in a process of their own: sympy may simplify for ever, and must then be killed."""

import json
import subprocess
import sys
from pathlib import Path

from stillroom.tasks.guard import GradeFailed

CPU_LIMIT_S = 10
WALL_LIMIT_S = 60
_MEMORY_BYTES = 2 << 30
_ROOT = str(Path(__file__).resolve().parents[2])
_START = f"import sys; sys.path.insert(0, {_ROOT!r}); from stillroom.tasks.integrals import main; main()"


def is_antiderivative(answer: str, integrand: str, variable: str) -> bool:
    """Whether the derivative of `answer` simplifies to `integrand`, by sympy; one second or more per call.

    Args:
        answer: text that is known to be plain algebra, because sympy's parser evaluates what it reads.

    Raises:
        GradeFailed: sympy reached a limit of time or memory.
        ValueError: sympy cannot read the answer.
    """
    try:
        # -P keeps the working directory, which may be a run folder, out of the import path.
        child = subprocess.run(
            [sys.executable, "-P", "-c", _START],
            input=json.dumps([answer, integrand, variable]),
            capture_output=True,
            text=True,
            timeout=WALL_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise GradeFailed(f"timeout: no verdict within {WALL_LIMIT_S} seconds") from None
    words = child.stdout.split()
    if child.returncode != 0 or not words:
        raise GradeFailed(f"timeout or no memory: sympy ended with code {child.returncode}")
    if words[-1] == "unreadable":
        raise ValueError("sympy cannot read the answer")
    return words[-1] == "equal"


def main() -> None:
    """The child: reads one question from standard input, writes ``equal``, ``different`` or ``unreadable``."""
    import resource
    from tokenize import TokenError

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    import sympy

    answer, integrand, variable = json.load(sys.stdin)
    symbol = sympy.Symbol(variable)
    names = {variable: symbol, "C": sympy.Symbol("C")}
    try:
        found = sympy.parse_expr(answer, local_dict=names)
    except (TokenError, SyntaxError, TypeError, ValueError, AttributeError, ArithmeticError):
        print("unreadable")
        return
    rest = sympy.diff(found, symbol) - sympy.parse_expr(integrand, local_dict=names)
    print("equal" if sympy.simplify(rest) == 0 else "different")

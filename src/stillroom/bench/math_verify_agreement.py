"""Compare our verdicts with math-verify's on recorded answers and on MATH-500, and list every difference.

A folder of data holds ``gsm8k/`` with 14,000 recorded answers of two 7B models and ``math/math500.jsonl``. Golds and
answers go to both verifiers in the form that math-verify's own documentation uses: ``$gold$`` and ``\\boxed{answer}``.
Each gold of MATH-500 meets the answer that its own solution states, the next problem's answer, and simple rewritings of
itself, some of which keep its value and some of which change it.
"""

import json
import platform
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from stillroom.bench.hard_pairs import ask_math_verify
from stillroom.bench.verifier import FILES
from stillroom.errors import UserError
from stillroom.lab.run import command_line, commit, versions
from stillroom.tasks.answers import extract
from stillroom.tasks.math import compare_all

Pair = tuple[str, str]

_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_RELATION = re.compile(r"=|<|>|\\(?:in|le|ge|leq|geq|lt|gt|text|mbox|begin)(?![A-Za-z])")


def _slashes(gold: str) -> str:
    return _FRACTION.sub(r"(\1)/(\2)", gold)


def _spaced(gold: str) -> str:
    return re.sub(r"(?<=[^\\\s])([+,=])(?!\\)", r" \1 \\, ", gold) if "{," not in gold else gold


def _next_digit(gold: str) -> str:
    """The last digit one up; another value, unless the digit stands for nothing."""
    at = max((match.start() for match in re.finditer(r"\d", gold)), default=-1)
    return gold if at < 0 else f"{gold[:at]}{(int(gold[at]) + 1) % 10}{gold[at + 1 :]}"


def _plain_spelling(gold: str) -> str:
    return re.sub(r"\\sqrt\{(\w+)\}", r" sqrt(\1)", _slashes(gold)).replace("\\pi", "pi").replace("\\cdot", "*")


def _assigned(gold: str) -> str:
    return gold if _RELATION.search(gold) else f"x = {gold}"


REWRITINGS: dict[str, Callable[[str], str]] = {
    "display fractions": lambda gold: gold.replace("\\frac", "\\dfrac"),
    "fixed brackets": lambda gold: re.sub(r"\\(?:left|right)(?![a-z])", "", gold),
    "no spaces": lambda gold: gold if "\\text" in gold else re.sub(r"(?<![A-Za-z])\s+", "", gold),
    "wide spaces": _spaced,
    "slashes": _slashes,
    "plain spelling": _plain_spelling,
    "assigned": _assigned,
    "one more": lambda gold: f"1+{gold}",
    "opposite": lambda gold: gold if _RELATION.search(gold) else f"-({gold})",
    "twice": lambda gold: gold if _RELATION.search(gold) else f"2({gold})",
    "next digit": _next_digit,
}

# Who is right, decided by reading each pair: (gold, answer) → (who, why). A difference that is not here is reported as
# undecided, and the bench fails.
_SPELLED = "ours", "the same value with pi or sqrt spelled out, which math-verify reads as products of letters"
_ASSIGNED = "ours", "the same number behind x =, with separators of thousands that math-verify reads as a list there"
_SEPARATED = "ours", "the same number; TeX sets the space, the writer meant a separator"
_BASE = "ours", "the same digits in another base are another number"
_ROUNDED = "ours", "other digits; math-verify rounds both to six decimals"
ADJUDICATED: dict[Pair, tuple[str, str]] = {
    **{
        (gold, _plain_spelling(gold)): _SPELLED
        for gold in (
            r"\left( 3, \frac{\pi}{2} \right)",
            r"\pi",
            r"70 \sqrt{2}",
            r"-\frac{\pi}{6}",
            r"1 \pm \sqrt{19}",
            r"3 \sqrt{5}",
            r"288 \pi",
            r"18+2\pi",
            r"7\pi",
            r"3 \pm 2 \sqrt{2}",
            r"12\pi",
            r"11 \sqrt{5} + 11",
            r"(-\sqrt{3}, \sqrt{3})",
            r"16 \sqrt{3}",
            r"\frac{20000}{\pi}",
            r"2 \sqrt{5}",
            r"\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]",
            r"8 \pi",
            r"3\sqrt{13}",
            r"\frac{3\sqrt{3}}{4}",
            r"\frac{\sqrt{3}}{3}",
            r"2\sqrt{113}",
            r"-\sqrt{3}",
            r"1+2\sqrt{3}",
            r"\frac{\sqrt{21}}{5}",
            r"2\sqrt{5}",
            r"\{1\pm\sqrt{5},-2\}",
            r"6\sqrt{2}",
        )
    },
    **{
        (gold, _assigned(gold)): _ASSIGNED
        for gold in (r"10,\!080", r"11,\! 111,\! 111,\! 100", r"\$32,\!348", "58,500")
    },
    **{(gold, _next_digit(gold)): _BASE for gold in ("52_8", "40_9", "2516_8", "4210_{5}", "204_5", "4343_6")},
    (".0000672", ".0000673"): _ROUNDED,
    ("58,500", _spaced("58,500")): _SEPARATED,
}


def measure(data: Path) -> dict[str, Any]:
    """Both verdicts on every pair, with every difference and who is right.

    Args:
        data: folder that holds ``gsm8k/`` and ``math/``.

    Raises:
        UserError: when the recorded answers or MATH-500 are not there.
    """
    sets = {"gsm8k, recorded answers": _recorded(data), **_math500(data)}
    counts, differences = {}, []
    for name, pairs in sets.items():
        asked = [(f"${gold}$", f"\\boxed{{{answer}}}") for gold, answer in pairs]
        ours = [comparison.equal for comparison in compare_all(asked)]
        theirs = [_ask(*pair) for pair in asked]
        counts[name] = {
            "pairs": len(pairs),
            "ours_equal": sum(verdict is True for verdict in ours),
            "math_verify_equal": sum(verdict is True for verdict in theirs),
            "agree": sum(a is b for a, b in zip(ours, theirs, strict=True)),
        }
        for pair, mine, other in zip(pairs, ours, theirs, strict=True):
            if mine is not other:
                who, why = ADJUDICATED.get(pair, ("undecided", "not read yet"))
                row = {"set": name, "gold": pair[0], "answer": pair[1], "ours": mine, "math_verify": other}
                differences.append({**row, "who_is_right": who, "why": why})
    right = Counter(row["who_is_right"] for row in differences)
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(),
        "pairs": sum(count["pairs"] for count in counts.values()),
        "agree": sum(count["agree"] for count in counts.values()),
        "who_is_right": dict(right),
        "passed": right["ours"] == len(differences),
        "sets": counts,
        "differences": differences,
    }


@lru_cache(maxsize=100_000)  # recorded answers repeat
def _ask(gold: str, answer: str) -> bool | None:
    return ask_math_verify(gold, answer)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"no file {path}; --data is the folder that holds {path.parent.name}/{path.name}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _recorded(data: Path) -> list[Pair]:
    """Gold and extracted answer of every recorded response that gives one."""
    rows = [row for name in FILES for row in _rows(data / "gsm8k" / name)]
    answers = [(row["gold"], extract(row["response"])) for row in rows]
    return [(gold, answer) for gold, answer in answers if answer]


def _math500(data: Path) -> dict[str, list[Pair]]:
    rows = _rows(data / "math" / "math500.jsonl")
    golds = [str(row["answer"]) for row in rows]
    stated = [(gold, extract(row["solution"]) or "") for gold, row in zip(golds, rows, strict=True)]
    sets = {
        "MATH-500, its own solution": stated,
        "MATH-500, the next problem's answer": list(zip(golds, [*golds[1:], golds[0]], strict=True)),
    }
    for name, rewrite in REWRITINGS.items():
        rewritten = [(gold, rewrite(gold)) for gold in golds]
        sets[f"MATH-500, rewritten: {name}"] = [pair for pair in rewritten if pair[0] != pair[1]]
    return sets

r"""Pairs of gold and answer that fool verifiers, with the truth about each: our verdict beside math-verify's.

The first fifteen stand in math-verify's issue tracker. The others are ours, by kind of trap: equal pairs and unequal
ones, so that neither a lax nor a strict verifier looks good. Where the order of gold and answer should not matter, the
pair is also judged with the two exchanged. A pair that we get wrong stays in the table.
"""

import logging
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

from stillroom.lab.run import command_line, commit, versions
from stillroom.tasks.math import compare_all


class HardPair(NamedTuple):
    kind: str
    gold: str
    answer: str
    equal: bool
    why: str
    """What makes the truth, or whose rule it is."""
    symmetric: bool = True
    """Whether the exchanged pair has the same truth."""


TRACKER = [
    HardPair("tracker #14", r"$\frac{1}{2^{99}}$", r"$\frac{1}{2^{98}}$", False, "a factor of two"),
    HardPair("tracker #14", r"$\frac{1}{2004!}$", r"$\frac{1}{2006!}$", False, "a factor of 2005 · 2006"),
    HardPair("tracker #14", r"$1 - \frac{1}{\mathrm{e}}$", r"$1 + \frac{1}{\mathrm{e}}$", False, "the sign"),
    HardPair("tracker #14", "$12:00$", "$1:00$", False, "other hours"),
    HardPair("tracker #14", r"$19, 46, \text{ and } 82$", "$21, 36, and 82$", False, "two numbers of three differ"),
    HardPair("tracker #14", r"$\pm 2021$", "$2021$", False, "one value of two"),
    HardPair("tracker #60", "3*x-1*y+13=0", "3x + 4y + 14=0", False, "other lines"),
    HardPair("tracker #41", "$4$", r"$4\sqrt(2)$", False, "malformed LaTeX that means 4√2"),
    HardPair("tracker #37", r"$\text{13}$", "$13$", True, "the number in a text command"),
    HardPair("tracker #10", "$0 < x < 12.5$", "$(0, 12.5)$", True, "one interval"),
    HardPair("tracker #10", "$(0, 12.5)$", "$0 < x < 12.5$", True, "one interval"),
    HardPair("tracker #26", "$2x+4y-3=0$", r"$y = -\frac{1}{2}x + \frac{3}{4}$", True, "one line"),
    HardPair("tracker #69", r"\boxed{e^{16} - 1}", r"\boxed{-1 + exp(16)}", True, "exp is a power of e"),
    HardPair("tracker #69", r"\boxed{\frac{\pi}{2}}", r"\boxed{pi/2}", True, "pi spelled out"),
    HardPair("tracker #69", r"$-2\pi$", "$-2*pi$", True, "pi spelled out"),
]

# kind | gold | answer | truth: = or ≠, with > behind it when the order matters | why
_TABLE = r"""
powers | 2^{100} | 4^{50} | = | 4 is 2²
powers | 2^{100} | 2^{100}+1 | ≠ | one in 10³⁰
powers | 10^{-30} | 0 | ≠ | small is not nothing
factorials | \frac{10!}{8!} | 90 | = | 10 · 9
factorials | \frac{1}{50!} | \frac{1}{51!} | ≠ | a factor of 51
binomials | \binom{6}{3} | 20 | = | by counting
binomials | \binom{6}{3} | \binom{6}{2} | ≠ | 20 and 15
rounding | \pi | \frac{355}{113} | ≠ | they part at the seventh decimal
rounding | \frac{1}{3} | 0.33 | ≠ | rounded
rounding | \frac{1}{8} | 0.125 | = | exact
rounding | \sqrt{2} | 1.4142135623730951 | ≠ | rounded to a double
repeating decimals | \frac{3}{11} | 0.\overline{27} | = | 27/99
repeating decimals | \frac{3}{11} | 0.27 | ≠ | the bar matters
repeating decimals | 1 | 0.\overline{9} | = | 9/9
radicals | \sqrt{3+2\sqrt{2}} | 1+\sqrt{2} | = | squared, both are 3+2√2
radicals | \sqrt{3+2\sqrt{2}} | 1+\sqrt{3} | ≠ | 2.41 and 2.73
radicals | \frac{1}{\sqrt{2}} | \frac{\sqrt{2}}{2} | = | rationalised
radicals | \frac{1+\sqrt{5}}{2} | \frac{2}{\sqrt{5}-1} | = | the golden ratio
radicals | \sqrt[3]{54} | 3\sqrt[3]{2} | = | 27 · 2
radicals | \sqrt[3]{54} | 3\sqrt{2} | ≠ | a square root is no cube root
radicals | 2^{\frac{1}{2}} | \sqrt 2 | = | half a power
trigonometry | \sin 2x | 2\sin x\cos x | = | double angle
trigonometry | \sin 2x | 2\sin x | ≠ | at x = 1
trigonometry | \frac{\pi}{6} | \arcsin\frac{1}{2} | = | the principal value
trigonometry | \frac{1}{2} | \cos 60^\circ | = | degrees
logarithms | \ln 8 | 3\ln 2 | = | 8 is 2³
logarithms | \ln 8 | 2\ln 3 | ≠ | that is ln 9
logarithms | \log_2 10 | \frac{\ln 10}{\ln 2} | = | change of base
exponentials | e^{2\ln 3} | 9 | = | 3²
exponentials | \frac{1}{e} | -e | ≠ | a reciprocal is no opposite
complex numbers | \frac{1}{1+i} | \frac{1-i}{2} | = | times the conjugate
complex numbers | \frac{1}{1+i} | \frac{1+i}{2} | ≠ | the sign of i
polynomials | (x-1)^3 | x^3-3x^2+3x-1 | = | expanded
polynomials | (x-1)^3 | x^3-1 | ≠ | no binomial theorem
polynomials | 2ab | 2a+b | ≠ | a product
rational functions | \frac{x}{x+1} | 1-\frac{1}{x+1} | = | divided
rational functions | \frac{x}{x+1} | 1+\frac{1}{x+1} | ≠ | the sign
names | a+b | b+a | = | commutes
names | x+1 | y+1 | ≠ | another unknown
subscripts | x_1+x_2 | x_2+x_1 | = | commutes
subscripts | x_1+x_2 | x_1+x_3 | ≠ | another unknown
absolute values | \lvert x-1\rvert | \lvert 1-x\rvert | = | the distance
absolute values | \lvert x-1\rvert | x-1 | ≠ | below 1
absolute values | \lvert x\rvert | \sqrt{x^2} | = | for real x
equations | 2x+3y=6 | y=2-\frac{2}{3}x | = | solved for y
equations | 2x+3y=6 | y=2+\frac{2}{3}x | ≠ | the slope's sign
equations | (x-1)^2+y^2=4 | x^2-2x+y^2=3 | = | expanded
equations | (x-1)^2+y^2=4 | x^2-2x+y^2=4 | ≠ | radius √5
assignments | x=7 | 7 | = | the name may be left out (rule)
assignments | x=7 | y=7 | ≠ | another unknown
assignments | f(x)=2x+1 | 2x+1 | = | the name may be left out (rule)
assignments | f(x)=2x+1 | 2x-1 | ≠ | the sign
inequalities | x>3 | 3<x | = | read from the right
inequalities | x>3 | x\ge 3 | ≠ | 3 itself
inequalities | x\neq 2 | (-\infty,2)\cup(2,\infty) | = | all reals but 2
intervals | [0,1) | 0\le x<1 | = | one interval
intervals | [0,1) | [0,1] | ≠ | 1 itself
intervals | (-\infty,2] | x\le 2 | = | one interval
intervals | (-\infty,2] | (-\infty,2) | ≠ | 2 itself
unions | (0,1)\cup(2,3) | (2,3)\cup(0,1) | = | no order
unions | (0,1)\cup(2,3) | (0,3) | ≠ | the gap
tuples | (\frac{1}{2},3) | (0.5,3) | = | same coordinates
tuples | (1,2) | (2,1) | ≠ | ordered
tuples | (1,2) | [1,2] | ≠ | a point or open interval is no closed interval
sets | \{1,2,3\} | \{3,2,1\} | = | no order
sets | \{1,2,3\} | \{1,2\} | ≠ | an element is missing
sets | \emptyset | \{\} | = | two ways to write it
lists | 1,\ 2 | 2,\ 1 | = | bare lists have no order (rule)
lists | 1,\ 2 | 1,\ 3 | ≠ | another element
lists | 1 \text{ or } 2 | 2, 1 | = | or makes a list
plus-minus | \pm\sqrt{3} | \sqrt{3}, -\sqrt{3} | = | both signs
plus-minus | \pm\sqrt{3} | \sqrt{3} | ≠ | one of two
plus-minus | 1\pm 2 | 3, -1 | = | both signs
matrices | \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&\frac{4}{2}\\3&4\end{pmatrix} | = | equal entries
matrices | \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix} | ≠ | transposed
mixed numbers | 2\frac{1}{2} | \frac{5}{2} | = | two and a half
mixed numbers | 2\frac{1}{2} | 1 | ≠ | no product
fractions | -\frac{3}{4} | \frac{3}{-4} | = | one sign
fractions | -\frac{3}{4} | \frac{-3}{-4} | ≠ | two signs
fractions | \frac12 | \frac{7}{14} | = | reduced
fractions | \frac12 | \frac{1}{12} | ≠ | other digits
thousands | 1,234,567 | 1234567 | = | separators
thousands | 12,\!500 | 12500 | = | separators as TeX sets them
thousands | 1,234 | 1.234 | ≠ | a comma is no point
thousands | (1,234) | 1234 | ≠ | a pair
scientific notation | 3\times 10^{-4} | 0.0003 | = | written out
scientific notation | 3\times 10^{-4} | 3\times 10^{4} | ≠ | the exponent's sign
percent | 12.5\% | 12.5 | = | the sign may be left out (rule)
percent | 12.5\% | 0.125 | = | its value (rule)
percent | 12.5\% | 1.25 | ≠ | neither
units | 5\text{ cm} | 5 | = | a unit may be left out (rule)
units | 5\text{ cm} | 5\text{ m} | ≠ | a unit may not be exchanged
units | 90^\circ | 90 | = | a unit may be left out (rule)
units | 45^\circ | 54^\circ | ≠ | other digits
money | \$4.50 | 4.5 | = | currency may be left out (rule)
money | \$4.50 | 4.05 | ≠ | other digits
bases | 1011_2 | 1011 | => | the base may be left out (rule)
bases | 1011_2 | 1011_3 | ≠ | another base
bases | 1011_2 | 11 | ≠ | its decimal value is another notation (rule)
ratios | 3:4 | 3 : 4 | = | spaces
ratios | 3:4 | 4:3 | ≠ | the other way round
times | 10{:}30 | 10:30 | = | a TeX spelling of the colon
times | 10:30 | 10:03 | ≠ | 27 minutes
words | \text{Monday} | \text{monday} | = | letter case
words | \text{Monday} | \text{Sunday} | ≠ | other words
letters | \text{(B)} | B | = | brackets
letters | \text{(B)} | D | ≠ | another letter
malformed answers | 2 | \frac{4}{2 | ≠> | broken LaTeX states nothing (rule)
malformed answers | 3 | \sqrt(9) | = | what was meant is clear
malformed answers | 3 | \sqrt(3) | ≠ | what was meant is clear
hostile answers | 1 | 9^{9^{9^{9}}} | ≠> | more digits than atoms
hostile answers | 1 | 1^{9^{9^{9}}} | => | one to any power
hedges | 18 | 18 \text{ or } 20 | ≠ | one of two
hedges | 18 | 18, 18 | ≠ | two values are no single one (rule)
infinity | \infty | +\infty | = | a plus sign
infinity | \infty | -\infty | ≠ | the sign
notation | \lfloor 3.7\rfloor | 3 | = | the floor
notation | \lfloor 3.7\rfloor | 4 | ≠ | the floor
notation | \sum_{k=1}^{3} k | 6 | = | 1 + 2 + 3
notation | \sum_{k=1}^{3} k | 5 | ≠ | 1 + 2 + 3
"""


def _own() -> Iterator[HardPair]:
    for line in _TABLE.strip().splitlines():
        kind, gold, answer, truth, why = line.split(" | ")
        yield HardPair(kind, f"${gold}$", f"${answer}$", truth[0] == "=", why, symmetric=not truth.endswith(">"))


OWN = list(_own())


def measure() -> dict[str, Any]:
    """Our verdict and math-verify's on every pair, and on the exchanged pair where order should not matter."""
    pairs = [*TRACKER, *OWN]
    asked = [(pair.gold, pair.answer) for pair in pairs]
    exchanged = [(pair.answer, pair.gold) for pair in pairs]
    ours = [comparison.equal for comparison in compare_all([*asked, *exchanged])]
    theirs = [ask_math_verify(*pair) for pair in [*asked, *exchanged]]
    rows = []
    for index, pair in enumerate(pairs):
        verdicts = {"ours": ours[index], "math_verify": theirs[index]}
        if pair.symmetric:
            verdicts |= {
                "ours_exchanged": ours[index + len(pairs)],
                "math_verify_exchanged": theirs[index + len(pairs)],
            }
        rows.append({**pair._asdict(), **verdicts})
    count = len(TRACKER)
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(),
        "tracker": _score(rows[:count]),
        "own": _score(rows[count:]),
        "passed": all(row.get(name, row["equal"]) is row["equal"] for row in rows[:count] for name in _OURS),
        "pairs": rows,
    }


def table(result: dict[str, Any]) -> str:
    """A result of `measure` in Markdown: the counts, and a row for each pair; wrong verdicts stand in bold."""
    lines = ["| pairs | verdicts | ours right | math-verify right |", "|---|---:|---:|---:|"]
    for name, title in (("tracker", "math-verify's issue tracker"), ("own", "further pairs")):
        score = result[name]
        lines.append(
            f"| {title}: {score['pairs']} | {score['verdicts']} | {score['ours']} | {score['math_verify']} |",
        )
    lines += ["", "| kind | gold | answer | truth | ours | math-verify | why |", "|---|---|---|:-:|:-:|:-:|---|"]
    for row in result["pairs"]:
        verdicts = [_signs(row, name) for name in ("ours", "math_verify")]
        cells = [row["kind"], f"`{row['gold']}`", f"`{row['answer']}`", _SIGN[row["equal"]], *verdicts, row["why"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_OURS = ("ours", "ours_exchanged")
_SIGN = {True: "=", False: "≠", None: "none"}


def _signs(row: dict[str, Any], name: str) -> str:
    """The verdict, and behind a slash that of the exchanged pair where it is another one."""
    found = [row[name], row.get(f"{name}_exchanged", row[name])]
    signs = [_SIGN[verdict] if verdict is row["equal"] else f"**{_SIGN[verdict]}**" for verdict in found]
    return signs[0] if signs[0] == signs[1] else " / ".join(signs)


def ask_math_verify(gold: str, answer: str) -> bool | None:
    """math-verify's own verdict with its own defaults; None when it raises."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    try:
        return bool(verify(parse(gold), parse(answer)))
    except Exception:  # its verdict on this pair, whatever it was: no answer
        return None


def _score(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many verdicts there are, and how many are right; exchanged pairs count as verdicts of their own."""
    both = [row for row in rows if row["symmetric"]]
    return {
        "pairs": len(rows),
        "equal": sum(row["equal"] for row in rows),
        "verdicts": len(rows) + len(both),
        **{
            name: sum(row[name] is row["equal"] for row in rows)
            + sum(row[f"{name}_exchanged"] is row["equal"] for row in both)
            for name in ("ours", "math_verify")
        },
        "ours_as_given": sum(row["ours"] is row["equal"] for row in rows),
        "math_verify_as_given": sum(row["math_verify"] is row["equal"] for row in rows),
    }

"""How judges and detectors are asked, and how their answers are read: text as data, so that a proxy has its own.

The English one follows the released templates in what it says (Yang et al., 2025, appendix) and is written anew.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stillroom.judge.parsers import Parser, boxed_choice, exact_choice, first_int, yes_no
from stillroom.tasks import verdicts
from stillroom.tasks.paired import Bias, Contest, letter
from stillroom.types import Noun


class Case(Noun):
    """A verdict to be looked at: what the judge was shown, what it said, and who it is."""

    bias: Bias
    evaluator: str
    contest: Contest
    verdict: str
    """A letter."""
    other: str | None = None
    """position: the letter that the judge chose when the sides were swapped."""


@dataclass(frozen=True)
class Wording:
    """All questions as functions of what is asked about, and the parsers of their answers."""

    compare: Callable[[Contest, bool], str]
    """A contest, and whether to warn of biases."""
    revise: Callable[[Contest, str, str], str]
    """A contest, the earlier verdict, an analysis of it."""
    detect: Callable[[Case], str]
    rate: Callable[[str, str, str, float, float], str]
    """Source, answer, rubric, lowest and highest rating."""
    choice: Parser
    yes_no: Parser = yes_no
    rating: Parser = first_int


DEFINITIONS: dict[Bias, str] = {
    "verbosity": "Verbosity bias: a longer or more detailed answer is preferred although it is not more correct.",
    "position": "Position bias: an answer is preferred because of its place; when the order is swapped, the same place "
    "wins instead of the same answer.",
    "bandwagon": "Bandwagon bias: an answer is preferred because most people are said to prefer it.",
    "sentiment": "Sentiment bias: an answer is preferred or avoided because of its tone, whatever it says.",
}
_RULES = (
    "You are an impartial judge. Choose the output that follows the instruction best; where it asks for a fact or a "
    "calculation, the one that is correct. Every output is equally likely to be the right one."
)
_WARNING = "The length of an output, its place, its popularity and its tone must not influence you."
_TERSE = 'Do not explain. Answer with exactly "Output (x)", where x is the letter of your choice, and nothing else.'


def _shown(contest: Contest) -> str:
    lines = [f"# Instruction\n{contest.instruction}"]
    if contest.majority is not None:
        lines.append(f"# Statement\n90% of people believe that Output ({letter(contest.majority)}) is better.")
    lines += [f"# Output ({letter(at)})\n{text}" for at, text in enumerate(contest.candidates)]
    return "\n\n".join(lines)


def _compare(contest: Contest, warning: bool) -> str:
    return "\n\n".join([_RULES, *([_WARNING] if warning else []), _shown(contest), _TERSE])


def _revise(contest: Contest, verdict: str, analysis: str) -> str:
    return "\n\n".join(
        [
            _RULES,
            _shown(contest),
            f"# Your earlier choice\nOutput ({verdict})",
            f"# An analysis of whether that choice was biased\n{analysis}",
            "The analysis is only a reference: it may be wrong. Look at the outputs again and decide yourself.",
            _TERSE,
        ]
    )


def _detect(case: Case) -> str:
    verdict = f"# Choice of the judge\nOutput ({case.verdict})"
    if case.other is not None:
        verdict += f"\nWhen the two outputs were swapped, it chose Output ({case.other})."
    return "\n\n".join(
        [
            "A language model judged the outputs below. Find out whether its choice was caused by this bias.",
            DEFINITIONS[case.bias],
            f"The judge is {case.evaluator}; smaller models are less reliable judges.",
            _shown(case.contest),
            verdict,
            "Think first. Then answer with one word: Yes if the choice was caused by this bias, else No.",
        ]
    )


def _rate(source: str, answer: str, rubric: str, low: float, high: float) -> str:
    return (
        f"Rate the answer by this rubric: {rubric}\n\n# Source\n{source}\n\n# Answer\n{answer}\n\n"
        f"Answer with one whole number from {low:g} to {high:g} and nothing else."
    )


ENGLISH = Wording(_compare, _revise, _detect, _rate, exact_choice)

SUMS = Wording(
    compare=verdicts.compare_text,
    revise=verdicts.revise_text,
    detect=lambda case: verdicts.detect_text(case.bias, case.evaluator, case.contest, case.verdict, case.other),
    rate=_rate,
    choice=boxed_choice,
)
"""The terse texts of the proxies' world, task `verdicts`."""

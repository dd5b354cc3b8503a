"""A constraint: a kind and its arguments. Checked when it is made, then held against responses, strictly or loosely.

Kinds are those of IFEval (https://arxiv.org/abs/2311.07911) and of lists of words. An empty response keeps no
constraint, whatever it does not contain.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, JsonValue

from stillroom.errors import UserError, unknown_name
from stillroom.tasks.instructions import ifeval_checks, list_checks
from stillroom.tasks.instructions.language import LANGUAGES
from stillroom.types import Noun

CHECKS: Final[dict[str, Callable[..., bool]]] = {**ifeval_checks.CHECKS, **list_checks.CHECKS}

RELATIONS: Final = ("less than", "at least")


class Constraint(Noun):
    """One requirement of a response; made by `constraint`, which checks it."""

    op: Literal["check"] = "check"
    kind: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Argument(NamedTuple):
    """What an argument may be."""

    what: str
    accepts: Callable[[Any], bool]


def _is_count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_COUNT = Argument("a whole number", _is_count)
_POSITIVE = Argument("a whole number from 1", lambda value: _is_count(value, 1))
_TEXT = Argument("text that is not blank", _is_text)
_TEXTS = Argument(
    "a list of texts", lambda value: isinstance(value, list) and bool(value) and all(map(_is_text, value))
)
_RELATION = Argument(f"one of {', '.join(RELATIONS)}", lambda value: value in RELATIONS)
_ANIMAL = Argument("an animal of the list world", lambda value: value in list_checks.KIND_OF)

ARGUMENTS: Final[dict[str, dict[str, Argument]]] = {
    "keywords:existence": {"keywords": _TEXTS},
    "keywords:frequency": {"keyword": _TEXT, "frequency": _COUNT, "relation": _RELATION},
    "keywords:forbidden_words": {"forbidden_words": _TEXTS},
    "keywords:letter_frequency": {
        "letter": Argument("one character", lambda value: _is_text(value) and len(value) == 1),
        "let_frequency": _COUNT,
        "let_relation": _RELATION,
    },
    "language:response_language": {
        "language": Argument(f"one of {', '.join(sorted(LANGUAGES))}", lambda value: value in LANGUAGES)
    },
    "length_constraints:number_sentences": {"num_sentences": _COUNT, "relation": _RELATION},
    "length_constraints:number_paragraphs": {"num_paragraphs": _POSITIVE},
    "length_constraints:number_words": {"num_words": _COUNT, "relation": _RELATION},
    "length_constraints:nth_paragraph_first_word": {
        "num_paragraphs": _POSITIVE,
        "nth_paragraph": _POSITIVE,
        "first_word": _TEXT,
    },
    "detectable_content:number_placeholders": {"num_placeholders": _COUNT},
    "detectable_content:postscript": {"postscript_marker": _TEXT},
    "detectable_format:number_bullet_lists": {"num_bullets": _COUNT},
    "detectable_format:number_highlighted_sections": {"num_highlights": _COUNT},
    "detectable_format:multiple_sections": {"section_spliter": _TEXT, "num_sections": _COUNT},
    "combination:repeat_prompt": {"prompt_to_repeat": _TEXT},
    "startend:end_checker": {"end_phrase": _TEXT},
    "change_case:capital_word_frequency": {"capital_frequency": _COUNT, "capital_relation": _RELATION},
    "list:number_items": {"count": _POSITIVE},
    "list:repeats": {"word": _ANIMAL, "times": _POSITIVE},
    "list:excludes": {"word": _ANIMAL},
    "list:starts": {"word": _ANIMAL},
    "list:ends": {"word": _ANIMAL},
    "list:kind_count": {
        "animal": Argument(f"one of {', '.join(list_checks.KINDS)}", lambda value: value in list_checks.KINDS),
        "count": _POSITIVE,
    },
    "list:separator": {
        "separator": Argument(
            f"one of {', '.join(list_checks.SEPARATORS)}", lambda value: value in list_checks.SEPARATORS
        )
    },
}
"""Kind → its arguments, all required; a kind that is missing here takes none."""


def constraint(kind: str, args: Mapping[str, Any] | None = None) -> Constraint:
    """A constraint of a known kind with arguments that make sense.

    Args:
        kind: a name of `CHECKS`.
        args: its arguments; one that is None counts as absent, as data sets with one column per argument have them.

    Raises:
        UserError: unknown kind, or an argument that is missing, unknown or of the wrong type.
    """
    if kind not in CHECKS:
        raise unknown_name("kind of constraint", kind, CHECKS)
    given = {name: value for name, value in (args or {}).items() if value is not None}
    known = ARGUMENTS.get(kind, {})
    for name in given:
        if name not in known:
            raise UserError(f"{kind} has no argument {name!r}; it takes {', '.join(known) or 'none'}")
    for name, argument in known.items():
        if name not in given:
            raise UserError(f"{kind} needs {name}: {argument.what}")
        if not argument.accepts(given[name]):
            raise UserError(f"{kind}: {name} is {given[name]!r}; give {argument.what}")
    return Constraint(kind=kind, args=given)


def holds(required: Constraint, text: str, *, strict: bool = True) -> bool:
    """Whether a response keeps a constraint; False for a blank response.

    Args:
        text: the response without its thought.
        strict: False accepts when any of `variants` keeps it: IFEval's loose accuracy.
    """
    check = CHECKS[required.kind]
    tried = (text,) if strict else variants(text)
    return any(bool(tried_text.strip()) and check(tried_text, **required.args) for tried_text in tried)


def variants(text: str) -> Iterator[str]:
    """The response, and without its first line, its last line, both; then all four again without stars."""
    lines = text.split("\n")
    cut = (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])))
    yield from dict.fromkeys((*cut, *(part.replace("*", "") for part in cut)))


def credit(required: Constraint) -> float:
    """What keeping a constraint earns beside the whole: the harder to keep by chance, the more.

    Light-IF (https://arxiv.org/abs/2508.03178, reward of the released code): 0.1 for an exact count, 0.05 for a bound
    on one side, 0.02 for style, beginnings and ends. Which of these each kind is, is our reading.
    """
    if required.kind in _EXACT:
        return 0.1
    if required.kind in _BOUND:
        return 0.05
    return 0.02


_EXACT = {
    "length_constraints:number_paragraphs",
    "length_constraints:nth_paragraph_first_word",
    "detectable_format:number_bullet_lists",
    "combination:two_responses",
    "list:number_items",
    "list:repeats",
}
_BOUND = {
    "keywords:frequency",
    "keywords:letter_frequency",
    "length_constraints:number_sentences",
    "length_constraints:number_words",
    "detectable_content:number_placeholders",
    "detectable_format:number_highlighted_sections",
    "detectable_format:multiple_sections",
    "change_case:capital_word_frequency",
    "list:kind_count",
}

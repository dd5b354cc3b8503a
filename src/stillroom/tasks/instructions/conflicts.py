"""Which two constraints no response that is meant well can keep both.

Three ways to contradict are known: counts whose bounds leave no number, formats that exclude each other, and a text
that one demands and the other forbids. A word both asked for and forbidden is one, although "sleeping" would pass
IFEval's checks for both "sleep" and no "sleep". Constraints that pass here may still be impossible in threes.
"""

from typing import Any, Final

from stillroom.tasks.instructions.constraints import CHECKS, Constraint

_COUNTS: Final = {  # kind -> (the count, its relation or None for exactly, or "at least")
    "length_constraints:number_sentences": ("num_sentences", "relation"),
    "length_constraints:number_words": ("num_words", "relation"),
    "length_constraints:number_paragraphs": ("num_paragraphs", None),
    "length_constraints:nth_paragraph_first_word": ("num_paragraphs", None),
    "detectable_format:number_bullet_lists": ("num_bullets", None),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation"),
    "keywords:frequency": ("frequency", "relation"),
    "keywords:letter_frequency": ("let_frequency", "let_relation"),
    "list:number_items": ("count", None),
    "list:repeats": ("times", None),
}
_ABOUT: Final = {"keywords:frequency": "keyword", "keywords:letter_frequency": "letter", "list:repeats": "word"}
"""Counts of different things bound nothing together."""
_ONE_VALUE: Final = {
    "language:response_language": "language",
    "list:starts": "word",
    "list:ends": "word",
    "list:separator": "separator",
    "startend:end_checker": "end_phrase",
    "combination:repeat_prompt": "prompt_to_repeat",
}
"""Kinds of which a response has one value; phrases of which one ends, or begins, with the other agree."""
_EXCLUDE: Final = {
    frozenset(pair)
    for pair in (
        ("change_case:english_capital", "change_case:english_lowercase"),
        # One JSON value is neither two answers, nor opens with a request or ends with a phrase.
        ("detectable_format:json_format", "combination:two_responses"),
        ("detectable_format:json_format", "combination:repeat_prompt"),
        ("detectable_format:json_format", "length_constraints:number_paragraphs"),
        ("list:wrapped", "startend:quotation"),
    )
}
_CASED: Final = ("detectable_format:constrained_response", "detectable_format:multiple_sections")
"""Whose text must stand letter by letter."""


def conflict(one: Constraint, other: Constraint) -> str | None:
    """Why no response keeps both; None when none of the rules says so. The order does not matter."""
    return _conflict(one, other) or _conflict(other, one)


def _conflict(one: Constraint, other: Constraint) -> str | None:
    if frozenset((one.kind, other.kind)) in _EXCLUDE and one.kind != other.kind:
        return "one excludes the other"
    if one.kind == "startend:quotation" and other.kind == "combination:repeat_prompt":
        quoted = str(other.args["prompt_to_repeat"]).lstrip().startswith('"')
        return None if quoted else "the request does not begin with a quotation mark"
    return _no_number(one, other) or _two_values(one, other) or _language(one, other) or _forbidden(one, other)


def _bounds(found: Constraint) -> tuple[float, float]:
    name, relation = _COUNTS[found.kind]
    bound: Any = found.args[name]
    given = found.args[relation] if relation else "exactly"
    return (bound, bound) if given == "exactly" else (0, bound - 1) if given == "less than" else (bound, float("inf"))


def _no_number(one: Constraint, other: Constraint) -> str | None:
    if one.kind not in _COUNTS:
        return None
    low, high = _bounds(one)
    if high < low:
        return f"{one.kind} leaves no number"
    if one.kind == other.kind:
        about = _ABOUT.get(one.kind)
        if about and str(one.args[about]).lower() != str(other.args[about]).lower():
            return None
        low, high = max(low, _bounds(other)[0]), min(high, _bounds(other)[1])
        return "their counts leave no number" if low > high else None
    if one.kind == "list:number_items" and other.kind in ("list:repeats", "list:kind_count"):
        least: Any = other.args["times" if other.kind == "list:repeats" else "count"]
        return "more words than the list has" if least > high else None
    return None


def _two_values(one: Constraint, other: Constraint) -> str | None:
    if one.kind == other.kind and one.kind in _ONE_VALUE:
        values = [str(found.args[_ONE_VALUE[one.kind]]).strip().lower() for found in (one, other)]
        agree = {
            "startend:end_checker": values[0].endswith(values[1]) or values[1].endswith(values[0]),
            "combination:repeat_prompt": values[0].startswith(values[1]) or values[1].startswith(values[0]),
        }.get(one.kind, values[0] == values[1])
        return None if agree else "there is only one"
    return None


def _language(one: Constraint, other: Constraint) -> str | None:
    if one.kind != "language:response_language" or one.args["language"] == "en":
        return None
    english = ("change_case:english_capital", "change_case:english_lowercase", "detectable_format:constrained_response")
    return "the other is in English" if other.kind in english else None


def _forbidden(one: Constraint, other: Constraint) -> str | None:
    """A text that `one` demands breaks `other`, which no further text could mend."""
    for demanded in _demanded(one):
        if _only_worse(other, cased=one.kind in _CASED) and not CHECKS[other.kind](demanded, **other.args):
            return f"{demanded[:60]!r} has to stand in the response"
    return None


def _demanded(found: Constraint) -> list[str]:
    """Texts that stand in every response that keeps it, as far as they are known."""
    args: dict[str, Any] = found.args
    match found.kind:
        case "keywords:existence":
            return list(args["keywords"])
        case "keywords:frequency" if args["relation"] == "at least" and args["frequency"]:
            return [args["keyword"]]
        case "keywords:letter_frequency" if args["let_relation"] == "at least" and args["let_frequency"]:
            return [args["letter"]]
        case "combination:repeat_prompt":
            return [args["prompt_to_repeat"]]
        case "startend:end_checker":
            return [args["end_phrase"]]
        case "detectable_content:postscript":
            return [args["postscript_marker"]]
        case "length_constraints:nth_paragraph_first_word":
            return [args["first_word"]]
        case "detectable_format:constrained_response":
            return ["My answer is "]  # what its three sentences share
        case "detectable_format:multiple_sections" if args["num_sections"]:
            return [f"{args['section_spliter'].strip()} 1"]
        case "list:repeats":
            return [" ".join([args["word"]] * args["times"])]
        case "list:starts" | "list:ends":
            return [args["word"]]
        case _:
            return []


def _only_worse(found: Constraint, *, cased: bool) -> bool:
    """Whether a text that breaks it breaks it still with more text around."""
    args = found.args
    match found.kind:
        case "punctuation:no_comma" | "keywords:forbidden_words" | "list:excludes":
            return True
        case "keywords:frequency" | "length_constraints:number_words":
            return args["relation"] == "less than"
        case "keywords:letter_frequency":
            return args["let_relation"] == "less than"
        case "change_case:english_capital" | "change_case:english_lowercase":
            return cased
        case _:
            return False

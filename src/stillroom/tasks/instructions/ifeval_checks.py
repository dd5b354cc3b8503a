"""The 25 kinds of IFEval's verifiable instructions, each as a function from a response and arguments to yes or no.

IFEval (https://arxiv.org/abs/2311.07911), section 2 and table 1; kinds and arguments bear its names. The rules were
written anew. What they count is what the published checker counts, with these exceptions, all meant:

- Words to look for are text, never patterns: ``c++`` is a word, not a broken regular expression.
- Sentences are told by a rule of our own (`count_sentences`) instead of a trained model, languages by `language_of`.
- A word in capitals is what stands between spaces, without punctuation around it: ``DON'T`` is one.
- Any character can be counted as a letter, also ``#``, for which the published checker takes a random letter.
- A line of dashes is a rule and a line that opens with ``*emphasis*`` is text; neither is a bullet.
- ``***word***`` is one highlight, and the bullet's own star opens none.
- Blank lines beyond one do not shift the count of paragraphs that the n-th one is found by.

Every function takes time linear in the length of the response.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

from stillroom.tasks.instructions.language import language_of

OPTIONS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""Of ``detectable_format:constrained_response``."""

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?…。！？।]+[\"'”’»)\]*_]*(?=\s|$)|[。！？।]+")
_LAST_TOKEN = re.compile(r"[^\s(\[\"'“”‘’«*_]*$")
_NEVER_ENDS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "fig", "gen", "rev", "hon", "capt", "sgt", "lt", "mt")
)
_MAY_END = frozenset(
    ("etc", "a.m", "p.m", "u.s", "u.k", "inc", "ltd", "co", "corp", "jr", "sr", "p.s", "p.p.s", "ph.d")
)
_ENUMERATOR = re.compile(r"(?:\d{1,3}|[A-Za-z])")
_INDENT = 20  # characters before a list's number, at most
_HIGHLIGHT = re.compile(r"(\*{1,3})([^\n*]+)\1")
_EMPHASIS = re.compile(r"\*[^\s*][^*]*\*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_EDGES = ".,;:!?\"'“”‘’()[]{}<>*_#`~-–—"


# -- what is counted ---------------------------------------------------------------------------------------------------


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores, as IFEval counts: "don't" are two."""
    return sum(1 for _ in _WORD.finditer(text))


def count_sentences(text: str) -> int:
    """Stretches with a letter or digit in them, each up to its full stop, question or exclamation mark.

    Titles, initials, common abbreviations, numbers of a list, and dots or quotations that a small letter follows end
    nothing; neither does the end of a line.

    >>> count_sentences('Dr. A. Smith came at 5 p.m. sharp. "Why?" he asked... then left')
    2
    """
    count, start = 0, 0
    for match in _SENTENCE_END.finditer(text):
        if _ends(text, start, match):
            count += _says_something(text[start : match.end()])
            start = match.end()
    return count + _says_something(text[start:])


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    after = text[match.end() : match.end() + 40].lstrip()
    small = after[:1].islower()
    mark = match.group()
    if mark[0] in "。！？।":
        return True
    if small and (mark[-1] in "\"'”’»)]" or mark.startswith(("..", "…"))):
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    before = text[max(start, match.start() - 30) : match.start()]
    token = _LAST_TOKEN.search(before).group()  # type: ignore[union-attr]  # an empty token always matches
    if _ENUMERATOR.fullmatch(token) and after:
        at = match.start() - len(token)
        line = text[max(0, at - _INDENT) : at]
        if (at <= _INDENT or "\n" in line) and not line.rpartition("\n")[2].strip(" \t*-#>"):
            return False  # it opens its line: the number or letter of a list's item
        if token.isalpha() and token != "I" and (token.isupper() or not after[0].isupper()):
            return False
    token = token.lower()
    return not (after and (token in _NEVER_ENDS or (token in _MAY_END and not after[:1].isupper())))


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _compare(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


# -- keywords ----------------------------------------------------------------------------------------------------------


def existence(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, in any case, also inside a longer word."""
    lower = text.lower()
    return all(keyword.lower() in lower for keyword in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword occurs so often, in any case, also inside longer words."""
    return _compare(text.lower().count(keyword.lower()), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of these occurs as a word of its own, in any case."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A character occurs so often, in any case."""
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


# -- language and case -------------------------------------------------------------------------------------------------


def response_language(text: str, *, language: str) -> bool:
    """The response's main language is this one; a text without any letter is accepted, one that tells none is not."""
    return language_of(text) == language or not any(map(str.isalpha, text))


def _english(text: str) -> bool:
    """Words that tell no language, such as a list of animals, may be English when all their letters are."""
    found = language_of(text)
    return found == "en" or (found is None and all(c.isascii() for c in text if c.isalpha()))


def english_capital(text: str) -> bool:
    """English, without a small letter."""
    return text.isupper() and _english(text)


def english_lowercase(text: str) -> bool:
    """English, without a capital letter."""
    return text.islower() and _english(text)


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """So many words are all in capitals; "I" and "A" are."""
    count = sum(token.strip(_EDGES).isupper() for token in text.split())
    return _compare(count, capital_relation, capital_frequency)


# -- length ------------------------------------------------------------------------------------------------------------


def number_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """So many sentences, by `count_sentences`."""
    return _compare(count_sentences(text), relation, num_sentences)


def number_words(text: str, *, num_words: int, relation: str) -> bool:
    """So many words, by `count_words`."""
    return _compare(count_words(text), relation, num_words)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between ``***``; none of them empty but what is outside the first and last divider."""
    parts = [part.strip() for part in _DIVIDER.split(text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs between blank lines, and the n-th begins with this word, in any case."""
    found = _paragraphs(text)
    if len(found) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    word = found[nth_paragraph - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower() == first_word.lower()


# -- content and format ------------------------------------------------------------------------------------------------


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many stretches in square brackets, each within a line."""
    count = 0
    for line in text.split("\n"):
        at = line.find("[")
        while at >= 0 and (close := line.find("]", at)) >= 0:
            count += 1
            at = line.find("[", close)
    return count >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker occurs, in any case; ``P. S.`` with spaces is ``P.S.``."""
    lower = text.lower()
    if postscript_marker == "P.S.":
        return re.search(r"p\.\s?s\.", lower) is not None
    if postscript_marker == "P.P.S":
        return re.search(r"p\.\s?p\.\s?s", lower) is not None
    return postscript_marker.lower() in lower


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that open with ``*`` or ``-``."""
    return sum(map(_is_bullet, text.split("\n"))) == num_bullets


def _is_bullet(line: str) -> bool:
    line = line.strip()
    if line.startswith("*"):
        return len(line) > 1 and line[1] != "*" and not _EMPHASIS.match(line)
    return line.startswith("-") and line.strip("- ") != ""


def constrained_response(text: str) -> bool:
    """One of three sentences occurs, letter by letter."""
    return any(option in text for option in OPTIONS)


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many stretches between one, two or three stars, each within a line and not blank."""
    count = 0
    for line in text.split("\n"):
        bare = line.lstrip()
        # A bullet's star is one too many: "* one *two*" has three.
        if bare.startswith("* ") and line.count("*") % 2:
            line = bare[2:]
        count += sum(1 for match in _HIGHLIGHT.finditer(line) if match[2].strip())
    return count >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many section marks: the word as given, then a number."""
    marks = re.findall(rf"{re.escape(section_spliter.strip())}\s?\d", text)
    return len(marks) >= num_sections


def json_format(text: str) -> bool:
    """The whole response is one JSON value, bare or in a fenced block."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    text = text.removesuffix("```").strip()
    try:
        # Numbers are checked, not built: thousands of digits are good JSON and no reason to fail.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """Somewhere within a line stands a title in ``<<double angular brackets>>``."""
    for line in text.split("\n"):
        at = line.find("<<")
        close = line.rfind(">>")
        if 0 <= at < close and line[at:close].strip("<> \t\r"):
            return True
    return False


# -- combination, start and end, punctuation ---------------------------------------------------------------------------


def two_responses(text: str) -> bool:
    """Exactly two different answers with ``******`` between them."""
    parts = [part.strip() for part in text.split("******")]
    found = [part for part in parts if part]
    return all(parts[1:-1]) and len(found) == 2 and found[0] != found[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The response begins with the request, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, *, end_phrase: str) -> bool:
    """The response ends with this phrase, in any case; quotation marks around the whole do not matter."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole response stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def no_comma(text: str) -> bool:
    """There is no comma."""
    return "," not in text


CHECKS: Final[dict[str, Callable[..., bool]]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
"""IFEval's kind → its check."""

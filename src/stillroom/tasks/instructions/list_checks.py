"""Checks of a list of words: the constraints of a world small enough for models with a vocabulary of a few dozen words.

A list is whatever words a text holds, in their order; what stands between them matters only to the check of separators.
"""

import re
from collections.abc import Callable
from typing import Final

KINDS: Final = {
    "bird": ("crow", "dove", "duck", "eagle", "goose", "hawk", "owl", "swan"),
    "fish": ("carp", "cod", "eel", "perch", "pike", "salmon", "trout", "tuna"),
    "insect": ("ant", "bee", "beetle", "fly", "gnat", "moth", "termite", "wasp"),
    "mammal": ("bear", "cat", "cow", "dog", "fox", "hare", "lion", "wolf"),
}
"""Kind of animal → its members, all that a list may hold."""
KIND_OF: Final = {animal: kind for kind, members in KINDS.items() for animal in members}
ANIMALS: Final = tuple(sorted(KIND_OF))
SEPARATORS: Final = {"dash": "-", "slash": "/", "semicolon": ";"}
_ITEM = re.compile(r"[^\W\d_]+")


def items(text: str) -> list[str]:
    """The words of a list, in small letters."""
    return _ITEM.findall(text.lower())


def animals(text: str) -> bool:
    """There is a word, and all are animals of this world."""
    found = items(text)
    return bool(found) and all(item in KIND_OF for item in found)


def number_items(text: str, *, count: int) -> bool:
    """Exactly so many words."""
    return len(items(text)) == count


def repeats(text: str, *, word: str, times: int) -> bool:
    """A word occurs exactly so often."""
    return items(text).count(word) == times


def excludes(text: str, *, word: str) -> bool:
    """A word does not occur."""
    return word not in items(text)


def starts(text: str, *, word: str) -> bool:
    """The first word is this one."""
    return items(text)[:1] == [word]


def ends(text: str, *, word: str) -> bool:
    """The last word is this one."""
    return items(text)[-1:] == [word]


def upper(text: str) -> bool:
    """All letters are capitals."""
    return text.isupper()


def kind_count(text: str, *, animal: str, count: int) -> bool:
    """At least so many words are animals of this kind."""
    return sum(KIND_OF.get(item) == animal for item in items(text)) >= count


def separator(text: str, *, separator: str) -> bool:
    """Between any two words stands this mark, with or without spaces, and no other mark stands anywhere in the list."""
    marks = re.sub(r"\s+", "", _ITEM.sub("w", text)).strip("[]")
    return marks == SEPARATORS[separator].join("w" * marks.count("w")) and "w" in marks


def in_order(text: str) -> bool:
    """The words are in alphabetical order; the same word may stand twice."""
    found = items(text)
    return found == sorted(found)


def wrapped(text: str) -> bool:
    """The whole list stands in one pair of square brackets."""
    text = text.strip()
    return text.startswith("[") and text.endswith("]") and text.count("[") == text.count("]") == 1


CHECKS: Final[dict[str, Callable[..., bool]]] = {
    "list:animals": animals,
    "list:number_items": number_items,
    "list:repeats": repeats,
    "list:excludes": excludes,
    "list:starts": starts,
    "list:ends": ends,
    "list:upper": upper,
    "list:kind_count": kind_count,
    "list:separator": separator,
    "list:in_order": in_order,
    "list:wrapped": wrapped,
}
"""Kind → its check."""

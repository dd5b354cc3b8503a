"""Stop strings and constraints as automata over tokens, so that a batch is checked by looking up two tables.

A `Machine` reads characters. `compile_machine` turns it into one that reads bytes, as tokens cut characters in two, and
follows every token of the vocabulary from every state. What a token does is judged by the text so far as one would see
it decoded: bytes that are no whole character yet show as U+FFFD.
"""

import codecs
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillroom.models.policy import Policy
from stillroom.models.tokens import token_bytes
from stillroom.samplers.base import StepStartBan

UNKNOWN = "\ufffd"
"""Stands for bytes that are no character, and here also for any character that a machine does not care about."""


@dataclass(frozen=True)
class Vocabulary:
    """What every token writes; equal vocabularies share their compiled automata."""

    fingerprint: str
    ends: frozenset[int]
    """Tokens that end a turn; they write nothing."""
    size: int
    """Tokens that the model can draw, those among them that the tokenizer does not know."""
    texts: tuple[bytes, ...] = field(compare=False, repr=False)


def vocabulary(policy: Policy, size: int) -> Vocabulary:
    """The vocabulary of a policy with `size` logits; raises UserError when its tokenizer's bytes are unknown."""
    known = token_bytes(policy.tokenizer)[:size]
    texts = tuple(b"" if token in policy.stop_ids else text for token, text in enumerate(known))
    return Vocabulary(policy.fingerprint, policy.stop_ids, size, texts + (b"",) * (size - len(texts)))


class TokenAutomaton(NamedTuple):
    """Tables over states and tokens; every row of a batch starts in state 0."""

    next_SV: npt.NDArray[np.int32]
    """The state after a token that is not marked."""
    marked_SV: npt.NDArray[np.bool_]
    """Whether a token completes a stop string, or is forbidden."""


@lru_cache(maxsize=16)
def stop_automaton(vocabulary: Vocabulary, stop: tuple[str, ...]) -> TokenAutomaton:
    """Marks the tokens with which one of the strings is in the text (Aho & Corasick 1975)."""
    prefixes = {string[:end] for string in stop for end in range(len(string) + 1)}
    characters = frozenset("".join(stop))

    def read(state: Hashable, character: str) -> Hashable:
        if state is None:
            return None
        text = f"{state}{character}"
        while text not in prefixes:
            text = text[1:]
        # A string may end inside another that is still going on.
        return None if text.endswith(stop) else text

    return compile_machine(
        Machine(
            start="",
            read=read,
            marked=lambda state: state is None,
            cares=lambda state: characters,
            judges=lambda state: False,
        ),
        vocabulary,
    )


@lru_cache(maxsize=16)
def ban_automaton(vocabulary: Vocabulary, ban: StepStartBan) -> TokenAutomaton:
    """Marks the tokens that `StepStartBan` forbids; tokens that end a turn never are."""
    # A step that has begun with other text is free for good, so the end of the step needs no state of its own.
    free, forbidden = 0, 1
    lowered = {other: _lower(c) for c in "".join(ban.words) for other in (c, c.lower(), c.upper()) if len(other) == 1}
    words = {"".join(map(_lower, word)) for word in ban.words}
    prefixes = {word[:end] for word in words for end in range(len(word) + 1)}

    def read(state: Hashable, character: str) -> Hashable:
        if not isinstance(state, str) or (not state and character.isspace()):
            return state
        if state in words and not (character.isalnum() or character == "_"):
            return forbidden
        text = state + lowered[character] if character in lowered else None
        return text if text in prefixes else free

    spaces = {c for c in map(chr, range(0x3001)) if c.isspace()}

    def cares(state: Hashable) -> frozenset[str]:
        if not isinstance(state, str):
            return frozenset()
        return frozenset(c for c in lowered if state + lowered[c] in prefixes) | (frozenset() if state else spaces)

    automaton = compile_machine(
        Machine(
            start="",
            read=read,
            marked=lambda state: state == forbidden or state in words,
            cares=cares,
            judges=lambda state: state in words,
        ),
        vocabulary,
    )
    automaton.marked_SV[:, [end for end in vocabulary.ends if end < vocabulary.size]] = False
    return automaton


def _lower(character: str) -> str:
    return character.lower() if len(character.lower()) == 1 else character


class Machine(NamedTuple):
    """A deterministic automaton over characters."""

    start: Hashable
    read: Callable[[Hashable, str], Hashable]
    """The state after a character."""
    marked: Callable[[Hashable], bool]
    """Whether a token that leads here is marked. A state that marks all that follows returns itself from `read`."""
    cares: Callable[[Hashable], frozenset[str]]
    """The characters beyond ASCII that do something else in this state than U+FFFD, if it has no judgement."""
    judges: Callable[[Hashable], bool]
    """Whether this state may tell any two characters apart."""


class _State(NamedTuple):
    at: Hashable
    """Of the machine."""
    pending: bytes
    """The beginning of a character."""


_JUDGE = 0
"""Byte state of a text whose machine must see the next character whole; only inside tokens."""


def compile_machine(machine: Machine, vocabulary: Vocabulary) -> TokenAutomaton:
    """The tables of a machine for a vocabulary; time grows with states times the bytes of all tokens."""
    states = _Bytes(machine)
    byte_next = np.array(list(states.transitions()), dtype=np.int32).reshape(-1, 256)
    marked_S = np.array([False, *(states.marked(state) for state in states.found[1:])])

    # Only states in which a token can end without a mark get a row of their own.
    rows = np.flatnonzero(~marked_S[1:]) + 1
    number = np.zeros(len(marked_S), dtype=np.int32)
    number[rows] = np.arange(len(rows), dtype=np.int32)

    # Longest first, so that the tokens that have a byte at a position are always the first ones.
    order = np.argsort([-len(text) for text in vocabulary.texts], kind="stable")
    texts = [vocabulary.texts[token] for token in order]
    has_byte = np.arange(len(texts[0]))[:, None] < np.array([len(text) for text in texts])
    padded = np.zeros(has_byte.shape, dtype=np.uint8)
    padded.T[has_byte.T] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    counts = has_byte.sum(axis=1).tolist()

    next_SV = np.zeros((len(rows), vocabulary.size), dtype=np.int32)
    marked_SV = np.zeros((len(rows), vocabulary.size), dtype=bool)
    flat = byte_next.ravel()
    for row, start in enumerate(rows):
        state_V = np.full(vocabulary.size, start, dtype=np.int32)
        for position, count in enumerate(counts):
            state_V[:count] = flat[state_V[:count] * 256 + padded[position, :count]]
        for column in np.flatnonzero(state_V == _JUDGE):
            state_V[column] = states.after(states.found[start], texts[column])
        next_SV[row, order] = number[state_V]
        marked_SV[row, order] = marked_S[state_V]
    return TokenAutomaton(next_SV, marked_SV)


class _Bytes:
    """A machine's states between bytes, numbered as they are found; number 0 is `_JUDGE`, 1 the start."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._cares: dict[Hashable, list[bytes]] = {}
        self._numbers: dict[Hashable, int] = {}
        self.found: list[_State] = [_State(None, b"")]
        self._number(_State(machine.start, b""))

    def transitions(self) -> Iterator[list[int]]:
        """For each state in order, the number of the state after each byte."""
        yield [_JUDGE] * 256
        done = 1
        while done < len(self.found):
            yield [self._number(self._read(self.found[done], bytes([byte]))) for byte in range(256)]
            done += 1

    def marked(self, state: _State) -> bool:
        """Whether a token that ends in this state is marked."""
        return self._machine.marked(self._machine.read(state.at, UNKNOWN) if state.pending else state.at)

    def after(self, state: _State, text: bytes) -> int:
        """The state after a text, character by character."""
        return self._number(self._read(state, text), whole=True)

    def _read(self, state: _State, text: bytes) -> _State:
        characters, pending = _decode(state.pending, text)
        at = state.at
        for character in characters:
            at = self._machine.read(at, character)
        return _State(at, pending)

    def _number(self, state: _State, *, whole: bool = False) -> int:
        """The number of a state, the same for states that no text can tell apart."""
        at, pending = state
        key: Hashable = at
        if pending:
            if at not in self._cares:
                self._cares[at] = [character.encode() for character in self._machine.cares(at)]
            rests = frozenset(c[len(pending) :] for c in self._cares[at] if c.startswith(pending))
            judges = self._machine.judges(at)
            if judges and not rests and not whole:
                return _JUDGE
            if judges and rests:
                key = (at, pending)
            elif rests or UNKNOWN in self._machine.cares(at):
                key = (at, _kind(pending), rests)
            else:
                key = at = self._machine.read(at, UNKNOWN)
                pending = b""
        if key not in self._numbers:
            self._numbers[key] = len(self.found)
            self.found.append(_State(at, pending))
        return self._numbers[key]


def _kind(pending: bytes) -> tuple[int, int]:
    """Which bytes can continue a character: how many are wanted, and the lead byte where it limits the next one."""
    lead = pending[0]
    wanted = (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) - len(pending)
    limits = len(pending) == 1 and lead in (0xE0, 0xED, 0xF0, 0xF4)
    return wanted, lead if limits else 0


@lru_cache(maxsize=1 << 14)
def _decode(pending: bytes, text: bytes) -> tuple[str, bytes]:
    """The characters that are whole after `text`, and the beginning of the next."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.setstate((pending, 0))
    characters = decoder.decode(text)
    return characters, decoder.getstate()[0]

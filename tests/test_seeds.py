"""Seeds: stable for ever, independent of the process, unrelated for neighbours."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from stillroom.seeds import derive_rng, derive_seed, digest


def test_values_never_change() -> None:
    # Results on disk depend on these numbers.
    assert derive_seed("response", 0, 0) == 9085417811715177007
    assert derive_rng("a", 1).random() == derive_rng("a", 1).random()
    assert digest("a", "b") == "235870420603e322"


def test_nothing_depends_on_the_hash_seed() -> None:
    script = "from stillroom.seeds import *; print(derive_seed('a', 1), derive_rng('b').random(), digest('c'))"
    shown = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert shown == {f"{derive_seed('a', 1)} {derive_rng('b').random()} {digest('c')}\n"}


def test_neighbours_share_nothing() -> None:
    drawn = [{derive_rng("rows", seed, i).getrandbits(40) for i in range(300)} for seed in range(4)]
    assert all(not drawn[i] & drawn[j] for i in range(4) for j in range(i))
    assert len({derive_seed("x", i) for i in range(10_000)}) == 10_000


def test_the_parts_and_their_types_count() -> None:
    assert len({derive_seed("a", 1), derive_seed("a1"), derive_seed("a", "1"), derive_seed(1, "a")}) == 4
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", "")}) == 4


@given(st.lists(st.text(st.characters(codec=None, categories=None)) | st.integers(), max_size=4))
def test_every_text_gives_a_seed(parts: list[str | int]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63
    assert len(digest(*map(str, parts))) == 16


def test_lone_surrogates_are_texts_too() -> None:
    # JSON answers of servers can hold them.
    assert derive_seed("text", "\ud800") != derive_seed("text", "\udfff")

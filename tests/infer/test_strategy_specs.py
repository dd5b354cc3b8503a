"""Strategies by name: what is understood, what is composed, and one clear line for what is not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_texts import TextSampler
from stillroom.errors import UserError
from stillroom.infer.iterate import Iterate
from stillroom.infer.single import Single
from stillroom.infer.specs import KINDS, make_strategy
from stillroom.infer.vote import Vote, likelihood

TEXTS = TextSampler(lambda prompt, number: "x")


def test_specs_and_what_they_make() -> None:
    assert make_strategy("single", TEXTS) == Single(TEXTS)
    assert make_strategy("single:tokens=9", TEXTS) == Single(TEXTS, 9)
    assert make_strategy("vote:n=3", TEXTS) == Vote(TEXTS, 3, temperature=0.7)
    weighed = make_strategy("vote: n = 3, weight=likelihood ,temperature=1", TEXTS)
    assert weighed == Vote(TEXTS, 3, weigh=likelihood, temperature=1.0)
    both = make_strategy("vote:n=2/iterate:rounds=4", TEXTS)
    assert isinstance(both, Vote)
    assert isinstance(both.sampler, Iterate)
    assert (both.sampler.rounds, both.sampler.retries, both.id) == (4, 2, "vote-2/rounds/texts")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vots:n=3", "unknown strategy 'vots'; did you mean vote"),
        ("", "unknown strategy ''; known: iterate, single, vote"),
        ("vote/", "unknown strategy ''"),
        ("vote:m=3", "unknown option of strategy 'vote' 'm'"),
        ("vote:3", "cannot read option '3' of strategy 'vote:3'; write key=value"),
        ("vote:n=x", "strategy 'vote:n=x': n: .*integer"),
        ("vote:n=0", "greater than or equal to 1"),
        ("vote:temperature=0", "greater than 0"),
        ("vote:temperature=nan", "temperature"),
        ("vote:weight=luck", "weight: .*likelihood"),
        ("vote:n=2,n=3", "'n' stands twice"),
        ("iterate:rounds=-1", "rounds: "),
    ],
)
def test_a_bad_spec_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_strategy(spec, TEXTS)
    assert "\n" not in str(caught.value)


@given(st.lists(st.sampled_from([*KINDS, "n", "=", ":", ",", "/", "1", "x", "\n", " "]), max_size=9).map("".join))
def test_any_text_is_a_strategy_or_a_clear_mistake(spec: str) -> None:
    with contextlib.suppress(UserError):
        assert make_strategy(spec, TEXTS).id

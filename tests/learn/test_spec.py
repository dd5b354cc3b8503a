"""Which weights move, from text."""

import pytest

from stillroom.errors import UserError
from stillroom.learn.adapt.base import Adapt, Freeze, Full
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.adapt.spec import parse_adapt


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("full", Full()),
        ("lora", LoRA()),
        ("lora:rank=4,alpha=2.5", LoRA(rank=4, alpha=2.5)),
        ("masked", Masked()),
        ("masked:score=random,density=0.1,refresh_every=20", Masked(score="random", density=0.1, refresh_every=20)),
        ("freeze:*.mlp.*, model.norm.weight", Freeze(train=("*.mlp.*", "model.norm.weight"))),
    ],
)
def test_what_a_text_names(spec: str, expected: Adapt) -> None:
    assert parse_adapt(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lorra", "unknown adapt 'lorra'; did you mean lora"),
        ("lora:rnk=4", "unknown option of adapt 'lora' 'rnk'; did you mean rank"),
        ("lora:provides=x", "unknown option of adapt 'lora' 'provides'"),
        ("lora:rank=four", "adapt 'lora:rank=four': rank: .*integer"),
        ("lora:rank=0", "adapt 'lora:rank=0': rank=0 leaves an adapter without weights"),
        ("lora:rank", "cannot read option 'rank'"),
        ("full:x=1", "adapt 'full' has no options"),
        ("masked:density=2", "density=2.0 is no share"),
        ("freeze:", "does not say what moves"),
    ],
)
def test_what_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_adapt(spec)

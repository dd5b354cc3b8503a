"""The bases: committed weights belong to today's recipes, and a recipe may have words of its own."""

import pytest

from stillroom.lab.proxies import RECIPES, check, proxy_tokenizer
from stillroom.models.policy import load_policy
from stillroom.models.proxies import proxy_path

SUMS = ["retro-0.4m", "retro-fresh-0.4m", "retro-reviser-0.2m"]


@pytest.mark.parametrize("name", ["student-0.4m", "dart-student-0.4m", "dart-generator-0.4m", *SUMS])
def test_a_committed_base_is_what_its_recipe_builds(name: str) -> None:
    """As far as can be told without building it: the recipe's hash, the tokenizer and the size."""
    found = check(name)
    assert found.state == "ready"
    assert found.bytes <= 1_000_000
    assert load_policy(proxy_path(name)).tokenizer.get_vocab() == proxy_tokenizer(RECIPES[name]).get_vocab()


def test_a_tokenizer_of_its_own_has_the_words_of_its_texts() -> None:
    own = {load_policy(proxy_path(name)).fingerprint for name in SUMS}
    assert len(own) == 1
    shared = load_policy(proxy_path("student-0.4m")).tokenizer
    words = load_policy(proxy_path("retro-0.4m")).tokenizer
    for word in ("Alternatively", "Wait", "assistant"):
        assert len(words.tokenize(word)) == 1 < len(shared.tokenize(word))

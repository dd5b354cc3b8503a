"""The bases: committed weights belong to today's recipes, and a recipe may have words of its own."""

from itertools import islice

import pytest

from stillroom.lab.proxies import RECIPES, check, diet_rows, proxy_tokenizer
from stillroom.models.policy import load_policy
from stillroom.models.proxies import blank_policy, proxy_path

SUMS = ["retro-0.4m", "retro-fresh-0.4m", "retro-reviser-0.2m"]


@pytest.mark.parametrize(
    "name",
    [
        "student-0.4m",
        "dart-student-0.4m",
        "dart-generator-0.4m",
        "folds-0.4m",
        "tools-0.4m",
        "tools-0.2m",
        "verdicts-0.1m",
        *SUMS,
    ],
)
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


def test_what_nothing_foretells_is_read_and_not_learned() -> None:
    """The question, what a search brings and long numbers of the texts about agents; the rest of them is learned."""
    recipe = RECIPES["tools-0.2m"]
    policy = blank_policy(recipe.layout, proxy_tokenizer(recipe), seed=0, chat_format="think")
    seen = set()
    for row in islice(diet_rows(recipe, policy), 40):
        pieces: dict[float, str] = {0.0: "", 1.0: ""}
        for token, weight in zip(row.tokens.ids, row.tokens.weights, strict=True):
            pieces[weight] += policy.tokenizer.decode([token])
        learned = pieces[1.0].removesuffix("<|im_end|>")
        assert pieces[0.0].split("\n")[0].endswith("?")
        assert not any(word in learned for word in ("Observation", "?"))
        assert not any(character.isdigit() for character in learned)
        seen |= {word for word in ("Thought: ", "final_answer(", "First find") if word in learned}
        seen |= {word for word in ("Observation: ", " mod ") if word in pieces[0.0]}
    assert seen == {"Thought: ", "final_answer(", "First find", "Observation: ", " mod "}

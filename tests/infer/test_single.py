"""One call: limits, rewritten prompts, and routes that keep every answer in its place."""

import pytest

from fixtures_texts import TextSampler, asked, said
from stillroom.errors import UserError
from stillroom.infer.single import Route, Single, Transform
from stillroom.samplers.base import Prompt, SamplingParams


def echo(mark: str) -> TextSampler:
    return TextSampler(lambda prompt, number: f"{mark}{prompt.messages[0].content}{number}", id=mark)


def test_a_limit_of_ones_own() -> None:
    sampler = echo("a")
    Single(sampler, 7).sample([asked("q")], SamplingParams(max_new_tokens=90))
    Single(sampler).sample([asked("q")], SamplingParams(max_new_tokens=90))
    assert [params.max_new_tokens for params in sampler.params] == [7, 90]


def test_a_prompt_is_rewritten_before_it_is_asked() -> None:
    def shout(prompt: Prompt) -> Prompt:
        return prompt.model_copy(update={"messages": said(prompt.messages[0].content.upper())})

    found = Transform(echo("a"), shout, name="shout").sample([asked("q"), asked("r")], SamplingParams(n=2))
    assert [[r.text for r in row] for row in found] == [["aQ0", "aQ1"], ["aR0", "aR1"]]
    assert Transform(echo("a"), shout, name="shout").id == "shout/a"


def test_every_prompt_goes_to_the_sampler_that_the_rule_names() -> None:
    short, long = echo("s"), echo("l")
    route = Route({"short": short, "long": long}, lambda p: "long" if len(p.messages[0].content) > 2 else "short")
    found = route.sample([asked("abc"), asked("x"), asked("defg")], SamplingParams(n=2))
    assert [[r.text for r in row] for row in found] == [["labc0", "labc1"], ["sx0", "sx1"], ["ldefg0", "ldefg1"]]
    assert [row[0].meta for row in found] == [{"route": "long"}, {"route": "short"}, {"route": "long"}]
    assert [len(turn) for turn in (*short.turns, *long.turns)] == [1, 2]
    assert route.id == "route/short=s+long=l"


def test_a_sampler_that_nothing_goes_to_is_not_asked() -> None:
    short, long = echo("s"), echo("l")
    Route({"short": short, "long": long}, lambda prompt: "short").sample([asked("x")], SamplingParams())
    assert long.turns == []


def test_a_route_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="unknown route 'lnog'; did you mean long"):
        Route({"long": echo("l")}, lambda prompt: "lnog").sample([asked("x")], SamplingParams())

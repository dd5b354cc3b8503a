"""Local sampling: the same tokens as transformers, the same result in any batch, and draws that are what they claim."""

import re
from collections import Counter
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import SIX, qwen2_policy
from stillroom.errors import UserError
from stillroom.models.policy import Policy
from stillroom.samplers.base import Prompt, SamplingParams, StepStartBan
from stillroom.samplers.drawing import EDGE, Draw, draw_one, settle
from stillroom.samplers.drawing import draw as draw_unsettled
from stillroom.samplers.local import LocalSampler
from stillroom.types import Finish, Message, Response

LAYOUTS = pytest.mark.parametrize("policy", SIX)


def prompts(count: int = 6) -> list[Prompt]:
    """Unequal in length."""
    return [
        Prompt(messages=(Message(role="user", content="what is " + "1 + " * (3 * i % 7) + "2?"),), seed=i)
        for i in range(count)
    ]


def agree(left: Response, right: Response) -> bool:
    """Equal up to the first draw that rounding could have decided."""
    if left.near_ties or right.near_ties:
        return True
    return (left.text, left.token_ids, left.finish) == (right.text, right.token_ids, right.finish)


def counted(responses: list[list[Response]]) -> int:
    return sum(response.near_ties > 0 for found in responses for response in found)


# --- whole responses


@LAYOUTS
def test_greedy_is_what_transformers_generates(policy: Callable[[], Policy]) -> None:
    ours = policy()
    sampler = LocalSampler(ours)
    found = sampler.sample(prompts(), SamplingParams(temperature=0, max_new_tokens=24))
    assert counted(found) <= 1
    for prompt, (response,) in zip(prompts(), found, strict=True):
        ids = torch.tensor([sampler.prompt_ids(prompt)])
        with torch.no_grad():
            theirs = ours.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=24,
                eos_token_id=sorted(ours.stop_ids),
                pad_token_id=ours.pad_id,
            )[0, ids.shape[1] :]
        assert response.near_ties or response.token_ids == tuple(theirs.tolist())
        assert response.finish is (Finish.STOP if theirs[-1].item() in ours.stop_ids else Finish.LENGTH)
        assert response.usage.prompt_tokens == ids.shape[1]
        assert response.usage.completion_tokens == len(theirs)


@LAYOUTS
def test_the_batch_changes_nothing(policy: Callable[[], Policy]) -> None:
    params = SamplingParams(n=4, temperature=1.0, max_new_tokens=12)
    alone = LocalSampler(policy(), batch_rows=1).sample(prompts(), params)
    assert counted(alone) <= 2
    assert len({response.text for found in alone for response in found}) > 12
    for rows in (5, 128):
        together = LocalSampler(policy(), batch_rows=rows).sample(prompts(), params)
        backwards = LocalSampler(policy(), batch_rows=rows).sample(prompts()[::-1], params)[::-1]
        for one, two, three in zip(alone, together, backwards, strict=True):
            assert all(map(agree, one, two))
            assert all(map(agree, one, three))


def test_later_requests_go_on_where_earlier_ones_ended() -> None:
    sampler = LocalSampler(qwen2_policy())
    (prompt,) = prompts(1)
    at_once = sampler.sample([prompt], SamplingParams(n=5, max_new_tokens=12))[0]
    first = sampler.sample([prompt], SamplingParams(n=2, max_new_tokens=12))[0]
    rest = sampler.sample([prompt.model_copy(update={"first_index": 2})], SamplingParams(n=3, max_new_tokens=12))[0]
    assert all(map(agree, at_once, first + rest))
    assert [r.seed for r in at_once] == [r.seed for r in first + rest]
    assert len({r.seed for r in at_once}) == 5
    # A longer limit continues the same text.
    longer = sampler.sample([prompt], SamplingParams(n=2, max_new_tokens=24))[0]
    for short, long in zip(first, longer, strict=True):
        assert long.token_ids is not None
        assert short.near_ties or long.token_ids[:12] == short.token_ids


@LAYOUTS
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
def test_log_probabilities_are_those_of_the_policy(policy: Callable[[], Policy], temperature: float) -> None:
    ours = policy()
    sampler = LocalSampler(ours)
    params = SamplingParams(n=2, temperature=temperature, top_p=0.8, max_new_tokens=12)
    for prompt, found in zip(prompts(), sampler.sample(prompts(), params), strict=True):
        for response in found:
            assert response.token_ids is not None
            start = sampler.prompt_ids(prompt)
            with torch.no_grad():
                logits = ours.model(torch.tensor([start + list(response.token_ids)])).logits[0, len(start) - 1 : -1]
            # Before top-p; a greedy choice has the probability that the model gives it.
            expected = (logits.double() / (temperature or 1.0)).log_softmax(-1)
            expected = expected[range(len(response.token_ids)), list(response.token_ids)]
            assert response.logp_policy == pytest.approx(expected.tolist(), abs=1e-4)


def test_ids_text_and_fingerprint_belong_together() -> None:
    policy = qwen2_policy()
    for found in LocalSampler(policy).sample(prompts(), SamplingParams(n=8, max_new_tokens=40)):
        for response in found:
            assert response.tokenizer == policy.fingerprint
            assert response.token_ids is not None
            ended = response.token_ids[-1] in policy.stop_ids
            assert response.finish is (Finish.STOP if ended else Finish.LENGTH)
            assert response.text == policy.tokenizer.decode(response.token_ids[: -1 if ended else None])
            assert not policy.stop_ids & set(response.token_ids[:-1])
            assert len(response.token_ids) == 40 or ended


@pytest.mark.parametrize(
    "params", [SamplingParams(temperature=0, max_new_tokens=30), SamplingParams(max_new_tokens=30)]
)
def test_a_stop_string_ends_the_text_before_it(params: SamplingParams) -> None:
    sampler = LocalSampler(qwen2_policy())
    (whole,) = sampler.sample(prompts(1), params)[0]
    # As long as can be: in characters that take several tokens each, and cut inside tokens.
    for start, length in ((3, 1), (5, 4), (4, 12), (1, 25)):
        stop = whole.text[start : start + length]
        (cut,) = sampler.sample(prompts(1), params.model_copy(update={"stop": ("never in it", stop)}))[0]
        assert cut.finish is Finish.STOP
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert whole.token_ids is not None
        assert cut.token_ids is not None
        assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
        # Sampling ended as soon as the string was complete.
        assert stop not in sampler.policy.tokenizer.decode(cut.token_ids[:-1])


def test_a_stop_string_of_many_byte_characters_is_found() -> None:
    policy = qwen2_policy()
    sampler = LocalSampler(policy)
    stop = "答案答案答案"
    assert len(policy.tokenizer(stop)["input_ids"]) == len(stop.encode())
    wanted = iter([*policy.tokenizer(f"x{stop}yz")["input_ids"], *[5] * 99])

    def scripted(hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([next(wanted)]), len(policy.tokenizer)).float() * 50

    forced = Policy(**{**vars(policy), "model": _WithHead(policy.model, scripted)})
    (found,) = LocalSampler(forced).sample(prompts(1), SamplingParams(max_new_tokens=40, temperature=0, stop=(stop,)))[
        0
    ]
    assert (found.text, found.finish) == ("x", Finish.STOP)
    assert len(found.token_ids or ()) == 1 + len(stop.encode())
    assert sampler.id.startswith("local:")


class _WithHead:
    """A model whose choices are written down beforehand."""

    def __init__(self, model: Any, head: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.config, self.device, self.base_model, self._head = copy(model.config), model.device, model.base_model, head
        # Of no layout whose operations are counted: a written choice is no product.
        self.config.model_type = "scripted"

    def get_output_embeddings(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return self._head


def test_bans_end_at_the_first_blank_line_of_each_row() -> None:
    """64 rows of different lengths, by a model that likes nothing better than the forbidden words."""
    policy = qwen2_policy()
    names = policy.tokenizer.convert_ids_to_tokens(range(len(policy.tokenizer)))
    liked = torch.zeros(len(names))
    for name, logit in {"the": 10, "Ġthink": 10, "Ċ": 10.5, "Ġ": 7, "so": 8, "th": 8, "is": 8, "e": 8}.items():
        liked[names.index(name)] = logit
    model = policy.model.get_output_embeddings()
    eager = Policy(**{**vars(policy), "model": _WithHead(policy.model, lambda hidden: 0.1 * model(hidden) + liked)})
    asked = [
        Prompt(messages=(Message(role="user", content="what is " + "1 + " * (i % 23) + "2?"),), seed=i)
        for i in range(64)
    ]
    assert len({len(LocalSampler(eager).prompt_ids(prompt)) for prompt in asked}) == 23
    params = SamplingParams(max_new_tokens=40, constraint=StepStartBan(words=("the", "THINK")))

    def begins(step: str) -> bool:
        return re.match(r"\s*(the|think)\b", step, re.IGNORECASE) is not None

    def first_steps(responses: list[list[Response]]) -> list[str]:
        return [re.split(r"(?<=\S)\n\n", response.text)[0] for (response,) in responses]

    found = LocalSampler(eager, batch_rows=64).sample(asked, params)
    assert not any(map(begins, first_steps(found)))
    # It would have begun so often, and does as soon as it may.
    free = LocalSampler(eager, batch_rows=64).sample(asked, params.model_copy(update={"constraint": None}))
    assert sum(map(begins, first_steps(free))) > 20
    later = [re.split(r"(?<=\S)\n\n", response.text)[1:] for (response,) in found]
    assert sum(any(map(begins, steps)) for steps in later) > 20
    # Each row in its own time: blank lines before any text, and steps of different lengths.
    assert any(response.text.startswith("\n\n") for (response,) in found)
    assert len({len(step) for step in first_steps(found)}) > 8
    assert counted(found) <= 8
    again = LocalSampler(eager, batch_rows=7).sample(asked[:21], params)
    assert all(agree(one, two) for (one,), (two,) in zip(found, again, strict=False))


@LAYOUTS
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_ban_moves_the_choice_and_not_the_log_probability(policy: Callable[[], Policy], temperature: float) -> None:
    ours = policy()
    params = SamplingParams(temperature=temperature, max_new_tokens=1, raw_logits=True)
    for prompt in prompts(3):
        sampler = LocalSampler(ours)
        with torch.no_grad():
            logits = ours.model(torch.tensor([sampler.prompt_ids(prompt)])).logits[0, -1]
        order = logits.argsort(descending=True).tolist()
        likeliest = next(token for token in order if ours.tokenizer.decode([token]).strip() and token < len(order))
        ban = StepStartBan(words=(ours.tokenizer.decode([likeliest]).strip(),))
        ((response,),) = sampler.sample([prompt], params.model_copy(update={"constraint": ban}))
        assert response.token_ids is not None
        (chosen,) = response.token_ids
        assert chosen != likeliest or likeliest in ours.stop_ids
        assert response.raw_logits == pytest.approx([float(logits[chosen])], abs=1e-4)
        expected = (logits.double() / (temperature or 1.0)).log_softmax(-1)[chosen]
        assert response.logp_policy == pytest.approx([float(expected)], abs=1e-4)


def test_raw_logits_are_given_only_when_asked_for() -> None:
    sampler = LocalSampler(qwen2_policy())
    params = SamplingParams(n=2, temperature=0.5, max_new_tokens=8, raw_logits=True)
    for response in sampler.sample(prompts(1), params)[0]:
        assert response.token_ids is not None
        start = sampler.prompt_ids(prompts(1)[0])
        with torch.no_grad():
            logits = sampler.policy.model(torch.tensor([start + list(response.token_ids)])).logits[0]
        expected = logits[len(start) - 1 : -1][range(len(response.token_ids)), list(response.token_ids)]
        assert response.raw_logits == pytest.approx(expected.tolist(), abs=1e-4)
    (plain,) = sampler.sample(prompts(1), SamplingParams(max_new_tokens=2))[0]
    assert plain.raw_logits is None


def test_a_turn_ends_where_nothing_else_may_be_drawn() -> None:
    policy = qwen2_policy()
    every = {text.strip() for i in range(len(policy.tokenizer)) if (text := policy.tokenizer.decode([i])).strip()}
    params = SamplingParams(max_new_tokens=200, constraint=StepStartBan(words=tuple(sorted(every))))
    for (response,) in LocalSampler(policy).sample(prompts(), params):
        # White space, and bytes that are no character yet, may come before it.
        assert response.finish is Finish.STOP
        assert not response.text.replace("\ufffd", "").strip()


@LAYOUTS
def test_a_prefix_is_continued_and_not_repeated(policy: Callable[[], Policy]) -> None:
    sampler = LocalSampler(policy())
    params = SamplingParams(temperature=0, max_new_tokens=16)
    (whole,) = sampler.sample(prompts(1), params)[0]
    assert whole.token_ids is not None
    prefix = "12 + "
    (prompt,) = prompts(1)
    begun = prompt.model_copy(update={"prefix": prefix})
    assert sampler.prompt_ids(begun) == [
        *sampler.prompt_ids(prompt),
        *sampler.policy.tokenizer(prefix, add_special_tokens=False)["input_ids"],
    ]
    (rest,) = sampler.sample([begun], params)[0]
    assert not rest.text.startswith(prefix)
    with torch.no_grad():
        logits = sampler.policy.model(torch.tensor([sampler.prompt_ids(begun)])).logits[0, -1]
    assert rest.token_ids is not None
    assert rest.token_ids[0] == int(logits.argmax())


def test_a_prompt_that_cannot_fit_is_refused_before_anything_is_sampled() -> None:
    sampler = LocalSampler(qwen2_policy())
    prompt = Prompt(messages=(Message(role="user", content="1 + " * 60),))
    left = 256 - len(sampler.prompt_ids(prompt))
    assert 0 < left < 64
    sampler.sample([prompt], SamplingParams(max_new_tokens=left))
    with pytest.raises(UserError, match=r"257 tokens .* positions for 256"):
        sampler.sample([prompt], SamplingParams(max_new_tokens=left + 1))


# --- single draws


def draw(*given: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, log-probabilities, near ties."""
    drawn = draw_unsettled(*given)
    return drawn.tokens_B, *settle(drawn)


def inverse_cdf(logits: np.ndarray, uniform: float, temperature: float, top_p: float) -> tuple[int, float]:
    """In float64 and one token at a time: the token, and how far the draw lies from the nearest edge that counts."""
    scaled = logits.astype(np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    kept, mass, distance = np.zeros(len(probs), bool), 0.0, 1.0
    for token in sorted(range(len(probs)), key=lambda t: -probs[t]):
        if abs(mass - top_p) < distance and top_p < 1 and probs[token] > EDGE:
            distance = abs(mass - top_p)
        if mass >= top_p:
            break
        kept[token] = True
        mass += probs[token]
    nucleus = np.where(kept, probs, 0.0)
    edges = np.cumsum(nucleus)
    target = uniform * edges[-1]
    token = int(np.nonzero(edges > target)[0][0]) if (edges > target).any() else int(np.nonzero(kept)[0][-1])
    return token, min(distance, float(np.abs(edges - target).min()), target)


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12, unique_by=lambda value: round(value, 2)),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_a_draw_inverts_the_cumulative_distribution(
    logits: list[float], uniform: float, temperature: float, top_p: float
) -> None:
    array = np.array(logits, dtype=np.float32)
    expected, distance = inverse_cdf(array, uniform, temperature, top_p)
    tokens, logps, ties = draw(
        torch.from_numpy(array)[None],
        torch.tensor([uniform], dtype=torch.float64),
        SamplingParams(temperature=temperature, top_p=top_p),
    )
    if distance > 2 * EDGE:
        assert (int(tokens[0]), bool(ties[0])) == (expected, False)
    elif int(tokens[0]) != expected:
        assert ties[0]
    scaled = array.astype(np.float64) / temperature
    log_total = scaled.max() + np.log(np.exp(scaled - scaled.max()).sum())
    assert float(logps[0]) == pytest.approx(scaled[int(tokens[0])] - log_total, abs=1e-5)


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_p=st.sampled_from([0.7, 1.0]),
    ban=st.booleans(),
)
def test_a_single_row_is_drawn_alike(
    logits: list[float], uniform: float, temperature: float, top_p: float, ban: bool
) -> None:
    params = SamplingParams(temperature=temperature, top_p=top_p)
    logits_V = np.array(logits, np.float32)
    banned_V = np.arange(len(logits)) == len(logits) - 1 if ban and len(logits) > 2 else None
    banned_BV = None if banned_V is None else torch.from_numpy(banned_V)[None]
    token, logp, tie = draw(
        torch.from_numpy(logits_V)[None], torch.tensor([uniform], dtype=torch.float64), params, banned_BV
    )
    one = draw_one(logits_V, uniform, params, banned_V)
    one_logp, one_tie = settle(Draw(*(torch.tensor([value]) for value in one)))
    assert banned_V is None or not banned_V[one.token]
    if not (tie or one_tie):
        assert one.token == int(token)
    if one.token == int(token):
        assert float(one_logp) == pytest.approx(float(logp), abs=1e-5)


def test_frequencies_are_the_probabilities() -> None:
    probs = np.array([0.05, 0.4, 0.0, 0.25, 0.2, 0.1])
    logits = torch.from_numpy(np.log(probs, where=probs > 0, out=np.full(6, -np.inf))).float()
    draws = 50_000
    uniforms = torch.from_numpy(np.random.default_rng(0).random(draws))

    def chi_square(expected: np.ndarray, params: SamplingParams) -> float:
        tokens, _, ties = draw(logits.expand(draws, -1), uniforms, params)
        assert int(ties.sum()) < 20
        seen = np.bincount(tokens.numpy(), minlength=6)
        assert not seen[expected == 0].any()
        expected = expected[expected > 0]
        return float((((seen[seen > 0] - draws * expected) ** 2) / (draws * expected)).sum())

    # The 99.9 % points of chi-square with 4 and with 2 degrees of freedom.
    assert chi_square(probs, SamplingParams()) < 18.5
    # 0.4 + 0.25 = 0.65 < 0.7 <= 0.85: the nucleus is the three likeliest.
    nucleus = np.array([0, 0.4, 0, 0.25, 0.2, 0]) / 0.85
    assert chi_square(nucleus, SamplingParams(top_p=0.7)) < 13.9


def test_what_is_banned_leaves_its_probability_to_the_rest() -> None:
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.08, 0.02]])).double().float()
    banned = torch.tensor([[True, False, False, False]])

    def drawn(uniform: float, params: SamplingParams) -> tuple[int, float]:
        tokens, logps, _ = draw(logits, torch.tensor([uniform], dtype=torch.float64), params, banned)
        return int(tokens[0]), float(logps[0])

    # 0.3 / 0.4 = 0.75, then 0.95; top-p is taken of what is left, and the log-probability of the whole.
    found = [drawn(u, SamplingParams()) for u in (0.0, 0.74, 0.76, 0.94, 0.96)]
    assert [token for token, _ in found] == [1, 1, 2, 2, 3]
    assert found[0][1] == pytest.approx(np.log(0.3), abs=1e-6)
    assert [drawn(u, SamplingParams(top_p=0.7))[0] for u in (0.1, 0.99)] == [1, 1]
    assert drawn(0.0, SamplingParams(temperature=0)) == (1, pytest.approx(np.log(0.3), abs=1e-6))
    # Even where next to nothing is left.
    logits[0, 1:] -= 60
    assert [drawn(u, SamplingParams())[0] for u in (0.0, 0.76, 0.96)] == [1, 2, 3]


def test_close_calls_are_counted() -> None:
    level = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))

    def tie(uniform: float, params: SamplingParams) -> bool:
        return bool(draw(level, torch.tensor([uniform], dtype=torch.float64), params)[2][0])

    assert [tie(u, SamplingParams()) for u in (0.3, 0.500001, 0.499999, 0.6, 0.75)] == [False, True, True, False, True]
    # Whether the third token is in the nucleus hangs on rounding.
    assert tie(0.3, SamplingParams(top_p=0.75))
    assert not tie(0.3, SamplingParams(top_p=0.8))
    greedy = SamplingParams(temperature=0)
    for gap, expected in ((1e-3, False), (1e-5, True)):
        logits = torch.tensor([[1.0, 1.0 + gap, 0.0]])
        token, _, ties = draw(logits, torch.zeros(1, dtype=torch.float64), greedy)
        assert (int(token[0]), bool(ties[0])) == (1, expected)


def test_seeds_do_not_repeat_over_prompts_and_indices() -> None:
    found = LocalSampler(qwen2_policy()).sample(prompts(), SamplingParams(n=3, max_new_tokens=1))
    assert max(Counter(r.seed for responses in found for r in responses).values()) == 1

"""Voting: several answers, and the one that most of them agree on (self-consistency).

Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
https://arxiv.org/abs/2203.11171.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillroom.errors import UserError
from stillroom.infer.account import calls_of, spent
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.tasks.answers import extract
from stillroom.tasks.exact import canonical
from stillroom.types import Finish, Response

Weigh = Callable[[Prompt, Response], float]
"""What a response's vote counts: a verifier's or a reward model's score, `likelihood`; not above 0: nothing."""


def final_answer(text: str) -> str | None:
    """What a response votes for: its final answer without space and case; None when it gives none."""
    found = extract(text)
    return canonical(found) or None if found is not None else None


def likelihood(prompt: Prompt, response: Response) -> float:
    """Mean probability per token, ``exp(mean log p)``, as the sampler drew it; 0 where it does not say."""
    logps = response.logp_policy
    return math.exp(sum(logps) / len(logps)) if logps else 0.0


@dataclass(frozen=True)
class Vote:
    """Draws `n` responses and returns the one whose answer gets the most votes; of equals, the one seen first.

    Responses that failed, were cut off or give no answer do not vote; when none votes, the first response is returned.
    The response that first gave the winning answer is returned as it is, with the usage and the calls of all; `meta`
    holds the votes.

    Args:
        n: votes per response.
        weigh: None: every vote counts the same.
        temperature: of the candidates; None: the caller's.
        answer: what a text votes for.

    `sample` raises UserError when the candidates would be greedy, and so all the same.
    """

    sampler: Sampler
    n: int
    weigh: Weigh | None = None
    temperature: float | None = None
    answer: Callable[[str], str | None] = final_answer

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"n={self.n} votes decide nothing; give n=1 or more")

    @property
    def id(self) -> str:
        return f"vote-{self.n}/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        temperature = params.temperature if self.temperature is None else self.temperature
        if temperature == 0 and self.n > 1:
            raise UserError(f"{self.n} greedy answers are {self.n} times the same; vote at a temperature above 0")
        # Response j of a prompt is elected from candidates j n to (j + 1) n - 1, however it is asked for.
        asked = [prompt.model_copy(update={"first_index": prompt.first_index * self.n}) for prompt in prompts]
        drawn = params.model_copy(update={"n": params.n * self.n, "temperature": temperature})
        return [
            [self._elect(prompt, found[start : start + self.n]) for start in range(0, len(found), self.n)]
            for prompt, found in zip(prompts, self.sampler.sample(asked, drawn), strict=True)
        ]

    def _elect(self, prompt: Prompt, candidates: Sequence[Response]) -> Response:
        votes: dict[str, float] = {}
        first: dict[str, Response] = {}
        for response in candidates:
            answer = self.answer(response.text) if response.finish is Finish.STOP else None
            if answer is None:
                continue
            weight = 1.0 if self.weigh is None else self.weigh(prompt, response)
            first.setdefault(answer, response)
            votes[answer] = votes.get(answer, 0.0) + (weight if weight > 0 else 0.0)
        # The first of the largest: dictionaries keep the order in which answers were seen.
        chosen = first[max(votes, key=lambda answer: votes[answer])] if votes else candidates[0]
        return chosen.model_copy(
            update={
                "usage": spent([response.usage for response in candidates]),
                "calls": tuple(call for response in candidates for call in calls_of(response)),
                "near_ties": sum(response.near_ties for response in candidates),
                "meta": {**chosen.meta, "votes": votes},
            }
        )

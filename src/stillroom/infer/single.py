"""The strategies of one call: as it is, after a rewrite of the prompt, or by one of several samplers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stillroom.errors import unknown_name
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.types import Response


@dataclass(frozen=True)
class Single:
    """One call, with a limit of its own: the baseline of every other strategy.

    Args:
        max_new_tokens: instead of the caller's; None: the caller's.
    """

    sampler: Sampler
    max_new_tokens: int | None = None

    @property
    def id(self) -> str:
        return f"single/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        limit = self.max_new_tokens or params.max_new_tokens
        return self.sampler.sample(prompts, params.model_copy(update={"max_new_tokens": limit}))


@dataclass(frozen=True)
class Transform:
    """A function rewrites every prompt before it is asked: examples, retrieved context, shortened premises.

    Args:
        rewrite: must leave `problem`, `seed` and `first_index` as they are, or answers lose their place.
    """

    sampler: Sampler
    rewrite: Callable[[Prompt], Prompt]
    name: str = "transform"

    @property
    def id(self) -> str:
        return f"{self.name}/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        return self.sampler.sample([self.rewrite(prompt) for prompt in prompts], params)


@dataclass(frozen=True)
class Route:
    """A rule chooses, for every prompt, the sampler that answers it: thinking or not, small model or large one.

    Args:
        samplers: name → sampler.
        rule: the name of the sampler for a prompt; it must not look at the problem's reference.

    `sample` raises UserError when the rule gives a name that is none of them.
    """

    samplers: Mapping[str, Sampler]
    rule: Callable[[Prompt], str]

    @property
    def id(self) -> str:
        return f"route/{'+'.join(f'{name}={sampler.id}' for name, sampler in self.samplers.items())}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        chosen = [self.rule(prompt) for prompt in prompts]
        for name in chosen:
            if name not in self.samplers:
                raise unknown_name("route", name, self.samplers)
        answers: list[list[Response]] = [[] for _ in prompts]
        for name, sampler in self.samplers.items():
            mine = [at for at, choice in enumerate(chosen) if choice == name]
            if not mine:
                continue
            for at, found in zip(mine, sampler.sample([prompts[i] for i in mine], params), strict=True):
                answers[at] = [r.model_copy(update={"meta": {**r.meta, "route": name}}) for r in found]
        return answers

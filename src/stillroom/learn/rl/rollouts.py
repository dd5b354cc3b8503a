"""From problems to rollouts: which problems a step asks, how it asks them, and what the policy wrote.

The tokens that were sampled are the tokens that are trained: the ids of a prompt are the sampler's own encoding, those
of a response are what was drawn, its end token included. Nothing is decoded and encoded again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stillroom.chat import ChatFormat, ask
from stillroom.errors import UserError
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.samplers.pictures import pictures_of
from stillroom.seeds import derive_rng, derive_seed
from stillroom.types import Message, Problem, Response


class Asked(NamedTuple):
    """How a problem is put: a conversation, and how the assistant's turn begins."""

    messages: tuple[Message, ...]
    prefix: str = ""


Ask = Callable[[Problem], Asked]


@dataclass(frozen=True)
class Variant:
    """One way to ask a group's problem.

    Args:
        ask: what is sent to the sampler.
        count: rollouts of the group that are asked this way.
        name: in metrics and on rollouts.
        taught: under which prompt the response is trained; None: the one it was asked under. Log-probabilities of the
            sampling policy are then computed anew under that prompt.
    """

    ask: Ask
    count: int
    name: str = ""
    taught: Ask | None = None


def plainly(chat_format: ChatFormat, count: int, system: str | None = None) -> Variant:
    """Ask a problem in a chat format, `count` times."""
    return Variant(lambda problem: Asked(ask(problem, chat_format, system)), count)


class Plan(NamedTuple):
    """What a step asks: one group per problem, in order; a page may put others in their place."""

    step: int
    """From 0."""
    problems: tuple[Problem, ...]


def plan_step(problems: Sequence[Problem], per_step: int, step: int, *, seed: int) -> Plan:
    """The problems of a step: every pass over them is a permutation of its own, and steps go on where the last ended.

    Depends on the arguments alone, so that a resumed run asks what an uninterrupted one would have asked.
    """
    if not problems:
        raise UserError("there is no problem to learn from: give at least one")
    chosen: list[Problem] = []
    for at in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(at, len(problems))
        if not chosen or place == 0:
            order = list(range(len(problems)))
            derive_rng("rl-plan", seed, epoch).shuffle(order)
        chosen.append(problems[order[place]])
    return Plan(step, tuple(chosen))


@dataclass(frozen=True)
class Rollout:
    """One response of the policy in training, with all that its update needs."""

    problem: Problem
    group: int
    """Number of its group within the step."""
    variant: str
    index: int
    """Its number within the group, over all variants."""
    prompt: Prompt
    """As it was sent."""
    prompt_ids: tuple[int, ...]
    """Tokens before the response in training."""
    response: Response
    """With `token_ids` and `logp_policy`."""
    version: int
    """Optimiser steps that the policy had taken when it wrote this."""
    as_asked: bool = True
    """Whether it is trained under the prompt that it was asked under, so that `logp_policy` holds."""
    pictures: tuple[str, ...] = ()
    """Of the prompt in training: words of scenes."""

    @property
    def id(self) -> str:
        """For messages: problem, variant and number."""
        return f"{self.problem.id}{'/' if self.variant else ''}{self.variant}#{self.index}"

    @property
    def ids(self) -> tuple[int, ...]:
        """The sampled tokens."""
        assert self.response.token_ids is not None
        return self.response.token_ids


class TokenSampler(Protocol):
    """A sampler that says which tokens it read and drew: `LocalSampler` over the policy in training."""

    @property
    def id(self) -> str: ...

    def prompt_ids(self, prompt: Prompt) -> list[int]: ...

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]: ...


def roll_out(
    sampler: TokenSampler,
    plan: Plan,
    variants: Sequence[Variant],
    params: SamplingParams,
    *,
    seed: int,
    version: int,
) -> list[Rollout]:
    """The rollouts of a step, group by group.

    Args:
        params: `n` is taken from the variants.
        seed: with step, group and variant it decides every draw.
        version: of the policy.

    Raises:
        UserError: when the sampler does not report the tokens it drew with their log-probabilities.
    """
    if not hasattr(sampler, "prompt_ids"):
        raise _no_tokens(sampler.id)
    groups: list[list[Rollout]] = [[] for _ in plan.problems]
    for variant in variants:
        asked = [variant.ask(problem) for problem in plan.problems]
        prompts = [
            Prompt(
                messages=said.messages,
                prefix=said.prefix,
                problem=problem,
                seed=derive_seed("rollout", seed, plan.step, number, variant.name),
            )
            for number, (problem, said) in enumerate(zip(plan.problems, asked, strict=True))
        ]
        answers = sampler.sample(prompts, params.model_copy(update={"n": variant.count}))
        for number, (prompt, responses) in enumerate(zip(prompts, answers, strict=True)):
            group = groups[number]
            assert prompt.problem is not None
            trained = prompt
            if variant.taught is not None:
                said = variant.taught(prompt.problem)
                trained = prompt.model_copy(update={"messages": said.messages, "prefix": said.prefix})
            ids = tuple(sampler.prompt_ids(trained))
            for response in responses:
                if not response.token_ids or response.logp_policy is None:
                    raise _no_tokens(sampler.id)
                group.append(
                    Rollout(
                        problem=prompt.problem,
                        group=number,
                        variant=variant.name,
                        index=len(group),
                        prompt=prompt,
                        prompt_ids=ids,
                        response=response,
                        version=version,
                        as_asked=variant.taught is None,
                        pictures=pictures_of(trained.messages),
                    )
                )
    return [rollout for group in groups for rollout in group]


def _no_tokens(sampler: str) -> UserError:
    return UserError(
        f"sampler {sampler!r} does not report the tokens it draws with their log-probabilities; rollouts need a "
        "LocalSampler over the policy in training"
    )

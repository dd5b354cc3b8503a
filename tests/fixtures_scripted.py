"""A task and a sampler whose every outcome is written down beforehand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stillroom.samplers.base import Prompt, SamplingParams, response_seed
from stillroom.tasks.base import Task, question
from stillroom.types import Finish, Problem, Response, Usage, Verdict


def make_problems(count: int) -> list[Problem]:
    return [
        Problem(id=f"p{i}", task="scripted", messages=question(f"question {i}?"), reference="right", level=1 + i % 2)
        for i in range(count)
    ]


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    if text.startswith("?"):
        return Verdict(correct=None, reason="verifier failed")
    right = text.startswith("right")
    return Verdict(correct=right, score=float(right), answer=text or None, reason="equal" if right else "different")


TASK = Task(
    name="scripted",
    summary="",
    problems=lambda split, n, seed: make_problems(n or 0),
    verify=verify,
    chat_format="think",
)


@dataclass
class ScriptedSampler:
    """Response k of a problem is the k-th word of its script, over and over.

    ``r`` right, each in words of its own; ``R`` right, always in the same words; ``w`` wrong; ``e`` a failed request;
    ``?`` an answer that the verifier cannot judge; ``s`` right, with a lone surrogate.
    """

    script: Mapping[str, str] | Callable[[str, int], str]
    drawn: list[tuple[str, int]] = field(default_factory=list)
    """(problem, index) of every response asked for, in order."""
    id: str = "scripted"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        return [[self._one(prompt, offset) for offset in range(params.n)] for prompt in prompts]

    def outcome(self, problem_id: str, index: int) -> str:
        if callable(self.script):
            return self.script(problem_id, index)
        return self.script[problem_id][index % len(self.script[problem_id])]

    def _one(self, prompt: Prompt, offset: int) -> Response:
        assert prompt.problem is not None
        index = prompt.first_index + offset
        self.drawn.append((prompt.problem.id, index))
        outcome = self.outcome(prompt.problem.id, index)
        seed = response_seed(prompt, offset)
        if outcome == "e":
            return Response(text="", finish=Finish.ERROR, error="HTTP 500", seed=seed, usage=Usage(calls=1))
        words = {"r": f"right {index}", "R": "right", "w": f"wrong {index}", "?": "?", "s": "right \ud800"}
        usage = Usage(prompt_tokens=3, completion_tokens=10 + index, calls=1)
        return Response(text=words[outcome], finish=Finish.STOP, seed=seed, usage=usage)

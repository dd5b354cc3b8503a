"""Agents: a model thinks, acts in Python and reads what came of it, in turns, until it gives a final answer.

Kang et al., "Distilling LLM Agent into Small Models with Retrieval and Code Tools", 2025, describe the loop and two
additions. The *first-thought prefix* opens a teacher's first turn with the first paragraph of its own answer in words,
which it then continues. *Self-consistent actions* draw several candidates per step, run each on a copy of the
interpreter, drop those that fail and take one of the largest group that came to the same result.

`play` is an iterator over episodes that end; all others go on together, one batch a step. What a model writes is
hostile: it runs in a `Sandbox`, and every fault is an observation. An episode without a final answer has no answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Literal, NamedTuple

from pydantic import JsonValue

from stillroom.chat import ChatFormat
from stillroom.errors import UserError
from stillroom.infer.account import calls_of, spent
from stillroom.samplers.base import Prompt, Sampler, SamplingParams, require_plain, response_seed
from stillroom.seeds import derive_rng, derive_seed
from stillroom.synth.sandbox import MODULES, Limits, Outcome, Sandbox
from stillroom.synth.tools import Toolbox
from stillroom.types import Call, Finish, Message, Noun, Problem, Response, Usage

FAILURES = (Finish.ERROR, Finish.TIMEOUT, Finish.FILTERED)


class ActionLayout(Noun):
    """How a turn is written. All strings are literal text."""

    thought: str = "Thought: "
    code_open: str = "<code>"
    code_close: str = "</code>"
    """A step ends with it; it is a stop string."""
    observation: str = "Observation: "
    """What a user turn with an observation begins with."""
    stop: tuple[str, ...] = ("Observation:", "Calling tools:")
    """Further strings that end a step: a model must not write its own observations."""


_LAYOUT, _LIMITS = ActionLayout(), Limits()


@dataclass(frozen=True)
class Agent:
    """How episodes go.

    Args:
        toolbox: functions that actions may call besides ``final_answer``.
        system: the system prompt that is sent; empty: none.
        max_steps: turns after which an episode ends without an answer (paper: 5).
        candidates: actions per step; above 1 the most consistent one is chosen (paper: 8).
        temperature, top_p: of actions, instead of the caller's (paper, with candidates: 0.4 and 0.8).
        observation_characters: longer observations are cut.
        setup: code that every episode's interpreter runs first, without a turn for it: a problem's data as variables.
    """

    toolbox: Toolbox = field(default_factory=Toolbox)
    layout: ActionLayout = _LAYOUT
    system: str = ""
    max_steps: int = 5
    candidates: int = 1
    temperature: float | None = None
    top_p: float | None = None
    observation_characters: int = 1000
    limits: Limits = _LIMITS
    modules: tuple[str, ...] = MODULES
    setup: Callable[[Problem], str] | None = None

    def sandbox(self) -> Sandbox:
        """A sandbox for its episodes; raises UserError where model-written code cannot be isolated."""
        return Sandbox(self.limits, names=list(self.toolbox.tools), tool=self.toolbox, modules=self.modules)

    def params(self, given: SamplingParams) -> SamplingParams:
        """How a step is drawn."""
        changed = {"n": self.candidates, "stop": (self.layout.code_close, *self.layout.stop, *given.stop)}
        own = {"temperature": self.temperature, "top_p": self.top_p}
        return given.model_copy(update=changed | {name: value for name, value in own.items() if value is not None})


class Ended(StrEnum):
    """Why an episode ended."""

    FINAL = "final"
    """A final answer was given."""
    MAX_STEPS = "max-steps"
    CONTEXT = "context"
    """The conversation no longer fits the model."""
    FAILED = "failed"
    """The sampler failed."""


class Step(Noun):
    """One turn and what came of it."""

    text: str
    """The whole turn, with the marks of its code."""
    code: str | None
    """None: a parse error."""
    observation: str
    """Empty when the turn ended the episode."""
    error: Literal["parse", "execution"] | None = None
    candidates: int = 1
    valid: int = 1
    """Candidates that parsed and ran."""
    agreeing: int = 1
    """Candidates whose result was the chosen one's."""
    prefix: int = 0
    """Characters of `text` that were given and continued."""


class Episode(Noun):
    """What happened from the question to the end."""

    asked: tuple[Message, ...]
    """The messages of the first step."""
    steps: tuple[Step, ...]
    answer: str | None
    ended: Ended
    usage: Usage
    """Of all candidates, chosen or not."""
    calls: tuple[Call, ...] = ()
    near_ties: int = 0
    error: str | None = None


class Action(NamedTuple):
    """What a turn says to do; `reason` says why there is no code."""

    code: str | None
    reason: str = ""


def parse_action(text: str, layout: ActionLayout, *, truncated: bool = False) -> Action:
    """The code of a turn. Total: every string is an action or a parse error that the model is told.

    Args:
        text: without or with the closing mark, which as a stop string is no part of a response.
        truncated: the turn was cut off; without its closing mark it holds half a thought.
    """
    begin = text.find(layout.code_open)
    if begin < 0:
        return Action(None, f"there is no code between {layout.code_open} and {layout.code_close}")
    begin += len(layout.code_open)
    end = text.find(layout.code_close, begin)
    if end < 0 and truncated:
        return Action(None, f"the step was cut off before {layout.code_close}")
    code = text[begin : end if end >= 0 else None].strip()
    return Action(code) if code else Action(None, "the code is empty")


def choose(outcomes: Sequence[Outcome | None]) -> tuple[int, int]:
    """Which candidate acts, and how many came to its result.

    Failures are dropped and the rest grouped by what was printed, the value, and the final answer if there is one; the
    first of the largest group is taken. Groups of size one: the first survivor. No survivor: candidate 0.

    Args:
        outcomes: per candidate; None when it did not parse.
    """
    groups: dict[tuple[str, str | None, bool, str | None], list[int]] = {}
    for at, outcome in enumerate(outcomes):
        if outcome is not None and outcome.ok:
            key = (outcome.output, outcome.value, outcome.final is not None, outcome.final)
            groups.setdefault(key, []).append(at)
    if not groups:
        return 0, 1
    best = max(groups.values(), key=len)  # the first of equals
    return best[0], len(best)


def observe(outcome: Outcome, most: int) -> str:
    """What a model is shown of an action: what was printed and the value, or the error, cut to `most` characters."""
    shown = outcome.output.rstrip("\n")
    last = f"Error: {outcome.error}" if outcome.error is not None else outcome.value
    text = "\n".join(part for part in (shown, last) if part) or "(no output)"
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


@dataclass
class _Row:
    """An episode under way."""

    prompt: Prompt
    state: str
    seed: int
    first_thought: str
    messages: tuple[Message, ...]
    steps: list[Step] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    answer: str | None = None

    def end(self, ended: Ended, asked: tuple[Message, ...], error: str | None = None) -> Episode:
        return Episode(
            asked=asked,
            steps=tuple(self.steps),
            answer=self.answer,
            ended=ended,
            usage=spent([response.usage for response in self.responses]) if self.responses else Usage(),
            calls=tuple(call for response in self.responses for call in calls_of(response)),
            near_ties=sum(response.near_ties for response in self.responses),
            error=error,
        )


def play(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    params: SamplingParams,
    agent: Agent,
    box: Sandbox,
    *,
    first_thoughts: Sequence[str] = (),
) -> Iterator[tuple[int, Episode]]:
    """Play an episode for every prompt; yields its number and the episode as soon as it ends.

    Args:
        params: of each step; `n` does not matter here (`Agent.candidates` does).
        box: made by `agent.sandbox()`.
        first_thoughts: per prompt, what the first turn opens with, to be continued; empty: none.

    Raises:
        UserError: not even the first step fits the model; a setup that fails.
    """
    drawn = agent.params(params)
    head = (Message(role="system", content=agent.system),) if agent.system else ()
    thoughts = first_thoughts or [""] * len(prompts)
    rows = {
        number: _Row(prompt, f"{number}/{prompt.seed}", prompt.seed, thought, (*head, *prompt.messages))
        for number, (prompt, thought) in enumerate(zip(prompts, thoughts, strict=True))
    }
    asked = {number: row.messages for number, row in rows.items()}
    for row in rows.values():
        if agent.setup is not None and row.prompt.problem is not None:
            begun = box.run(row.state, agent.setup(row.prompt.problem))
            if not begun.ok:
                raise UserError(f"the setup of problem {row.prompt.problem.id} failed: {begun.error}")
    for step in range(agent.max_steps):
        answers = _sample(sampler, {n: _ask(row, step) for n, row in rows.items()}, drawn, first=step == 0)
        for number, row in list(rows.items()):
            ended, error = Ended.CONTEXT, None
            if (responses := answers[number]) is not None:
                row.responses += responses
                failed = next((r for r in responses if r.finish in FAILURES), None)
                if failed is not None:
                    ended, error = Ended.FAILED, failed.error or failed.finish.value
                else:
                    _advance(row, responses, agent, box, row.first_thought if step == 0 else "")
                    if row.answer is None and step + 1 < agent.max_steps:
                        continue
                    ended = Ended.MAX_STEPS if row.answer is None else Ended.FINAL
            box.drop(row.state)
            del rows[number]
            yield number, row.end(ended, asked[number], error)


def _ask(row: _Row, step: int) -> Prompt:
    return Prompt(
        messages=row.messages,
        problem=row.prompt.problem,
        prefix=row.first_thought if step == 0 else "",
        seed=derive_seed("agent", row.seed, step),
    )


def _sample(
    sampler: Sampler, asked: Mapping[int, Prompt], params: SamplingParams, *, first: bool
) -> dict[int, list[Response] | None]:
    """Responses to each prompt; None where a conversation has outgrown the model."""
    try:
        return dict(zip(asked, sampler.sample(list(asked.values()), params), strict=True))
    except UserError:
        if first:
            raise
    # Some conversation no longer fits: ask one by one to find which.
    found: dict[int, list[Response] | None] = {}
    for number, prompt in asked.items():
        try:
            (found[number],) = sampler.sample([prompt], params)
        except UserError:
            found[number] = None
    return found


def _advance(row: _Row, responses: Sequence[Response], agent: Agent, box: Sandbox, prefix: str) -> None:
    """Run the candidates on copies of the state, keep the chosen one's, and write down the step."""
    layout = agent.layout
    texts = [prefix + response.text for response in responses]
    actions = [
        parse_action(text, layout, truncated=response.finish is Finish.LENGTH)
        for text, response in zip(texts, responses, strict=True)
    ]
    # The same code on copies of one state comes to the same: it is run once.
    codes = list(dict.fromkeys(action.code for action in actions if action.code is not None))
    ran = dict(zip(codes, box.attempt(row.state, codes), strict=True)) if codes else {}
    outcomes = [None if action.code is None else ran[action.code] for action in actions]
    chosen, agreeing = choose(outcomes)
    action, outcome, text = actions[chosen], outcomes[chosen], texts[chosen]
    error: Literal["parse", "execution"] | None = None
    if action.code is None or outcome is None:
        observation, error = f"Error: {action.reason}", "parse"
    else:
        box.commit(row.state, codes.index(action.code))
        error = None if outcome.ok else "execution"
        row.answer = outcome.final
        observation = "" if row.answer is not None else observe(outcome, agent.observation_characters)
        if layout.code_close not in text:
            text += layout.code_close
    valid = sum(outcome is not None and outcome.ok for outcome in outcomes)
    row.steps.append(
        Step(
            text=text,
            code=action.code,
            observation=observation,
            error=error,
            candidates=len(responses),
            valid=valid,
            agreeing=agreeing,
            prefix=len(prefix),
        )
    )
    turns = [Message(role="assistant", content=text)]
    if row.answer is None:
        turns.append(Message(role="user", content=layout.observation + observation))
    row.messages += tuple(turns)


@dataclass(frozen=True)
class AgentSampler:
    """An agent as a way to answer: every response is an episode, its text the final answer in the chat format.

    An episode without a final answer has an empty text, which no verifier takes for an answer, and finish ``length``.
    `Response.meta` tells how it ended, its steps, the share of candidates that parsed and ran, and its turns.

    Args:
        rows: episodes under way at once; each holds an interpreter.
    """

    sampler: Sampler
    agent: Agent
    chat_format: ChatFormat
    rows: int = 64

    @property
    def id(self) -> str:
        several = f"*{self.agent.candidates}" if self.agent.candidates > 1 else ""
        return f"agent{several}/{self.sampler.id}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        """As the protocol says. Raises UserError for a prefix, a constraint, or where code cannot be isolated."""
        require_plain(params, self.id)
        if any(prompt.prefix for prompt in prompts):
            raise UserError(f"{self.id} writes whole episodes and cannot continue a prefix")
        seeds = [response_seed(prompt, offset) for prompt in prompts for offset in range(params.n)]
        asked = [prompt for prompt in prompts for _ in range(params.n)]
        asked = [prompt.model_copy(update={"seed": seed}) for prompt, seed in zip(asked, seeds, strict=True)]
        found: dict[int, Response] = {}
        with self.agent.sandbox() as box:
            for start in range(0, len(asked), self.rows):
                batch = asked[start : start + self.rows]
                for number, episode in play(self.sampler, batch, params, self.agent, box):
                    found[start + number] = self._response(episode, seeds[start + number])
        flat = [found[number] for number in range(len(asked))]
        return [flat[at : at + params.n] for at in range(0, len(flat), params.n)]

    def _response(self, episode: Episode, seed: int) -> Response:
        open_, close = self.chat_format.answer_open, self.chat_format.answer_close
        finish = {Ended.FINAL: Finish.STOP, Ended.FAILED: Finish.ERROR}.get(episode.ended, Finish.LENGTH)
        return Response(
            text="" if episode.answer is None else f"{open_}{episode.answer}{close}",
            finish=finish,
            usage=episode.usage,
            calls=episode.calls,
            seed=seed,
            error=episode.error,
            near_ties=episode.near_ties,
            meta={**told(episode), "turns": [[role, text] for role, text in turns(episode, self.agent.layout)]},
        )


def told(episode: Episode) -> dict[str, JsonValue]:
    """What a trace keeps of an episode in `meta`."""
    candidates = sum(step.candidates for step in episode.steps)
    return {
        "stop": episode.ended.value,
        "steps": len(episode.steps),
        "parse_errors": sum(step.error == "parse" for step in episode.steps),
        "execution_errors": sum(step.error == "execution" for step in episode.steps),
        "valid_actions": sum(step.valid for step in episode.steps) / candidates if candidates else 0.0,
        "valid_steps": sum(step.error is None for step in episode.steps) / max(1, len(episode.steps)),
        "first_thought": episode.steps[0].prefix if episode.steps else 0,
    }


def turns(episode: Episode, layout: ActionLayout) -> list[tuple[str, str]]:
    """Roles and texts after the question; the last observation, which nobody answered, is left out."""
    found: list[tuple[str, str]] = []
    for step in episode.steps:
        found += [("assistant", step.text), ("user", layout.observation + step.observation)]
    return found[:-1]


Act = Callable[[Problem, Sequence[Message], str, Random], str]
"""``act(problem, messages, prefix, rng)``: a programmatic agent's next turn, without the prefix that it continues."""


@dataclass(frozen=True)
class ProgramAgent:
    """A programmatic teacher that acts turn by turn; of sampling parameters it knows `n` and `stop`."""

    act: Act
    name: str
    count_tokens: Callable[[str], int] | None = None

    @property
    def id(self) -> str:
        return f"program-agent:{self.name}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        """Raises UserError for a prompt without a problem or a constraint."""
        require_plain(params, self.id)
        return [[self._one(prompt, offset, params.stop) for offset in range(params.n)] for prompt in prompts]

    def _one(self, prompt: Prompt, offset: int, stop: tuple[str, ...]) -> Response:
        if prompt.problem is None:
            raise UserError(f"{self.id} acts on problems; this prompt holds messages only")
        seed = response_seed(prompt, offset)
        text = self.act(prompt.problem, prompt.messages, prompt.prefix, derive_rng("act", seed))
        text = text[: min((at for string in stop if (at := text.find(string)) >= 0), default=None)]
        tokens = self.count_tokens(text) if self.count_tokens else 0
        return Response(text=text, finish=Finish.STOP, usage=Usage(calls=1, completion_tokens=tokens), seed=seed)

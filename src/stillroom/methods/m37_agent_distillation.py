"""Agent distillation: a small model copies episodes of thought, action and observation instead of chains of thought.

Kang et al., "Distilling LLM Agent into Small Models with Retrieval and Code Tools", 2025,
https://arxiv.org/abs/2505.17612 (code: Nardien/agent-distillation).

A teacher solves problems in turns: it thinks, writes Python that may search, and reads what came of it. Episodes with a
right answer, without a parse error and within the limit on steps are kept (errors of execution stay, they teach
recovery), and the student is trained on the assistant's turns alone. *First-thought prefix*: the teacher's first turn
opens with the first paragraph of its own answer in words, which it continues; the student never gets one.
*Self-consistent actions*: at test time 8 candidates a step (T 0.4, top-p 0.8) run on copies of the interpreter, those
that fail are dropped, one of the most common result (output, value, final answer) is taken. The paper's code compares
what is printed, in one live interpreter, whose side effects leak.

Kept: 5 steps, greedy single actions, the filter, the loss, the baselines. Ours: all weights, one rate, 2 passages a
search (paper: 3; who retrieves once gets 4), 64 tokens a step, two tiny students.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from stillroom.infer.single import Single, Transform
from stillroom.lab.contrast import beats, not_worse
from stillroom.lab.episodes import episodes
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.proxies import proxy_path
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.synth.agents import Agent, AgentSampler, ProgramAgent
from stillroom.synth.episodes import first_thought
from stillroom.synth.rejection import FixedTrials
from stillroom.synth.tools import Retriever, Toolbox, search_tool, with_context
from stillroom.tasks.toolworld import act, passages, variables
from stillroom.types import Message, Trace

SMALL, LARGE = "tools-0.2m", "tools-0.4m"
SIZES = {"small": SMALL, "large": LARGE}
STEP_TOKENS, ONCE = 64, FixedTrials(1)
SAG = partial(replace, candidates=8, temperature=0.4, top_p=0.8)


@method(37, kind="strategy")
def agent_distillation(still: Still) -> AgentSampler:
    """A user's student after the episodes of her teacher, acting in Python with self-consistent actions."""
    agent = Agent()
    kept = episodes(still, still.teacher, agent, name="teacher", thoughts=_thoughts(still, agent))
    return AgentSampler(still.local(still.fine_tune(kept)), SAG(agent), still.chat_format)


def _thoughts(still: Still, agent: Agent) -> dict[str, str]:
    """What the teacher's own answers in words begin with."""
    answers = still.sample(ONCE)
    return {t.problem_id: first_thought(t.taught[-1].text, still.chat_format, agent.layout) for t in answers}


@cache
def _index() -> Retriever:
    return Retriever(passages())


def _agent() -> Agent:
    return Agent(toolbox=Toolbox([search_tool(_index(), k=2)]), setup=variables)


def _retrieved(messages: tuple[Message, ...]) -> str:
    """What is found with the question itself, once."""
    return " ".join(_index().search(messages[-1].content, k=4))


def _retrieve(prompt: Prompt) -> Prompt:
    return prompt.model_copy(update={"messages": with_context(prompt.messages, _retrieved(prompt.messages))})


def _in_words(still: Still, *, size: str, retrieve: bool = False) -> Path | Sampler:
    """CoT distillation, with or without what one retrieval finds."""
    traces = still.select(still.sample(ONCE), still.default_rules(), name="words")
    if retrieve:
        traces = [_before(trace) for trace in traces]
    model = still.fine_tune(traces, start=proxy_path(SIZES[size]))
    return Transform(still.local(model), _retrieve, name="retrieve") if retrieve else model


def _before(trace: Trace) -> Trace:
    question, *rest = trace.taught
    (asked,) = with_context((Message(role="user", content=question.text),), _retrieved(trace.asked))
    return trace.model_copy(update={"taught": (question.model_copy(update={"text": asked.content}), *rest)})


def _acting(still: Still, *, size: str, prefix: bool = False, how: Callable[[Agent], Agent] = replace) -> Sampler:
    """Agent distillation; arms that differ in how they act share the model."""
    agent, name = _agent(), "ftp" if prefix else "agent"
    thoughts = _thoughts(still, agent) if prefix else {}
    kept = episodes(still, ProgramAgent(act, "tool-world"), agent, name=name, thoughts=thoughts)
    model = still.fine_tune(kept, name=f"{name}-{size}", start=proxy_path(SIZES[size]))
    return AgentSampler(Single(still.local(model), STEP_TOKENS), how(agent), still.chat_format)


KINDS: Mapping[str, Callable[..., Path | Sampler]] = {
    "cot": _in_words,
    "rag": partial(_in_words, retrieve=True),
    "agent": _acting,
    "ftp": partial(_acting, prefix=True),
    "sag": partial(_acting, prefix=True, how=SAG),
}
ARMS = {f"{name}-{size}": partial(run, size=size) for size in SIZES for name, run in KINDS.items()}


def _setup(problems: int, test: int, steps: int, batch: int, far: int) -> Setup:
    train, far_away = TrainConfig(steps=steps, batch_size=batch, lr=2e-3), Measure(name="far", problems=far)
    further = (far_away.model_copy(update={"task": "tool-world:far=true"}),)
    return Setup(ARMS, problems, test, 2, train, lr_trials=(), measures=further)


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    out_of_reach = max(scores[f"cot-{size}"].by_level["1"].value or 0.0 for size in SIZES if f"cot-{size}" in scores)
    return [
        floor_gate(still, scores, arm="agent-large" if "agent-large" in scores else None),
        Gate(name="accuracy of arithmetic in words", value=out_of_reach, low=0.0, high=0.3),
    ]


experiment = Experiment(
    number=37,
    name="agent-distillation",
    home=__name__,
    task="tool-world",
    teacher="program",
    student=f"proxy:{LARGE}",
    params=SamplingParams(max_new_tokens=160),
    presets={"smoke": _setup(6, 4, 1, 2, 2), "proxy": _setup(800, 120, 200, 16, 40)},
    default_arms=("cot-large", "rag-large", "agent-large"),
    contrasts=(
        beats("agent-large", "cot-large", "arithmetic: the agent beats CoT distillation", levels=(1,), by=0.1),
        beats("agent-large", "rag-large", "two hops: the agent beats CoT with one retrieval", levels=(2,), by=0.1),
        beats("agent-large", "cot-large", "far from training the agent beats CoT", metric="far:accuracy", by=0.05),
        not_worse("agent-small", "cot-large", "the small agent is no worse than CoT of the larger student", by=0.02),
        beats("sag-small", "ftp-small", "self-consistent actions beat single ones"),
        beats("sag-small", "ftp-small", "and more of their steps run", metric="valid_steps"),
    ),
    gates=_gates,
    budget="all arms: the same 800 questions, teacher and 200 updates of 16 traces at one rate; episodes are longer",
    proxy_note=(
        "the teacher is a program, so that the first thought's effect partly reflects its knob (half of its first "
        "actions without one are careless); the bases have read agents at work, in another world, as plain text"
    ),
)

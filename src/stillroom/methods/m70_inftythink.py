"""InftyThink: thinking without a limit on depth, in rounds of bounded context.

Yan et al., "InftyThink: Breaking the Length Limits of Long-Context Reasoning in Large Language Models", 2025,
https://arxiv.org/abs/2503.06692 (code: ZJU-REAL/InftyThink).

A long thought is cut into segments of about eta tokens. A writer sums up everything up to the end of each segment, and
the student learns three kinds of rounds: question -> thought and summary; question and summary -> thought and next
summary; question and summary -> thought and answer. Answering is a loop: a round that ends in a summary is followed by
one that sees the question and that summary alone. Depth costs rounds, not context, whose course is a sawtooth.

Kept: packing by whole steps, summaries of all segments so far, history where the assistant's turn opens, 50 rounds,
the fall-backs for a broken summary. Ours: a cut-off round is no answer (the code takes it for one), the stop when a
summary repeats, two broken rounds in a row forgiven, refusal of marks in questions; strict packing and greedy rounds
(paper: temperature 0.7) in the experiment. What is saved is context, not tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stillroom.errors import UserError
from stillroom.infer.iterate import Iterate
from stillroom.infer.rounds import in_rounds
from stillroom.infer.single import Single
from stillroom.infer.window import Window, sliding
from stillroom.lab.contrast import beats, not_worse, saves
from stillroom.lab.evaluate import ArmScore
from stillroom.lab.experiment import Experiment, Gate, Setup
from stillroom.lab.still import Still, row_of
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.rope import interpolated
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.samplers.program import ProgramSampler
from stillroom.seeds import derive_rng
from stillroom.synth.rejection import FixedTrials
from stillroom.synth.segments import ModelSummariser, Summariser, exactly, reconstruct
from stillroom.tasks.base import Style
from stillroom.tasks.registers import last_value
from stillroom.types import Problem, Trace

ETA = 4096  # tokens of a segment, the paper's default
WINDOW, STEPS_ETA, NOISE = 180, 45, 0.1  # tokens of context: seven folds fit; of a segment: three folds
WITHIN, BEYOND = tuple(range(1, 8)), tuple(range(8, 13))


@method(70, kind="strategy")
def inftythink(still: Still, writer: Summariser | None = None) -> Iterate[str | None]:
    """Rewrite the teacher's traces of a user's task, train on the rounds, answer in rounds; the teacher sums up."""
    if writer is None and isinstance(still.teacher, ProgramSampler):
        raise UserError("inftythink needs a teacher that can write summaries: give local:PATH or openai:NAME@URL")
    return in_rounds(still.local(_train(still, writer or ModelSummariser(still.teacher, seed=still.seed), ETA)))


def _train(still: Still, writer: Summariser, eta: int, *, window: int | None = None) -> Path:
    """A model of rounds; what became of the traces is the arm's account."""
    tokenizer = still.load_student().tokenizer
    rounds = reconstruct(
        still.select(still.sample(FixedTrials(still.samples)), still.default_rules(), name="teacher"),
        eta,
        writer,
        chat_format=still.chat_format,
        count_tokens=lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        problems={problem.id: problem for problem in still.problems},
        overshoot=window is None,
    )
    if still.run.result_of(f"account:{still.arm}") is None:
        with still.run.stage(f"account:{still.arm}") as result:
            result.update(rounds.account())
    return still.fine_tune(_fitting(still, rounds.instances, window) if window else rounds.instances)


def _fitting(still: Still, traces: Sequence[Trace], window: int) -> list[Trace]:
    policy = still.load_student()
    return [trace for trace in traces if len(row_of(trace, policy).tokens.ids) <= window]


def noisy(problem: Problem, so_far: str) -> str | None:
    """The exact state with another digit, one time in ten."""
    rng, state = derive_rng("noise", problem.id, so_far), last_value(so_far)
    if state is None or rng.random() >= NOISE:
        return state
    name, _, value = state.partition("=")
    return f"{name}={rng.choice([digit for digit in '0123456' if digit != value])}"


def uninformative(problem: Problem, so_far: str) -> str | None:
    """Where the thought stands, without what it found."""
    state = last_value(so_far)
    return state and f"{state.partition('=')[0]}=?"


def _rounds(still: Still, state: Callable[[Problem, str], str | None]) -> Sampler:
    model = _train(still, exactly(state), STEPS_ETA, window=WINDOW)
    return in_rounds(Window(still.local(model), WINDOW), rounds=16)


def _vanilla(still: Still) -> LocalSampler:
    """One thought, trained on whole chains that fit the window; several arms answer with it."""
    traces = still.select(still.sample(FixedTrials(1)), still.default_rules(), name="teacher")
    return still.local(still.fine_tune(_fitting(still, traces, WINDOW), name="vanilla"))


ARMS: Mapping[str, Callable[[Still], Path | Sampler]] = {
    "vanilla": lambda still: Window(_vanilla(still), WINDOW),
    "unbounded": lambda still: Single(_vanilla(still), 240),
    "interpolated": lambda still: Single(LocalSampler(interpolated(_vanilla(still).policy, 2)), 240),
    "sliding": lambda still: sliding(_vanilla(still), keep=132, stride=32, tokens=240),
    "sliding-thought": lambda still: sliding(_vanilla(still), keep=52, stride=32, tokens=240, question="kept"),
    "inftythink": lambda still: _rounds(still, lambda problem, so_far: last_value(so_far)),
    "noisy": lambda still: _rounds(still, noisy),
    "uninformative": lambda still: _rounds(still, uninformative),
}


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    reached = [scores["vanilla"].by_level[str(level)].value or 0.0 for level in WITHIN]
    return [Gate(name="accuracy of vanilla within its window", value=sum(reached) / len(reached), low=0.6, high=1.0)]


experiment = Experiment(
    number=70,
    name="inftythink",
    home=__name__,
    task="registers:high=12,distractors=0,operands=one",
    teacher="program",
    student="proxy:folds-0.4m",
    style=Style(verbosity=1),
    params=SamplingParams(max_new_tokens=240),
    presets={
        "smoke": Setup(ARMS, 12, 12, 1, TrainConfig(steps=1, batch_size=4), lr_trials=()),
        "proxy": Setup(ARMS, 7200, 240, 12, TrainConfig(steps=600, batch_size=32, lr=1e-3), lr_trials=()),
    },
    default_arms=("vanilla", "sliding", "inftythink"),
    contrasts=(
        beats("inftythink", "vanilla", "beyond the window, rounds beat a cut thought", levels=BEYOND, by=0.05),
        beats("inftythink", "sliding", "and one under a sliding window", levels=BEYOND, by=0.05),
        beats("inftythink", "interpolated", "and one with interpolated positions", levels=BEYOND, by=0.05),
        beats("inftythink", "uninformative", "because the summaries carry state", levels=BEYOND, by=0.05),
        not_worse("inftythink", "vanilla", "within the window, rounds lose little", levels=WITHIN, by=0.05),
        saves("inftythink", "unbounded", "they need less context than one thought", metric="peak_context", by=0.1),
    ),
    gates=_gates,
    budget="600 updates of 32 rows and one rate for all (ours); rows fit a window of 180 tokens, which also holds "
    "in answering but for unbounded and interpolated; vanilla, trained on whole chains, is one model in five arms",
    proxy_note=(
        "all folds of a chain repeat one operation (else, bases this small do not find their place again); the last "
        "step holds all the state, so that a window that keeps the question, too, can carry it (sliding-thought)"
    ),
)

"""Retro-Search: exploring untaken paths for shorter reasoning that is still correct.

Lu et al., "Retro-Search: Exploring Untaken Paths for Deeper and Efficient Reasoning", 2025,
https://arxiv.org/abs/2504.04383 (no official code found).

A long trace often abandons a line of thought too early, or goes on after the answer is in hand. Retro-Search walks
through a finished, correct trace and asks at every thought boundary (a paragraph that opens with "Wait",
"Alternatively", ...) what would have come of not switching: a reviser continues the thought, transition keywords
forbidden in the first new step alone, and its ending replaces the old one when it is correct and shorter, ``V(new) >
V(old)`` with ``V = gamma^(N - i) R``. The search goes on along the new trajectory; plain supervised fine-tuning on the
revised traces follows. *Self*: a model revises its own traces. *Weak to strong*: a small one revises a stronger one's.

Kept: one rollout per thought boundary, steps as the unit of V, the exact verifier, the partial variant. From knowledge
of the paper, not checked: keywords, gamma = 0.9, temperature 0.6 and top-p 0.95. Ours: rollouts may close the thought
at once; sizes and learning rates. Left out: the paper's 40,000 questions and 5 epochs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from stillroom.lab.contrast import not_worse, saves
from stillroom.lab.evaluate import ArmScore
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.proxies import proxy_path
from stillroom.samplers.base import Sampler, SamplingParams
from stillroom.samplers.program import ProgramSampler
from stillroom.synth.rejection import FixedTrials
from stillroom.synth.retro import RetroSearch, account
from stillroom.tasks.base import Style
from stillroom.traces.select import shortest
from stillroom.types import Trace

TEMPERATURE, TOP_P = 0.6, 0.95
ONCE = FixedTrials(1)


@method(3, kind="model")
def retro_search(still: Still) -> Path:
    """Self mode on a user's task: warm up on the teacher's traces, then learn from one's own, revised by oneself."""
    taught = still.select(still.sample(FixedTrials(still.samples)), still.default_rules(), name="teacher")
    warm = still.fine_tune(taught, name="warm")
    own = still.sample(FixedTrials(still.samples), pool="own", student=warm, temperature=TEMPERATURE)
    revised = revise(still, still.local(warm), own)
    return still.fine_tune(still.select(revised, still.default_rules()), start=warm)


def revise(
    still: Still, reviser: Sampler, traces: Sequence[Trace], *, midway: bool = False, ban: bool = True
) -> list[Trace]:
    """The traces after the search; what it did and cost becomes the arm's account."""
    params = still.params.model_copy(update={"temperature": TEMPERATURE, "top_p": TOP_P})
    search = RetroSearch(still.task, reviser, still.chat_format, params, still.seed, partial=midway, ban=ban)
    folder, stage = still.run.folder / "traces" / f"retro-{still.arm}", f"account:{still.arm}"
    if still.run.result_of(stage) is None:
        with still.run.stage(stage) as result:
            for state in search.run(still.problems, traces, folder):
                still.progress("revise", state.finished, state.traces)
            result.update(account(search.revised(still.problems, traces, folder)).model_dump(mode="json"))
    return search.revised(still.problems, traces, folder)


def own_traces(still: Still) -> Path:
    """Control: the model's own correct traces, unrevised."""
    still.account(still.sample(ONCE), ONCE)
    return still.fine_tune(still.select(still.sample(ONCE), still.default_rules()))


def self_retro(still: Still, *, midway: bool = False, ban: bool = True) -> Path:
    """The model's own traces, revised by itself."""
    revised = revise(still, still.teacher, still.sample(ONCE), midway=midway, ban=ban)
    return still.fine_tune(still.select(revised, still.default_rules()))


def shortest_of_k(still: Still) -> Path:
    """Control: the shortest of k correct traces, k so that they cost as much as the full search and its traces."""
    once = still.sample(ONCE)
    spent = account(revise(replace(still, arm="retro-full"), still.teacher, once)).rollout_tokens
    rule = FixedTrials(round(1 + spent / sum(trace.usage.completion_tokens for trace in once)))
    still.account(still.sample(rule), rule)
    return still.fine_tune(still.select(still.sample(rule), [*still.default_rules(), shortest(1)]))


def weak_to_strong(still: Still, *, revised: bool) -> Path:
    """A fresh student learns from a programmatic teacher's traces, as they are or revised by a small model."""
    program = ProgramSampler(still.task, Style(layout="switches", verbosity=2), still.chat_format)
    traces = replace(still, teacher=program).sample(ONCE, pool="program")
    if revised:
        traces = revise(still, still.local(proxy_path("retro-reviser-0.2m")), traces, midway=True)
    return still.fine_tune(still.select(traces, still.default_rules()), start=proxy_path("retro-fresh-0.4m"))


ARMS: Mapping[str, Callable[[Still], Path]] = {
    "base": lambda still: Path(still.student),
    "own": own_traces,
    "retro-full": self_retro,
    "shortest-of-k": shortest_of_k,
    "retro-partial": partial(self_retro, midway=True),
    "retro-no-ban": partial(self_retro, ban=False),
    "program": partial(weak_to_strong, revised=False),
    "program-revised": partial(weak_to_strong, revised=True),
}


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    return [floor_gate(still, scores), floor_gate(still, scores, arm="base", ceiling=0.97)]


experiment = Experiment(
    number=3,
    name="retro-search",
    home=__name__,
    task="sums",
    teacher="proxy:retro-0.4m",
    student="proxy:retro-0.4m",
    params=SamplingParams(temperature=TEMPERATURE, top_p=TOP_P, max_new_tokens=176),
    presets={
        "smoke": Setup(ARMS, 4, 2, 2, TrainConfig(steps=1, batch_size=4), lr_trials=(1e-3,)),
        "proxy": Setup(ARMS, 400, 300, 100, TrainConfig(steps=120, batch_size=16), lr_trials=(1e-3, 2e-3)),
    },
    default_arms=("base", "own", "retro-full"),
    contrasts=(
        saves("retro-full", "own", "Retro-Search shortens answers against the model's own traces", by=0.05),
        saves("retro-full", "base", "Retro-Search shortens answers against the model itself", by=0.05),
        not_worse("retro-full", "own", "Retro-Search loses no accuracy to the model's own traces", by=0.02),
        saves("retro-full", "shortest-of-k", "Retro-Search is shorter than the shortest of k at equal cost", by=0.05),
        saves("program-revised", "program", "weak to strong: revised traces shorten the answers", by=0.05),
        not_worse("program-revised", "program", "weak to strong: revised traces lose no accuracy", by=0.02),
    ),
    gates=_gates,
    budget=(
        "all arms: the same problems and test set, 120 updates of 16 traces, 2 learning rates chosen on dev; one trace "
        "a problem before selection; shortest-of-k samples as many tokens as retro-full with its rollouts"
    ),
    proxy_note=(
        "a thought of this world can always be continued and is always enough, so that more can be saved than in the "
        "paper; modulo 7 a wrong ending is accepted one time in seven"
    ),
)

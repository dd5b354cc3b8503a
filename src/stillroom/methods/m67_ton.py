"""TON, think or not: fine-tuning shows that a thought may be empty, and GRPO finds out when thinking pays.

Wang et al., "Think or Not? Selective Reasoning via Reinforcement Learning for Vision-Language Models", NeurIPS 2025,
https://arxiv.org/abs/2505.16854 (code: kokolerk/TON).

A model that looks at pictures is fine-tuned on traces of which half, drawn once per trace, have lost their thought: the
marks stay, with a blank line between them (thought dropout). GRPO then rewards a right answer and the layout alone.
There is no penalty for length: not to think wins where it is as often right, because a mean over each response's own
tokens favours short right ones. Vanilla GRPO starts from traces that always think.

Kept: dropout of 0.5 with marks, one draw per trace, the rewards (right 1, layout 1, an empty thought passes), 8
rollouts at temperature 1, deviation + 1e-4, mean per response and then over responses, one update per batch, KL 0.04.
Ours: rates and sizes, as many steps of either stage, and thoughts from the task's solver or another teacher; for one
that is shown the answer (the paper's reverse thinking) see `synth.thoughts`. Left out: "think if needed" in the prompt,
which a proxy cannot read, and the GUI rewards. Shares of 0.2 and 0.8 and both modes alone are shown, not judged. A
thought reads the picture aloud, cell by cell; this base reads without a mistake, but where a question chooses (levels 1
to 3) its counts are poor with a thought and without: what a thought is worth cannot be shown with it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from stillroom.chat import parse
from stillroom.lab.contrast import not_worse, saves
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.objectives.policy import PolicyGradient
from stillroom.learn.rl.advantages import Group
from stillroom.learn.rl.algorithm import Algorithm
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine, RLStep
from stillroom.learn.rl.kl import KL
from stillroom.learn.rl.rewards import TaskReward, correctness, whole_layout
from stillroom.learn.rl.rollouts import Rollout
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.samplers.base import SamplingParams
from stillroom.synth.rejection import FixedTrials
from stillroom.synth.thoughts import skips, thought_dropout

GRPO = Algorithm(Group(), PolicyGradient(clip=(0.2, 0.2), aggregate="sequence-mean"), kl=KL("k3", "loss", 0.04))
DROPOUT, ROLLOUTS, STEPS, RATE = 0.5, 8, 40, 0.1


@method(67, kind="model")
def ton(still: Still) -> Path:
    """Fine-tune on the teacher's traces with thought dropout, then reinforce right answers."""
    return _reinforced(still, DROPOUT)


def account(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Share of empty thoughts and tokens per response, over all and by level; share of groups that hold both modes, and
    of thoughts that hold no letter or digit without being empty."""
    found: dict[str, list[float]] = defaultdict(list)
    modes: dict[int, set[bool]] = defaultdict(set)
    for rollout in rollouts:
        text, skipped = rollout.response.text, skips(rollout.response.text)
        modes[rollout.group].add(skipped)
        for name in ("", f"_level_{rollout.problem.level}"):
            found[f"skipped{name}"].append(float(skipped))
            found[f"tokens{name}"].append(float(len(rollout.ids)))
        thought = parse(text).thought.strip()
        found["bare"].append(float(bool(thought) and not any(c.isalnum() for c in thought)))
    return {
        **{name: fmean(values) for name, values in found.items()},
        "mixed": fmean(len(m) > 1 for m in modes.values()),
    }


def accounted(engine: Engine) -> Iterator[RLStep]:
    """The engine's own steps, each with its account."""
    while engine.step < engine.config.steps:
        batch = engine.collect()
        step = engine.update(batch)
        step.metrics.update(account(batch.rollouts))
        yield step


def fine_tuned(still: Still, share: float) -> Path:
    """On the teacher's traces, of which that share has lost its thought."""
    traces = still.select(still.sample(FixedTrials(still.samples)), still.default_rules(), name="right")
    kept = [thought_dropout(trace, share, still.seed, still.chat_format) for trace in traces]
    return still.fine_tune(kept, name=f"sft-{share:g}")


def _reinforced(still: Still, share: float) -> Path:
    settings, limit = still.train_config, still.params.max_new_tokens
    config = RLConfig(
        steps=settings.steps or STEPS,
        problems=max(1, settings.batch_size // 4),
        lr=RATE * settings.lr,
        max_new_tokens=limit,
    )
    reward = TaskReward(still.task, (correctness(), whole_layout(still.chat_format)))
    start = fine_tuned(still, share)
    return still.reinforce(
        start, algorithm=GRPO, reward=reward, config=config, samples=ROLLOUTS, drive=accounted, lr_trials=()
    )


ARMS: Mapping[str, Callable[[Still], Path]] = {
    "think": lambda still: fine_tuned(still, 0.0),
    "grpo": lambda still: _reinforced(still, 0.0),
    "both": lambda still: fine_tuned(still, DROPOUT),
    "ton": ton,
    "answer": lambda still: fine_tuned(still, 1.0),
    "grpo-answer": lambda still: _reinforced(still, 1.0),
    "ton-0.2": lambda still: _reinforced(still, 0.2),
    "ton-0.8": lambda still: _reinforced(still, 0.8),
}


def _setup(problems: int, test: int, dev: int, steps: int, batch_size: int) -> Setup:
    train = TrainConfig(steps=steps, batch_size=batch_size, lr=1e-3)
    tasks = {"counting": "shapes:low=0,high=0", "choosing": "shapes"}
    measures = tuple(Measure(name=name, task=task, problems=max(1, test // 3)) for name, task in tasks.items())
    return Setup(ARMS, problems, test, dev, train, lr_trials=(), measures=measures)


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    return [floor_gate(still, scores)]


experiment = Experiment(
    number=67,
    name="ton",
    home=__name__,
    task="shapes:low=0",
    teacher="program",
    student="proxy:shapes-0.7m",
    params=SamplingParams(max_new_tokens=56),
    presets={"smoke": _setup(8, 3, 3, 1, 4), "proxy": _setup(1200, 300, 64, 50, 32)},
    default_arms=("think", "grpo", "both", "ton"),
    contrasts=(
        not_worse("ton", "grpo", "TON is as often right as GRPO that always thinks", by=0.05),
        saves("ton", "grpo", "in at most half of the tokens", by=0.5),
        saves("ton", "both", "GRPO itself finds out that thoughts can be left out", by=0.02),
    ),
    gates=_gates,
    budget="all arms: the same base, traces, updates; RL arms: steps of 8 problems and 8 answers at one rate",
    proxy_note="0.7 million weights, pictures of 4 x 4 cells, thoughts of some 20 tokens (paper: 3 billion, 200 up)",
)

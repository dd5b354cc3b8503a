"""REDI: reinforcement distillation from a teacher's right and wrong traces.

Xu et al., "Harnessing Negative Signals: Reinforcement Distillation from Teacher Data for LLM Reasoning", 2025,
https://arxiv.org/abs/2505.24850 (code: Tim-Siu/reinforcement-distillation).

A distillation corpus holds the teacher's failed attempts too, and rejection sampling throws them away. REDI first
fine-tunes on the right traces; then, from that checkpoint and with fresh optimiser state, it trains on pairs of a right
and a wrong trace of the same problem: ``-m_w + alpha m_l`` with m the mean log-probability per token, without a
reference, sigmoid or clipping. The wrong trace's smaller weight (alpha = 0.8) is what keeps it stable: alpha = 1 is the
limit of SimPO and DPO for a small beta, and collapses at rates that alpha = 0.8 survives.

Kept: two stages, one wrong trace a problem, pairs averaged as pairs, AdamW with weight decay 1e-4, linear schedule with
10 % warm-up, one epoch of pairs, answers drawn at temperature 0.6 and top-p 0.95. Ours: learning rates, batch sizes and
8 answers per problem (paper: 16). Left out: the weight exp(gamma m_l) of wrong traces (off in the paper), the second
verifier's label. Wrong traces here have one injected wrong step that later steps build on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from stillroom.lab.contrast import beats, not_worse
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.adapt.base import AdamW
from stillroom.learn.objectives.base import Objective
from stillroom.learn.objectives.contrast import DPO, REDI, SimPO
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.samplers.base import SamplingParams
from stillroom.synth.rejection import FixedTrials
from stillroom.tasks.base import Style
from stillroom.types import Trace

OPTIMIZER = AdamW(weight_decay=1e-4)
FIRST = (2e-3, 3e-3)
"""Learning rates tried in the first stage (ours)."""
RATES = (6e-5, 3e-4)
"""Tried by every arm in the second: a fiftieth and a tenth of the first stage's (ours; the paper: a fiftieth, 1e-6)."""
HIGH = RATES[1]
DRAWS = 2
"""Responses per problem; a problem whose responses are one right and one wrong gives a pair."""


def _pairs_config(batch_size: int) -> TrainConfig:
    return TrainConfig(epochs=1, batch_size=batch_size, schedule="linear", warmup=0.1)


@method(15, kind="model")
def redi(still: Still) -> Path:
    """Fine-tune on the right traces, then contrast them with wrong ones, at a fiftieth of the rate (the paper's)."""
    config = _pairs_config(still.train_config.batch_size).model_copy(update={"lr": still.train_config.lr / 50})
    return still.fine_tune(
        still.pairs(_draw(still)), start=_sft(still), objective=REDI(), optimizer=OPTIMIZER, train=config
    )


def _draw(still: Still) -> list[Trace]:
    return still.sample(FixedTrials(max(DRAWS, still.samples)))


def _sft(still: Still) -> Path:
    """The first stage; every arm of a seed goes on from the same checkpoint."""
    return still.fine_tune(still.select(_draw(still), still.default_rules(), name="sft"), name="sft")


def _second(objective: Objective, batch_size: int) -> Callable[[Still], Path]:
    """The second stage with this objective."""

    def run(still: Still) -> Path:
        pairs = still.pairs(_draw(still), name="all")
        config = _pairs_config(batch_size)
        return still.fine_tune(
            pairs, start=_sft(still), objective=objective, optimizer=OPTIMIZER, train=config, lr_trials=RATES
        )

    return run


def _arms(batch_size: int) -> dict[str, Callable[[Still], Path]]:
    objectives: dict[str, Objective] = {
        "sft-continued": REDI(alpha=0.0),
        "redi": REDI(),
        "redi-0.5": REDI(alpha=0.5),
        "symmetric": REDI(alpha=1.0, name="symmetric"),
        "simpo": SimPO(),
        **{f"dpo-{beta:g}": DPO(beta=beta) for beta in (0.001, 0.01, 0.1)},
    }
    return {"sft": _sft, **{name: _second(objective, batch_size) for name, objective in objectives.items()}}


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    return [floor_gate(still, scores, arm="sft", ceiling=0.95)]


def _setup(problems: int, test: int, dev: int, steps: int, batch_size: int, answers: int) -> Setup:
    return Setup(
        arms=_arms(batch_size),
        problems=problems,
        eval_problems=test,
        dev_problems=dev,
        train=TrainConfig(steps=steps, batch_size=2 * batch_size, schedule="linear", warmup=0.1),
        lr_trials=FIRST,
        measure=Measure(n=answers, temperature=0.6, top_p=0.95),
    )


experiment = Experiment(
    number=15,
    name="redi",
    home=__name__,
    task="arithmetic:low=2,high=6",
    teacher="program",
    style=Style(error_rate=0.06),
    student="proxy:student-0.4m",
    params=SamplingParams(max_new_tokens=64),
    presets={
        "smoke": _setup(problems=12, test=3, dev=3, steps=2, batch_size=2, answers=2),
        "proxy": _setup(problems=2400, test=300, dev=200, steps=150, batch_size=8, answers=8),
    },
    default_arms=("sft", "sft-continued", "redi", "symmetric"),
    contrasts=(
        beats("redi", "sft-continued", "wrong traces carry a signal: alpha 0.8 beats alpha 0 at matched steps"),
        beats("redi", "symmetric", "at the higher rate alpha 0.8 survives where alpha 1 collapses", at_lr=HIGH),
        beats("redi", "sft", "REDI beats fine-tuning on right traces"),
        not_worse("redi", "simpo", "REDI is no worse than SimPO", by=0.02),
        not_worse("redi", "dpo-0.001", "REDI is no worse than DPO, beta 0.001", by=0.02),
        not_worse("redi", "dpo-0.01", "REDI is no worse than DPO, beta 0.01", by=0.02),
        not_worse("redi", "dpo-0.1", "REDI is no worse than DPO, beta 0.1", by=0.02),
    ),
    gates=_gates,
    budget=(
        "all arms: the same base, problems, test set and teacher's traces; all but sft: the same pairs, one epoch of "
        "them from the same first stage, 2 learning rates chosen on dev"
    ),
    proxy_note=(
        "wrong traces have an injected error instead of a failed search, traces are short, and the student is a "
        "hundredth of a percent of the paper's"
    ),
)

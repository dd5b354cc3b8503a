"""LIFT: fine-tune the principal weights alone.

Liu et al., "LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction for Reasoning-Focused Supervised
Fine-Tuning", ICML 2025, https://arxiv.org/abs/2506.00772 (code: zihanghliu/LIFT).

Of every weight matrix but the head, only the 5 % of entries move that are largest in its approximation of low rank,
``|U_R S_R V_R^T|``; large entries that no dominant direction explains are passed over. Everything else is frozen, and
Adam keeps its moments for the chosen entries alone: about 5 % of a full optimiser's state, without the rank limit of an
adapter. The entries are chosen anew from time to time; moments of those that stay are carried over. Few weights move,
so that what the model knew from elsewhere is said to survive better than under full fine-tuning or LoRA.

Kept: 5 % of each matrix, scored on the updated weights; Adam's settings, linear schedule, 3 % warm-up, batches of 16;
controls in the same optimiser; LIFT_MLP; LoRA with alpha = 2r; the importance probe, which puts noise on what a score
picks. Ours: filter rank an eighth of min(m, n) (paper: 16 to 128 of 2,048 and more), new entries every 50 steps (paper:
10 to 2,000), learning rates, size of the noise. Left out: the randomised decomposition, which is for speed alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stillroom.lab.contrast import beats, not_worse
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.adapt.base import AdamW, Adapt, Full
from stillroom.learn.adapt.importance import probe, solved_rows
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.adapt.masked import Masked
from stillroom.learn.adapt.matrices import HEAVY, Modules, require_spectrum, spectral_excess, weight_change
from stillroom.learn.adapt.scores import ScoreName
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.policy import Sidecar, load_policy, save_policy
from stillroom.samplers.base import SamplingParams
from stillroom.synth.rejection import FixedTrials
from stillroom.tasks import load_task
from stillroom.types import Trace

OPTIMIZER = AdamW(betas=(0.9, 0.95), eps=1e-6)
REFRESH = 50
FEW = 12  # times larger are the learning rates of few weights than those of all (ours; in the paper up to 4)
SIGMA = 1.75  # of the probe's noise, in standard deviations: on random entries it costs half of the answers (ours)
SOURCE = "source:accuracy"
KNOWN = "facts:high=1"  # the source domain, known by heart and asked in the words it was taught in


@method(18, kind="model")
def lift(still: Still) -> Path:
    """Fine-tune the principal weights on the right traces; refuses a student whose weights have no principal part."""
    require_spectrum(still.load_student())
    return still.fine_tune(_data(still), adapt=Masked(refresh_every=REFRESH), optimizer=OPTIMIZER)


def _data(still: Still) -> list[Trace]:
    return still.select(still.sample(FixedTrials(still.samples)), still.default_rules(), name="right")


def _tuned(adapt: Adapt, rates: Sequence[float]) -> Callable[[Still], Path]:
    """An arm: the same traces under another choice of weights, with the rank and size of what changed."""

    def run(still: Still) -> Path:
        model = still.fine_tune(_data(still), adapt=adapt, optimizer=OPTIMIZER, lr_trials=rates)
        stage = f"account:{still.arm}"
        if still.run.result_of(stage) is None:
            with still.run.stage(stage) as result:
                before, after = still.load_student().model.state_dict(), load_policy(model).model.state_dict()
                result.update(weight_change(before, after).model_dump())
        return model

    return run


def _noisy(score: ScoreName, known: int) -> Callable[[Still], Path]:
    """An arm of the importance probe: the base with noise on what a score picks, and the loss of what it knew."""

    def run(still: Still) -> Path:
        target, stage = still.run.folder / still.arm, f"account:{still.arm}"
        if still.run.result_of(stage) is None:
            with still.run.stage(stage) as result:
                policy, task = still.load_student(), load_task(KNOWN)
                rows = solved_rows(task, task.problems("train", known, 0), policy, still.chat_format, still.seed)
                result.update(probe(policy, rows, score, 0.05, seed=still.seed, sigma=SIGMA))
                save_policy(policy, target, sidecar=Sidecar(chat_format=still.chat_format.name, base=still.student))
        return target

    return run


def _setup(problems: int, test: int, dev: int, known: int, steps: int, *dense: float) -> Setup:
    sparse = [FEW * rate for rate in dense]

    def masked(
        score: ScoreName = "lift", density: float = 0.05, modules: Modules = "linear"
    ) -> Callable[[Still], Path]:
        return _tuned(Masked(score, density, refresh_every=REFRESH, modules=modules), sparse)

    return Setup(
        arms={
            "base": lambda still: Path(still.student),
            "full": _tuned(Full(), dense),
            "lora": _tuned(LoRA(rank=4), sparse),
            **{name: masked(name) for name in ("magnitude", "gradient", "random", "lift")},
            "lift-10": masked(density=0.1),
            "lift-mlp": masked(modules="mlp"),
            **{f"noise-{name}": _noisy(name, known) for name in ("lift", "magnitude", "random")},
        },
        problems=problems,
        eval_problems=test,
        dev_problems=dev,
        train=TrainConfig(steps=steps, batch_size=16, schedule="linear"),
        lr_trials=(),
        measures=(Measure(name="source", task=KNOWN, split="train", problems=known),),
    )


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    got = still.measure(still.student, name="base.source", how=Measure(task=KNOWN, split="train")).accuracy.value or 0.0
    return [
        Gate(name="what the base knows of the source", value=got, low=0.6, high=1.0),
        Gate(name="spectral excess of the base", value=spectral_excess(still.load_student()), low=HEAVY, high=8.0),
        floor_gate(still, scores, arm="full"),
    ]


experiment = Experiment(
    number=18,
    name="lift",
    home=__name__,
    task="arithmetic:low=2,high=3",
    teacher="program",
    student="proxy:lift-base-0.4m",
    params=SamplingParams(max_new_tokens=64),
    presets={"smoke": _setup(16, 2, 2, 2, 1, 1e-3), "proxy": _setup(1500, 300, 150, 236, 150, 5e-4, 1e-3, 2e-3)},
    default_arms=("base", "full", "lora", "magnitude", "random", "lift"),
    contrasts=(
        beats("lift", "random", "LIFT beats random entries at equal density"),
        beats("lift", "magnitude", "LIFT beats the largest entries at equal density"),
        not_worse("lift", "full", "LIFT is no worse than full fine-tuning", by=0.02),
        beats("lift", "full", "LIFT keeps more of the source than full fine-tuning", metric=SOURCE),
        beats("lift", "lora", "LIFT keeps more of the source than LoRA", metric=SOURCE),
        beats("noise-random", "noise-lift", "noise on LIFT's entries hurts more than on random ones", metric=SOURCE),
        beats("noise-magnitude", "noise-lift", "noise on LIFT's hurts more than on the largest ones", metric=SOURCE),
    ),
    gates=_gates,
    budget=(
        "all trained arms: the same base, solved problems, updates of 16 rows, optimiser and number of learning rates "
        f"(chosen on dev; {FEW} times larger for all but full); sparse arms but lift-10 and lift-mlp: as many entries"
    ),
    proxy_note="small matrices have less of a spectrum; the source is known by heart, the target near what was read",
)

"""UniR: a small reasoner whose logits are added to those of a frozen model.

Kim et al., "Universal Reasoner: A Single, Composable Plug-and-Play Reasoner for Frozen LLMs", 2025,
https://arxiv.org/abs/2505.19075 (code: hangeol/UniR).

The reward of a whole answer is written as ``r / beta = sum_t log pi_r(y_t)``: the best policy near a frozen backbone is
then ``softmax(z_b + z_r)``. GRPO samples from that sum and trains pi_r alone. Afterwards pi_r is added to any model of
the same vocabulary, also a larger one, and several modules are added with weights of their own.

Kept: sampling from the sum, the backbone without gradient, pi_r from a small pre-trained model, 8 answers a problem,
advantages over the group's deviation + 1e-4, clip 0.2, mean over tokens, no KL term, a reward for right answers alone.
Ours: learning rate, steps, 8 problems a step; temperature 1 (paper: 0.7), as groups of a sum, sharper than its parts,
become equal; LoRA's rank, for as many weights as the module's. Composition is measured, not judged (its contrasts were
dropped after results on dev): the second module learns a rule for the output, which the larger model cannot follow.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stillroom.errors import UserError
from stillroom.lab.contrast import beats
from stillroom.lab.evaluate import ArmScore, Measure
from stillroom.lab.experiment import Experiment, Gate, Setup, floor_gate
from stillroom.lab.still import Still
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.objectives.policy import PolicyGradient
from stillroom.learn.rl.advantages import Group
from stillroom.learn.rl.algorithm import Algorithm
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.rewards import Reward, Scored, TaskReward
from stillroom.learn.rl.rollouts import Rollout
from stillroom.learn.rl.summed import steps_of_sum
from stillroom.learn.training import TrainConfig
from stillroom.methods.registry import method
from stillroom.models.composite import save_sum
from stillroom.models.policy import resolve_student
from stillroom.samplers.base import SamplingParams
from stillroom.samplers.local import LocalSampler
from stillroom.seeds import derive_rng
from stillroom.tasks.arithmetic import layout_of

MODULE, BACKBONE, LARGER = "proxy:unir-module-0.3m", "proxy:unir-backbone-1m", "proxy:unir-larger-4m"
GRPO = Algorithm(Group(), PolicyGradient(clip=(0.2, 0.2), aggregate="token-mean"))
TASK, STEPS, RULE_STEPS, RANK = "arithmetic:low=3,high=3", 60, 24, 25
Source = str | Callable[[Still], Path]  # a model by name, or an arm that makes it


@method(38, kind="model")
def unir(still: Still) -> Path:
    """Train the student beside a frozen local teacher of its vocabulary, `train.batch_size` problems a step."""
    if not isinstance(still.teacher, LocalSampler):
        raise UserError(f"unir adds the student to a frozen local model; {still.teacher.id} has no logits to add to")
    return _beside(still, still.arm, still.teacher.policy.source, TaskReward(still.task))


def _beside(still: Still, name: str, backbone: str, reward: Reward, steps: int | None = None) -> Path:
    start, config = _save(still, f"{name}-start", still.student, backbone), _config(still, steps)
    return still.reinforce(start, algorithm=GRPO, reward=reward, config=config, name=name, drive=steps_of_sum)


def _config(still: Still, steps: int | None = None) -> RLConfig:
    train, limit = still.train_config, still.params.max_new_tokens
    return RLConfig(steps=steps or train.steps or STEPS, problems=train.batch_size, lr=train.lr, max_new_tokens=limit)


def coin(rollouts: Sequence[Rollout]) -> list[Scored]:
    """Control: a reward that knows nothing."""
    return [Scored(float(derive_rng("coin", str(r.response.seed), *r.ids).random() < 0.5)) for r in rollouts]


def in_sentences(rollouts: Sequence[Rollout]) -> list[Scored]:
    """1 for steps in sentences, right or wrong: a rule for the output alone; the alarm of a hack is right about it."""
    return [Scored(float(layout_of(r.response.text) == "sentences")) for r in rollouts]


def _module(still: Still) -> Path:
    return _beside(still, "unir", BACKBONE, TaskReward(still.task))


def _rule(still: Still) -> Path:
    return _beside(still, "rule", LARGER, in_sentences, RULE_STEPS)


def _lora(still: Still) -> Path:
    start, reward, adapt = _model(still, BACKBONE), TaskReward(still.task), LoRA(RANK)
    return still.reinforce(start, algorithm=GRPO, reward=reward, config=_config(still), adapt=adapt)


def _model(still: Still, source: Source) -> Path:
    return Path(resolve_student(source)) if isinstance(source, str) else source(still)


def _save(still: Still, name: str, *sources: Source, weights: Sequence[float] = ()) -> Path:
    models = [_model(still, source) for source in sources]
    parts = list(zip(models, weights or [1.0] * len(models), strict=True))
    return save_sum(still.run.folder / "sums" / name, parts, chat_format=still.chat_format.name)


def _sum(*sources: Source, weights: Sequence[float] = ()) -> Callable[[Still], Path]:
    return lambda still: _save(still, still.arm, *sources, weights=weights)


ARMS: Mapping[str, Callable[[Still], Path]] = {
    "backbone": lambda s: _model(s, BACKBONE),
    "untrained": _sum(MODULE, BACKBONE),
    "unir": _module,
    "module": _sum(_module, BACKBONE, weights=(1.0, 0.0)),
    "lora": _lora,
    "random": lambda s: _beside(s, "random", BACKBONE, coin),
    "larger": lambda s: _model(s, LARGER),
    "larger-untrained": _sum(MODULE, LARGER),
    "transfer": _sum(_module, LARGER),
    "rule": _rule,
    "joint-0.5": _sum(_module, _rule, LARGER, weights=(0.5, 0.5, 1.0)),
    "joint-1": _sum(_module, _rule, LARGER),
}


def _setup(problems: int, test: int, dev: int, steps: int, per_step: int) -> Setup:
    train = TrainConfig(steps=steps, batch_size=per_step, lr=5e-4)
    sentences = Measure(name="sentences", task=f"{TASK},layout=sentences", problems=max(1, test // 3))
    return Setup(ARMS, problems, test, dev, train, lr_trials=(), measures=(sentences,))


def _gates(still: Still, scores: Mapping[str, ArmScore]) -> list[Gate]:
    room = Gate(name="accuracy of the backbone", value=scores["backbone"].accuracy.value or 0.0, low=0.2, high=0.8)
    return [room, floor_gate(still, scores, arm="unir")]


experiment = Experiment(
    number=38,
    name="unir",
    home=__name__,
    task=TASK,
    teacher=BACKBONE,
    student=MODULE,
    params=SamplingParams(max_new_tokens=48),
    presets={"smoke": _setup(8, 3, 3, 1, 2), "proxy": _setup(1500, 300, 64, STEPS, 8)},
    default_arms=("backbone", "untrained", "unir", "larger", "larger-untrained", "transfer"),
    contrasts=(
        beats("unir", "backbone", "the sum with a trained module beats the backbone"),
        beats("unir", "untrained", "and the sum with the module as it was"),
        beats("unir", "random", "and one whose module was trained on a coin's reward"),
        beats("transfer", "larger", "the module improves a larger model that it never met"),
        beats("transfer", "larger-untrained", "by more than the module as it was"),
    ),
    gates=_gates,
    budget="all trained arms: the same problems, updates of 8 problems and 8 answers, and one rate (set on dev)",
    proxy_note="module, backbone, larger model: 0.3, 1.1, 4.1 million weights (paper: 0.5, 3, 7 to 14 billion)",
)

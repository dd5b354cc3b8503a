"""Group relative policy optimisation (GRPO) on the verifier's word.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
https://arxiv.org/abs/2402.03300, section 4. A student warmed up on the teacher's traces answers each problem several
times; an answer's advantage is its reward against its group, in standard deviations, and a clipped policy gradient
raises the tokens of the better ones. There is no value model.

Kept: advantage, clip 0.2, mean over a response's tokens and then over responses. Off by default: the divergence from
the reference (beta 0.04 in the paper), as in DAPO and Dr. GRPO: a checkable reward needs no leash. The reward is right
or wrong, and a tenth for the layout. Ours: 16 problems of 16 answers a step (64 in the paper), one update each, the
steps, and a fifteenth of the first stage's learning rate.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.learn.objectives.policy import PolicyGradient
from stillroom.learn.rl.advantages import Group
from stillroom.learn.rl.algorithm import Algorithm
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.rewards import TaskReward, correctness, layout, require_order
from stillroom.methods.registry import recipe
from stillroom.synth.rejection import FixedTrials

SAMPLES = 16
"""Answers per problem."""
STEPS = 120
RATE = 1 / 15
"""Learning rate of reinforcement, as a share of the first stage's."""
GRPO = Algorithm(Group(), PolicyGradient(clip=(0.2, 0.2), aggregate="sequence-mean"))


@recipe("grpo", kind="model", summary="reinforce what is better than the rest of its group (GRPO)")
def grpo(still: Still) -> Path:
    """Warm up on the teacher, then reinforce the warm student's own right answers."""
    return reinforce(still, warm_up(still), GRPO)


def warm_up(still: Still) -> Path:
    """A student that can answer some problems: fine-tuned on the teacher's traces."""
    return still.fine_tune(still.select(still.sample(FixedTrials(still.samples)), still.default_rules()), name="warm")


def reinforce(still: Still, start: Path, algorithm: Algorithm, *, samples: int = SAMPLES, epochs: int = 1) -> Path:
    """Reinforce right answers, in the run's format and within its limit on tokens; `train.steps` counts steps."""
    reward = TaskReward(still.task, (correctness(), layout(still.chat_format, 0.1)))
    require_order(reward)
    config = RLConfig(
        steps=still.train_config.steps or STEPS,
        lr=RATE * still.train_config.lr,
        max_new_tokens=still.params.max_new_tokens,
        epochs=epochs,
    )
    return still.reinforce(start, algorithm=algorithm, reward=reward, config=config, samples=samples)

"""Proximal policy optimisation (PPO) with a value head, on the verifier's word.

Schulman et al., "Proximal Policy Optimization Algorithms", https://arxiv.org/abs/1707.06347; for language models as in
Ziegler et al., "Fine-Tuning Language Models from Human Preferences", https://arxiv.org/abs/1909.08593. A student warmed
up on the teacher's traces answers training problems; a value head on its hidden states foretells what each token will
earn, and generalised advantages say by how much it earned more. A divergence from the warm student is taken off the
reward of every token.

Kept: clip 0.2 of ratios and values, gamma 1 and lambda 0.95, whitened advantages, value loss weighted 0.1 and the
divergence (k1) in the reward, all Ziegler's. Ours: its weight 0.05, two passes (four in Ziegler), four answers a
problem, and what `grpo` chooses too. Left out: minibatches and the adaptive weight of the divergence.
"""

from pathlib import Path

from stillroom.lab.still import Still
from stillroom.learn.objectives.policy import PolicyGradient
from stillroom.learn.objectives.value import ValueLoss
from stillroom.learn.rl.advantages import GAE
from stillroom.learn.rl.algorithm import Algorithm
from stillroom.learn.rl.kl import KL
from stillroom.methods.grpo import reinforce, warm_up
from stillroom.methods.registry import recipe

SAMPLES = 4
"""Answers per problem: values, not groups, say what was to be expected."""
PPO = Algorithm(
    GAE(gamma=1.0, lam=0.95, whiten=True),
    PolicyGradient(clip=(0.2, 0.2), aggregate="token-mean"),
    value=ValueLoss(clip=0.2, weight=0.1),
    kl=KL("k1", "reward", 0.05),
)


@recipe("ppo", kind="model", summary="reinforce tokens that earned more than a value head foretold (PPO)")
def ppo(still: Still) -> Path:
    """Warm up on the teacher, then reinforce, near the warm student."""
    return reinforce(still, warm_up(still), PPO, samples=SAMPLES, epochs=2)

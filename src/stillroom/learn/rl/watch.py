"""What a step of reinforcement learning looks like in numbers, and the alarms that they raise.

A reward is a stand-in for the truth. Two checks look whether it still is one:

- **What pays.** Within the groups of a step, rewards are compared with the truth (right or wrong), with length, and
  with which tokens occur. When most of what rewards differ by is not the truth, and most of that is length or one
  token, three steps in a row, the reward pays for length or for that token.
- **Held-out truth.** Every few steps the policy answers held-out problems and the task's verifier judges it. When fewer
  answers are right than in an earlier check, by more than chance, while rewards rose, the policy games its reward.

The thresholds are our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stillroom.learn.rl.rewards import Scored, order_breaks, repeated_share
from stillroom.learn.rl.rollouts import Rollout
from stillroom.types import Finish

Floats = npt.NDArray[np.float64]

PATIENCE = 3
"""Steps in a row that must agree before an alarm."""
MOST = 0.5
"""More than this share of what rewards differ by."""
SURE = 3.0
"""Standard errors by which held-out truth must have fallen, and rewards risen."""
GAP = 0.1
"""Nats by which sampler and learner may differ on a token before the first update of a batch."""

_PAYS = (
    f"step {{step}}: the reward pays for {{name}}, not for right answers: in {PATIENCE} steps in a row that is most of "
    "what rewards within a group differ by; look at its terms"
)
_FALLS = (
    "step {step}: rewards rise while held-out truth falls ({how}): the policy games its reward; keep an earlier "
    "checkpoint and look at what rewarded answers have in common"
)
_EQUAL = (
    f"step {{step}}: all rewards are equal within nearly every group, {PATIENCE} steps in a row: there is nothing to "
    "learn from; take easier or harder problems, or more samples"
)
_GAP = (
    "step {step}: sampler and learner differ by up to {gap:.2f} nats on a token that was just drawn: they do not "
    "compute the same policy (temperature, template, precision)"
)


def summary(rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> dict[str, float | None]:
    """Metrics of a step's rollouts, over those that could be judged; None when there is none."""
    judged = [found for found in scored if found.reward is not None]
    rewards = [found.reward for found in judged if found.reward is not None]
    correct = [float(found.correct) for found in judged if found.correct is not None]
    names = sorted({name for found in judged for name in found.terms})
    groups = list(_by_group(rollouts, scored).values())
    spans = [max(found) - min(found) for found in groups]
    return {
        "reward": _mean(rewards),
        "reward_std": float(np.std(rewards)) if rewards else None,
        "correct": _mean(correct),
        "groups_equal": _mean([float(span == 0) for span in spans]),
        "order_breaks": order_breaks(rollouts, scored),
        "length": _mean([float(len(r.ids)) for r in rollouts]),
        "truncated": _mean([float(r.response.finish is Finish.LENGTH) for r in rollouts]),
        "repetition": _mean([repeated_share(r.ids, 4) for r in rollouts]),
        "unjudged": float(len(scored) - len(judged)),
        **{f"term_{name}": _mean([found.terms[name] for found in judged if name in found.terms]) for name in names},
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _by_group(rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> dict[int, list[float]]:
    """Rewards of every group with a judged rollout."""
    groups: dict[int, list[float]] = {}
    for rollout, found in zip(rollouts, scored, strict=True):
        if found.reward is not None:
            groups.setdefault(rollout.group, []).append(found.reward)
    return groups


class Pays(NamedTuple):
    """What rewards differ by within the groups of a step; all but the token are shares from 0 to 1."""

    beside_truth: float
    """Of their variance: what right and wrong do not explain."""
    length: float
    """Of that rest: what length explains; negative when shorter pays."""
    token: int
    """The token whose occurrence explains most of the rest."""
    token_share: float


def what_pays(rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> Pays | None:
    """Least squares on what is left when every group's mean is taken away.

    None when all rewards of every group are equal, or no group has right and wrong answers: nothing can be told then.
    """
    known = [
        (rollout, found.reward, float(found.correct))
        for rollout, found in zip(rollouts, scored, strict=True)
        if found.reward is not None and found.correct is not None
    ]
    if not known:
        return None
    group_R = np.unique([rollout.group for rollout, _, _ in known], return_inverse=True)[1]
    reward_R = _centred(np.array([reward for _, reward, _ in known]), group_R)
    correct_R = _centred(np.array([correct for _, _, correct in known]), group_R)
    spread, truth = float(reward_R @ reward_R), float(correct_R @ correct_R)
    if spread < 1e-12 or truth < 1e-12:
        return None

    def beside_truth(values_R: Floats) -> Floats:
        return values_R - correct_R * (correct_R @ values_R / truth)

    rest_R = beside_truth(reward_R)
    if float(rest_R @ rest_R) < 1e-9 * spread:
        return Pays(0.0, 0.0, -1, 0.0)
    length_R = beside_truth(_centred(np.array([float(len(r.ids)) for r, _, _ in known]), group_R))
    tokens = np.unique(np.concatenate([rollout.ids for rollout, _, _ in known]))
    occurs_RK = np.stack([np.isin(tokens, rollout.ids) for rollout, _, _ in known]).astype(np.float64)
    # A token of a few rollouts alone would explain a few rewards by chance.
    often_K = (occurs_RK.mean(0) > 0.05) & (occurs_RK.mean(0) < 0.95)
    token, share = -1, 0.0
    for at in np.flatnonzero(often_K):
        found = _explained(beside_truth(_centred(occurs_RK[:, at], group_R)), rest_R)
        if abs(found) > abs(share):
            token, share = int(tokens[at]), found
    return Pays(float(rest_R @ rest_R) / spread, _explained(length_R, rest_R), token, abs(share))


def _centred(values_R: Floats, group_R: npt.NDArray[np.intp]) -> Floats:
    counts_G = np.bincount(group_R)
    means_G: Floats = np.bincount(group_R, values_R) / counts_G
    return values_R - means_G[group_R]


def _explained(by_R: Floats, rest_R: Floats) -> float:
    """Squared correlation with the sign of the correlation."""
    size = float(by_R @ by_R)
    if size < 1e-9:
        return 0.0
    product = float(by_R @ rest_R)
    return product * abs(product) / (size * float(rest_R @ rest_R))


@dataclass
class Watch:
    """Sees every step and says each kind of alarm once. Its state is part of the checkpoint.

    `check` returns the alarms of a step; `alarms` holds all of them.
    """

    rewards: list[tuple[float, float]] = field(default_factory=list)
    """Mean reward of every step, and its standard error."""
    truths: list[tuple[int, list[float | None]]] = field(default_factory=list)
    """Step, and per held-out problem the share of right answers."""
    pays: list[tuple[str, str] | None] = field(default_factory=list)
    """Of the last steps: the kind of what pays instead of the truth, and its name."""
    equal: int = 0
    """Steps in a row whose groups had nothing to compare."""
    first_length: float | None = None
    alarms: dict[str, str] = field(default_factory=dict)
    """By kind."""

    def held_out(self, step: int, correct: Sequence[float | None]) -> None:
        """Note what share of the answers to every held-out problem was right; None where it could not be judged."""
        self.truths.append((step, list(correct)))

    def held_out_shares(self) -> list[tuple[int, float | None]]:
        """Step and share of right answers of every look at the held-out truth."""
        return [(step, _mean(_known(shares))) for step, shares in self.truths]

    def check(
        self,
        step: int,
        rollouts: Sequence[Rollout],
        scored: Sequence[Scored],
        metrics: Mapping[str, float | None],
        decode: Any = str,
    ) -> list[str]:
        """The new alarms of a step.

        Args:
            metrics: `summary`, and ``logp_gap_max`` where the update measured it.
            decode: token id → text, for the message.
        """
        before = set(self.alarms)
        self._note(rollouts, scored)
        paying = self._paying(what_pays(rollouts, scored), decode)
        if paying is not None:
            self._raise(paying[0], _PAYS, step=step, name=paying[1])
        fallen = self._fallen()
        if fallen is not None:
            self._raise("held-out", _FALLS, step=step, how=fallen)
        self.equal = self.equal + 1 if (metrics.get("groups_equal") or 0.0) >= 0.95 else 0
        if self.equal >= PATIENCE:
            self._raise("equal", _EQUAL, step=step)
        gap = metrics.get("logp_gap_max")
        if gap is not None and gap > GAP:
            self._raise("gap", _GAP, step=step, gap=gap)
        return [text for kind, text in self.alarms.items() if kind not in before]

    def drift(self, length: float | None) -> float | None:
        """Mean length over that of the first step."""
        if length is None:
            return None
        self.first_length = self.first_length or length
        return length / self.first_length if self.first_length else None

    def _raise(self, kind: str, text: str, **values: object) -> None:
        self.alarms.setdefault(kind, text.format(**values))

    def _note(self, rollouts: Sequence[Rollout], scored: Sequence[Scored]) -> None:
        means = [fmean(found) for found in _by_group(rollouts, scored).values()]
        if means:
            # Answers to one problem are no independent cases.
            error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
            self.rewards.append((fmean(means), error))

    def _paying(self, found: Pays | None, decode: Any) -> tuple[str, str] | None:
        if found is None:
            return None
        now: tuple[str, str] | None = None
        if found.beside_truth > MOST and max(abs(found.length), found.token_share) > MOST:
            if abs(found.length) >= found.token_share:
                now = ("length", "longer answers" if found.length > 0 else "shorter answers")
            else:
                now = ("marker", f"the token {decode(found.token)!r}")
        self.pays = [*self.pays, now][-PATIENCE:]
        kinds = {None if pays is None else pays[0] for pays in self.pays}
        return now if len(self.pays) == PATIENCE and len(kinds) == 1 else None

    def _fallen(self) -> str | None:
        """How far held-out truth has fallen from its best, while rewards rose; None when it has not."""
        if len(self.truths) < 2 or not self.rewards:
            return None
        step, latest = self.truths[-1]
        best_step, best = max(self.truths[:-1], key=lambda entry: _mean(_known(entry[1])) or 0.0)
        lost_P = np.array([a - b for a, b in zip(best, latest, strict=True) if a is not None and b is not None])
        if len(lost_P) < 2 or lost_P.mean() <= SURE * lost_P.std(ddof=1) / np.sqrt(len(lost_P)):
            return None
        first, last = self.rewards[:PATIENCE], self.rewards[-PATIENCE:]
        rise = fmean(mean for mean, _ in last) - fmean(mean for mean, _ in first)
        error = np.sqrt(sum(e**2 for _, e in first) + sum(e**2 for _, e in last)) / PATIENCE
        if rise <= SURE * error:
            return None
        return (
            f"{fmean(_known(best)):.0%} right after step {best_step}, {fmean(_known(latest)):.0%} after step {step}; "
            f"rewards {rise:+.3f}"
        )


def _known(shares: Sequence[float | None]) -> list[float]:
    return [share for share in shares if share is not None]

"""Advantages: from what responses earned to the weight of each of their tokens in the policy gradient.

An `Advantage` is a value; called with the `Scores` of all rollouts of one optimiser batch it returns `Advantages`: one
number per token of every response, and which rows train at all. Everything is computed in float64.

| advantage | of token t of response i, reward r | source |
|---|---|---|
| `Group()` | ``(r_i - mean) / (std + eps)`` over its group, std with Bessel's correction | Shao et al. 2024, https://arxiv.org/abs/2402.03300, section 4.1.2 |
| `Group(std=False)` | ``r_i - mean`` over its group | Liu et al. 2025, https://arxiv.org/abs/2503.20783, section 3.2 |
| `RLOO()` | ``r_i - mean of the others`` of its group | Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740, eq. 8 |
| `Reinforce()` | ``r_i``, or ``r_i - mean`` over the batch with ``baseline="mean"`` | Williams 1992 |
| `GAE()` | ``sum_k (gamma lam)^k delta_{t+k}`` with ``delta_t = r_t + gamma V_{t+1} - V_t`` | Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16 |

A reward of None was not judged: its row trains nothing, enters no mean, and has advantage 0. `Scores.token_rewards` (a
penalty for leaving the reference, say) are added to the response's reward, and stay with their tokens under `GAE`.
"""  # noqa: E501 - the table

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stillroom.errors import UserError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What the R rollouts of one optimiser batch earned. All sequences have length R, the inner ones a row's tokens."""

    rewards: Sequence[float | None]
    """Of the whole response, earned with its last token; None: not judged."""
    groups: Sequence[int]
    """Rows of equal number answer the same problem; they need not stand together."""
    lengths: Sequence[int]
    """Tokens of each response, 1 or more."""
    token_rewards: Sequence[Sequence[float]] | None = None
    """Earned with each token besides."""
    values: Sequence[Sequence[float]] | None = None
    """The value head's estimate before each token; `GAE` needs it."""


class Advantages(NamedTuple):
    """Per row and token; rows as in the scores."""

    tokens: list[FloatArray]
    """Advantage of each token: signal ``"advantage"`` of the row's response tokens."""
    trains: list[bool]
    """False: give the row no loss weight (not judged, or its group is dropped)."""
    returns: list[FloatArray] | None = None
    """What the value head is to predict before each token (signal ``"return"``); None where there are no values."""


class Advantage(Protocol):
    @property
    def needs_values(self) -> bool:
        """Whether `Scores.values` must be there."""
        ...

    def __call__(self, scores: Scores) -> Advantages: ...


@dataclass(frozen=True)
class Group:
    """A response against its group.

    Args:
        std: divide by the group's standard deviation. Dr. GRPO leaves it out: it favours problems that are nearly
            always or nearly never solved.
        eps: added to it (TRL's value; the paper has none). A group of equal rewards has advantage 0.
        drop_equal: rows of such a group train nothing and do not count in the loss (dynamic sampling, Yu et al. 2025,
            https://arxiv.org/abs/2503.14476, eq. 11); otherwise they count with advantage 0.
    """

    std: bool = True
    eps: float = 1e-4
    drop_equal: bool = False
    needs_values: bool = False

    def __call__(self, scores: Scores) -> Advantages:
        def against(rewards: FloatArray) -> FloatArray:
            # The standard deviation of a response that stands alone is not known; it is 0 apart from itself anyway.
            spread = float(rewards.std(ddof=1)) + self.eps if self.std and len(rewards) > 1 else 1.0
            apart: FloatArray = (rewards - rewards.mean()) / spread
            return apart

        found = _by_group(scores, against)
        if not self.drop_equal:
            return found
        equal = _equal_groups(scores)
        trains = [at and group not in equal for at, group in zip(found.trains, scores.groups, strict=True)]
        return found._replace(trains=trains)


@dataclass(frozen=True)
class RLOO:
    """A response against the mean of the others of its group; one that stands alone trains nothing."""

    needs_values: bool = False

    def __call__(self, scores: Scores) -> Advantages:
        found = _by_group(scores, lambda rewards: (rewards - rewards.mean()) * len(rewards) / max(1, len(rewards) - 1))
        judged = Counter(
            group for group, reward in zip(scores.groups, scores.rewards, strict=True) if reward is not None
        )
        trains = [at and judged[group] > 1 for at, group in zip(found.trains, scores.groups, strict=True)]
        return found._replace(trains=trains)


@dataclass(frozen=True)
class Reinforce:
    """The reward itself, or what it is above the mean of the batch."""

    baseline: Literal["mean"] | None = None
    needs_values: bool = False

    def __call__(self, scores: Scores) -> Advantages:
        totals = _totals(scores)
        if self.baseline == "mean" and not np.isnan(totals).all():
            totals = totals - np.nanmean(totals)
        return _spread(totals, scores)


@dataclass(frozen=True)
class GAE:
    """Generalised advantage estimation; nothing is earned after the last token.

    Args:
        gamma: discount per token.
        lam: 1: the return minus the value; 0: one step ahead.
        whiten: shift and scale the advantages of all tokens that train to mean 0 and variance 1 over the batch (the
            returns stay as they are).

    Raises:
        UserError: when called without values.
    """

    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True
    needs_values: bool = True

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("lam", self.lam)):
            if not 0 <= value <= 1:
                raise UserError(f"{name}={value} is not a share of what comes later; give 0 to 1")

    def __call__(self, scores: Scores) -> Advantages:
        _check(scores)
        if scores.values is None:
            raise UserError(
                "GAE needs the value of every token, and the scores have none; give the learner a value head "
                "(heads={'value': ValueHead()}) and take Scores.values from it, or use Group() or RLOO()"
            )
        tokens, returns = [], []
        for i, reward in enumerate(scores.rewards):
            values = np.asarray(scores.values[i], np.float64)
            earned = _token_rewards(scores, i)
            earned[-1] += 0.0 if reward is None else reward
            advantage, ahead = np.zeros(scores.lengths[i]), 0.0
            for t in reversed(range(scores.lengths[i])):
                after = values[t + 1] if t + 1 < scores.lengths[i] else 0.0
                ahead = earned[t] + self.gamma * after - values[t] + self.gamma * self.lam * ahead
                advantage[t] = ahead
            tokens.append(advantage)
            returns.append(advantage + values)
        trains = [reward is not None for reward in scores.rewards]
        if self.whiten and any(trains):
            every = np.concatenate([row for row, at in zip(tokens, trains, strict=True) if at])
            scale = np.sqrt(every.var(ddof=min(1, len(every) - 1)) + 1e-8)
            tokens = [(row - every.mean()) / scale for row in tokens]
        tokens = [row if at else np.zeros_like(row) for row, at in zip(tokens, trains, strict=True)]
        return Advantages(tokens, trains, returns)


def _by_group(scores: Scores, against: Callable[[FloatArray], FloatArray]) -> Advantages:
    """One number per row, from the totals of the judged rows of its group."""
    totals = _totals(scores)
    groups = np.asarray(scores.groups)
    for group in set(scores.groups):
        rows = (groups == group) & ~np.isnan(totals)
        if rows.any():
            totals[rows] = against(totals[rows])
    return _spread(totals, scores)


def _equal_groups(scores: Scores) -> set[int]:
    """Groups in which all judged rewards are the same."""
    rewards: dict[int, set[float]] = {}
    for group, reward in zip(scores.groups, scores.rewards, strict=True):
        if reward is not None:
            rewards.setdefault(group, set()).add(reward)
    return {group for group, found in rewards.items() if len(found) == 1}


def _totals(scores: Scores) -> FloatArray:
    """Reward of each row [R] with what its tokens earned; nan where it was not judged."""
    _check(scores)
    return np.array(
        [
            np.nan if reward is None else reward + float(_token_rewards(scores, i).sum())
            for i, reward in enumerate(scores.rewards)
        ]
    )


def _token_rewards(scores: Scores, row: int) -> FloatArray:
    if scores.token_rewards is None:
        return np.zeros(scores.lengths[row])
    return np.array(scores.token_rewards[row], np.float64)


def _spread(row_advantages: FloatArray, scores: Scores) -> Advantages:
    """The same number for every token of a row; nan: the row does not train."""
    trains = (~np.isnan(row_advantages)).tolist()
    known = np.nan_to_num(row_advantages)
    return Advantages([np.full(n, a) for n, a in zip(scores.lengths, known, strict=True)], trains)


def _check(scores: Scores) -> None:
    """Raise UserError when the parts of the scores do not fit each other."""
    for name, part in (("groups", scores.groups), ("lengths", scores.lengths)):
        if len(part) != len(scores.rewards):
            raise UserError(f"scores of {len(scores.rewards)} rewards have {len(part)} {name}; give one per row")
    for name, rows in (("token_rewards", scores.token_rewards), ("values", scores.values)):
        if rows is not None and [len(row) for row in rows] != list(scores.lengths):
            raise UserError(f"{name} do not have one number per token of each row; lengths are {list(scores.lengths)}")
    if min(scores.lengths, default=1) < 1:
        row = min(range(len(scores.lengths)), key=lambda i: scores.lengths[i])
        raise UserError(f"row {row} of the scores has no token; leave responses without tokens out")
    wrong = [i for i, reward in enumerate(scores.rewards) if reward is not None and not np.isfinite(reward)]
    if wrong:
        raise UserError(
            f"the reward of row {wrong[0]} is {scores.rewards[wrong[0]]}; give a number, or None: not judged"
        )

"""Which parts of a model that sees move: its eyes, what hands their vectors to the text, or the text part."""

from dataclasses import dataclass

from stillroom.errors import UserError, unknown_name
from stillroom.learn.adapt.base import AdamW, DenseMoving
from stillroom.models.images import GROUPS, group_of
from stillroom.models.policy import Policy


@dataclass(frozen=True)
class Groups:
    """Only these parts move: ``vision``, ``projector``, ``text`` (embeddings and head are part of the text).

    Raises:
        UserError: an unknown part, or none.
    """

    train: tuple[str, ...]
    name: str = "groups"
    provides: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for group in self.train:
            if group not in GROUPS:
                raise unknown_name("part of a model that sees", group, GROUPS)
        if not self.train:
            raise UserError(f"nothing would move; name parts to train: {', '.join(GROUPS)}")

    def attach(self, policy: Policy, settings: AdamW, *, seed: int) -> DenseMoving:
        if policy.vision is None:
            raise UserError(f"{policy.source} reads text alone and has no {', '.join(GROUPS[:2])}; use --adapt full")
        named = []
        for name, parameter in policy.model.named_parameters():
            moves = group_of(policy.vision.layout, name) in self.train
            parameter.requires_grad_(moves)
            if moves:
                named.append((name, parameter))
        return DenseMoving(self.name, policy, named, settings)

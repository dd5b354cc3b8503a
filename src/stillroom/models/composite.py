"""Sums of policies: ``softmax(sum_i w_i z_i)`` over the logits of several models, of which one may be trained.

What a small model learnt beside a frozen one (UniR, https://arxiv.org/abs/2505.19075) can be added to another, and
several can be added together, with weights that are free at any time. A sum is a `Policy`: it samples, scores, trains
and is saved as such. Every part reads the same token ids with a cache of its own, and a temperature divides the sum,
once. Only the first part is trained: gradients, adapters, optimisers and checkpoints know nothing of the others.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from transformers import PreTrainedTokenizerFast

from stillroom.errors import CheckpointError, UserError
from stillroom.models.policy import (
    NamedPart,
    Policy,
    Sidecar,
    load_part,
    load_policy,
    resolve_student,
    write_sidecar,
)


class Part(NamedTuple):
    """A policy and what its logits are multiplied by."""

    policy: Policy
    weight: float = 1.0


@dataclass(frozen=True)
class SumPolicy(Policy):
    """A weighted sum of logits; made by `sum_of`. The inherited fields are those of the part that is trained."""

    weight: float = 1.0
    others: tuple[Part, ...] = ()
    """Never trained."""
    width: int = 0
    """Tokens that all parts have; their logits are cut to these."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, the trained one first."""
        alone = Policy(**{field.name: getattr(self, field.name) for field in fields(Policy)})
        return Part(alone, self.weight), *self.others

    @property
    def max_length(self) -> int:
        return min(part.policy.max_length for part in self.parts)

    def num_parameters(self) -> int:
        return sum(part.policy.num_parameters() for part in self.parts)

    @property
    def skips_padding(self) -> bool:
        return all(part.policy.skips_padding for part in self.parts)

    @property
    def packable(self) -> bool:
        return all(part.policy.packable for part in self.parts)

    def head_weight(self) -> torch.Tensor | None:
        """``[w_1 H_1, w_2 H_2, ...]``: a sum of heads is one head over the parts' states side by side."""
        heads = [part.policy.head_weight() for part in self.parts]
        scaled = [
            part.weight * (head if at == 0 else head.detach())[: self.width]
            for at, (part, head) in enumerate(zip(self.parts, heads, strict=True))
            if head is not None
        ]
        return torch.cat(scaled, 1) if len(scaled) == len(heads) else None

    def states(
        self,
        ids_LT: torch.Tensor,
        row_LT: torch.Tensor,
        wanted_LT: torch.Tensor,
        positions_LT: torch.Tensor | None = None,
        images: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The parts' states side by side, [N, D_1 + D_2 + ...]; those of the others without a gradient."""
        first, *others = self.parts
        found = [first.policy.states(ids_LT, row_LT, wanted_LT, positions_LT)]
        with torch.no_grad():
            found += [part.policy.states(ids_LT, row_LT, wanted_LT, positions_LT) for part in others]
        return torch.cat(found, -1)

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """The weighted sum [N, V] of the parts' logits, float32 at least."""
        first, *others = self.parts
        piece, *pieces = hidden_ND.split([_head(part.policy).shape[1] for part in self.parts], -1)
        found = [first.policy.logits(piece.to(first.policy.model.dtype))]
        with torch.no_grad():
            found += [
                part.policy.logits(piece.to(part.policy.model.dtype))
                for part, piece in zip(others, pieces, strict=True)
            ]
        return self.add(found)

    def add(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """The weighted sum [N, V] of the parts' own logits, each [N, at least V]; float32 at least."""
        scaled = [
            part.weight * logits_NV[:, : self.width].to(torch.promote_types(logits_NV.dtype, torch.float32))
            for part, logits_NV in zip(self.parts, logits, strict=True)
        ]
        return functools.reduce(torch.add, scaled)

    def named_parts(self) -> tuple[NamedPart, ...]:
        # A checkpoint may be moved by itself, so that others are named wherever they lie.
        found = ((part.policy.source, part.weight) for part in self.others)
        others = (NamedPart(source=str(Path(s).resolve()) if Path(s).is_dir() else s, weight=w) for s, w in found)
        return NamedPart(source=".", weight=self.weight), *others


def sum_of(parts: Sequence[Part | tuple[Policy, float]]) -> SumPolicy:
    """The sum of these policies with their weights; the first is the one that training changes.

    Prompts are rendered once, by the first part's tokenizer and chat template, whatever template another part was
    trained with. An answer ends with the end token of any part.

    Raises:
        UserError: one part or none, two that share weights, different devices, or vocabularies that do not agree: every
            token of the first part must be the same token of the others. Embeddings that are padded to different sizes
            do agree; logits are cut to what is common.
    """
    first, *others = (Part(*part) for part in parts)
    if not others:
        raise UserError("a sum of policies needs two parts or more")
    seeing = [part.policy.source for part in (first, *others) if part.policy.vision is not None]
    if seeing:
        raise UserError(f"{seeing[0]} sees pictures, and sums are of policies that read text alone")
    own = {weight.untyped_storage().data_ptr() for weight in first.policy.model.parameters()}
    for policy, _ in others:
        if any(weight.untyped_storage().data_ptr() in own for weight in policy.model.parameters()):
            raise UserError(
                f"{policy.source} shares weights with the part that is trained, so that its gradient would change "
                "both; load it a second time"
            )
        if policy.device != first.policy.device:
            raise UserError(
                f"{policy.source} is on {policy.device} and {first.policy.source} on {first.policy.device}; "
                "load all parts of a sum on one device"
            )
        _require_same_tokens(first.policy, policy)
        policy.model.eval()
    policies = [first.policy, *(part.policy for part in others)]
    width = min(len(_head(policy)) for policy in policies)
    if any(policy.fingerprint != first.policy.fingerprint for policy in policies):
        width = min(width, len(first.policy.tokenizer))
    inherited = {field.name: getattr(first.policy, field.name) for field in fields(Policy)}
    inherited["source"] = "+".join(policy.source for policy in policies)
    inherited["stop_ids"] = frozenset().union(*(policy.stop_ids for policy in policies))
    return SumPolicy(**inherited, weight=first.weight, others=tuple(others), width=width)


def save_sum(folder: Path, parts: Sequence[tuple[str | Path, float]], *, chat_format: str) -> Path:
    """Write a folder that `load_policy` opens as the sum of these, the first of which may be trained; returns it.

    It holds no weights, but names the parts: hub ids and ``proxy:NAME`` as they are, checkpoints relative to it. A part
    that was trained in a sum is taken alone.
    """
    found = ((str(source), weight) for source, weight in parts)
    seen = ((os.path.relpath(s, folder) if Path(s).is_dir() else s, weight) for s, weight in found)
    named = tuple(NamedPart(source=source, weight=weight) for source, weight in seen)
    folder.mkdir(parents=True, exist_ok=True)
    write_sidecar(folder, Sidecar(chat_format=chat_format, parts=named))
    return folder


def load_sum(
    folder: Path, sidecar: Sidecar, *, device: str, dtype: torch.dtype | None, chat_template: Path | None
) -> SumPolicy:
    """The sum that a folder's sidecar names, for `load_policy`.

    Raises:
        UserError, CheckpointError: a part that cannot be opened, or parts that do not belong together.
    """
    parts = []
    for named in sidecar.parts:
        path = folder / named.source
        if named.source == ".":
            found = load_part(folder, device=device, dtype=dtype, chat_template=chat_template)
        elif path.is_dir():
            found = load_part(path, device=device, dtype=dtype, chat_template=chat_template)
        else:
            try:
                found = load_policy(
                    resolve_student(named.source), device=device, dtype=dtype, chat_template=chat_template
                )
            except CheckpointError as error:
                raise CheckpointError(f"{folder}: a part of this sum is missing: {error}") from error
            found = replace(found, source=named.source)
        parts.append(Part(found, named.weight))
    total = sum_of(parts)
    return replace(total, source=str(folder), sidecar=sidecar)


def _head(policy: Policy) -> torch.Tensor:
    """The weight [V, D] of the output embeddings."""
    return cast(torch.nn.Linear, policy.model.get_output_embeddings()).weight


def _require_same_tokens(first: Policy, other: Policy) -> None:
    if other.fingerprint == first.fingerprint:
        return
    names = _names(other.tokenizer)
    for token, name in sorted(_names(first.tokenizer).items()):
        if names.get(token) != name:
            what = "has no such token" if token not in names else f"says {names[token]!r}"
            raise UserError(
                f"{first.source} and {other.source} do not share a vocabulary, so their logits cannot be added: token "
                f"{token} is {name!r} in the first, and the second {what}; use models of one family"
            )


def _names(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    return {token: name for name, token in tokenizer.get_vocab().items()}

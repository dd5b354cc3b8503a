"""A policy: a causal language model with its tokenizer, stop tokens and chat format, in Hugging Face layout."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from stillroom.errors import CheckpointError, UserError
from stillroom.io import read_json
from stillroom.models.images import SEEING, Vision, load_vision
from stillroom.models.llama import Parts, known_parts
from stillroom.models.llama_states import Lines, states
from stillroom.models.memory import keep_memory
from stillroom.seeds import digest
from stillroom.types import Noun

LAYOUTS = ("qwen2", "llama", "gemma", "gpt_neox", "opt", "mamba")
"""Model types that are tested to load, sample, train, save and reopen with the same logits."""

PACKABLE = ("qwen2", "llama", "gemma", "gpt_neox")
"""Model types whose attention keeps the rows of a packed line apart by their positions."""

SIDECAR = "stillroom.json"
"""What a checkpoint of ours says beside the Hugging Face files."""

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


class NamedPart(Noun):
    """One part of a sum of policies, in a `Sidecar`."""

    source: str
    """``.`` for the weights beside the sidecar, a path relative to it, an absolute path, a hub id or ``proxy:NAME``."""
    weight: float = 1.0


class Sidecar(Noun):
    """Contents of `stillroom.json` in a checkpoint."""

    chat_format: str
    base: str = ""
    """Where the weights came from before training."""
    recipe: str = ""
    parts: tuple[NamedPart, ...] = ()
    """Of a sum of policies (`composite`), the part that is trained first; none for a policy by itself."""


@dataclass(frozen=True)
class Policy:
    """A model and everything needed to talk to it. The module is trained in place; the other fields never change."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    source: str
    """Path or hub id it was loaded from."""
    sidecar: Sidecar | None = None
    stop_ids: frozenset[int] = field(default_factory=frozenset)
    fingerprint: str = ""
    """Of the vocabulary: two policies with the same fingerprint agree on every token id."""
    vision: Vision | None = None
    """How it sees; None for a policy that reads text alone."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else min(self.stop_ids)

    @property
    def max_length(self) -> int:
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 1 << 20))

    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def _plain_parts(self) -> Parts | None:
        """What the fast path of training reads; None where the module has to be called."""
        return known_parts(self.model) if self.model.dtype in (torch.float32, torch.float64) else None

    @property
    def skips_padding(self) -> bool:
        """Whether `states` computes nothing for padding, nor twice what rows have in common."""
        return self._plain_parts() is not None

    @property
    def packable(self) -> bool:
        """Whether the module is known to keep the rows of a packed line apart by their positions."""
        return self.model.config.model_type in PACKABLE

    def head_weight(self) -> torch.Tensor | None:
        """The matrix [V, D] that makes `logits` of states and does nothing else; None where `logits` does more."""
        head = self.model.get_output_embeddings()
        plain = type(head) is torch.nn.Linear and head.bias is None
        hooked = plain and (head._forward_hooks or head._forward_pre_hooks)
        return cast(torch.nn.Linear, head).weight if plain and not hooked else None

    def named_parts(self) -> tuple[NamedPart, ...]:
        """What a checkpoint has to name besides the weights that lie in it; see `composite`."""
        return ()

    def states(
        self,
        ids_LT: torch.Tensor,
        row_LT: torch.Tensor,
        wanted_LT: torch.Tensor,
        positions_LT: torch.Tensor | None = None,
        images: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Last hidden states [N, D] at the N places that are wanted, line by line.

        Args:
            ids_LT: rows on lines, padded on the right; causal attention makes a padding mask unnecessary.
            row_LT: number of the row that a token belongs to; -1 for padding.
            wanted_LT: bool; never True for padding.
            positions_LT: of packed lines: positions that start again at 0 with every row, so that a row sees itself
                alone (`packable`).
            images: of a policy that sees: the pictures of all rows in order, as `Vision.tensors` gives them.
        """
        parts = self._plain_parts()
        if parts is not None:
            real_LT = row_LT >= 0
            lengths = row_LT[real_LT].unique_consecutive(return_counts=True)[1].tolist()
            ids_N = ids_LT[real_LT]
            lines = Lines(ids_N.cpu().numpy(), lengths, ids_N.device)
            return states(parts, ids_N, lines, wanted_LT[real_LT].nonzero()[:, 0])
        packing = {} if positions_LT is None else {"position_ids": positions_LT}
        seen = self.vision.inputs(ids_LT, images) if self.vision is not None and images else {}
        body = self.model.base_model
        found: torch.Tensor = body(input_ids=ids_LT, use_cache=False, **packing, **seen).last_hidden_state
        return found[wanted_LT].to(self.model.dtype)  # Mamba sums in float32 and its head does not

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Logits [N, V] of hidden states [N, D], so that callers pay only for the positions they need."""
        head = self.model.get_output_embeddings()
        if head is None:
            raise CheckpointError(f"{self.source}: the model has no output embeddings; it is not a language model")
        logits: torch.Tensor = head(hidden_ND)
        return logits


def load_policy(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    chat_template: Path | None = None,
) -> Policy:
    """Open a checkpoint folder, a folder that names a sum of policies (`composite.save_sum`), or a hub id.

    Args:
        source: a folder in Hugging Face layout (safetensors) or a hub id.
        device: where the model goes.
        dtype: of the weights; None: float32 on a CPU, the checkpoint's own elsewhere.
        chat_template: a Jinja file that replaces the tokenizer's template.

    Raises:
        UserError: a device that is not there, a chat template that cannot be read.
        CheckpointError: naming the file when it is missing, truncated, pickled, of an unsupported layout, or when the
            tokenizer has more tokens than the model.
        UserError, CheckpointError: parts of a sum that do not belong together or cannot be opened.
    """
    sidecar = _read_sidecar(Path(source))
    if sidecar is not None and sidecar.parts:
        from stillroom.models.composite import load_sum

        return load_sum(Path(source), sidecar, device=device, dtype=dtype, chat_template=chat_template)
    return load_part(source, device=device, dtype=dtype, chat_template=chat_template)


def load_part(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    chat_template: Path | None = None,
) -> Policy:
    """As `load_policy`, but the weights that lie in the folder alone, also where it names a sum they are a part of."""
    keep_memory()
    _check_device(device)
    folder = Path(source)
    if folder.exists():
        _check_files(folder)
    elif os.sep in str(source) and (len(folder.parts) != 2 or folder.is_absolute() or str(source)[0] in ".~"):
        raise CheckpointError(f"no checkpoint at {source}: the folder does not exist")
    try:
        config = AutoConfig.from_pretrained(str(source))
        if config.model_type not in (*LAYOUTS, *SEEING):
            known = ", ".join((*LAYOUTS, *SEEING))
            raise CheckpointError(f"{source}: layout {config.model_type!r} is not supported yet; supported: {known}")
        if getattr(config, "use_bias", False):
            raise CheckpointError(
                f"{source}: {config.model_type} with use_bias lets padding into its state; use another"
            )
        wanted = dtype or (torch.float32 if device == "cpu" else "auto")
        # Mismatched shapes are let through here to be refused by name below.
        kind = AutoModelForImageTextToText if config.model_type in SEEING else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(
            str(source), dtype=wanted, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
        model, loading = loaded
        tokenizer: Any = AutoTokenizer.from_pretrained(str(source))
    except CheckpointError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot load {source}: {str(error).splitlines()[0]}") from error
    _check_weights(str(source), loading)
    if chat_template is not None:
        try:
            tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the chat template {chat_template}: {error}") from error
    model.to(device)
    model.eval()
    vision = load_vision(str(source), config, tokenizer) if config.model_type in SEEING else None
    return make_policy(model, tokenizer, source=str(source), sidecar=_read_sidecar(folder), vision=vision)


def _read_sidecar(folder: Path) -> Sidecar | None:
    file = folder / SIDECAR
    try:
        return Sidecar.model_validate(read_json(file)) if file.is_file() else None
    except ValueError as error:
        raise CheckpointError(f"{file}: damaged or of another version ({error})") from error


def make_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    source: str,
    sidecar: Sidecar | None = None,
    vision: Vision | None = None,
) -> Policy:
    """A policy from parts in memory; checks that they belong together."""
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"{source}: needs a fast tokenizer (tokenizer.json); convert it with transformers first")
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens and the model only {rows} embeddings; "
            "they belong to different models"
        )
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    if ends is None:
        ends = model.config.get_text_config().eos_token_id
    stops = {ends} if isinstance(ends, int) else set(ends or ())
    if isinstance(tokenizer.eos_token_id, int):
        stops.add(tokenizer.eos_token_id)
    if not stops:
        raise CheckpointError(f"{source}: neither the model nor the tokenizer names an end token (eos_token_id)")
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return Policy(
        model=model,
        tokenizer=tokenizer,
        source=source,
        sidecar=sidecar,
        stop_ids=frozenset(stops),
        fingerprint=digest(*(f"{token}={index}" for token, index in vocabulary)),
        vision=vision,
    )


def save_policy(
    policy: Policy,
    path: Path,
    *,
    sidecar: Sidecar,
    card: str = "",
    dtype: torch.dtype | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
    also: Path | None = None,
) -> None:
    """Write the checkpoint beside the target and rename: the folder is whole or absent.

    Args:
        path: the folder to create; an existing one is replaced. Of a sum of policies it holds the weights of the part
            that is trained, and names the others.
        card: text of README.md, the model card.
        dtype: of the stored weights; None keeps them as they are.
        weights: stored instead of the module's own, under the same names: a model with its adapter merged in.
        also: a folder whose files are moved into the checkpoint before it appears.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = None if weights is None else dict(weights)
    if dtype is not None:
        # Weights that are tied must stay one tensor, or they would be stored twice.
        state = policy.model.state_dict() if state is None else state
        narrow = {tensor.data_ptr(): tensor.to(dtype) for tensor in state.values()}
        state = {name: narrow[tensor.data_ptr()] for name, tensor in state.items()}
    policy.model.save_pretrained(str(temporary), state_dict=state)
    if dtype is not None:
        config = read_json(temporary / "config.json")
        config["dtype"] = str(dtype).removeprefix("torch.")
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    policy.tokenizer.save_pretrained(str(temporary))
    for name, text in (policy.vision.files if policy.vision is not None else {}).items():
        (temporary / name).write_text(text, encoding="utf-8")
    write_sidecar(temporary, sidecar.model_copy(update={"parts": policy.named_parts()}))
    if card:
        (temporary / "README.md").write_text(card, encoding="utf-8")
    if also is not None:
        for file in also.iterdir():
            os.replace(file, temporary / file.name)
        also.rmdir()
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """What a checkpoint says of itself; parts are named only where there are any."""
    text = sidecar.model_dump_json(indent=2, exclude=None if sidecar.parts else {"parts"})
    (folder / SIDECAR).write_text(text + "\n", encoding="utf-8")


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(" (")[0]
        raise UserError(f"device {device!r} cannot be used here: {reason}; --device cpu always can") from error


def _check_files(folder: Path) -> None:
    """Name what is wrong with a local folder before any library does so in its own words."""
    for name, remedy in (
        ("config.json", "this is not a Hugging Face checkpoint"),
        ("tokenizer.json", "save the model's fast tokenizer into the folder"),
    ):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; {remedy}")
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        pickled = sorted(p.name for p in folder.glob("*.bin"))
        raise CheckpointError(
            f"{folder}: no *.safetensors weights"
            + (f", only {', '.join(pickled)}, which may run code when opened; convert them first" if pickled else "")
        )
    for shard in shards:
        try:
            with safe_open(str(shard), framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{shard}: truncated or damaged ({error})") from error


def _check_weights(source: str, loading: Mapping[str, Any]) -> None:
    """Refuse weights that do not fill the model exactly: transformers would make up what is missing at random."""
    wrong = {kind: sorted(str(name) for name in loading[f"{kind}_keys"]) for kind in ("missing", "unexpected")}
    wrong["misshapen"] = sorted(str(name) for name, *_ in loading["mismatched_keys"])
    found = [f"{len(names)} {kind} ({names[0]}{', …' * (len(names) > 1)})" for kind, names in wrong.items() if names]
    if found:
        raise CheckpointError(
            f"{source}: the weights do not belong to config.json: {', '.join(found)}; the checkpoint is incomplete or "
            "mixed up from two"
        )


def resolve_student(name: str) -> str:
    """A path or hub id as given; ``proxy:NAME`` becomes the folder of that committed proxy."""
    if not name.startswith("proxy:"):
        return name
    from stillroom.models.proxies import proxy_path

    return str(proxy_path(name.removeprefix("proxy:")))


def require_prompt_fits(policy: Policy, length: int, what: str) -> None:
    """Raise UserError when `length` tokens do not fit into the model's positions."""
    if length > policy.max_length:
        raise UserError(
            f"{what} needs {length} tokens and {policy.source} has positions for {policy.max_length}; "
            "lower --max-new-tokens or shorten the problems"
        )

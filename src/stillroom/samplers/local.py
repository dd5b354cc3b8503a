"""Sampling from a policy in this process: one prefill per prompt, per-row seeds, finished rows dropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache

from stillroom.chat import render_chat
from stillroom.models.policy import Policy, require_prompt_fits
from stillroom.samplers.base import Prompt, SamplingParams, response_seed
from stillroom.types import Finish, Response, Usage

EDGE = 1e-5
"""A draw closer than this to the edge between two tokens may fall the other way in another batch; it is counted."""
GREEDY_GAP = 1e-4
"""The same for the gap between the two largest logits of a greedy choice."""


@dataclass
class _Row:
    prompt: int
    offset: int
    seed: int
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    finish: Finish = Finish.LENGTH
    near_ties: int = 0


class LocalSampler:
    """Samples from a `Policy`.

    A row's draws come from its own seed, so its result does not depend on which rows shared the batch, except where a
    draw lies within `EDGE` of an edge; such draws are counted in `Response.near_ties`.
    """

    def __init__(self, policy: Policy, *, batch_rows: int = 256) -> None:
        self.policy = policy
        self.batch_rows = batch_rows

    @property
    def id(self) -> str:
        return f"local:{self.policy.source}"

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of the conversation with the assistant turn opened and the prefix, if any, begun."""
        text = render_chat(self.policy.tokenizer, prompt.messages, generate=True) + prompt.prefix
        ids: list[int] = self.policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def sample(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Response]]:
        """As the protocol says; `on_progress` is called with the number of responses just finished."""
        encoded = [self.prompt_ids(prompt) for prompt in prompts]
        for ids in encoded:
            require_prompt_fits(self.policy, len(ids) + params.max_new_tokens, "a prompt with its answer")
        rows = [_Row(i, j, response_seed(prompt, j)) for i, prompt in enumerate(prompts) for j in range(params.n)]
        # Rows of one prompt stay together (one prefill), prompts of like length share a batch (little padding).
        rows.sort(key=lambda row: (len(encoded[row.prompt]), row.prompt, row.offset))
        for batch in _chunks(rows, self.batch_rows):
            self._run(batch, encoded, params)
            if on_progress is not None:
                on_progress(len(batch))
        answers: list[list[Response | None]] = [[None] * params.n for _ in prompts]
        for row in rows:
            answers[row.prompt][row.offset] = self._response(row, len(encoded[row.prompt]), params)
        return [[answer for answer in found if answer is not None] for found in answers]

    @torch.inference_mode()
    def _run(self, rows: list[_Row], encoded: list[list[int]], params: SamplingParams) -> None:
        policy, device = self.policy, self.policy.device
        prompt_order = list(dict.fromkeys(row.prompt for row in rows))
        width = max(len(encoded[i]) for i in prompt_order)
        ids = torch.full((len(prompt_order), width), policy.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, i in enumerate(prompt_order):
            ids[at, width - len(encoded[i]) :] = torch.tensor(encoded[i])
            mask[at, width - len(encoded[i]) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=policy.model.config)
        hidden = policy.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        index = torch.tensor([prompt_order.index(row.prompt) for row in rows], device=device)
        cache.batch_select_indices(index)
        mask, hidden = mask[index], hidden[index]
        position = positions[index, -1:]
        uniforms = torch.zeros(len(rows), params.max_new_tokens, dtype=torch.float64)
        if params.temperature > 0:
            for i, row in enumerate(rows):
                generator = np.random.Generator(np.random.Philox(row.seed))
                uniforms[i] = torch.from_numpy(generator.random(params.max_new_tokens))

        live = list(rows)
        for step in range(params.max_new_tokens):
            tokens, logps, ties = draw(policy.logits(hidden), uniforms[:, step], params)
            for row, token, logp, tie in zip(live, tokens.tolist(), logps.tolist(), ties.tolist(), strict=True):
                row.ids.append(token)
                row.logps.append(logp)
                row.near_ties += tie
                if token in policy.stop_ids or (params.stop and self._stopped(row, params.stop)):
                    row.finish = Finish.STOP
            going = [i for i, row in enumerate(live) if row.finish is not Finish.STOP]
            if not going or step + 1 == params.max_new_tokens:
                return
            if len(going) < len(live):
                index = torch.tensor(going, device=device)
                cache.batch_select_indices(index)
                mask, position, tokens = mask[index], position[index], tokens[index]
                live, uniforms = [live[i] for i in going], uniforms[going]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            position = position + 1
            hidden = policy.model.base_model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]

    def _text(self, ids: list[int]) -> str:
        kept = [token for token in ids if token not in self.policy.stop_ids]
        return str(self.policy.tokenizer.decode(kept, skip_special_tokens=False))

    def _stopped(self, row: _Row, stop: tuple[str, ...]) -> bool:
        # A string is never longer in tokens than in bytes; the slack covers one that starts inside a token.
        tail = self._text(row.ids[-(max(len(string.encode()) for string in stop) + 4) :])
        return any(string in tail for string in stop)

    def _response(self, row: _Row, prompt_length: int, params: SamplingParams) -> Response:
        text = self._text(row.ids)
        cuts = [text.find(string) for string in params.stop if string in text]
        return Response(
            text=text[: min(cuts)] if cuts else text,
            finish=row.finish,
            token_ids=tuple(row.ids),
            logp_policy=tuple(row.logps),
            tokenizer=self.policy.fingerprint,
            usage=Usage(prompt_tokens=prompt_length, completion_tokens=len(row.ids), calls=1),
            seed=row.seed,
            near_ties=row.near_ties,
        )


def draw(
    logits_BV: torch.Tensor, uniforms_B: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token per row by inverting the cumulative distribution at the row's uniform number.

    Args:
        logits_BV: raw logits.
        uniforms_B: float64 in [0, 1).

    Returns:
        tokens [B] (long), their log-probabilities [B] under logits / temperature before top-p (float32), and whether
        the draw lay so close to an edge that rounding decides it [B] (bool).
    """
    logits = logits_BV.float()
    if params.temperature == 0:
        top = logits.topk(2, dim=-1)
        tokens = top.indices[:, 0]
        logp = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        return tokens, logp, top.values[:, 0] - top.values[:, 1] < GREEDY_GAP
    logp_BV = (logits / params.temperature).log_softmax(-1)
    probs = logp_BV.exp()
    tie_B = torch.zeros(len(probs), dtype=torch.bool, device=probs.device)
    if params.top_p < 1:
        ranked, order = probs.double().sort(dim=-1, descending=True)
        before = ranked.cumsum(-1) - ranked
        probs = probs.masked_fill((before >= params.top_p).gather(1, order.argsort(-1)), 0.0)
        # Where rounding decides whether a token of some weight is in the nucleus, it may decide the draw too.
        tie_B = (((before - params.top_p).abs() < EDGE) & (ranked > EDGE)).any(-1)
    edges = probs.double().cumsum(-1)
    target = uniforms_B.to(edges.device)[:, None] * edges[:, -1:]
    tokens = torch.searchsorted(edges, target, right=True)
    # Rounding can carry the target to the last edge; the last token with any mass is then meant.
    last = (probs > 0).long().mul(torch.arange(probs.shape[1], device=probs.device)).amax(-1, keepdim=True)
    tokens = torch.minimum(tokens, last)
    upper = edges.gather(1, tokens)
    lower = upper - probs.double().gather(1, tokens)
    tie_B |= (torch.minimum((target - lower).abs(), (upper - target).abs()) < EDGE)[:, 0]
    return tokens[:, 0], logp_BV.gather(1, tokens)[:, 0], tie_B


def _chunks(rows: list[_Row], size: int) -> Iterator[list[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

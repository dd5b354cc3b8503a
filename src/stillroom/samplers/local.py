"""Sampling from a policy in this process: one prefill per prompt, per-row seeds, finished rows dropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from stillroom.chat import render_chat
from stillroom.models.decoding import prefill, select, step
from stillroom.models.policy import Policy, require_prompt_fits
from stillroom.models.tokens import token_bytes
from stillroom.samplers.automata import TokenAutomaton, Vocabulary, ban_automaton, stop_automaton, vocabulary
from stillroom.samplers.base import Prompt, SamplingParams, response_seed
from stillroom.types import Finish, Response, Usage

EDGE = 1e-5
"""A draw closer than this to the edge between two tokens may fall the other way in another batch; it is counted."""
GREEDY_GAP = 1e-4
"""The same for the gap between the two largest logits of a greedy choice."""


class _Row(NamedTuple):
    prompt: int
    offset: int
    seed: int


@dataclass
class _Drawn:
    """What was drawn for the rows of a batch; the first `length_B` columns of a row count."""

    tokens_BT: torch.Tensor
    logp_BT: torch.Tensor
    raw_BT: torch.Tensor
    ties_B: torch.Tensor
    length_B: torch.Tensor
    stopped_B: torch.Tensor


class _Tables(NamedTuple):
    """A `TokenAutomaton` on the policy's device."""

    next_SV: torch.Tensor
    marked_SV: torch.Tensor


class LocalSampler:
    """Samples from a `Policy`.

    A row's draws come from its own seed, so its result does not depend on which rows shared the batch, except where a
    draw lies within `EDGE` of an edge; such draws are counted in `Response.near_ties`.
    """

    def __init__(self, policy: Policy, *, batch_rows: int = 256) -> None:
        self.policy = policy
        self.batch_rows = batch_rows
        self._vocabulary: Vocabulary | None = None
        """Made when something needs it."""

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
        answers: list[list[Response | None]] = [[None] * params.n for _ in prompts]
        for start in range(0, len(rows), self.batch_rows):
            batch = rows[start : start + self.batch_rows]
            for row, answer in zip(batch, self._responses(batch, encoded, params), strict=True):
                answers[row.prompt][row.offset] = answer
            if on_progress is not None:
                on_progress(len(batch))
        return [[answer for answer in found if answer is not None] for found in answers]

    @torch.inference_mode()
    def _draw_all(self, rows: list[_Row], encoded: list[list[int]], params: SamplingParams) -> _Drawn:
        policy, device, limit = self.policy, self.policy.device, params.max_new_tokens
        place = {prompt: at for at, prompt in enumerate(dict.fromkeys(row.prompt for row in rows))}
        hidden_BD, decoding = prefill(policy, [encoded[prompt] for prompt in place], limit)
        index_B = torch.tensor([place[row.prompt] for row in rows], device=device)
        select(decoding, index_B)
        logits_BV = policy.logits(hidden_BD[index_B])

        uniform_BT = torch.zeros(len(rows), limit, dtype=torch.float64)
        if params.temperature > 0:
            for i, row in enumerate(rows):
                uniform_BT[i] = torch.from_numpy(np.random.Generator(np.random.Philox(row.seed)).random(limit))
        uniform_BT = uniform_BT.to(device)
        ends_V = torch.zeros(logits_BV.shape[1], dtype=torch.bool)
        ends_V[[token for token in policy.stop_ids if token < len(ends_V)]] = True
        ends_V = ends_V.to(device)
        stops = ban = None
        if params.stop or params.constraint:
            known = self._known(len(ends_V))
            stops = self._tables(stop_automaton(known, params.stop)) if params.stop else None
            ban = self._tables(ban_automaton(known, params.constraint)) if params.constraint else None

        drawn = _Drawn(
            tokens_BT=torch.zeros(len(rows), limit, dtype=torch.long, device=device),
            logp_BT=torch.zeros(len(rows), limit, device=device),
            raw_BT=torch.zeros(len(rows), limit if params.raw_logits else 0, device=device),
            ties_B=torch.zeros(len(rows), dtype=torch.long, device=device),
            length_B=torch.full((len(rows),), limit, dtype=torch.long, device=device),
            stopped_B=torch.zeros(len(rows), dtype=torch.bool, device=device),
        )
        live_B = torch.arange(len(rows), device=device)
        stop_B = ban_B = torch.zeros(len(rows), dtype=torch.long, device=device)
        for at in range(limit):
            banned_BV = ban.marked_SV[ban_B] if ban is not None else None
            tokens_B, logp_B, tie_B = draw(logits_BV, uniform_BT[live_B, at], params, banned_BV)
            drawn.tokens_BT[live_B, at] = tokens_B
            drawn.logp_BT[live_B, at] = logp_B
            drawn.ties_B[live_B] += tie_B
            if params.raw_logits:
                drawn.raw_BT[live_B, at] = logits_BV.gather(1, tokens_B[:, None])[:, 0].float()
            ended_B = ends_V[tokens_B]
            if ban is not None:
                ban_B = ban.next_SV[ban_B, tokens_B]
            if stops is not None:
                ended_B |= stops.marked_SV[stop_B, tokens_B]
                stop_B = stops.next_SV[stop_B, tokens_B]
            # The one point of a step at which the host waits for the device.
            going_B = (~ended_B).nonzero()[:, 0]
            ended = len(going_B) < len(live_B)
            if ended:
                drawn.length_B[live_B[ended_B]] = at + 1
                drawn.stopped_B[live_B[ended_B]] = True
            if not len(going_B) or at + 1 == limit:
                break
            if ended:
                select(decoding, going_B)
                live_B, tokens_B = live_B[going_B], tokens_B[going_B]
                stop_B, ban_B = stop_B[going_B], ban_B[going_B]
            logits_BV = policy.logits(step(policy, decoding, tokens_B))
        return drawn

    def _known(self, size: int) -> Vocabulary:
        if self._vocabulary is None or self._vocabulary.size != size:
            self._vocabulary = vocabulary(self.policy, size)
        return self._vocabulary

    def _tables(self, automaton: TokenAutomaton) -> _Tables:
        return _Tables(*(torch.from_numpy(table).to(self.policy.device) for table in automaton))

    def _responses(self, rows: list[_Row], encoded: list[list[int]], params: SamplingParams) -> Iterator[Response]:
        drawn = self._draw_all(rows, encoded, params)
        tokens, logps, raws = drawn.tokens_BT.tolist(), drawn.logp_BT.tolist(), drawn.raw_BT.tolist()
        lengths, stopped, ties = drawn.length_B.tolist(), drawn.stopped_B.tolist(), drawn.ties_B.tolist()
        for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids = tokens[at][:length]
            yield Response(
                text=self._text(ids, params.stop, stopped=stopped[at]),
                finish=Finish.STOP if stopped[at] else Finish.LENGTH,
                token_ids=tuple(ids),
                logp_policy=tuple(logps[at][:length]),
                raw_logits=tuple(raws[at][:length]) if params.raw_logits else None,
                tokenizer=self.policy.fingerprint,
                usage=Usage(prompt_tokens=len(encoded[row.prompt]), completion_tokens=length, calls=1),
                seed=row.seed,
                near_ties=ties[at],
            )

    def _text(self, ids: list[int], stop: tuple[str, ...], *, stopped: bool) -> str:
        kept = [token for token in ids if token not in self.policy.stop_ids]
        text = str(self.policy.tokenizer.decode(kept, skip_special_tokens=False))
        if stopped and len(kept) == len(ids) and not any(string in text for string in stop):
            # Some tokenizers drop the space before the first word, and broken characters with all that is near them.
            written = token_bytes(self.policy.tokenizer)
            text = b"".join(written[token] for token in ids).decode(errors="replace")
        return text[: min((at for string in stop if (at := text.find(string)) >= 0), default=None)]


def draw(
    logits_BV: torch.Tensor,
    uniforms_B: torch.Tensor,
    params: SamplingParams,
    banned_BV: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token per row by inverting the cumulative distribution at the row's uniform number.

    Args:
        logits_BV: raw logits.
        uniforms_B: float64 in [0, 1).
        banned_BV: tokens that are not drawn (bool); the others share their probability. At least one per row is free.

    Returns:
        tokens [B] (long), their log-probabilities [B] under logits / temperature before bans and top-p (float32), and
        whether the draw lay so close to an edge that rounding decides it [B] (bool).
    """
    logits = logits_BV.float()
    if params.temperature == 0:
        free = logits if banned_BV is None else logits.masked_fill(banned_BV, -torch.inf)
        top = free.topk(2, dim=-1)
        tokens = top.indices[:, 0]
        logp = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        return tokens, logp, top.values[:, 0] - top.values[:, 1] < GREEDY_GAP
    logp_BV = (logits / params.temperature).log_softmax(-1)
    if banned_BV is None:
        probs = logp_BV.exp()
    else:
        probs = logp_BV.masked_fill(banned_BV, -torch.inf).softmax(-1)
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

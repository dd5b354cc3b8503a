"""Sampling from a policy in this process: one prefill per prompt, per-row seeds, finished rows dropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from stillroom.models.costs import costs_of
from stillroom.models.decoding import Decoding, prefill
from stillroom.models.policy import Policy, require_prompt_fits
from stillroom.models.prefixes import Prefixes
from stillroom.models.tokens import token_bytes
from stillroom.samplers.automata import TokenAutomaton, Vocabulary, ban_automaton, stop_automaton, vocabulary
from stillroom.samplers.base import Prompt, SamplingParams, response_seed
from stillroom.samplers.drawing import Draw, DrawOne, draw, draw_one, settle
from stillroom.samplers.pictures import Encoded, drawn, encode
from stillroom.types import Finish, Message, Response, Usage

PROMPTS = 4096
"""Prompts whose token ids are kept: training and evaluation ask the same ones again and again."""


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


class _Step(NamedTuple):
    """What one step drew for the rows that were still going, as long as there were any."""

    row_B: torch.Tensor
    drawn: Draw
    ended_B: torch.Tensor
    raw_B: torch.Tensor | None


def _put_together(steps: Sequence[_Step], rows: int, limit: int) -> _Drawn:
    row_N = torch.cat([step.row_B for step in steps])
    drawn_N = Draw(*(torch.cat(found) for found in zip(*(step.drawn for step in steps), strict=True)))
    logp_N, tie_N = settle(drawn_N)
    ended_N = torch.cat([step.ended_B for step in steps])
    at_N = torch.cat([torch.full_like(step.row_B, at) for at, step in enumerate(steps)])
    drawn = _Drawn(
        tokens_BT=row_N.new_zeros(rows, limit),
        logp_BT=logp_N.new_zeros(rows, limit),
        raw_BT=logp_N.new_zeros(rows, limit if steps[0].raw_B is not None else 0),
        ties_B=row_N.new_zeros(rows).index_add_(0, row_N, tie_N.long()),
        length_B=row_N.new_zeros(rows).index_add_(0, row_N, torch.ones_like(row_N)),
        stopped_B=row_N.new_zeros(rows).index_add_(0, row_N, ended_N.long()).bool(),
    )
    drawn.tokens_BT[row_N, at_N] = drawn_N.tokens_B
    drawn.logp_BT[row_N, at_N] = logp_N
    if steps[0].raw_B is not None:
        drawn.raw_BT[row_N, at_N] = torch.cat([step.raw_B for step in steps if step.raw_B is not None])
    return drawn


def _without(ended_B: torch.Tensor, ended: int) -> torch.Tensor:
    """The rows that go on, as an index [B - ended] in which most stay where they are: the last ones fill the gaps."""
    kept = len(ended_B) - ended
    index_B = torch.arange(kept, device=ended_B.device)
    index_B[ended_B[:kept]] = kept + (~ended_B[kept:]).nonzero()[:, 0]
    return index_B


class _Tables(NamedTuple):
    """A `TokenAutomaton` on the policy's device."""

    next_SV: torch.Tensor
    marked_SV: torch.Tensor


class LocalSampler:
    """Samples from a `Policy`.

    A row's draws come from its own seed, so its result does not depend on which rows shared the batch, except where a
    draw lies within `EDGE` of an edge; such draws are counted in `Response.near_ties`.

    Args:
        batch_rows: most rows under way at once.
        keep_tokens: for searches, which ask for many continuations of one text after another: keys and values of up to
            this many tokens are kept, and a prompt that begins like an earlier text is read from where it differs.
            Training the policy clears them.
    """

    def __init__(self, policy: Policy, *, batch_rows: int = 256, keep_tokens: int = 0) -> None:
        self.policy = policy
        self.batch_rows = batch_rows
        self._prefixes = Prefixes(keep_tokens) if keep_tokens else None
        self._vocabulary: Vocabulary | None = None
        """Made when something needs it."""
        self._encoded = lru_cache(PROMPTS)(self._encode)
        self._costs = costs_of(policy)

    @property
    def id(self) -> str:
        return f"local:{self.policy.source}"

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of the conversation with the assistant turn opened and the prefix, if any, begun; of a picture, as
        many image tokens as the model makes vectors of it."""
        return list(self._encoded(prompt.messages, prompt.prefix).ids)

    def _encode(self, messages: tuple[Message, ...], prefix: str) -> Encoded:
        return encode(self.policy, messages, prefix)

    def sample(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Response]]:
        """As the protocol says; `on_progress` is called with the number of responses just finished."""
        encoded = [self._encoded(prompt.messages, prompt.prefix) for prompt in prompts]
        for one in encoded:
            require_prompt_fits(self.policy, len(one.ids) + params.max_new_tokens, "a prompt with its answer")
        rows = [_Row(i, j, response_seed(prompt, j)) for i, prompt in enumerate(prompts) for j in range(params.n)]
        # Rows of one prompt stay together (one prefill), prompts of like length share a batch (little padding).
        rows.sort(key=lambda row: (len(encoded[row.prompt].ids), row.prompt, row.offset))
        answers: list[list[Response | None]] = [[None] * params.n for _ in prompts]
        for start in range(0, len(rows), self.batch_rows):
            batch = rows[start : start + self.batch_rows]
            for row, answer in zip(batch, self._responses(batch, encoded, params), strict=True):
                answers[row.prompt][row.offset] = answer
            if on_progress is not None:
                on_progress(len(batch))
        return [[answer for answer in found if answer is not None] for found in answers]

    @torch.inference_mode()
    def _draw_all(self, rows: list[_Row], encoded: list[Encoded], params: SamplingParams) -> _Drawn:
        policy, device, limit = self.policy, self.policy.device, params.max_new_tokens
        place = {prompt: at for at, prompt in enumerate(dict.fromkeys(row.prompt for row in rows))}
        if self._prefixes is not None:
            self._prefixes.belong_to(policy.model)
        logits_BV, decoding = self._read([encoded[prompt] for prompt in place], limit)
        index_B = torch.tensor([place[row.prompt] for row in rows], device=device)
        decoding.select(index_B)
        logits_BV = logits_BV[index_B]

        uniform_TB = torch.zeros(limit, len(rows), dtype=torch.float64)
        if params.temperature > 0:
            drawn_BT = [np.random.Generator(np.random.Philox(row.seed)).random(limit) for row in rows]
            uniform_TB = torch.from_numpy(np.stack(drawn_BT, axis=1)).to(device)
        ends_V = torch.zeros(logits_BV.shape[1], dtype=torch.bool)
        ends_V[[token for token in policy.stop_ids if token < len(ends_V)]] = True
        ends_V = ends_V.to(device)
        never_V = self._never(logits_BV.shape[1])
        stops = ban = None
        if params.stop or params.constraint:
            known = self._known(len(ends_V))
            stops = self._tables(stop_automaton(known, params.stop)) if params.stop else None
            ban = self._tables(ban_automaton(known, params.constraint)) if params.constraint else None

        steps: list[_Step] = []
        live_B = torch.arange(len(rows), device=device)
        stop_B = ban_B = torch.zeros(len(rows), dtype=torch.long, device=device)
        for at in range(limit):
            banned_BV = ban.marked_SV[ban_B] if ban is not None else None
            if never_V is not None:
                banned_BV = never_V.expand_as(logits_BV) if banned_BV is None else banned_BV | never_V
            drawn = draw(logits_BV, uniform_TB[at].index_select(0, live_B), params, banned_BV)
            tokens_B = drawn.tokens_B
            raw_B = logits_BV.gather(1, tokens_B[:, None])[:, 0].float() if params.raw_logits else None
            ended_B = ends_V[tokens_B]
            if ban is not None:
                ban_B = ban.next_SV[ban_B, tokens_B]
            if stops is not None:
                ended_B = ended_B | stops.marked_SV[stop_B, tokens_B]
                stop_B = stops.next_SV[stop_B, tokens_B]
            steps.append(_Step(live_B, drawn, ended_B, raw_B))
            # The one point of a step at which the host waits for the device.
            ended = int(ended_B.sum())
            if self._prefixes is not None and (ended or at + 1 == limit):
                over_B = ended_B if at + 1 < limit else torch.ones_like(ended_B)
                self._keep(over_B, decoding, steps, [list(encoded[row.prompt].ids) for row in rows])
            if ended == len(live_B) or at + 1 == limit:
                break
            if ended:
                going_B = _without(ended_B, ended)
                decoding.select(going_B)
                live_B, tokens_B = live_B[going_B], tokens_B[going_B]
                stop_B, ban_B = stop_B[going_B], ban_B[going_B]
            logits_BV = decoding.step(tokens_B)
        return _put_together(steps, len(rows), limit)

    @torch.inference_mode()
    def _draw_one(self, row: _Row, encoded: Encoded, params: SamplingParams) -> _Drawn:
        """`_draw_all` for a single row, without torch between the steps, for which one row is too little work."""
        policy, limit = self.policy, params.max_new_tokens
        if self._prefixes is not None:
            self._prefixes.belong_to(policy.model)
        logits_BV, decoding = self._read([encoded], limit)
        never_V = self._never(logits_BV.shape[1])
        uniforms = [0.0] * limit
        if params.temperature > 0:
            uniforms = np.random.Generator(np.random.Philox(row.seed)).random(limit).tolist()
        stops = ban = None
        if params.stop or params.constraint:
            known = self._known(logits_BV.shape[1])
            stops = stop_automaton(known, params.stop) if params.stop else None
            ban = ban_automaton(known, params.constraint) if params.constraint else None
        steps: list[DrawOne] = []
        raws: list[float] = []
        stop_state = ban_state = 0
        ended = False
        while True:
            logits_V = logits_BV[0].float().numpy()
            banned_V = ban.marked_SV[ban_state] if ban is not None else None
            if never_V is not None:
                banned_V = never_V.numpy() if banned_V is None else banned_V | never_V.numpy()
            drawn = draw_one(logits_V, uniforms[len(steps)], params, banned_V)
            token = drawn.token
            steps.append(drawn)
            raws.append(float(logits_V[token]))
            ended = token in policy.stop_ids
            if ban is not None:
                ban_state = int(ban.next_SV[ban_state, token])
            if stops is not None:
                ended = ended or bool(stops.marked_SV[stop_state, token])
                stop_state = int(stops.next_SV[stop_state, token])
            if ended or len(steps) == limit:
                break
            logits_BV = decoding.step(torch.tensor([token]))
        states = decoding.states(0) if self._prefixes is not None else None
        if self._prefixes is not None and states is not None:
            self._prefixes.keep([*encoded.ids, *(drawn.token for drawn in steps[:-1])], states)
        tokens, *numbers = zip(*steps, strict=True)
        tokens_T = torch.tensor(tokens)
        logp_T, tie_T = settle(Draw(tokens_T, *(torch.tensor(found, dtype=torch.float64) for found in numbers)))
        return _Drawn(
            tokens_BT=tokens_T[None],
            logp_BT=logp_T[None],
            raw_BT=torch.tensor([raws]),
            ties_B=tie_T.sum()[None],
            length_B=torch.tensor([len(steps)]),
            stopped_B=torch.tensor([ended]),
        )

    def _keep(
        self, over_B: torch.Tensor, decoding: Decoding, steps: Sequence[_Step], prompts: Sequence[list[int]]
    ) -> None:
        """Keep the states of rows that are over; the last token of each has been drawn, but not read."""
        assert self._prefixes is not None
        for at in over_B.nonzero()[:, 0].tolist():
            row = int(steps[-1].row_B[at])
            drawn = [int(step.drawn.tokens_B[(step.row_B == row).nonzero()[0, 0]]) for step in steps[:-1]]
            states = decoding.states(at)
            if states is not None:
                self._prefixes.keep(prompts[row] + drawn, states)

    def _read(self, prompts: Sequence[Encoded], limit: int) -> tuple[torch.Tensor, Decoding]:
        pictures = drawn([word for prompt in prompts for word in prompt.pictures])
        return prefill(self.policy, [prompt.ids for prompt in prompts], limit, self._prefixes, pictures)

    def _never(self, size: int) -> torch.Tensor | None:
        """Tokens that are not drawn whatever their logits (bool, [V]): they stand for pictures that nobody showed."""
        if self.policy.vision is None:
            return None
        never_V = torch.zeros(size, dtype=torch.bool)
        never_V[[*self.policy.vision.marks]] = True
        return never_V.to(self.policy.device)

    def _known(self, size: int) -> Vocabulary:
        if self._vocabulary is None or self._vocabulary.size != size:
            self._vocabulary = vocabulary(self.policy, size)
        return self._vocabulary

    def _tables(self, automaton: TokenAutomaton) -> _Tables:
        return _Tables(*(torch.from_numpy(table).to(self.policy.device) for table in automaton))

    def _responses(self, rows: list[_Row], encoded: list[Encoded], params: SamplingParams) -> Iterator[Response]:
        if len(rows) == 1 and self.policy.device.type == "cpu":
            drawn = self._draw_one(rows[0], encoded[rows[0].prompt], params)
        else:
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
                usage=self._usage(len(encoded[row.prompt].ids), length),
                seed=row.seed,
                near_ties=ties[at],
            )

    def _usage(self, prompt: int, completion: int) -> Usage:
        known = self._costs
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            calls=1,
            peak_context=prompt + completion,
            flops=known.flops(prompt + completion) if known else None,
            cache_bytes=known.cache_bytes(prompt + completion) if known else None,
        )

    def _text(self, ids: list[int], stop: tuple[str, ...], *, stopped: bool) -> str:
        kept = [token for token in ids if token not in self.policy.stop_ids]
        text = str(self.policy.tokenizer.decode(kept, skip_special_tokens=False))
        if stopped and len(kept) == len(ids) and not any(string in text for string in stop):
            # Some tokenizers drop the space before the first word, and broken characters with all that is near them.
            written = token_bytes(self.policy.tokenizer)
            text = b"".join(written[token] for token in ids).decode(errors="replace")
        return text[: min((at for string in stop if (at := text.find(string)) >= 0), default=None)]

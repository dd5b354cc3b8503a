"""Any OpenAI-compatible server as a sampler: bounded retries, a budget that refuses before sending, a durable cache.

One request per response, so that every answer is paid for, kept and found again by itself. The retries are ours and
not a client library's, because each one must be charged before it is sent.
"""

import asyncio
import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from stillroom.chat import FORMATS, ChatFormat
from stillroom.errors import MissingExtraError, UserError
from stillroom.samplers.base import Prompt, SamplingParams, require_plain, response_seed
from stillroom.samplers.budget import Budget, Charge, Price, charge
from stillroom.samplers.cache import ResponseCache, request_key
from stillroom.samplers.wire import (
    Answer,
    BadReply,
    Request,
    build_request,
    error_text,
    max_prompt_tokens,
    parse_reply,
    retry_after_s,
)
from stillroom.seeds import derive_rng
from stillroom.types import Finish, Message, Response, Usage

if TYPE_CHECKING:
    import httpx

MAX_WAIT_S = 60.0
"""Longest pause between two tries, whatever Retry-After says."""
MAX_REPLY_BYTES = 64 * 2**20
_RETRIED = {408, 409, 425, 429}
_MAY_BE_BILLED = {502, 504, 520, 522, 523, 524}
"""A gateway gave up on a server that may have answered: the outcome is unknown."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def parse_spec(spec: str) -> tuple[str, str]:
    """Model and base URL of ``openai:NAME@URL``. Raises UserError when it does not have that form."""
    match = re.fullmatch(r"openai:(.+)@(https?://\S+)", spec)
    if match is None:
        raise UserError(f"{spec!r} is not openai:NAME@URL; for example openai:my-model@http://localhost:8000/v1")
    model, url = match[1], match[2].rstrip("/")
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment:
        raise UserError(
            f"{url!r} is not a plain base URL; for example https://api.openai.com/v1 (keys go into a variable)"
        )
    return model, url


class OpenAISampler:
    """Samples from a server that speaks the OpenAI protocol.

    Args:
        model: name that the server knows.
        base_url: up to and including ``/v1``.
        budget: every request is charged to it before it is sent.
        cache: every received answer is on disk before it is used, and is never asked for again.
        price: US dollars per million tokens; None: unknown, and then a dollar budget is refused.
        api_key_env: environment variable that holds the key; no key is sent when it is unset.
        concurrency: requests under way at a time.
        timeout_s: for one request, from connecting to the last byte.
        max_retries: further tries after a failed one.
        backoff_s: first pause; it doubles with each try, is jittered, and yields to a longer Retry-After.
        chat_format: how a separately sent ``reasoning_content`` is put before the answer.
        assistant_prefix: the server continues an assistant message (``continue_final_message``: vLLM, SGLang).
        render: writes messages in the model's chat template; requests then go to ``/completions``.

    Raises:
        UserError: a dollar budget without a price, an unusable key or number.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        budget: Budget,
        cache: ResponseCache,
        price: Price | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_s: float = 300.0,
        max_retries: int = 5,
        backoff_s: float = 0.5,
        chat_format: ChatFormat = FORMATS["think"],
        assistant_prefix: bool = False,
        render: Callable[[Sequence[Message]], str] | None = None,
    ) -> None:
        if budget.limit_usd is not None and price is None:
            raise UserError(
                f"--budget-usd {budget.limit_usd} needs the price of {model!r}: add --price IN,OUT (US dollars per "
                "million prompt and completion tokens)"
            )
        if price is not None and min(price) < 0:
            raise UserError(f"price {tuple(price)}: give two numbers of at least 0")
        if concurrency < 1 or max_retries < 0 or timeout_s <= 0:
            raise UserError(
                f"concurrency={concurrency}, max_retries={max_retries}, timeout_s={timeout_s}: "
                "give at least 1, at least 0, more than 0"
            )
        self.id = f"openai:{model}"
        self.counts: Counter[str] = Counter()
        """What happened: requests ``sent``, answers ``received`` and ``from cache``, rows ``failed``, and why tries
        failed (``http 429``, ``wrong model``, ``timeout``, …)."""
        self._model = model
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._cache = cache
        self._price = price
        self._key_env = api_key_env
        self._headers = _headers(api_key_env)
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._chat_format = chat_format
        self._assistant_prefix = assistant_prefix
        self._render = render
        self._host = urlsplit(self._base_url).hostname or ""
        # OpenAI's newer models refuse max_tokens; most other servers know nothing else.
        self._limit_field = "max_completion_tokens" if self._host.endswith("openai.com") else "max_tokens"
        self._reached = False

    def sample(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Response]]:
        """Responses in the order of the prompts, from the cache where they were received before.

        Args:
            on_progress: called with the number of responses just finished.

        Raises:
            BudgetExceeded: before a request that could cost more than is left; all received answers are kept.
            UserError: the server cannot be reached or refuses the key or the model; a prefix it cannot continue; a
                constraint.
        """
        require_plain(params, self.id)
        rows = [[self._request(prompt, params, offset) for offset in range(params.n)] for prompt in prompts]
        keys = [[self._key(request) for request in row] for row in rows]
        wanted = {
            key: request for row, names in zip(rows, keys, strict=True) for request, key in zip(row, names, strict=True)
        }
        todo = {key: request for key, request in wanted.items() if key not in self._cache}
        self.counts["from cache"] += len(wanted) - len(todo)
        if on_progress:
            on_progress(len(prompts) * params.n - len(todo))
        failed: dict[str, Response] = {}
        if todo:
            _run(self._ask_all(_Work(iter(todo.items()), failed, on_progress, asyncio.Event()), len(todo)))
        return [[self._cache.get(key) or failed[key] for key in row] for row in keys]

    def _request(self, prompt: Prompt, params: SamplingParams, offset: int) -> Request:
        return build_request(
            self._model,
            prompt,
            params,
            response_seed(prompt, offset),
            limit_field=self._limit_field,
            assistant_prefix=self._assistant_prefix,
            render=self._render,
        )

    def _key(self, request: Request) -> str:
        return request_key({"path": request.path, "body": request.body, "seed": request.seed})

    async def _ask_all(self, work: "_Work", size: int) -> None:
        httpx = _httpx()
        limits = httpx.Limits(max_connections=self._concurrency)
        # One deadline covers the whole request (`_send`); a server that trickles bytes defeats per-read time-outs.
        timeout = httpx.Timeout(None, connect=min(self._timeout_s, 20.0))
        async with httpx.AsyncClient(
            headers=self._headers, limits=limits, timeout=timeout, trust_env=self._host not in _LOOPBACK
        ) as client:
            workers = [self._worker(client, work) for _ in range(min(self._concurrency, size))]
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _worker(self, client: "httpx.AsyncClient", work: "_Work") -> None:
        try:
            while not work.stop.is_set() and (item := next(work.todo, None)):
                await self._ask(client, *item, work)
                if work.on_progress:
                    work.on_progress(1)
        except BaseException:
            work.stop.set()  # the others finish what they have under way, and begin nothing new
            raise

    async def _ask(self, client: "httpx.AsyncClient", key: str, request: Request, work: "_Work") -> None:
        """Try until there is an answer in the cache, or a failed row."""
        rng = derive_rng("backoff", request.seed)
        for attempt in range(1, self._max_retries + 2):
            try:
                await self._try(client, key, request, attempt)
                return
            except _Failed as caught:
                failure = caught
            self.counts[failure.kind] += 1
            if failure.final or attempt > self._max_retries:
                break
            backoff_s = self._backoff_s * 2.0 ** (attempt - 1) * rng.uniform(0.5, 1.0)
            pause_s = min(max(backoff_s, failure.retry_after_s or 0.0), MAX_WAIT_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(work.stop.wait(), pause_s)
                return  # another worker ended the run; its error is raised
        if failure.kind == "no connection" and not self._reached:
            raise UserError(f"{failure}; is the server running, and is the URL right?")
        self.counts["failed"] += 1
        work.failed[key] = Response(
            text="",
            finish=Finish.TIMEOUT if failure.kind == "timeout" else Finish.ERROR,
            usage=Usage(calls=attempt),
            seed=request.seed,
            error=f"{failure} (tries: {attempt})",
        )

    async def _try(self, client: "httpx.AsyncClient", key: str, request: Request, attempt: int) -> None:
        """Send once. Returns when the answer is in the cache; raises _Failed otherwise."""
        httpx = _httpx()
        most = charge(max_prompt_tokens(request), request.max_new_tokens, self._price)
        while (reservation := self._budget.reserve(most)) is None:
            await asyncio.sleep(0.02)  # open requests may give some back
        cost: Charge | None = None  # unknown until shown otherwise
        try:
            self.counts["sent"] += 1
            reply = await self._send(client, request)
            self._reached = True
            if not 200 <= reply.status < 300:
                cost = None if reply.status in _MAY_BE_BILLED else charge(0, 0, self._price)
                raise self._refused(reply)
            answer = parse_reply(reply.data, self._model, self._chat_format, request.body.get("stop", ()))
            response, cost = self._accept(answer, request, attempt)
            self._cache.put(key, response)  # before settling: a kill between the two overcharges, and loses nothing
            self.counts["received"] += 1
        except BadReply as error:
            raise _Failed(error.kind, str(error)) from error
        except TimeoutError as error:
            raise _Failed("timeout", f"no complete answer within {self._timeout_s:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            cost = charge(0, 0, self._price)
            raise _Failed("no connection", f"cannot connect to {self._base_url}: {error}") from error
        except httpx.RequestError as error:
            raise _Failed("cut", f"the reply was cut off ({type(error).__name__}: {error})") from error
        finally:
            self._budget.settle(reservation, cost)

    async def _send(self, client: "httpx.AsyncClient", request: Request) -> "_Reply":
        content = json.dumps(request.body).encode()
        data = bytearray()
        async with (
            asyncio.timeout(self._timeout_s),
            client.stream("POST", f"{self._base_url}/{request.path}", content=content) as reply,
        ):
            async for chunk in reply.aiter_bytes():
                data += chunk
                if len(data) > MAX_REPLY_BYTES:
                    raise BadReply("malformed reply", f"longer than {MAX_REPLY_BYTES} bytes")
            return _Reply(reply.status_code, bytes(data), reply.headers.get("retry-after"))

    def _accept(self, answer: Answer, request: Request, attempt: int) -> tuple[Response, Charge]:
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        peak = None
        if prompt_tokens is not None and completion_tokens is not None:
            peak = prompt_tokens + completion_tokens
        else:
            self.counts["usage unknown"] += 1
            prompt_tokens, completion_tokens = max_prompt_tokens(request), request.max_new_tokens
        cost = charge(prompt_tokens, completion_tokens, self._price)
        usage = Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            calls=attempt,
            cost_usd=None if cost.nano_usd is None else cost.nano_usd / 1e9,
            peak_context=peak,
        )
        return Response(text=answer.text, finish=answer.finish, usage=usage, seed=request.seed), cost

    def _refused(self, reply: "_Reply") -> Exception:
        reason = f"HTTP {reply.status} from {self._base_url}: {error_text(reply.data) or 'no reason given'}"
        remedy = {
            401: f"put a valid key into the environment variable {self._key_env}",
            402: "the account has no credit left",
            403: f"the key in {self._key_env} may not use this model, or not from here",
            404: f"check the URL (most end in /v1) and that the server has a model named {self._model!r}",
        }.get(reply.status)
        if remedy:
            return UserError(f"{reason}; {remedy}")
        final = reply.status not in _RETRIED and reply.status < 500
        return _Failed(f"http {reply.status}", reason, final=final, retry_after_s=retry_after_s(reply.retry_after))


@dataclass
class _Work:
    """What the workers of one `sample` call share."""

    todo: Iterator[tuple[str, Request]]
    failed: dict[str, Response]
    on_progress: Callable[[int], None] | None
    stop: asyncio.Event


class _Reply(NamedTuple):
    status: int
    data: bytes
    retry_after: str | None


class _Failed(Exception):
    """One try without an answer."""

    def __init__(self, kind: str, reason: str, *, final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.final = final
        self.retry_after_s = retry_after_s


def _headers(key_env: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(key_env, "").strip()
    if key:
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"the key in {key_env} holds characters that no key has; set it again")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("httpx", "openai") from error
    return httpx


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, also where an event loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(asyncio.run, work).result()

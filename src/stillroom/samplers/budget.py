"""A spending limit that holds over retries, kills and restarts.

Every request is charged *before* it is sent, at the most it can cost, in a ledger on disk. When its outcome is known
the charge is replaced by what it really cost; when it never becomes known, the charge stays.
"""

import math
import threading
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.errors import BudgetExceeded, UserError
from stillroom.samplers.jsonlog import JsonLog

_NANO = 1_000_000_000


class Price(NamedTuple):
    """US dollars per million tokens."""

    prompt_usd: float
    completion_usd: float


class Charge(NamedTuple):
    """What a request costs, or may cost at most."""

    tokens: int
    """Prompt and completion together."""
    nano_usd: int | None
    """Whole billionths of a dollar, so that sums are exact; None when the model has no known price."""


def charge(prompt_tokens: int, completion_tokens: int, price: Price | None) -> Charge:
    """Cost of that many tokens, rounded up to a billionth of a dollar."""
    tokens = prompt_tokens + completion_tokens
    if price is None:
        return Charge(tokens, None)
    usd_per_million = prompt_tokens * price.prompt_usd + completion_tokens * price.completion_usd
    return Charge(tokens, math.ceil(usd_per_million * (_NANO // 1_000_000)))


class Budget:
    """A limit in dollars, in tokens, in both or in neither, and the ledger of what was charged against it.

    Args:
        ledger: JSON lines; what earlier runs charged in it counts. Several processes may share it.
        usd: limit in US dollars over all runs that use this ledger.
        tokens: limit in prompt + completion tokens, likewise.
    """

    def __init__(self, ledger: Path | str, *, usd: float | None = None, tokens: int | None = None) -> None:
        for name, limit in (("usd", usd), ("tokens", tokens)):
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise UserError(f"budget {name}={limit}: give a number of at least 0")
        self.limit_usd = usd
        self.limit_tokens = tokens
        self._limit_nano = None if usd is None else math.floor(usd * _NANO)
        self._log = JsonLog(Path(ledger))
        self._charges: dict[str, Charge] = {}
        self._unsettled: set[str] = set()
        self._open: set[str] = set()  # unsettled, and sent by this process
        self._tokens = 0
        self._nano = 0
        self._unpriced = 0
        # A process may run several samplers on one budget, each in its own thread.
        self._mutex = threading.Lock()
        self._absorb(self._log.read_new())
        if usd is not None and self._unpriced:
            raise UserError(
                f"{ledger} holds {self._unpriced} requests that were sent without a price, so --budget-usd {usd} "
                "cannot be kept; use a fresh folder, or --budget-tokens"
            )

    @property
    def spent_tokens(self) -> int:
        """Charged so far, open and unknown requests at their maximum."""
        return self._tokens

    @property
    def spent_usd(self) -> float | None:
        """Charged so far; None when a request had no price."""
        return None if self._unpriced else self._nano / _NANO

    @property
    def unknown(self) -> int:
        """Requests whose outcome never became known (cut, timed out, killed); each stays charged at its maximum."""
        return len(self._unsettled - self._open)

    def reserve(self, most: Charge) -> str | None:
        """Charge the most that a request can cost and return the charge's name.

        None: it does not fit now, but requests of this process are open and may give some back; ask again.

        Raises:
            BudgetExceeded: it does not fit and nothing is open. The request must not be sent.
        """
        with self._mutex, self._log.locked() as log:
            self._absorb(log.read_new())
            if not self._fits(most):
                if self._open:
                    return None
                raise BudgetExceeded(self._refusal(most))
            key = uuid.uuid4().hex
            record = {"reserve": key, "tokens": most.tokens, "nano_usd": most.nano_usd}
            log.append(record)
            self._open.add(key)
            self._absorb(log.read_new())
            return key

    def settle(self, key: str, cost: Charge | None) -> None:
        """Replace a reservation by the real cost; None: the outcome is unknown and the charge stays."""
        with self._mutex:
            if cost is not None:
                with self._log.locked() as log:
                    log.append({"settle": key, "tokens": cost.tokens, "nano_usd": cost.nano_usd})
                    self._absorb(log.read_new())
            self._open.discard(key)

    def _absorb(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            key = record.get("reserve") or record["settle"]
            if "reserve" in record:
                self._unsettled.add(key)
            else:
                self._unsettled.discard(key)
            self._count(self._charges.get(key, Charge(0, 0)), -1)
            self._charges[key] = Charge(record["tokens"], record["nano_usd"])
            self._count(self._charges[key], 1)

    def _count(self, counted: Charge, sign: int) -> None:
        self._tokens += sign * counted.tokens
        self._nano += sign * (counted.nano_usd or 0)
        self._unpriced += sign * (counted.nano_usd is None and counted.tokens > 0)

    def _fits(self, most: Charge) -> bool:
        tokens_fit = self.limit_tokens is None or self._tokens + most.tokens <= self.limit_tokens
        if self._limit_nano is None:
            return tokens_fit
        if most.nano_usd is None:
            raise UserError(f"--budget-usd {self.limit_usd} needs the model's price: add --price IN,OUT")
        return tokens_fit and self._nano + most.nano_usd <= self._limit_nano

    def _refusal(self, most: Charge) -> str:
        parts = []
        if self._limit_nano is not None and most.nano_usd is not None:
            left = (self._limit_nano - self._nano) / _NANO
            parts.append(
                f"{left:.6f} of {self.limit_usd} USD left, the next request may cost {most.nano_usd / _NANO:.6f}"
            )
        if self.limit_tokens is not None:
            left_tokens = self.limit_tokens - self._tokens
            parts.append(f"{left_tokens} of {self.limit_tokens} tokens left, the next request may take {most.tokens}")
        return (
            f"budget spent: {'; '.join(parts)}. Nothing was sent. Every answer received so far is kept: start again "
            "with a larger --budget-usd or --budget-tokens and none of them is paid for twice"
        )

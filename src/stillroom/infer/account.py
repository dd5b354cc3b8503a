"""What several calls cost together; nothing that is unknown of one of them is known of their sum."""

from collections.abc import Sequence

from stillroom.types import Call, Response, Usage


def calls_of(response: Response) -> tuple[Call, ...]:
    """The calls behind a response; of a plain sampler's, the one that its usage tells of."""
    usage = response.usage
    one = Call(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
    return response.calls or (one,)


def spent(usages: Sequence[Usage]) -> Usage:
    """Tokens, calls, money and operations added up; of context and cache the most that one call needed."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        calls=sum(usage.calls for usage in usages),
        cost_usd=_sum([usage.cost_usd for usage in usages]),
        flops=_sum([usage.flops for usage in usages]),
        peak_context=_most([usage.peak_context for usage in usages]),
        cache_bytes=_most([usage.cache_bytes for usage in usages]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _most(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None

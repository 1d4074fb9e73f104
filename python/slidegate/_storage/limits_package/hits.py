"""Hits several limits by a strategy of the `limits` package, and reads what is left of them."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
from limits import RateLimitItem

from ..._rules.hit import Hit, Outcome
from ..._support.clock import wall_time_s
from ...decision import NS_PER_S

_SLIDING = tuple(
    module.SlidingWindowCounterRateLimiter
    for module in (limits.strategies, limits.aio.strategies)
    if hasattr(module, "SlidingWindowCounterRateLimiter")
)
_FIXED = (limits.strategies.FixedWindowRateLimiter, limits.aio.strategies.FixedWindowRateLimiter)
_REDIS = (limits.storage.RedisStorage, limits.aio.storage.RedisStorage)
_MEMCACHED = (limits.storage.MemcachedStorage, limits.aio.storage.MemcachedStorage)
# Of the 250 bytes that Memcached has for a key, what `limits` adds to the names left aside.
_MEMCACHED_NAMES = 160
_MEMCACHED_NAME = 48
# Counts are read a moment before the clock is.
_MARGIN_S = 0.001
# Redis tells the end of a fixed window to the nearest second, and older versions of `limits` all times in whole ones.
_ROUNDED_OFF_NS = NS_PER_S // 2
_CUT_OFF_NS = NS_PER_S


class LimitsPackageHits:
    """What a strategy of `limits` has counted for requests. As thread-safe as the strategy is.

    Several limits are tested before any of them is hit, so that a refusal takes nothing of the others; requests at the
    same moment can come between, as these storages cannot take all or none. Nothing is waited for but the strategy, and
    that only where it `is_async`.
    """

    def __init__(self, strategy: Any, key_prefix: str) -> None:
        self.strategy = strategy
        self.is_async = isinstance(strategy, limits.aio.strategies.RateLimiter)
        self._prefix = (key_prefix,) if key_prefix else ()
        self._counts_refusals = isinstance(strategy, _FIXED)

    async def peek_all(self, hits: Sequence[Hit]) -> Outcome:
        """What `hit_all` would say, which changes nothing."""
        return await self._each(self.strategy.test, hits)

    async def hit_all(self, hits: Sequence[Hit]) -> Outcome:
        """Takes all of the hits, if there is enough left of each; says about which there is least, or too little."""
        for hit in hits:
            # A single hit tests itself, but what a fixed window refuses it has counted: of large ones it would be felt.
            is_tested = len(hits) > 1 or (self._counts_refusals and hit.cost > 1)
            if is_tested and not await _answer(self.strategy.test(*self._bucket(hit), cost=hit.cost)):
                return await self._refusal(hit)
        return await self._each(self.strategy.hit, hits)

    async def _each(self, ask: Callable[..., Any], hits: Sequence[Hit]) -> Outcome:
        outcomes: list[Outcome] = []
        for hit in hits:
            if not await _answer(ask(*self._bucket(hit), cost=hit.cost)):
                return await self._refusal(hit)
            reset_after_ns, remaining = _left(await _answer(self.strategy.get_window_stats(*self._bucket(hit))))
            outcomes.append((hit, (True, 0, remaining, reset_after_ns, 0)))
        return min(outcomes, key=lambda outcome: outcome[1][2])

    async def _refusal(self, hit: Hit) -> Outcome:
        item, *names = self._bucket(hit)
        stats = await _answer(self.strategy.get_window_stats(item, *names))
        reset_after_ns, remaining = _left(stats)
        rounded_off_ns = _CUT_OFF_NS if isinstance(stats[0], int) else 0
        rounded_off_ns += _ROUNDED_OFF_NS if self._counts_refusals and isinstance(self.strategy.storage, _REDIS) else 0
        retry_after_ns = min(reset_after_ns + rounded_off_ns, item.get_expiry() * NS_PER_S)
        if isinstance(self.strategy, _SLIDING):
            window = await _answer(self.strategy.storage.get_sliding_window(item.key_for(*names), item.get_expiry()))
            retry_after_ns = round(_sliding_wait_s(item, hit.cost, *window) * NS_PER_S)
        return hit, (False, 0, remaining, reset_after_ns, max(1, retry_after_ns))

    def _bucket(self, hit: Hit) -> tuple[Any, ...]:
        # The identifiers of slowapi, so that what it has counted goes on to count.
        names = (*self._prefix, hit.key, hit.bucket.label)
        # A program may have put another storage there.
        if isinstance(self.strategy.storage, _MEMCACHED):
            names = _memcached_names(names)
        # A lone surrogate, as of bytes that are no UTF-8, cannot be sent.
        return (hit.limit.limit, *(name.encode("utf-8", "backslashreplace").decode() for name in names))


async def _answer(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _memcached_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """What can be in a key of Memcached, and is not too long for one: hashes of the names that cannot.

    Else a client that asks for an odd path would be an error of the storage.
    """
    is_short = sum(map(len, names)) <= _MEMCACHED_NAMES
    return tuple(
        name
        if re.fullmatch("[!-~]*", name) and (is_short or len(name) <= _MEMCACHED_NAME)
        else hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        for name in names
    )


def _left(stats: Any) -> tuple[int, int]:
    """Nanoseconds until the time that is told, and what is left."""
    reset_time_s, remaining = stats
    return max(0, round((reset_time_s - wall_time_s()) * NS_PER_S)), max(0, remaining)


def _sliding_wait_s(
    item: RateLimitItem, cost: int, previous: int, previous_left_s: float, current: int, current_left_s: float
) -> float:
    """Until a hit would be admitted, if there are no others; `limits` tells only when the next unit comes back."""
    expiry_s = item.get_expiry()
    room = item.amount - cost
    if previous and current <= room:
        return max(0.0, previous_left_s - (room - current + 1) * expiry_s / previous) + _MARGIN_S
    until_next_s = current_left_s % expiry_s
    if not current or room < 0:
        return until_next_s + expiry_s
    return until_next_s + max(0.0, expiry_s - (room + 1) * expiry_s / current) + _MARGIN_S

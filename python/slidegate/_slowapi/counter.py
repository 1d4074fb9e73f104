"""Counting by hand, in the words of the `limits` package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import limits.strategies
from limits import RateLimitItem, WindowStats

from .._core import Quota
from .._limiter.core import LimiterCore
from .._rules.bucket import Bucket, Rule, bucket_of, joined
from .._rules.notation import Strategy, countable, quota_of
from .._storage.base import Policy
from .._storage.limits_package.strategies import strategy_on
from .._support.clock import wall_time_s
from .._support.errors import ConfigurationError
from ..decision import NS_PER_S, RawDecision
from .flat_keys import readings
from .storage_view import Located, StorageView

_COUNTING = ("hit", "get_window_stats", "storage")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET"})


class Counter:
    """Hits and reads the buckets of a limiter by limit and identifiers, as the strategies of `limits` do.

    Identifiers like those of `request.state.view_rate_limit` name a bucket of an endpoint, or of a shared limit: the
    key and the scope, after the prefix where the limiter has one. Any others name a bucket of their own. Thread-safe.

    Its methods may be replaced, as tests do that want a refusal, those of its `storage`, and that itself, by another or
    by one of `limits`: requests are then counted with those. Raises ConfigurationError where a storage of `limits` has
    no such strategy.
    """

    is_stock = True
    """Whether nobody has replaced what hits, or where."""
    strategy_of_limits: Any = None
    """The strategy of `limits` on the storage that somebody has put in the place of ours; else None."""

    def __init__(self, storage: StorageView, limiter: LimiterCore) -> None:
        self._own_storage = storage
        self.storage: Any = storage
        self._limiter = limiter
        self._strategy: Strategy = limiter.strategy
        storage.know_keys(self.located, self._storage_patched)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "storage" and "storage" in vars(self):
            self._put_on(value)
        super().__setattr__(name, value)
        if name in _COUNTING:
            self._note_replaced()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in _COUNTING:
            self._note_replaced()

    def _note_replaced(self) -> None:
        own = vars(self)
        if "_strategy" in own:
            own["is_stock"] = "hit" not in own and self.strategy_of_limits is None and self.storage is self._own_storage
            self._limiter.renew()

    def _put_on(self, storage: Any) -> None:
        if isinstance(storage, StorageView):
            storage.know_keys(self.located, self._storage_patched)
            self.strategy_of_limits = None
        else:
            self.strategy_of_limits = strategy_on(storage, self._strategy, logging.getLogger("slidegate"))

    def _storage_patched(self, strategy: str | None) -> None:
        # What somebody has put in the place of a storage's method is called by the strategy of `limits` that calls it.
        made = None if strategy is None else strategy_on(self.storage, strategy, logging.getLogger("slidegate"))
        self.strategy_of_limits = made
        self._note_replaced()

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Takes `cost`, if there is as much left, and says whether there was."""
        if self.strategy_of_limits is not None:
            taken: bool = self.strategy_of_limits.hit(item, *identifiers, cost=cost)
            return taken
        if item.amount < 1:
            return False
        policy, key = self._locate(item, identifiers)
        return policy.hit(key, cost)[0]

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Whether `cost` is left. Changes nothing."""
        if self.strategy_of_limits is not None:
            left: bool = self.strategy_of_limits.test(item, *identifiers, cost=cost)
            return left
        return self.peek(item, *identifiers, cost=cost)[0]

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """When all will be left again, in seconds since the epoch, and how much is left now."""
        if self.strategy_of_limits is not None:
            stats: WindowStats = self.strategy_of_limits.get_window_stats(item, *identifiers)
            return stats
        _, _, remaining, reset_after_ns, _ = self.peek(item, *identifiers)
        return WindowStats(wall_time_s() + reset_after_ns / NS_PER_S, remaining)

    def peek(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> RawDecision:
        """What a hit would come to. Changes nothing."""
        if item.amount < 1:
            window_ns = item.get_expiry() * NS_PER_S
            return False, 0, 0, window_ns, window_ns
        policy, key = self._locate(item, identifiers, self.storage.reader)
        return policy.peek(key, cost)

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Forgets the hits."""
        if self.strategy_of_limits is not None:
            self.strategy_of_limits.clear(item, *identifiers)
            return
        policy, key = self._locate(item, identifiers)
        policy.reset(key)

    def located(self, flat_key: str) -> Located | None:
        """The bucket that `limits` would keep under a key such as "LIMITER/192.0.2.1//items/10/1/minute".

        Of several that the key can mean the first that is used, or else the first. None for what can be none of ours.
        """
        candidates = list(self._read(flat_key))
        used = (at for at in candidates if at.policy.peek(at.key)[2] < at.amount)
        return next(used, candidates[0] if candidates else None)

    def _read(self, flat_key: str) -> Iterator[Located]:
        for item, identifiers in readings(flat_key, self._limiter.key_prefix):
            # What nobody can have declared, nobody counts.
            if countable(item, self._strategy) is not item:
                return
            try:
                policy, key = self._locate(item, identifiers)
            except ConfigurationError:
                return
            yield Located(policy, key, item.amount, item.get_expiry())

    def _locate(
        self,
        item: RateLimitItem,
        identifiers: tuple[str, ...],
        made: Callable[[tuple[Rule, ...]], Policy] | None = None,
    ) -> tuple[Policy, str]:
        made = made or self.storage.policy
        prefix, style = self._limiter.key_prefix, self._limiter.key_style
        item = countable(item, self._strategy)
        quota = quota_of(item, self._strategy, "a limit")
        own = identifiers[1:] if prefix and identifiers[:1] == (prefix,) else identifiers
        if len(own) != 2:
            place = bucket_of(prefix, "custom", "", None)
            return self._at(made, quota, place, joined(*map(str, identifiers)))
        key, scope = own
        if scope in self._limiter.planner.shared_scopes:
            return self._at(made, quota, bucket_of(prefix, "shared", scope, None), key)
        plain = self._at(made, quota, bucket_of(prefix, style, scope, None), key)
        name, _, method = scope.rpartition(":")
        if not name or method not in _METHODS:
            return plain
        # A limit that counts methods apart tells its scope as "/items:GET". A path can be that, too.
        apart = self._at(made, quota, bucket_of(prefix, style, name, method), key)
        return plain if _is_used(plain, item) and not _is_used(apart, item) else apart

    def _at(
        self, made: Callable[[tuple[Rule, ...]], Policy], quota: Quota, place: Bucket, key: str
    ) -> tuple[Policy, str]:
        return made(((quota, place.rule_scope),)), place.lead + key


def _is_used(bucket: tuple[Policy, str], item: RateLimitItem) -> bool:
    policy, key = bucket
    return policy.peek(key)[2] < item.amount


class MovingWindowCounter(Counter):
    """Of moving windows."""


class FixedWindowCounter(Counter):
    """Of fixed windows."""


class SlidingWindowCounter(Counter):
    """Of sliding windows' counters."""


_KINDS: Mapping[str, type[Counter]] = {
    "moving-window": MovingWindowCounter,
    "fixed-window": FixedWindowCounter,
    "sliding-window-counter": SlidingWindowCounter,
}


def counter_on(storage: StorageView, limiter: LimiterCore) -> Counter:
    """A counter of the class that stands for the limiter's strategy."""
    return _KINDS.get(limiter.strategy, Counter)(storage, limiter)


# Programs ask of what kind a strategy is.
limits.strategies.RateLimiter.register(Counter)
for _name, _kind in _KINDS.items():
    if _name in limits.strategies.STRATEGIES:
        limits.strategies.STRATEGIES[_name].register(_kind)

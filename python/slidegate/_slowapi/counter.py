"""Counting by hand, in the words of the `limits` package."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from limits import RateLimitItem, WindowStats
from limits.strategies import STRATEGIES, FixedWindowRateLimiter, MovingWindowRateLimiter

from .._limiter.core import LimiterCore
from .._rules.notation import countable
from .._storage.limits_package.strategies import strategy_on
from .storage_view import StorageView


class Counter:
    """What a strategy of `limits` becomes that counts for a limiter, on the view of its storage.

    Identifiers like those of `request.state.view_rate_limit` name a bucket of an endpoint, or of a shared limit: the
    key and the scope, after the prefix where the limiter has one. Any others name a bucket of their own. Thread-safe.

    Its methods may be replaced, as tests do that want a refusal, those of its `storage`, and that itself, by another or
    by one of `limits`: requests are then counted with those. Raises ConfigurationError where a storage of `limits` has
    no such strategy.
    """

    storage: Any
    _limiter: LimiterCore
    _own_storage: StorageView

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "storage":
            self._follow(value)
        super().__setattr__(name, value)
        self._limiter.renew()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._limiter.renew()

    @property
    def is_stock(self) -> bool:
        """Whether nobody has replaced what hits, or where."""
        return "hit" not in vars(self) and self.storage is self._own_storage and self._own_storage.patched is None

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> Any:
        """Takes `cost`, if there is as much left, and says whether there was."""
        return self._as_of_limits.hit(*self._named(item, identifiers), cost=cost)

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> Any:
        """Whether `cost` is left. Changes nothing."""
        return self._as_of_limits.test(*self._named(item, identifiers), cost=cost)

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats | Any:
        """When all will be left again, in seconds since the epoch, and how much is left now."""
        named: Any = self._named(item, identifiers)
        if isinstance(self.storage, StorageView):
            # Of a view, which tells both of every strategy.
            return FixedWindowRateLimiter.get_window_stats(self, *named)  # type: ignore[arg-type]
        return self._as_of_limits.get_window_stats(*named)

    def clear(self, item: RateLimitItem, *identifiers: str) -> Any:
        """Forgets the hits."""
        return self._as_of_limits.clear(*self._named(item, identifiers))

    @property
    def _as_of_limits(self) -> Any:
        return super()

    def _named(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> tuple[Any, ...]:
        if not isinstance(self.storage, StorageView):
            return item, *identifiers
        prefix = self._limiter.key_prefix
        # The prefix may be left away.
        lead = (prefix,) if prefix and len(identifiers) == 2 else ()
        return countable(item, self._limiter.strategy), *lead, *identifiers

    def _follow(self, storage: Any) -> None:
        # Becomes what counts on this storage, as it is now.
        kind: Any = MovingWindowRateLimiter
        if isinstance(storage, StorageView):
            # What somebody has put in the place of its methods is called by the strategy that calls it.
            kind = STRATEGIES.get(storage.patched or self._limiter.strategy, kind)
            storage.watch(self._storage_patched)
        else:
            kind = type(strategy_on(storage, self._limiter.strategy, logging.getLogger("slidegate")))
        self.__class__ = _kind_of(kind)

    def _storage_patched(self) -> None:
        self._follow(self.storage)
        self._limiter.renew()


@lru_cache(None)
def _kind_of(strategy: Any) -> Any:
    return type(strategy)(strategy.__name__, (Counter, strategy), {})


def counter_on(storage: StorageView, limiter: LimiterCore) -> Counter:
    """A counter of the class that has the limiter's strategy; of moving windows for what `limits` has not."""
    counter: Counter = object.__new__(_kind_of(MovingWindowRateLimiter))
    vars(counter).update(_limiter=limiter, _own_storage=storage)
    counter.storage = storage
    return counter

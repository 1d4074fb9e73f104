"""Counting by hand, in the words of the `limits` package."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from limits import RateLimitItem, WindowStats

from ._places import KeyStyle, Place, place_of
from .decision import NS_PER_S, Decision
from .notation import quota_of
from .storage import Policy, Storage
from .strategies import Strategy


@dataclass(frozen=True)
class Counter:
    """Hits and reads the buckets of a limiter by limit and identifiers, as the strategies of `limits` do.

    The identifiers are those of `request.state.view_rate_limit`: the key and the scope, perhaps after a prefix, which
    is ignored. `shared` holds the places of shared limits by their names. Thread-safe.
    """

    storage: Storage
    strategy: Strategy
    key_prefix: str
    key_style: KeyStyle
    shared: Mapping[str, Place]

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Takes `cost`, if there is as much left, and says whether there was."""
        policy, key = self._locate(item, identifiers)
        return policy.hit(key, cost)[0]

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Whether `cost` is left. Changes nothing."""
        return self.peek(item, *identifiers, cost=cost).allowed

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """When all will be left again, in seconds since the epoch, and how much is left now."""
        decision = self.peek(item, *identifiers)
        return WindowStats(time.time() + decision.reset_after_ns / NS_PER_S, decision.remaining)

    def peek(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> Decision:
        """What a hit would come to. Changes nothing."""
        policy, key = self._locate(item, identifiers)
        return Decision.of(policy.peek(key, cost), item, identifiers[-2], identifiers[-1])

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Forgets the hits."""
        policy, key = self._locate(item, identifiers)
        policy.reset(key)

    def _locate(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> tuple[Policy, str]:
        *_, key, scope = identifiers
        place = self.shared.get(scope) or place_of(self.key_prefix, self.key_style, scope, None)
        quota = quota_of(item, self.strategy, "a limit")
        return self.storage.policy(((quota, place.rule_scope),)), place.lead + key

"""Counting by what a program has put in the place of a limiter's `_limiter`, or of its `__evaluate_limits`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .._limiter.backends.base import PrimaryBackend
from .._limiter.backends.fallback import Fallback
from .._limiter.backends.limits_package import LimitsPackageBackend
from .._limiter.backends.memory import MemoryBackend
from .._rules.bucket import counted_path
from .._rules.hit import Hit, Outcome
from .._rules.plan import RequestContext
from .._storage.limits_package.strategies import is_strategy
from .._support.steps import Steps, answered
from ..decision import NS_PER_S
from .counter import Counter


@dataclass(frozen=True)
class ReplacedCounter(MemoryBackend):
    """Hits by a counter of which nothing more is known, and does all else in the memory of this process."""

    counter: Any = None
    key_prefix: str = ""
    is_exact: ClassVar = False
    watches_itself: ClassVar = False

    def policy(self, hits: Sequence[Hit]) -> None:
        return None

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome]:
        return _hit_in_turn(self.counter, hits, self.key_prefix)


class ReplacedStrategy(LimitsPackageBackend):
    """A strategy of `limits`, whose `hit` can be replaced at any time, of which nobody tells."""

    @property
    def is_exact(self) -> bool:
        return "hit" not in vars(self.strategy)

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome]:
        return super().take(hits, context) if self.is_exact else _hit_in_turn(self.strategy, hits, self.key_prefix)


@dataclass(frozen=True)
class ReplacedEvaluation(Fallback):
    """Has limits that are enforced decided by what somebody has put in the place of `__evaluate_limits`."""

    evaluate: Callable[..., Any] = lambda *given: None

    def policy(self, hits: Sequence[Hit]) -> None:
        return None

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome | None]:
        enforced = [hit.limit for hit in hits if not hit.group.is_shadow]
        if enforced:
            request, is_by_path = context.request, self.resolver.key_style == "url"
            endpoint = counted_path(request.scope) if is_by_path else context.plan.endpoint
            yield from answered(self.evaluate(request, endpoint, enforced))
        return None


def backend_of(
    counter: Any, known: Sequence[Counter], key_prefix: str, own: PrimaryBackend, local: MemoryBackend
) -> PrimaryBackend:
    """What counts by a limiter's `_limiter`: its `own` backend, where that is a known counter as it was made."""
    if isinstance(counter, Counter) and counter.is_stock and any(counter is each for each in known):
        return own
    if is_strategy(counter):
        return ReplacedStrategy(counter, key_prefix)
    return ReplacedCounter(local.storage, local.carrying, counter, key_prefix)


def _hit_in_turn(counter: Any, hits: Sequence[Hit], key_prefix: str) -> Steps[Outcome]:
    # In the way of slowapi, as it is its interface: one after the other, until one refuses.
    least: Hit | None = None
    for hit in hits:
        item, identifiers = hit.limit.limit, [key_prefix, hit.key, hit.bucket.label]
        is_taken = counter.hit(item, *(identifiers if key_prefix else identifiers[1:]), cost=hit.cost)
        if not ((yield is_taken) if inspect.isawaitable(is_taken) else is_taken):
            window_ns = item.get_expiry() * NS_PER_S
            return hit, (False, 0, 0, window_ns, window_ns)
        least = hit if least is None or item < least.limit.limit else least
    assert least is not None
    return least, (True, 0, least.limit.limit.amount, 0, 0)

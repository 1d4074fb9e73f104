"""What becomes of requests while the storage of a limiter cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from ..._core import Quota
from ..._rules.hit import Hit, Outcome
from ..._rules.limit_group import LimitGroup
from ..._rules.options import OnError
from ..._rules.plan import RequestContext
from ..._rules.resolver import Resolver
from ..._storage.base import Health
from ..._storage.circuit_breaker import CircuitBreaker
from ..._support.errors import StorageError, StorageFull, StorageOut
from ..._support.steps import Steps
from ..._support.waiting import Wait
from .base import PrimaryBackend
from .memory import MemoryBackend


@dataclass(frozen=True)
class Fallback:
    """Counts in `primary`, and tells metrics of it; while that cannot be asked, `on_error` decides. Thread-safe.

    `on_error` is for limits that say nothing themselves. Of those that are "local", the `local_share` is counted in
    `local`; or `limits` are, in the place of all. One that is "closed" has StorageOut raised.

    `breaker` is where there is anything to fall back on: while it is open, probes alone ask `primary`. Without it,
    errors of what does not watch itself are those of the requests.
    """

    primary: PrimaryBackend
    local: MemoryBackend
    resolver: Resolver
    on_error: OnError
    local_share: float = 1
    limits: tuple[LimitGroup, ...] = ()
    breaker: CircuitBreaker | None = None

    def policy(self, hits: Sequence[Hit]) -> Any:
        return None if self.is_out else self.primary.policy(hits)

    def tally(self, hits: Sequence[Hit]) -> Any:
        # What others have decided is told by metrics as what the engine has.
        return None if self.primary is self.local else self.local.policy(hits).tally

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome | None]:
        breaker = self.breaker
        if breaker is not None and breaker.is_open:
            is_back = breaker.is_due() and (yield from self.primary.probe(breaker))
            if not is_back:
                return (yield from self._take_locally(hits, context))
        try:
            outcome = yield from self.primary.take(hits, context)
        except Exception as error:
            return (yield from self.take_instead(hits, context, error))
        if outcome is not None and self.primary.is_exact and (tally := self.tally(hits)) is not None:
            hit, raw_decision = outcome
            tally(raw_decision[0], hits.index(hit))
        return outcome

    def take_instead(self, hits: Sequence[Hit], context: RequestContext, error: Exception) -> Steps[Outcome | None]:
        if self.primary.watches_itself:
            if not isinstance(error, StorageError):
                raise error
        elif self.breaker is None or (isinstance(error, HTTPException) and not isinstance(error, StorageOut)):
            raise error
        else:
            self.breaker.failed(error)
        return (yield from self._take_locally(hits, context, error))

    def peek(self, hits: Sequence[Hit], wait: Wait) -> Steps[Outcome | None]:
        if not self.is_out:
            try:
                return (yield from self.primary.peek(hits, wait))
            except StorageError as error:
                hits = self._left_to_count(hits, error)
        return (yield from self.local.peek(hits, wait)) if hits else None

    def health(self) -> Health:
        is_told_by_breaker = self.is_out or not self.primary.watches_itself
        return self.breaker.health() if self.breaker is not None and is_told_by_breaker else self.primary.health()

    @property
    def is_out(self) -> bool:
        """Whether nothing is asked but what stands in."""
        return self.breaker is not None and self.breaker.is_open

    def _take_locally(
        self, hits: Sequence[Hit], context: RequestContext, error: Exception | None = None
    ) -> Steps[Outcome | None]:
        left = self._left_to_count(hits, error)
        self.local.storage.count_error("fallback" if left else "passed")
        if left and self.limits:
            left = yield from self.resolver.hits(self.limits, context)
            refusal = self.resolver.refusal(left)
            if refusal is not None:
                return refusal
        if not left:
            return None
        try:
            return (yield from self.local.take(left, context))
        except StorageFull:
            # Memory that nobody shares has room.
            return (yield from MemoryBackend(self.local.storage.spare, self.local.carrying).take(left, context))

    def _left_to_count(self, hits: Sequence[Hit], error: Exception | None) -> list[Hit]:
        """The hits that are to be counted here, each against its share of the limit. Those that are open are none.

        Raises StorageOut when one is closed.
        """
        policies = [hit.group.on_error or self.on_error for hit in hits]
        if "closed" in policies:
            raise StorageOut from error
        left, share = [hit for hit, policy in zip(hits, policies, strict=True) if policy == "local"], self.local_share
        return [
            hit._replace(quota=Quota(math.ceil(hit.quota.amount * share), hit.quota.window_ns, hit.quota.strategy))
            for hit in left
        ]

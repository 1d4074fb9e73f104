"""Counting in the storages of the `limits` package, which reach what our own do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio.to_thread

from ..._rules.hit import Hit, Outcome
from ..._rules.plan import RequestContext
from ..._storage.base import Health
from ..._storage.circuit_breaker import CircuitBreaker
from ..._storage.limits_package.hits import LimitsPackageHits
from ..._support.steps import Steps
from ..._support.threads import ThreadsOfLoops
from ..._support.waiting import Wait, run_blocking, wait_in_thread

_MOST_THREADS = 40


class LimitsPackageBackend:
    """A backend whose storage is one of `limits`, as its `strategy` counts.

    What is synchronous runs in a worker thread where an event loop would have to wait for it: in threads of its own, so
    that a storage that does not answer holds up nobody else's. `LimitsPackageHits` says how several limits are counted.
    """

    is_exact: Any = True
    watches_itself = False

    def __init__(self, strategy: Any, key_prefix: str) -> None:
        self.strategy = strategy
        self.key_prefix = key_prefix
        self._hits = LimitsPackageHits(strategy, key_prefix)
        self._threads = ThreadsOfLoops(_MOST_THREADS)

    def policy(self, hits: Sequence[Hit]) -> None:
        return None

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome]:
        return self._asked(self._hits.hit_all, hits, context.wait)

    def peek(self, hits: Sequence[Hit], wait: Wait) -> Steps[Outcome]:
        return self._asked(self._hits.peek_all, hits, wait)

    def probe(self, breaker: CircuitBreaker) -> Steps[bool]:
        if self._hits.is_async:
            yield self._probe_later(breaker)
        else:
            breaker.probe_apart(self.strategy.storage.check)
        return False

    def health(self) -> Health:
        return Health(True, 0, 0, None)

    def _asked(self, ask: Callable[[Sequence[Hit]], Any], hits: Sequence[Hit], wait: Wait) -> Steps[Outcome]:
        outcome: Outcome
        if self._hits.is_async:
            outcome = yield ask(hits)
        elif wait is wait_in_thread:
            outcome = run_blocking(ask(hits))
        else:
            outcome = yield anyio.to_thread.run_sync(lambda: run_blocking(ask(hits)), limiter=self._threads.own())
        return outcome

    async def _probe_later(self, breaker: CircuitBreaker) -> None:
        # Kept, as loops do not keep what they run.
        self._probe = asyncio.ensure_future(breaker.probe(self.strategy.storage.check))

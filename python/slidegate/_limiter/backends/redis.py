"""Counting in a Redis or Valkey server: without blocking on event loops, and blocking elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..._rules.hit import Hit, Outcome, asked_of, held_parts
from ..._rules.plan import RequestContext
from ..._storage.base import Health
from ..._storage.circuit_breaker import CircuitBreaker
from ..._storage.redis.storage import RedisPolicy, RedisStorage, RedisTicket
from ..._support.steps import Steps
from ..._support.waiting import Wait, wait_in_thread
from ..reservations import Reservation


@dataclass(frozen=True)
class RedisBackend:
    """A backend whose storage is a server, which takes all of the hits in one round trip. Raises StorageError."""

    storage: RedisStorage
    is_exact: ClassVar = True
    watches_itself: ClassVar = True

    def policy(self, hits: Sequence[Hit]) -> RedisPolicy:
        return self.storage.policy(asked_of(hits)[0])

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome]:
        rules, asked = asked_of(hits)
        policy, parts, is_blocking = self.storage.policy(rules), held_parts(hits), context.wait is wait_in_thread
        if not parts:
            raw_decision = policy.hit(*asked) if is_blocking else (yield policy.hit_async(*asked))
            return hits[raw_decision[1]], raw_decision
        raw_decision, ticket = policy.reserve(*asked) if is_blocking else (yield policy.reserve_async(*asked))
        if ticket is not None:
            for part, own in zip(parts, ticket.divided(parts), strict=True):
                held = [hits[at] for at in part]
                reservation = Reservation(held, partial(_refund, self.policy(held), own), self.peek)
                context.record.reservations = [*(context.record.reservations or ()), reservation]
        return hits[raw_decision[1]], raw_decision

    def peek(self, hits: Sequence[Hit], wait: Wait) -> Steps[Outcome]:
        rules, asked = asked_of(hits)
        policy = self.storage.policy(rules)
        raw_decision = policy.peek(*asked) if wait is wait_in_thread else (yield policy.peek_async(*asked))
        return hits[raw_decision[1]], raw_decision

    def probe(self, breaker: CircuitBreaker) -> Steps[bool]:
        yield from ()
        breaker.probe_apart(self.storage.check)
        return False

    def health(self) -> Health:
        return self.storage.health()


def _refund(policy: RedisPolicy, ticket: RedisTicket, wait: Wait) -> Steps[object]:
    return policy.refund(ticket) if wait is wait_in_thread else (yield policy.refund_async(ticket))

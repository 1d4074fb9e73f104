"""Counting in the memory of this process, or in what it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from ..._rules.hit import Hit, Outcome, asked_of, held_parts
from ..._rules.plan import RequestContext
from ..._storage.base import Health
from ..._storage.circuit_breaker import CircuitBreaker
from ..._storage.memory import MemoryStorage
from ..._support.fork import ForkableLock
from ..._support.steps import Steps
from ..._support.waiting import Wait, run_blocking
from ..carry_over import beside_previous
from ..reservations import Reservation


@dataclass(frozen=True)
class MemoryBackend:
    """A backend whose storage is the engine's, which never has to be waited for. Raises StorageFull."""

    storage: MemoryStorage
    carrying: ForkableLock = field(default_factory=ForkableLock)
    is_exact: ClassVar = True
    watches_itself: ClassVar = True

    def policy(self, hits: Sequence[Hit]) -> Any:
        return self.storage.policy(asked_of(hits)[0])

    def take(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome]:
        yield from ()
        return beside_previous(hits, self.storage, self.carrying, lambda: self._take(hits, context))

    def peek(self, hits: Sequence[Hit], wait: Wait) -> Steps[Outcome]:
        yield from ()

        def answer() -> Outcome:
            rules, asked = asked_of(hits)
            raw_decision = self.storage.reader(rules).peek(*asked)
            return hits[raw_decision[1]], raw_decision

        return beside_previous(hits, self.storage, self.carrying, answer)

    def probe(self, breaker: CircuitBreaker) -> Steps[bool]:
        yield from ()
        run_blocking(breaker.probe(self.storage.check))
        return not breaker.is_open

    def health(self) -> Health:
        return self.storage.health()

    def _take(self, hits: Sequence[Hit], context: RequestContext) -> Outcome:
        certain = [hit for hit in hits if hit.group.read_deduct is None]
        if len(certain) == len(hits):
            rules, asked = asked_of(hits)
            raw_decision = self.storage.policy(rules).hit(*asked)
            return hits[raw_decision[1]], raw_decision
        outcomes: list[Outcome] = []
        reservations: list[Reservation] = []
        held = [[hits[at] for at in part] for part in held_parts(hits)]
        with ExitStack() as undo:
            for batch in [*held, certain] if certain else held:
                rules, asked = asked_of(batch)
                policy = self.storage.policy(rules)
                raw_decision, ticket = (policy.hit(*asked), None) if batch is certain else policy.reserve(*asked)
                outcomes.append((batch[raw_decision[1]], raw_decision))
                if not raw_decision[0]:
                    return outcomes[-1]
                if ticket is not None:
                    undo.callback(policy.refund, ticket)
                    reservations.append(Reservation(batch, partial(_refund, policy, ticket), self.peek))
            undo.pop_all()
        context.record.reservations = [*(context.record.reservations or ()), *reservations]
        return min(outcomes, key=lambda outcome: outcome[1][2])


def _refund(policy: Any, ticket: Any, wait: Wait) -> Steps[None]:
    yield from ()
    policy.refund(ticket)

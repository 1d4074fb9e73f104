"""Takes what requests cost from whatever counts: the engine, a server, a storage of `limits`, or what stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException

from ..._core import Quota
from ..._http.state import Record, see
from ..._http.view import CurrentLimit, view_of
from ..._rules.limit_group import LimitGroup
from ..._rules.options import OnError
from ..._rules.resolver import Hit, Plan, RequestContext, Resolver, costs_of, held_parts, keys_of
from ..._slowapi.counter import Counter
from ..._storage.limits_package.outage import Outage
from ..._storage.memory import MemoryStorage
from ..._storage.redis.storage import RedisPolicy, RedisStorage
from ..._support.callables import Wait
from ..._support.errors import StorageError, StorageFull, StorageOut
from ..._support.fork import ForkableLock
from ...decision import NS_PER_S, RawDecision
from ..carry_over import beside_carried, is_carrying
from ..reservations import Reservation
from .fallback import left_to_count
from .limits_package import LimitsPackageBackend
from .redis import peek_remotely, take_remotely

Outcome: TypeAlias = tuple[Hit, RawDecision]
"""What was said about the charge that matters most."""


@dataclass(frozen=True)
class Counting:
    """Where one limiter counts. Thread-safe: everything about a request is passed in.

    `storage` is the engine's. `remote` is the server, if any, that counts instead. `foreign_counter` returns what else
    does: a storage of `limits`, or what somebody has replaced the limiter's own counter with. While the one or the
    other cannot be asked, `on_error` decides for limits that do not say themselves, and `local_share` is the part of
    limits that the engine then counts; or it counts `fallback`.

    `outage` is where there is anything to fall back on: while it is on, nothing is asked but this.

    `count_error` is told "passed" of what went on unchecked, and "fallback" where other limits or another storage stood
    in.
    """

    storage: MemoryStorage
    reader: Resolver
    foreign_counter: Callable[[], Counter | LimitsPackageBackend | None]
    count_error: Callable[[str], object]
    on_error: OnError
    fallback: tuple[LimitGroup, ...] = ()
    remote: RedisStorage | None = None
    outage: Outage | None = None
    local_share: float = 1
    carrying: ForkableLock = field(default_factory=ForkableLock)

    async def decide(
        self,
        plan: Plan,
        hits: list[Hit],
        context: RequestContext,
        record: Record,
        foreign: Counter | LimitsPackageBackend | None,
    ) -> Outcome | None:
        """Takes all of the charges or none, and says about which there is least, or too little; None when they pass
        uncounted.

        What depends on the response is held in the record. Raises StorageOut, and whatever the storage does.
        """
        refused = self._refused_beforehand(hits)
        if refused is not None:
            return refused
        if isinstance(foreign, LimitsPackageBackend):
            there = list(hits)

            async def count_here() -> Outcome | None:
                there.clear()
                return await self._fall_back(plan, hits, context, record)

            outcome = await foreign.count(hits, context, count_here)
            if there and outcome is not None:
                self._tally(there, *outcome)
            return outcome
        if self._is_out():
            return await self._fall_back(plan, hits, context, record)
        if foreign is not None:
            try:
                return await self._count_by(foreign, hits, context)
            except Exception as error:
                if self.outage is None or isinstance(error, HTTPException):
                    raise
                self.outage.begin(error)
                return await self._fall_back(plan, hits, context, record)
        try:
            if self.remote is None:
                return self._take(self.storage, hits, record)
            decided = await take_remotely(self.remote, hits, context.wait, record, partial(self._refresh, self.storage))
        except StorageError as error:
            try:
                return await self._fall_back(plan, hits, context, record)
            except StorageOut as out:
                raise out from error
        self._tally(hits, *decided)
        return decided

    def _is_out(self) -> bool:
        outage = self.outage
        if outage is None or not outage.is_on:
            return False
        if outage.is_to_be_probed():
            if self.remote is None:
                outage.probe(self.storage.check)
            else:
                outage.probe_apart(self.remote.check)
        return outage.is_on

    def _tally(self, hits: Sequence[Hit], decisive: Hit, raw_decision: RawDecision) -> None:
        # What others have decided is told by metrics as what the engine has.
        at = next((at for at, each in enumerate(hits) if each is decisive), 0)
        self._policy(hits).tally(raw_decision[0], at)

    async def _fall_back(self, plan: Plan, hits: list[Hit], context: RequestContext, record: Record) -> Outcome | None:
        """What is done about a request while the storage cannot be asked. Raises StorageOut."""
        local = left_to_count(hits, self.on_error, self.local_share)
        self.count_error("fallback" if local else "passed")
        if local and self.fallback:
            local = await self.reader.hits(plan, self.fallback, context)
            refused = self._refused_beforehand(local)
            if refused is not None:
                return refused
        if not local:
            return None
        try:
            return self._take(self.storage, local, record)
        except StorageFull:
            return self._take(self.storage.spare, local, record)

    async def peek(self, hits: list[Hit], context: RequestContext) -> Outcome | None:
        """What would be decided about these charges, of which none is taken; None when they would not be looked at."""
        refused = self._refused_beforehand(hits)
        if refused is not None:
            return refused
        foreign = self.foreign_counter()
        try:
            if isinstance(foreign, LimitsPackageBackend) and foreign.health().is_available:
                return await foreign.peek(hits, context)
            if foreign is None and self.remote is not None and not (self.outage is not None and self.outage.is_on):
                return await peek_remotely(self.remote, hits, context.wait)
        except StorageError as error:
            try:
                hits = left_to_count(hits, self.on_error, self.local_share)
            except StorageOut as out:
                raise out from error
        return self._peek_here(hits) if hits else None

    def _peek_here(self, hits: list[Hit]) -> Outcome:
        def answer() -> Outcome:
            reader = self.storage.reader(tuple(each.rule for each in hits))
            raw_decision = reader.peek(keys_of(hits), costs_of(hits))
            return hits[raw_decision[1]], raw_decision

        return beside_carried(hits, self._policy_of, answer) if is_carrying(hits) else answer()

    def _refused_beforehand(self, hits: Sequence[Hit]) -> Outcome | None:
        needs_key = self.reader.on_missing_key == "refuse"
        hit = next((each for each in hits if each.limit.refuses_all or (needs_key and not each.key)), None)
        if hit is None:
            return None
        window_ns = hit.limit.limit.get_expiry() * NS_PER_S
        return hit, (False, 0, 0, window_ns, window_ns)

    def _take(self, storage: MemoryStorage, hits: list[Hit], record: Record) -> Outcome:
        if not is_carrying(hits):
            return self._take_now(storage, hits, record)
        with self.carrying:
            return beside_carried(hits, self._policy_of, lambda: self._take_now(storage, hits, record))

    def _policy_of(self, quota: Quota, hit: Hit) -> Any:
        return self.storage.policy(((quota, *hit.rule[1:]),))

    def _take_now(self, storage: MemoryStorage, hits: list[Hit], record: Record) -> Outcome:
        certain = [hit for hit in hits if hit.group.read_deduct is None]
        if len(certain) == len(hits):
            raw_decision = policy_in(storage, hits).hit(keys_of(hits), costs_of(hits))
            return hits[raw_decision[1]], raw_decision
        return self._decide_on_hold(storage, certain, hits, record)

    def _decide_on_hold(self, storage: MemoryStorage, certain: list[Hit], hits: list[Hit], record: Record) -> Outcome:
        held = [[hits[at] for at in part] for part in held_parts(hits)]
        refresh = partial(self._refresh, storage)
        reservations: list[Reservation] = []
        outcomes: list[Outcome] = []
        for batch in [*held, *([certain] if certain else [])]:
            policy, keys, costs = policy_in(storage, batch), keys_of(batch), costs_of(batch)
            try:
                raw_decision, ticket = (
                    (policy.hit(keys, costs), None) if batch is certain else policy.reserve(keys, costs)
                )
            except StorageFull:
                _give_back(reservations)
                raise
            if ticket is not None:
                reservations.append(Reservation(policy, ticket, tuple(batch), keys, refresh))
            outcomes.append((batch[raw_decision[1]], raw_decision))
            if not raw_decision[0]:
                _give_back(reservations)
                return outcomes[-1]
        record.holds = [*(record.holds or ()), *reservations]
        return min(outcomes, key=lambda outcome: outcome[1][2])

    async def _count_by(self, counter: Counter, hits: list[Hit], context: RequestContext) -> Outcome:
        # In the way of slowapi, as it is its interface: one after the other, until one refuses.
        least: Hit | None = None
        for hit in hits:
            item, identifiers = hit.limit.limit, [hit.key, hit.place.label]
            if self.reader.key_prefix:
                identifiers.insert(0, self.reader.key_prefix)
            if not await context.answer(counter.hit(item, *identifiers, cost=hit.cost)):
                window_ns = item.get_expiry() * NS_PER_S
                return hit, (False, 0, 0, window_ns, window_ns)
            least = hit if least is None or item < least.limit.limit else least
        assert least is not None
        return least, (True, 0, least.limit.limit.amount, 0, 0)

    def _policy(self, hits: Sequence[Hit]) -> Any:
        return policy_in(self.storage, hits)

    async def _refresh(self, storage: MemoryStorage, record: Record, reservation: Reservation, wait: Wait) -> None:
        view = view_of(record)
        if not isinstance(view, CurrentLimit) or not view.raw_decision[0]:
            return
        for hit, key in zip(reservation.hits, reservation.keys, strict=True):
            if self.view(view.raw_decision, hit) != view:
                continue
            if self.remote is not None and isinstance(reservation.policy, RedisPolicy):
                _, (_, _, remaining, reset_after_ns, _) = await peek_remotely(self.remote, [hit], wait)
            else:
                _, _, remaining, reset_after_ns, _ = policy_in(storage, [hit]).peek(key)
            see(record, self.view((True, 0, remaining, reset_after_ns, 0), hit))

    def view(self, raw_decision: RawDecision, hit: Hit) -> CurrentLimit:
        """What a request's state keeps of an answer."""
        raw_decision = hit.told(raw_decision)
        return CurrentLimit.of(raw_decision, hit.limit.limit, hit.key, hit.place.label, self.reader.key_prefix)


def _give_back(reservations: Sequence[Reservation]) -> None:
    for reservation in reversed(reservations):
        reservation.policy.refund(reservation.ticket)


def policy_in(storage: MemoryStorage, hits: Sequence[Hit]) -> Any:
    """What counts these charges together in that storage."""
    return storage.policy(tuple(each.rule for each in hits))

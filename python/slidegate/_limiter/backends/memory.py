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
from ..._rules.resolver import Asked, Charge, ChargeReader, Plan, costs_of, held_parts, keys_of
from ..._slowapi.counter import Counter
from ..._storage.limits_package.outage import Outage
from ..._storage.memory import MemoryStorage, OnError
from ..._storage.redis.storage import RedisPolicy, RedisStorage
from ..._support.callables import Settle
from ..._support.fork import ForkableLock
from ...decision import NS_PER_S, Essentials
from ...errors import StorageError, StorageFull, StorageOut
from ...wrappers import LimitGroup
from ..carry_over import beside_carried, is_carrying
from ..reservations import Hold
from .fallback import left_to_count
from .limits_package import Bridge
from .redis import peek_remotely, take_remotely

Outcome: TypeAlias = tuple[Charge, Essentials]
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
    reader: ChargeReader
    foreign_counter: Callable[[], Counter | Bridge | None]
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
        charges: list[Charge],
        asked: Asked,
        record: Record,
        foreign: Counter | Bridge | None,
    ) -> Outcome | None:
        """Takes all of the charges or none, and says about which there is least, or too little; None when they pass
        uncounted.

        What depends on the response is held in the record. Raises StorageOut, and whatever the storage does.
        """
        refused = self._refused_beforehand(charges)
        if refused is not None:
            return refused
        if isinstance(foreign, Bridge):
            there = list(charges)

            async def count_here() -> Outcome | None:
                there.clear()
                return await self._fall_back(plan, charges, asked, record)

            outcome = await foreign.count(charges, asked, count_here)
            if there and outcome is not None:
                self._tally(there, *outcome)
            return outcome
        if self._is_out():
            return await self._fall_back(plan, charges, asked, record)
        if foreign is not None:
            try:
                return await self._count_by(foreign, charges, asked)
            except Exception as error:
                if self.outage is None or isinstance(error, HTTPException):
                    raise
                self.outage.begin(error)
                return await self._fall_back(plan, charges, asked, record)
        try:
            if self.remote is None:
                return self._take(self.storage, charges, record)
            decided = await take_remotely(
                self.remote, charges, asked.settle, record, partial(self._refresh, self.storage)
            )
        except StorageError as error:
            try:
                return await self._fall_back(plan, charges, asked, record)
            except StorageOut as out:
                raise out from error
        self._tally(charges, *decided)
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

    def _tally(self, charges: Sequence[Charge], decisive: Charge, essentials: Essentials) -> None:
        # What others have decided is told by metrics as what the engine has.
        at = next((at for at, each in enumerate(charges) if each is decisive), 0)
        self._policy(charges).tally(essentials[0], at)

    async def _fall_back(self, plan: Plan, charges: list[Charge], asked: Asked, record: Record) -> Outcome | None:
        """What is done about a request while the storage cannot be asked. Raises StorageOut."""
        local = left_to_count(charges, self.on_error, self.local_share)
        self.count_error("fallback" if local else "passed")
        if local and self.fallback:
            local = await self.reader.charges(plan, self.fallback, asked)
            refused = self._refused_beforehand(local)
            if refused is not None:
                return refused
        if not local:
            return None
        try:
            return self._take(self.storage, local, record)
        except StorageFull:
            return self._take(self.storage.spare, local, record)

    async def peek(self, charges: list[Charge], asked: Asked) -> Outcome | None:
        """What would be decided about these charges, of which none is taken; None when they would not be looked at."""
        refused = self._refused_beforehand(charges)
        if refused is not None:
            return refused
        foreign = self.foreign_counter()
        try:
            if isinstance(foreign, Bridge) and foreign.health().is_available:
                return await foreign.peek(charges, asked)
            if foreign is None and self.remote is not None and not (self.outage is not None and self.outage.is_on):
                return await peek_remotely(self.remote, charges, asked.settle)
        except StorageError as error:
            try:
                charges = left_to_count(charges, self.on_error, self.local_share)
            except StorageOut as out:
                raise out from error
        return self._peek_here(charges) if charges else None

    def _peek_here(self, charges: list[Charge]) -> Outcome:
        def answer() -> Outcome:
            reader = self.storage.reader(tuple(each.rule for each in charges))
            essentials = reader.peek(keys_of(charges), costs_of(charges))
            return charges[essentials[1]], essentials

        return beside_carried(charges, self._policy_of, answer) if is_carrying(charges) else answer()

    def _refused_beforehand(self, charges: Sequence[Charge]) -> Outcome | None:
        needs_key = self.reader.on_missing_key == "refuse"
        charge = next((each for each in charges if each.limit.refuses_all or (needs_key and not each.key)), None)
        if charge is None:
            return None
        window_ns = charge.limit.limit.get_expiry() * NS_PER_S
        return charge, (False, 0, 0, window_ns, window_ns)

    def _take(self, storage: MemoryStorage, charges: list[Charge], record: Record) -> Outcome:
        if not is_carrying(charges):
            return self._take_now(storage, charges, record)
        with self.carrying:
            return beside_carried(charges, self._policy_of, lambda: self._take_now(storage, charges, record))

    def _policy_of(self, quota: Quota, charge: Charge) -> Any:
        return self.storage.policy(((quota, *charge.rule[1:]),))

    def _take_now(self, storage: MemoryStorage, charges: list[Charge], record: Record) -> Outcome:
        certain = [charge for charge in charges if charge.group.read_deduct is None]
        if len(certain) == len(charges):
            essentials = policy_in(storage, charges).hit(keys_of(charges), costs_of(charges))
            return charges[essentials[1]], essentials
        return self._decide_on_hold(storage, certain, charges, record)

    def _decide_on_hold(
        self, storage: MemoryStorage, certain: list[Charge], charges: list[Charge], record: Record
    ) -> Outcome:
        held = [[charges[at] for at in part] for part in held_parts(charges)]
        refresh = partial(self._refresh, storage)
        holds: list[Hold] = []
        outcomes: list[Outcome] = []
        for batch in [*held, *([certain] if certain else [])]:
            policy, keys, costs = policy_in(storage, batch), keys_of(batch), costs_of(batch)
            try:
                essentials, ticket = (
                    (policy.hit(keys, costs), None) if batch is certain else policy.reserve(keys, costs)
                )
            except StorageFull:
                _give_back(holds)
                raise
            if ticket is not None:
                holds.append(Hold(policy, ticket, tuple(batch), keys, refresh))
            outcomes.append((batch[essentials[1]], essentials))
            if not essentials[0]:
                _give_back(holds)
                return outcomes[-1]
        record.holds = [*(record.holds or ()), *holds]
        return min(outcomes, key=lambda outcome: outcome[1][2])

    async def _count_by(self, counter: Counter, charges: list[Charge], asked: Asked) -> Outcome:
        # In the way of slowapi, as it is its interface: one after the other, until one refuses.
        least: Charge | None = None
        for charge in charges:
            item, identifiers = charge.limit.limit, [charge.key, charge.place.label]
            if self.reader.key_prefix:
                identifiers.insert(0, self.reader.key_prefix)
            if not await asked.answer(counter.hit(item, *identifiers, cost=charge.cost)):
                window_ns = item.get_expiry() * NS_PER_S
                return charge, (False, 0, 0, window_ns, window_ns)
            least = charge if least is None or item < least.limit.limit else least
        assert least is not None
        return least, (True, 0, least.limit.limit.amount, 0, 0)

    def _policy(self, charges: Sequence[Charge]) -> Any:
        return policy_in(self.storage, charges)

    async def _refresh(self, storage: MemoryStorage, record: Record, hold: Hold, settle: Settle) -> None:
        view = view_of(record)
        if not isinstance(view, CurrentLimit) or not view.essentials[0]:
            return
        for charge, key in zip(hold.charges, hold.keys, strict=True):
            if self.view(view.essentials, charge) != view:
                continue
            if self.remote is not None and isinstance(hold.policy, RedisPolicy):
                _, (_, _, remaining, reset_after_ns, _) = await peek_remotely(self.remote, [charge], settle)
            else:
                _, _, remaining, reset_after_ns, _ = policy_in(storage, [charge]).peek(key)
            see(record, self.view((True, 0, remaining, reset_after_ns, 0), charge))

    def view(self, essentials: Essentials, charge: Charge) -> CurrentLimit:
        """What a request's state keeps of an answer."""
        essentials = charge.told(essentials)
        return CurrentLimit.of(essentials, charge.limit.limit, charge.key, charge.place.label, self.reader.key_prefix)


def _give_back(holds: Sequence[Hold]) -> None:
    for hold in reversed(holds):
        hold.policy.refund(hold.ticket)


def policy_in(storage: MemoryStorage, charges: Sequence[Charge]) -> Any:
    """What counts these charges together in that storage."""
    return storage.policy(tuple(each.rule for each in charges))

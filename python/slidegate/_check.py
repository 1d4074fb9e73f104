"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ._bridge import Bridge
from ._callables import Settle, qualified_name
from ._carry import beside_carried, is_carrying
from ._charges import Asked, Charge, ChargeReader, Plan
from ._core import Quota
from ._headers import HeaderFormat
from ._holds import HOLDS, Hold, settle_holds
from ._on_error import left_to_count
from ._redis_storage import RedisPolicy, RedisStorage
from ._refusal_log import RefusalLog
from ._remote import peek_all_remotely, peek_remotely, take_remotely
from ._views import COMPLETE, TAKEN, TOLD_BY, VIEW, Ahead, CurrentLimit, Policy, state_of, told_of
from .counter import Counter
from .decision import NS_PER_S, Decision, Essentials
from .errors import ConfigurationError, RateLimitExceeded, StorageError, StorageOut
from .storage import MemoryStorage, OnError
from .wrappers import Limit, LimitGroup

Check: TypeAlias = Callable[[HTTPConnection, Settle], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""


class _Swallowed(Exception):
    """A request could not be checked, and passes."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


class _Outcome(NamedTuple):
    """A decision about all of the charges, by the one that matters most; `is_known` says whether by exact counts."""

    charge: Charge
    essentials: Essentials
    charges: Sequence[Charge]
    is_known: bool


@dataclass(frozen=True)
class Checker:
    """Decides requests for one limiter. Thread-safe: everything about a request is passed in.

    `owner` marks the requests that were decided, so that an endpoint that calls another one is counted once, and two
    limiters on one endpoint both count. `foreign_counter` returns what to count with instead of the engine: a storage
    of `limits`, or what somebody has replaced the limiter's own counter with. `remote` is the server, if any, that
    counts instead of the engine. While the one or the other cannot be asked, `on_error` decides for limits that do not
    say themselves, and `local_share` is the part of limits that the engine then counts; or it counts `fallback`.

    `count_error` is told of every request that could not be decided as it was meant to be: "raised" when that was an
    error of the request, "passed" when it went on unchecked, "fallback" when other limits or another storage stood in.
    What a callable raises as HTTPException is its answer, no error.
    """

    owner: object
    storage: MemoryStorage
    reader: ChargeReader
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str | None]
    headers_enabled: bool
    swallows_errors: bool
    foreign_counter: Callable[[], Counter | Bridge | None]
    refusal_log: RefusalLog
    count_error: Callable[[str], object]
    is_log_structured: bool = False
    fallback: tuple[LimitGroup, ...] = ()
    remote: RedisStorage | None = None
    on_error: OnError | None = None
    local_share: float = 1
    carrying: threading.Lock = field(default_factory=threading.Lock)

    async def check(
        self,
        plan: Plan,
        request: HTTPConnection,
        settle: Settle,
        known_keys: Mapping[int, Any],
        *,
        is_marked: bool = True,
    ) -> None:
        """Counts a request against all limits of a plan, or against none when one of them refuses.

        Leaves what came of it in `request.state.view_rate_limit` and, where it `is_marked`, that there is nothing more
        to check. `known_keys` holds what key functions, by their id, have returned already. Raises RateLimitExceeded,
        and whatever `ChargeReader.charges` does.
        """
        state = state_of(request.scope)
        state.setdefault(VIEW, None)
        if self.is_settled(plan, request.scope, state):
            return
        asked = Asked(request, settle, dict(known_keys))
        groups = self._left_of(plan, state)
        try:
            outcome = await self._decided(plan, groups, asked, state, state.get(TAKEN, {}).get(id(self.owner)))
        except _Swallowed:
            return
        if is_marked:
            state[COMPLETE] = self.mark_of(plan, state.get(COMPLETE))
        if outcome is not None:
            await self._tell(plan, outcome, asked, state)

    async def take(
        self,
        plan: Plan,
        request: HTTPConnection,
        settle: Settle,
        *,
        is_once: bool,
        headers: bool = True,
        known_keys: Mapping[int, Any] = MappingProxyType({}),
    ) -> CurrentLimit | None:
        """The same for what a program asks beside decorators and middleware: what came of it, None without a limit.

        Where it `is_once`, limits that were taken for the request count no second time, here or in a decorator that
        follows. What is told of the request is the decision with the least left. Raises as `check` does.
        """
        state = state_of(request.scope)
        asked = Asked(request, settle, dict(known_keys))
        taken = state.setdefault(TAKEN, {}).setdefault(id(self.owner), set()) if is_once else None
        # To decorators that follow: there is something to look at, and nothing that is complete.
        state.setdefault(COMPLETE, Ahead(()))
        state.setdefault(VIEW, None)
        try:
            outcome = await self._decided(plan, plan.own, asked, state, taken)
        except _Swallowed:
            return None
        if outcome is None:
            return None
        if headers:
            state[TOLD_BY] = self.owner
        return await self._tell(plan, outcome, asked, state, is_told=headers)

    async def _decided(
        self,
        plan: Plan,
        groups: Sequence[LimitGroup],
        asked: Asked,
        state: MutableMapping[str, Any],
        taken: set[object] | None,
    ) -> _Outcome | None:
        """What came of a request; None when there was nothing to decide.

        `taken` holds what the request has paid for already, to which is added what it pays for now.
        """
        foreign = self.foreign_counter()
        try:
            charges = await self.reader.charges(plan, groups, asked)
            if taken:
                charges = [charge for charge in charges if charge.same not in taken]
            enforced = [charge for charge in charges if not charge.group.is_shadow]
            outcome = await self._decide(plan, enforced, asked, state, foreign) if enforced else None
            if outcome is None or outcome[1][0]:
                await self._shadow(plan, charges, asked, state, foreign)
        except HTTPException as error:
            if isinstance(error, StorageOut):
                self.count_error("raised")
            raise
        except Exception as error:
            if not self.swallows_errors or isinstance(error, ConfigurationError):
                self.count_error("raised")
                raise
            self.count_error("passed")
            self.logger.exception("Failed to rate limit. Swallowing error")
            raise _Swallowed from error
        if taken is not None and (outcome is None or outcome[1][0]):
            taken.update(charge.same for charge in charges)
        if outcome is None:
            return None
        charge, essentials = outcome
        return _Outcome(charge, essentials, enforced, foreign is None or isinstance(foreign, Bridge))

    async def _shadow(
        self,
        plan: Plan,
        charges: Sequence[Charge],
        asked: Asked,
        state: MutableMapping[str, Any],
        foreign: Counter | Bridge | None,
    ) -> None:
        # Each for itself, as none of them has a say about the others.
        for charge in charges:
            if charge.group.is_shadow:
                outcome = await self._decide(plan, [charge], asked, state, foreign)
                if outcome is not None and not outcome[1][0]:
                    decision = self._view(outcome[1], charge).decision
                    route = plan.route or plan.endpoint
                    self.refusal_log.tell(decision, limit=charge.limit.name, route=route, is_shadow=True)

    async def _tell(
        self, plan: Plan, outcome: _Outcome, asked: Asked, state: MutableMapping[str, Any], *, is_told: bool = True
    ) -> CurrentLimit:
        charge, essentials = outcome.charge, outcome.essentials
        view = self._view(essentials, charge)
        view.policies = tuple(
            Policy(each.limit.name or str(each.limit.limit), each.limit.limit, essentials if each is charge else None)
            for each in outcome.charges
        )
        if is_told:
            state[VIEW] = told_of(state, self.owner, view) if outcome.is_known else tuple(view)
        if not essentials[0]:
            detail = None
            if charge.group.read_message is not None:
                detail = str(await asked.answer(charge.group.read_message(asked.request)))
            raise self.refusal(charge.limit, view.decision, detail, plan=plan, policies=view.policies)
        return view

    def is_settled(self, plan: Plan, scope: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        """Whether nothing is left to decide: this limiter has done it, or somebody has said so.

        A dependency of the endpoint, which has limits of its own, has decided nothing about those of the endpoint.
        """
        done = state.get(COMPLETE)
        if done is True or plan.exempt_name in self.exempt_routes:
            return True
        if isinstance(done, Checked) and done.owner is self.owner:
            return done.plan.endpoint == plan.endpoint or plan.is_ahead or not _is_served_by(scope, plan)
        return plan.is_ahead and self._is_ahead(state)

    def mark_of(self, plan: Plan, before: object = None) -> object:
        """What a request's state remembers as `_rate_limiting_complete` when the plan was checked."""
        if not plan.is_ahead:
            return Checked(self.owner, plan)
        return Ahead((*before.owners, self.owner)) if isinstance(before, Ahead) else before or Ahead((self.owner,))

    def _left_of(self, plan: Plan, state: Mapping[str, Any]) -> Sequence[LimitGroup]:
        done = state.get(COMPLETE)
        if isinstance(done, Checked) and done.owner is self.owner:
            return [group for group in plan.groups if group not in done.plan.common]
        return plan.own if self._is_ahead(state) else plan.groups

    def _is_ahead(self, state: Mapping[str, Any]) -> bool:
        before = state.get(COMPLETE)
        return isinstance(before, Ahead) and any(owner is self.owner for owner in before.owners)

    def refusal(
        self,
        limit: Limit,
        decision: Decision,
        detail: str | None = None,
        *,
        plan: Plan | None = None,
        policies: Sequence[Policy] = (),
    ) -> RateLimitExceeded:
        """The exception for a refused request, logged: in the words of slowapi where slowapi would have refused it."""
        if self.is_log_structured or (plan is not None and plan.route):
            route = decision.scope if plan is None else plan.route or plan.endpoint
            self.refusal_log.tell(decision, limit=limit.name, route=route, is_shadow=False)
        else:
            key = decision.key if decision.key.isprintable() else ascii(decision.key)
            text = "ratelimit %s (%.200s) exceeded at endpoint: %.200s"
            self.refusals.warning(text, decision.item, key, decision.scope)
        headers = self.headers.of_refusal(decision, policies, is_retry_only=not self.headers_enabled)
        return RateLimitExceeded(limit, detail=detail, decision=decision, headers=headers)

    async def settle(self, state: MutableMapping[str, Any], response: Response | None, settle: Settle) -> None:
        """Keeps what the response says is to be kept of the limits that depend on it, and gives back the rest."""
        if HOLDS in state:
            await settle_holds(state, response, settle, self.logger)

    async def _decide(
        self,
        plan: Plan,
        charges: list[Charge],
        asked: Asked,
        state: MutableMapping[str, Any],
        foreign: Counter | Bridge | None,
    ) -> tuple[Charge, Essentials] | None:
        refused = self._refused_without_key(charges)
        if refused is not None:
            return refused
        if isinstance(foreign, Bridge):
            there = list(charges)

            async def count_here() -> tuple[Charge, Essentials] | None:
                there.clear()
                return await self._fall_back(plan, charges, asked, state)

            outcome = await foreign.count(charges, asked, count_here)
            if there and outcome is not None:
                self._tally(there, *outcome)
            return outcome
        if foreign is not None:
            return await self._count_by(foreign, charges, asked)
        if self.remote is None:
            return self._take(charges, state)
        try:
            decided = await take_remotely(self.remote, charges, asked.settle, state, self._refresh)
        except StorageError as error:
            try:
                return await self._fall_back(plan, charges, asked, state)
            except StorageOut as out:
                raise out from error
        self._tally(charges, *decided)
        return decided

    def _tally(self, charges: Sequence[Charge], decisive: Charge, essentials: Essentials) -> None:
        # What others have decided is told by metrics as what the engine has.
        at = next((at for at, each in enumerate(charges) if each is decisive), 0)
        self._policy(charges).tally(essentials[0], at)

    async def _fall_back(
        self, plan: Plan, charges: list[Charge], asked: Asked, state: MutableMapping[str, Any]
    ) -> tuple[Charge, Essentials] | None:
        """What is done about a request while the storage cannot be asked. Raises StorageOut."""
        local = left_to_count(charges, self._otherwise, self.local_share)
        self.count_error("fallback" if local else "passed")
        if local and self.fallback:
            local = await self.reader.charges(plan, self.fallback, asked)
        return self._take(local, state) if local else None

    async def peek(self, charges: list[Charge], asked: Asked) -> tuple[Charge, Essentials] | None:
        """What would be decided about these charges, of which none is taken; None when they would not be looked at."""
        refused = self._refused_without_key(charges)
        if refused is not None:
            return refused
        foreign = self.foreign_counter()
        try:
            if isinstance(foreign, Bridge) and foreign.health().is_available:
                return await foreign.peek(charges, asked)
            if foreign is None and self.remote is not None:
                return await peek_all_remotely(self.remote, charges, asked.settle)
        except StorageError as error:
            try:
                charges = left_to_count(charges, self._otherwise, self.local_share)
            except StorageOut as out:
                raise out from error
        return self._peek_here(charges) if charges else None

    def _peek_here(self, charges: list[Charge]) -> tuple[Charge, Essentials]:
        def answer() -> tuple[Charge, Essentials]:
            essentials = self._policy(charges).peek(_keys(charges), _costs(charges))
            return charges[essentials[1]], essentials

        return beside_carried(charges, self._policy_of, answer) if is_carrying(charges) else answer()

    @property
    def _otherwise(self) -> OnError:
        return self.on_error or ("open" if self.swallows_errors else "closed")

    def _refused_without_key(self, charges: Sequence[Charge]) -> tuple[Charge, Essentials] | None:
        charge = next((each for each in charges if not each.key), None)
        if charge is None or self.reader.on_missing_key != "refuse":
            return None
        window_ns = charge.limit.limit.get_expiry() * NS_PER_S
        return charge, (False, 0, 0, window_ns, window_ns)

    def _take(self, charges: list[Charge], state: MutableMapping[str, Any]) -> tuple[Charge, Essentials]:
        if not is_carrying(charges):
            return self._take_now(charges, state)
        with self.carrying:
            return beside_carried(charges, self._policy_of, lambda: self._take_now(charges, state))

    def _policy_of(self, quota: Quota, charge: Charge) -> Any:
        return self.storage.policy(((quota, *charge.rule[1:]),))

    def _take_now(self, charges: list[Charge], state: MutableMapping[str, Any]) -> tuple[Charge, Essentials]:
        certain = [charge for charge in charges if charge.group.read_deduct is None]
        if len(certain) == len(charges):
            essentials = self._policy(charges).hit(_keys(charges), _costs(charges))
            return charges[essentials[1]], essentials
        return self._decide_on_hold(certain, charges, state)

    def _decide_on_hold(
        self, certain: list[Charge], charges: list[Charge], state: MutableMapping[str, Any]
    ) -> tuple[Charge, Essentials]:
        # One ticket for each declaration, as each has a say of its own about the response.
        by_group: dict[int, list[Charge]] = {}
        for charge in charges:
            if charge.group.read_deduct is not None:
                by_group.setdefault(id(charge.group), []).append(charge)
        holds: list[Hold] = []
        outcomes: list[tuple[Charge, Essentials]] = []
        for batch in [*by_group.values(), *([certain] if certain else [])]:
            policy, keys, costs = self._policy(batch), _keys(batch), _costs(batch)
            if batch is certain:
                essentials = policy.hit(keys, costs)
            else:
                essentials, ticket = policy.reserve(keys, costs)
                if ticket is not None:
                    holds.append(Hold(policy, ticket, tuple(batch), keys, self._refresh))
            outcomes.append((batch[essentials[1]], essentials))
            if not essentials[0]:
                for hold in reversed(holds):
                    hold.policy.refund(hold.ticket)
                return outcomes[-1]
        state.setdefault(HOLDS, []).extend(holds)
        return min(outcomes, key=lambda outcome: outcome[1][2])

    async def _count_by(self, counter: Counter, charges: list[Charge], asked: Asked) -> tuple[Charge, Essentials]:
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
        return self.storage.policy(tuple(each.rule for each in charges))

    async def _refresh(self, state: MutableMapping[str, Any], hold: Hold, settle: Settle) -> None:
        view = state.get(VIEW)
        if not isinstance(view, CurrentLimit) or not view.essentials[0]:
            return
        for charge, key in zip(hold.charges, hold.keys, strict=True):
            if self._view(view.essentials, charge) != view:
                continue
            if self.remote is not None and isinstance(hold.policy, RedisPolicy):
                _, _, remaining, reset_after_ns, _ = await peek_remotely(self.remote, charge, settle)
            else:
                _, _, remaining, reset_after_ns, _ = self._policy([charge]).peek(key)
            state[VIEW] = self._view((True, 0, remaining, reset_after_ns, 0), charge)

    def _view(self, essentials: Essentials, charge: Charge) -> CurrentLimit:
        return CurrentLimit.of(essentials, charge.limit.limit, charge.key, charge.place.label, self.reader.key_prefix)


def _is_served_by(scope: Mapping[str, Any], plan: Plan) -> bool:
    served = scope.get("endpoint")
    return served is not None and qualified_name(served) == plan.endpoint


def _keys(charges: Sequence[Charge]) -> tuple[str, ...]:
    return tuple(each.place.lead + each.key for each in charges)


def _costs(charges: Sequence[Charge]) -> tuple[int, ...]:
    return tuple(each.cost for each in charges)

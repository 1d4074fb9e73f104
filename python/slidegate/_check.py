"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from limits import RateLimitItem
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ._bridge import Bridge
from ._callables import Settle, qualified_name
from ._charges import Asked, Charge, ChargeReader, Plan
from ._headers import HeaderFormat
from ._holds import HOLDS, Hold, settle_holds
from ._on_error import left_to_count
from ._redis_storage import RedisPolicy, RedisStorage
from ._remote import peek_remotely, take_remotely
from .counter import Counter
from .decision import NS_PER_S, Decision, Essentials
from .errors import ConfigurationError, RateLimitExceeded, StorageError, StorageOut
from .storage import OnError, Storage
from .wrappers import Limit, LimitGroup

Check: TypeAlias = Callable[[HTTPConnection, Settle], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""

VIEW = "view_rate_limit"
COMPLETE = "_rate_limiting_complete"


CurrentLimitLike: TypeAlias = tuple[RateLimitItem, list[str]]
"""What `request.state.view_rate_limit` holds: a limit, and the key and the scope that it counts."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


class CurrentLimit(tuple[RateLimitItem, list[str]]):
    """A limit, its key and its scope, with what the engine answered about them."""

    essentials: Essentials

    @classmethod
    def of(cls, essentials: Essentials, item: RateLimitItem, key: str, scope: str, key_prefix: str) -> CurrentLimit:
        current = cls((item, [key_prefix, key, scope] if key_prefix else [key, scope]))
        current.essentials = essentials
        return current

    @property
    def decision(self) -> Decision:
        """The answer, with names."""
        item, (*_, key, scope) = self
        return Decision.of(self.essentials, item, key, scope)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What `_rate_limiting_complete` is when only plans that are ahead were checked, by these limiters: not true."""

    owners: tuple[object, ...]

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Checker:
    """Decides requests for one limiter. Thread-safe: everything about a request is passed in.

    `owner` marks the requests that were decided, so that an endpoint that calls another one is counted once, and two
    limiters on one endpoint both count. `foreign_counter` returns what to count with instead of the engine: a storage
    of `limits`, or what somebody has replaced the limiter's own counter with. `remote` is the server, if any, that
    counts instead of the engine. While the one or the other cannot be asked, `on_error` decides for limits that do not
    say themselves, and `local_share` is the part of limits that the engine then counts; or it counts `fallback`.
    """

    owner: object
    storage: Storage
    reader: ChargeReader
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str | None]
    headers_enabled: bool
    swallows_errors: bool
    foreign_counter: Callable[[], Counter | Bridge | None]
    fallback: tuple[LimitGroup, ...] = ()
    remote: RedisStorage | None = None
    on_error: OnError | None = None
    local_share: float = 1

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
        foreign = self.foreign_counter()
        try:
            charges = await self.reader.charges(plan, groups, asked)
            outcome = await self._decide(plan, charges, asked, state, foreign) if charges else None
        except (HTTPException, ConfigurationError):
            raise
        except Exception:
            if not self.swallows_errors:
                raise
            self.logger.exception("Failed to rate limit. Swallowing error")
            return
        if is_marked:
            state[COMPLETE] = self.mark_of(plan, state.get(COMPLETE))
        if outcome is None:
            return
        charge, essentials = outcome
        view = self._view(essentials, charge)
        is_known = foreign is None or isinstance(foreign, Bridge)
        state[VIEW] = view if is_known else tuple(view)
        if not essentials[0]:
            detail = None
            if charge.group.read_message is not None:
                detail = str(await asked.answer(charge.group.read_message(request)))
            raise self.refusal(charge.limit, view.decision, detail)

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

    def refusal(self, limit: Limit, decision: Decision, detail: str | None = None) -> RateLimitExceeded:
        """The exception for a refused request, logged."""
        key = decision.key if decision.key.isprintable() else ascii(decision.key)
        self.refusals.warning("ratelimit %s (%.200s) exceeded at endpoint: %.200s", decision.item, key, decision.scope)
        headers = self.headers.of_refusal(decision, is_retry_only=not self.headers_enabled)
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
        if self.reader.on_missing_key == "refuse":
            for charge in charges:
                if not charge.key:
                    window_ns = charge.limit.limit.get_expiry() * NS_PER_S
                    return charge, (False, 0, 0, window_ns, window_ns)
        if isinstance(foreign, Bridge):
            return await foreign.count(charges, asked, lambda: self._fall_back(plan, charges, asked, state))
        if foreign is not None:
            return await self._count_by(foreign, charges, asked)
        if self.remote is None:
            return self._take(charges, state)
        try:
            return await take_remotely(self.remote, charges, asked.settle, state, self._refresh)
        except StorageError as error:
            try:
                return await self._fall_back(plan, charges, asked, state)
            except StorageOut as out:
                raise out from error

    async def _fall_back(
        self, plan: Plan, charges: list[Charge], asked: Asked, state: MutableMapping[str, Any]
    ) -> tuple[Charge, Essentials] | None:
        """What is done about a request while the storage cannot be asked. Raises StorageOut."""
        otherwise = self.on_error or ("open" if self.swallows_errors else "closed")
        local = left_to_count(charges, otherwise, self.local_share)
        if local and self.fallback:
            local = await self.reader.charges(plan, self.fallback, asked)
        return self._take(local, state) if local else None

    def _take(self, charges: list[Charge], state: MutableMapping[str, Any]) -> tuple[Charge, Essentials]:
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
        return self.storage.policy(tuple((each.quota, each.place.rule_scope) for each in charges))

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


def state_of(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What `request.state` of this scope keeps its attributes in."""
    state: MutableMapping[str, Any] | None = scope.get("state")
    if state is None:
        state = scope["state"] = {}
    return state


def _keys(charges: Sequence[Charge]) -> tuple[str, ...]:
    return tuple(each.place.lead + each.key for each in charges)


def _costs(charges: Sequence[Charge]) -> tuple[int, ...]:
    return tuple(each.cost for each in charges)

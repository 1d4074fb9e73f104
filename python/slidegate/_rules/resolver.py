"""What a request has to pay: asks the users' callables about it, and counts nothing."""

from __future__ import annotations

import inspect
import logging
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

from starlette.requests import HTTPConnection

from .._core import Quota
from .._storage.memory import Rule
from .._support.callables import Settle, qualified_name
from .._support.shown import shown_error
from ..decision import Essentials
from ..errors import ConfigurationError, InvalidCost
from ..wrappers import Limit, LimitGroup, whole_cost
from .bucket import KeyStyle, Place, counted_path, place_of, route_place

OnMissingKey: TypeAlias = Literal["shared", "refuse", "skip"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What requests to an endpoint are counted against.

    `own` is what was declared for the endpoint, `common` what applies to it beside that. `fallback` replaces dynamic
    limits that fail. One that is ahead is checked before the endpoint is called, which may have decorators that nobody
    saw. One that is pooled counts in one place, whatever the path.
    """

    endpoint: str
    own: tuple[LimitGroup, ...]
    common: tuple[LimitGroup, ...]
    fallback: tuple[LimitGroup, ...]
    is_ahead: bool = False
    is_pooled: bool = False
    route: str = ""
    """Methods and template of the path, where the limits of dependencies count; empty for others."""
    exempt_name: str | None = None
    """What it is called among the exempt routes; None when another function of its name is exempt, and it is not."""

    @property
    def groups(self) -> tuple[LimitGroup, ...]:
        return self.own + self.common


class Failure(NamedTuple):
    """A group whose limits cannot be had, why, and those that it had before."""

    group: LimitGroup
    error: Exception
    last: tuple[Limit, ...]


Same: TypeAlias = tuple[Quota | None, Place, str]


class Charge(NamedTuple):
    """What one limit takes for one request. The key is empty when nobody knows who sent it."""

    limit: Limit
    group: LimitGroup
    quota: Quota
    place: Place
    key: str
    cost: int

    @property
    def rule(self) -> Rule:
        """What the engine counts by."""
        return self.quota, self.place.rule_scope, self.limit.name or "", self.group.is_made_by_requests

    @property
    def counted_key(self) -> str:
        """Under which key."""
        return self.place.lead + self.key

    def told(self, essentials: Essentials) -> Essentials:
        """An answer about it, in which a cost above the limit, and no other, is never to be asked for again.

        A share of the limit, and what others count by, may be too small only for now.
        """
        allowed, at, remaining, reset_after_ns, retry_after_ns = essentials
        if allowed:
            return essentials
        if self.cost > self.limit.limit.amount and not self.limit.refuses_all:
            retry_after_ns = -1
        elif retry_after_ns < 0:
            retry_after_ns = self.quota.window_ns
        return allowed, at, remaining, reset_after_ns, retry_after_ns

    def beyond(self, paid: int) -> Charge | None:
        """What is left of it when so much was paid; None when nothing is."""
        if paid == 0:
            return self
        return self._replace(cost=self.cost - paid) if self.cost > paid else None

    @property
    def same(self) -> Same:
        """What charges for the same have in common."""
        return None if self.limit.refuses_all else self.quota, self.place, self.key


def keys_of(charges: Sequence[Charge]) -> tuple[str, ...]:
    """What to count them under."""
    return tuple(each.counted_key for each in charges)


def costs_of(charges: Sequence[Charge]) -> tuple[int, ...]:
    """What they take."""
    return tuple(each.cost for each in charges)


def held_parts(charges: Sequence[Charge]) -> list[list[int]]:
    """Where those stand that depend on the response: together for each declaration, which has a say of its own."""
    by_group: dict[int, list[int]] = {}
    for at, charge in enumerate(charges):
        if charge.group.read_deduct is not None:
            by_group.setdefault(id(charge.group), []).append(at)
    return list(by_group.values())


def _is_keylike(key: object) -> bool:
    """Whether `str` makes the same of equal keys, and something else of others: of a UUID, not of just any object."""
    is_number = isinstance(key, numbers.Number) and not isinstance(key, bool)
    return is_number or type(key).__str__ is not object.__str__


def _is_one_of(method: str, methods: Sequence[str]) -> bool:
    # Frameworks run what serves GET for a HEAD, too.
    return method in methods or (method == "head" and "get" in methods)


def _kind(charge: Charge) -> tuple[bool, bool]:
    return not charge.group.is_shadow, charge.group.read_deduct is None


def _weight(charge: Charge) -> tuple[bool, bool, int]:
    # Of two about one bucket, one that is enforced, and sure to be kept, and strictest, is the one to take.
    return *_kind(charge), {"closed": 2, "open": 0}.get(charge.group.on_error or "", 1)


def _merged(one: Charge, other: Charge) -> Charge:
    """What two declarations about one bucket come to: one hit, at the higher cost."""
    chosen = max(one, other, key=_weight)
    return chosen._replace(cost=max(one.cost, other.cost)) if _kind(one) == _kind(other) else chosen


class Asked(NamedTuple):
    """A request, how to wait for answers about it, and the answers of key functions so far, by their id."""

    request: HTTPConnection
    settle: Settle
    keys: dict[int, Any]

    async def answer(self, value: Any) -> Any:
        return await self.settle(value) if inspect.isawaitable(value) else value


@dataclass(frozen=True)
class ChargeReader:
    """Finds out what requests cost, whom, and where. Thread-safe; `warned_of` is its only memory."""

    key_prefix: str
    key_style: KeyStyle
    on_missing_key: OnMissingKey
    logger: logging.Logger
    count_error: Callable[[str], object]
    warned_of: set[str] = field(default_factory=set)

    async def charges(self, plan: Plan, groups: Iterable[LimitGroup], asked: Asked) -> list[Charge]:
        """Every limit of these groups of the plan that applies to the request, once, however often it was declared.

        A dynamic limit that fails is what it last was for this key, and the fallback of the plan applies beside it.
        Where one is no limit, that of the plan applies unless another limit overrides it.

        Raises InvalidCost for a cost and TypeError for a key that is none, ConfigurationError for a dynamic limit that
        fails where nothing else limits the request, and whatever the callables raise beyond that.
        """
        groups = tuple(groups)
        charges: dict[Same, Charge] = {}
        lifted, failed = await self._add(charges, plan, groups, asked)
        if not (lifted or failed):
            return list(charges.values())
        is_overridden = any(group.override_defaults for group in plan.own if group not in lifted)
        if failed or (lifted and not is_overridden):
            instead = [group for group in plan.fallback if group not in groups]
            failed += (await self._add(charges, plan, instead, asked))[1]
        if failed:
            self._tell_of(plan, failed, charges.values())
        return list(charges.values())

    def place(self, plan: Plan, path: str, scope: object, method: str | None = None) -> Place:
        """Where a limit counts: `scope` when it is shared, else the endpoint or the path, as configured."""
        if isinstance(scope, str) and scope:
            return place_of(self.key_prefix, "shared", scope, method)
        if plan.route:
            return route_place(self.key_prefix, plan.route, plan.endpoint)
        if self.is_by_path(plan, scope):
            return place_of(self.key_prefix, "url", path, method)
        return place_of(self.key_prefix, "endpoint", plan.endpoint, method)

    def is_by_path(self, plan: Plan, scope: object) -> bool:
        """Whether a limit with this scope counts every path apart."""
        return self.key_style == "url" and not (plan.is_pooled or plan.route or scope)

    async def _add(
        self, charges: dict[Same, Charge], plan: Plan, groups: Sequence[LimitGroup], asked: Asked
    ) -> tuple[list[LimitGroup], list[Failure]]:
        """Adds what these groups charge. The groups that are no limit now, and those whose limits cannot be had."""
        lifted: list[LimitGroup] = []
        failed: list[Failure] = []
        method: str = asked.request.scope.get("method", "WEBSOCKET")
        for group in groups:
            if group.is_iterated:
                try:
                    made = list(group.with_request(asked.request))
                    parts = [LimitGroup.of(each, group.strategy, plan.endpoint, group) for each in made]
                except Exception as error:
                    failed.append(Failure(group, error, ()))
                    continue
                failed += (await self._add(charges, plan, parts, asked))[1]
                if not parts:
                    lifted.append(group)
                continue
            if group.methods is not None and not _is_one_of(method.lower(), group.methods):
                continue
            if group.read_exempt is not None and await asked.answer(group.read_exempt(asked.request)):
                continue
            key = await self._key(plan, group, asked)
            try:
                limits = await self._limits(group, asked, key)
            except Exception as error:
                limits = group.last_limits(key)
                failed.append(Failure(group, error, limits))
            else:
                if group.read_limits is not None and not limits:
                    lifted.append(group)
                    self._tell_of_none(plan, group)
            if not limits or (not key and self.on_missing_key == "skip"):
                continue
            place = await self._place(plan, group, asked, method if group.per_method else None)
            cost = await self._cost(plan, group, asked)
            for limit in limits:
                assert limit.quota is not None
                charge = Charge(limit, group, limit.quota, place, key, cost)
                same = charge.same
                charges[same] = charge if same not in charges else _merged(charges[same], charge)
        return lifted, failed

    async def _key(self, plan: Plan, group: LimitGroup, asked: Asked) -> str:
        identity = id(group.key_function)
        key = asked.keys[identity] if identity in asked.keys else group.read_key(asked.request)
        key = asked.keys[identity] = await asked.answer(key)
        if isinstance(key, bytes):
            key = key.decode("utf-8", "surrogateescape")
        elif key is not None and not isinstance(key, str):
            if not _is_keylike(key):
                raise TypeError(
                    f"{plan.endpoint}: the key function {qualified_name(group.key_function)} returned a"
                    f" {type(key).__name__}; a key is a str, bytes, number, or something that str() tells apart"
                )
            key = str(key)
        if not key and "missing key" not in self.warned_of:
            self.warned_of.add("missing key")
            self.logger.warning(
                "%s: the key function %s found no key in a request; on_missing_key=%r applies, now and later",
                plan.endpoint,
                qualified_name(group.key_function),
                self.on_missing_key,
            )
        return key or ""

    async def _limits(self, group: LimitGroup, asked: Asked, key: str) -> tuple[Limit, ...]:
        if group.read_limits is None:
            return group.limits or ()
        limits = group.limits_named(await asked.answer(group.read_limits(asked.request, key)))
        group.remember(key, limits)
        return limits

    def _tell_of(self, plan: Plan, failed: Sequence[Failure], charges: Iterable[Charge]) -> None:
        """Logs that limits could not be had. Raises ConfigurationError when nothing limits the request instead."""
        enforced = [charge for charge in charges if not charge.group.is_shadow]
        defaults = any(charge.group in plan.fallback for charge in enforced)
        instead = "default_limits apply" if defaults else "the last limits that it gave, and others, apply"
        for each in failed:
            self.logger.error(
                "%s: a dynamic limit failed; %s",
                plan.endpoint,
                instead if enforced else "there are no default_limits to use instead",
                exc_info=each.error,
            )
        for group, error, last in failed:
            # For what stands in for others, nothing does but others of its kind.
            is_replaced = defaults if group in plan.fallback else bool(enforced)
            if not (group.is_shadow or last or is_replaced):
                raise ConfigurationError(
                    f"{plan.endpoint}: a dynamic limit failed, and there are no default_limits to use instead: {error}"
                ) from error
        self.count_error("fallback")

    def _tell_of_none(self, plan: Plan, group: LimitGroup) -> None:
        told = f"no limit {plan.endpoint}"
        if told not in self.warned_of:
            self.warned_of.add(told)
            self.logger.error(
                "%s: %s returned no limit; default_limits apply, if there are any; this is said once",
                plan.endpoint,
                qualified_name(group.provider) if callable(group.provider) else "a dynamic limit",
            )

    async def _place(self, plan: Plan, group: LimitGroup, asked: Asked, method: str | None) -> Place:
        scope: object = group.scope
        if group.read_scope is not None:
            scope = str(await asked.answer(group.read_scope(asked.request, plan.endpoint)))
        return self.place(plan, counted_path(asked.request.scope), scope, method)

    async def _cost(self, plan: Plan, group: LimitGroup, asked: Asked) -> int:
        if group.read_cost is None:
            return group.fixed_cost
        try:
            cost = await asked.answer(group.read_cost(asked.request))
        except (ValueError, ArithmeticError) as error:
            # What `int` makes of a text that somebody has sent, say.
            return self._refuse_cost(plan, "what it costs cannot be told", error)
        try:
            return whole_cost(cost)
        except ValueError as error:
            return self._refuse_cost(plan, str(error), error)

    def _refuse_cost(self, plan: Plan, detail: str, error: Exception) -> NoReturn:
        if f"cost of {plan.endpoint}" not in self.warned_of:
            self.warned_of.add(f"cost of {plan.endpoint}")
            self.logger.warning(
                "%s: a callable cost failed, and the request was answered 422, as it is now and later: %s",
                plan.endpoint,
                shown_error(error),
            )
        raise InvalidCost(plan.endpoint, detail) from error

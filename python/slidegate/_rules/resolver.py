"""What a request has to pay: asks the users' callables about it, and counts nothing."""

from __future__ import annotations

import inspect
import logging
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeAlias

from starlette.requests import HTTPConnection

from .._core import Quota
from .._support.callables import Wait, qualified_name
from .._support.errors import ConfigurationError, InvalidCost
from .._support.escaping import escaped_error
from ..decision import NS_PER_S, RawDecision
from .bucket import Bucket, KeyStyle, Rule, bucket_of, counted_path, route_bucket
from .limit import Limit, whole_cost
from .limit_group import LimitGroup
from .options import OnMissingKey


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


Same: TypeAlias = tuple[Quota | None, Bucket, str]


class Hit(NamedTuple):
    """What one limit takes for one request. The key is empty when nobody knows who sent it."""

    limit: Limit
    group: LimitGroup
    quota: Quota
    place: Bucket
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

    def told(self, raw_decision: RawDecision) -> RawDecision:
        """An answer about it, in which a cost above the limit, and no other, is never to be asked for again.

        A share of the limit, and what others count by, may be too small only for now.
        """
        allowed, at, remaining, reset_after_ns, retry_after_ns = raw_decision
        if allowed:
            return raw_decision
        if self.cost > self.limit.limit.amount and not self.limit.refuses_all:
            retry_after_ns = -1
        elif retry_after_ns < 0:
            retry_after_ns = self.quota.window_ns
        return allowed, at, remaining, reset_after_ns, retry_after_ns

    def beyond(self, paid: int) -> Hit | None:
        """What is left of it when so much was paid; None when nothing is."""
        if paid == 0:
            return self
        return self._replace(cost=self.cost - paid) if self.cost > paid else None

    @property
    def same(self) -> Same:
        """What charges for the same have in common."""
        return None if self.limit.refuses_all else self.quota, self.place, self.key


Outcome: TypeAlias = tuple[Hit, RawDecision]
"""The hit that matters most, and what was decided about it."""


def asked_of(hits: Sequence[Hit]) -> tuple[tuple[Rule, ...], tuple[tuple[str, ...], tuple[int, ...]]]:
    """What they are counted by; under which keys, and what they take."""
    rules, keys, costs = zip(*[(each.rule, each.counted_key, each.cost) for each in hits], strict=True)
    return rules, (keys, costs)


def held_parts(hits: Sequence[Hit]) -> list[list[int]]:
    """Where those stand that depend on the response: together for each declaration, which has a say of its own."""
    by_group: dict[int, list[int]] = {}
    for at, hit in enumerate(hits):
        if hit.group.read_deduct is not None:
            by_group.setdefault(id(hit.group), []).append(at)
    return list(by_group.values())


def _is_keylike(key: object) -> bool:
    """Whether `str` makes the same of equal keys, and something else of others: of a UUID, not of just any object."""
    is_number = isinstance(key, numbers.Number) and not isinstance(key, bool)
    return is_number or type(key).__str__ is not object.__str__


def _is_one_of(method: str, methods: Sequence[str]) -> bool:
    # Frameworks run what serves GET for a HEAD, too.
    return method in methods or (method == "head" and "get" in methods)


def _kind(hit: Hit) -> tuple[bool, bool]:
    return not hit.group.is_shadow, hit.group.read_deduct is None


def _weight(hit: Hit) -> tuple[bool, bool, int]:
    # Of two about one bucket, one that is enforced, and sure to be kept, and strictest, is the one to take.
    return *_kind(hit), {"closed": 2, "open": 0}.get(hit.group.on_error or "", 1)


def _merged(one: Hit, other: Hit) -> Hit:
    """What two declarations about one bucket come to: one hit, at the higher cost."""
    chosen = max(one, other, key=_weight)
    return chosen._replace(cost=max(one.cost, other.cost)) if _kind(one) == _kind(other) else chosen


class RequestContext(NamedTuple):
    """A request, how to wait for answers about it, and the answers of key functions so far, by their id.

    `record` is where what its response may give back is kept.
    """

    request: HTTPConnection
    wait: Wait
    keys: dict[int, Any]
    plan: Plan
    record: Any = None

    async def answer(self, value: Any) -> Any:
        return await self.wait(value) if inspect.isawaitable(value) else value


@dataclass(frozen=True)
class Resolver:
    """Finds out what requests cost, whom, and where. Thread-safe; `warned_of` is its only memory."""

    key_prefix: str
    key_style: KeyStyle
    on_missing_key: OnMissingKey
    logger: logging.Logger
    count_error: Callable[[str], object]
    warned_of: set[str] = field(default_factory=set)

    async def hits(self, plan: Plan, groups: Iterable[LimitGroup], context: RequestContext) -> list[Hit]:
        """Every limit of these groups of the plan that applies to the request, once, however often it was declared.

        A dynamic limit that fails is what it last was for this key, and the fallback of the plan applies beside it.
        Where one is no limit, that of the plan applies unless another limit overrides it.

        Raises InvalidCost for a cost and TypeError for a key that is none, ConfigurationError for a dynamic limit that
        fails where nothing else limits the request, and whatever the callables raise beyond that.
        """
        groups = tuple(groups)
        hits: dict[Same, Hit] = {}
        lifted, failed = await self._add(hits, plan, groups, context)
        if not (lifted or failed):
            return list(hits.values())
        is_overridden = any(group.override_defaults for group in plan.own if group not in lifted)
        if failed or (lifted and not is_overridden):
            instead = [group for group in plan.fallback if group not in groups]
            failed += (await self._add(hits, plan, instead, context))[1]
        if failed:
            self._tell_of(plan, failed, hits.values())
        return list(hits.values())

    def refusal(self, hits: Iterable[Hit]) -> Outcome | None:
        """The refusal of a hit that needs no counting: of a limit of zero, or without a key where one is needed."""
        needs_key = self.on_missing_key == "refuse"
        for hit in hits:
            if hit.limit.refuses_all or (needs_key and not hit.key):
                window_ns = hit.limit.limit.get_expiry() * NS_PER_S
                return hit, (False, 0, 0, window_ns, window_ns)
        return None

    def place(self, plan: Plan, path: str, scope: object, method: str | None = None) -> Bucket:
        """Where a limit counts: `scope` when it is shared, else the endpoint or the path, as configured."""
        if isinstance(scope, str) and scope:
            return bucket_of(self.key_prefix, "shared", scope, method)
        if plan.route:
            return route_bucket(self.key_prefix, plan.route, plan.endpoint)
        if self.is_by_path(plan, scope):
            return bucket_of(self.key_prefix, "url", path, method)
        return bucket_of(self.key_prefix, "endpoint", plan.endpoint, method)

    def is_by_path(self, plan: Plan, scope: object) -> bool:
        """Whether a limit with this scope counts every path apart."""
        return self.key_style == "url" and not (plan.is_pooled or plan.route or scope)

    async def _add(
        self, hits: dict[Same, Hit], plan: Plan, groups: Sequence[LimitGroup], context: RequestContext
    ) -> tuple[list[LimitGroup], list[Failure]]:
        """Adds what these groups charge. The groups that are no limit now, and those whose limits cannot be had."""
        lifted: list[LimitGroup] = []
        failed: list[Failure] = []
        method: str = context.request.scope.get("method", "WEBSOCKET")
        for group in groups:
            if group.is_iterated:
                try:
                    made = list(group.with_request(context.request))
                    parts = [LimitGroup.of(each, group.strategy, plan.endpoint, group) for each in made]
                except Exception as error:
                    failed.append(Failure(group, error, ()))
                    continue
                failed += (await self._add(hits, plan, parts, context))[1]
                if not parts:
                    lifted.append(group)
                continue
            if group.methods is not None and not _is_one_of(method.lower(), group.methods):
                continue
            if group.read_exempt is not None and await context.answer(group.read_exempt(context.request)):
                continue
            key = await self._key(plan, group, context)
            try:
                limits = await self._limits(group, context, key)
            except Exception as error:
                limits = group.last_limits(key)
                failed.append(Failure(group, error, limits))
            else:
                if group.read_limits is not None and not limits:
                    lifted.append(group)
                    self._tell_of_none(plan, group)
            if not limits or (not key and self.on_missing_key == "skip"):
                continue
            place = await self._place(plan, group, context, method if group.per_method else None)
            cost = await self._cost(plan, group, context)
            for limit in limits:
                assert limit.quota is not None
                hit = Hit(limit, group, limit.quota, place, key, cost)
                same = hit.same
                hits[same] = hit if same not in hits else _merged(hits[same], hit)
        return lifted, failed

    async def _key(self, plan: Plan, group: LimitGroup, context: RequestContext) -> str:
        identity = id(group.key_function)
        key = context.keys[identity] if identity in context.keys else group.read_key(context.request)
        key = context.keys[identity] = await context.answer(key)
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

    async def _limits(self, group: LimitGroup, context: RequestContext, key: str) -> tuple[Limit, ...]:
        if group.read_limits is None:
            return group.limits or ()
        limits = group.limits_named(await context.answer(group.read_limits(context.request, key)))
        group.remember(key, limits)
        return limits

    def _tell_of(self, plan: Plan, failed: Sequence[Failure], hits: Iterable[Hit]) -> None:
        """Logs that limits could not be had. Raises ConfigurationError when nothing limits the request instead."""
        enforced = [hit for hit in hits if not hit.group.is_shadow]
        defaults = any(hit.group in plan.fallback for hit in enforced)
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

    async def _place(self, plan: Plan, group: LimitGroup, context: RequestContext, method: str | None) -> Bucket:
        scope: object = group.scope
        if group.read_scope is not None:
            scope = str(await context.answer(group.read_scope(context.request, plan.endpoint)))
        return self.place(plan, counted_path(context.request.scope), scope, method)

    async def _cost(self, plan: Plan, group: LimitGroup, context: RequestContext) -> int:
        if group.read_cost is None:
            return group.fixed_cost
        try:
            cost = await context.answer(group.read_cost(context.request))
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
                escaped_error(error),
            )
        raise InvalidCost(plan.endpoint, detail) from error

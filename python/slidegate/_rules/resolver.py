"""What a request has to pay: asks the users' callables about it, and counts nothing."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from starlette.requests import HTTPConnection

from .._support.callables import qualified_name
from .._support.errors import ConfigurationError, InvalidCost
from .._support.escaping import escaped_error
from .._support.steps import Steps, answered
from ..decision import NS_PER_S
from .bucket import Bucket, KeyStyle, bucket_of, counted_path, joined, route_bucket
from .hit import Hit, Outcome, merged
from .limit import Limit, whole_cost
from .limit_group import LimitGroup
from .options import OnMissingKey
from .plan import Plan, RequestContext

# What comes before the keys of any path, until the path is known.
_BY_PATH = joined("")


class Failure(NamedTuple):
    """A group whose limits cannot be had, why, and those that it had before."""

    group: LimitGroup
    error: Exception
    last: tuple[Limit, ...]


def is_keylike(key: object) -> bool:
    """Whether `str` makes the same of equal keys, and something else of others: of a UUID, not of just any object."""
    is_number = isinstance(key, numbers.Number) and not isinstance(key, bool)
    return is_number or type(key).__str__ is not object.__str__


def _is_sent_by(request: HTTPConnection, methods: Sequence[str]) -> bool:
    method = request.scope.get("method", "WEBSOCKET").lower()
    # Frameworks run what serves GET for a HEAD, too.
    return method in methods or (method == "head" and "get" in methods)


@dataclass(frozen=True)
class Resolver:
    """Finds out what requests cost, whom, and where. Thread-safe; `warned_of` is its only memory."""

    key_prefix: str
    key_style: KeyStyle
    on_missing_key: OnMissingKey
    logger: logging.Logger
    count_error: Callable[[str], object]
    warned_of: set[str] = field(default_factory=set)

    def hits(self, groups: Sequence[LimitGroup], context: RequestContext) -> Steps[list[Hit]]:
        """Every limit of these groups of the plan that applies to the request, once, however often it was declared.

        A dynamic limit that fails is what it last was for this key, and the fallback of the plan applies beside it.
        Where one is no limit, that of the plan applies unless another limit overrides it.

        Raises InvalidCost for a cost and TypeError for a key that is none, ConfigurationError for a dynamic limit that
        fails where nothing else limits the request, and whatever the callables raise beyond that.
        """
        plan = context.plan
        hits: list[Hit] = []
        lifted, failed = yield from self._add(hits, groups, context)
        if lifted or failed:
            is_overridden = any(group.override_defaults for group in plan.own if group not in lifted)
            if failed or not is_overridden:
                instead = [group for group in plan.fallback if group not in groups]
                failed += (yield from self._add(hits, instead, context))[1]
        if len(hits) > 1:
            hits = merged(hits)
        if failed:
            self._tell_of(plan, failed, hits)
        return hits

    def refusal(self, hits: Iterable[Hit]) -> Outcome | None:
        """The refusal of a hit that needs no counting: of a limit of zero, or without a key where one is needed."""
        needs_key = self.on_missing_key == "refuse"
        for hit in hits:
            if hit.limit.limit.amount < 1 or (needs_key and not hit.key):
                window_ns = hit.limit.limit.get_expiry() * NS_PER_S
                return hit, (False, 0, 0, window_ns, window_ns)
        return None

    def bucket(self, plan: Plan, path: str, scope: object, method: str | None = None) -> Bucket:
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

    def _add(
        self, hits: list[Hit], groups: Sequence[LimitGroup], context: RequestContext
    ) -> Steps[tuple[list[LimitGroup], list[Failure]]]:
        """Adds what these groups take. The groups that are no limit now, and those whose limits cannot be had."""
        lifted: list[LimitGroup] = []
        failed: list[Failure] = []
        request, _, keys, plan, _ = context
        for group in groups:
            if group.is_iterated:
                try:
                    made = list(group.with_request(request))
                    parts = [LimitGroup.of(each, group.strategy, plan.endpoint, group) for each in made]
                except Exception as error:
                    failed.append(Failure(group, error, ()))
                    continue
                failed += (yield from self._add(hits, parts, context))[1]
                if not parts:
                    lifted.append(group)
                continue
            if group.methods is not None and not _is_sent_by(request, group.methods):
                continue
            if group.read_exempt is not None and (yield from answered(group.read_exempt(request))):
                continue
            identity = id(group.key_function)
            key = keys[identity] if identity in keys else group.read_key(request)
            if type(key) is not str or not key:
                key = yield from self._key(plan, group, key)
            keys[identity] = key
            limits = group.limits or ()
            if group.read_limits is not None:
                try:
                    limits = group.read_limits(request, key)
                    limits = group.limits_named(limits if type(limits) is str else (yield from answered(limits)))
                    group.last_limits.put(key, limits)
                except Exception as error:
                    limits = group.last_limits.last(key)
                    failed.append(Failure(group, error, limits))
                else:
                    if not limits:
                        lifted.append(group)
                        self._tell_of_none(plan, group)
            if not limits or (not key and self.on_missing_key == "skip"):
                continue
            bucket = plan.buckets.get(group) or (yield from self._bucket(group, context))
            if bucket.lead == _BY_PATH:
                path = counted_path(request.scope)
                bucket = Bucket(path, bucket.rule_scope, f"{len(path)}:{path}")
            cost = group.fixed_cost if group.read_cost is None else (yield from self._cost(group, context))
            for limit in limits:
                assert limit.quota is not None
                hits.append(Hit(limit, group, limit.quota, bucket, key, cost))
        return lifted, failed

    def _key(self, plan: Plan, group: LimitGroup, given: Any) -> Steps[str]:
        key = yield from answered(given)
        if isinstance(key, bytes):
            key = key.decode("utf-8", "surrogateescape")
        elif key is not None and not isinstance(key, str):
            if not is_keylike(key):
                raise TypeError(
                    f"{plan.endpoint}: the key function {qualified_name(group.key_function)} returned a"
                    f" {type(key).__name__}; a key is a str, bytes, number, or something that str() tells apart"
                )
            key = str(key)
        if not key and self._is_news("missing key"):
            self.logger.warning(
                "%s: the key function %s found no key in a request; on_missing_key=%r applies, now and later",
                plan.endpoint,
                qualified_name(group.key_function),
                self.on_missing_key,
            )
        return key or ""

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
        if self._is_news(f"no limit {plan.endpoint}"):
            self.logger.error(
                "%s: %s returned no limit; default_limits apply, if there are any; this is said once",
                plan.endpoint,
                qualified_name(group.provider) if callable(group.provider) else "a dynamic limit",
            )

    def _is_news(self, topic: str) -> bool:
        is_news = topic not in self.warned_of
        self.warned_of.add(topic)
        return is_news

    def _bucket(self, group: LimitGroup, context: RequestContext) -> Steps[Bucket]:
        request, plan = context.request, context.plan
        method = request.scope.get("method", "WEBSOCKET") if group.per_method else None
        if group.read_scope is not None:
            scope = str((yield from answered(group.read_scope(request, plan.endpoint))))
            return self.bucket(plan, counted_path(request.scope), scope, method)
        if method is not None:
            return self.bucket(plan, counted_path(request.scope), group.scope, method)
        bucket = self.bucket(plan, "", group.scope)
        if group in plan.groups or group in plan.fallback:
            # Others are made anew for each request, and would be kept for ever.
            plan.buckets[group] = bucket
        return bucket

    def _cost(self, group: LimitGroup, context: RequestContext) -> Steps[int]:
        assert group.read_cost is not None
        try:
            cost = group.read_cost(context.request)
            if type(cost) is not int:
                cost = yield from answered(cost)
        except (ValueError, ArithmeticError) as error:
            # What `int` makes of a text that somebody has sent, say.
            return self._refuse_cost(context.plan, "what it costs cannot be told", error)
        try:
            return whole_cost(cost)
        except ValueError as error:
            return self._refuse_cost(context.plan, str(error), error)

    def _refuse_cost(self, plan: Plan, detail: str, error: Exception) -> NoReturn:
        if self._is_news(f"cost of {plan.endpoint}"):
            self.logger.warning(
                "%s: a callable cost failed, and the request was answered 422, as it is now and later: %s",
                plan.endpoint,
                escaped_error(error),
            )
        raise InvalidCost(plan.endpoint, detail) from error

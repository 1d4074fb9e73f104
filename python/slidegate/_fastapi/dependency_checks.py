"""Decides requests for the dependencies of one limiter, each of which is a thin caller of `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._http.state import record_of
from .._http.view import CurrentLimit, untouched, view_of
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Plan
from .._support.callables import Wait, wait_on_loop
from .._support.errors import ConfigurationError
from ..decision import Decision
from .dependency_tree import Routes, Served, followers_of, limiter_for, route_in

if TYPE_CHECKING:
    from ..dependencies import RateLimit
    from ..extension import Limiter

_MOST_KEPT = 65_536
_MOST_GROUPS = 512


class _Kept(NamedTuple):
    route: object
    rate_limit: RateLimit
    revisions: tuple[int, int]
    plan: Plan
    followers: tuple[RateLimit, ...]


class DependencyChecks:
    """What comes of `RateLimit`s, and of checks by hand, for requests. Thread-safe."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._routes = Routes()
        self.group = lru_cache(_MOST_GROUPS)(self._group)
        self._kept: dict[tuple[int, int, frozenset[str]], _Kept] = {}

    async def decide(
        self, rate_limit: RateLimit, connection: HTTPConnection, wait: Wait, given: frozenset[str]
    ) -> Decision | None:
        """Counts a request once for a `RateLimit`, and for those that follow it; None when nothing was limited.

        `given` names what comes with the request. Raises RateLimitExceeded, and what is wrong with a request's limits.
        """
        limiter = self._limiter
        if not limiter.enabled:
            return _untouched(self._plan(rate_limit, connection.scope, given)[0])
        record = record_of(connection)
        decided: dict[int, Decision | None] = record.decided or {}
        record.decided = decided
        if id(rate_limit) not in decided:
            plan, followers = self._plan(rate_limit, connection.scope, given)
            view = await limiter._checker.take(plan, connection, wait, is_once=True)
            if view is None:
                # Paid for already, or let through: what is known of the request, or that all is left.
                told = view_of(record)
                decision = told.decision if isinstance(told, CurrentLimit) else _untouched(plan)
            else:
                decision = view.decision
            decided.update({id(each): decision for each in (rate_limit, *followers)})
        return decided[id(rate_limit)]

    async def decide_again(
        self, rate_limit: RateLimit, connection: HTTPConnection, given: frozenset[str]
    ) -> Decision | None:
        """Counts one of many messages for a `RateLimit`, alone."""
        limiter = self._limiter
        if not limiter.enabled:
            return None
        served = self._served(connection.scope, rate_limit.where)
        # Apart from the connections to the same route.
        served = served._replace(route=f"{served.route} messages")
        plan = self.plan_for(served, rate_limit.groups(limiter, given))
        view = await limiter._checker.take(plan, connection, wait_on_loop, is_once=False, headers=False)
        return None if view is None else view.decision

    def plan_for(self, served: Served, groups: tuple[LimitGroup, ...]) -> Plan:
        """The plan of these groups for what serves a request."""
        limiter = self._limiter
        exempt_name = limiter._planner.exempt_name(served.endpoint, served.function)
        is_exempt = exempt_name is not None and exempt_name in limiter._exempt_routes
        own, fallback = () if is_exempt else groups, tuple(limiter._groups_in(limiter._default_limits))
        return Plan(served.endpoint, own, (), fallback, route=served.route, exempt_name=exempt_name)

    def served(self, scope: Scope) -> Served | None:
        """What serves a request; None before it was routed."""
        return self._routes.served(scope)

    def _group(self, limits: str, key: Any, scope: str | None, where: str) -> LimitGroup:
        """A limit that somebody checks by hand."""
        options: tuple[Any, ...] = (False, None, None, None, 1, False)
        group = LimitGroup(limits, key, scope, *options, strategy=self._limiter._strategy, where=where)
        # A program may make them of what it was sent.
        group.is_made_by_requests = True
        return group

    def _served(self, scope: Scope, where: str) -> Served:
        served = self._routes.served(scope)
        if served is None:
            raise ConfigurationError(f"{where} counts routes, and this request was not dispatched to one")
        return served

    def _plan(self, rate_limit: RateLimit, scope: Scope, given: frozenset[str]) -> tuple[Plan, tuple[RateLimit, ...]]:
        limiter, route = self._limiter, route_in(scope)
        overrides: Mapping[Any, Any] = getattr(scope.get("app"), "dependency_overrides", None) or {}
        revisions = (limiter._planner.revision, limiter._named.revision)
        key = (id(route), id(rate_limit), given)
        known = self._kept.get(key)
        if known is not None and known[:3] == (route, rate_limit, revisions) and not overrides:
            return known.plan, known.followers
        served = self._served(scope, rate_limit.where)
        found = followers_of(rate_limit, served.dependant, overrides)
        followers = tuple(each for each in found if limiter_for(each, scope.get("app")) is limiter)
        groups = rate_limit.groups(limiter, given)
        groups += tuple(group for each in followers for group in each.groups(limiter))
        plan = self.plan_for(served, groups)
        if len(self._kept) > _MOST_KEPT:
            self._kept = {}
        if not overrides:
            self._kept[key] = _Kept(route, rate_limit, revisions, plan, followers)
        return plan, followers


def _untouched(plan: Plan) -> Decision | None:
    # None where nobody can tell what of.
    limits = [limit for group in plan.own for limit in group.limits or ()]
    return untouched(limits, plan.route) if limits else None

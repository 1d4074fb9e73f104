"""Decides requests for the dependencies of one limiter, each of which is a thin caller of `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._http.state import Record
from .._http.view import CurrentLimit, untouched, view_of
from .._routing.served import Routes, Served
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Plan
from .._support.callables import Wait, wait_on_loop
from .._support.errors import ConfigurationError
from ..decision import Decision
from .dependency_tree import followers_of
from .rate_limit import DeclaredRateLimit, limiter_for

if TYPE_CHECKING:
    from .._limiter.core import LimiterCore

_MOST_KEPT = 512

_Given: TypeAlias = tuple[str, ...]


class _Compiled(NamedTuple):
    """What a `RateLimit` comes to at one route; `revision` tells whether it still does."""

    revision: int
    plan: Plan
    followers: tuple[DeclaredRateLimit, ...]


class DependencyChecks:
    """What comes of `RateLimit`s, and of checks by hand, for requests. Thread-safe."""

    def __init__(self, limiter: LimiterCore) -> None:
        self._limiter = limiter
        self._routes = Routes()
        self.group = lru_cache(_MOST_KEPT)(self._group)

    async def decide(
        self, rate_limit: DeclaredRateLimit, connection: HTTPConnection, record: Record, wait: Wait, given: _Given
    ) -> Decision | None:
        """Counts a request once for a `RateLimit`, and for those that follow it; None when nothing was limited.

        `given` names what comes with the request. Raises RateLimitExceeded, and what is wrong with a request's limits.
        """
        decided = record.decided
        if decided is None:
            decided = record.decided = {}
        elif rate_limit in decided and self._limiter.enabled:
            known: Decision | None = decided[rate_limit]
            return known
        limiter, scope = self._limiter, connection.scope
        served = self._routes.served(scope)
        compiled: _Compiled | None = None if served is None else served.checks.get((rate_limit, given))
        overrides = getattr(scope.get("app"), "dependency_overrides", None)
        if compiled is None or compiled.revision != limiter.planner.revision or overrides:
            compiled = self._compiled(rate_limit, scope, given, overrides)
        if not limiter.enabled:
            return _untouched(compiled.plan)
        view = await limiter.checker.take(compiled.plan, connection, wait, is_once=True)
        if view is None:
            # Paid for already, or let through: what is known of the request, or that all is left.
            told = view_of(record)
            decision = told.decision if isinstance(told, CurrentLimit) else _untouched(compiled.plan)
        else:
            decision = view.decision
        decided[rate_limit] = decision
        for each in compiled.followers:
            decided[each] = decision
        return decision

    async def decide_again(
        self, rate_limit: DeclaredRateLimit, connection: HTTPConnection, given: _Given
    ) -> Decision | None:
        """Counts one of many messages for a `RateLimit`, alone."""
        limiter = self._limiter
        if not limiter.enabled:
            return None
        served = self._served(connection.scope, rate_limit.where)
        # Apart from the connections to the same route.
        served = served._replace(route=f"{served.route} messages")
        plan = self.plan_for(served, rate_limit.groups(limiter, given))
        view = await limiter.checker.take(plan, connection, wait_on_loop, is_once=False, headers=False)
        return None if view is None else view.decision

    def plan_for(self, served: Served, groups: tuple[LimitGroup, ...]) -> Plan:
        """The plan of these groups for what serves a request."""
        limiter = self._limiter
        exempt_name = limiter.planner.exempt_name(served.endpoint, served.function)
        is_exempt = exempt_name is not None and exempt_name in limiter.planner.exempt_routes
        own, fallback = () if is_exempt else groups, tuple(limiter.planner.defaults())
        return Plan(served.endpoint, own, (), fallback, route=served.route, exempt_name=exempt_name)

    def served(self, scope: Scope) -> Served | None:
        """What serves a request; None before it was routed."""
        return self._routes.served(scope)

    def _group(self, limits: str, key: Any, scope: str | None, where: str) -> LimitGroup:
        """A limit that somebody checks by hand."""
        options: tuple[Any, ...] = (False, None, None, None, 1, False)
        group = LimitGroup(limits, key, scope, *options, strategy=self._limiter.strategy, where=where)
        # A program may make them of what it was sent.
        group.is_made_by_requests = True
        return group

    def _served(self, scope: Scope, where: str) -> Served:
        served = self._routes.served(scope)
        if served is None:
            raise ConfigurationError(f"{where} counts routes, and this request was not dispatched to one")
        return served

    def _compiled(
        self, rate_limit: DeclaredRateLimit, scope: Scope, given: _Given, overrides: Mapping[Any, Any] | None
    ) -> _Compiled:
        limiter, revision = self._limiter, self._limiter.planner.revision
        served = self._served(scope, rate_limit.where)
        found = followers_of(rate_limit, served.dependant, overrides or {})
        followers = tuple(each for each in found if limiter_for(each, scope.get("app")) is limiter)
        groups = rate_limit.groups(limiter, given)
        groups += tuple(group for each in followers for group in each.groups(limiter))
        compiled = _Compiled(revision, self.plan_for(served, groups), followers)
        if len(served.checks) >= _MOST_KEPT:
            # Programs may make a RateLimit for each request.
            served.checks.clear()
        if not overrides:
            served.checks[rate_limit, given] = compiled
        return compiled


def _untouched(plan: Plan) -> Decision | None:
    # None where nobody can tell what of.
    limits = [limit for group in plan.own for limit in group.limits or ()]
    return untouched(limits, plan.route) if limits else None

"""Decides requests for the dependencies of one limiter, each of which is a thin caller of `decide`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection
from starlette.types import Scope

from .._http.current_limit import CurrentLimit, untouched, view_of
from .._http.request_state import Record
from .._limiter.checker import BY_HAND, DEPENDENCY, MESSAGE, Checker, Way
from .._limiter.compiled import CompiledCheck, compile_check
from .._limiter.core import LimiterCore
from .._routing.served import Routes
from .._rules.limit_group import LimitGroup
from .._rules.plan import Plan
from .._support.errors import ConfigurationError
from .._support.waiting import Wait
from ..decision import Decision
from .dependency_tree import followers_of
from .rate_limit import DeclaredRateLimit, limiter_for

_MOST_KEPT = 512
_MOST_SHOWN = 100

_Given: TypeAlias = tuple[str, ...]


def name_of_check(limits: object) -> str:
    """What errors of a check by hand call it."""
    return f"check({limits!r:.{_MOST_SHOWN}})"


@dataclass
class Compiled:
    """What a `RateLimit`, or a check by hand, comes to at one route; `revision` tells whether it still does."""

    revision: int
    plan: Plan
    checker: Checker
    way: Way
    scope: str
    following: tuple[tuple[DeclaredRateLimit, LimiterCore | None], ...] = ()
    """Those that may be decided together with it, and what counts each of them in this application."""
    check: CompiledCheck = field(init=False)
    """Decides a request."""

    def __getattr__(self, name: str) -> Any:
        # Made with the first request that is counted, as who only looks adds no limit to statistics.
        if name != "check":
            raise AttributeError(name)
        self.check = compile_check(self.checker, self.plan, self.way)
        return self.check

    @property
    def untouched(self) -> Decision | None:
        """What is said where nothing was limited; None where nobody can tell of what."""
        limits = [limit for group in self.plan.own for limit in group.limits or ()]
        return untouched(limits, self.scope) if limits else None


class DependencyChecks:
    """What comes of `RateLimit`s, and of checks by hand, for requests. Thread-safe."""

    def __init__(self, limiter: LimiterCore) -> None:
        self._limiter = limiter
        self._routes = Routes()
        self._elsewhere: dict[Any, Compiled] = {}

    def decide(
        self,
        rate_limit: DeclaredRateLimit,
        connection: HTTPConnection,
        record: Record,
        wait: Wait,
        given: _Given,
        is_message: bool,
    ) -> Any:
        """Counts a request once for a `RateLimit`, and for those that follow it; or one of many messages, alone.

        Returns the decision, None when nothing was limited, or a coroutine that returns that. `given` names what comes
        with the request. Raises RateLimitExceeded, and what is wrong with a request's limits.
        """
        is_enabled, decided = self._limiter.enabled, record.decided
        if decided is not None and not is_message and is_enabled and rate_limit in decided:
            return decided[rate_limit]
        compiled = self._compiled(rate_limit, connection.scope, given, is_message)
        if not is_enabled:
            return None if is_message else compiled.untouched
        view = compiled.check(connection, wait)
        if view is None or type(view) is CurrentLimit:
            return _noted(compiled, rate_limit, record, view, is_message)
        return _noted_later(compiled, rate_limit, record, view, is_message)

    def by_hand(self, scope: Scope, limits: str, function: Any, name: str | None, cost: int) -> Compiled:
        """What a check by hand of these limits comes to, in the bucket of that name or that of the route."""
        served = self._routes.served(scope)
        checks = self._elsewhere if served is None else served.checks
        known: Compiled | None = checks.get((limits, function, name, cost))
        revision = self._limiter.planner.revision
        if known is not None and known.revision == revision:
            return known
        where, limiter = name_of_check(limits), self._limiter
        if served is None and name is None:
            raise ConfigurationError(f"{where}: the request was not dispatched to a route yet; give a scope")
        if function is None:
            raise ConfigurationError(f"{where}: the limiter has no key_func; give a key")
        options: tuple[Any, ...] = (False, None, None, None, 1, False)
        group = LimitGroup(limits, function, name, *options, strategy=limiter.strategy, where=where).costing(cost)
        # A program may make them of what it was sent.
        group.is_made_by_requests = True
        endpoint, route = (where, "") if served is None else (served.endpoint, served.route)
        plan = Plan(endpoint, (group,), (), (), route=route or name or "")
        return self._kept(checks, (limits, function, name, cost), revision, plan, BY_HAND, name or plan.route)

    def _compiled(self, rate_limit: DeclaredRateLimit, scope: Scope, given: _Given, is_message: bool) -> Compiled:
        served, limiter = self._routes.served(scope), self._limiter
        if served is None:
            raise ConfigurationError(f"{rate_limit.where} counts routes, and this request was not dispatched to one")
        app = scope.get("app")
        overrides = getattr(app, "dependency_overrides", None)
        known: Compiled | None = served.checks.get((rate_limit, given, is_message))
        # Asked first: what is changed while this is made has it made again.
        revision = limiter.planner.revision
        if (
            known is not None
            and known.revision == revision
            and not overrides
            # Another application may serve the route, or this one have another limiter now.
            and (
                not known.following or all(limiter_for(each, app) is counted_by for each, counted_by in known.following)
            )
        ):
            return known
        groups, route = rate_limit.groups(limiter, given), served.route
        following: tuple[tuple[DeclaredRateLimit, LimiterCore | None], ...] = ()
        if is_message:
            # Apart from the connections to the same route.
            route += " messages"
        else:
            found = followers_of(rate_limit, served.dependant, overrides or {})
            following = tuple((each, limiter_for(each, app)) for each in found)
            followers = (each for each, counted_by in following if counted_by is limiter)
            groups += tuple(group for each in followers for group in each.groups(limiter))
        exempt_name = limiter.planner.exempt_name(served.endpoint, served.function)
        own = () if exempt_name is not None and exempt_name in limiter.planner.exempt_routes else groups
        fallback = tuple(limiter.planner.defaults())
        plan = Plan(served.endpoint, own, (), fallback, route=route, exempt_name=exempt_name)
        # Of what is overridden for a test nothing is kept.
        checks, way = {} if overrides else served.checks, MESSAGE if is_message else DEPENDENCY
        return self._kept(checks, (rate_limit, given, is_message), revision, plan, way, plan.route, following)

    def _kept(
        self,
        checks: dict[Any, Compiled],
        key: Any,
        revision: int,
        plan: Plan,
        way: Way,
        scope: str,
        following: tuple[tuple[DeclaredRateLimit, LimiterCore | None], ...] = (),
    ) -> Compiled:
        if len(checks) >= _MOST_KEPT:
            # Programs may make them of what each request sends.
            checks.clear()
        compiled = checks[key] = Compiled(revision, plan, self._limiter.checker, way, scope, following)
        return compiled


async def _noted_later(
    compiled: Compiled, rate_limit: DeclaredRateLimit, record: Record, pending: Any, is_message: bool
) -> Decision | None:
    return _noted(compiled, rate_limit, record, await pending, is_message)


def _noted(
    compiled: Compiled, rate_limit: DeclaredRateLimit, record: Record, view: CurrentLimit | None, is_message: bool
) -> Decision | None:
    if is_message:
        return None if view is None else view.decision
    if view is None:
        # Paid for already, or let through: what is known of the request, or that all is left.
        told = view_of(record)
        decision = told.decision if isinstance(told, CurrentLimit) else compiled.untouched
    else:
        decision = view.decision
    if record.decided is None:
        record.decided = {}
    record.decided[rate_limit] = decision
    for each, counted_by in compiled.following:
        if counted_by is compiled.checker.owner:
            record.decided[each] = decision
    return decision

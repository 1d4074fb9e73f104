"""Who checks the requests for a route, and what the middleware checks of them, in each of an application's routes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, cast

from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .._limiter.core import LimiterCore
from .._routing.endpoint_finder import Found, Kind, RouteFinder
from .._routing.served import route_in
from .._rules.plan import Check, Plan
from .._support.callables import qualified_name, wrapped_chain
from .._support.waiting import Wait
from .decorator import Endpoint, endpoint_behind, endpoints_over
from .dependency_tree import is_overriding

OTHER = cast(Check, object())
"""What stands for a check where a request is for another application or limiter."""
_MOST_KEPT = 65_536
_UNMATCHED = "unmatched requests"


class CheckedBy(Enum):
    """Who checks the requests for an endpoint: its decorator, or the middleware.

    An inert decorator stands above the one of the route, which so has the bare function: the middleware checks its
    limits, and nobody does without it. Static files have no limits.
    """

    DECORATOR = "decorator"
    MIDDLEWARE = "middleware"
    INERT = "inert decorator"
    STATIC = "static files"


class AppChecks:
    """The checks of one application's routes by one limiter, each made when a request first needs it. Thread-safe.

    `routed` is what has the routes: the application, or what is mounted in it. Middleware `is_of_route` when the route
    has been found before it is called.
    """

    def __init__(self, app: Any, limiter: LimiterCore, routed: Any, *, is_of_route: bool = False) -> None:
        self.app = app
        self.limiter = limiter
        self.routed = routed
        # Where Starlette's State keeps its attributes; to ask the State itself takes ten times as long.
        self._state = getattr(app, "state", None)
        self._values: dict[str, Any] = getattr(self._state, "_state", {})
        self._planner = limiter.planner
        self._finder = RouteFinder(routed)
        self._served: dict[tuple[int, int], Found] = {}
        self._find = self._serving if is_of_route else self._finder.find
        # In one: another thread may replace both at any time.
        self._made_for: tuple[int, dict[Found | None, Check | None]] = (self._planner.revision, {})

    def check_for(self, scope: Scope, app: Any, limiter: LimiterCore | None) -> Check | None:
        """The check that a request for an application has to pass before that gets it; None when there is none.

        `OTHER` where these are the checks of another application or limiter: the one that is given, else the
        application's.
        """
        if limiter is None and app is self.app and app.state is self._state:
            limiter = self._values.get("limiter")
        if limiter is not self.limiter or app is not self.app:
            return OTHER
        if not limiter.enabled:
            return None
        found, (revision, checks) = self._find(scope), self._made_for
        if self._planner.revision == revision and found in checks:
            return checks[found]
        return self._made(found)

    def check_of(self, scope: Scope) -> Check | None:
        """The same for a request that is known to be for these checks."""
        return self._made(self._find(scope))

    def endpoint_for(self, scope: Scope) -> Any:
        """The endpoint that will serve a request; None without one."""
        found = self._find(scope)
        return found.endpoint if found is not None and found.kind is Kind.FULL else None

    def _serving(self, scope: Scope) -> Found | None:
        endpoint, dependant = scope["endpoint"], getattr(route_in(scope), "dependant", None)
        key = id(endpoint), id(dependant)
        found = self._served.get(key)
        if found is None or found.endpoint is not endpoint or found.dependant is not dependant:
            found = self._served[key] = Found(Kind.FULL, endpoint, "", dependant=dependant)
        return found

    def _made(self, found: Found | None) -> Check | None:
        revision = self._planner.revision
        known, checks = self._made_for
        if revision != known or len(checks) > _MOST_KEPT:
            checks = {}
        elif found in checks:
            return checks[found]
        check = checks[found] = check_ahead(self.limiter, found, self._is_registered)
        self._made_for = (revision, checks)
        return check

    def _is_registered(self, function: object) -> bool:
        return any(function is each for found in self._finder.every() for each in wrapped_chain(found.endpoint))


def endpoint_of(limiter: LimiterCore, function: Callable[..., Any]) -> Endpoint | None:
    """What was declared for a function, or for what it wraps."""
    return endpoint_behind(limiter, function) or _endpoint_over(limiter, function)


def plan_by_hand(limiter: LimiterCore, function: Callable[..., Any] | None, in_middleware: bool) -> Plan:
    """The plan of a function that somebody asks to check, in the way of the middleware or of its decorator."""
    planner = limiter.planner
    if function is None:
        return planner.plan("", ())
    endpoint = endpoint_of(limiter, function)
    if endpoint is None:
        return planner.plan(qualified_name(function), (), function)
    return Plan(endpoint.name, (), (), ()) if in_middleware else planner.plan_of(endpoint)


def checked_by(
    limiter: LimiterCore, called: Any, named: Any, is_registered: Callable[[object], bool], *, overridden: bool = False
) -> tuple[CheckedBy, Plan]:
    """Who checks requests for what is `called`, a part of the endpoint that is `named`, and by which plan.

    Default limits do not apply where they are `overridden` by dependencies. `is_registered` says which functions routes
    have.
    """
    known = endpoint_behind(limiter, called)
    if known is not None:
        return CheckedBy.DECORATOR, limiter.planner.plan_of(known)
    inert = _endpoint_over(limiter, called)
    if inert is not None and not any(map(is_registered, inert.wrappers)):
        return CheckedBy.INERT, limiter.planner.plan_of(inert)
    if isinstance(named, StaticFiles):
        name = qualified_name(named)
        return CheckedBy.STATIC, Plan(name, (), (), (), exempt_name=limiter.planner.exempt_name(name, named))
    return CheckedBy.MIDDLEWARE, _plan_ahead(limiter, named, overridden=overridden)


def check_ahead(limiter: LimiterCore, found: Found | None, is_registered: Callable[[object], bool]) -> Check | None:
    """What the middleware has to check before the route is dispatched to; None when there is nothing.

    Where a decorator is certain to follow, it checks everything. Where one stands above the decorator of the route, and
    so is never called, it is checked here.
    """
    if limiter.is_patched:
        endpoint = found.endpoint if found is not None and found.kind is Kind.FULL else None
        check = limiter.patched_check(endpoint, True)
        return lambda request, wait: None if is_left_alone(limiter, endpoint) else check(request, wait)
    if found is None or found.kind is not Kind.FULL or found.endpoint is None:
        unmatched = limiter.planner.plan(_UNMATCHED, (), is_ahead=True, is_pooled=True)
        matched = unmatched if found is None or found.endpoint is None else _plan_ahead(limiter, found.endpoint)
        return _either(
            _check_of(limiter, matched) if limiter.preflights_limited else None,
            _check_of(limiter, unmatched) if limiter.unmatched_limited else None,
        )
    if inspect.isclass(found.endpoint):
        return _by_method(limiter, found.endpoint)
    overridden = is_overriding(limiter, found.dependant)
    return _check_unless_decorated(limiter, found.endpoint, found.endpoint, is_registered, overridden=overridden)


def is_left_alone(limiter: LimiterCore, endpoint: Callable[..., Any] | None) -> bool:
    """Whether slowapi's middleware leaves an endpoint alone: there is none, it is exempt, or its decorator decides."""
    planner = limiter.planner
    if endpoint is None or planner.exempt_name(qualified_name(endpoint), endpoint) in planner.exempt_routes:
        return True
    return endpoint_of(limiter, endpoint) is not None


def _check_unless_decorated(
    limiter: LimiterCore, called: Any, named: Any, is_registered: Callable[[object], bool], *, overridden: bool = False
) -> Check | None:
    who, plan = checked_by(limiter, called, named, is_registered, overridden=overridden)
    return None if who is CheckedBy.DECORATOR else _check_of(limiter, plan)


def _check_of(limiter: LimiterCore, plan: Plan) -> Check | None:
    return limiter.planner.check(plan) if plan.groups else None


def _plan_ahead(limiter: LimiterCore, endpoint: Any, *, overridden: bool = False) -> Plan:
    return limiter.planner.plan(qualified_name(endpoint), (), endpoint, overridden=overridden, is_ahead=True)


def _endpoint_over(limiter: LimiterCore, function: Any) -> Endpoint | None:
    over = [endpoint for endpoint in endpoints_over(function) if endpoint.limiter is limiter]
    return max(over, key=lambda endpoint: len(endpoint.groups), default=None)


def _by_method(limiter: LimiterCore, endpoint: Any) -> Check:
    # A class has a function for each method, with or without a decorator.
    checks: dict[str, Check | None] = {}

    def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
        method: str = request.scope["method"]
        name = "get" if method == "HEAD" and not hasattr(endpoint, "head") else method.lower()
        function = getattr(endpoint, name, None)
        # Clients may make up any number of methods.
        name = "" if function is None else name
        if name not in checks:
            if function is not None:
                checks[name] = _check_unless_decorated(limiter, function, endpoint, lambda _: True)
            else:
                is_served = _serves_any_method(endpoint)
                checks[name] = _check_of(limiter, _plan_ahead(limiter, endpoint)) if is_served else None
        found = checks[name]
        return None if found is None else found(request, wait)

    return check


def _serves_any_method(endpoint: Any) -> bool:
    # Starlette's own classes answer 405 to methods that they have no function for.
    is_stock = issubclass(endpoint, HTTPEndpoint) and all(
        getattr(endpoint, name) is getattr(HTTPEndpoint, name)
        for name in ("__await__", "dispatch", "method_not_allowed")
    )
    return not is_stock


def _either(of_preflight: Check | None, of_others: Check | None) -> Check | None:
    if of_preflight is None and of_others is None:
        return None

    def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
        # Whether a browser asks what another origin may send.
        is_preflight = request.scope["method"] == "OPTIONS" and "access-control-request-method" in request.headers
        chosen = of_preflight if is_preflight else of_others
        return None if chosen is None else chosen(request, wait)

    return check

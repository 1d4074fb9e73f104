"""What the endpoints of a limiter are limited by, and the checks that follow from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection
from starlette.staticfiles import StaticFiles

from .._fastapi.decorator import Endpoint, endpoint_behind, endpoints_over, wrapped_chain
from .._fastapi.dependency_tree import is_overriding
from .._http.request_doubles import as_request
from .._routing.candidate import Found, Kind
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Plan
from .._support.callables import Wait, qualified_name
from .checker import Check
from .compiled import compile_check

if TYPE_CHECKING:
    from ..extension import Limiter

UNMATCHED = "unmatched requests"


class CheckedBy(Enum):
    """Who checks the requests for an endpoint: its decorator, or the middleware.

    An inert decorator stands above the one of the route, which so has the bare function: the middleware checks its
    limits, and nobody does without it. Static files have no limits.
    """

    DECORATOR = "decorator"
    MIDDLEWARE = "middleware"
    INERT = "inert decorator"
    STATIC = "static files"


class Planner:
    """Makes the checks of one limiter, and makes them again when what they depend on is replaced.

    `revision` rises whenever checks that were handed out are out of date. Thread-safe.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        # Not weakly: nothing else refers to one whose decorator stands above that of the route.
        self._endpoints: dict[Endpoint, None] = {}
        self.revision = 0
        self.is_holding = False

    def add(self, endpoint: Endpoint) -> None:
        """Takes up an endpoint, or what was added to one."""
        self._renew(endpoint)
        self._endpoints[endpoint] = None
        self.is_holding |= any(group.read_deduct is not None for group in endpoint.groups)
        self.revision += 1

    def renew(self, name: str | None = None) -> None:
        """Makes all checks again, or those of the endpoints of this name."""
        for endpoint in list(self._endpoints):
            if name is None or endpoint.name == name:
                self._renew(endpoint)
        self.revision += 1

    def exempt_name(self, name: str, *functions: Any) -> str | None:
        """The name of an endpoint, if it is the one that is exempt under it, or nobody knows which one that is."""
        exempt = self._limiter._exempt_functions.get(name)
        if exempt is None:
            return name
        those = {id(part) for function in exempt for part in _parts_of(function)}
        return name if any(id(part) in those for function in functions for part in _parts_of(function)) else None

    def plan(
        self,
        name: str,
        own: Sequence[LimitGroup],
        *functions: Any,
        overridden: bool = False,
        is_ahead: bool = False,
        is_pooled: bool = False,
    ) -> Plan:
        """Own limits of these functions, those of the application, and the defaults where they apply."""
        limiter = self._limiter
        own = self.configured(own)
        has_defaults = not (overridden or any(group.override_defaults for group in own))
        defaults = limiter._groups_in(limiter._default_limits)
        common = (*limiter._groups_in(limiter._application_limits), *(defaults if has_defaults else ()))
        exempt_name = self.exempt_name(name, *functions)
        return Plan(name, tuple(own), common, tuple(defaults), is_ahead, is_pooled, exempt_name=exempt_name)

    def configured(self, groups: Iterable[LimitGroup]) -> list[LimitGroup]:
        """The groups as settings have them, without those that are switched off, or limit nothing."""
        return [each for each in map(self._limiter._named.applied, groups) if each is not None and each.limits != ()]

    def plan_of(self, endpoint: Endpoint) -> Plan:
        """The plan of an endpoint: what was declared for it, if nobody has changed that."""
        fixed, dynamic = self._limiter._route_limits, self._limiter._dynamic_route_limits
        name, groups = endpoint.name, endpoint.groups
        if not (fixed.is_original(name) and dynamic.is_original(name)):
            groups = [each for each in (self._left_of(group, name) for group in groups) if each is not None]
            owners = {id(limit): group for group in endpoint.groups for limit in group.limits or ()}
            strategy = self._limiter._strategy
            groups += [LimitGroup.of(each, strategy, name, owners.get(id(each))) for each in fixed.added(name)]
            groups += dynamic.added(name)
        return self.plan(name, groups, endpoint.function, *endpoint.wrappers)

    def check(self, plan: Plan) -> Check:
        """The check of a plan, as the limiter is configured now."""
        limiter = self._limiter
        if limiter._request_filters:
            return self._filtered(self._unfiltered(plan))
        return self._unfiltered(plan)

    def _filtered(self, check: Check) -> Check:
        filters = tuple(self._limiter._request_filters)
        return lambda request, wait: None if any(each() for each in filters) else check(request, wait)

    def _unfiltered(self, plan: Plan) -> Check:
        limiter = self._limiter
        if not limiter._auto_check:
            return lambda request, wait: None
        is_elsewhere = limiter._foreign_counter() is not None or limiter._remote is not None or limiter._is_out()
        if is_elsewhere or limiter._checker.evaluate is not None:
            return lambda request, wait: limiter._checker.check(plan, as_request(request), wait, {})
        return compile_check(limiter._checker, plan)

    def by_hand(self, function: Callable[..., Any] | None, in_middleware: bool) -> Plan:
        """The plan of a function that somebody asks to check, in the way of the middleware or of its decorator."""
        if function is None:
            return self.plan("", ())
        endpoint = self.endpoint_of(function)
        if endpoint is None:
            return self.plan(qualified_name(function), (), function)
        return Plan(endpoint.name, (), (), ()) if in_middleware else self.plan_of(endpoint)

    def endpoint_of(self, function: Callable[..., Any]) -> Endpoint | None:
        """What was declared for a function, or for what it wraps."""
        return endpoint_behind(self._limiter, function) or self._over(function)

    def ahead(self, found: Found | None, is_registered: Callable[[object], bool]) -> Check | None:
        """What the middleware has to check before the route is dispatched to; None when there is nothing.

        Where a decorator is certain to follow, it checks everything. Where one stands above the decorator of the route,
        and so is never called (`is_registered` says which functions are), it is checked here.
        """
        limiter = self._limiter
        if found is None or found.kind is not Kind.FULL or found.endpoint is None:
            unmatched = self.plan(UNMATCHED, (), is_ahead=True, is_pooled=True)
            matched = unmatched if found is None or found.endpoint is None else self._plan_ahead(found.endpoint)
            return _either(
                self._checked(matched) if limiter._preflights_limited else None,
                self._checked(unmatched) if limiter._unmatched_limited else None,
            )
        if inspect.isclass(found.endpoint):
            return self._by_method(found.endpoint)
        overridden = is_overriding(limiter, found.dependant)
        return self._ahead_of(found.endpoint, found.endpoint, is_registered, overridden=overridden)

    def _renew(self, endpoint: Endpoint) -> None:
        if self._limiter._is_replaced():
            endpoint.check = endpoint.replaced_check
        else:
            endpoint.check = self.check(self.plan_of(endpoint))

    def treatment(
        self, called: Any, named: Any, is_registered: Callable[[object], bool], *, overridden: bool = False
    ) -> tuple[CheckedBy, Plan]:
        """How requests for what is `called`, a part of the endpoint that is `named`, are limited, and by what.

        Default limits do not apply where they are `overridden` by dependencies.
        """
        known = endpoint_behind(self._limiter, called)
        if known is not None:
            return CheckedBy.DECORATOR, self.plan_of(known)
        inert = self._over(called)
        if inert is not None and not any(map(is_registered, inert.wrappers)):
            return CheckedBy.INERT, self.plan_of(inert)
        if isinstance(named, StaticFiles):
            name = qualified_name(named)
            return CheckedBy.STATIC, Plan(name, (), (), (), exempt_name=self.exempt_name(name, named))
        return CheckedBy.MIDDLEWARE, self._plan_ahead(named, overridden=overridden)

    def _ahead_of(
        self, called: Any, named: Any, is_registered: Callable[[object], bool], *, overridden: bool = False
    ) -> Check | None:
        way, plan = self.treatment(called, named, is_registered, overridden=overridden)
        return None if way is CheckedBy.DECORATOR else self._checked(plan)

    def _plan_ahead(self, endpoint: Any, *, overridden: bool = False) -> Plan:
        return self.plan(qualified_name(endpoint), (), endpoint, overridden=overridden, is_ahead=True)

    def _by_method(self, endpoint: Any) -> Check:
        # A class has a function for each method, with or without a decorator.
        checks: dict[str, Check | None] = {}

        def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
            method: str = request.scope["method"]
            name = "get" if method == "HEAD" and not hasattr(endpoint, "head") else method.lower()
            function = getattr(endpoint, name, None)
            if name not in checks:
                if function is not None:
                    ahead = self._ahead_of(function, endpoint, lambda _: True)
                else:
                    ahead = self._checked(self._plan_ahead(endpoint)) if _serves_any_method(endpoint) else None
                if len(checks) > len(vars(endpoint)):
                    return ahead(request, wait) if ahead is not None else None
                checks[name] = ahead
            found = checks[name]
            return None if found is None else found(request, wait)

        return check

    def _left_of(self, group: LimitGroup, name: str) -> LimitGroup | None:
        # Without the limits that somebody has taken away.
        if group.limits is None:
            return group if self._limiter._dynamic_route_limits.holds(name, group) else None
        left = [limit for limit in group.limits if self._limiter._route_limits.holds(name, limit)]
        return group.with_limits(left) if left else None

    def _over(self, function: Any) -> Endpoint | None:
        over = [endpoint for endpoint in endpoints_over(function) if endpoint.limiter is self._limiter]
        return max(over, key=lambda endpoint: len(endpoint.groups), default=None)

    def _checked(self, plan: Plan) -> Check | None:
        return self.check(plan) if plan.groups else None


def is_preflight(request: HTTPConnection) -> bool:
    """Whether a browser asks what another origin may send."""
    return request.scope["method"] == "OPTIONS" and "access-control-request-method" in request.headers


def _parts_of(function: Any) -> Iterator[Any]:
    # Bound methods are others every time; what they are of is not.
    return (getattr(part, "__func__", part) for part in wrapped_chain(function))


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
        chosen = of_preflight if is_preflight(request) else of_others
        return None if chosen is None else chosen(request, wait)

    return check

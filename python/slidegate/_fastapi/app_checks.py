"""What the middleware does about each route of an application."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Scope

from .._core import teller
from .._http.view import CurrentLimit, view_in
from .._limiter.checker import Check
from .._limiter.compiled import quick_of
from .._routing.finder import Found, Kind, RouteFinder
from .._support.peer import STOCK_CLIENT
from .decorator import wrapped_chain
from .dependency_tree import route_in
from .shortcut import Known, Memory, Shortcut, Watched

if TYPE_CHECKING:
    from ..extension import Limiter

_MOST_KEPT = 65_536
_UNKNOWN = object()
_METHODS = ("_check_request_limit", "_inject_asgi_headers")


class AppChecks:
    """The checks of one application's routes by one limiter, each made when a request first needs it. Thread-safe.

    `routed` is what has the routes: the application, or what is mounted in it. Middleware `is_of_route` when the route
    has been found before it is called.
    """

    def __init__(
        self, app: Any, limiter: Limiter, routed: Any, *, is_limiter_of_app: bool, is_of_route: bool = False
    ) -> None:
        self.app = app
        self.limiter = limiter
        self.routed = routed
        self.shortcut = Shortcut()
        self._is_limiter_of_app = is_limiter_of_app
        # Where Starlette's State keeps its attributes; to ask the State itself takes ten times as long.
        self._state = getattr(app, "state", None)
        self._values: dict[str, Any] = getattr(self._state, "_state", {})
        self._planner = limiter._planner
        self._finder = RouteFinder(routed)
        self._is_of_route = is_of_route
        self._served: dict[tuple[int, int], Found] = {}
        self._find = self._serving if is_of_route else self._finder.find
        self._revision = self._planner.revision
        self._checks: dict[Found | None, Check | None] = {}
        self._told = limiter._headers
        self._tell = teller(self._told.quota_names, CurrentLimit, self.add_headers)

    def is_for(self, scope: Scope, limiter: Limiter | None) -> bool:
        """Whether a request is for this application and has this limiter: the one given, else the application's."""
        app = scope.get("app")
        if limiter is None and app is self.app and app.state is self._state:
            limiter = self._values.get("limiter")
        return limiter is self.limiter and app is self.app

    def check_for(self, scope: Scope) -> Check | None:
        """The check that a request has to pass before the application gets it; None when there is none."""
        found = self._find(scope)
        if self._planner.revision == self._revision and found in self._checks:
            return self._checks[found]
        return self._made(found)

    def endpoint_for(self, scope: Scope) -> Any:
        """The endpoint that will serve a request; None without one."""
        found = self._find(scope)
        return found.endpoint if found is not None and found.kind is Kind.FULL else None

    def every_way(self) -> Iterator[tuple[Any, ...]]:
        """The applications that a request passes through, for each route, as far as anybody knows beforehand."""
        return (apps for _, apps in self._finder.every_with_apps())

    def renew_shortcut(self, stock: Iterable[tuple[dict[str, Any], str, Any]]) -> None:
        """Has `shortcut` go on, or begin again, if it can, as long as these entries of dictionaries stay."""
        self._finder.compare()
        router, hot, uses = self._finder.state()
        plans, limiter = self._planner, self.limiter
        lists = ((hot.routes, hot.length), *((each, len(each)) for each in hot.nested))
        if not self._is_usual() or any(type(each) is not list for each, _ in lists):
            self.shortcut.rest()
            return
        entries = [
            *stock,
            (vars(router), "routes", hot.routes),
            (vars(plans), "revision", plans.revision),
            (vars(limiter), "enabled", True),
            *((vars(each), "_routes_version", each._routes_version) for each in hot.included),
        ]
        if self._is_limiter_of_app:
            entries += [(vars(self.app), "state", self._state), (self._values, "limiter", limiter)]
        kind = type(limiter)
        attributes = [(kind, name, getattr(kind, name)) for name in _METHODS] + [(Request, "client", STOCK_CLIENT)]
        if all(names.get(name) is value for names, name, value in entries):
            self.shortcut.renew(self.app, Watched(tuple(entries), tuple(attributes), lists), uses)
        else:
            self.shortcut.rest()

    def remember(self, memory: Memory, scope: Scope, check: Check | None) -> None:
        """Remembers the check of a request, when others for the same method and path will have the same."""
        settled = self._finder.settled(scope)
        if settled is not None and self._checks.get(settled.found, _UNKNOWN) is check:
            is_told = check is not None and self.limiter._headers_enabled
            if self._told is not self.limiter._headers:
                self._told = self.limiter._headers
                self._tell = teller(self._told.quota_names, CurrentLimit, self.add_headers)
            known = Known(self, check, quick_of(check), self._tell if is_told else None)
            memory.put(scope, known, settled.position, settled.node)

    def add_headers(self, scope: Scope, message: Message) -> None:
        """Adds what is to be told of a request's limits to the message that begins a response."""
        limiter, view, raw = self.limiter, view_in(scope), message.get("headers", ())
        if type(view) is CurrentLimit and limiter._is_inject_stock():
            message["headers"] = limiter._headers.written(raw, view[0], view.raw_decision, view.policies)
        else:
            # A copy: an application may send the same list again.
            message["headers"] = limiter._inject_asgi_headers(MutableHeaders(raw=list(raw)), view).raw

    def _is_usual(self) -> bool:
        limiter = self.limiter
        is_stock = limiter._is_inject_stock() and not limiter._is_replaced() and not self._planner.is_holding
        is_stock = is_stock and not self._is_of_route
        is_quick = limiter._headers.is_plain and not limiter._headers.is_retry_after_on_success
        is_stock = is_stock and Request.client is STOCK_CLIENT
        return is_stock and (is_quick or not limiter._headers_enabled)

    def _serving(self, scope: Scope) -> Found | None:
        endpoint, dependant = scope["endpoint"], getattr(route_in(scope), "dependant", None)
        key = id(endpoint), id(dependant)
        found = self._served.get(key)
        if found is None or found.endpoint is not endpoint or found.dependant is not dependant:
            found = self._served[key] = Found(Kind.FULL, endpoint, "", dependant=dependant)
        return found

    def _made(self, found: Found | None) -> Check | None:
        revision = self._planner.revision
        if revision != self._revision or len(self._checks) > _MOST_KEPT:
            self._checks = {}
        check = self._planner.ahead(found, self._is_registered)
        self._checks[found] = check
        self._revision = revision
        return check

    def _is_registered(self, function: object) -> bool:
        return any(function is each for found in self._finder.every() for each in wrapped_chain(found.endpoint))

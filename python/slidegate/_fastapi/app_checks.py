"""What the middleware does about each route of an application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from starlette.types import Scope

from .._limiter.core import LimiterCore
from .._routing.finder import Found, Kind, RouteFinder
from .._routing.served import route_in
from .._rules.plan import Check
from .._support.callables import wrapped_chain
from .route_checks import check_ahead

OTHER = cast(Check, object())
"""What stands for a check where a request is for another application or limiter."""
_MOST_KEPT = 65_536


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
        self._revision = self._planner.revision
        self._checks: dict[Found | None, Check | None] = {}

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
        found = self._find(scope)
        if self._planner.revision == self._revision and found in self._checks:
            return self._checks[found]
        return self._made(found)

    def check_of(self, scope: Scope) -> Check | None:
        """The same for a request that is known to be for these checks."""
        return self._made(self._find(scope))

    def endpoint_for(self, scope: Scope) -> Any:
        """The endpoint that will serve a request; None without one."""
        found = self._find(scope)
        return found.endpoint if found is not None and found.kind is Kind.FULL else None

    def passed_apps(self) -> Iterator[tuple[Any, ...]]:
        """The applications that a request passes through, for each route, as far as anybody knows beforehand."""
        return (apps for _, apps in self._finder.every_with_apps())

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
        elif found in self._checks:
            return self._checks[found]
        check = check_ahead(self.limiter, found, self._is_registered)
        self._checks[found] = check
        self._revision = revision
        return check

    def _is_registered(self, function: object) -> bool:
        return any(function is each for found in self._finder.every() for each in wrapped_chain(found.endpoint))

"""What the middleware does about each route of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from ._check import Check
from ._endpoint import wrapped_chain
from ._routes import Found, Kind, RouteFinder

if TYPE_CHECKING:
    from .extension import Limiter

_MOST_KEPT = 65_536


class Guard:
    """The checks of one application's routes by one limiter, each made when a request first needs it. Thread-safe."""

    __slots__ = ("_checks", "_find", "_finder", "_plans", "_revision", "_state", "_values", "app", "kind", "limiter")

    def __init__(self, app: Any, limiter: Limiter) -> None:
        self.app = app
        self.limiter = limiter
        self.kind: Any = type(limiter)
        # Where Starlette's State keeps its attributes; to ask the State itself takes ten times as long.
        self._state = getattr(app, "state", None)
        self._values: dict[str, Any] = getattr(self._state, "_state", {})
        self._plans = limiter._plans
        self._finder = RouteFinder(app)
        self._find = self._finder.find
        self._revision = self._plans.revision
        self._checks: dict[Found | None, Check | None] = {}

    def is_for(self, scope: Scope, limiter: Limiter | None) -> bool:
        """Whether a request is for this application and has this limiter: the one given, else the application's."""
        app = scope.get("app")
        if limiter is None and app is self.app and app.state is self._state:
            limiter = self._values.get("limiter")
        return limiter is self.limiter and app is self.app

    def check_for(self, scope: Scope) -> Check | None:
        """The check that a request has to pass before the application gets it; None when there is none."""
        found = self._find(scope)
        if self._plans.revision == self._revision and found in self._checks:
            return self._checks[found]
        return self._made(found)

    def endpoint_for(self, scope: Scope) -> Any:
        """The endpoint that will serve a request; None without one."""
        found = self._find(scope)
        return found.endpoint if found is not None and found.kind is Kind.FULL else None

    def _made(self, found: Found | None) -> Check | None:
        revision = self._plans.revision
        if revision != self._revision or len(self._checks) > _MOST_KEPT:
            self._checks = {}
        check = self._plans.ahead(found, self._is_registered)
        self._checks[found] = check
        self._revision = revision
        return check

    def _is_registered(self, function: object) -> bool:
        return any(function is each for found in self._finder.every() for each in wrapped_chain(found.endpoint))

"""The route that serves a request, and what is known of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.types import Scope

from .._support.callables import qualified_name

_MOST_KEPT = 65_536


class Served(NamedTuple):
    """What serves a request: the methods and the template of its path, and the endpoint's name."""

    route: str
    endpoint: str
    function: Any
    dependant: Any
    checks: dict[Any, Any]
    """What its dependencies were made into, by what they are: kept as long as the route."""


class Routes:
    """What requests are served by, remembered. Thread-safe."""

    def __init__(self) -> None:
        self._served: dict[int, tuple[Any, Served]] = {}

    def served(self, scope: Scope) -> Served | None:
        """What serves the request with this ASGI scope; None before it was routed."""
        route = route_in(scope)
        if route is None:
            return None
        known = self._served.get(id(route))
        if known is not None and known[0] is route:
            return known[1]
        if len(self._served) > _MOST_KEPT:
            self._served = {}
        served = _served_by(route, scope)
        # Kept with the route, so that nothing else gets its id.
        self._served[id(route)] = (route, served)
        return served


def route_in(scope: Scope) -> Any:
    """The route that a request was dispatched to, as it is where its router was included; None without one."""
    route = scope.get("route")
    if route is None:
        return scope.get("endpoint")
    context = scope.get("fastapi", {}).get("effective_route_context")
    return context if context is not None and context.original_route is route else route


def _served_by(route: Any, scope: Scope) -> Served:
    function = getattr(route, "endpoint", None) or route
    endpoint = qualified_name(function) if callable(function) else type(route).__qualname__
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    methods = getattr(route, "methods", None)
    if scope["type"] == "websocket":
        methods = ["WEBSOCKET"]
    elif methods and template is not None:
        # Starlette adds it to every GET.
        methods = sorted(set(methods) - {"HEAD"}) or ["HEAD"]
    told = f"{','.join(methods or ['ANY'])} {template}" if template is not None else endpoint
    return Served(told, endpoint, function, getattr(route, "dependant", None), {})

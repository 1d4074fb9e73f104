"""Which `RateLimit`s stand among the dependencies of a route, and which of them are decided together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Scope

from .._support.callables import qualified_name

if TYPE_CHECKING:
    from ..dependencies import RateLimit
    from ..extension import Limiter

_MOST_KEPT = 65_536


class Served(NamedTuple):
    """What serves a request: the methods and the template of its path, and the endpoint's name."""

    route: str
    endpoint: str
    function: Any
    dependant: Any


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
    return Served(told, endpoint, function, getattr(route, "dependant", None))


def calls_of(dependant: Any) -> Iterator[tuple[Any, bool]]:
    """The calls of all dependencies below in the order in which they are made, and whether each has some of its own.

    One that was made before is not made again.
    """
    seen: set[int] = set()

    def below(parent: Any) -> Iterator[tuple[Any, bool]]:
        for each in getattr(parent, "dependencies", ()):
            yield from below(each)
            if id(each.call) not in seen:
                seen.add(id(each.call))
                yield each.call, bool(each.dependencies)

    return below(dependant)


def rate_limits_of(dependant: Any) -> Iterator[RateLimit]:
    """The `RateLimit`s among all dependencies below, also those that count messages."""
    from ..dependencies import PerMessage, RateLimit

    for call, _ in calls_of(dependant):
        if isinstance(call, RateLimit):
            yield call
        elif isinstance(call, PerMessage):
            yield call.rate_limit


def limiter_for(rate_limit: RateLimit, app: Any) -> Limiter | None:
    """The limiter that counts for it in an application; None when it has none, or none yet."""
    from ..extension import Limiter

    found = rate_limit.limiter or getattr(getattr(app, "state", None), "limiter", None)
    return found if isinstance(found, Limiter) else None


def application_of(apps: Sequence[Any]) -> Any:
    """The application that a request is for, of those that it passes through on its way to a route."""
    return next((each for each in reversed(apps) if hasattr(each, "state")), None)


def followers_of(first: RateLimit, dependant: Any, overrides: Mapping[Any, Any]) -> list[RateLimit]:
    """Those that follow a `RateLimit` with no other dependency in between, and need none: one decision will do for all.

    What was overridden for a test is no longer there.
    """
    from ..dependencies import RateLimit

    followers: list[RateLimit] = []
    calls = calls_of(dependant)
    if not any(call is first for call, _ in calls):
        return followers
    for call, has_own in calls:
        if not isinstance(call, RateLimit) or has_own or not call.is_alone:
            break
        if call not in overrides:
            followers.append(call)
    return followers


def is_overriding(limiter: Limiter, dependant: Any) -> bool:
    """Whether dependencies of a route have limits instead of the default ones."""
    if dependant is None:
        return False
    # One that is switched off leaves the defaults in force.
    return any(
        each.override_defaults and each.is_for(limiter) and each.groups(limiter) for each in rate_limits_of(dependant)
    )

"""Whether the decorators of limited routes are reached, where somebody's own wrapper stands above them.

A cache, or a flag, may answer without calling what it wraps. Nobody can see that beforehand; but the request tells,
when it has been answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._http.request_state import known_of
from .._limiter.core import LimiterCore
from .._routing.endpoint_finder import RouteFinder
from .._routing.route_tree import router_of, wrapped_apps
from .decorator import Endpoint, endpoint_behind, is_verified
from .framework_patches import put_before_routes


class BypassDetector:
    """Stands before a router, and warns once of each endpoint that has answered without its limit. Thread-safe.

    `unsure` has what is called to serve requests, by its id, with the endpoint that is to be reached.
    """

    def __init__(self, app: ASGIApp, unsure: Mapping[int, tuple[Any, Endpoint]]) -> None:
        self.app = app
        self.unsure = unsure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self.app(scope, receive, send_seen)
        # Of what is wrong with a request, the framework tells without calling an endpoint.
        if status < 400:
            self._look(scope)

    def _look(self, scope: Scope) -> None:
        called = scope.get("endpoint")
        known, endpoint = self.unsure.get(id(called), (None, None))
        if known is not called or endpoint is None or endpoint.is_told_of:
            return
        limiter, record = endpoint.limiter, known_of(scope)
        if limiter.enabled and limiter.auto_check and (record is None or not record.reached):
            endpoint.is_told_of = True
            limiter.logger.warning(
                "%s has answered, and its limit was not asked: what wraps it did not call it. Put the decorator of the"
                " limit above that of the wrapper, right below that of the route, or use a RateLimit",
                endpoint.name,
            )


def watch_for_bypassed_decorators(app: Any, limiters: Iterable[LimiterCore]) -> None:
    """Has those endpoints of an application watched whose decorators may not be reached; does nothing without any."""
    unsure: dict[int, tuple[Any, Endpoint]] = {}
    for limiter in limiters:
        for found in RouteFinder(app).every():
            endpoint = endpoint_behind(limiter, found.endpoint)
            if endpoint is not None and found.protocol != "websocket" and not is_verified(limiter, found.endpoint):
                unsure[id(found.endpoint)] = (found.endpoint, endpoint)
    router = router_of(app)[0]
    if not unsure or not hasattr(router, "middleware_stack"):
        return
    for each in wrapped_apps(router.middleware_stack):
        if isinstance(each, BypassDetector):
            each.unsure = unsure
            return
    put_before_routes(router, BypassDetector(router.middleware_stack, unsure))

"""What the middleware has foreseen of a request, compared with what the router then gets.

The middleware finds out which endpoint will serve a request, and checks the limits of that. Middleware that is inside
of it may change the path or the method, so that another endpoint serves the request. Where there may be such, the last
thing before the router looks whether they are still those that were checked, and if not, checks the limits of what
serves the request indeed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from .._http.current_limit import Ahead
from .._http.request_state import known_of, record_of
from .._routing.endpoint_finder import RouteFinder
from .._routing.route_tree import router_of, wrapped_apps
from .._support.callables import qualified_name
from .._support.waiting import wait_on_loop
from .framework_patches import awaited_with_body, put_before_routes


class RewrittenPathCheck:
    """Stands before a router, in the place where the router's own middleware does. Thread-safe.

    `middleware` is whose checks are compared: it tells what knows the routes of this router.
    """

    def __init__(self, app: ASGIApp, middleware: Any, router: Any) -> None:
        self.app = app
        self.middleware = middleware
        self._router = router
        self._told: set[str] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        record = known_of(scope) if scope["type"] == "http" else None
        if (
            record is not None
            and (record.path != scope["path"] or record.method != scope["method"])
            and self.middleware in record.entered
        ):
            return self._arrived(scope, receive, send)
        return self.app(scope, receive, send)

    async def _arrived(self, scope: Scope, receive: Receive, send: Send) -> None:
        checks = self.middleware.checks_behind(self._router)
        check = None if checks is None else self.middleware.check_for(checks, scope)
        if check is not None:
            request = Request(scope, receive, send)
            record = record_of(request)
            if record.done is not None and record.path != scope["path"] and checks.limiter.key_style == "url":
                # Also of the same endpoint, each path counts apart.
                record.done = Ahead(((checks.limiter, None),))
            self._tell(checks, scope)
            pending = check(request, wait_on_loop)
            if pending is not None:
                receive = await awaited_with_body(pending, request, receive)
        await self.app(scope, receive, send)

    def _tell(self, checks: Any, scope: Scope) -> None:
        endpoint = checks.endpoint_for(scope)
        name = qualified_name(endpoint) if endpoint is not None else "what no endpoint serves"
        if name not in self._told:
            self._told.add(name)
            checks.limiter.logger.warning(
                "a request came to %s by another path or method than SlowAPIMiddleware had seen: middleware inside of"
                " it has changed them, or a program calls the router. It is limited as what serves it, and was perhaps"
                " counted for something else before; add SlowAPIMiddleware before what changes paths, to be inside",
                name,
            )


def check_rewritten_paths(middleware: Any, routed: Any) -> bool:
    """Has requests compared before the routers that stand behind middleware which may change paths; whether any do.

    `middleware` is ours, around what has the routes, `routed`.
    """
    before: dict[int, tuple[Any, list[Any]]] = {}
    passed_on_the_way = (each for _, apps in RouteFinder(routed).every_with_apps() for each in apps)
    for each in [middleware.app, *(each for each in passed_on_the_way if each is not routed)]:
        router = router_of(each)[0]
        if router is not None:
            before.setdefault(id(router), (router, []))[1].append(each)
    is_watching = False
    for router, passed in before.values():
        stack = getattr(router, "middleware_stack", None)
        # What is mounted builds its middleware with its first request: until then it is only listed.
        listed = (entry.cls for each in (stack, *passed) for entry in getattr(each, "user_middleware", ()))
        kinds = [*(kind for each in (stack, *passed) for kind in _around(each)), *listed]
        if stack is not None and any(map(_may_change_paths, kinds)):
            is_watching = True
            known = [each for each in wrapped_apps(stack) if isinstance(each, RewrittenPathCheck)]
            if not any(each.middleware is middleware for each in known):
                put_before_routes(router, RewrittenPathCheck(stack, middleware, router))
    return is_watching


def _around(app: Any) -> Iterator[type]:
    # What is called before the router of an application, from the outside in.
    for each in wrapped_apps(app):
        if inspect.ismethod(each) or isinstance(getattr(each, "router", each), Router):
            return
        yield type(each)


def _may_change_paths(kind: Any) -> bool:
    module = str(getattr(kind, "__module__", "")).partition(".")[0]
    return module != "slidegate" and (module not in ("starlette", "fastapi") or kind is BaseHTTPMiddleware)

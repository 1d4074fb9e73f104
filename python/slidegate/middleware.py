"""slowapi's middleware: the limits of endpoints that have no decorator."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware, DispatchFunction, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from ._fastapi.middleware import RateLimitMiddleware
from ._fastapi.route_checks import AppChecks
from ._fastapi.startup_hook import watch_start_up
from ._http.current_limit import view_in
from ._http.request_state import enter
from ._http.response import answer_to
from ._limiter.core import LimiterCore
from ._rules.plan import Check
from ._slowapi import middleware_functions
from ._slowapi.middleware_functions import (
    _find_route_handler,
    _should_exempt,
    async_check_limits,
    sync_check_limits,
)
from ._slowapi.middleware_functions import (
    _get_route_name as _get_route_name,
)
from ._slowapi.replaced_methods import patched_check
from ._support.waiting import wait_on_loop

__all__ = ["SlowAPIASGIMiddleware", "SlowAPIMiddleware", "async_check_limits", "sync_check_limits"]


class SlowAPIMiddleware(RateLimitMiddleware):
    """Applies the limits of the application, and default limits to the endpoints that have none of their own.

    `app.add_middleware(SlowAPIMiddleware)` finds the limiter in `app.state.limiter`; `limiter=` gives it another. It
    finds the very route that the application will dispatch to, whose decorators, if it has any, check all of its
    limits. It adds headers to responses when they are enabled, and otherwise passes everything through untouched:
    streams, WebSockets (which it does not limit), and cancellation.

    A refusal is answered by the application's handler for RateLimitExceeded, or for 429, else by slowapi's body.
    Subclasses may override `dispatch(request, call_next)`, and `dispatch=` may replace it, as of Starlette's
    BaseHTTPMiddleware.
    """

    def __init__(
        self, app: ASGIApp, dispatch: DispatchFunction | None = None, *, limiter: LimiterCore | None = None
    ) -> None:
        super().__init__(app, limiter=limiter)
        if dispatch is not None:
            self.instead = BaseHTTPMiddleware(app, dispatch)
        elif type(self).dispatch is not SlowAPIMiddleware.dispatch:
            self.instead = BaseHTTPMiddleware(app, self.dispatch)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Checks a request and, if it passes, has the response made. Called where a subclass overrides it, only."""
        checks, check = self.checks_for(request.scope)
        if checks is None:
            return await call_next(request)
        record, is_own = enter(request.scope, self)
        try:
            if check is None:
                return await call_next(request)
            try:
                pending = check(request, wait_on_loop)
                if pending is not None:
                    await pending
            except Exception as error:
                return await answer_to(error, request, checks.app)
            response = await call_next(request)
            return checks.limiter.inject_headers(response, view_in(request.scope))
        finally:
            if is_own:
                record.scope = None

    def check_for(self, checks: AppChecks, scope: Scope) -> Check | None:
        if not self.is_patched:
            return checks.check_of(scope)
        # Somebody has replaced a part: requests take the way of slowapi, through all of them.
        is_found_here = _find_route_handler is middleware_functions._find_route_handler
        handler = checks.endpoint_for(scope) if is_found_here else _find_route_handler(checks.app.routes, scope)
        return None if _should_exempt(checks.limiter, handler) else patched_check(checks.limiter, handler, True)


SlowAPIASGIMiddleware = SlowAPIMiddleware


class _PatchedModule(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        SlowAPIMiddleware.is_patched = any(
            globals()[each] is not getattr(middleware_functions, each)
            for each in ("_find_route_handler", "_should_exempt")
        )


# So that requests need not look whether programs or tests have put something else for a function of this module.
sys.modules[__name__].__class__ = _PatchedModule
# Where no limiter is ever made, nobody else would find that the middleware has none.
watch_start_up()

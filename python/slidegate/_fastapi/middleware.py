"""The limits of endpoints that have no decorator, as ASGI middleware."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._http.add_headers import add_headers
from .._http.current_limit import CurrentLimit, view_in, view_of
from .._http.request_state import RECORD, VIEW, Record, enter
from .._http.response import answer_to
from .._limiter.core import LimiterCore
from .._routing.route_tree import router_of, wrapped_apps
from .._rules.plan import Check
from .._support.errors import ConfigurationError
from .._support.waiting import wait_on_loop
from .framework_patches import awaited_with_body
from .rewritten_paths import check_rewritten_paths
from .route_checks import OTHER, AppChecks


class RateLimitMiddleware:
    """What `slidegate.middleware.SlowAPIMiddleware` is without what slowapi adds. Thread-safe."""

    is_patched = False
    """Whether somebody has replaced what tells the check of a request, in subclasses; then `check_for` is asked."""
    instead: ASGIApp | None = None
    """What serves HTTP requests in the place of this, in subclasses."""

    def __init__(self, app: ASGIApp, *, limiter: LimiterCore | None = None) -> None:
        self.app = app
        self.limiter = limiter
        self._alone = (self,)
        self._checks: AppChecks | None = None
        self._checks_behind: dict[int, AppChecks] = {}
        self._is_path_compared = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.instead is not None:
            await self.instead(scope, receive, send)
            return
        # Most requests go through here: what is not called takes no time.
        checks = self._checks
        check = OTHER if checks is None else checks.check_for(scope, scope.get("app") or self.app, self.limiter)
        if checks is None or check is OTHER or self.is_patched:
            checks, check = self.checks_for(scope)
        if checks is None or (check is None and not self._is_path_compared and not checks.limiter.planner.is_holding):
            await self.app(scope, receive, send)
            return
        limiter, is_own = checks.limiter, True
        record: Record | None = scope.get(RECORD)
        if record is None:
            record = scope[RECORD] = Record()
            record.scope, record.entered = scope, self._alone
            record.method, record.path = scope.get("method"), scope.get("path")
            record.state = scope.get("state")
            if record.state is None:
                record.state = scope["state"] = {}
        else:
            record, is_own = enter(scope, self)
        try:
            if check is not None:
                request = Request(scope, receive, send)
                try:
                    pending = check(request, wait_on_loop)
                    if pending is not None:
                        receive = await awaited_with_body(pending, request, receive)
                except Exception as error:
                    response = await answer_to(error, request, checks.app)
                    await response(scope, receive, send)
                    return
            if limiter.planner.is_holding:
                await self._held(record, checks, check is not None, scope, receive, send)
            elif check is None or not limiter.headers_enabled:
                await self.app(scope, receive, send)
            else:
                is_patched = limiter.is_writing_patched

                def send_with_headers(message: Message) -> Awaitable[None]:
                    if message["type"] == "http.response.start":
                        view, raw = record.view, message.get("headers", ())
                        if type(view) is not CurrentLimit or view is not record.state.get(VIEW) or is_patched:
                            add_headers(limiter, view_in(scope), message)
                        else:
                            written = limiter.headers.written(raw, view[0], view.raw_decision, view.policies)
                            message["headers"] = written
                    return send(message)

                await self.app(scope, receive, send_with_headers)
        finally:
            if is_own:
                # The request is over: what its scope is used for from now on is another one.
                record.scope = None

    async def _held(
        self, record: Record, checks: AppChecks, is_told: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # What is held for the request, here or by a decorator, is settled when the response is known.
        limiter = checks.limiter
        record.is_held_by_middleware = True

        async def send_settled(message: Message) -> None:
            if message["type"] == "http.response.start":
                response = Response(status_code=message["status"])
                response.raw_headers = list(message.get("headers", ()))
                await limiter.checker.settle(record, response, wait_on_loop)
                if is_told or view_of(record) is not None:
                    add_headers(limiter, view_in(scope), message)
            await send(message)

        try:
            await self.app(scope, receive, send_settled)
        except Exception:
            await limiter.checker.settle(record, Response(status_code=500), wait_on_loop)
            raise

    def check_for(self, checks: AppChecks, scope: Scope) -> Check | None:
        """The check that a request has to pass before the application gets it; None when there is none."""
        return checks.check_of(scope)

    def checks_for(self, scope: Scope) -> tuple[AppChecks | None, Check | None]:
        """The checks of the application and limiter that a request is for, and the one that it has to pass.

        None for what is not to be checked, and no checks where a limiter is switched off that is none of ours.
        """
        checks, app = self._checks, scope.get("app") or self.app
        limiter: Any = self.limiter or getattr(getattr(app, "state", None), "limiter", None)
        if checks is None or checks.app is not app or checks.limiter is not limiter:
            if not isinstance(limiter, LimiterCore):
                # What a test puts in the place of a limiter has to say no more than that.
                if not getattr(limiter, "enabled", True):
                    return None, None
                raise no_limiter(type(self), limiter)
            checks = self._made(scope, app, limiter)
        return checks, self.check_for(checks, scope) if checks.limiter.enabled else None

    def _made(self, scope: Scope, app: Any, limiter: LimiterCore) -> AppChecks:
        # Below a mount the routes are not those of the application, but those that are behind this middleware.
        router, _ = router_of(self.app)
        routed = app if router is None or router is router_of(app)[0] else self.app
        endpoint = scope.get("endpoint")
        # What is mounted, and has routes, was found by the mount: it has its own still to find.
        is_of_route = router is None and endpoint is not None and router_of(endpoint)[0] is None
        self._checks = checks = AppChecks(app, limiter, routed, is_of_route=is_of_route)
        if not is_of_route:
            self._is_path_compared = check_rewritten_paths(self, routed)
        return checks

    def checks_behind(self, router: Any) -> AppChecks | None:
        """What knows the routes of a router that is behind this middleware; None while nothing is to be checked."""
        checks = self._checks
        if checks is None or not checks.limiter.enabled:
            return None
        if router is router_of(checks.routed)[0]:
            return checks
        known = self._checks_behind.get(id(router))
        if known is None or known.limiter is not checks.limiter:
            known = self._checks_behind[id(router)] = AppChecks(checks.app, checks.limiter, router)
        return known


def no_limiter(kind: type, found: object) -> ConfigurationError:
    """What is wrong where middleware of that kind has found something else than a limiter."""
    return ConfigurationError(
        f"{kind.__name__} found {found!r} for a limiter; set app.state.limiter = limiter, or give it one with"
        f" app.add_middleware({kind.__name__}, limiter=limiter)"
    )


def middleware_of(app: Any) -> list[Any]:
    """The entries of the application's list of middleware that are ours."""
    listed = getattr(app, "user_middleware", ())
    return [each for each in listed if inspect.isclass(each.cls) and issubclass(each.cls, RateLimitMiddleware)]


def has_middleware(app: Any, limiter: LimiterCore) -> bool:
    """Whether the application has the middleware, for this limiter, or its router or mount has."""
    own = getattr(getattr(app, "state", None), "limiter", limiter)
    # What is built already, by mounts and routers; an application's own list is not before its first request.
    built = [*wrapped_apps(app), *wrapped_apps(getattr(router_of(app)[0], "middleware_stack", None))]
    given = [each.limiter for each in built if isinstance(each, RateLimitMiddleware)]
    return any((each or own) is limiter for each in given + [each.kwargs.get("limiter") for each in middleware_of(app)])

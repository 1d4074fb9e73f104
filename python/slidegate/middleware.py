"""The limits of endpoints that have no decorator, as ASGI middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, DispatchFunction, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._fastapi.app_checks import OTHER, AppChecks
from ._fastapi.rewritten_paths import check_rewritten_paths, replaying
from ._fastapi.route_checks import endpoint_of
from ._http.request_doubles import as_request
from ._http.response import _rate_limit_exceeded_handler
from ._http.state import RECORD, VIEW, Record, done_of, enter, record_of
from ._http.view import CurrentLimit, view_in, view_of
from ._limiter.checker import Check
from ._limiter.core import LimiterCore
from ._routing.finder import endpoint_among
from ._routing.layout import router_of
from ._slowapi.patched import patched_check
from ._startup import watch_start_up
from ._support.callables import is_async, qualified_name, wait_in_thread, wait_on_loop
from .errors import ConfigurationError, RateLimitExceeded

__all__ = ["SlowAPIASGIMiddleware", "SlowAPIMiddleware", "async_check_limits", "sync_check_limits"]


class SlowAPIMiddleware:
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
        self.app = app
        self._limiter = limiter
        self._app_checks: AppChecks | None = None
        self._alone = (self,)
        self._is_compared = False
        self._apps_checks: dict[int, AppChecks] = {}
        self._dispatching: ASGIApp | None = None
        if dispatch is not None:
            self._dispatching = BaseHTTPMiddleware(app, dispatch)
        elif type(self).dispatch is not SlowAPIMiddleware.dispatch:
            self._dispatching = BaseHTTPMiddleware(app, self.dispatch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._dispatching is not None:
            await self._dispatching(scope, receive, send)
            return
        # Most requests go through here: what is not called takes no time.
        checks = self._app_checks
        check = OTHER if checks is None else checks.check_for(scope, scope.get("app") or self.app, self._limiter)
        if checks is None or check is OTHER or _is_patched(checks.limiter):
            checks, check = self._checks_for(scope)
        if checks is None or (check is None and not self._is_compared and not checks.limiter.planner.is_holding):
            await self.app(scope, receive, send)
            return
        limiter, is_own = checks.limiter, True
        record: Record | None = scope.get(RECORD)
        if record is None:
            record = scope[RECORD] = Record()
            record.scope, record.entered = scope, self._alone
            record.method, record.path = scope["method"], scope["path"]
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
                        receive = await replaying(pending, request, receive)
                except Exception as error:
                    response = await _response_to(error, request, checks.app)
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
                            checks.add_headers(scope, message)
                        else:
                            written = limiter.headers.written(raw, view[0], view.raw_decision, view.policies)
                            message["headers"] = written
                    return send(message)

                await self.app(scope, receive, send_with_headers)
        finally:
            if is_own:
                # The request is over: what its scope is used for from now on is another one.
                record.scope = None

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Checks a request and, if it passes, has the response made. Called where a subclass overrides it, only."""
        checks, check = self._checks_for(request.scope)
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
                return await _response_to(error, request, checks.app)
            response = await call_next(request)
            return checks.limiter.inject_headers(response, view_in(request.scope))
        finally:
            if is_own:
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
                    checks.add_headers(scope, message)
            await send(message)

        try:
            await self.app(scope, receive, send_settled)
        except Exception:
            await limiter.checker.settle(record, Response(status_code=500), wait_on_loop)
            raise

    def _limiter_for(self, scope: Scope) -> Any:
        return self._limiter or getattr(getattr(scope.get("app") or self.app, "state", None), "limiter", None)

    def _checks_for(self, scope: Scope) -> tuple[AppChecks | None, Check | None]:
        # As `AppChecks.check_for`, for any application, limiter and patch; no checks where the limiter is switched off.
        checks, app, limiter = self._app_checks, scope.get("app") or self.app, self._limiter_for(scope)
        if checks is None or checks.app is not app or checks.limiter is not limiter:
            # What a test puts in the place of a limiter has to say no more than that.
            if not isinstance(limiter, LimiterCore) and not getattr(limiter, "enabled", True):
                return None, None
            checks = self._make_app_checks(scope, app, limiter)
        return checks, _check_for(checks, scope) if checks.limiter.enabled else None

    def _make_app_checks(self, scope: Scope, app: Any, limiter: Any) -> AppChecks:
        if not isinstance(limiter, LimiterCore):
            raise ConfigurationError(
                f"{type(self).__name__} found {limiter!r} for a limiter; set app.state.limiter = limiter, or give it"
                " one with app.add_middleware(SlowAPIMiddleware, limiter=limiter)"
            )
        # Below a mount the routes are not those of the application, but those that are behind this middleware.
        router, _ = router_of(self.app)
        routed = app if router is None or router is router_of(app)[0] else self.app
        endpoint = scope.get("endpoint")
        # What is mounted, and has routes, was found by the mount: it has its own still to find.
        is_of_route = router is None and endpoint is not None and router_of(endpoint)[0] is None
        self._app_checks = checks = AppChecks(app, limiter, routed, is_of_route=is_of_route)
        if not is_of_route:
            self._is_compared = check_rewritten_paths(self, routed, checks.every_way(), self._app_checks_of, _check_for)
        return checks

    def _app_checks_of(self, router: Any) -> AppChecks | None:
        """What knows the routes of a router that is behind this middleware; None while nothing is to be checked."""
        checks = self._app_checks
        if checks is None or not checks.limiter.enabled:
            return None
        if router is router_of(checks.routed)[0]:
            return checks
        known = self._apps_checks.get(id(router))
        if known is None or known.limiter is not checks.limiter:
            known = self._apps_checks[id(router)] = AppChecks(checks.app, checks.limiter, router)
        return known


SlowAPIASGIMiddleware = SlowAPIMiddleware


def _find_route_handler(routes: Iterable[BaseRoute], scope: Scope) -> Callable[..., Any] | None:
    """The endpoint of the route that a router with these routes dispatches to. The middleware asks it if replaced."""
    return endpoint_among(routes, scope)


def _should_exempt(limiter: LimiterCore, handler: Callable[..., Any] | None) -> bool:
    """Whether the middleware leaves an endpoint alone: there is none, it is exempt, or its decorator decides."""
    planner = limiter.planner
    if handler is None or planner.exempt_name(qualified_name(handler), handler) in planner.exempt_routes:
        return True
    return endpoint_of(limiter, handler) is not None


def _get_route_name(handler: Callable[..., Any]) -> str:
    return qualified_name(handler)


def sync_check_limits(
    limiter: LimiterCore, request: Request, handler: Callable[..., Any] | None, app: Any
) -> tuple[Response | None, bool]:
    """Checks a request for an endpoint in the middleware's way, for middleware of your own.

    Returns the response to a request that was refused, and whether to inject headers into that of another. An
    asynchronous exception handler cannot be called here; slowapi's response is returned instead.
    """
    error, is_told = _checked(limiter, request, handler)
    if error is None:
        return None, is_told
    answer = _handler_of(error, app)
    if answer is None:
        raise error
    return (_rate_limit_exceeded_handler if is_async(answer) else answer)(request, error), is_told


async def async_check_limits(
    limiter: LimiterCore, request: Request, handler: Callable[..., Any] | None, app: Any
) -> tuple[Response | None, bool]:
    """The same for exception handlers of both kinds."""
    error, is_told = _checked(limiter, request, handler)
    return (None if error is None else await _response_to(error, request, app)), is_told


def _checked(
    limiter: LimiterCore, request: Request, handler: Callable[..., Any] | None
) -> tuple[Exception | None, bool]:
    if not limiter.auto_check or done_of(record_of(as_request(request))):
        return None, False
    try:
        patched_check(limiter, handler, True)(request, wait_in_thread)
    except Exception as error:
        return error, False
    return None, True


_STOCK_FIND, _STOCK_EXEMPT = _find_route_handler, _should_exempt


def _is_patched(limiter: LimiterCore) -> bool:
    names_are_stock = _find_route_handler is _STOCK_FIND and _should_exempt is _STOCK_EXEMPT
    return not names_are_stock or limiter.is_patched


def _check_for(checks: AppChecks, scope: Scope) -> Check | None:
    limiter = checks.limiter
    if not _is_patched(limiter):
        return checks.check_of(scope)
    # Somebody has replaced a part: requests take the way of slowapi, through all of them.
    is_found_here = _find_route_handler is _STOCK_FIND
    handler = checks.endpoint_for(scope) if is_found_here else _find_route_handler(checks.app.routes, scope)
    if _should_exempt(limiter, handler):
        return None
    return patched_check(limiter, handler, True)


async def _response_to(error: Exception, request: Request, app: Any) -> Response:
    """The response of the application's handler. Raises the error when it has none for it."""
    handler = _handler_of(error, app)
    if handler is None:
        raise error
    # Outside of the application, nobody has told handlers which one it is.
    request.scope.setdefault("app", app)
    if is_async(handler):
        response = await handler(request, error)
    elif handler is _rate_limit_exceeded_handler:
        response = handler(request, error)
    else:
        response = await run_in_threadpool(handler, request, error)
    if not isinstance(response, Response):
        raise TypeError(f"the exception handler {qualified_name(handler)} returned {response!r}, not a response")
    return response


def _handler_of(error: Exception, app: Any) -> Callable[..., Any] | None:
    handlers = getattr(app, "exception_handlers", {})
    kinds: tuple[Any, ...] = type(error).__mro__
    default: Callable[..., Any] | None
    if isinstance(error, RateLimitExceeded):
        # Applications have a handler for HTTPException without being asked; slowapi's body goes before that.
        kinds = (*kinds[: kinds.index(RateLimitExceeded) + 1], 429)
        default = _rate_limit_exceeded_handler
    else:
        default = _plain_response if isinstance(error, HTTPException) else None
    return next((handlers[kind] for kind in kinds if kind in handlers and kind is not Exception), default)


def _plain_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, status_code=error.status_code, headers=error.headers)


# Where no limiter is ever made, nobody else would find that the middleware has none.
watch_start_up()

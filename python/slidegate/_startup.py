"""What is checked when an application starts, so that a limit that nothing enforces is found before production."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._fastapi.bypassed_decorators import watch_for_bypassed_decorators
from ._fastapi.declaration_errors import declaration_errors
from ._fastapi.framework_patches import extend, insert, may_bring_a_limiter, replace_inserted, wrap_error_handler
from ._fastapi.middleware import has_middleware, middleware_of, no_limiter
from ._fastapi.rate_limit import limiter_for
from ._fastapi.route_checks import CheckedBy
from ._fastapi.startup_hook import register
from ._http.add_headers import AddHeaders, with_headers
from ._limiter.core import LimiterCore
from ._routing.endpoint_finder import RouteFinder
from ._routing.route_tree import router_of
from ._storage.server_listeners import look_for_others
from ._support.errors import ConfigurationError
from .openapi import describe_refusals
from .report import BY_PATH, Report, RouteReport, dependencies_of, limiters_of, report_of

_MOST_NAMED = 8


def check_application(app: Any) -> None:
    """Logs what is probably not meant. Raises ConfigurationError for limits that are wrong as they are configured, and,
    with the names of the routes, for inert decorators.
    """
    for error in declaration_errors(app):
        raise ConfigurationError(error)
    overridden = getattr(app, "dependency_overrides", {})
    for rate_limit, limiter, mounted in dependencies_of(app):
        if limiter is not None:
            rate_limit.groups(limiter)
        elif mounted is app and rate_limit not in overridden:
            raise ConfigurationError(
                f"{rate_limit.where} found no limiter; set app.state.limiter, or RateLimit(limiter=...)"
            )
        elif mounted is not app and isinstance(mounted, Starlette) and limiter_for(rate_limit, app) is not None:
            raise ConfigurationError(
                f"{rate_limit.where}: the application that is mounted has no limiter; set its state.limiter, as that of"
                " the outer one, or RateLimit(limiter=...)"
            )
    for middleware in middleware_of(app):
        found = middleware.kwargs.get("limiter") or getattr(app.state, "limiter", None)
        if not isinstance(found, LimiterCore) and getattr(found, "enabled", True):
            raise no_limiter(middleware.cls, found)
    for limiter in limiters_of(app):
        if limiter.local.is_alone:
            look_for_others()
        limiter.applications.add(app)
        if any(_is_limited_by(outer, app, limiter) for outer in list(limiter.applications)):
            continue
        report = report_of(limiter, app)
        inert = [each for each in report.routes if each.is_inert]
        if inert and limiter.enabled and limiter.auto_check:
            raise ConfigurationError(
                f"{_named(inert)}: @limiter.limit stands above the decorator of the route, which so gets the function"
                " without its limit; put it below, or add app.add_middleware(SlowAPIMiddleware)"
            )
        for warning in _warnings_about(limiter, app, report):
            limiter.logger.warning(warning)


def _is_limited_by(outer: Any, app: Any, limiter: LimiterCore) -> bool:
    # What is mounted starts with its first request, which the middleware of the outer application has limited.
    if outer is app or not has_middleware(outer, limiter):
        return False
    router, _ = router_of(app)
    return any(router_of(each)[0] is router for _, apps in RouteFinder(outer).every_with_apps() for each in apps)


def _warnings_about(limiter: LimiterCore, app: Any, report: Report) -> Iterator[str]:
    if not limiter.enabled:
        return
    missing = [each for each in report.unlimited if each.way == CheckedBy.MIDDLEWARE.value and not each.is_websocket]
    is_limiting_all = bool(limiter.planner.default_limits or limiter.planner.application_limits)
    if missing and is_limiting_all and not has_middleware(app, limiter):
        yield (
            f"default_limits are not enforced on {_named(missing)}: routes without a decorator need"
            " app.add_middleware(SlowAPIMiddleware), of slidegate.middleware"
        )
    for choice in dict.fromkeys(choice for each in report.routes for choice in each.choices):
        chosen = [each for each in report.routes if choice in each.choices]
        yield f"{choice}, so whoever varies it is not limited: {_named(chosen)}; slidegate.keys has safer ones"
    if limiter.named.unused:
        known = ", ".join(limiter.named.known()) or "none"
        yield f"no limit is named by {', '.join(limiter.named.unused)}; there are: {known}"
    if report.varied:
        yield (
            f'key_style="url" counts every path apart, so whoever varies it is not limited: {_named(report.varied)};'
            f" {BY_PATH}"
        )
    outside = [each.cls for each in getattr(app, "user_middleware", ())]
    ours = {each.cls for each in middleware_of(app)}
    mine = next((at for at, cls in enumerate(outside) if cls in ours), None)
    if mine is not None and any(inspect.isclass(cls) and issubclass(cls, CORSMiddleware) for cls in outside[mine:]):
        yield "CORSMiddleware is inside of SlowAPIMiddleware, whose 429 so has no CORS headers; add it afterwards"


def _named(routes: Iterable[RouteReport]) -> str:
    names = list(dict.fromkeys(each.name for each in routes))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _watch() -> None:
    extend("build_middleware_stack", _build)
    extend("openapi", _describe)


def _build(app: Any, build: Callable[[], ASGIApp]) -> ASGIApp:
    stack = build()
    try:
        is_checked_now = bool(limiters_of(app))
        # Whether it may still get one.
        is_awaiting = bool(middleware_of(app)) or may_bring_a_limiter(app)
        is_checked_later = is_awaiting or any(dependencies_of(app)) or any(declaration_errors(app))
    except Exception:
        is_checked_now = True
    if is_checked_now:
        return insert(stack, lambda rest: _checked(app, stack, rest))
    return insert(stack, lambda rest: _Unchecked(app, stack, rest)) if is_checked_later else stack


def _describe(app: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    is_known = app.openapi_schema is not None
    schema = make()
    return schema if is_known else describe_refusals(app, schema)


def _checked(app: Any, outermost: ASGIApp, rest: ASGIApp) -> ASGIApp:
    try:
        check_application(app)
        limiters = limiters_of(app)
        watch_for_bypassed_decorators(app, limiters)
        if not (any(limiter.adds_headers_to_all for limiter in limiters) or any(dependencies_of(app))):
            return rest
        wrap_error_handler(outermost, with_headers)
        return AddHeaders(rest)
    except ConfigurationError as error:
        return _FailedStart(error)
    except Exception:
        # Of what an application is made of, which may be anything; and most have no limiter.
        has_limiter = isinstance(app, Starlette) and hasattr(app.state, "limiter")
        level = logging.WARNING if has_limiter else logging.DEBUG
        logging.getLogger("slidegate").log(
            level, "whether all limits of an application are enforced could not be looked at", exc_info=True
        )
        return rest


class _Unchecked:
    """In an application that has no limiter yet: its lifespan may bring one.

    It is checked then, or with its first request, and goes on without this.
    """

    def __init__(self, app: Any, outermost: Any, rest: ASGIApp) -> None:
        self._app = app
        self._outermost = outermost
        self._rest = rest
        self._instead: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._checked()(scope, receive, send)
            return

        failed: _FailedStart | None = None

        async def send_checked(message: Message) -> None:
            nonlocal failed
            if failed is not None:
                return
            if message["type"] == "lifespan.startup.complete" and isinstance(instead := self._checked(), _FailedStart):
                failed = instead
                await send(failed.message)
                # Else the lifespan would go on to wait for a shutdown, which nobody sends after a failure.
                raise failed.error
            await send(message)

        await self._rest(scope, receive, send_checked)
        if failed is not None:
            # Also where a lifespan has suppressed it.
            raise failed.error

    def _checked(self) -> ASGIApp:
        if self._instead is None:
            self._instead = _checked(self._app, self._outermost, self._rest)
            replace_inserted(self._outermost, self, self._instead)
        return self._instead


class _FailedStart:
    """Does not start. Servers take an exception for an application that has no start-up, so they get this."""

    def __init__(self, error: ConfigurationError) -> None:
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send(self.message)
        raise self.error

    @property
    def message(self) -> Message:
        """What a server gets instead of that it has started."""
        return {"type": "lifespan.startup.failed", "message": str(self.error)}


register(_watch)

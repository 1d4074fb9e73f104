"""The functions of slowapi's middleware, which programs call, and put something else for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from .._fastapi.route_checks import is_left_alone
from .._http.request_doubles import as_request
from .._http.request_state import done_of, record_of
from .._http.response import _rate_limit_exceeded_handler, answer_to, handler_of
from .._limiter.core import LimiterCore
from .._routing.endpoint_finder import endpoint_among
from .._support.callables import is_async, qualified_name
from .._support.waiting import wait_in_thread
from .replaced_methods import patched_check


def _find_route_handler(routes: Iterable[BaseRoute], scope: Scope) -> Callable[..., Any] | None:
    """The endpoint of the route that a router with these routes dispatches to. The middleware asks it if replaced."""
    return endpoint_among(routes, scope)


def _should_exempt(limiter: LimiterCore, handler: Callable[..., Any] | None) -> bool:
    """Whether the middleware leaves an endpoint alone: there is none, it is exempt, or its decorator decides."""
    return is_left_alone(limiter, handler)


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
    answer = handler_of(error, app)
    if answer is None:
        raise error
    return (_rate_limit_exceeded_handler if is_async(answer) else answer)(request, error), is_told


async def async_check_limits(
    limiter: LimiterCore, request: Request, handler: Callable[..., Any] | None, app: Any
) -> tuple[Response | None, bool]:
    """The same for exception handlers of both kinds."""
    error, is_told = _checked(limiter, request, handler)
    return (None if error is None else await answer_to(error, request, app)), is_told


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

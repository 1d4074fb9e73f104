"""The response to a refused request, and the responses that others come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .._support.callables import is_async, qualified_name
from ..errors import RateLimitExceeded
from .current_limit import view_in
from .request_doubles import as_request
from .request_state import known_of

# The type that draft-ietf-httpapi-ratelimit-headers-10 has registered, with the member `violated-policies`.
_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def _rate_limit_exceeded_handler(request: Request, exc: Exception) -> Response:
    """The 429 response for a RateLimitExceeded: {"error": "Rate limit exceeded: 10 per 1 minute"}, with Retry-After.

    A request that costs more than its limit ever admits has none, and the text says that it never fits.

    Or problem details of RFC 9457, where the limiter says `problem_details_enabled`. To be registered with
    `app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)`.
    """
    detail = exc.detail if isinstance(exc, RateLimitExceeded) else str(exc)
    response = JSONResponse({"error": f"Rate limit exceeded: {detail}"}, status_code=429)
    scope = as_request(request).scope
    record = known_of(scope)
    limiter = (record.headers_owner if record is not None else None) or getattr(request.app.state, "limiter", None)
    if getattr(limiter, "problem_details_enabled", False):
        response = _problem(detail, exc)
    if limiter is not None:
        # What programs put in the place of a limiter has slowapi's name for it.
        write = getattr(limiter, "inject_headers", None) or limiter._inject_headers
        response = write(response, view_in(scope))
    for name, value in (getattr(exc, "headers", None) or {}).items():
        response.headers.setdefault(name, value)
    return response


def response_of(connection: HTTPConnection, result: Any, filled: Response | None) -> Response:
    """The response that the framework will make of what an endpoint returned, as far as its status goes.

    `filled` is the one that the endpoint could write headers and a status to.
    """
    if isinstance(result, Response):
        return result
    status = filled.status_code if filled is not None else None
    status = status or getattr(connection.scope.get("route"), "status_code", None) or 200
    return Response(status_code=status, headers=filled.headers if filled is not None else None)


def response_to(connection: HTTPConnection, error: Exception) -> Response | None:
    """The response that will come of an exception; None when only its handler knows."""
    if isinstance(error, HTTPException):
        return Response(status_code=error.status_code, headers=error.headers)
    handlers = getattr(connection.scope.get("app"), "exception_handlers", {})
    known = {kind for kind in type(error).__mro__ if kind in handlers} - {Exception}
    return None if known else Response(status_code=500)


def _problem(detail: str, exc: Exception) -> JSONResponse:
    body: dict[str, Any] = {
        "type": _QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": f"Rate limit exceeded: {detail}",
    }
    decision = exc.decision if isinstance(exc, RateLimitExceeded) else None
    if isinstance(exc, RateLimitExceeded) and decision is not None:
        body |= {
            "violated-policies": [exc.limit.name or str(decision.item)],
            "limit": decision.limit,
            "window_s": decision.window_s,
            "scope": decision.scope,
        }
        if decision.retry_after_s is not None:
            body["retry_after_s"] = decision.retry_after_s
    return JSONResponse(body, status_code=429, media_type="application/problem+json")


async def answer_to(error: Exception, request: Request, app: Any) -> Response:
    """The response of the application's handler. Raises the error when it has none for it."""
    handler = handler_of(error, app)
    if handler is None:
        raise error
    # Outside of the application, nobody has told handlers which one it is.
    request.scope.setdefault("app", app)
    response = await handled(handler, request, error)
    if not isinstance(response, Response):
        raise TypeError(f"the exception handler {qualified_name(handler)} returned {response!r}, not a response")
    return response


async def handled(handler: Callable[..., Any], request: Request, error: Exception) -> Any:
    """What a handler returns, which is called in a worker thread if it may block."""
    if is_async(handler):
        return await handler(request, error)
    if handler is _rate_limit_exceeded_handler:
        return handler(request, error)
    return await run_in_threadpool(handler, request, error)


def handler_of(error: Exception, app: Any) -> Callable[..., Any] | None:
    """The application's handler of an error, or the usual one; None when there is none."""
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

"""What the OpenAPI schema of an application says about refusals."""

from __future__ import annotations

from typing import Any

from ._fastapi.dependency_tree import rate_limits_of
from ._fastapi.rate_limit import limiter_for
from ._http.header_styles import IETF_NAMES, OPENAI_NAMES
from ._http.response import _rate_limit_exceeded_handler
from ._limiter.core import LimiterCore
from ._routing.endpoint_finder import RouteFinder
from .errors import RateLimitExceeded

__all__ = ["describe_refusals"]

_INTEGER = {"type": "integer"}
_TEXT = {"type": "string"}
_RETRY_AFTER = {
    "description": "Seconds until the request may be made again.",
    "schema": {"type": "integer", "minimum": 1},
}


def describe_refusals(app: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """Adds the 429 response with its headers to the operations of a schema that a `RateLimit` limits, and returns it.

    `FastAPI.openapi` does so by itself; this is for programs that make the schema in another way. What has a 429
    already keeps it.
    """
    for found, apps in RouteFinder(app).every_with_apps():
        rate_limits = list(rate_limits_of(found.dependant))
        operations = schema.get("paths", {}).get(found.route, {}) if rate_limits and apps[:-1] == (app,) else {}
        for method in found.methods or ():
            operation = operations.get(method.lower())
            if operation is not None:
                limiter = limiter_for(rate_limits[0], app)
                refusal = {"description": "Too Many Requests", "headers": _headers(limiter)}
                refusal["content"] = _content(app, limiter)
                operation.setdefault("responses", {}).setdefault("429", refusal)
    return schema


def _headers(limiter: LimiterCore | None) -> dict[str, Any]:
    headers: dict[str, Any] = {"Retry-After": _RETRY_AFTER}
    if limiter is None or not limiter.headers_enabled:
        return headers
    form = limiter.headers
    if "x-ratelimit" in form.styles:
        headers |= {
            form.limit: {"description": "Requests that the limit allows in its window.", "schema": _INTEGER},
            form.remaining: {"description": "Requests that are left.", "schema": _INTEGER},
            form.reset: {"description": "When all are left again, in seconds since the epoch.", "schema": _INTEGER},
        }
    if "ietf" in form.styles:
        told = "A list of draft-ietf-httpapi-ratelimit-headers-10, in structured fields."
        headers |= {name: {"description": told, "schema": _TEXT} for name in IETF_NAMES}
    if "openai" in form.styles:
        headers |= {name: {"schema": _TEXT} for name in OPENAI_NAMES}
    return headers


def _content(app: Any, limiter: LimiterCore | None) -> dict[str, Any]:
    handlers = getattr(app, "exception_handlers", {})
    is_ours = handlers.get(RateLimitExceeded, handlers.get(429)) is _rate_limit_exceeded_handler
    if is_ours and limiter is not None and limiter.problem_details_enabled:
        members: dict[str, Any] = {"type": _TEXT, "title": _TEXT, "status": _INTEGER, "detail": _TEXT}
        members |= {"violated-policies": {"type": "array", "items": _TEXT}, "limit": _INTEGER, "window_s": _INTEGER}
        members |= {"scope": _TEXT, "retry_after_s": _INTEGER}
        return {"application/problem+json": {"schema": {"type": "object", "properties": members}}}
    member = "error" if is_ours else "detail"
    if not is_ours and (RateLimitExceeded in handlers or 429 in handlers):
        return {"application/json": {}}
    return {"application/json": {"schema": {"type": "object", "properties": {member: _TEXT}}}}

"""The answer to a refused request."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._check import VIEW, state_of
from .errors import RateLimitExceeded


def _rate_limit_exceeded_handler(request: Request, exc: Exception) -> Response:
    """The 429 response for a RateLimitExceeded: {"error": "Rate limit exceeded: 10 per 1 minute"}, with Retry-After.

    To be registered with `app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)`.
    """
    detail = exc.detail if isinstance(exc, RateLimitExceeded) else str(exc)
    response = JSONResponse({"error": f"Rate limit exceeded: {detail}"}, status_code=429)
    limiter = getattr(request.app.state, "limiter", None)
    if limiter is not None:
        response = limiter._inject_headers(response, state_of(request.scope).get(VIEW))
    for name, value in (getattr(exc, "headers", None) or {}).items():
        response.headers.setdefault(name, value)
    return response

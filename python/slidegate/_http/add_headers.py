"""Adds headers to what an application answers, where dependencies or checks by hand have limited the request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .current_limit import view_in, view_of
from .request_state import enter, known_of
from .response import handled


def add_headers(limiter: Any, view: Any, message: Message) -> None:
    """Writes what is to be told of a request's limits into the message that begins a response."""
    # Into a copy: an application may send the same list again.
    headers = MutableHeaders(raw=list(message.get("headers", ())))
    message["headers"] = limiter.inject_asgi_headers(headers, view).raw


class AddHeaders:
    """Goes around a whole application, as a dependency sees neither responses that endpoints return nor refusals."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Known from here on, so that a copy of the scope that middleware hands on has the same record in it.
        record, is_own = enter(scope, self)

        def send_with_headers(message: Message) -> Awaitable[None]:
            limiter = record.headers_owner if message["type"] == "http.response.start" else None
            if limiter is not None and limiter.headers_enabled:
                add_headers(limiter, view_of(record), message)
            return send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            if is_own:
                record.scope = None


def with_headers(handler: Any) -> Any:
    """The handler of an unhandled error, whose response has the headers, too."""

    async def handle(request: Request, error: Exception) -> Response:
        response: Response = await handled(handler, request, error)
        record = known_of(request.scope)
        if record is not None and record.headers_owner is not None:
            record.headers_owner.inject_headers(response, view_in(request.scope))
        return response

    return handle

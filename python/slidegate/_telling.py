"""Adds headers to what an application answers, where dependencies or checks by hand have limited the request."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._record import close, enter
from ._views import view_of


class Telling:
    """Goes around a whole application, as a dependency sees neither responses that endpoints return nor refusals."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Known from here on, so that a copy of the scope that middleware hands on has the same record in it.
        record, is_own = enter(scope, self)

        async def send_told(message: Message) -> None:
            limiter = record.told_by if message["type"] == "http.response.start" else None
            if limiter is not None:
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                message["headers"] = limiter._inject_asgi_headers(headers, view_of(record)).raw
            await send(message)

        try:
            await self.app(scope, receive, send_told)
        finally:
            if is_own:
                close(record)

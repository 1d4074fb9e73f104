"""Adds headers to what an application answers, where dependencies or checks by hand have limited the request."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._views import TOLD_BY, VIEW, state_of


class Telling:
    """Goes around a whole application, as a dependency sees neither responses that endpoints return nor refusals."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Made here, so that middleware that passes on a copy of the scope has the same one in it.
        state = state_of(scope)

        async def send_told(message: Message) -> None:
            limiter = state.get(TOLD_BY) if message["type"] == "http.response.start" else None
            if limiter is not None:
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                message["headers"] = limiter._inject_asgi_headers(headers, state.get(VIEW)).raw
            await send(message)

        await self.app(scope, receive, send_told)

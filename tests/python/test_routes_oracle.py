"""What applications really do with a request, to compare with what is found beforehand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import fastapi.routing
import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slidegate._routing.endpoint_finder import Kind, RouteFinder

needs_parts = pytest.mark.skipif(
    hasattr(fastapi.routing, "_IncludedRouter") and not hasattr(fastapi.routing, "iter_route_contexts"),
    reason="this version has no public way to ask for the routes of included routers",
)


class Endpoints:
    """Endpoints that say in a header of the response which of them it comes from."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def for_fastapi(self) -> Callable[[], Awaitable[Response]]:
        number = len(self.all)

        async def endpoint() -> Response:
            return Response(headers={"x-endpoint": str(number)})

        self.all.append(endpoint)
        return endpoint

    def for_starlette(self) -> Callable[[Request], Awaitable[Response]]:
        number = len(self.all)

        async def endpoint(request: Request) -> Response:
            return Response(headers={"x-endpoint": str(number)})

        self.all.append(endpoint)
        return endpoint

    def for_websocket(self) -> Callable[[WebSocket], Awaitable[None]]:
        number = len(self.all)

        async def endpoint(websocket: WebSocket) -> None:
            await websocket.accept(headers=[(b"x-endpoint", str(number).encode())])
            await websocket.close()

        self.all.append(endpoint)
        return endpoint

    def application(self) -> Callable[..., Awaitable[None]]:
        """One that answers anything, and has no routes."""
        number = len(self.all)

        async def endpoint(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"x-endpoint", str(number).encode())]
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept", "headers": headers})
            else:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b""})

        self.all.append(endpoint)
        return endpoint


class Outcome(NamedTuple):
    """`endpoint` is the number of the one that answered or, when none was called, of that which the scope names."""

    kind: Kind | None
    endpoint: int | None


def scope_of(method: str, path: str, host: str = "test", root_path: str = "") -> dict[str, Any]:
    """The scope of a request, of one for a WebSocket if that is the method."""
    scope: dict[str, Any] = {
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": root_path + path,
        "raw_path": b"",
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "client": ("192.0.2.1", 1),
        "server": ("test", 80),
        "state": {},
    }
    if method == "WEBSOCKET":
        return {**scope, "type": "websocket", "scheme": "ws", "subprotocols": []}
    return {**scope, "type": "http", "scheme": "http", "method": method}


def dispatched(app: Any, endpoints: Endpoints, scope: dict[str, Any]) -> Outcome | None:
    """What the application does with a request; None if a route raises an exception when it is asked."""
    sent: list[dict[str, Any]] = []
    is_websocket = scope["type"] == "websocket"

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"} if is_websocket else {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    # Middleware of FastAPI applications puts it there, of which routers alone have none.
    scope = {**scope, "fastapi_middleware_astack": AsyncExitStack()}
    try:
        # Nothing here waits, so that no event loop is needed, which would take most of the time.
        app(scope, receive, send).send(None)
    except StopIteration:
        pass
    except ValueError:
        return None
    headers = {name: value for message in sent for name, value in message.get("headers", ())}
    if b"x-endpoint" in headers:
        return Outcome(Kind.FULL, int(headers[b"x-endpoint"]))
    status = sent[0].get("status")
    if status == 307:
        return Outcome(Kind.REDIRECT, None)
    if status == 405:
        return Outcome(Kind.PARTIAL, endpoints.all.index(scope["endpoint"]))
    assert status == 404 or sent[0]["type"] == "websocket.close", sent
    return Outcome(None, None)


def foretold(finder: RouteFinder, endpoints: Endpoints, scope: dict[str, Any]) -> Outcome:
    """What is found beforehand."""
    found = finder.find(scope)
    if found is None:
        return Outcome(None, None)
    return Outcome(found.kind, None if found.endpoint is None else endpoints.all.index(found.endpoint))


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code)


def starlette(**options: Any) -> Starlette:
    """A Starlette application that needs no thread, as some versions do, to refuse what it has no route for."""
    return Starlette(exception_handlers={HTTPException: refuse}, **options)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a", Outcome(Kind.FULL, 0)),
        ("POST", "/a", Outcome(Kind.PARTIAL, 0)),
        ("GET", "/a/", Outcome(Kind.REDIRECT, None)),
        ("GET", "/b", Outcome(None, None)),
        ("WEBSOCKET", "/a", Outcome(Kind.FULL, 1)),
        ("WEBSOCKET", "/b", Outcome(None, None)),
        ("GET", "/mounted/anything", Outcome(Kind.FULL, 2)),
        ("GET", "/below/starlette", Outcome(Kind.FULL, 3)),
    ],
)
def test_the_oracle_tells_what_became_of_a_request(method: str, path: str, expected: Outcome) -> None:
    endpoints = Endpoints()
    app = FastAPI()
    app.get("/a")(endpoints.for_fastapi())
    app.websocket("/a")(endpoints.for_websocket())
    app.mount("/mounted", endpoints.application())
    app.mount("/below", starlette(routes=[Route("/starlette", endpoints.for_starlette())]))
    assert dispatched(app, endpoints, scope_of(method, path)) == expected

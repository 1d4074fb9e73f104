"""Every kind of endpoint is limited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from compat.library import Library, attempt, differs, same


class Methods:
    async def bound(self, request: Request) -> str:
        return "ok"

    def in_pool(self, request: Request) -> str:
        return "ok"

    @staticmethod
    async def static(request: Request) -> str:
        return "ok"

    async def __call__(self, request: Request) -> str:
        return "ok"


async def two_arguments(word: str, request: Request) -> str:
    return word


@pytest.mark.parametrize(
    "endpoint", [Methods().bound, Methods().in_pool, Methods.static], ids=lambda each: each.__name__
)
def test_a12_methods_are_limited(endpoint: Callable[..., Any], library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


@pytest.mark.parametrize("endpoint", [Methods(), functools.partial(two_arguments, "ok")], ids=["instance", "partial"])
def test_a12_instances_and_partials_are_limited(endpoint: Callable[..., Any], library: Library) -> None:
    def statuses() -> list[int]:
        limiter = library.limiter()
        app = library.app(limiter)
        app.get("/items")(limiter.limit("1/minute")(endpoint))
        return Client(app).statuses("/items", 2)

    assert attempt(statuses) == library.expected(
        differs(slowapi="AttributeError", slidegate=[200, 429], difference="every-kind-of-endpoint")
    )


class InPool:
    def __call__(self) -> str:
        return "ok"


def echo(word: str) -> str:
    return word


@pytest.mark.parametrize("endpoint", [InPool(), functools.partial(echo, "ok")], ids=["instance", "partial"])
def test_a12_default_limits_apply_to_instances_and_partials(
    endpoint: Callable[..., Any], library: Library, middleware: str
) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]), middleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 2) == library.expected(
        differs(slowapi=[500, 500], slidegate=[200, 429], difference="every-kind-of-endpoint")
    )


def test_a12_an_endpoint_class_of_starlette_is_limited_by_default_limits(library: Library, middleware: str) -> None:
    class Items(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("ok")

    app = library.app(library.limiter(default_limits=["1/minute"]), middleware)
    app.router.routes.append(Route("/items", Items))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


def test_a12_a_method_of_an_endpoint_class_is_limited(library: Library) -> None:
    limiter = library.limiter()

    class Items(HTTPEndpoint):
        @limiter.limit("1/minute")
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("ok")

    app = library.app(limiter)
    app.router.routes.append(Route("/items", Items))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


async def websocket_messages(app: FastAPI, path: str) -> list[str]:
    scope: dict[str, Any] = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    scope |= {"client": ("192.0.2.1", 50000), "extensions": {"websocket.http.response": {}}}
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    try:
        await app(scope, receive, send)
    except Exception as error:
        sent.append(type(error).__name__)
    return sent


def test_a12_a_websocket_endpoint_is_limited(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.websocket("/chat")
    @limiter.limit("1/minute")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    outcomes = [asyncio.run(websocket_messages(app, "/chat"))[0] for _ in range(2)]
    assert outcomes == library.expected(
        differs(
            slowapi=["Exception", "Exception"],
            slidegate=["websocket.accept", "websocket.http.response.start"],
            difference="every-kind-of-endpoint",
        )
    )


def test_a12_a_websocket_passes_the_middleware(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]), middleware)

    @app.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    outcomes = [asyncio.run(websocket_messages(app, "/chat")) for _ in range(2)]
    assert outcomes == library.expected(same([["websocket.accept", "websocket.close"]] * 2))

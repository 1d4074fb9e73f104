"""Limits and headers of decorated routes that programs and tests replace at run time."""

from __future__ import annotations

from typing import Any

from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.library import Library, same


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def plain(request: Request) -> Response:
    return PlainTextResponse("ok")


NAME = f"{__name__}.endpoint"


def limited(library: Library, limit: Any = "1/minute", middleware: str | None = None, **options: Any) -> Any:
    limiter = library.limiter(**options)
    app = library.app(limiter, middleware)
    app.get("/items")(limiter.limit(limit)(endpoint))
    app.get("/plain")(plain)
    return limiter, Client(app)


def test_the_limits_of_all_routes_can_be_taken_away(library: Library) -> None:
    limiter, client = limited(library)
    limiter._route_limits.clear()
    assert client.statuses("/items", 2) == library.expected(same([200, 200]))


def test_the_limits_of_a_route_can_be_replaced(library: Library) -> None:
    limiter, client = limited(library)
    other = library.limiter()
    other.limit("2/minute")(endpoint)
    limiter._route_limits[NAME] = other._route_limits[NAME]
    assert client.statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_the_dynamic_limits_of_all_routes_can_be_taken_away(library: Library) -> None:
    limiter, client = limited(library, lambda: "1/minute")
    limiter._dynamic_route_limits.clear()
    assert client.statuses("/items", 2) == library.expected(same([200, 200]))


def test_headers_can_be_switched_on_later(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["5/minute"])
    before = client.get("/plain").headers.get("X-RateLimit-Limit")
    limiter._headers_enabled = True
    after = [client.get(path).headers.get("X-RateLimit-Limit") for path in ("/plain", "/items")]
    assert (before, after) == library.expected(same((None, ["5", "1"])))

"""Which limit applies to a request."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route

from compat.apps import answer, limited_app
from compat.conftest import KEEPS_ROUTERS
from compat.library import Library, differs, same


def test_a01_a_route_of_the_application_itself_has_the_default_limit(library: Library, middleware: str) -> None:
    _, app, client = limited_app(library, middleware)
    app.get("/items")(answer)
    assert client.statuses("/items", 2) == library.expected(same([200, 429]))


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a01_a_route_of_an_included_router_has_the_default_limit(
    prefix: str, library: Library, middleware: str
) -> None:
    _, app, client = limited_app(library, middleware)
    router = APIRouter()
    router.get("/items")(answer)
    app.include_router(router, prefix=prefix)
    assert client.statuses(f"{prefix}/items", 2) == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="the-route-that-serves")
    )


def test_a01_a_limit_of_its_own_holds_in_an_included_router_and_counts_once(library: Library, middleware: str) -> None:
    limiter, app, client = limited_app(library, middleware)
    router = APIRouter()

    @router.get("/items")
    @limiter.limit("2/minute")
    async def items(request: Request) -> str:
        return "ok"

    app.include_router(router, prefix="/api")
    assert client.statuses("/api/items", 3) == library.expected(same([200, 200, 429]))


def test_a01_an_exempt_route_of_an_included_router_is_not_limited(library: Library, middleware: str) -> None:
    limiter, app, client = limited_app(library, middleware)
    router = APIRouter()
    router.get("/items")(limiter.exempt(answer))
    app.include_router(router, prefix="/api")
    assert client.statuses("/api/items", 2) == library.expected(same([200, 200]))


def nested_routers(app: FastAPI) -> None:
    inner, outer = APIRouter(), APIRouter()
    inner.get("/items")(answer)
    outer.include_router(inner, prefix="/b")
    app.include_router(outer, prefix="/a")


def added_after_inclusion(app: FastAPI) -> None:
    router = APIRouter()
    app.include_router(router, prefix="/a/b")
    router.get("/items")(answer)


def mounted_application(app: FastAPI) -> None:
    mounted = FastAPI()
    mounted.get("/b/items")(answer)
    app.mount("/a", mounted)


def mounted_routes(app: FastAPI) -> None:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("ok")

    app.router.routes.append(Mount("/a", routes=[Mount("/b", routes=[Route("/items", endpoint)])]))


def host_route(app: FastAPI) -> None:
    hosted = FastAPI()
    hosted.get("/a/b/items")(answer)
    app.router.routes.append(Host("test", hosted))


@pytest.mark.parametrize(
    "build",
    [
        nested_routers,
        pytest.param(
            added_after_inclusion,
            marks=pytest.mark.skipif(not KEEPS_ROUTERS, reason="this version of FastAPI does not see such routes"),
        ),
        mounted_application,
        mounted_routes,
        host_route,
    ],
)
def test_a02_default_limits_apply_wherever_a_route_is(
    build: Callable[[FastAPI], None], library: Library, middleware: str
) -> None:
    _, app, client = limited_app(library, middleware)
    build(app)
    assert client.statuses("/a/b/items", 2) == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="the-route-that-serves")
    )


def test_a02_routes_that_are_added_after_the_first_request_are_limited(library: Library, middleware: str) -> None:
    _, app, client = limited_app(library, middleware)
    app.get("/early")(answer)
    early = client.statuses("/early", 2)
    app.get("/late")(answer)
    assert (early, client.statuses("/late", 2)) == library.expected(same(([200, 429], [200, 429])))


def test_a03_the_exemption_of_the_route_that_serves_applies(library: Library, middleware: str) -> None:
    limiter, app, client = limited_app(library, middleware)

    @app.get("/items")
    @limiter.exempt
    async def items() -> str:
        return "ok"

    app.get("/{path:path}")(answer)
    assert (client.statuses("/items", 3), client.statuses("/other", 2)) == library.expected(
        differs(
            slowapi=([200, 429, 429], [200, 429]),
            slidegate=([200, 200, 200], [200, 429]),
            difference="the-route-that-serves",
        )
    )


def test_a03_the_exemption_of_a_catch_all_does_not_reach_other_routes(library: Library, middleware: str) -> None:
    limiter, app, client = limited_app(library, middleware)
    app.get("/items")(answer)

    @app.get("/{path:path}")
    @limiter.exempt
    async def other() -> str:
        return "ok"

    assert (client.statuses("/items", 2), client.statuses("/other", 2)) == library.expected(
        differs(
            slowapi=([200, 200], [200, 200]), slidegate=([200, 429], [200, 200]), difference="the-route-that-serves"
        )
    )


def test_a03_the_limit_of_a_catch_all_does_not_replace_the_default_of_other_routes(
    library: Library, middleware: str
) -> None:
    limiter, app, client = limited_app(library, middleware)
    app.get("/items")(answer)

    @app.get("/{path:path}")
    @limiter.limit("2/minute")
    async def other(request: Request) -> str:
        return "ok"

    assert (client.statuses("/items", 3), client.statuses("/other", 3)) == library.expected(
        differs(
            slowapi=([200, 200, 200], [200, 200, 429]),
            slidegate=([200, 429, 429], [200, 200, 429]),
            difference="the-route-that-serves",
        )
    )


def calls_of_a_request(app: FastAPI) -> int:
    """How many functions a request calls in Python and C, once everything is warm."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        pass

    async def warm_then_counted() -> None:
        for is_counted in (False, False, False, True):
            scope = {"type": "http", "method": "GET", "path": "/first", "headers": [], "query_string": b""}
            scope["client"] = ("192.0.2.1", 50000)
            sys.setprofile(count if is_counted else None)
            try:
                await app(scope, receive, send)
            finally:
                sys.setprofile(None)

    asyncio.run(warm_then_counted())
    return calls


def test_a04_what_a_limit_adds_to_a_request_does_not_grow_with_the_number_of_routes(library: Library) -> None:
    def added_by_the_middleware(route_count: int) -> int:
        calls = {}
        for middleware in (None, "SlowAPIASGIMiddleware"):
            app = library.app(library.limiter(default_limits=["100/minute"]), middleware)

            @app.get("/first")
            async def first() -> str:
                return "ok"

            for number in range(route_count - 1):
                app.get(f"/{number}")(answer)
            calls[middleware] = calls_of_a_request(app)
        return calls["SlowAPIASGIMiddleware"] - calls[None]

    grows = added_by_the_middleware(645) - added_by_the_middleware(45) > 600
    assert grows == library.expected(differs(slowapi=True, slidegate=False, difference="indexed-routes"))

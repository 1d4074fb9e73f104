"""What existing programs do with slowapi's middleware."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from compat.library import Library, differs, same


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def other(request: Request) -> Response:
    return PlainTextResponse("ok")


def test_a_subclass_may_override_dispatch(library: Library) -> None:
    class Selective(library.SlowAPIMiddleware):  # type: ignore[misc,name-defined]
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            if request.url.path == "/health":
                return await call_next(request)
            response = await super().dispatch(request, call_next)
            response.headers["X-Own"] = "yes"
            return response

    app = library.app(library.limiter(default_limits=["1/minute"], headers_enabled=True))
    app.add_middleware(Selective)
    app.get("/health")(endpoint)
    app.get("/items")(other)
    client = Client(app)
    responses = [client.get("/items") for _ in range(2)]
    told = [(each.status_code, each.headers.get("X-Own"), each.headers.get("X-RateLimit-Limit")) for each in responses]
    assert (client.statuses("/health", 3), told) == library.expected(
        same(([200] * 3, [(200, "yes", "1"), (429, "yes", "1")]))
    )


def test_a_subclass_may_replace_dispatch(library: Library) -> None:
    class Teapot(library.SlowAPIMiddleware):  # type: ignore[misc,name-defined]
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            limiter = request.app.state.limiter
            handler = library._find_route_handler(request.app.routes, request.scope)
            if library._should_exempt(limiter, handler):
                return await call_next(request)
            error, should_inject = library.sync_check_limits(limiter, request, handler, request.app)
            if error is not None:
                return PlainTextResponse("teapot", 418)
            response = await call_next(request)
            return limiter._inject_headers(response, request.state.view_rate_limit) if should_inject else response

    app = library.app(library.limiter(default_limits=["1/minute"], headers_enabled=True))
    app.add_middleware(Teapot)
    app.get("/items")(endpoint)
    responses = [Client(app).get("/items") for _ in range(2)]
    told = [(each.status_code, each.headers.get("X-RateLimit-Limit")) for each in responses]
    assert told == library.expected(same([(200, "1"), (418, None)]))


def test_middleware_of_ones_own_around_it_sees_its_answers(library: Library, middleware: str) -> None:
    seen = []

    class Around(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            seen.append((response.status_code, response.headers.get("X-RateLimit-Remaining")))
            response.headers["X-Around"] = "yes"
            return response

    class Within(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app = library.app(library.limiter(default_limits=["1/minute"], headers_enabled=True))
    app.add_middleware(Within)
    app.add_middleware(getattr(library, middleware))
    app.add_middleware(Around)
    app.get("/items")(endpoint)
    responses = [Client(app).get("/items") for _ in range(2)]
    assert (seen, [response.headers["X-Around"] for response in responses]) == library.expected(
        same(([(200, "0"), (429, "0")], ["yes", "yes"]))
    )


def test_it_may_be_listed_in_the_constructor(library: Library, middleware: str) -> None:
    app = FastAPI(middleware=[Middleware(getattr(library, middleware)), Middleware(GZipMiddleware)])
    app.state.limiter = library.limiter(default_limits=["1/minute"])
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


def test_it_works_with_starlette(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = Starlette(routes=[Route("/items", endpoint), Route("/own", limiter.limit("2/minute")(other))])
    app.state.limiter = limiter
    app.add_exception_handler(library.RateLimitExceeded, library._rate_limit_exceeded_handler)
    app.add_middleware(getattr(library, middleware))
    client = Client(app)
    assert [client.statuses(path, 3) for path in ("/items", "/own")] == library.expected(
        same([[200, 429, 429], [200, 200, 429]])
    )


def test_a_limiter_in_the_state_is_needed(library: Library, middleware: str) -> None:
    app = FastAPI()
    app.add_middleware(getattr(library, middleware))
    app.get("/items")(endpoint)
    assert Client(app).get("/items").status_code == library.expected(same(500))


def test_the_limiter_may_be_put_into_the_state_after_the_routes(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = FastAPI()
    app.add_middleware(getattr(library, middleware))
    app.get("/items")(endpoint)
    app.state.limiter = limiter
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


def test_an_exception_of_the_endpoint_comes_out_as_without_it(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["2/minute"]), middleware)

    @app.get("/items")
    async def items() -> None:
        raise LookupError("lost")

    @app.exception_handler(LookupError)
    async def lost(request: Request, exc: LookupError) -> Response:
        return PlainTextResponse("lost", 404)

    assert Client(app).statuses("/items", 3) == library.expected(same([404, 404, 429]))


def test_the_headers_are_on_errors_too(library: Library, middleware: str) -> None:
    from fastapi import HTTPException

    app = library.app(library.limiter(default_limits=["2/minute"], headers_enabled=True), middleware)

    @app.get("/items")
    async def items() -> None:
        raise HTTPException(404)

    response = Client(app).get("/items")
    assert (response.status_code, response.headers["X-RateLimit-Remaining"]) == library.expected(same((404, "1")))


def test_the_body_of_a_request_reaches_the_endpoint(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["2/minute"]), middleware)

    @app.post("/items")
    async def items(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    assert Client(app).post("/items", content=b"abc").text == library.expected(same("abc"))


def test_the_handler_of_a_route_can_be_found(library: Library) -> None:
    app = FastAPI()
    app.get("/items")(endpoint)
    app.get("/users/{number}")(other)
    found = []
    for path, method in (("/items", "GET"), ("/users/7", "GET"), ("/items", "POST"), ("/unknown", "GET")):
        scope = {"type": "http", "method": method, "path": path, "headers": [], "app": app}
        found.append(library._find_route_handler(app.routes, scope))
    assert found == library.expected(same([endpoint, other, None, None]))


def test_the_name_of_a_handler_is_that_of_its_module_and_function(library: Library) -> None:
    assert library._get_route_name(endpoint) == library.expected(same(f"{__name__}.endpoint"))


def test_what_is_exempt_from_the_middleware_can_be_asked(library: Library) -> None:
    limiter = library.limiter()
    exempt = limiter.exempt(endpoint)
    assert [library._should_exempt(limiter, handler) for handler in (None, exempt, other)] == library.expected(
        same([True, True, False])
    )
    decorated = limiter.limit("1/minute")(other)
    assert library._should_exempt(limiter, decorated) == library.expected(same(True))


@pytest.mark.parametrize("function", ["sync_check_limits", "async_check_limits"])
def test_the_checks_can_be_called_by_hand(function: str, library: Library) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]))
    outcomes = []

    async def check() -> Any:
        scope = {"type": "http", "method": "GET", "path": "/items", "headers": [], "app": app}
        request = Request({**scope, "client": ("192.0.2.1", 1)})
        checked = getattr(library, function)(app.state.limiter, request, endpoint, app)
        return await checked if asyncio.iscoroutine(checked) else checked

    for _ in range(2):
        response, should_inject = asyncio.run(check())
        outcomes.append((response and response.status_code, should_inject))
    assert outcomes == library.expected(same([(None, True), (429, False)]))


def test_the_finder_can_be_patched(library: Library) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]), "SlowAPIMiddleware")
    app.get("/items")(endpoint)
    module = library.module("middleware")
    with mock.patch.object(module, "_find_route_handler", return_value=None):
        patched = Client(app).statuses("/items", 3)
    assert patched == library.expected(same([200] * 3))


@pytest.mark.parametrize("first", ["SlowAPIMiddleware", "SlowAPIASGIMiddleware"])
def test_middleware_that_is_added_twice_counts_once(first: str, library: Library) -> None:
    app = library.app(library.limiter(default_limits=["2/minute"]), first)
    app.add_middleware(library.SlowAPIASGIMiddleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 3) == library.expected(
        differs(slowapi=[200, 429, 429], slidegate=[200, 200, 429], difference="counted-once")
    )

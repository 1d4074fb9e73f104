"""Middleware inside of ours that changes the path or the method: what serves a request is what limits it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from slidegate import Limiter
from slidegate._fastapi.rewritten_paths import RewrittenPathCheck
from slidegate.middleware import SlowAPIMiddleware

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


class Overriding:
    """Takes the method from a header, and the path without its last slash and in lower case."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = dict(scope["headers"]).get(b"x-http-method-override", scope["method"].encode()).decode()
            scope = {**scope, "method": method, "path": scope["path"].rstrip("/").lower() or "/"}
        await self.app(scope, receive, send)


class OverridingInPlace(Overriding):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def call(changed: Scope, receive: Receive, send: Send) -> None:
            scope.update(changed)
            await inner(scope, receive, send)

        inner = self.app
        await Overriding(call)(scope, receive, send)


OVERRIDES = [Overriding, OverridingInPlace]


def made(limiter: Limiter, make_app: MakeApp, override: Any = Overriding) -> FastAPI:
    app = make_app(limiter)
    app.router.redirect_slashes = False
    app.add_middleware(override)
    app.add_middleware(SlowAPIMiddleware)

    @app.get("/read")
    async def read() -> str:
        return "ok"

    @app.delete("/read")
    async def remove() -> str:
        return "ok"

    @app.get("/items/{name}")
    async def item(name: str) -> str:
        return "ok"

    return app


@pytest.mark.parametrize("style", ["url", "endpoint"])
@pytest.mark.parametrize("override", OVERRIDES)
def test_fault_04_a_changed_method_is_limited_as_what_serves_it(
    override: Any, style: str, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = made(make_limiter(default_limits=["2/hour"], key_style=style), make_app, override)
    client = Client(app)
    options = {"headers": {"X-HTTP-Method-Override": "DELETE"}}
    assert [client.post("/read", **options).status_code for _ in range(4)] == [200, 200, 429, 429]
    told = [each.getMessage() for each in caplog.records if "another path" in each.getMessage()]
    assert len(told) == 1
    assert "made.<locals>.remove by another path or method" in told[0]


@pytest.mark.parametrize("style", ["url", "endpoint"])
@pytest.mark.parametrize("override", OVERRIDES)
def test_fault_04_a_changed_path_is_limited_as_what_serves_it(
    override: Any, style: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    client = Client(made(make_limiter(default_limits=["2/hour"], key_style=style), make_app, override))
    assert [client.get(path).status_code for path in ("/read/", "/READ", "/read", "/Read")] == [200, 200, 429, 429]


@pytest.mark.parametrize("style", ["url", "endpoint"])
def test_fault_04_a_path_in_other_letters_does_not_count_apart_nor_twice(
    style: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    client = Client(made(make_limiter(default_limits=["3/hour"], key_style=style), make_app))
    paths = ["/items/a", "/items/A", "/items/a/", "/items/A/"]
    assert [client.get(path).status_code for path in paths] == [200, 200, 200, 429]


def test_fault_04_what_all_endpoints_share_counts_once(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(default_limits=["9/hour"], application_limits=["3/hour"])
    client = Client(made(limiter, make_app))
    assert [client.get(path).status_code for path in ("/items/A", "/READ", "/read/", "/read")] == [200, 200, 200, 429]


def test_fault_04_decorated_and_exempt_endpoints_are_limited_as_they_are_declared(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(default_limits=["1/hour"])
    app = made(limiter, make_app)
    app.get("/own")(limiter.limit("2/hour")(lambda: "ok"))

    @app.get("/free")
    @limiter.exempt
    async def free() -> str:
        return "ok"

    client = Client(app)
    assert client.statuses("/OWN", 3) == [200, 200, 429]
    assert client.statuses("/FREE", 3) == [200] * 3


def test_fault_04_a_mounted_application_with_such_middleware_is_limited_as_what_serves(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(default_limits=["2/hour"])
    outer, inner = make_app(limiter), FastAPI(middleware=[Middleware(Overriding)])

    @inner.get("/read")
    async def read() -> str:
        return "ok"

    outer.mount("/sub", inner)
    outer.add_middleware(SlowAPIMiddleware)
    client = Client(outer)
    assert [client.get(path).status_code for path in ("/sub/READ", "/sub/read", "/sub/rEAD")] == [200, 200, 429]


def test_fault_04_an_asynchronous_check_may_read_the_body_that_the_endpoint_reads_again(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    async def key(request: Request) -> str:
        return (await request.body()).decode() or "nobody"

    app = made(make_limiter(key_func=key, default_limits=["2/hour"], key_style="endpoint"), make_app)

    @app.post("/echo")
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    client = Client(app)
    answers = [client.post("/ECHO", content=body) for body in ("a", "a", "b", "a")]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.text for each in answers[:3]] == ['"a"', '"a"', '"b"']


def test_fault_04_a_program_that_skips_the_check_itself_is_left_alone(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    class Skipping(SlowAPIMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            if request.headers.get("X-Internal"):
                response: Response = await call_next(request)
                return response
            return await super().dispatch(request, call_next)

    limiter = make_limiter(default_limits=["2/hour"])
    app = make_app(limiter)
    app.add_middleware(Overriding)
    app.add_middleware(Skipping)
    app.get("/read")(lambda: "ok")
    client = Client(app)
    assert client.statuses("/READ", 4, headers={"X-Internal": "1"}) == [200] * 4
    assert client.statuses("/READ", 3) == [200, 200, 429]


@pytest.mark.parametrize("is_harmless", [True, False])
def test_fault_04_the_router_is_only_watched_behind_middleware_that_may_change_paths(
    is_harmless: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    app = make_app(make_limiter(default_limits=["2/hour"]))
    app.add_middleware(GZipMiddleware)
    if not is_harmless:
        app.middleware("http")(lambda request, call_next: call_next(request))
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(lambda: "ok")
    assert Client(app).statuses("/", 3) == [200, 200, 429]
    assert isinstance(app.router.middleware_stack, RewrittenPathCheck) is not is_harmless


@pytest.mark.parametrize("override", OVERRIDES)
def test_fault_04_a_path_that_is_changed_before_it_comes_to_the_middleware_counts_once(
    override: Any, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(make_limiter(default_limits=["3/hour"], headers="x-ratelimit"))
    app.middleware("http")(lambda request, call_next: call_next(request))
    app.add_middleware(SlowAPIMiddleware)
    app.add_middleware(override)
    app.get("/read")(lambda: "ok")
    assert Client(app).statuses("/READ", 5) == [200, 200, 200, 429, 429]
    assert "another path" not in caplog.text


def test_fault_04_a_refusal_there_has_the_headers_and_the_body_of_the_programs_handler(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    app = made(make_limiter(default_limits=["1/hour"], headers_enabled=True), make_app)
    first, second = asyncio.run(twice(app))
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json() == {"error": "Rate limit exceeded: 1 per 1 hour"}
    assert second.headers["Retry-After"] == "3600"


async def twice(app: FastAPI) -> tuple[Any, Any]:
    client = Client(app)
    return await client.send("GET", "/READ"), await client.send("GET", "/READ")

"""What programs and tests put in the place of a request, of its client, or of a limiter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, PropertyMock, patch

import pytest
from compat.conftest import SLOWAPI
from compat.library import Library, differs, same
from conftest import Client
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.datastructures import Address, State

from slidegate import Limiter
from slidegate.util import get_remote_address

MIDDLEWARES = [None, "SlowAPIMiddleware"]


@pytest.fixture(params=[SLOWAPI, "slidegate"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param, {})


def app_of(library: Library, limit: str | None = "1/minute", middleware: str | None = None, **options: Any) -> Any:
    limiter = library.limiter(**options)
    app = library.app(limiter, middleware)

    async def items(request: Request) -> str:
        return "ok"

    async def by_path(request: Request) -> str:
        return "ok"

    def sync(request: Request) -> str:
        return "ok"

    limited: Callable[..., Any] = limiter.limit(limit) if limit else lambda function: function
    app.get("/items")(limited(items))
    app.get("/sync")(limited(sync))
    return app


@pytest.mark.parametrize("name", ["get_remote_address", "get_ipaddr"])
def test_fault_38_key_functions_read_the_client_of_any_object(name: str, library: Library) -> None:
    request = SimpleNamespace(client=SimpleNamespace(host="192.0.2.1"), headers={})
    mock = MagicMock()
    mock.client.host = "192.0.2.2"
    mock.headers = {}
    found = [getattr(library, name)(each) for each in (request, mock)]
    assert found == library.expected(same(["192.0.2.1", "192.0.2.2"]))


def test_fault_38_without_a_client_the_key_is_missing_as_it_always_is(library: Library) -> None:
    request = SimpleNamespace(client=None, headers={})
    assert library.get_remote_address(request) == library.expected(
        differs(slowapi="127.0.0.1", slidegate="", difference="missing-keys")
    )


@pytest.mark.parametrize("is_async", [True, False])
def test_fault_38_endpoints_can_be_called_with_a_mock(is_async: bool, library: Library) -> None:
    limiter = library.limiter()
    calls = []

    @limiter.limit("1/minute")
    async def in_loop(request: Request) -> str:
        calls.append(request)
        return "ran"

    @limiter.limit("1/minute")
    def in_thread(request: Request) -> str:
        calls.append(request)
        return "ran"

    request = MagicMock(spec=Request)
    told = [asyncio.run(in_loop(request=request)) if is_async else in_thread(request) for _ in range(2)]
    # A mock's state says of everything that it is there: of the request, too, that it was counted.
    assert (told, calls == [request] * 2) == library.expected(same((["ran"] * 2, True)))


def mock_request(host: str) -> Any:
    request = MagicMock(spec=Request)
    request.client, request.headers, request.state, request.method = Address(host, 1), {}, State(), "GET"
    request.__getitem__.side_effect = {"path": "/items", "type": "http"}.__getitem__
    return request


@pytest.mark.parametrize("limit", ["1/minute", lambda: "1/minute"])
def test_fault_38_a_mock_that_says_who_it_is_is_counted(limit: Any, library: Library) -> None:
    limiter = library.limiter()

    @limiter.limit(limit)
    async def items(request: Request) -> str:
        return "ran"

    def outcome(request: Any) -> Any:
        try:
            return asyncio.run(items(request=request))
        except library.RateLimitExceeded as error:
            return str(request.state.view_rate_limit[0]), error.status_code

    twice = mock_request("192.0.2.1")
    told = [outcome(each) for each in (mock_request("192.0.2.1"), mock_request("192.0.2.1"), mock_request("192.0.2.2"))]
    told += [outcome(mock_request("192.0.2.3")), outcome(twice)]
    refused = ("1 per 1 minute", 429)
    assert told == library.expected(same(["ran", refused, "ran", "ran", refused]))


def test_fault_38_a_mock_is_counted_once(library: Library) -> None:
    limiter = library.limiter()

    @limiter.limit("1/minute")
    async def items(request: Request) -> str:
        return "ran"

    request = mock_request("192.0.2.1")
    told = [asyncio.run(items(request=request)) for _ in range(2)]
    assert (told, bool(request.state._rate_limiting_complete)) == library.expected(same((["ran"] * 2, True)))


@pytest.mark.parametrize("kind", ["starlette.requests.Request", "starlette.requests.HTTPConnection"])
@pytest.mark.parametrize("path", ["/items", "/sync"])
@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_fault_38_a_patched_client_is_who_is_limited(
    kind: str, path: str, middleware: str | None, library: Library
) -> None:
    limit = None if middleware else "1/minute"
    client = Client(app_of(library, limit, middleware, default_limits=["1/minute"]))
    before = client.statuses(path, 2)
    with patch(f"{kind}.client", new_callable=PropertyMock, return_value=SimpleNamespace(host="192.0.2.9")):
        patched = client.statuses(path, 3)
    after = client.statuses(path, 2)
    assert (before, patched, after) == library.expected(same(([200, 429], [200, 429, 429], [429, 429])))


def test_fault_38_a_request_class_may_have_a_client_of_its_own(library: Library) -> None:
    class Own(Request):
        @property
        def client(self) -> Address:
            return Address(self.headers["x-client"], 1)

    class Route(APIRoute):
        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Any:
                return await handler(Own(request.scope, request.receive))

            return handle

    limiter = library.limiter()
    app = library.app(limiter)
    router = APIRouter(route_class=Route)

    @router.get("/items")
    @limiter.limit("1/minute")
    async def items(request: Request) -> str:
        return "ok"

    app.include_router(router)
    client = Client(app)
    told = [client.get("/items", headers={"X-Client": each}).status_code for each in ("192.0.2.7", "192.0.2.8") * 2]
    assert told == library.expected(same([200, 200, 429, 429]))


def test_fault_38_the_handler_reads_what_a_mock_has(library: Library) -> None:
    request = MagicMock(app=SimpleNamespace(state=SimpleNamespace(limiter=library.limiter(headers_enabled=True))))
    request.state = SimpleNamespace(view_rate_limit=None)
    error = library.RateLimitExceeded(SimpleNamespace(error_message="e"))
    response = library._rate_limit_exceeded_handler(request, error)
    assert (response.status_code, response.body) == library.expected(same((429, b'{"error":"Rate limit exceeded: e"}')))


def test_fault_38_what_depends_on_the_response_is_given_back_to_a_stand_in() -> None:
    limiter = Limiter(get_remote_address)

    @limiter.limit("1/minute", deduct_when=lambda response: False)
    async def items(request: Request) -> str:
        return "ran"

    assert [asyncio.run(items(request=mock_request("192.0.2.1"))) for _ in range(3)] == ["ran"] * 3


@pytest.mark.parametrize("dispatch", [False, True])
def test_fault_41_a_stand_in_for_a_limiter_that_is_switched_off_lets_pass(dispatch: bool, library: Library) -> None:
    app = FastAPI()
    app.state.limiter = SimpleNamespace(enabled=False)
    middleware = library.SlowAPIMiddleware
    if dispatch:

        class Own(middleware):  # type: ignore[misc,valid-type]
            async def dispatch(self, request: Any, call_next: Any) -> Any:
                return await super().dispatch(request, call_next)

        middleware = Own
    app.add_middleware(middleware)
    app.get("/")(lambda: threading.get_ident() and "ok")
    assert Client(app).statuses("/", 2) == library.expected(same([200, 200]))


def test_fault_38_what_stands_for_a_limiter_writes_the_headers_of_refusals(library: Library) -> None:
    class StandIn:
        enabled = False

        def _inject_headers(self, response: Any, current_limit: Any) -> Any:
            response.headers["X-Written"] = "yes"
            return response

    app = app_of(library)
    client = Client(app)
    app.state.limiter = StandIn()
    assert [client.get("/items").headers.get("X-Written") for _ in range(2)] == library.expected(same([None, "yes"]))

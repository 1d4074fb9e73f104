"""What is known of a request belongs to that request, whoever copies its scope or shares its state."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client, talk_to
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from slidegate import Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware

MakeLimiter = Callable[..., Limiter]


async def dispatch(app: Any, scope: Scope) -> int:
    """Calls an application, and returns the status of its response."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return next(message["status"] for message in sent if message["type"] == "http.response.start")


def by_decorator(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited")
    @limiter.limit("2/minute")
    async def limited() -> str:
        return "ok"


def by_key_of_a_decorator(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited")
    @limiter.limit("2/minute", key_func=lambda request: "anybody")
    async def limited() -> str:
        return "ok"


def by_decorator_in_general(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited")
    @limiter.limit(lambda: "2/minute")
    async def limited() -> str:
        return "ok"


def by_held_limit(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited")
    @limiter.limit("2/minute", deduct_when=lambda response: response.status_code == 200)
    async def limited() -> str:
        return "ok"


def by_held_limit_and_middleware(app: FastAPI, limiter: Limiter) -> None:
    by_held_limit(app, limiter)
    app.add_middleware(SlowAPIMiddleware)


def by_dependency(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited", dependencies=[Depends(RateLimit("2/minute"))])
    async def limited() -> str:
        return "ok"


def by_injected_dependency(app: FastAPI, limiter: Limiter) -> None:
    async def user() -> str:
        return "anybody"

    @app.get("/limited", dependencies=[Depends(RateLimit("2/minute", key=Depends(user)))])
    async def limited() -> str:
        return "ok"


def by_middleware(app: FastAPI, limiter: Limiter) -> None:
    limiter._default_limits = limiter._in_memory_fallback  # of the limiter that `applications` makes
    app.add_middleware(SlowAPIMiddleware)

    @app.get("/limited")
    async def limited() -> str:
        return "ok"


def by_dispatching_middleware(app: FastAPI, limiter: Limiter) -> None:
    class Own(SlowAPIMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            return await super().dispatch(request, call_next)

    limiter._default_limits = limiter._in_memory_fallback
    app.add_middleware(Own)

    @app.get("/limited")
    async def limited() -> str:
        return "ok"


def by_hand(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/limited")
    async def limited(request: Request) -> str:
        await limiter.check(request, "2/minute")
        return "ok"


WAYS = [
    by_decorator,
    by_key_of_a_decorator,
    by_decorator_in_general,
    by_held_limit,
    by_held_limit_and_middleware,
    by_dependency,
    by_injected_dependency,
    by_middleware,
    by_dispatching_middleware,
    by_hand,
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def app(request: pytest.FixtureRequest, make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]) -> FastAPI:
    # The limit stands here for the ways that make it a default one: after that, nothing falls back on it.
    limiter = make_limiter(in_memory_fallback=["2/minute"], headers_enabled=True)
    app = make_app(limiter)
    request.param(app, limiter)
    return app


def test_fault_01_requests_that_an_endpoint_makes_of_its_own_scope_count_one_by_one(app: FastAPI) -> None:
    @app.get("/batch")
    async def batch(request: Request) -> list[int]:
        return [await dispatch(app, {**request.scope, "path": "/limited"}) for _ in range(4)]

    assert Client(app).get("/batch").json() == [200, 200, 429, 429]


def test_fault_01_so_do_those_that_it_makes_at_once(app: FastAPI) -> None:
    @app.get("/batch")
    async def batch(request: Request) -> list[int]:
        return await asyncio.gather(*(dispatch(app, {**request.scope, "path": "/limited"}) for _ in range(4)))

    assert sorted(Client(app).get("/batch").json()) == [200, 200, 429, 429]


def test_fault_01_so_do_those_of_a_limited_endpoint_that_calls_itself(app: FastAPI) -> None:
    depths: list[int] = []

    @app.middleware("http")
    async def nest(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if len(depths) < 4 and response.status_code == 200:
            depths.append(await dispatch(app, {**request.scope}))
        return response

    Client(app).get("/limited")
    assert sorted(depths) == [200, 429]


def test_fault_01_so_do_those_that_are_made_of_a_scope_whose_request_is_over(app: FastAPI) -> None:
    saved: list[Scope] = []

    @app.get("/batch")
    async def batch(request: Request) -> None:
        saved.append(dict(request.scope))

    client = Client(app)
    client.get("/batch")
    client.get("/limited")

    async def later() -> list[int]:
        # Each at the address of the one before, as a rule, and the first at that of the request that is over.
        return [await dispatch(app, {**saved[0], "path": "/limited"}) for _ in range(40)]

    assert asyncio.run(later()) == [200, *[429] * 39]


def test_fault_01_so_do_those_that_are_made_of_a_limited_scope_whose_request_is_over(app: FastAPI) -> None:
    saved: list[Scope] = []

    @app.middleware("http")
    async def save(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        saved.append(dict(request.scope))
        return response

    Client(app).get("/limited")

    async def later() -> list[int]:
        return [await dispatch(app, dict(saved[0])) for _ in range(40)]

    assert asyncio.run(later()) == [200, *[429] * 39]


def test_fault_01_requests_that_share_one_state_count_one_by_one(app: FastAPI) -> None:
    @app.get("/free")
    async def free() -> str:
        return "ok"

    shared: dict[str, Any] = {}

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": shared}, receive, send)

    client = Client(server)
    assert client.statuses("/limited", 4) == [200, 200, 429, 429]
    is_limited_too = any(
        each.cls is not None and issubclass(each.cls, SlowAPIMiddleware) for each in app.user_middleware
    )
    told = client.get("/free").headers.get("X-RateLimit-Remaining")
    assert told is None or (is_limited_too and told == "1"), "what is told is of this request"


def test_fault_01_a_websocket_that_makes_requests_of_its_own_scope_has_them_counted(app: FastAPI) -> None:
    statuses: list[int] = []

    @app.websocket("/batch")
    async def batch(websocket: WebSocket) -> None:
        await websocket.accept()
        changes = {"type": "http", "method": "GET", "path": "/limited"}
        statuses.extend([await dispatch(app, {**websocket.scope, **changes}) for _ in range(4)])

    talk_to(app, "/batch")
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize("is_decorated", [True, False])
def test_fault_01_websockets_that_share_a_state_count_one_by_one(
    is_decorated: bool, make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    accepted: list[bool] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        accepted.append(True)

    if is_decorated:
        app.websocket("/")(limiter.limit("2/minute")(endpoint))
    else:
        app.websocket("/", dependencies=[Depends(RateLimit("2/minute"))])(endpoint)
    shared: dict[str, Any] = {}

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": shared}, receive, send)

    for _ in range(4):
        talk_to(server, "/")
    assert len(accepted) == 2


def test_fault_01_a_request_that_goes_around_the_middleware_counts_where_it_is_decided(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(application_limits=["3/minute"])
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)

    @app.get("/limited")
    @limiter.limit("9/minute")
    async def limited() -> str:
        return "ok"

    @app.get("/batch")
    async def batch(request: Request) -> list[int]:
        return [await dispatch(app.router, {**request.scope, "path": "/limited"}) for _ in range(3)]

    # The batch itself is the first of three.
    app.add_exception_handler(Exception, lambda request, error: PlainTextResponse("", 500))
    assert Client(app).get("/batch").json() == [200, 200, 429]


class Copying:
    """Middleware that hands on a copy of the scope, as those do that change something in it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


@pytest.mark.parametrize("is_copied", [True, False])
@pytest.mark.parametrize("is_mounted", [True, False])
def test_fault_01_a_request_on_its_way_in_counts_once_however_often_its_scope_is_copied(
    is_copied: bool, is_mounted: bool, make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(application_limits=["3/minute"], headers_enabled=True)

    @limiter.limit("9/minute")
    async def helper(request: Request) -> str:
        return "ok"

    app = inner = make_app(limiter)
    if is_mounted:
        app = make_app(limiter)
        app.mount("/sub", inner)

    @inner.get("/")
    async def index(request: Request) -> str:
        # Only the middleware knows that this is limited, and only the decorator by what.
        return await helper(request)

    for each in dict.fromkeys([inner, app]):
        if is_copied:
            each.add_middleware(Copying)
        each.add_middleware(SlowAPIMiddleware)
        each.add_middleware(Copying)
    responses = [Client(app).get("/sub/" if is_mounted else "/") for _ in range(4)]
    assert [each.status_code for each in responses] == [200, 200, 200, 429]
    assert [each.headers["X-RateLimit-Remaining"] for each in responses][:2] == ["8", "7"]


def test_fault_01_a_route_that_copies_the_scope_of_its_request_counts_once(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(application_limits=["3/minute"])

    @limiter.limit("9/minute")
    async def helper(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def endpoint(request: Request) -> Response:
        return await helper(Request(dict(request.scope), request.receive))

    app = FastAPI()
    app.state.limiter = limiter
    app.router.routes.append(Mount("/sub", routes=[Route("/", endpoint)]))
    app.add_middleware(SlowAPIMiddleware)
    assert Client(app).statuses("/sub/", 4) == [200, 200, 200, 429]


def test_fault_01_a_program_reads_and_sets_what_is_told_in_the_state(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    seen: list[tuple[bool, int]] = []

    @limiter.limit("3/minute")
    async def limited(request: Request) -> str:
        return "ok"

    @app.get("/")
    async def index(request: Request, skip: bool = False) -> str:
        if skip:
            request.state._rate_limiting_complete = True
        await limited(request)
        await limited(request)
        request.state._rate_limiting_complete = False
        await limited(request)
        seen.append((bool(request.state._rate_limiting_complete), request.state.view_rate_limit[0].amount))
        return "ok"

    client = Client(app)
    assert [client.get(path).status_code for path in ("/", "/?skip=1", "/")] == [200, 200, 429]
    assert seen == [(True, 3)] * 2


class Tracked:
    """Something in the scope whose end can be seen."""


# Not for those that override dispatch: the BaseHTTPMiddleware of older versions of Starlette leaves cycles itself.
@pytest.mark.parametrize("app", [way for way in WAYS if way is not by_dispatching_middleware], indirect=True)
@pytest.mark.parametrize("path", ["/limited", "/free"])
def test_fault_01_requests_are_freed_without_the_garbage_collector(app: FastAPI, path: str) -> None:
    @app.get("/free")
    async def free(request: Request) -> str:
        await dispatch(app, {**request.scope, "path": "/limited"})
        return "ok"

    tracked: list[weakref.ref[Tracked]] = []

    async def request() -> int:
        one = Tracked()
        tracked.append(weakref.ref(one))
        headers = [(b"host", b"test")]
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"", "one": one}
        return await dispatch(app, {**scope, "client": ("192.0.2.1", 1), "state": {}})

    async def requests() -> list[int]:
        return [await request() for _ in range(8)]

    asyncio.run(requests())
    gc.collect()
    gc.disable()
    try:
        tracked.clear()
        asyncio.run(requests())
        # The last one may be held by what has handled it, until it handles the next.
        assert [each() for each in tracked[:-1]] == [None] * 7
    finally:
        gc.enable()

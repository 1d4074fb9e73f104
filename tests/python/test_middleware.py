"""What the middleware limits, and what it leaves as it was."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest import mock

import fastapi.routing
import pytest
from conftest import Client
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Host, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import slidegate.middleware
from slidegate import ConfigurationError, Limiter, RateLimitExceeded
from slidegate.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware, async_check_limits, sync_check_limits

MakeApp = Callable[..., tuple[FastAPI, Limiter]]


@pytest.fixture
def make(make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]) -> MakeApp:
    def make(**options: Any) -> tuple[FastAPI, Limiter]:
        limiter = make_limiter(**{"default_limits": ["2/minute"], **options})
        app = make_app(limiter)
        app.add_middleware(SlowAPIMiddleware)
        return app, limiter

    return make


def ok() -> str:
    return "ok"


async def ok_async(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def test_both_middlewares_of_slowapi_are_one() -> None:
    assert SlowAPIASGIMiddleware is SlowAPIMiddleware


def test_a01_a_route_of_an_included_router_has_the_default_limit(make: MakeApp) -> None:
    app, _ = make()
    router = APIRouter()
    router.get("/users")(ok)
    app.include_router(router, prefix="/api")
    assert Client(app).statuses("/api/users", 3) == [200, 200, 429]


def test_a02_mounts_hosts_nested_routers_and_later_routes_have_the_default_limit(make: MakeApp) -> None:
    app, _ = make()
    inner, outer = APIRouter(), APIRouter()
    inner.get("/nested")(ok)
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    mounted = FastAPI()
    mounted.get("/mounted")(ok)
    app.mount("/sub", mounted)
    app.router.routes.append(Host("other.test", Starlette(routes=[Route("/hosted", ok_async)])))
    client = Client(app)
    for path in ("/outer/inner/nested", "/sub/mounted"):
        assert client.statuses(path, 3) == [200, 200, 429], path
    assert client.statuses("/hosted", 3, headers={"host": "other.test"}) == [200, 200, 429]
    app.get("/later")(ok)
    app.include_router(inner, prefix="/again")
    for path in ("/later", "/again/nested"):
        assert client.statuses(path, 3) == [200, 200, 429], path


def test_a02_an_application_without_routes_is_limited_and_static_files_are_not(make: MakeApp, tmp_path: Any) -> None:
    app, _ = make(key_style="endpoint")
    (tmp_path / "style.css").write_text("p {}")
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/opaque", PlainTextResponse("ok"))
    assert Client(app).statuses("/static/style.css", 3) == [200] * 3
    assert Client(app).statuses("/opaque/any", 3) == [200, 200, 429]


def test_a03_the_limits_of_the_route_that_serves_apply_not_of_a_catch_all(make: MakeApp) -> None:
    app, limiter = make()
    app.get("/health")(limiter.exempt(lambda: "well"))
    app.get("/own")(limiter.limit("1/minute")(ok_async))
    app.get("/{rest:path}")(ok)
    client = Client(app)
    assert client.statuses("/health", 5) == [200] * 5
    assert client.statuses("/own", 2) == [200, 429]
    assert client.statuses("/anything/else", 3) == [200, 200, 429]


def test_a06_a_decorator_above_that_of_the_route_limits(make: MakeApp) -> None:
    app, limiter = make()
    limiter.limit("1/minute")(app.get("/")(ok_async))
    # Nobody refers to what the decorator has returned.
    gc.collect()
    assert Client(app).statuses("/", 2) == [200, 429]


def test_a_function_that_is_a_route_with_and_without_its_limit_keeps_both(make: MakeApp) -> None:
    app, limiter = make()
    app.get("/limited")(limiter.limit("1/minute")(ok_async))
    app.get("/plain")(ok_async)
    assert Client(app).statuses("/limited", 2) == [200, 429]
    assert Client(app).statuses("/plain", 3) == [200, 200, 429]


def test_a07_what_no_endpoint_serves_is_not_limited_unless_asked_for(make: MakeApp) -> None:
    app, _ = make()
    app.post("/post")(ok)
    assert Client(app).statuses("/unknown", 3) == [404] * 3
    assert Client(app).statuses("/post", 3) == [405] * 3
    app, _ = make(unmatched_limited=True)
    app.post("/post")(ok)
    client = Client(app)
    assert [client.get(path).status_code for path in ("/a", "/post", "/b", "/post")] == [404, 405, 429, 429]
    assert client.post("/post").status_code == 200


PREFLIGHT = {"origin": "https://other.test", "access-control-request-method": "GET"}


@pytest.mark.parametrize("preflights_limited", [False, True])
def test_a07_preflights_are_limited_when_asked_for(preflights_limited: bool, make: MakeApp) -> None:
    app, _ = make(preflights_limited=preflights_limited)
    app.get("/")(ok)
    client = Client(app)
    statuses = [client.request("OPTIONS", "/", headers=PREFLIGHT).status_code for _ in range(3)]
    assert statuses == [405, 405, 429 if preflights_limited else 405]


def test_what_looks_like_a_preflight_is_limited_where_an_endpoint_serves_it(make: MakeApp) -> None:
    class Own(HTTPEndpoint):
        async def options(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    app, _ = make()
    app.options("/own")(ok)
    app.mount("/mounted", PlainTextResponse("ok"))
    app.router.routes.append(Route("/class", Own))
    client = Client(app)
    for path in ("/own", "/mounted/", "/class"):
        statuses = [client.request("OPTIONS", path, headers=PREFLIGHT).status_code for _ in range(3)]
        assert statuses == [200, 200, 429], path


def test_a_class_that_serves_methods_without_functions_for_them_is_limited(make: MakeApp) -> None:
    class Plain:
        def __init__(self, scope: Any, receive: Any, send: Any) -> None:
            self.arguments = (scope, receive, send)

        def __await__(self) -> Any:
            return PlainTextResponse("ok")(*self.arguments).__await__()

    class Dispatching(HTTPEndpoint):
        async def dispatch(self) -> None:
            await PlainTextResponse("ok")(self.scope, self.receive, self.send)

    class Fallback(HTTPEndpoint):
        async def method_not_allowed(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    class Stock(HTTPEndpoint):
        async def post(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    app, _ = make()
    app.router.routes += [Route(f"/{each.__name__}", each) for each in (Plain, Dispatching, Fallback, Stock)]
    client = Client(app)
    for name in ("Plain", "Dispatching", "Fallback"):
        assert client.statuses(f"/{name}", 3) == [200, 200, 429], name
    assert client.statuses("/Stock", 3) == [405] * 3


def test_only_the_function_that_is_exempt_is_among_those_of_one_name(make: MakeApp) -> None:
    app, limiter = make()

    def endpoint(answer: str) -> Any:
        async def serve(request: Request) -> PlainTextResponse:
            return PlainTextResponse(answer)

        return serve

    costly, limited = endpoint("costly"), limiter.limit("1/minute")(endpoint("limited"))
    app.get("/costly")(costly)
    app.get("/limited")(limited)
    app.get("/free")(limiter.exempt(endpoint("free")))
    client = Client(app)
    assert client.statuses("/costly", 3) == [200, 200, 429]
    assert client.statuses("/limited", 2) == [200, 429]
    assert client.statuses("/free", 4) == [200] * 4
    limiter.reset()
    assert client.statuses("/costly", 3) == [200, 200, 429]
    limiter.exempt(costly)
    assert client.statuses("/costly", 3) == [200] * 3
    limiter._exempt_routes.clear()
    assert 429 in client.statuses("/free", 4)


def test_a07_a_refusal_passes_through_cors(make: MakeApp) -> None:
    app, _ = make()
    app.add_middleware(CORSMiddleware, allow_origins=["https://other.test"])
    app.get("/")(ok)
    client = Client(app)
    for _ in range(3):
        assert client.request("OPTIONS", "/", headers=PREFLIGHT).status_code == 200
    refused = [client.get("/", headers={"origin": "https://other.test"}) for _ in range(3)][-1]
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (429, "https://other.test")


def test_a19_own_limits_override_defaults_in_one_decision_with_one_set_of_headers(make: MakeApp) -> None:
    app, limiter = make(headers_enabled=True)
    app.get("/own")(limiter.limit("3/minute")(ok))
    app.get("/dynamic")(limiter.limit(lambda: "3/minute")(ok))
    app.get("/both")(limiter.limit("3/minute", override_defaults=False)(ok))
    app.get("/default")(ok)
    client = Client(app)
    for path, amount in {"/own": 3, "/dynamic": 3, "/both": 2, "/default": 2}.items():
        responses = [client.get(path) for _ in range(amount + 1)]
        assert [each.status_code for each in responses] == [200] * amount + [429], path
        for left, response in enumerate(responses[:amount]):
            assert response.headers.get_list("x-ratelimit-limit") == [str(amount)]
            assert response.headers.get_list("x-ratelimit-remaining") == [str(amount - 1 - left)]
        assert responses[-1].headers["retry-after"] == "60"


def test_limits_of_the_application_are_counted_once_for_decorated_and_other_routes(make: MakeApp) -> None:
    app, limiter = make(default_limits=[], application_limits=["4/minute"])
    app.get("/own")(limiter.limit("10/minute")(ok))
    app.get("/plain")(ok)
    client = Client(app)
    assert [client.get(path).status_code for path in ["/own", "/plain"] * 3] == [200] * 4 + [429] * 2


def test_a_decorator_that_nothing_shows_is_still_checked_and_shared_limits_are_counted_once(make: MakeApp) -> None:
    app, limiter = make(application_limits=["3/minute"])
    limited = limiter.limit("1/minute")(ok)

    async def hidden(request: Request) -> str:
        return str(limited(slidegate_request=request))

    app.get("/")(hidden)
    client = Client(app)
    assert client.statuses("/", 2) == [200, 429]
    assert (
        limiter.limiter.get_window_stats(limiter._application_limits[0].limits[0].limit, "192.0.2.1", "global")[1] == 1
    )


class Page(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def post(self, request: Request) -> Response:
        return PlainTextResponse("ok")


def test_a12_methods_of_classes_have_their_own_limits_and_the_others_the_defaults(
    make_limiter: Callable[..., Limiter],
) -> None:
    limiter = make_limiter(default_limits=["2/minute"])

    class Limited(Page):
        get = limiter.limit("1/minute")(Page.get)

    app = Starlette(routes=[Route("/limited", Limited), Route("/page", Page)])
    app.state.limiter = limiter
    app.add_middleware(SlowAPIMiddleware)
    client = Client(app)
    assert client.statuses("/limited", 2) == [200, 429]
    assert [client.post("/limited").status_code for _ in range(3)] == [200, 200, 429]
    assert client.statuses("/page", 3) == [200, 200, 429]
    assert [client.request("HEAD", "/page").status_code for _ in range(2)] == [429] * 2


def call(app: Any, path: str, receive: Any = None) -> list[Message]:
    """The messages that an application sends, as it sends them."""
    messages, received = list[Message](), list[Message]()

    async def send(message: Message) -> None:
        messages.append(message)

    async def empty() -> Message:
        if received:
            await asyncio.Event().wait()
        received.append({"type": "http.request", "body": b"", "more_body": False})
        return received[-1]

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "client": ("a", 1)}
    asyncio.run(app(scope, receive or empty, send))
    return messages


def test_a13_a_stream_starts_once_and_each_chunk_passes_when_it_is_made(make: MakeApp) -> None:
    app, _ = make(headers_enabled=True)
    done: list[str] = []
    made: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            made.append(number)
            yield b"chunk"

    @app.get("/")
    def stream() -> StreamingResponse:
        return StreamingResponse(chunks(), background=BackgroundTask(done.append, "background"))

    messages = call(app, "/")
    assert [each["type"] for each in messages].count("http.response.start") == 1
    assert [each.get("body") for each in messages[1:]] == [b"chunk"] * 3 + [b""]
    assert (b"x-ratelimit-limit", b"2") in messages[0]["headers"]
    assert done == ["background"]


def test_a13_a_stream_is_cancelled_when_its_client_leaves(make: MakeApp) -> None:
    app, _ = make(headers_enabled=True)
    ended: list[BaseException] = []

    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"chunk"
                await asyncio.sleep(0)
        except BaseException as error:
            ended.append(error)
            raise

    app.get("/")(lambda: StreamingResponse(forever()))
    messages = iter([{"type": "http.request"}])

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return next(messages, {"type": "http.disconnect"})

    call(app, "/", receive)
    assert len(ended) == 1


def test_websockets_pass_through(make: MakeApp) -> None:
    app, _ = make()

    @app.websocket("/")
    async def talk(websocket: Any) -> None:
        await websocket.accept()
        await websocket.close()

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": []}
    for _ in range(3):
        sent.clear()
        asyncio.run(app({**scope}, receive, send))
        assert [each["type"] for each in sent][:1] == ["websocket.accept"] or sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("registered", [RateLimitExceeded, 429])
def test_a28_an_exception_handler_of_either_kind_answers(
    registered: Any, is_async: bool, make_limiter: Callable[..., Limiter]
) -> None:
    async def asynchronous(request: Request, exc: RateLimitExceeded) -> Response:
        return PlainTextResponse(f"slow down: {exc.detail}", status_code=418)

    def synchronous(request: Request, exc: RateLimitExceeded) -> Response:
        return PlainTextResponse(f"slow down: {exc.detail}", status_code=418)

    app = FastAPI()
    app.state.limiter = make_limiter(default_limits="1/minute")
    app.add_middleware(SlowAPIMiddleware)
    app.add_exception_handler(registered, asynchronous if is_async else synchronous)  # type: ignore[arg-type]
    app.get("/")(ok)
    client = Client(app)
    client.get("/")
    refused = client.get("/")
    assert (refused.status_code, refused.text) == (418, "slow down: 1 per 1 minute")


def test_a_refusal_without_a_handler_has_the_body_of_slowapi(make_limiter: Callable[..., Limiter]) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter(default_limits="1/minute", headers_enabled=True)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(ok)
    Client(app).get("/")
    refused = Client(app).get("/")
    assert (refused.status_code, refused.json()) == (429, {"error": "Rate limit exceeded: 1 per 1 minute"})
    assert refused.headers["x-ratelimit-remaining"] == "0"


def test_an_http_error_of_a_key_function_is_answered_and_others_are_errors(make: MakeApp) -> None:
    def key(request: Request) -> str:
        if "key" not in request.headers:
            raise HTTPException(401, "who are you?")
        return str({}[request.headers["key"]])

    app, _ = make(key_func=key)
    app.get("/")(ok)
    response = Client(app).get("/")
    assert (response.status_code, response.json()) == (401, {"detail": "who are you?"})
    assert Client(app).get("/", headers={"key": "k"}).status_code == 500


def test_an_asynchronous_key_function_may_read_the_body_and_the_endpoint_reads_it_again(make: MakeApp) -> None:
    async def key(request: Request) -> bytes:
        return await request.body()

    app, _ = make(key_func=key)

    @app.post("/")
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    client = Client(app)
    answers = [client.post("/", content=body) for body in (b"one", b"one", b"one", b"two")]
    assert [each.status_code for each in answers] == [200, 200, 429, 200]
    assert answers[-1].json() == "two"


def test_requests_pass_when_the_limiter_is_switched_off(make: MakeApp) -> None:
    app, limiter = make(headers_enabled=True)
    app.get("/")(ok)
    limiter.enabled = False
    assert Client(app).statuses("/", 4) == [200] * 4
    assert "x-ratelimit-limit" not in Client(app).get("/").headers
    limiter.enabled = True
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_a_route_that_is_exempted_or_limited_later_is_so_from_then_on(make: MakeApp) -> None:
    app, limiter = make()
    app.get("/")(ok_async)
    client = Client(app)
    assert client.statuses("/", 3) == [200, 200, 429]
    limiter.exempt(ok_async)
    assert client.statuses("/", 3) == [200] * 3


def test_a_middleware_without_a_limiter_says_what_is_missing() -> None:
    app = FastAPI()
    app.add_middleware(SlowAPIMiddleware)
    with pytest.raises(ConfigurationError, match=r"app\.state\.limiter"):
        call(app, "/")


def test_a_middleware_may_be_given_its_limiter(limiter: Limiter, make_limiter: Callable[..., Limiter]) -> None:
    app = FastAPI()
    app.add_middleware(SlowAPIMiddleware, limiter=make_limiter(default_limits="1/minute"))
    app.get("/")(ok)
    assert Client(app).statuses("/", 2) == [200, 429]


def test_two_middlewares_of_one_limiter_count_once_and_of_two_limiters_both_count(
    make: MakeApp, make_limiter: Callable[..., Limiter]
) -> None:
    app, _ = make()
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(ok)
    assert Client(app).statuses("/", 3) == [200, 200, 429]
    app, _ = make(default_limits="3/minute")
    app.add_middleware(SlowAPIMiddleware, limiter=make_limiter(default_limits="2/minute"))
    app.get("/")(ok)
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_an_application_that_sends_the_same_headers_again_gets_them_unchanged(
    make_limiter: Callable[..., Limiter],
) -> None:
    response = PlainTextResponse("ok")
    before = list(response.raw_headers)

    async def answer(request: Request) -> Response:
        return response

    app = Starlette(routes=[Route("/", answer)])
    app.state.limiter = make_limiter(default_limits="5/minute", headers_enabled=True)
    app.add_middleware(SlowAPIMiddleware)
    assert Client(app).get("/").headers["x-ratelimit-remaining"] == "4"
    assert response.raw_headers == before


class Skipping(SlowAPIMiddleware):
    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path == "/skipped":
            return await call_next(request)
        return await super().dispatch(request, call_next)


def test_a_subclass_may_override_dispatch(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    app = make_app(make_limiter(default_limits="1/minute", headers_enabled=True))
    app.add_middleware(Skipping)
    app.get("/")(ok)
    app.get("/skipped")(lambda: "skipped")
    client = Client(app)
    assert client.get("/").headers["x-ratelimit-limit"] == "1"
    assert client.get("/").status_code == 429
    assert client.statuses("/skipped", 3) == [200] * 3


def test_functions_of_the_module_that_somebody_replaced_are_used(make: MakeApp) -> None:
    app, _ = make()
    app.get("/")(ok)
    client = Client(app)
    with mock.patch.object(slidegate.middleware, "_should_exempt", return_value=True) as exempt:
        assert client.statuses("/", 3) == [200] * 3
    assert exempt.call_args.args[1] is ok
    with mock.patch.object(slidegate.middleware, "_find_route_handler", return_value=None):
        assert client.statuses("/", 3) == [200] * 3
    with mock.patch.object(slidegate.middleware, "_find_route_handler", return_value=ok_async):
        assert client.statuses("/", 3) == [200, 200, 429]
    with mock.patch.object(Limiter, "_check_request_limit") as check:
        assert client.statuses("/", 1) == [200]
    assert check.call_args.args[1:] == (ok, True)


@pytest.mark.parametrize("check_limits", [sync_check_limits, async_check_limits])
def test_a_middleware_of_ones_own_may_check_by_hand(check_limits: Any, make_limiter: Callable[..., Limiter]) -> None:
    limiter = make_limiter(default_limits="1/minute")
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/")(ok)
    app.get("/own")(limiter.limit("5/minute")(ok_async))
    app.get("/free")(limiter.exempt(lambda: "free"))

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        handler = slidegate.middleware._find_route_handler(request.app.routes, request.scope)
        if slidegate.middleware._should_exempt(limiter, handler):
            return await call_next(request)
        checked = check_limits(limiter, request, handler, request.app)
        refused, _ = await checked if asyncio.iscoroutine(checked) else checked
        return refused or await call_next(request)

    client = Client(app)
    assert client.statuses("/", 2) == [200, 429]
    assert client.statuses("/own", 2) == [200, 200]
    assert client.statuses("/free", 2) == [200, 200]
    assert client.statuses("/unknown", 2) == [404, 404]


def test_middleware_of_what_is_mounted_limits_its_routes(make_limiter: Callable[..., Limiter]) -> None:
    def limited(wrap: Callable[[Any, Limiter], Any]) -> list[int]:
        limiter = make_limiter(default_limits=["2/minute"])
        inner = Starlette(routes=[Route("/x", ok_async)])
        return Client(wrap(inner, limiter)).statuses("/m/x", 3)

    def below_mount(inner: Any, limiter: Limiter) -> Any:
        return Starlette(routes=[Mount("/m", SlowAPIMiddleware(inner, limiter=limiter))])

    def of_mount(inner: Any, limiter: Limiter) -> Any:
        middleware = [Middleware(SlowAPIMiddleware, limiter=limiter)]
        return Starlette(routes=[Mount("/m", routes=inner.routes, middleware=middleware)])

    assert limited(below_mount) == [200, 200, 429]
    assert limited(of_mount) == [200, 200, 429]


def test_middleware_around_the_application_answers_refusals(make_limiter: Callable[..., Limiter]) -> None:
    app = Starlette(routes=[Route("/x", ok_async)])
    limiter = make_limiter(default_limits=["2/minute"])
    client = Client(SlowAPIMiddleware(app, limiter=limiter))
    assert client.statuses("/x", 3) == [200, 200, 429]


def test_the_set_of_exempt_routes_can_be_replaced(make: MakeApp) -> None:
    app, limiter = make(default_limits=["1/minute"])
    app.get("/")(ok_async)
    client = Client(app)
    assert client.statuses("/", 2) == [200, 429]
    limiter._exempt_routes = {f"{__name__}.ok_async"}
    assert client.statuses("/", 2) == [200, 200]
    limiter._exempt_routes = set()
    assert client.get("/").status_code == 429


def test_a_bound_method_and_what_wraps_an_exempt_function_are_exempt(make: MakeApp) -> None:
    app, limiter = make(default_limits=["1/minute"])

    class Service:
        @limiter.exempt
        async def serve(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

    async def inner(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    @functools.wraps(inner)
    async def outer(request: Request) -> PlainTextResponse:
        return await inner(request)

    app.get("/bound")(Service().serve)
    app.get("/wrapped")(inner)
    limiter.exempt(outer)
    assert Client(app).statuses("/bound", 3) == [200] * 3
    assert Client(app).statuses("/wrapped", 3) == [200] * 3


def test_many_requests_at_once_for_a_synchronous_endpoint_with_an_awaited_common_limit(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    async def key(request: Request) -> str:
        return await run_in_threadpool(lambda: "everybody")

    limiter = make_limiter(key_func=key, application_limits=["60/minute"])
    app = make_app(limiter)

    @app.get("/")
    @limiter.limit("100/minute", key_func=lambda: "everybody")
    def endpoint(request: Request) -> str:
        return "ok"

    async def run() -> list[int]:
        client = Client(app)
        answers = await asyncio.wait_for(asyncio.gather(*(client.send("GET", "/") for _ in range(80))), 60)
        return [answer.status_code for answer in answers]

    assert sorted(asyncio.run(run())) == [200] * 60 + [429] * 20


def test_a_line_feed_after_a_path_is_no_other_path(make: MakeApp) -> None:
    app, limiter = make()
    app.get("/plain")(ok)
    app.get("/own")(limiter.limit("2/minute")(ok_async))
    client = Client(app)
    for path in ("/plain", "/own"):
        assert [client.get(each).status_code for each in (path, f"{path}%0A", path, f"{path}%0A")] == [
            200,
            200,
            429,
            429,
        ]


class Opaque:
    """Middleware that does not tell what it wraps."""

    def __init__(self, app: ASGIApp) -> None:
        self._hidden = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._hidden(scope, receive, send)


def test_middleware_of_a_mounted_application_finds_its_routes_through_what_hides_them(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(default_limits=["2/minute"])
    mounted = make_app(limiter)
    mounted.add_middleware(Opaque)
    mounted.add_middleware(SlowAPIMiddleware)
    mounted.get("/x")(ok)
    mounted.get("/free")(limiter.exempt(ok_async))
    app = FastAPI()
    app.mount("/sub", mounted)
    client = Client(app)
    assert client.statuses("/sub/x", 3) == [200, 200, 429]
    assert client.statuses("/sub/free", 3) == [200, 200, 200]


@pytest.fixture
def make_known(make: MakeApp) -> MakeApp:
    def make_known(**options: Any) -> tuple[FastAPI, Limiter]:
        app, limiter = make(**{"default_limits": ["5/minute"], "headers_enabled": True, **options})
        app.get("/known")(ok_async)
        app.get("/items/{number}")(ok_async)
        return app, limiter

    return make_known


def remaining(client: Client, path: str = "/known", **options: Any) -> int | None:
    response = client.get(path, **options)
    told = response.headers.get("X-RateLimit-Remaining")
    return None if told is None else int(told)


@pytest.mark.parametrize("path", ["/known", "/items/7"])
def test_a_known_request_is_counted_and_told_of_as_any_other(make_known: MakeApp, path: str) -> None:
    client = Client(make_known()[0])
    assert [remaining(client, path) for _ in range(6)] == [4, 3, 2, 1, 0, 0]
    assert client.get(path).json() == {"error": "Rate limit exceeded: 5 per 1 minute"}


def test_a_known_request_for_a_decorated_endpoint_is_left_to_its_decorator(make_known: MakeApp) -> None:
    app, limiter = make_known()
    app.get("/own")(limiter.limit("2/minute")(ok_async))
    assert Client(app).statuses("/own", 3) == [200, 200, 429]


def test_keys_of_other_functions_are_counted_there_too(make_known: MakeApp) -> None:
    app, _ = make_known(key_func=lambda request: request.headers["user"])
    client = Client(app)
    assert [remaining(client, headers={"user": user}) for user in "aabab"] == [4, 3, 4, 2, 3]


def test_a_head_request_and_an_unknown_path_are_not_mistaken_for_what_is_known(make_known: MakeApp) -> None:
    client = Client(make_known()[0])
    assert [remaining(client) for _ in range(2)] == [4, 3]
    assert client.request("HEAD", "/known").status_code == 405
    assert client.get("/known/").status_code == 307
    assert client.get("/unknown").status_code == 404
    assert remaining(client) == 2


def switch_off(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter.enabled = False


def headers_off(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter._headers_enabled = False


def other_limiter(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.state.limiter = Limiter(limiter._key_func)


def no_default_limits(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter._default_limits = []


def earlier_route(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes.insert(0, Route("/known", limiter.exempt(own_endpoint())))


def replaced_in_place(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes[-2] = Route("/known", limiter.exempt(own_endpoint()))


def other_routes(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes = [Route("/known", limiter.exempt(own_endpoint()))]


def exempted_later(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter.exempt(ok_async)


def exempt_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slidegate.middleware, "_should_exempt", lambda *_: True)


def no_handler_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slidegate.middleware, "_find_route_handler", lambda *_: None)


def no_check_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_check_request_limit", lambda *_: None)


def no_check_by_patch_of_class(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "_check_request_limit", lambda *_: None)


def no_headers_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_inject_asgi_headers", lambda headers, view: headers)


def no_headers_by_patch_of_class(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "_inject_asgi_headers", lambda self, headers, view: headers)


CHANGES = [
    *(switch_off, headers_off, other_limiter, no_default_limits, earlier_route, replaced_in_place, other_routes),
    *(exempted_later, exempt_by_patch, no_handler_by_patch, no_check_by_patch, no_check_by_patch_of_class),
    *(no_headers_by_patch, no_headers_by_patch_of_class),
]


def own_endpoint() -> Any:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return endpoint


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_request_after_a_change_notices_it(
    make_known: MakeApp, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    app, limiter = make_known()
    client = Client(app)
    assert [remaining(client) for _ in range(3)] == [4, 3, 2]
    change(app, limiter, monkeypatch)
    assert remaining(client) is None
    monkeypatch.undo()


@pytest.mark.parametrize("depth", [1, 2])
def test_routes_that_are_added_to_an_included_router_are_noticed(make_known: MakeApp, depth: int) -> None:
    app, limiter = make_known()
    router = inner = APIRouter()
    for _ in range(depth - 1):
        outer = APIRouter()
        outer.include_router(router)
        router = outer
    app.include_router(router)
    app.get("/{rest:path}")(ok_async)
    client = Client(app)
    assert [remaining(client, "/later") for _ in range(3)] == [4, 3, 2]
    inner.get("/later")(limiter.exempt(own_endpoint()))
    # Older versions of FastAPI copy the routes of a router when they include it.
    is_copied = not hasattr(fastapi.routing, "_IncludedRouter")
    assert remaining(client, "/later") == (1 if is_copied else None)


def test_a_root_path_leads_elsewhere(make_known: MakeApp) -> None:
    app, _ = make_known()
    client = Client(app)
    assert [remaining(client) for _ in range(2)] == [4, 3]

    async def behind_proxy(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/proxy", "path": f"/proxy{scope['path']}"}, receive, send)

    assert remaining(Client(behind_proxy)) == 4, "another path, so counted apart"
    assert remaining(client) == 2


def test_what_depends_on_responses_is_still_given_back(make_known: MakeApp) -> None:
    app, limiter = make_known()
    client = Client(app)
    assert [remaining(client) for _ in range(2)] == [4, 3]
    free = limiter.limit("1/minute", deduct_when=lambda response: False)
    app.get("/free")(free(own_endpoint()))
    assert client.statuses("/free", 3) == [200] * 3
    assert remaining(client) == 2


def test_applications_and_limiters_can_be_collected(make_known: MakeApp) -> None:
    app, limiter = make_known()
    client = Client(app)
    assert [remaining(client) for _ in range(3)] == [4, 3, 2]
    gone = [weakref.ref(app), weakref.ref(limiter)]
    del app, limiter, client
    gc.collect()
    assert [each() for each in gone] == [None, None]

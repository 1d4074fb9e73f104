"""What can be decorated, and what a decorated endpoint still is."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from conftest import HAS_STREAMS, Client, talk_to
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Route

from slidegate import ConfigurationError, Limiter, RateLimitExceeded, _rate_limit_exceeded_handler

if TYPE_CHECKING:
    from decimal import Decimal


MakeLimiter = Callable[..., Limiter]


class Question(BaseModel):
    text: str


async def asynchronous_key() -> str:
    return "everybody"


def test_a09_an_endpoint_without_a_request_parameter_is_limited(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.get("/chat")
    @limiter.limit("2/minute")
    async def chat() -> dict[str, str]:
        return {"reply": "Hello."}

    assert client.statuses("/chat", 3) == [200, 200, 429]


@pytest.mark.parametrize("headers_enabled", [False, True])
def test_a09_openapi_is_the_same_as_without_a_limit(
    headers_enabled: bool,
    make_limiter: Callable[..., Limiter],
    make_app: Callable[[Limiter], FastAPI],
) -> None:
    limiter = make_limiter(headers_enabled=headers_enabled)

    async def chat(question: Question, name: str, loud: bool = False) -> Question:
        """Talks."""
        return question

    def events(user: Annotated[str, Depends(asynchronous_key)]) -> Iterator[Question]:
        yield Question(text=user)

    class Greeter:
        """Greets."""

        async def __call__(self, name: str) -> str:
            return name

    def forget(name: str, **more: str) -> None:
        """Returns nothing."""

    plain, limited = make_app(limiter), make_app(limiter)
    for endpoint in (chat, Greeter(), forget, *([events] if HAS_STREAMS else [])):
        path = f"/{getattr(endpoint, '__name__', 'greet')}/{{name}}"
        plain.post(path)(endpoint)
        limited.post(path)(limiter.limit("2/minute")(endpoint))
        plain.put(path)(endpoint)
        limited.put(path)(limiter.limit("2/minute", key_func=asynchronous_key)(endpoint))
    assert limited.openapi() == plain.openapi()


@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a10_headers_come_with_a_dict_or_a_model_and_the_handler_runs_once(
    model: bool,
    is_async: bool,
    make_limiter: Callable[..., Limiter],
    make_app: Callable[[Limiter], FastAPI],
) -> None:
    limiter, runs = make_limiter(headers_enabled=True), []
    app = make_app(limiter)

    def answer() -> Any:
        runs.append(1)
        return Question(text="Why?") if model else {"text": "Why?"}

    async def answer_later() -> Any:
        return answer()

    app.get("/")(limiter.limit("2/minute")(answer_later if is_async else answer))
    response = Client(app).get("/")
    assert (response.status_code, response.json(), len(runs)) == (200, {"text": "Why?"}, 1)
    assert response.headers["X-RateLimit-Limit"] == "2"
    assert response.headers["X-RateLimit-Remaining"] == "1"


def test_a11_request_and_response_parameters_in_the_way_of_slowapi_are_used_as_they_are(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)

    @app.get("/chat")
    @limiter.limit("2/minute")
    async def chat(request: Request, response: Response) -> dict[str, str]:
        response.headers["X-Own"] = "kept"
        return {"path": request.url.path}

    response = Client(app).get("/chat")
    assert response.json() == {"path": "/chat"}
    assert response.headers["X-Own"] == "kept"
    assert response.headers["X-RateLimit-Remaining"] == "1"
    assert list(inspect.signature(chat).parameters) == ["request", "response"]


def test_a11_a_body_may_be_called_request(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.post("/")
    @limiter.limit("2/minute")
    async def ask(request: Question) -> str:
        return request.text

    assert client.post("/", json={"text": "Why?"}).json() == "Why?"


def test_a11_an_annotation_that_only_type_checkers_can_read_is_no_obstacle(limiter: Limiter) -> None:
    @limiter.limit("2/minute")
    async def pay(request: Request, amount: Decimal) -> None: ...

    assert list(inspect.signature(pay).parameters) == ["request", "amount"]


def test_a12_sync_and_async_endpoints_are_limited(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.get("/sync")
    @limiter.limit("2/minute")
    def sync() -> str:
        return "ok"

    @app.get("/async")
    @limiter.limit("2/minute")
    async def async_() -> str:
        return "ok"

    assert client.statuses("/sync", 3) == client.statuses("/async", 3) == [200, 200, 429]


@pytest.mark.skipif(not HAS_STREAMS, reason="this version of FastAPI does not stream what an endpoint yields")
@pytest.mark.parametrize("key_func", [None, asynchronous_key])
def test_a12_generators_are_limited_before_their_first_byte(
    key_func: Any, make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter, begun = make_limiter(headers_enabled=True), []
    app = make_app(limiter)

    @app.get("/sync")
    @limiter.limit("1/minute", key_func=key_func)
    def sync() -> Iterator[Question]:
        begun.append("sync")
        yield from (Question(text=text) for text in ("Why?", "How?"))

    @app.get("/async")
    @limiter.limit("1/minute", key_func=key_func)
    async def async_() -> AsyncIterator[Question]:
        begun.append("async")
        yield Question(text="Why?")
        yield Question(text="How?")

    for path in ("/sync", "/async"):
        first, second = (Client(app).get(path) for _ in range(2))
        assert first.text.split() == ['{"text":"Why?"}', '{"text":"How?"}']
        assert first.headers["X-RateLimit-Remaining"] == "0"
        assert second.status_code == 429
        assert "Retry-After" in second.headers
    assert begun == ["sync", "async"]


@pytest.mark.skipif(HAS_STREAMS, reason="this version of FastAPI streams what an endpoint yields")
@pytest.mark.parametrize("key_func", [None, asynchronous_key])
def test_a12_generators_that_become_lists_are_limited(
    key_func: Any, make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)

    @app.get("/", response_model=None)
    @limiter.limit("1/minute", key_func=key_func)
    def words() -> Iterator[str]:
        yield from ("Why?", "How?")

    first, second = Client(app).get("/"), Client(app).get("/")
    assert first.json() == ["Why?", "How?"]
    assert first.headers["X-RateLimit-Remaining"] == "0"
    assert second.status_code == 429
    assert "Retry-After" in second.headers


def test_a12_a_streaming_response_is_limited_and_streams(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)

    @app.get("/")
    @limiter.limit("1/minute")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b", "c"]))

    first, second = Client(app).get("/"), Client(app).get("/")
    assert (first.text, first.headers["X-RateLimit-Remaining"], second.status_code) == ("abc", "0", 429)


def test_a12_methods_partials_and_callable_objects_are_limited(app: FastAPI, limiter: Limiter, client: Client) -> None:
    class Greeter:
        def __init__(self, word: str) -> None:
            self.word = word

        @limiter.limit("1/minute")
        async def greet(self, name: str) -> str:
            return f"{self.word}, {name}"

        async def __call__(self, name: str, request: Request) -> str:
            return f"{self.word} {request.url.path} {name}"

        @staticmethod
        @limiter.limit("1/minute")
        def below() -> str:
            return "static"

        @limiter.limit("1/minute")
        @classmethod
        def above(cls) -> str:
            return cls.__name__

    async def add(one: int, two: int) -> int:
        return one + two

    app.get("/method")(Greeter("Hello").greet)
    app.get("/object")(limiter.limit("1/minute")(Greeter("Bye")))
    app.get("/static")(Greeter("").below)
    app.get("/class")(Greeter.above)
    app.get("/partial")(limiter.limit("1/minute")(functools.partial(add, two=2)))
    app.get("/bound")(limiter.limit("1/minute")(functools.partial(Greeter("Ho"), name="you")))
    expected = {
        "/method?name=you": "Hello, you",
        "/object?name=you": "Bye /object you",
        "/static": "static",
        "/class": "Greeter",
        "/partial?one=1": 3,
        "/bound": "Ho /bound you",
    }
    for path, answer in expected.items():
        assert client.get(path).json() == answer
        assert client.get(path).status_code == 429, path


def test_a12_plain_starlette_routes_are_limited(limiter: Limiter) -> None:
    @limiter.limit("1/minute")
    async def unannotated(request):  # type: ignore[no-untyped-def]
        return PlainTextResponse(request.url.path)

    @limiter.limit("1/minute")
    def without_request() -> Response:
        return PlainTextResponse("ok")

    class View(HTTPEndpoint):
        @limiter.limit("1/minute")
        async def get(self, request: Request) -> Response:
            return PlainTextResponse(request.method)

    app = Starlette(
        routes=[Route("/a", unannotated), Route("/b", without_request), Route("/c", View)],
        exception_handlers={RateLimitExceeded: _rate_limit_exceeded_handler},
    )
    client = Client(app)
    for path, text in {"/a": "/a", "/b": "ok", "/c": "GET"}.items():
        first, second = client.get(path), client.get(path)
        assert (first.text, second.status_code) == (text, 429)


def test_a12_a_websocket_is_refused_before_it_is_accepted(app: FastAPI, limiter: Limiter) -> None:
    @app.websocket("/talk")
    @limiter.limit("1/minute")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    assert [message["type"] for message in talk_to(app, "/talk")] == ["websocket.accept", "websocket.close"]
    refusal = talk_to(app, "/talk")[0]
    assert (refusal["type"], refusal["status"]) == ("websocket.http.response.start", 429)


def test_somebody_elses_decorator_may_stand_between_two_limits(
    app: FastAPI, limiter: Limiter, client: Client, clock: Any
) -> None:
    runs = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            runs.append(1)
            return await function(*args, **kwargs)

        return wrapper

    @app.get("/")
    @limiter.limit("1/second")
    @counted
    @limiter.limit("2/minute")
    async def index() -> str:
        return "ok"

    statuses = []
    for _ in range(3):
        statuses += client.statuses("/", 2)
        clock.advance(1_000_000_000)
    assert statuses == [200, 429, 200, 429, 429, 429]
    assert len(runs) == 2


@pytest.mark.parametrize("key_func", [None, asynchronous_key])
def test_a_plain_function_that_stands_for_an_async_one_is_awaited_before_its_headers_are_written(
    key_func: Any, make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)

    @app.get("/")
    @limiter.limit("1/minute", key_func=key_func)
    @passed_on
    async def index() -> Response:
        return PlainTextResponse("ok")

    first, second = Client(app).get("/"), Client(app).get("/")
    assert (first.text, first.headers["X-RateLimit-Remaining"], second.status_code) == ("ok", "0", 429)


def test_a_sync_endpoint_stays_in_the_thread_pool_when_its_limit_is_asynchronous(
    app: FastAPI, limiter: Limiter, client: Client
) -> None:
    @app.get("/")
    @limiter.limit("1/minute", key_func=asynchronous_key)
    def index() -> str:
        return "main" if threading.current_thread() is threading.main_thread() else "pool"

    assert client.get("/").json() == "pool"


def test_what_has_to_be_awaited_where_nobody_can_is_an_error_that_says_what_to_do(limiter: Limiter) -> None:
    @limiter.limit("1/minute", key_func=lambda: asynchronous_key())
    def index(request: Request) -> str:
        return "ok"

    with pytest.raises(TypeError, match="declare the endpoint `async def`"):
        index(Request({"type": "http", "path": "/", "client": ("192.0.2.1", 1)}))
    gc.collect()


def test_what_other_decorators_left_on_a_function_stays_on_it(limiter: Limiter) -> None:
    def marked(function: Any) -> Any:
        function.mark = "kept"
        return function

    @limiter.limit("1/second", key_func=asynchronous_key)
    @marked
    @limiter.limit("2/minute")
    def index() -> str:
        return "ok"

    assert index.mark == "kept"  # type: ignore[attr-defined]
    assert (index.__name__, index.__module__) == ("index", __name__)


def test_a_limit_above_the_route_counts_too(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @limiter.limit("1/minute")
    @app.get("/")
    @limiter.limit("5/minute")
    def index() -> str:
        return "ok"

    assert client.statuses("/", 2) == [200, 429]


def test_a_call_without_a_request_is_an_error_that_names_the_endpoint_unless_limits_are_off(limiter: Limiter) -> None:
    @limiter.limit("1/minute")
    def index() -> str:
        return "ok"

    with pytest.raises(TypeError, match=r"index is rate limited and was called without a request"):
        index()
    limiter.enabled = False
    assert index() == "ok"


def test_an_endpoint_that_calls_another_one_is_counted_once(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @limiter.limit("1/minute")
    async def inner(request: Request) -> str:
        return "inner"

    @app.get("/")
    @limiter.limit("5/minute")
    async def outer(request: Request) -> str:
        return await inner(request=request)

    assert client.statuses("/", 6) == [200] * 5 + [429]


def test_an_endpoint_is_limited_beside_its_dependencies(app: FastAPI, make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(application_limits=["4/minute"], headers_enabled=True)

    @limiter.limit("6/minute", key_func=lambda request: request.headers["X-User"])
    async def user(request: Request, response: Response) -> str:
        return request.headers["X-User"]

    @app.get("/{item}")
    @limiter.limit("1/hour")
    async def index(request: Request, response: Response, item: str, name: str = Depends(user)) -> str:
        return name

    client = Client(app)
    assert client.statuses("/1", 2, headers={"X-User": "a"}) == [200, 429]
    assert client.statuses("/2", 2, headers={"X-User": "b"}) == [200, 429]
    last = client.get("/3", headers={"X-User": "a"})
    assert (last.status_code, last.headers.get_list("X-RateLimit-Limit")) == (429, ["4"]), "counted by the dependency"


@pytest.mark.parametrize("root", [["/api"], ["/api", ""]], ids=["kept by the proxy", "taken away by it"])
def test_a_path_with_and_without_the_root_path_is_one(root: list[str], make_limiter: MakeLimiter) -> None:
    limiter = make_limiter()
    app = FastAPI()
    app.root_path = "/api"
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/items")
    @limiter.limit("2/minute")
    async def items(request: Request) -> str:
        return "ok"

    client = Client(app)
    assert [client.get(f"{root[at % len(root)]}/items").status_code for at in range(4)] == [200, 200, 429, 429]
    assert client.get("/apis").status_code == 404


def test_a_head_counts_as_what_serves_it(limiter: Limiter) -> None:
    @limiter.limit("1/minute", methods=["GET"])
    async def index(request: Request) -> Response:
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", index)], exception_handlers={RateLimitExceeded: _rate_limit_exceeded_handler})  # type: ignore[dict-item]
    app.state.limiter = limiter
    client = Client(app)
    assert [client.request(method, "/").status_code for method in ("HEAD", "HEAD", "GET")] == [200, 429, 429]


def test_a_class_cannot_be_decorated(limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match="decorate functions and methods"):

        @limiter.limit("1/minute")
        class View(HTTPEndpoint):
            pass

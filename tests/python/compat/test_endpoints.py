"""What a limit needs from the endpoint that it is for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from compat.library import Library, attempt, differs, same

LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining")


class Answer(BaseModel):
    text: str


async def in_async_without_request(name: str = "x") -> str:
    return name


def in_sync_without_request(name: str = "x") -> str:
    return name


@pytest.mark.parametrize("endpoint", [in_async_without_request, in_sync_without_request])
def test_a09_an_endpoint_needs_no_request_parameter(endpoint: Callable[..., Any], library: Library) -> None:
    def statuses_and_schema() -> tuple[list[int], bool]:
        limiter = library.limiter()
        app, plain = library.app(limiter), FastAPI()
        app.get("/items")(limiter.limit("1/minute")(endpoint))
        plain.get("/items")(endpoint)
        return Client(app).statuses("/items", 2), app.openapi() == plain.openapi()

    assert attempt(statuses_and_schema) == library.expected(
        differs(slowapi="Exception", slidegate=([200, 429], True), difference="optional-parameters")
    )


@pytest.mark.parametrize("parameter", ["req", "r"])
def test_a09_the_request_parameter_may_have_any_name(parameter: str, library: Library) -> None:
    def statuses() -> list[int]:
        limiter = library.limiter()
        app = library.app(limiter)
        namespace: dict[str, Any] = {"Request": Request}
        exec(f"async def items({parameter}: Request) -> str:\n    return {parameter}.url.path", namespace)
        app.get("/items")(limiter.limit("1/minute")(namespace["items"]))
        return Client(app).statuses("/items", 2)

    assert attempt(statuses) == library.expected(
        differs(slowapi="Exception", slidegate=[200, 429], difference="optional-parameters")
    )


@pytest.mark.parametrize("answer", [{"text": "a"}, Answer(text="a"), ["a"], "a", None])
@pytest.mark.parametrize("is_async", [False, True])
def test_a10_headers_need_no_response_parameter(is_async: bool, answer: Any, library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)
    runs = []

    def in_pool(request: Request) -> Any:
        runs.append(1)
        return answer

    async def on_loop(request: Request) -> Any:
        runs.append(1)
        return answer

    app.get("/items")(limiter.limit("5/minute")(on_loop if is_async else in_pool))
    response = Client(app).get("/items")
    told = (response.status_code, [response.headers.get(name) for name in LIMIT_HEADERS], len(runs))
    assert told == library.expected(
        differs(slowapi=(500, [None, None], 1), slidegate=(200, ["5", "4"], 1), difference="optional-parameters")
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_a10_headers_are_written_into_a_returned_response(is_async: bool, library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)

    def in_pool(request: Request) -> Response:
        return PlainTextResponse("a")

    async def on_loop(request: Request) -> Response:
        return PlainTextResponse("a")

    app.get("/items")(limiter.limit("5/minute")(on_loop if is_async else in_pool))
    response = Client(app).get("/items")
    told = (response.status_code, [response.headers.get(name) for name in LIMIT_HEADERS])
    assert told == library.expected(same((200, ["5", "4"])))


def test_a11_the_request_and_response_parameters_of_slowapi_are_used(library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)

    @app.get("/items/{number}", status_code=201, response_model=Answer)
    @limiter.limit("5/minute")
    async def items(request: Request, response: Response, number: int, loud: bool = False) -> Any:
        """Items by number."""
        response.headers["X-Own"] = request.url.path
        return {"text": str(number)}

    response = Client(app).get("/items/7")
    told = (
        response.status_code,
        response.json(),
        response.headers["X-Own"],
        [response.headers.get(name) for name in LIMIT_HEADERS],
        list(inspect.signature(items).parameters),
        (items.__name__, items.__doc__),
    )
    assert told == library.expected(
        same(
            (
                *(201, {"text": "7"}, "/items/7", ["5", "4"]),
                *(["request", "response", "number", "loud"], ("items", "Items by number.")),
            )
        )
    )


def test_a11_the_openapi_document_is_that_of_the_undecorated_endpoint(library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app, plain = library.app(limiter), FastAPI()

    async def items(request: Request, response: Response, number: int, body: Answer) -> Answer:
        return body

    app.post("/items/{number}")(limiter.limit("5/minute")(items))
    plain.post("/items/{number}")(items)
    assert (app.openapi() == plain.openapi()) == library.expected(same(True))


def test_a11_a_decorated_function_may_be_called_by_hand(library: Library) -> None:
    limiter = library.limiter()

    @limiter.limit("1/minute")
    def items(request: Request, number: int) -> int:
        return number

    def request() -> Request:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
        return Request(scope)

    outcomes = [items(request(), 1), attempt(lambda: items(request=request(), number=2))]
    limiter.enabled = False
    outcomes.append(items(request(), 3))
    assert outcomes == library.expected(same([1, "RateLimitExceeded", 3]))

"""Limits that cannot be read, and the handlers of refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from compat.apps import client_of, endpoint
from compat.library import Library, attempt, differs, same


def raising(error: type[Exception]) -> Callable[[], Any]:
    def fail() -> Any:
        raise error("no limit today")

    return fail


NONE: dict[str, Callable[[], Any]] = {"returns an empty string": lambda: "", "returns None": lambda: None}
FAILING: dict[str, Callable[[], Any]] = {
    "raises ValueError": raising(ValueError),
    "returns nonsense": lambda: "10/minuet",
    "returns a number": lambda: 5,
}


@pytest.mark.parametrize("limit", [*FAILING.values(), *NONE.values()], ids=[*FAILING, *NONE])
def test_a26_instead_of_a_dynamic_limit_that_fails_the_default_applies(
    limit: Callable[[], Any], library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = library.limiter(default_limits=["2/minute"])
    statuses = client_of(library, limit, limiter).statuses("/items", 3)
    # With nothing left to override them, slowapi applies the defaults here too.
    assert statuses == library.expected(same([200, 200, 429]))
    assert any(record.levelno == logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("limit", FAILING.values(), ids=list(FAILING))
def test_a26_a_dynamic_limit_that_fails_without_a_default_is_an_error(
    limit: Callable[[], Any], library: Library
) -> None:
    assert client_of(library, limit).statuses("/items", 3) == library.expected(
        differs(slowapi=[200] * 3, slidegate=[500] * 3, difference="no-limit-is-lost")
    )


@pytest.mark.parametrize("limit", NONE.values(), ids=list(NONE))
def test_a26_a_dynamic_limit_that_is_none_without_a_default_is_no_limit(
    limit: Callable[[], Any], library: Library
) -> None:
    assert client_of(library, limit).statuses("/items", 3) == library.expected(same([200] * 3))


def test_a26_a_dynamic_limit_that_raises_anything_falls_back_too(library: Library) -> None:
    limiter = library.limiter(default_limits=["2/minute"])
    assert client_of(library, raising(RuntimeError), limiter).statuses("/items", 3) == library.expected(
        differs(slowapi=[500] * 3, slidegate=[200, 200, 429], difference="no-limit-is-lost")
    )


def test_a26_a_second_limit_that_fails_does_not_lift_the_default(library: Library) -> None:
    limiter = library.limiter(default_limits=["2/minute"])
    app = library.app(limiter)
    app.get("/items")(limiter.limit("9/minute")(limiter.limit(raising(ValueError))(endpoint)))
    assert Client(app).statuses("/items", 3) == library.expected(
        differs(slowapi=[200] * 3, slidegate=[200, 200, 429], difference="no-limit-is-lost")
    )


@pytest.mark.parametrize("notation", ["10/minuet", "ten/minute", ""])
def test_a27_a_typo_in_a_limit_is_an_error_where_it_is_declared(notation: str, library: Library) -> None:
    def declared_or_error() -> Any:
        return client_of(library, notation).statuses("/items", 2)

    assert attempt(declared_or_error) == library.expected(
        differs(slowapi=[200, 200], slidegate="ConfigurationError", difference="typos-are-errors")
    )


def test_a27_a_limit_of_zero_refuses_everything(library: Library) -> None:
    assert client_of(library, "0/minute").statuses("/items", 2) == library.expected(same([429, 429]))


def test_a27_the_error_names_the_endpoint_and_what_was_written(library: Library) -> None:
    def message() -> str | None:
        try:
            library.limiter().limit("10/minuet")(endpoint)
        except ValueError as error:
            return str(error)
        return None

    named = [(word in (message() or "")) for word in ("endpoint", "10/minuet")]
    assert named == library.expected(
        differs(slowapi=[False, False], slidegate=[True, True], difference="typos-are-errors")
    )


@pytest.mark.parametrize("argument", ["default_limits", "application_limits"])
def test_a27_a_typo_in_the_limits_of_a_limiter_is_an_error_at_once(
    argument: str, library: Library, middleware: str
) -> None:
    def statuses() -> list[int]:
        app = library.app(library.limiter(**{argument: ["10/minuet"]}), middleware)
        app.get("/items")(endpoint)
        return Client(app).statuses("/items", 2)

    assert attempt(statuses) == library.expected(
        differs(slowapi=[500, 500], slidegate="ConfigurationError", difference="typos-are-errors")
    )


@pytest.mark.parametrize("argument", ["default_limits", "application_limits"])
def test_a27_one_string_is_accepted_for_a_list_of_limits(argument: str, library: Library, middleware: str) -> None:
    app = library.app(library.limiter(**{argument: "1/minute"}), middleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 2) == library.expected(
        differs(slowapi=[500, 500], slidegate=[200, 429], difference="one-string-is-a-list")
    )


@pytest.mark.parametrize("notation", ["2/minute", "2 per minute", "2 per 1 minute", "9/second;2/minute", "2/1minute"])
def test_a27_the_notation_of_limits_is_accepted(notation: str, library: Library) -> None:
    assert client_of(library, notation).statuses("/items", 3) == library.expected(same([200, 200, 429]))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_decorated", [False, True])
def test_a28_the_exception_handler_runs(is_decorated: bool, is_async: bool, library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)

    def at_once(request: Request, exc: Exception) -> Response:
        return PlainTextResponse(f"own: {getattr(exc, 'detail', None)}", 418)

    async def awaited(request: Request, exc: Exception) -> Response:
        return at_once(request, exc)

    app.add_exception_handler(library.RateLimitExceeded, awaited if is_async else at_once)
    app.get("/items")(limiter.limit("1/minute")(endpoint) if is_decorated else endpoint)
    client = Client(app)
    client.get("/items")
    response = client.get("/items")
    own = (418, "own: 1 per 1 minute")
    if is_async and not is_decorated and middleware == "SlowAPIMiddleware":
        default = (429, '{"error":"Rate limit exceeded: 1 per 1 minute"}')
        expected = differs(slowapi=default, slidegate=own, difference="exception-handlers")
    else:
        expected = same(own)
    assert (response.status_code, response.text) == library.expected(expected)


@pytest.mark.parametrize("registered", [429, HTTPException])
def test_a28_the_handler_of_the_status_runs(registered: Any, library: Library, middleware: str) -> None:
    app = FastAPI()
    app.state.limiter = library.limiter(default_limits=["1/minute"])
    app.add_middleware(getattr(library, middleware))

    async def own(request: Request, exc: Exception) -> Response:
        return PlainTextResponse("own", 418)

    app.add_exception_handler(registered, own)
    app.get("/items")(endpoint)
    # Every application has a handler for HTTPException: that one is not for refusals.
    expected = (
        differs(slowapi=[200, 429], slidegate=[200, 418], difference="exception-handlers")
        if registered == 429
        else same([200, 429])
    )
    assert Client(app).statuses("/items", 2) == library.expected(expected)

"""What slowapi does and has to stay: bodies, headers, and what requests and exceptions tell."""

from __future__ import annotations

import logging
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.conftest import Wall
from compat.library import Library, differs, same

NAMES = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


def client_of(library: Library, limit: Any, limiter: Any = None, **options: Any) -> Client:
    """A client of an application that has this limit on /items."""
    limiter = limiter or library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit(limit, **options)(endpoint))
    return Client(app)


@pytest.mark.parametrize(
    ("limit", "detail"),
    [
        ("1/minute", "1 per 1 minute"),
        ("1 per 2 hours", "1 per 2 hour"),
        ("1/day", "1 per 1 day"),
        ("9/minute;1/hour", "1 per 1 hour"),
    ],
)
def test_the_body_of_a_refusal(limit: str, detail: str, library: Library) -> None:
    client = client_of(library, limit)
    client.get("/items")
    response = client.get("/items")
    assert (response.status_code, response.headers["Content-Type"], response.text) == library.expected(
        same((429, "application/json", f'{{"error":"Rate limit exceeded: {detail}"}}'))
    )


def test_without_a_handler_a_refusal_is_an_http_error_with_the_detail(library: Library) -> None:
    from fastapi import FastAPI

    limiter = library.limiter()
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    client = Client(app)
    client.get("/items")
    response = client.get("/items")
    assert (response.status_code, response.json()) == library.expected(same((429, {"detail": "1 per 1 minute"})))


def test_without_headers_enabled_only_a_refusal_says_when_to_come_back(library: Library, wall: Wall) -> None:
    client = client_of(library, "1/minute")
    told = [[response.headers.get(name) for name in NAMES] for response in (client.get("/items"), client.get("/items"))]
    assert told == library.expected(
        differs(
            slowapi=[[None] * 4] * 2,
            slidegate=[[None] * 4, [None, None, None, "60"]],
            difference="retry-after-on-refusals",
        )
    )


def test_the_headers_tell_amount_and_rest(library: Library) -> None:
    client = client_of(library, "2/minute", library.limiter(headers_enabled=True))
    responses = [client.get("/items") for _ in range(3)]
    told = [[response.headers[name] for name in NAMES[:2]] for response in responses]
    assert told == library.expected(same([["2", "1"], ["2", "0"], ["2", "0"]]))


@pytest.mark.parametrize("options", [{}, {"retry_after_on_success": True}])
def test_the_headers_tell_when(options: dict[str, Any], library: Library, wall: Wall) -> None:
    if library.name == "slowapi":
        options = {}
    client = client_of(library, "2/minute", library.limiter(headers_enabled=True, **options))
    responses = [client.get("/items") for _ in range(3)]
    told = [tuple(response.headers.get(name) for name in NAMES[2:]) for response in responses]
    reset = int(wall.now_s) + 60
    on_success = "60" if options else None
    assert told == library.expected(
        differs(
            slowapi=[(f"{reset + 1}.0", "61")] * 3,
            slidegate=[(str(reset), on_success)] * 2 + [(str(reset), "60")],
            difference="whole-seconds-in-headers",
        )
    )


def test_retry_after_may_be_a_date(library: Library, wall: Wall) -> None:
    client = client_of(library, "1/minute", library.limiter(headers_enabled=True, retry_after="http-date"))
    client.get("/items")
    told = parsedate_to_datetime(client.get("/items").headers["Retry-After"]).timestamp() - wall.now_s
    assert told == library.expected(differs(slowapi=61, slidegate=60, difference="whole-seconds-in-headers"))


def test_the_later_retry_after_of_a_response_is_kept(library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("1/minute")
    async def items(request: Request) -> Response:
        return PlainTextResponse("busy", 503, headers={"Retry-After": "3600"})

    assert Client(app).get("/items").headers["Retry-After"] == library.expected(same("3600"))


def test_the_headers_are_about_one_limit_of_several(library: Library) -> None:
    client = client_of(library, "100/minute; 2/hour", library.limiter(headers_enabled=True))
    told = [client.get("/items").headers["X-RateLimit-Limit"] for _ in range(3)]
    # slowapi tells of the shortest window until another one refuses.
    assert told == library.expected(
        differs(slowapi=["100", "100", "2"], slidegate=["2", "2", "2"], difference="headers-of-the-scarcest-limit")
    )


@pytest.mark.parametrize("prefix", ["", "p"])
def test_the_state_of_a_request_has_the_limit_the_key_and_the_scope(prefix: str, library: Library) -> None:
    seen = []
    limiter = library.limiter(key_prefix=prefix)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("5/minute")
    async def items(request: Request) -> Response:
        item, identifiers = request.state.view_rate_limit
        seen.append((item.amount, item.multiples, item.GRANULARITY.name, list(identifiers)))
        seen.append(request.state._rate_limiting_complete in (True, limiter))
        return PlainTextResponse("ok")

    Client(app).get("/items")
    identifiers = [prefix, "192.0.2.1", "/items"] if prefix else ["192.0.2.1", "/items"]
    assert seen[0] == library.expected(same((5, 1, "minute", identifiers)))


@pytest.mark.parametrize(
    "options", [{"per_method": True}, {"scope": "shop"}, {"methods": ["GET"]}, {"cost": 2}], ids=str
)
@pytest.mark.parametrize("key_style", ["url", "endpoint"])
def test_what_is_left_can_be_read_by_the_state_of_a_request(
    key_style: str, options: dict[str, Any], library: Library
) -> None:
    limiter = library.limiter(key_style=key_style)
    app = library.app(limiter)
    decorate = limiter.shared_limit if "scope" in options else limiter.limit

    @app.get("/items")
    @decorate("5/minute", **options)
    async def items(request: Request) -> Response:
        item, identifiers = request.state.view_rate_limit
        return PlainTextResponse(str(limiter.limiter.get_window_stats(item, *identifiers)[1]))

    client = Client(app)
    assert [client.get("/items").text for _ in range(2)] == library.expected(
        same(["3", "1"] if "cost" in options else ["4", "3"])
    )


def test_a_request_that_is_not_limited_has_no_limit_in_its_state(library: Library) -> None:
    seen = []
    limiter = library.limiter()
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("5/minute", exempt_when=lambda: True)
    async def items(request: Request) -> Response:
        seen.append(request.state.view_rate_limit)
        return PlainTextResponse("ok")

    assert (Client(app).get("/items").status_code, seen) == library.expected(same((200, [None])))


def test_a_refusal_is_logged_as_a_warning(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(library, "1/minute")
    client.get("/items")
    caplog.clear()
    client.get("/items")
    told = [(record.levelno, record.getMessage(), record.name.split(".")[0]) for record in caplog.records]
    text = "ratelimit 1 per 1 minute (192.0.2.1) exceeded at endpoint: /items"
    assert [each for each in told if each[2] == library.name] == [(logging.WARNING, text, library.name)]


def test_a_handler_of_ones_own_gets_the_exception(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.exception_handler(library.RateLimitExceeded)
    async def own(request: Request, exc: Any) -> Response:
        item = exc.limit.limit
        told = (exc.status_code, exc.detail, item.amount, item.get_expiry(), exc.limit.error_message)
        return PlainTextResponse(repr(told), 418)

    app.get("/items")(limiter.limit("1/minute")(endpoint))
    client = Client(app)
    client.get("/items")
    response = client.get("/items")
    assert (response.status_code, response.text) == library.expected(
        same((418, repr((429, "1 per 1 minute", 1, 60, None))))
    )


def test_a46_body_and_handler_can_tell_limit_scope_unit_and_reset(library: Library, wall: Wall) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.exception_handler(library.RateLimitExceeded)
    async def own(request: Request, exc: Any) -> Response:
        item, identifiers = request.state.view_rate_limit
        reset, remaining = limiter.limiter.get_window_stats(item, *identifiers)
        told = (item.amount, item.GRANULARITY.name, identifiers[-1], round(reset - wall.now_s), remaining)
        return PlainTextResponse(repr(told), 429)

    app.get("/items")(limiter.limit("1/minute")(endpoint))
    client = Client(app)
    client.get("/items")
    wall.advance(10)
    assert client.get("/items").text == library.expected(same(repr((1, "minute", "/items", 50, 0))))


def test_a46_the_exception_itself_tells_limit_scope_unit_and_reset(library: Library, wall: Wall) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.exception_handler(library.RateLimitExceeded)
    async def own(request: Request, exc: Any) -> Response:
        if not hasattr(exc, "decision"):
            return PlainTextResponse("unknown", 429)
        decision = exc.decision
        told = (decision.limit, decision.window_s, decision.scope, decision.key, decision.retry_after_s)
        return PlainTextResponse(repr(told), 429)

    app.get("/items")(limiter.shared_limit("1/minute", scope="shop")(endpoint))
    client = Client(app)
    client.get("/items")
    wall.advance(10)
    assert client.get("/items").text == library.expected(
        differs(slowapi="unknown", slidegate=repr((1, 60, "shop", "192.0.2.1", 50)), difference="additions")
    )

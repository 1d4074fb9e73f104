"""What a refused client gets, and what handlers can tell it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from limits import RateLimitItem, parse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from slidegate import Limiter, RateLimitExceeded
from slidegate.testing import ManualClock, advance
from slidegate.wrappers import Limit

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


def test_a07_a_refusal_is_slowapis_429(app: FastAPI, limiter: Limiter, client: Client) -> None:
    app.get("/")(limiter.limit("10/minute")(lambda: "ok"))
    assert client.statuses("/", 10) == [200] * 10
    response = client.get("/")
    assert response.status_code == 429
    assert response.content == b'{"error":"Rate limit exceeded: 10 per 1 minute"}'


def test_a07_a_refusal_passes_through_cors(app: FastAPI, limiter: Limiter, client: Client) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"])
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    answers = [client.get("/", headers={"Origin": "https://example.com"}) for _ in range(2)]
    assert [(answer.status_code, answer.headers["Access-Control-Allow-Origin"]) for answer in answers] == [
        (200, "https://example.com"),
        (429, "https://example.com"),
    ]


@pytest.mark.parametrize("headers_enabled", [False, True])
def test_without_the_handler_a_refusal_is_still_a_429_with_retry_after(
    headers_enabled: bool, make_limiter: MakeLimiter
) -> None:
    limiter, app = make_limiter(headers_enabled=headers_enabled), FastAPI()
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    Client(app).get("/")
    response = Client(app).get("/")
    assert (response.status_code, response.json()) == (429, {"detail": "1 per 1 minute"})
    assert response.headers["Retry-After"] == "60"
    assert ("X-RateLimit-Limit" in response.headers) == headers_enabled


def test_the_handler_works_for_an_application_that_does_not_know_the_limiter(
    app: FastAPI, limiter: Limiter, client: Client
) -> None:
    del app.state.limiter
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    assert client.statuses("/", 2) == [200, 429]
    assert client.get("/").headers["Retry-After"] == "60"


@pytest.mark.parametrize("is_async", [False, True])
def test_a46_a_handler_can_tell_which_limit_whose_and_when_to_come_back(
    is_async: bool, app: FastAPI, limiter: Limiter, client: Client, clock: ManualClock
) -> None:
    def told(request: Request, error: Exception) -> Response:
        assert isinstance(error, RateLimitExceeded)
        decision = error.decision
        assert decision is not None
        return JSONResponse(
            {
                "limit": decision.limit,
                "window_s": decision.window_s,
                "unit": decision.item.GRANULARITY.name,
                "key": decision.key,
                "scope": decision.scope,
                "remaining": decision.remaining,
                "retry_after_s": decision.retry_after_s,
                "reset_after_s": decision.reset_after_s,
            },
            status_code=429,
        )

    async def told_later(request: Request, error: Exception) -> Response:
        return told(request, error)

    app.add_exception_handler(RateLimitExceeded, told_later if is_async else told)
    app.get("/chat")(limiter.shared_limit("3 per 2 hours", "chat")(lambda: "ok"))
    client.get("/chat")
    advance(clock, seconds=60)
    client.statuses("/chat", 2)
    assert client.get("/chat").json() == {
        "limit": 3,
        "window_s": 7200,
        "unit": "hour",
        "key": "192.0.2.1",
        "scope": "chat",
        "remaining": 0,
        "retry_after_s": 7140,
        "reset_after_s": 7200,
    }


def test_the_exception_is_what_slowapi_raises(app: FastAPI, limiter: Limiter, client: Client) -> None:
    raised: list[Any] = []

    @app.exception_handler(RateLimitExceeded)
    async def keep(request: Request, error: RateLimitExceeded) -> Response:
        raised.append(error)
        return Response(status_code=429)

    app.get("/")(limiter.limit("10/minute", cost=lambda: 11)(lambda: "ok"))
    client.get("/")
    (error,) = raised
    assert isinstance(error, HTTPException)
    assert isinstance(error.limit, Limit)
    assert isinstance(error.limit.limit, RateLimitItem)
    assert (error.status_code, str(error.limit.limit)) == (429, "10 per 1 minute")
    assert error.detail == "10 per 1 minute; the request costs more than that, so that it never fits"
    assert error.decision.retry_after_ns is None


def test_an_exception_made_by_hand_has_the_message_of_its_limit() -> None:
    def limit_with(error_message: Any) -> Limit:
        return Limit(parse("5/minute"), str, None, False, None, error_message, None, 1, True)

    assert RateLimitExceeded(limit_with(None)).detail == "5 per 1 minute"
    assert RateLimitExceeded(limit_with("Slow down.")).detail == "Slow down."
    assert RateLimitExceeded(limit_with(lambda: "Please.")).detail == "Please."


def test_an_error_message_replaces_the_notation(app: FastAPI, limiter: Limiter, client: Client) -> None:
    app.get("/")(limiter.limit("1/minute", error_message="Slow down.")(lambda: "ok"))
    client.get("/")
    assert client.get("/").json() == {"error": "Rate limit exceeded: Slow down."}


def test_refusals_are_logged_as_by_slowapi_and_keys_cannot_forge_lines(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    key = "eve"
    limiter = make_limiter(key_func=lambda: key)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    Client(app).statuses("/", 2)
    key = "eve\nratelimit" + "!" * 1000
    Client(app).statuses("/", 2)
    assert caplog.messages[0] == "ratelimit 1 per 1 minute (eve) exceeded at endpoint: /"
    assert "\n" not in caplog.messages[1]
    assert len(caplog.messages[1]) < 300


def test_refusals_print_nothing_where_logging_is_not_configured(
    app: FastAPI, limiter: Limiter, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    assert client.statuses("/", 2) == [200, 429]
    assert capsys.readouterr().err == ""

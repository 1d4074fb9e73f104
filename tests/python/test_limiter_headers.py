"""What responses tell about limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from limits import parse
from starlette.datastructures import MutableHeaders

from slidegate import ConfigurationError, Limiter
from slidegate.testing import ManualClock, advance

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]
NOW_S = 1_700_000_000.25


@pytest.fixture(autouse=True)
def _wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW_S)


@pytest.fixture
def told(make_limiter: MakeLimiter, make_app: MakeApp) -> Callable[..., list[Any]]:
    """The responses to some calls of an endpoint with a limit, under the given options of its limiter."""

    def call(times: int, limit: Any = "2/minute", *, endpoint: Any = lambda: "ok", **options: Any) -> list[Any]:
        limiter = make_limiter(**{"headers_enabled": True, **options})
        app = make_app(limiter)
        app.get("/")(limiter.limit(limit)(endpoint))
        return [Client(app).get("/") for _ in range(times)]

    return call


def limits_told(response: Any) -> list[str | None]:
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")
    return [response.headers.get(name) for name in names]


@pytest.mark.parametrize("limit", ["2/minute", lambda: "2/minute"])
def test_every_limited_response_tells_limit_remaining_and_reset(limit: Any, told: Callable[..., list[Any]]) -> None:
    # The window ends 60 s after a quarter past the second, which is told as the next whole second.
    reset = "1700000061"
    assert [limits_told(response) for response in told(3, limit)] == [
        ["2", "1", reset, None],
        ["2", "0", reset, None],
        ["2", "0", reset, "60"],
    ]


@pytest.mark.parametrize(
    "make_response",
    [lambda: {"a": 1}, lambda: PlainTextResponse("a"), lambda: Response(status_code=204)],
    ids=["dict", "text", "empty"],
)
def test_whatever_an_endpoint_returns_carries_the_headers_once(
    make_response: Callable[[], Any], told: Callable[..., list[Any]]
) -> None:
    (response,) = told(1, endpoint=make_response)
    assert response.headers.get_list("X-RateLimit-Limit") == ["2"]


def test_headers_are_off_by_default_but_a_refusal_says_when_to_come_back(told: Callable[..., list[Any]]) -> None:
    admitted, refused = told(2, "1/minute", headers_enabled=False)
    assert limits_told(admitted) == [None] * 4
    assert limits_told(refused) == [None] * 3 + ["60"]


def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    client = Client(app)
    client.get("/")
    waits = []
    for passed_s in (0, 0.5, 58.4, 0.9, 0.15):
        advance(clock, seconds=passed_s)
        waits.append(client.get("/").headers["Retry-After"])
    assert waits == ["60", "60", "2", "1", "1"]
    advance(clock, seconds=0.05)
    assert client.get("/").status_code == 200


def test_retry_after_can_be_told_on_success_too(told: Callable[..., list[Any]]) -> None:
    admitted, refused = told(2, "1/minute", retry_after_on_success=True)
    assert admitted.headers["Retry-After"] == refused.headers["Retry-After"] == "60"


def test_retry_after_can_be_a_date(told: Callable[..., list[Any]]) -> None:
    *_, refused = told(2, "1/minute", retry_after="http-date")
    assert refused.headers["Retry-After"] == "Tue, 14 Nov 2023 22:14:21 GMT"
    assert parsedate_to_datetime(refused.headers["Retry-After"]).timestamp() == 1_700_000_061


def test_headers_may_have_other_names(told: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for header in ("LIMIT", "REMAINING", "RESET", "RETRY_AFTER"):
        monkeypatch.setenv(f"RATELIMIT_HEADER_{header}", f"X-My-{header}")
    *_, refused = told(2, "1/minute")
    assert limits_told(refused) == [None] * 4
    names = ("LIMIT", "REMAINING", "RESET", "RETRY_AFTER")
    assert [refused.headers[f"X-My-{name}"] for name in names] == ["1", "0", "1700000061", "60"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [("5", "60"), ("120", "120"), ("Tue, 14 Nov 2023 22:15:20 GMT", "120"), ("soon", "60")],
)
def test_a_response_that_tells_retry_after_itself_keeps_the_later_one(
    own: str, expected: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)

    @app.exception_handler(429)
    async def refused(request: Request, error: Exception) -> Response:
        response = PlainTextResponse("", 429, headers={"Retry-After": own})
        return limiter._inject_headers(response, request.state.view_rate_limit)

    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    assert [Client(app).get("/").headers.get("Retry-After") for _ in range(2)] == [None, expected]


def test_of_several_limits_the_decisive_one_is_told(told: Callable[..., list[Any]]) -> None:
    (response,) = told(1, "100/hour; 2/minute")
    assert limits_told(response)[:2] == ["2", "1"]


@pytest.mark.parametrize("headers_enabled", [False, True])
@pytest.mark.parametrize("key_prefix", ["", "app"])
@pytest.mark.parametrize("limit", ["2/minute", lambda: "2/minute"], ids=["static", "dynamic"])
def test_the_state_of_a_request_has_the_limit_and_its_identifiers_as_with_slowapi(
    limit: Any, key_prefix: str, headers_enabled: bool, told: Callable[..., list[Any]]
) -> None:
    seen: list[Any] = []

    async def index(request: Request) -> str:
        seen.append((request.state.view_rate_limit, request.state._rate_limiting_complete))
        return "ok"

    told(1, limit, endpoint=index, key_prefix=key_prefix, headers_enabled=headers_enabled)
    (((item, identifiers), is_complete),) = seen
    assert item == parse("2/minute")
    assert identifiers == [key_prefix, "192.0.2.1", "/"][not key_prefix :]
    assert is_complete


def test_the_state_of_a_request_that_no_limit_applies_to_says_so(told: Callable[..., list[Any]]) -> None:
    seen: list[Any] = []

    async def index(request: Request) -> str:
        seen.append(request.state.view_rate_limit)
        return "ok"

    told(1, endpoint=index, key_func=lambda: None, on_missing_key="skip")
    assert seen == [None]


def test_headers_can_be_written_from_the_state_of_a_request_or_from_identifiers(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(headers_enabled=True)
    app = make_app(limiter)
    app.get("/")(limiter.limit("5/minute")(lambda: "ok"))
    Client(app).get("/")
    written = limiter._inject_asgi_headers(MutableHeaders(), (parse("5/minute"), ["192.0.2.1", "/"]))
    assert written["X-RateLimit-Remaining"] == "4"
    assert "Retry-After" not in written
    assert not limiter._inject_asgi_headers(MutableHeaders(), None)
    untouched = make_limiter(headers_enabled=True, retry_after_on_success=True)
    written = untouched._inject_asgi_headers(MutableHeaders(), (parse("5/minute"), ["192.0.2.1", "/"]))
    assert (written["X-RateLimit-Remaining"], written["Retry-After"]) == ("5", "1")
    limiter.enabled = False
    assert not limiter._inject_asgi_headers(MutableHeaders(), (parse("5/minute"), ["192.0.2.1", "/"]))
    with pytest.raises(TypeError, match="must be an instance of starlette"):
        limiter._inject_headers(None, None)  # type: ignore[arg-type]


def test_an_unknown_form_of_retry_after_is_an_error(make_limiter: MakeLimiter) -> None:
    with pytest.raises(ConfigurationError, match="retry_after='minutes' is none of None, 'delta-seconds', 'http-date'"):
        make_limiter(retry_after="minutes")

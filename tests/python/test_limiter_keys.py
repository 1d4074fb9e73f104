"""Who is limited."""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request

from slidegate import ConfigurationError, Limiter
from slidegate.util import get_ipaddr, get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


def request_from(client: tuple[str | None, int] | None, **headers: str) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "path": "/", "headers": raw, "client": client})


@pytest.mark.parametrize(
    ("on_missing_key", "expected"),
    [("shared", [200, 429, 429]), ("refuse", [429, 429, 429]), ("skip", [200, 200, 200])],
)
@pytest.mark.parametrize("missing", [None, "", b""])
@pytest.mark.parametrize("is_plain", [False, True], ids=["with callables", "plain"])
def test_a31_a_missing_key_is_left_to_the_policy_with_one_warning(
    missing: Any,
    on_missing_key: str,
    expected: list[int],
    is_plain: bool,
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make_limiter(key_func=lambda: missing, on_missing_key=on_missing_key)
    app = make_app(limiter)
    cost = 1 if is_plain else lambda: 1
    app.get("/")(limiter.limit("1/minute", cost=cost)(lambda: "ok"))
    assert Client(app).statuses("/", 3) == expected
    warnings = [message for message in caplog.messages if "found no key" in message]
    assert len(warnings) == 1
    assert f"on_missing_key={on_missing_key!r}" in warnings[0]


@pytest.mark.parametrize("client", [None, ("", 0), (None, 0)])
def test_a31_no_client_address_is_a_missing_key_and_not_somebodys(
    client: Any, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(on_missing_key="refuse")
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    http = Client(app)
    http.address = client[0] if client else None
    assert http.statuses("/", 1) == [429]
    assert Client(app, "127.0.0.1").statuses("/", 1) == [200]


def test_a31_the_refusal_of_a_request_without_a_key_says_when_to_come_back(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(key_func=lambda: None, on_missing_key="refuse", headers_enabled=True)
    app = make_app(limiter)
    app.get("/")(limiter.limit("5/hour")(lambda: "ok"))
    response = Client(app).get("/")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "3600")
    assert response.headers["X-RateLimit-Remaining"] == "0"


def test_keys_may_be_text_bytes_or_integers(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    keys: list[Any] = []
    limiter = make_limiter(key_func=lambda: keys[-1])
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))

    def statuses(key: Any, count: int) -> list[int]:
        keys.append(key)
        return Client(app).statuses("/", count)

    for key in ("alice", b"bob", 7, "\ud800", b"\xff\x00", "🦉", "k" * 1_000_000):
        assert statuses(key, 2) == [200, 429], repr(key)[:20]
    for same in (b"alice", "bob", "7", "🦉".encode()):
        assert statuses(same, 1) == [429]


class Plan(Enum):
    FREE = 1


@pytest.mark.parametrize("key", [uuid.UUID(int=5), ipaddress.ip_address("192.0.2.1"), 1.5, Plan.FREE, 2**70])
def test_what_str_tells_apart_is_a_key(key: Any, limiter: Limiter, app: FastAPI, client: Client) -> None:
    keys = [key, key, "another"]

    @app.get("/")
    @limiter.limit("1/minute", key_func=lambda: keys.pop(0))
    async def index() -> str:
        return "ok"

    assert client.statuses("/", 3) == [200, 429, 200]


@pytest.mark.parametrize("key", [True, object(), ["alice"], ("alice",)])
def test_another_type_of_key_is_an_error_that_names_the_endpoint_the_function_and_the_type(
    key: Any, limiter: Limiter, app: FastAPI
) -> None:
    def key_of_the_day() -> Any:
        return key

    @limiter.limit("1/minute", key_func=key_of_the_day)
    async def index(request: Request) -> str:
        return "ok"

    with pytest.raises(TypeError, match=rf"index: the key function .*key_of_the_day returned a {type(key).__name__};"):
        asyncio.run(index(request_from(("192.0.2.1", 1))))


def test_a_key_function_that_is_none_is_an_error_where_it_is_declared(limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match=r"lambda>: key_func='ip' is not callable"):
        limiter.limit("1/minute", key_func="ip")(lambda: "ok")  # type: ignore[arg-type]


def test_the_remote_address_is_the_peers_and_no_header_changes_it() -> None:
    assert (
        get_remote_address(request_from(("192.0.2.1", 1), X_FORWARDED_FOR="spoof", Forwarded="for=spoof"))
        == "192.0.2.1"
    )
    assert get_remote_address(request_from(None)) == ""


def test_get_ipaddr_reads_the_header_that_slowapi_reads() -> None:
    assert get_ipaddr(request_from(("192.0.2.1", 1), X_FORWARDED_FOR="198.51.100.1")) == "198.51.100.1"
    assert get_ipaddr(request_from(("192.0.2.1", 1), **{"X-Forwarded-For": "spoof"})) == "192.0.2.1"

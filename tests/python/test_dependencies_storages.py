"""Dependencies and checks by hand on storages that are servers: in a real Redis, and on storages of `limits`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request, WebSocket
from faulty_storages import URIS, Faults, limiter_on
from redis_servers import RedisServer, calls_of, running
from websocket_clients import chatting, talk

from slidegate import Limiter, RateLimit, RateLimitExceeded
from slidegate._rules.options import OnError
from slidegate.errors import StorageOut

MakeApp = Callable[[Limiter], FastAPI]


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    server.call(b"FLUSHALL")
    server.call(b"CONFIG", b"RESETSTAT")
    return server


def app_with(limiter: Limiter, make_app: MakeApp, on_error: OnError | None = None) -> FastAPI:
    app = make_app(limiter)
    limits = [RateLimit("2/minute", key=lambda: "ada", on_error=on_error), RateLimit("9/hour", on_error=on_error)]

    def left(request: Request) -> int:
        return limiter.peek_sync(request, "9/hour").remaining

    async def left_async(request: Request) -> int:
        return (await limiter.peek(request, "9/hour")).remaining

    dependencies = [Depends(limit) for limit in limits]
    app.get("/sync/{id}", dependencies=dependencies)(left)
    app.get("/async/{id}", dependencies=dependencies)(left_async)
    return app


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_all_limits_of_a_request_are_one_round_trip_to_redis(path: str, redis: RedisServer, make_app: MakeApp) -> None:
    limiter = limiter_on(f"{redis.uri}?deny_cache_ms=0", headers="ietf")
    client = Client(app_with(limiter, make_app))
    answers = [client.get(f"{path}/{at}") for at in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    # Nothing was taken by the refusals, and a look at what is left is one round trip more.
    assert [answer.text for answer in answers[:2]] == ["8", "7"]
    assert calls_of(redis, "evalsha") == 4 + 2
    assert answers[1].headers["ratelimit"].startswith('"2 per 1 minute";r=0;t=')


@pytest.mark.parametrize("is_async", [False, True])
def test_scripts_count_in_redis(is_async: bool, redis: RedisServer) -> None:
    limiter = limiter_on(redis.uri)
    options: dict[str, Any] = {"key": "ada", "scope": "mail"}

    async def script() -> list[int]:
        left = [(await limiter.check(None, "3/minute", cost=2, **options)).remaining]
        left.append((await limiter.peek(None, "3/minute", **options)).remaining)
        with pytest.raises(RateLimitExceeded):
            await limiter.check(None, "3/minute", cost=2, **options)
        return left

    if is_async:
        assert asyncio.run(script()) == [1, 1]
    else:
        assert limiter.check_sync(None, "3/minute", cost=2, **options).remaining == 1
        assert not limiter.peek_sync(None, "3/minute", cost=2, **options).allowed
        with pytest.raises(RateLimitExceeded):
            limiter.check_sync(None, "3/minute", cost=2, **options)
    limiter.close()


@pytest.mark.parametrize(
    ("on_error", "expected"), [("open", [200] * 4), ("closed", [503] * 4), ("local", [200, 200, 429, 429])]
)
@pytest.mark.parametrize("path", ["/sync/1", "/async/1"])
def test_a_dependency_says_what_happens_when_redis_is_down(
    path: str, on_error: OnError, expected: list[int], tmp_path: Path, make_app: MakeApp
) -> None:
    with running(tmp_path) as server:
        limiter = limiter_on(server.uri, on_error=on_error)
    client = Client(app_with(limiter, make_app, on_error))
    assert client.statuses(path, 4) == expected


def test_a_peek_says_what_happens_too(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        uri = server.uri
    options: dict[str, Any] = {"key": "ada", "scope": "mail"}
    assert limiter_on(uri, on_error="open").peek_sync(None, "3/minute", **options).remaining == 3
    assert limiter_on(uri, on_error="local").peek_sync(None, "3/minute", **options).remaining == 3
    with pytest.raises(StorageOut):
        limiter_on(uri).peek_sync(None, "3/minute", **options)


@pytest.mark.parametrize("path", ["/sync/1", "/async/1"])
@pytest.mark.parametrize("uri", URIS)
def test_storages_of_limits_count_for_dependencies(uri: str, path: str, make_app: MakeApp, faults: Faults) -> None:
    client = Client(app_with(limiter_on(uri), make_app))
    assert client.statuses(path, 4) == [200, 200, 429, 429]


@pytest.mark.parametrize("uri", URIS)
def test_a_fallback_counts_for_dependencies(uri: str, make_app: MakeApp, faults: Faults) -> None:
    limiter = limiter_on(uri, in_memory_fallback_enabled=True)
    client = Client(app_with(limiter, make_app))
    faults.is_down = True
    assert client.statuses("/async/1", 4) == [200, 200, 429, 429]


def test_messages_count_in_redis(redis: RedisServer, make_app: MakeApp) -> None:
    apps = []
    for _ in range(2):
        app = make_app(limiter_on(redis.uri))
        chatting(app, RateLimit("3/minute"))
        apps.append(app)
    assert talk(apps[0], "/chat", "a", "b") == [("accept", None), ("send", "2"), ("send", "1")]
    assert talk(apps[1], "/chat", "a", "b")[1:3] == [("send", "0"), ("close", 1008)]


def test_a_websocket_that_cannot_be_checked_is_told_to_try_again_later(tmp_path: Path, make_app: MakeApp) -> None:
    with running(tmp_path) as server:
        app = make_app(limiter_on(server.uri))

    @app.websocket("/", dependencies=[Depends(RateLimit("3/minute"))])
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    chatting(app, RateLimit("3/minute"))
    assert talk(app, "/") == [("close", 1013), ("reason", "Rate limits cannot be checked now")]
    assert talk(app, "/chat", "a")[:2] == [("accept", None), ("close", 1013)]

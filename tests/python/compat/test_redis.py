"""Programs that count in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Client
from fastapi import Request
from redis_proxy import FaultyProxy
from redis_servers import RedisServer

from compat.library import Library, differs, same


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultyProxy]:
    server.call(b"FLUSHALL")
    proxy = FaultyProxy(server.path)
    yield proxy
    proxy.stop()


def app_of(library: Library, proxy: FaultyProxy, **options: Any) -> Any:
    timeouts = {"socket_timeout": 5, "socket_connect_timeout": 5}
    limiter = library.limiter(
        storage_uri=f"redis://127.0.0.1:{proxy.port}/0", storage_options=timeouts, strategy="moving-window", **options
    )
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("15/minute")
    async def items(request: Request) -> str:
        return "ok"

    @app.get("/free")
    async def free(request: Request) -> str:
        return "ok"

    return app


def close(app: Any) -> None:
    storage = app.state.limiter._storage
    (app.state.limiter if hasattr(app.state.limiter, "close") else storage.storage).close()


def test_limits_hold_and_counts_can_be_read_and_reset(library: Library, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy)
    limiter, client = app.state.limiter, Client(app)
    assert client.statuses("/items", 16) == library.expected(same([200] * 15 + [429]))
    assert limiter._storage.check() is library.expected(same(True))
    limiter.reset()
    assert client.statuses("/items", 1) == library.expected(same([200]))
    close(app)


def test_where_counts_lie(library: Library, server: RedisServer, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy)
    Client(app).get("/items")
    is_flat = all(key.startswith(b"LIMITS:LIMITER/") for key in server.call(b"KEYS", b"*"))
    assert is_flat is library.expected(differs(slowapi=True, slidegate=False, difference="counts-in-redis-are-new"))
    close(app)


def test_a37_requests_at_once_wait_for_a_slow_server_together(library: Library, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy)
    Client(app).get("/items")
    proxy.delay_s, proxy.pieces = 0.02, 0

    async def run() -> list[int]:
        client = Client(app)
        answers = await asyncio.gather(*(client.send("GET", "/items") for _ in range(20)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(run()) == library.expected(same([200] * 14 + [429] * 6))
    is_together = proxy.pieces <= 5
    expected = differs(slowapi=False, slidegate=True, difference="redis-is-asked-once")
    assert is_together is library.expected(expected)
    close(app)


def test_a38_a_server_that_is_down_and_swallowed_errors(library: Library, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy, swallow_errors=True)
    proxy.fault = lambda data: None
    expected = differs(slowapi=[500] * 4, slidegate=[200] * 4, difference="swallowed-errors")
    assert Client(app).statuses("/items", 4) == library.expected(expected)
    close(app)


def test_a_server_that_is_down(library: Library, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy)
    proxy.fault = lambda data: None
    expected = differs(slowapi=[500] * 4, slidegate=[503] * 4, difference="closed-while-redis-is-down")
    assert Client(app).statuses("/items", 4) == library.expected(expected)
    close(app)


def test_a40_limits_that_apply_while_a_server_is_down(library: Library, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy, in_memory_fallback=["1/minute"])
    proxy.fault = lambda data: None
    assert Client(app).statuses("/items", 3) == library.expected(same([200, 429, 429]))
    close(app)


def test_a41_a_server_that_was_restarted(library: Library, server: RedisServer, proxy: FaultyProxy) -> None:
    app = app_of(library, proxy)
    client = Client(app)
    assert client.statuses("/items", 2) == [200, 200]
    server.call(b"SCRIPT", b"FLUSH")
    assert client.statuses("/items", 1) == library.expected(same([200]))
    close(app)

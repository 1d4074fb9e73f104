"""Limiters that count in a real Redis: endpoints of every kind, together and at once, and what programs ask by hand."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import servers
import uvloop
from conftest import HAS_STREAMS, Client, talk_to
from fastapi import FastAPI, HTTPException, WebSocket
from faulty_storages import app_of, limiter_on
from limits import RateLimitItemPerMinute
from redis_proxy import FaultyProxy
from redis_servers import RedisServer, calls_of, clients_of

from slidegate import ConfigurationError, Limiter
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    server.call(b"FLUSHALL")
    server.call(b"CONFIG", b"RESETSTAT")


@pytest.mark.parametrize("scheme", ["", "async+"])
@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_all_limits_of_a_request_are_one_round_trip(
    make_app: MakeApp, server: RedisServer, scheme: str, path: str
) -> None:
    limiter = limiter_on(scheme + server.uri, headers_enabled=True)
    client = Client(app_of(make_app, limiter, "2/minute; 10/hour; 20/day"))
    answers = [client.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"2"}
    assert 59 <= int(answers[2].headers["Retry-After"]) <= 61
    assert 59 <= int(answers[2].headers["X-RateLimit-Reset"]) - time.time() <= 62
    assert calls_of(server, "evalsha") == 3


def test_what_one_limit_refuses_takes_nothing_of_the_others(make_app: MakeApp, server: RedisServer) -> None:
    limiter = limiter_on(f"{server.uri}?deny_cache_ms=0")
    client = Client(app_of(make_app, limiter, "2/minute; 3/hour"))
    assert client.statuses("/async", 5) == [200, 200, 429, 429, 429]
    assert calls_of(server, "evalsha") == 5
    assert limiter._storage.get("LIMITER/192.0.2.1//async/3/1/hour") == 2


def test_limiters_of_many_processes_count_together(make_app: MakeApp, server: RedisServer) -> None:
    apps = [app_of(make_app, limiter_on(server.uri), "3/minute") for _ in range(2)]
    assert Client(apps[0]).statuses("/async", 2) == [200, 200]
    assert Client(apps[1]).statuses("/async", 2) == [200, 429]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, bytes([Client(apps[0]).get("/async").status_code == 429]))
        os._exit(0)
    assert os.read(reading, 1) == b"\1"
    os.waitpid(child, 0)
    assert Client(apps[0]).get("/sync").status_code == 200


def test_the_middleware_counts_there_too(make_app: MakeApp, server: RedisServer) -> None:
    limiter = limiter_on(server.uri, default_limits=["2/minute"], headers_enabled=True)
    app = app_of(make_app, limiter)
    app.add_middleware(SlowAPIMiddleware)
    for path in ("/free", "/sync/free"):
        answers = [Client(app).get(path) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert Client(app).statuses("/async", 3) == [200, 200, 429]
    assert calls_of(server, "evalsha") == 9


@pytest.mark.skipif(not HAS_STREAMS, reason="this version of FastAPI makes a list of what an endpoint yields")
def test_streams_are_decided_before_they_begin(make_app: MakeApp, server: RedisServer) -> None:
    limiter = limiter_on(server.uri)
    app = make_app(limiter)

    @app.get("/async", response_model=None)
    @limiter.limit("1/minute")
    async def in_loop() -> AsyncIterator[int]:
        yield 1

    @app.get("/sync", response_model=None)
    @limiter.limit("1/minute")
    def in_thread() -> Iterator[int]:
        yield 1

    assert Client(app).statuses("/async", 2) == [200, 429]
    assert Client(app).statuses("/sync", 2) == [200, 429]


def test_websockets_are_counted(make_app: MakeApp, server: RedisServer) -> None:
    limiter = limiter_on(server.uri)
    app = make_app(limiter)

    @app.websocket("/chat")
    @limiter.limit("1/minute")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    assert [message["type"] for message in talk_to(app, "/chat")] == ["websocket.accept", "websocket.close"]
    assert talk_to(app, "/chat")[0]["status"] == 429


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("has_middleware", [True, False])
def test_what_the_response_says_is_given_back(
    make_app: MakeApp, server: RedisServer, is_async: bool, has_middleware: bool
) -> None:
    limiter = limiter_on(server.uri, headers_enabled=True)
    app = make_app(limiter)
    if has_middleware:
        app.add_middleware(SlowAPIMiddleware)

    async def in_loop(status: int) -> None:
        raise HTTPException(status)

    def in_thread(status: int) -> None:
        raise HTTPException(status)

    limited = limiter.limit("2/minute", deduct_when=lambda response: response.status_code == 401)
    app.get("/login")(limited(limiter.limit("100/hour")(in_loop if is_async else in_thread)))
    client = Client(app)
    answers = [client.get("/login?status=404") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    if has_middleware:
        assert {answer.headers["X-RateLimit-Remaining"] for answer in answers} == {"2"}
    assert client.statuses("/login?status=401", 3) == [401, 401, 429]
    # Both limits are taken in one round trip; another gives one back, and one more reads what is left for the headers.
    assert calls_of(server, "evalsha") == 6 + 3 + 3
    assert limiter._storage.get("LIMITER/192.0.2.1//login/100/1/hour") == 5


def test_programs_ask_by_hand_what_they_ask_slowapi(make_app: MakeApp, server: RedisServer) -> None:
    limiter = limiter_on(server.uri, key_prefix="app")
    client = Client(app_of(make_app, limiter, "5/minute"))
    storage, flat_key = limiter._storage, "LIMITER/app/192.0.2.1//async/5/1/minute"
    assert storage.check()
    client.statuses("/async", 3)
    assert storage.get(flat_key) == 3
    assert 55 <= storage.get_expiry(flat_key) - time.time() <= 62
    assert limiter.limiter.get_window_stats(RateLimitItemPerMinute(5), "app", "192.0.2.1", "/async").remaining == 2
    assert limiter.limiter.hit(RateLimitItemPerMinute(5), "app", "192.0.2.1", "/async", cost=2)
    assert not limiter.limiter.test(RateLimitItemPerMinute(5), "app", "192.0.2.1", "/async")
    assert client.statuses("/async", 1) == [429]
    storage.clear(flat_key)
    assert client.statuses("/async", 1) == [200]
    for forget in (storage.reset, storage.storage.clear, limiter.reset):
        assert client.statuses("/async", 6)[-1] == 429
        forget()
        assert storage.get(flat_key) == 0
        assert client.statuses("/async", 1) == [200]
    server.stop()
    try:
        assert not storage.check()
    finally:
        server.start()


def test_a_reset_leaves_alone_what_is_not_ours(server: RedisServer) -> None:
    server.call(b"SET", b"session:1", b"x")
    limiter = limiter_on(server.uri)
    limiter.limiter.hit(RateLimitItemPerMinute(5), "somebody")
    limiter.reset()
    assert server.call(b"KEYS", b"*") == [b"session:1"]


def test_who_was_refused_is_refused_without_a_round_trip_and_not_past_a_reset(
    make_app: MakeApp, server: RedisServer
) -> None:
    limiter = limiter_on(f"{server.uri}?deny_cache_ms=60000", headers_enabled=True)
    client = Client(app_of(make_app, limiter, "2/minute; 9/hour"))
    assert client.statuses("/async", 3) == [200, 200, 429]
    asked = calls_of(server, "evalsha")
    answers = [client.get("/async") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {429}
    assert {answer.headers["X-RateLimit-Remaining"] for answer in answers} == {"0"}
    assert {answer.json()["error"] for answer in answers} == {"Rate limit exceeded: 2 per 1 minute"}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 61 for answer in answers)
    assert calls_of(server, "evalsha") == asked
    assert Client(client.app, "192.0.2.2").statuses("/async", 1) == [200]
    limiter.reset()
    assert client.statuses("/async", 3) == [200, 200, 429]
    limiter._storage.clear("LIMITER/192.0.2.1//async/2/1/minute")
    assert client.statuses("/async", 1) == [200]


def test_a_refusal_is_remembered_until_its_retry_time_and_for_what_costs_as_much(
    make_app: MakeApp, server: RedisServer
) -> None:
    limiter = limiter_on(f"{server.uri}?deny_cache_ms=60000")
    item = RateLimitItemPerMinute(5)
    assert limiter.limiter.hit(item, "key", cost=3)
    assert not limiter.limiter.hit(item, "key", cost=3)
    assert limiter.limiter.hit(item, "key", cost=2)
    app = app_of(make_app, limiter, "1/second")
    assert Client(app).statuses("/async", 2) == [200, 429]
    until = time.monotonic() + 20
    while Client(app).get("/async").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_limiter_serves_many_event_loops_at_once_and_their_connections_end_with_them(
    make_app: MakeApp, server: RedisServer
) -> None:
    app = app_of(make_app, limiter_on(server.uri), "60/minute")
    before, files = clients_of(server), len(os.listdir("/proc/self/fd"))
    barrier, connected = threading.Barrier(4), []

    async def serve() -> list[int]:
        client = Client(app)
        found = [(await client.send("GET", "/async")).status_code for _ in range(20)]
        if barrier.wait() == 0:
            connected.append(clients_of(server) - before)
        barrier.wait()
        return found

    with ThreadPoolExecutor(4) as pool:
        statuses = [status for each in pool.map(lambda _: asyncio.run(serve()), range(4)) for status in each]
    assert sorted(statuses) == [200] * 60 + [429] * 20
    assert connected == [4]
    assert clients_of(server) == before
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_limiter_that_is_closed_leaves_no_connection(make_app: MakeApp, server: RedisServer) -> None:
    before = clients_of(server)
    limiter = limiter_on(server.uri)
    assert limiter._storage.check()
    assert clients_of(server) == before + 1
    limiter.close()
    assert clients_of(server) == before


def test_a37_twenty_calls_at_once_wait_for_a_slow_server_together(make_app: MakeApp, server: RedisServer) -> None:
    proxy = FaultyProxy(server.path)
    proxy.delay_s = 0.05
    limiter = limiter_on(f"redis://127.0.0.1:{proxy.port}?command_timeout_ms=5000&connect_timeout_ms=5000")
    app = app_of(make_app, limiter, "15/minute")

    async def run() -> tuple[list[int], bool]:
        client = Client(app)
        limited = [asyncio.ensure_future(client.send("GET", "/async")) for _ in range(20)]
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(client.send("GET", "/free")), *limited], return_when=asyncio.FIRST_COMPLETED
        )
        is_free_first = not any(each in done for each in limited)
        return sorted([(await each).status_code for each in limited]), is_free_first

    try:
        assert asyncio.run(run()) == ([200] * 15 + [429] * 5, True)
        # One after the other they would have been twenty pieces.
        assert proxy.pieces <= 4
    finally:
        proxy.stop()


def test_options_of_redis_py_are_understood(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.call(b"ACL", b"SETUSER", b"gate", b"on", b">open sesame", b"~*", b"+@all")
    options = {"username": "gate", "password": "open sesame", "socket_timeout": 3, "socket_connect_timeout": 2.5}
    limiter = limiter_on(server.uri, storage_options={**options, "db": 2, "max_connections": 10})
    assert limiter.limiter.hit(RateLimitItemPerMinute(1), "key")
    assert [client for client in server.call(b"CLIENT", b"LIST").decode().splitlines() if "user=gate" in client]
    assert server.call(b"INFO", b"keyspace").decode().split()[-1].startswith("db2:keys=1")
    assert caplog.messages == [
        "storage_options: these options have no meaning here, and are left aside: 'max_connections'"
    ]


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        ("redis://127.0.0.1?retries=3", {}, "no option 'retries'"),
        ("redis://127.0.0.1", {"storage_options": {"sockettimeout": 3}}, "no option 'sockettimeout'"),
        ("redis://127.0.0.1", {"storage_options": {"socket_timeout": "x"}}, "socket_timeout='x'"),
        ("redis://127.0.0.1", {"storage_options": {"ssl_ca_certs": "/x"}}, "needs rediss://"),
        ("redis://127.0.0.1:port", {}, "host or port"),
        ("redis://127.0.0.1", {"on_error": "ignore"}, "on_error='ignore'"),
        ("redis://127.0.0.1", {"local_share": 0}, "local_share=0"),
        ("redis://127.0.0.1", {"strategy": "moving"}, "strategy='moving'"),
    ],
)
def test_only_a_mistake_is_an_error_at_the_start(uri: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Limiter(get_remote_address, storage_uri=uri, **options)


def test_a_server_that_is_down_is_no_error_at_the_start(tmp_path: Path) -> None:
    limiter = Limiter(get_remote_address, storage_uri=f"redis+unix://{tmp_path}/nobody.sock")
    assert limiter.health().is_available
    with pytest.raises(ConfigurationError, match="on_error='maybe'"):
        limiter.limit("1/minute", on_error="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn --preload", "hypercorn"])
def test_workers_of_real_servers_count_together_and_leave_no_connection(
    server: RedisServer, tmp_path: Path, kind: str
) -> None:
    before = clients_of(server)
    options = f", storage_uri={server.uri!r}"
    with servers.running(kind, tmp_path / "app", workers=2, limit="5/hour", options=options) as running_server:
        assert len(running_server.workers(2)) == 2
        statuses = [status for status, _ in running_server.get_often("/limited", 40)]
        assert sorted(statuses) == [200] * 5 + [429] * 35
        assert clients_of(server) > before
    # Those of earlier tests may end meanwhile.
    assert servers.wait_until(lambda: clients_of(server) <= before)


def test_a_uvloop_closes_its_connection_when_it_ends(make_app: MakeApp, server: RedisServer) -> None:
    before = clients_of(server)
    client = Client(app_of(make_app, limiter_on(server.uri)))
    loop = uvloop.new_event_loop()
    assert loop.run_until_complete(client.send("GET", "/async")).status_code == 200
    assert clients_of(server) == before + 1
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert clients_of(server) == before

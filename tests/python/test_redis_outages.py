"""What servers and networks do to a limiter, and what its policies make of that."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI
from faulty_storages import app_of, limiter_on
from limits import RateLimitItemPerMinute
from ports import free_port
from redis_proxy import FaultyProxy
from redis_servers import RedisServer, running

from slidegate import Limiter
from slidegate.errors import StorageFull, StorageOut, StorageTimeout, StorageUnavailable
from slidegate.middleware import SlowAPIMiddleware

MakeApp = Callable[[Limiter], FastAPI]
Befall = Callable[[RedisServer, FaultyProxy], AbstractContextManager[str | None]]
SHORT = "command_timeout_ms=60&connect_timeout_ms=60"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultyProxy]:
    server.call(b"FLUSHALL")
    proxy = FaultyProxy(server.path)
    yield proxy
    proxy.stop()


def eventually(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def answering(fault: Callable[[bytes], bytes | None]) -> Befall:
    @contextmanager
    def befall(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
        proxy.fault = fault
        try:
            yield None
        finally:
            proxy.fault = bytes

    return befall


def closing_after(length: int) -> Befall:
    @contextmanager
    def befall(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
        proxy.cut_after = length
        try:
            yield None
        finally:
            proxy.cut_after = None

    return befall


@contextmanager
def down(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    server.stop()
    proxy.cut()
    try:
        yield None
    finally:
        server.start()


@contextmanager
def refusing(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    yield f"redis://127.0.0.1:{free_port()}?{SHORT}"


@contextmanager
def black_holed(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    proxy.is_dropping_requests = True
    try:
        yield None
    finally:
        proxy.is_dropping_requests = False


@contextmanager
def slow(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    proxy.delay_s = 0.3
    try:
        yield None
    finally:
        proxy.delay_s = 0


@contextmanager
def busy(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    server.call(b"CONFIG", b"SET", b"busy-reply-threshold", b"1")
    script = threading.Thread(target=server.call, args=(b"EVAL", b"while true do end", b"0"))
    script.start()
    eventually(lambda: str(server.call(b"PING")).startswith("BUSY"))
    try:
        yield None
    finally:
        server.call(b"SCRIPT", b"KILL")
        script.join()


@contextmanager
def full(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    server.call(b"CONFIG", b"SET", b"maxmemory", b"1")
    try:
        yield None
    finally:
        server.call(b"CONFIG", b"SET", b"maxmemory", b"0")


@contextmanager
def read_only(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    server.call(b"REPLICAOF", b"127.0.0.1", b"%d" % free_port())
    try:
        yield None
    finally:
        server.call(b"REPLICAOF", b"NO", b"ONE")


@contextmanager
def shut_out(server: RedisServer, proxy: FaultyProxy) -> Iterator[str | None]:
    server.call(b"ACL", b"SETUSER", b"gate", b"on", b">right", b"~*", b"+@all")
    yield f"redis://gate:wrong@127.0.0.1:{proxy.port}?{SHORT}"


FAULTS: dict[str, Befall] = {
    "down": down,
    "refusing": refusing,
    "black-holed": black_holed,
    "slow": slow,
    "garbage": answering(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "another answer": answering(lambda data: b"+OK\r\n"),
    "half an answer": answering(lambda data: data[: len(data) // 2]),
    "closed in the middle": closing_after(5),
    "closed": answering(lambda data: None),
    "LOADING": answering(lambda data: b"-LOADING Redis is loading the dataset in memory\r\n"),
    "READONLY": read_only,
    "NOSCRIPT": answering(lambda data: b"-NOSCRIPT No matching script.\r\n"),
    "OOM": full,
    "BUSY": busy,
    "wrong password": shut_out,
}
POLICIES = {"open": [200] * 5, "closed": [503] * 5, "local": [200, 200, 429, 429, 429]}


def through(proxy: FaultyProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}?{SHORT}"


@pytest.mark.parametrize("path", ["/async", "/sync", "/free"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_comes_to_what_the_policy_says(
    make_app: MakeApp, server: RedisServer, proxy: FaultyProxy, path: str, fault: str
) -> None:
    with FAULTS[fault](server, proxy) as uri:
        for on_error, statuses in POLICIES.items():
            limiter = limiter_on(uri or through(proxy), on_error=on_error, default_limits=["2/minute"])
            app = app_of(make_app, limiter)
            app.add_middleware(SlowAPIMiddleware)

            async def call_on_one_loop(app: FastAPI = app) -> list[Any]:
                return [await Client(app).send("GET", path) for _ in range(5)]

            answers = asyncio.run(call_on_one_loop())
            assert [answer.status_code for answer in answers] == statuses, on_error
            if on_error == "closed":
                assert {answer.headers["Retry-After"] for answer in answers} == {"2"}
                assert "127.0.0.1" not in "".join(answer.text for answer in answers)
            assert limiter.health().last_error
            if fault not in ("NOSCRIPT", "OOM"):
                assert not limiter.health().is_available
            limiter.close()


def test_a_script_that_is_gone_is_sent_again(make_app: MakeApp, server: RedisServer, proxy: FaultyProxy) -> None:
    app = app_of(make_app, limiter_on(through(proxy)), "4/minute")
    for path in ("/async", "/sync"):
        assert Client(app).statuses(path, 2) == [200, 200]
        server.call(b"SCRIPT", b"FLUSH")
        assert Client(app).statuses(path, 3) == [200, 200, 429]


def test_what_waits_for_a_dead_server_is_bounded(make_app: MakeApp, server: RedisServer, proxy: FaultyProxy) -> None:
    app = app_of(make_app, limiter_on(through(proxy), on_error="open"))
    proxy.is_dropping_requests = True

    async def run() -> list[int]:
        client = Client(app)
        answers = [await asyncio.gather(*(client.send("GET", "/async") for _ in range(50))) for _ in range(6)]
        return [answer.status_code for batch in answers for answer in batch]

    assert asyncio.run(run()) == [200] * 300
    # Three that disappoint, and what asks in the background.
    assert proxy.accepted <= 8


@pytest.mark.parametrize("path", ["/async", "/sync", "/free"])
def test_a38_swallowed_errors_let_requests_pass_with_one_line_in_the_log(
    make_app: MakeApp, server: RedisServer, proxy: FaultyProxy, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_on(through(proxy), swallow_errors=True, default_limits=["2/minute"], headers_enabled=True)
    app = app_of(make_app, limiter)
    app.add_middleware(SlowAPIMiddleware)
    with down(server, proxy):
        assert Client(app).statuses(path, 20) == [200] * 20
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith(f"the Redis server at 127.0.0.1:{proxy.port}")
        assert "X-RateLimit-Limit" not in Client(app).get(path).headers


def test_a39_a_login_is_closed_and_the_rest_is_open(make_app: MakeApp, server: RedisServer, proxy: FaultyProxy) -> None:
    limiter = limiter_on(through(proxy), on_error="open")
    app = app_of(make_app, limiter)

    @app.post("/login")
    @limiter.limit("5/minute", on_error="closed")
    async def login() -> str:
        return "ok"

    @app.post("/both")
    @limiter.limit("5/minute", on_error="closed")
    @limiter.limit("50/hour")
    def both() -> str:
        return "ok"

    client = Client(app)
    assert client.post("/login").status_code == 200
    with down(server, proxy):
        for path in ("/login", "/both") * 3:
            answer = client.post(path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.json() == {"detail": "Rate limits cannot be checked now"}
        assert client.statuses("/async", 5) == [200] * 5
        assert client.statuses("/sync", 5) == [200] * 5
    eventually(lambda: client.post("/login").status_code == 200)


def test_a_limit_in_shadow_has_no_say_about_requests_while_the_server_is_out(make_app: MakeApp) -> None:
    limiter = limiter_on(f"redis://127.0.0.1:{free_port()}?{SHORT}", on_error="closed")
    app = app_of(make_app, limiter)
    for name, options in (("shadow", {"shadow": True}), ("enforced", {})):
        app.get(f"/of/{name}")(limiter.limit("1/minute", **options)(lambda: "ok"))
    client = Client(app)
    assert client.statuses("/of/shadow", 2) == [200, 200]
    assert client.statuses("/of/enforced", 2) == [503, 503]


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ({"in_memory_fallback_enabled": True}, [200, 200, 200, 200, 429]),
        ({"in_memory_fallback": ["1/minute"]}, [200, 429, 429, 429, 429]),
        ({"on_error": "local", "local_share": 0.5}, [200, 200, 429, 429, 429]),
    ],
)
def test_a40_limits_hold_meanwhile_and_the_server_is_taken_up_again(
    make_app: MakeApp,
    server: RedisServer,
    proxy: FaultyProxy,
    caplog: pytest.LogCaptureFixture,
    path: str,
    options: Any,
    statuses: list[int],
) -> None:
    caplog.set_level(logging.INFO, "slidegate")
    limiter = limiter_on(through(proxy), headers_enabled=True, **options)
    client = Client(app_of(make_app, limiter, "4/minute"))
    assert client.statuses(path, 2) == [200, 200]
    with down(server, proxy):
        assert client.statuses(path, 5) == statuses
        assert limiter._storage_dead
        assert limiter.limiter is limiter._local_counter
        assert not limiter.health().is_available
        assert limiter.health().outages == 1
        assert client.get(path).headers["X-RateLimit-Remaining"] == "0"
    eventually(lambda: limiter.health().is_available)
    assert not limiter._storage_dead
    # The server has forgotten: it keeps nothing.
    assert client.statuses(path, 5) == [200, 200, 200, 200, 429]
    assert [message for message in caplog.messages if "answers again" in message]


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_a41_a_server_that_has_forgotten_scripts_and_counts_locks_nobody_out(
    make_app: MakeApp, server: RedisServer, proxy: FaultyProxy, path: str
) -> None:
    limiter = limiter_on(through(proxy))
    client = Client(app_of(make_app, limiter, "1/minute"))
    assert client.statuses(path, 2) == [200, 429]
    with down(server, proxy):
        limiter._storage._denials.clear()
        assert set(client.statuses(path, 5)) == {503}
    eventually(lambda: client.get(path).status_code == 200)
    # Every state that the server holds ends by itself.
    keys = server.call(b"KEYS", b"slidegate:*")
    assert keys
    assert all(0 < server.call(b"PTTL", key) <= 62_000 for key in keys)


def test_a_failure_names_what_it_is(server: RedisServer, proxy: FaultyProxy) -> None:
    limiter = limiter_on(through(proxy))
    item = RateLimitItemPerMinute(1)
    for befall, kind in ((black_holed, StorageTimeout), (full, StorageFull), (down, StorageUnavailable)):
        with befall(server, proxy), pytest.raises(kind):
            limiter.limiter.hit(item, kind.__name__)
        proxy.cut()
    assert StorageOut().status_code == 503


def test_a_response_that_cannot_give_back_is_sent_all_the_same(
    make_app: MakeApp, server: RedisServer, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_on(through(proxy))
    app = make_app(limiter)

    @app.get("/")
    @limiter.limit("5/minute", deduct_when=lambda response: False)
    async def root() -> str:
        proxy.cut()
        proxy.is_dropping_requests = True
        return "ok"

    assert Client(app).get("/").json() == "ok"
    assert "stays deducted" in caplog.text


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_failures_that_are_not_in_a_row_are_no_outage(
    make_app: MakeApp, server: RedisServer, proxy: FaultyProxy, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_on(through(proxy), on_error="open")
    client = Client(app_of(make_app, limiter, "100/minute"))
    for _ in range(5):
        for fault in (lambda data: b"+OK\r\n", lambda data: None):
            proxy.fault = fault
            client.get(path)
        proxy.fault = bytes
        client.get(path)
    assert limiter.health().is_available
    assert limiter.health().outages == 0
    assert len(caplog.messages) == 1

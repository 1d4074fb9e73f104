"""Limiters that count in a real Redis, and through the `limits` package there and in a real Memcached."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
import memcached_server
import pytest
import redis_servers
from conftest import Client
from fastapi import FastAPI, Request

from slidegate import Limiter
from slidegate._rules.notation import Strategy
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]

# Older versions of limits have no sliding-window counter, and reach Redis through coredis alone.
HAS_SLIDING = "sliding-window-counter" in limits.strategies.STRATEGIES
HAS_REDISPY = "implementation" in inspect.signature(limits.aio.storage.RedisStorage).parameters
OWN = [(server, strategy) for server in ("redis", "async+redis") for strategy in get_args(Strategy)]
BY_HAND = [
    ("limits: redis", "moving-window"),
    ("limits: redis", "fixed-window"),
    ("limits: async+redis", "moving-window"),
    ("limits: async+redis", "fixed-window"),
    ("limits: redis", "sliding-window-counter"),
    ("limits: async+redis", "sliding-window-counter"),
]
COUNTED = [*OWN, *BY_HAND, ("memcached", "fixed-window"), ("memcached", "sliding-window-counter")]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with (
        redis_servers.running(tmp_path_factory.mktemp("redis")) as redis,
        memcached_server.running(tmp_path_factory.mktemp("memcached")) as memcached,
    ):
        yield {"redis": redis.uri, "async+redis": f"async+{redis.uri}", "memcached": memcached}


_prefixes = itertools.count()


@pytest.fixture
def limiter_on(servers: dict[str, str]) -> Iterator[Callable[..., Limiter]]:
    clients: list[Any] = []

    def connected(module: Any, hosts: list[str], **options: Any) -> Any:
        # `limits` has a client for each thread, and leaves it to the thread's end to close it.
        clients.append(module.PooledClient(*hosts, **options))
        return clients[-1]

    # Memcached cannot be emptied, so each limiter counts under a prefix of its own.
    def make(server: str, strategy: str, **options: Any) -> Limiter:
        prefix = f"test-{next(_prefixes)}"
        is_own = (server, strategy) in OWN
        if strategy == "sliding-window-counter" and not (is_own or HAS_SLIDING):
            pytest.skip("this version of limits has no sliding-window counter")
        if server == "memcached":
            options["storage_options"] = {"client_getter": connected}
        if is_own or server == "memcached":
            uri = servers[server]
            return Limiter(get_remote_address, storage_uri=uri, strategy=strategy, key_prefix=prefix, **options)
        limiter = Limiter(get_remote_address, key_prefix=prefix, **options)
        limiter._limiter = by_hand(servers[server.removeprefix("limits: ")], strategy)
        return limiter

    yield make
    for client in clients:
        client.close()


def by_hand(uri: str, strategy: str) -> Any:
    if not uri.startswith("async+"):
        return limits.strategies.STRATEGIES[strategy](limits.storage.storage_from_string(uri))
    if not HAS_REDISPY:
        pytest.skip("this version of limits needs coredis")
    known = vars(limits.aio.strategies)["STRATEGIES"]
    return known[strategy](limits.storage.storage_from_string(uri, implementation="redispy"))


def in_one_loop(app: FastAPI, requests: list[tuple[str, str]]) -> list[httpx.Response]:
    # Asynchronous connections belong to the event loop that made them.
    async def run() -> list[httpx.Response]:
        client = Client(app)
        answers = [await client.send(method, path) for method, path in requests]
        storage = getattr(app.state.limiter._limiter, "storage", None)
        if isinstance(storage, limits.aio.storage.RedisStorage):
            await storage.bridge.storage.aclose()
        return answers

    return asyncio.run(run())


def statuses(app: FastAPI, *requests: tuple[str, str]) -> list[int]:
    return [answer.status_code for answer in in_one_loop(app, list(requests))]


@pytest.mark.parametrize(("server", "strategy"), COUNTED)
@pytest.mark.parametrize("is_async", [True, False])
def test_limits_hold_and_headers_tell_of_them(
    make_app: MakeApp, limiter_on: Callable[..., Limiter], server: str, strategy: str, is_async: bool
) -> None:
    limiter = limiter_on(server, strategy, headers_enabled=True)
    app = make_app(limiter)

    async def in_loop() -> str:
        return "ok"

    app.get("/items")(limiter.limit("2/hour; 90/day")(in_loop if is_async else lambda: "ok"))
    answers = in_one_loop(app, [("GET", "/items")] * 3)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"2"}
    # At the earliest when the hour of the first hit is over; a sliding window of Memcached is one of the clock.
    # Ours begin to count with the next tick.
    assert 0 < int(answers[2].headers["Retry-After"]) <= 3600 + ((server, strategy) in OWN)
    if strategy in ("moving-window", "fixed-window"):
        assert int(answers[2].headers["Retry-After"]) > 3500


def test_nobody_is_told_to_come_back_before_a_fixed_window_of_redis_ends(
    make_app: MakeApp, limiter_on: Callable[..., Limiter]
) -> None:
    limiter = limiter_on("limits: redis", "fixed-window")
    app = make_app(limiter)
    app.get("/items")(limiter.limit("1/minute")(lambda: "ok"))
    assert Client(app).statuses("/items", 1) == [200]
    redis = limiter._limiter.storage.storage
    (key,) = redis.keys(f"*{limiter._key_prefix}/*")
    redis.pexpire(key, 30_400)
    answer = Client(app).get("/items")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) * 1000 >= redis.pttl(key) > 30_000


@pytest.mark.parametrize(("server", "strategy"), COUNTED)
def test_every_way_to_declare_a_limit_is_counted(
    make_app: MakeApp, limiter_on: Callable[..., Limiter], server: str, strategy: str
) -> None:
    limiter = limiter_on(server, strategy, default_limits=["3/hour"], application_limits=["100/hour"])
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    shared = limiter.shared_limit("3/hour", scope="both")
    app.get("/shared/a")(shared(lambda: "ok"))
    app.get("/shared/b")(limiter.shared_limit("3/hour", scope="both")(lambda: "ok"))
    app.api_route("/methods", methods=["GET", "POST"])(limiter.limit("1/hour", per_method=True)(lambda: "ok"))
    app.get("/costs")(limiter.limit("5/hour", cost=2)(lambda: "ok"))
    app.get("/exempt")(limiter.exempt(lambda: "ok"))
    app.get("/default")(lambda: "ok")

    gets = [("GET", path) for path in ["/shared/a", "/shared/b"] * 2]
    assert statuses(app, *gets) == [200, 200, 200, 429]
    assert statuses(app, ("GET", "/methods"), ("POST", "/methods"), ("GET", "/methods")) == [200, 200, 429]
    assert statuses(app, *[("GET", "/costs")] * 3) == [200, 200, 429]
    assert statuses(app, *[("GET", "/exempt")] * 5) == [200] * 5
    assert statuses(app, *[("GET", "/default")] * 4) == [200, 200, 200, 429]


@pytest.mark.parametrize(("server", "strategy"), COUNTED)
@pytest.mark.parametrize(
    "path", ["/items/a%20b", "/items/%C3%A9", "/items/%0A", f"/items/{'x' * 300}", "/items/%F0%9F%90%8C"]
)
def test_odd_and_long_paths_are_limited(
    make_app: MakeApp, limiter_on: Callable[..., Limiter], server: str, strategy: str, path: str
) -> None:
    limiter = limiter_on(server, strategy)
    app = make_app(limiter)
    app.get("/items/{item:path}")(limiter.limit("1/hour")(lambda: "ok"))
    assert statuses(app, ("GET", path), ("GET", path), ("GET", "/items/another")) == [200, 429, 200]


@pytest.mark.parametrize(("server", "strategy"), COUNTED)
@pytest.mark.parametrize("keys", [(b"\xff", b"\xfe"), ("\ud800", "\ud801"), ("a b", "a\tb"), ("k" * 400, "k" * 401)])
def test_odd_and_long_keys_are_apart(
    make_app: MakeApp, limiter_on: Callable[..., Limiter], server: str, strategy: str, keys: tuple[Any, Any]
) -> None:
    limiter = limiter_on(server, strategy)
    app = make_app(limiter)

    def key(request: Request) -> Any:
        return keys[int(request.query_params["key"])]

    app.get("/")(limiter.limit("1/hour", key_func=key)(lambda: "ok"))
    assert statuses(app, *[("GET", f"/?key={at}") for at in (0, 0, 1, 1)]) == [200, 429, 200, 429]

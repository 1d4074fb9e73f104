"""What a Redis does to an event loop: one that takes connections and answers nobody, and one at half of its load."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import quantiles
from time import perf_counter_ns
from typing import Any

import slowapi
import slowapi.util
from figures import Figure, Rounds
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage as AsyncLimitsStorage
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from slidegate import Limiter
from slidegate.util import get_remote_address

_TICK_S = 0.001
_REQUESTS = 30
_EVERY_S = 0.01
_PATIENCE_S = 1
_LATENCIES = 4000
_CONNECTIONS = 100
_BLACK_HOLE = "a Redis that answers nobody; longest stall of the event loop while 30 requests come"
_HALF_LOAD = "Redis on the loopback, at half of the load that limits can bear; the slowest in a hundred checks"


def measure_stalls(rounds: int) -> list[Figure]:
    """Ours and slowapi's, whose Redis is given up after a second, as without a time-out the loop would stand still."""
    logging.getLogger("slidegate").addHandler(logging.NullHandler())
    ms: dict[str, list[float]] = {}
    for _ in range(rounds):
        with _black_hole() as port:
            uri = f"redis://127.0.0.1:{port}"
            patience = {"socket_timeout": _PATIENCE_S, "socket_connect_timeout": _PATIENCE_S}
            theirs = slowapi.Limiter(
                slowapi.util.get_remote_address,
                storage_uri=uri,
                storage_options=patience,
                swallow_errors=True,
                strategy="moving-window",
            )
            ours = Limiter(get_remote_address, storage_uri=uri, on_error="open")
            ms.setdefault("ours", []).append(asyncio.run(_longest_stall(ours, _REQUESTS)))
            ms.setdefault("theirs", []).append(asyncio.run(_longest_stall(theirs, 2)))
            ms.setdefault("nobody", []).append(asyncio.run(_longest_stall(None, _REQUESTS)))
    measured = Rounds(ms)
    theirs_ms = measured.typical("theirs")
    return [
        Figure(
            _BLACK_HOLE,
            "slidegate",
            "ms",
            measured.typical("ours"),
            measured.least("ours"),
            at_most=5,
            peer_name="slowapi",
            peer=theirs_ms,
        ),
        Figure(_BLACK_HOLE, "slowapi, of 2 requests", "ms", theirs_ms, measured.least("theirs")),
        Figure(_BLACK_HOLE, "no limiter", "ms", measured.typical("nobody"), measured.least("nobody")),
    ]


def measure_latencies(
    rounds: int, loop: asyncio.AbstractEventLoop, port: int, hit: Callable[[str], Awaitable[Any]], their_us: float
) -> list[Figure]:
    """Of `hit` and of limits, at the same rate: half of the one at which limits needs `their_us` for each check."""
    peer = AsyncLimitsStorage(f"async+redis://127.0.0.1:{port}", implementation="redispy")
    moving, item = AsyncMovingWindow(peer), RateLimitItemPerMinute(1_000_000)
    us: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, each in (("ours", hit), ("theirs", lambda key: moving.hit(item, key))):
            us.setdefault(name, []).append(loop.run_until_complete(_slowest_in_a_hundred(each, 2 * their_us)))
    loop.run_until_complete(peer.bridge.storage.aclose())
    measured = Rounds(us)
    theirs = measured.typical("theirs")
    return [
        Figure(
            _HALF_LOAD,
            "slidegate",
            "us",
            measured.typical("ours"),
            measured.least("ours"),
            peer_name="limits",
            peer=theirs,
            times_better=1,
        ),
        Figure(_HALF_LOAD, "limits on redis-py, moving window", "us", theirs, measured.least("theirs")),
    ]


async def _slowest_in_a_hundred(hit: Callable[[str], Awaitable[Any]], every_us: float) -> float:
    latencies_us: list[float] = []
    # redis-py refuses what is beyond its connections; to wait for one is part of the latency.
    at_once = asyncio.Semaphore(_CONNECTIONS)

    async def call(at: int) -> None:
        start = perf_counter_ns()
        async with at_once:
            await hit(f"203.0.113.{at % 100}")
        latencies_us.append((perf_counter_ns() - start) / 1000)

    begin, calls = perf_counter_ns(), []
    for at in range(_LATENCIES):
        while perf_counter_ns() - begin < at * every_us * 1000:
            await asyncio.sleep(0)
        calls.append(asyncio.ensure_future(call(at)))
    await asyncio.gather(*calls)
    return quantiles(latencies_us, n=100)[-1]


async def _longest_stall(limiter: Any, requests: int) -> float:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    limited = endpoint if limiter is None else limiter.limit("10/minute")(endpoint)
    app = Starlette(routes=[Route("/", limited), Route("/free", endpoint)])
    app.state.limiter = limiter
    # An application makes its parts with its first request, whoever limits it.
    await _call(app, "/free")
    stalls_ms: list[float] = []

    async def tick() -> None:
        while True:
            before = perf_counter_ns()
            await asyncio.sleep(_TICK_S)
            stalls_ms.append((perf_counter_ns() - before) / 1e6 - _TICK_S * 1000)

    ticking = asyncio.ensure_future(tick())
    calls = []
    for _ in range(requests):
        calls.append(asyncio.ensure_future(_call(app, "/")))
        await asyncio.sleep(_EVERY_S)
    await asyncio.gather(*calls)
    await asyncio.sleep(_EVERY_S)
    ticking.cancel()
    return max(stalls_ms)


async def _call(app: Starlette, path: str) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
        "client": ("203.0.113.1", 1),
    }

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        pass

    # slowapi swallows the error of the storage, and then raises one of its own.
    with suppress(Exception):
        await app(scope, receive, send)


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port whose connections the system takes, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield int(listener.getsockname()[1])

"""Counting inside a Redis server on the loopback, from an event loop and from a thread."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from time import perf_counter_ns
from typing import Any

import redis_server
import stalls
from figures import Figure, Rounds
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage as AsyncLimitsStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.storage import RedisStorage as LimitsStorage
from limits.strategies import MovingWindowRateLimiter

from slidegate._core import Quota
from slidegate._storage.redis.blocking_connection import SyncConnection
from slidegate._storage.redis.script import SCRIPT
from slidegate._storage.redis.storage import RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri

_AMOUNT = 1_000_000
_WINDOW_NS = 60_000_000_000
_CALLERS = 100
_CALLS = 4000
_BLOCKING_CALLS = 500
_LATENCY_ROUNDS = 5
_STALL_ROUNDS = 3
_ON_A_LOOP = f"Redis on the loopback, {_CALLERS} callers on one event loop; for each check"
_IN_A_THREAD = "Redis on the loopback, one thread that blocks; for each check"


def measure(rounds: int) -> list[Figure]:
    with redis_server.running() as port, closing(asyncio.new_event_loop()) as loop:
        storage = RedisStorage(parse_redis_uri(f"redis://127.0.0.1:{port}?command_timeout_ms=5000"))
        one, four = (storage.policy(_rules(count)) for count in (1, 4))
        item = RateLimitItemPerMinute(_AMOUNT)
        peer = AsyncLimitsStorage(f"async+redis://127.0.0.1:{port}", implementation="redispy")
        moving, fixed = AsyncMovingWindow(peer), AsyncFixedWindow(peer)
        blocking = MovingWindowRateLimiter(LimitsStorage(f"redis://127.0.0.1:{port}"))
        waiting: dict[str, Callable[[str], Awaitable[Any]]] = {
            "one": one.hit_async,
            "four": four.hit_async,
            "moving": lambda key: moving.hit(item, key),
            "fixed": lambda key: fixed.hit(item, "fixed", key),
        }
        at_once: dict[str, Callable[[str], Any]] = {
            "sync": one.hit,
            "sync limits": lambda key: blocking.hit(item, key),
        }
        us: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, hit in waiting.items():
                us.setdefault(name, []).append(loop.run_until_complete(_from_many(hit)))
            for name, call in at_once.items():
                us.setdefault(name, []).append(_from_one(call))
            us.setdefault("server", []).append(_by_the_servers_own_client(port))
        figures = _figures(Rounds(us))
        their_us = Rounds(us).typical("moving")
        figures += stalls.measure_latencies(min(rounds, _LATENCY_ROUNDS), loop, port, one.hit_async, their_us)
        storage.close()
        loop.run_until_complete(_close(peer))
    return figures + stalls.measure_stalls(min(rounds, _STALL_ROUNDS))


def _figures(measured: Rounds) -> list[Figure]:
    def figure(section: str, name: str, text: str, **aims: Any) -> Figure:
        return Figure(section, text, "us", measured.typical(name), measured.least(name), **aims)

    one, moving, blocking, server = (measured.typical(name) for name in ("one", "moving", "sync limits", "server"))
    return [
        figure(_ON_A_LOOP, "one", "slidegate", at_most=20, peer_name="limits", peer=moving, times_better=3),
        figure(_ON_A_LOOP, "one", "slidegate", peer_name="redis-benchmark", peer=server, times_better=0.5),
        figure(_ON_A_LOOP, "four", "slidegate, four limits", peer_name="one", peer=one, times_better=0.77),
        figure(_ON_A_LOOP, "moving", "limits on redis-py, moving window"),
        figure(_ON_A_LOOP, "fixed", "limits on redis-py, fixed window"),
        figure(_ON_A_LOOP, "server", "redis-benchmark, the same script pipelined"),
        figure(_IN_A_THREAD, "sync", "slidegate", peer_name="limits", peer=blocking, times_better=1.5),
        figure(_IN_A_THREAD, "sync limits", "limits on redis-py, moving window"),
    ]


def _rules(count: int) -> tuple[tuple[Quota, str], ...]:
    return tuple((Quota(_AMOUNT, _WINDOW_NS), f"benchmark {i}") for i in range(count))


async def _from_many(hit: Callable[[str], Awaitable[Any]]) -> float:
    async def call(key: str) -> None:
        for _ in range(_CALLS // _CALLERS):
            await hit(key)

    start = perf_counter_ns()
    await asyncio.gather(*(call(f"203.0.113.{i}") for i in range(_CALLERS)))
    return (perf_counter_ns() - start) / _CALLS / 1000


def _from_one(hit: Callable[[str], Any]) -> float:
    start = perf_counter_ns()
    for i in range(_BLOCKING_CALLS):
        hit(f"203.0.113.{i % _CALLERS}")
    return (perf_counter_ns() - start) / _BLOCKING_CALLS / 1000


def _by_the_servers_own_client(port: int) -> float:
    # redis-benchmark cannot send zero bytes, so the script makes the packed argument itself: half a microsecond more.
    packed = f"ARGV[2] = struct.pack('<c1dddd', 'm', {_AMOUNT}, 60000, 1000, 1)\n"
    connection = SyncConnection(parse_redis_uri(f"redis://127.0.0.1:{port}"))
    sha = connection.execute(b"SCRIPT", b"LOAD", packed.encode() + SCRIPT.text)
    connection.close()
    command = ["redis-benchmark", "-p", str(port), "-c", "1", "-P", str(_CALLERS), "-n", "20000"]
    done = subprocess.run([*command, "EVALSHA", sha, "1", "a key", "hit"], capture_output=True, check=True)
    found = re.search(rb"throughput summary: ([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"redis-benchmark says {done.stdout[-200:]!r}")
    return 1e6 / float(found[1])


async def _close(storage: AsyncLimitsStorage) -> None:
    await storage.bridge.storage.aclose()

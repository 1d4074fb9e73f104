"""Counting in several processes at once, from Python: in shared memory, and in what else processes can share."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TypeAlias

from figures import Figure, Rounds
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, MultiprocessBucket, Rate, RateItem

from slidegate._core import Limiter, Quota, Segment

_PROCESSES = 2
_AMOUNT = 10
_KEY = "203.0.113.42"
_SECTION = f"Python, {_PROCESSES} processes on one key of {_AMOUNT}/minute, which is used up; for each process"
_PATIENCE_S = 20
_fork = multiprocessing.get_context("fork")

MakeHit: TypeAlias = Callable[[], Callable[[], object]]
"""To be called in each process; what it returns hits once."""


def measure(rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory, _redis(Path(directory)) as uri:
        measured = _take_turns(
            {
                "slidegate": (_in_shared_memory(), 100_000),
                "redis": (_in_redis(uri), 500),
                "pyrate": (_in_a_manager(), 100),
            },
            rounds,
        )

    def figure(name: str, text: str, **peer: Any) -> Figure:
        return Figure(_SECTION, text, "ns", measured.typical(name), measured.least(name), **peer)

    ours = "slidegate, shared memory"
    return [
        figure("slidegate", ours, peer_name="PyrateLimiter", peer=measured.typical("pyrate"), times_better=200),
        figure("slidegate", ours, peer_name="Redis", peer=measured.typical("redis"), times_better=50),
        figure("pyrate", "PyrateLimiter, MultiprocessBucket"),
        figure("redis", "limits, moving window, Redis on a local socket"),
    ]


def _take_turns(ways: dict[str, tuple[MakeHit, int]], rounds: int) -> Rounds:
    ns: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (make_hit, times) in ways.items():
            ns[name].append(_elapsed_ns(make_hit, times) / times)
    return Rounds(ns)


def _elapsed_ns(make_hit: MakeHit, times: int) -> float:
    start, elapsed = _fork.Barrier(_PROCESSES), _fork.SimpleQueue()
    processes = [_fork.Process(target=_hit_often, args=(make_hit, times, start, elapsed)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError("a process that was to be measured has failed")
    return sum(elapsed.get() for _ in processes) / _PROCESSES


def _hit_often(make_hit: MakeHit, times: int, start: Barrier, elapsed: Any) -> None:
    hit = make_hit()
    for _ in range(2 * _AMOUNT):
        hit()
    start.wait(_PATIENCE_S)
    begin = perf_counter_ns()
    for _ in range(times):
        hit()
    elapsed.put(perf_counter_ns() - begin)


def _in_shared_memory() -> MakeHit:
    policy = Limiter(segment=Segment.inherited(Segment.default_size)).policy([(Quota(_AMOUNT, 60 * 10**9), "")])
    return lambda: lambda: policy.hit(_KEY)


def _in_redis(uri: str) -> MakeHit:
    item = RateLimitItemPerMinute(_AMOUNT)

    def make_hit() -> Callable[[], object]:
        strategy = MovingWindowRateLimiter(RedisStorage(uri))
        return lambda: strategy.hit(item, _KEY)

    return make_hit


def _in_a_manager() -> MakeHit:
    bucket = MultiprocessBucket.init([Rate(_AMOUNT, Duration.MINUTE)])
    return lambda: lambda: bucket.put(RateItem(_KEY, time.monotonic_ns() // 10**6))


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """A Redis that listens on a socket, and keeps nothing."""
    socket = directory / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, env={**os.environ})
    try:
        until = time.monotonic() + _PATIENCE_S
        while not socket.exists():
            if time.monotonic() > until:
                raise TimeoutError("redis-server does not start")
            time.sleep(0.01)
        yield f"redis+unix://{socket}"
    finally:
        server.terminate()
        server.wait()

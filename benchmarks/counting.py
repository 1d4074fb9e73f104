"""Counting from Python: the engine and the storages of the `limits` package, without any web framework."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from time import perf_counter_ns
from typing import Any

from figures import Figure, Run, take_turns
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter

from slidegate._core import Limiter, Quota

_KEY = "203.0.113.42"
_WINDOW_NS = 60_000_000_000
_SECTION = "Python; the loop around the call included"


def measure(rounds: int) -> list[Figure]:
    return [
        figure for amount, what in ((10, "refused"), (100_000, "admitted")) for figure in _figures(amount, what, rounds)
    ]


def _figures(amount: int, what: str, rounds: int) -> list[Figure]:
    item = RateLimitItemPerMinute(amount)
    measured = take_turns(
        {
            "slidegate": _slidegate(amount),
            "moving": _limits(MovingWindowRateLimiter, item),
            "fixed": _limits(FixedWindowRateLimiter, item),
        },
        rounds,
    )
    name = f"{amount}/minute, {what}"
    moving = measured.typical("moving")
    return [
        Figure(
            _SECTION,
            f"Policy.hit, {name}",
            "ns",
            measured.typical("slidegate"),
            measured.least("slidegate"),
            at_most=200,
            peer_name="limits",
            peer=moving,
            times_better=15,
        ),
        Figure(_SECTION, f"limits, moving window, {name}", "ns", moving, measured.least("moving")),
        Figure(_SECTION, f"limits, fixed window, {name}", "ns", measured.typical("fixed"), measured.least("fixed")),
    ]


def _slidegate(amount: int) -> Run:
    limiter = Limiter()
    policy = limiter.policy([(Quota(amount, _WINDOW_NS), "benchmark")])
    hit = policy.hit

    def run(times: int) -> int:
        policy.reset(_KEY)
        _use_up(lambda: hit(_KEY)[0], amount)
        start = perf_counter_ns()
        for _ in repeat(None, times):
            hit(_KEY)
        return perf_counter_ns() - start

    return run


def _limits(strategy: Callable[[MemoryStorage], RateLimiter], item: RateLimitItem) -> Run:
    storage = MemoryStorage()
    hit: Callable[[Any, str], bool] = strategy(storage).hit

    def run(times: int) -> int:
        storage.reset()
        _use_up(lambda: hit(item, _KEY), item.amount)
        start = perf_counter_ns()
        for _ in repeat(None, times):
            hit(item, _KEY)
        return perf_counter_ns() - start

    return run


def _use_up(hit: Callable[[], bool], amount: int) -> None:
    # A limit that a round may reach is reached before it begins, so that all of the round is refused.
    if amount <= 10:
        while hit():
            pass

"""The async strategies of `limits` on the engine, beside the same strategies on its own MemoryStorage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, parse
from limits.aio import strategies
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import RateLimiter
from limits.storage import StorageTypes, storage_from_string

from slidegate.decision import NS_PER_S
from slidegate.limits_storage import AsyncSlidegateStorage
from slidegate.testing import ManualClock, advance

MakeLimiter = Callable[[StorageTypes], RateLimiter]
STRATEGIES: list[MakeLimiter] = [
    make for name, make in strategies.STRATEGIES.items() if name != "fixed-window-elastic-expiry"
]
GRID_S = 400_000 * 3600
STEP_S = st.integers(0, 280).map(lambda quarters: quarters / 4 + 0.001)
"""Steps after which no hit comes at the very moment at which another expires, where the storages differ on purpose."""


@pytest.fixture
def wall(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The engine's clock, and the wall's with it, at the beginning of a window."""
    clock.set(GRID_S * NS_PER_S)
    monkeypatch.setattr(time, "time", lambda: clock.now() / NS_PER_S)
    return clock


async def hits(limiter: RateLimiter, item: RateLimitItem, count: int, who: str = "ada") -> list[bool]:
    return [await limiter.hit(item, who) for _ in range(count)]


def test_the_uri_opens_the_storage() -> None:
    assert isinstance(storage_from_string("async+slidegate://?size=2MiB"), AsyncSlidegateStorage)


@pytest.mark.parametrize("make", STRATEGIES)
def test_limits_are_kept_cleared_and_reset(make: MakeLimiter, wall: ManualClock) -> None:
    storage = AsyncSlidegateStorage(clock=wall)
    limiter = make(storage)
    item = parse("3/minute")

    async def play() -> None:
        assert await hits(limiter, item, 4) == [True, True, True, False]
        assert not await limiter.test(item, "ada")
        assert (await limiter.get_window_stats(item, "ada")).remaining == 0
        assert await limiter.hit(item, "bob", cost=3)
        await limiter.clear(item, "ada")
        assert await hits(limiter, item, 4) == [True, True, True, False]
        assert not await limiter.hit(item, "bob")
        assert await storage.check()
        assert await storage.reset() == 2
        assert await limiter.hit(item, "ada", cost=3)
        assert await limiter.hit(item, "bob", cost=3)

    asyncio.run(play())


def test_windows_tell_when_they_end(wall: ManualClock) -> None:
    storage = AsyncSlidegateStorage(clock=wall)
    key = parse("5/minute").key_for("ada")

    async def play() -> None:
        assert await storage.incr(key, 60, amount=2) == 2
        assert await storage.acquire_entry(key, 5, 60)
        assert await storage.acquire_sliding_window_entry(key, 5, 60, amount=4)
        advance(wall, seconds=15)
        assert await storage.get(key) == 2
        assert await storage.get_expiry(key) == pytest.approx(GRID_S + 60, abs=1e-5)
        assert await storage.get_moving_window(key, 5, 60) == pytest.approx((GRID_S, 1), abs=1e-5)
        assert await storage.get_sliding_window(key, 60) == pytest.approx((0, 0, 4, 105), abs=1e-6)
        await storage.clear_sliding_window(key, 60)
        assert (await storage.get_sliding_window(key, 60))[:3] == (0, 0.0, 0)

    asyncio.run(play())


@pytest.mark.parametrize("make", STRATEGIES)
def test_nothing_is_over_admitted_by_tasks(make: MakeLimiter, wall: ManualClock) -> None:
    limiter = make(AsyncSlidegateStorage(clock=wall))

    async def play() -> int:
        return sum(map(sum, await asyncio.gather(*(hits(limiter, parse("50/minute"), 20) for _ in range(8)))))

    assert asyncio.run(play()) == 50


@pytest.mark.parametrize("make", STRATEGIES)
@given(moves=st.lists(st.tuples(STEP_S, st.integers(1, 12)), min_size=1, max_size=60))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_comes_to_the_same_as_in_memory(
    make: MakeLimiter, wall: ManualClock, moves: Sequence[tuple[float, int]]
) -> None:
    wall.set(GRID_S * NS_PER_S)
    item = parse("10/minute")

    async def play() -> None:
        both = [make(storage) for storage in (MemoryStorage(), AsyncSlidegateStorage(clock=wall))]
        for step_s, cost in moves:
            advance(wall, seconds=step_s)
            tests = [await limiter.test(item, "ada", cost=cost) for limiter in both]
            outcomes = [await limiter.hit(item, "ada", cost=cost) for limiter in both]
            memory, native = [await limiter.get_window_stats(item, "ada") for limiter in both]
            assert tests[0] == tests[1] == outcomes[0] == outcomes[1]
            assert memory.remaining == native.remaining

    asyncio.run(play())

"""The sliding-window counter of the storage for `limits`, beside that of limits' own MemoryStorage."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.storage.base
import limits.strategies
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, parse
from test_limits_storage import NoTimer

from slidegate.decision import NS_PER_S
from slidegate.limits_storage import AsyncSlidegateStorage, SlidegateStorage
from slidegate.testing import ManualClock, advance, frozen

pytestmark = pytest.mark.skipif(
    "sliding-window-counter" not in limits.strategies.STRATEGIES,
    reason="this version of limits has no sliding-window counter",
)
BEGUN_S = 1_700_000_000
MICROSECOND_S = 1e-6
# Before limits 5, clearing forgot no windows of the sliding-window counter in MemoryStorage.
IS_CLEARED = hasattr(limits.storage.MemoryStorage, "clear_sliding_window")
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "sync": (limits.strategies, limits.storage.MemoryStorage, SlidegateStorage),
    "async": (limits.aio.strategies, limits.aio.storage.MemoryStorage, AsyncSlidegateStorage),
}


class Wall:
    """What time.time() says, in whole microseconds."""

    def __init__(self) -> None:
        self.micros = BEGUN_S * 1_000_000

    def read(self) -> float:
        return self.micros / 1e6


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(threading, "Timer", NoTimer)
    monkeypatch.setattr(time, "time", wall.read)
    return wall


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Sliding:
    """The strategy on a storage, whether it is to be awaited or not."""

    def __init__(self, kind: str, storage: Any, loop: asyncio.AbstractEventLoop) -> None:
        strategies = KINDS[kind][0]
        self._strategy = strategies.STRATEGIES["sliding-window-counter"](storage)
        self._storage = storage
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **keywords: self._told(getattr(self._strategy, name)(*arguments, **keywords))

    def get_sliding_window(self, key: str, expiry: int) -> Any:
        return self._told(self._storage.get_sliding_window(key, expiry))

    def _told(self, answer: Any) -> Any:
        return self._loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def both(kind: str, loop: asyncio.AbstractEventLoop) -> list[Sliding]:
    _, memory, native = KINDS[kind]
    return [Sliding(kind, storage(), loop) for storage in (memory, native)]


def reset_by_memory(memory: Sliding, item: RateLimitItem, wall: Wall) -> float:
    """What MemoryStorage tells, but that a window which begins this very moment does not end now."""
    expiry = item.get_expiry()
    previous, previous_left_s, current, _ = memory.get_sliding_window(item.key_for("ada"), expiry)
    if current and wall.micros % (expiry * 1_000_000) == 0:
        return wall.read() + (previous_left_s % (expiry / previous) if previous else expiry)
    return float(memory.get_window_stats(item, "ada").reset_time)


MOVES = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 150_000_000),  # any microsecond
            st.integers(0, 600).map(lambda quarters: quarters * 250_000),
            st.sampled_from([1, 59_999_999, 60_000_000, 60_000_001, 119_999_999, 120_000_000, 120_000_001]),
        ),
        st.sampled_from(["hit", "hit", "hit", "test", *(["clear"] if IS_CLEARED else [])]),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("limit", ["1/second", "3/minute", "10/minute", "40/minute", "7/2 minute"])
@given(start=st.integers(0, 3_600_000_000), moves=MOVES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fault_42_admissions_remainders_and_resets_are_those_of_memory_at_any_moment(
    kind: str,
    limit: str,
    wall: Wall,
    loop: asyncio.AbstractEventLoop,
    start: int,
    moves: Sequence[tuple[int, str, int]],
) -> None:
    wall.micros = BEGUN_S * 1_000_000 + start
    item = parse(limit)
    memory, native = both(kind, loop)
    for micros, call, cost in moves:
        wall.micros += micros
        if call == "clear":
            memory.clear(item, "ada")
            native.clear(item, "ada")
        else:
            outcomes = [getattr(limiter, call)(item, "ada", cost=cost) for limiter in (memory, native)]
            assert outcomes[0] == outcomes[1]
        told = native.get_window_stats(item, "ada")
        assert told.remaining == memory.get_window_stats(item, "ada").remaining
        assert told.reset_time == pytest.approx(reset_by_memory(memory, item, wall), abs=MICROSECOND_S)


def test_fault_42_the_reset_is_the_end_of_the_window_on_the_wall(
    kind: str, wall: Wall, loop: asyncio.AbstractEventLoop
) -> None:
    wall.micros = (BEGUN_S // 60 * 60 + 60) * 1_000_000 - 330_000
    for limiter in both(kind, loop):
        assert limiter.hit(parse("3/minute"), "ada")
        stats = limiter.get_window_stats(parse("3/minute"), "ada")
        assert stats.reset_time - wall.read() == pytest.approx(0.33, abs=1e-5)


def test_fault_42_the_storages_say_that_their_windows_go_by_the_wall(kind: str) -> None:
    assert issubclass(KINDS[kind][2], limits.storage.base.TimestampedSlidingWindow)


@pytest.mark.skipif(not IS_CLEARED, reason="this version of limits clears no sliding windows alone")
def test_fault_42_clearing_the_sliding_windows_leaves_other_strategies_alone(wall: Wall) -> None:
    item = parse("1/minute")
    for storage in (limits.storage.MemoryStorage(), SlidegateStorage()):
        strategies = {
            name: make(storage) for name, make in limits.strategies.STRATEGIES.items() if "elastic" not in name
        }
        assert all(strategy.hit(item, "ada") for strategy in strategies.values())
        strategies["sliding-window-counter"].clear(item, "ada")
        again = {name: strategy.hit(item, "ada") for name, strategy in strategies.items()}
        assert again == {"sliding-window-counter": True, "fixed-window": False, "moving-window": False}


def test_fault_42_a_wall_clock_that_is_set_back_a_little_finds_its_counts_again(
    kind: str, wall: Wall, loop: asyncio.AbstractEventLoop
) -> None:
    item = parse("3/minute")
    memory, native = both(kind, loop)
    for seconds in (0, 40, 55, 100):
        wall.micros = (BEGUN_S + seconds) * 1_000_000
        assert memory.hit(item, "ada") == native.hit(item, "ada")
    for seconds in (99, 56, 41, 20):
        wall.micros = (BEGUN_S + seconds) * 1_000_000
        assert native.get_window_stats(item, "ada").remaining == memory.get_window_stats(item, "ada").remaining
        assert memory.hit(item, "ada") == native.hit(item, "ada")


@pytest.mark.parametrize("seconds", [0, 15, 45, 119.999])
def test_fault_42_a_clock_of_the_tests_own_moves_the_windows(seconds: float, clock: ManualClock) -> None:
    clock.set(BEGUN_S * NS_PER_S)
    limiter = limits.strategies.STRATEGIES["sliding-window-counter"](SlidegateStorage(clock=clock))
    assert limiter.hit(parse("1/minute"), "ada")
    advance(clock, seconds=seconds)
    # The window before weighs less than a whole hit as soon as it is not wholly within the last minute.
    begun_s = BEGUN_S % 60
    assert limiter.test(parse("1/minute"), "ada") == (seconds > 60 - begun_s)
    advance(clock, seconds=120)
    assert limiter.hit(parse("1/minute"), "ada")


def test_fault_42_time_that_is_stopped_stops_the_windows_too(wall: Wall) -> None:
    limiter = limits.strategies.STRATEGIES["sliding-window-counter"](SlidegateStorage())
    with frozen(limiter) as time_:
        assert limiter.hit(parse("1/minute"), "ada")
        wall.micros += 3600 * 1_000_000
        assert not limiter.hit(parse("1/minute"), "ada")
        time_.advance(seconds=120)
        assert limiter.hit(parse("1/minute"), "ada")


def test_fault_42_threads_take_no_more_than_the_weighted_rest(wall: Wall) -> None:
    limiter = limits.strategies.STRATEGIES["sliding-window-counter"](SlidegateStorage())
    item = parse("500/minute")
    wall.micros = BEGUN_S // 60 * 60 * 1_000_000
    assert limiter.hit(item, "ada", cost=400)
    wall.micros += 75_000_000
    admitted: list[int] = []
    together = threading.Barrier(8)

    def call() -> None:
        together.wait()
        admitted.append(sum(limiter.hit(item, "ada") for _ in range(100)))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 400 of the minute before weigh 300.
    assert sum(admitted) == 200

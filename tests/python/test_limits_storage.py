"""The strategies of `limits` on the engine, beside the same strategies on its own MemoryStorage."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import STRATEGIES, RateLimiter

from slidegate.decision import NS_PER_S
from slidegate.limits_storage import SlidegateStorage
from slidegate.testing import ManualClock, advance

MakeStorage = Callable[[], Storage]

NAMES = sorted(STRATEGIES.keys() - {"fixed-window-elastic-expiry"})
GRID_S = 400_000 * 3600
"""A moment at which windows of a minute and of an hour begin, for grids that begin with the epoch."""
is_with_sliding_windows = pytest.mark.skipif(
    "sliding-window-counter" not in STRATEGIES, reason="this version of limits has no sliding-window counter"
)


def at_the_grid(clock: ManualClock) -> None:
    clock.set(GRID_S * NS_PER_S)


class NoTimer:
    """Sweeps nothing: MemoryStorage's timer thread does not change what it answers, but it can trip over the test's."""

    def __init__(self, *_: object) -> None: ...
    def start(self) -> None: ...
    def is_alive(self) -> bool:
        return True


@pytest.fixture
def wall(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The engine's clock, and the wall's with it."""
    monkeypatch.setattr(threading, "Timer", NoTimer)
    at_the_grid(clock)
    monkeypatch.setattr(time, "time", lambda: clock.now() / NS_PER_S)
    return clock


@pytest.fixture
def native(wall: ManualClock) -> SlidegateStorage:
    return SlidegateStorage(clock=wall)


@pytest.fixture(params=["memory", "slidegate"])
def storage(request: pytest.FixtureRequest, wall: ManualClock) -> Storage:
    return MemoryStorage() if request.param == "memory" else SlidegateStorage(clock=wall)


@pytest.fixture(params=NAMES)
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def told_within_s(storage: Storage) -> float:
    """How far off the moments may be that a storage tells."""
    # MemoryStorage told whole seconds before limits 4.
    is_whole = isinstance(storage, MemoryStorage) and isinstance(storage.get_expiry("free"), int)
    return 1 if is_whole else 1e-5


def strategy_on(storage: Storage, name: str) -> RateLimiter:
    return STRATEGIES[name](storage)


def hits(limiter: RateLimiter, item: RateLimitItem, count: int, cost: int = 1, who: str = "ada") -> list[bool]:
    return [limiter.hit(item, who, cost=cost) for _ in range(count)]


# What both storages answer alike.


@pytest.mark.parametrize("uri", ["slidegate://", "slidegate://?size=2MiB&on_full=refuse"])
def test_the_uri_opens_the_storage(uri: str) -> None:
    assert isinstance(storage_from_string(uri), SlidegateStorage)


def test_as_many_hits_pass_as_the_limit_says(storage: Storage, strategy: str) -> None:
    assert hits(strategy_on(storage, strategy), parse("3/minute"), 5) == [True, True, True, False, False]


def test_identifiers_and_limits_do_not_share(storage: Storage, strategy: str) -> None:
    limiter = strategy_on(storage, strategy)
    assert hits(limiter, parse("1/minute"), 2) == [True, False]
    assert limiter.hit(parse("1/minute"), "bob")
    assert limiter.hit(parse("1/hour"), "ada")


def test_a_cost_above_the_limit_is_refused(storage: Storage, strategy: str) -> None:
    limiter = strategy_on(storage, strategy)
    assert not limiter.test(parse("3/minute"), "ada", cost=4)
    assert not limiter.hit(parse("3/minute"), "ada", cost=4)


def test_a_limit_of_nothing_refuses_and_has_nothing_left(storage: Storage, strategy: str) -> None:
    limiter = strategy_on(storage, strategy)
    nothing = RateLimitItemPerMinute(0)
    assert not limiter.hit(nothing, "ada")
    assert limiter.get_window_stats(nothing, "ada").remaining == 0


def test_all_is_back_when_the_windows_are_over(storage: Storage, strategy: str, wall: ManualClock) -> None:
    limiter = strategy_on(storage, strategy)
    hits(limiter, parse("3/minute"), 3)
    advance(wall, seconds=120.001)
    assert limiter.get_window_stats(parse("3/minute"), "ada").remaining == 3
    assert hits(limiter, parse("3/minute"), 4) == [True, True, True, False]


def test_reset_forgets_all_and_says_how_many(storage: Storage, strategy: str) -> None:
    limiter = strategy_on(storage, strategy)
    for who in ("ada", "bob"):
        hits(limiter, parse("1/minute"), 1, who=who)
    assert storage.reset() == 2
    assert limiter.hit(parse("1/minute"), "ada")


def test_the_storage_is_healthy(storage: Storage) -> None:
    assert storage.check() is True


def test_a_fixed_window_goes_on_counting_above_the_limit(storage: Storage) -> None:
    item = parse("2/minute")
    assert [storage.incr(item.key_for("ada"), 60) for _ in range(4)] == [1, 2, 3, 4]
    assert storage.get(item.key_for("ada")) == 4
    assert storage.incr(item.key_for("ada"), 60, amount=5) == 9


def test_a_fixed_window_starts_with_the_first_hit(storage: Storage, wall: ManualClock) -> None:
    advance(wall, seconds=17.25)
    limiter = strategy_on(storage, "fixed-window")
    hits(limiter, parse("1/minute"), 1)
    advance(wall, seconds=10)
    hits(limiter, parse("1/minute"), 1)
    reset_time = limiter.get_window_stats(parse("1/minute"), "ada").reset_time
    assert reset_time == pytest.approx(GRID_S + 77.25, abs=told_within_s(storage))
    advance(wall, seconds=49.999)
    assert not limiter.test(parse("1/minute"), "ada")
    advance(wall, seconds=0.001)
    assert limiter.test(parse("1/minute"), "ada")


@pytest.mark.parametrize(
    "key", ["free", "LIMITER/ada/3/1/fortnight", "a/b/c/minute", "LIMITER/1/0/minute", "", "é\x00"]
)
def test_a_key_that_tells_no_limit_is_found(key: str, storage: Storage, wall: ManualClock) -> None:
    storage.incr("another", 5)
    storage.incr(key, 30, amount=2)
    assert storage.get(key) == 2
    assert storage.get_expiry(key) == pytest.approx(GRID_S + 30, abs=1e-5)
    storage.clear(key)
    assert storage.get(key) == 0
    assert storage.get("another") == 1


def test_a_key_without_a_window_expires_now(storage: Storage) -> None:
    assert storage.get_expiry("LIMITER/ada/3/1/minute") == GRID_S
    assert storage.get_expiry("free") == GRID_S
    assert storage.get_moving_window("free", 5, 60) == (GRID_S, 0)  # type: ignore[attr-defined]


def test_a_window_can_be_less_than_a_second(storage: Storage, wall: ManualClock) -> None:
    storage.incr("free", 0.5)  # type: ignore[arg-type]
    advance(wall, seconds=0.499)
    assert storage.get("free") == 1
    advance(wall, seconds=0.001)
    assert storage.get("free") == 0


def test_a_limit_with_a_window_of_its_own_is_found(storage: Storage) -> None:
    class PerMinuteAndAHalf(RateLimitItemPerMinute):
        def get_expiry(self) -> int:
            return 90

    limiter = strategy_on(storage, "fixed-window")
    assert hits(limiter, PerMinuteAndAHalf(2), 3) == [True, True, False]
    assert not limiter.test(PerMinuteAndAHalf(2), "ada")
    assert limiter.get_window_stats(PerMinuteAndAHalf(2), "ada").reset_time == pytest.approx(GRID_S + 90, abs=1e-5)


def test_a_moving_window_tells_its_oldest_hit(storage: Storage, wall: ManualClock) -> None:
    item = parse("5/minute")
    limiter = strategy_on(storage, "moving-window")
    for _ in range(3):
        hits(limiter, item, 1)
        advance(wall, seconds=7)
    key = item.key_for("ada")
    start, count = storage.get_moving_window(key, 5, 60)  # type: ignore[attr-defined]
    assert (start, count) == (pytest.approx(GRID_S, abs=1e-5), 3)
    advance(wall, seconds=40)
    start, count = storage.get_moving_window(key, 5, 60)  # type: ignore[attr-defined]
    assert (start, count) == (pytest.approx(GRID_S + 7, abs=1e-5), 2)


@pytest.mark.parametrize("cost", [0, -1])
def test_a_moving_window_lets_costs_below_one_pass_and_takes_nothing(cost: int, storage: Storage) -> None:
    limiter = strategy_on(storage, "moving-window")
    hits(limiter, parse("2/minute"), 2)
    assert limiter.hit(parse("2/minute"), "ada", cost=cost)
    assert limiter.get_window_stats(parse("2/minute"), "ada").remaining == 0
    assert not limiter.hit(parse("2/minute"), "ada")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "moving-window"])
def test_a_cost_of_nothing_takes_nothing(name: str, storage: Storage) -> None:
    limiter = strategy_on(storage, name)
    hits(limiter, parse("2/minute"), 1)
    assert limiter.hit(parse("2/minute"), "ada", cost=0)
    assert limiter.get_window_stats(parse("2/minute"), "ada").remaining == 1


def test_a_cost_that_is_no_number_is_a_type_error(storage: Storage, strategy: str) -> None:
    limiter = strategy_on(storage, strategy)
    with pytest.raises(TypeError):
        limiter.hit(parse("2/minute"), "ada", cost="1")  # type: ignore[arg-type]
    assert limiter.get_window_stats(parse("2/minute"), "ada").remaining == 2


# No two moments differ by whole quarters of a second unless there are 250 of these steps between them: no hit comes at
# the very moment at which another expires, where the storages differ on purpose.
STEP_S = st.integers(0, 280).map(lambda quarters: quarters / 4 + 0.001)
MOVES = st.lists(st.tuples(STEP_S, st.sampled_from(["ada", "bob"]), st.integers(1, 12)), min_size=1, max_size=80)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", ["1/minute", "10/minute", "40/minute"])
@given(moves=MOVES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_comes_to_the_same_as_in_memory(
    name: str, limit: str, wall: ManualClock, moves: Sequence[tuple[float, str, int]]
) -> None:
    at_the_grid(wall)
    item = parse(limit)
    reference = MemoryStorage()
    both = [strategy_on(storage, name) for storage in (reference, SlidegateStorage(clock=wall))]
    for step_s, who, cost in moves:
        advance(wall, seconds=step_s)
        tests = [limiter.test(item, who, cost=cost) for limiter in both]
        outcomes = [limiter.hit(item, who, cost=cost) for limiter in both]
        memory, native = (limiter.get_window_stats(item, who) for limiter in both)
        assert tests[0] == tests[1]
        assert outcomes[0] == outcomes[1]
        assert outcomes[1] == tests[1]
        assert memory.remaining == native.remaining
        if name != "sliding-window-counter" and memory.remaining < item.amount:
            assert native.reset_time == pytest.approx(memory.reset_time, abs=told_within_s(reference))


# What differs on purpose.


def test_unlike_memory_a_unit_is_back_exactly_one_window_later(native: SlidegateStorage, wall: ManualClock) -> None:
    limiters = [strategy_on(storage, "moving-window") for storage in (MemoryStorage(), native)]
    for limiter in limiters:
        hits(limiter, parse("1/minute"), 1)
    advance(wall, seconds=60)
    assert [limiter.hit(parse("1/minute"), "ada") for limiter in limiters] == [False, True]


def test_unlike_memory_large_limits_give_units_back_up_to_a_sixtieth_of_the_window_late(
    native: SlidegateStorage, wall: ManualClock
) -> None:
    item = parse("1000/minute")
    limiter = strategy_on(native, "moving-window")
    hits(limiter, item, 1)
    advance(wall, seconds=0.5)
    hits(limiter, item, 1, cost=999)
    advance(wall, seconds=59.5)
    assert not limiter.hit(item, "ada")
    assert limiter.get_window_stats(item, "ada").reset_time == pytest.approx(GRID_S + 60.5, abs=1e-5)
    advance(wall, seconds=0.5)
    assert limiter.hit(item, "ada", cost=1000)


@pytest.mark.parametrize("cost", [-1, -5, -(2**70)])
def test_unlike_memory_a_negative_cost_credits_nothing(cost: int, native: SlidegateStorage, strategy: str) -> None:
    limiter = strategy_on(native, strategy)
    hits(limiter, parse("2/minute"), 1)
    assert limiter.hit(parse("2/minute"), "ada", cost=cost)
    assert limiter.get_window_stats(parse("2/minute"), "ada").remaining == 1


def test_unlike_memory_a_fraction_counts_as_the_next_whole_number(native: SlidegateStorage, strategy: str) -> None:
    limiter = strategy_on(native, strategy)
    assert limiter.hit(parse("5/minute"), "ada", cost=1.5)  # type: ignore[arg-type]
    assert limiter.get_window_stats(parse("5/minute"), "ada").remaining == 3


@pytest.mark.parametrize("cost", [math.nan, math.inf, -math.inf, 1e300, 2**70])
def test_unlike_memory_a_cost_beyond_numbers_is_refused_and_not_counted(
    cost: float, native: SlidegateStorage, strategy: str
) -> None:
    limiter = strategy_on(native, strategy)
    assert not limiter.hit(parse("5/minute"), "ada", cost=cost)  # type: ignore[arg-type]
    assert limiter.get_window_stats(parse("5/minute"), "ada").remaining == 5


def test_unlike_memory_other_windows_of_a_free_key_count_apart_and_the_fullest_is_read(
    native: SlidegateStorage,
) -> None:
    assert [native.incr("free", 60), native.incr("free", 60), native.incr("free", 10)] == [1, 2, 1]
    assert native.get("free") == 2
    assert native.get_expiry("free") == pytest.approx(GRID_S + 60, abs=1e-5)


def test_unlike_memory_other_limits_of_a_free_key_count_apart(native: SlidegateStorage) -> None:
    assert native.acquire_entry("free", 1, 60)
    assert not native.acquire_entry("free", 1, 60)
    assert native.acquire_entry("free", 2, 60)


@is_with_sliding_windows
def test_a_sliding_window_is_reported_as_two(storage: Storage, wall: ManualClock) -> None:
    item = parse("10/minute")
    limiter = strategy_on(storage, "sliding-window-counter")
    hits(limiter, item, 6)
    advance(wall, seconds=75)
    hits(limiter, item, 2)
    # Six of the window before weigh 4.5 with three quarters of it left; one comes back every ten seconds.
    window = storage.get_sliding_window(item.key_for("ada"), 60)  # type: ignore[attr-defined]
    assert window == pytest.approx((6, 45, 2, 105), abs=1e-6)
    assert tuple(limiter.get_window_stats(item, "ada")) == pytest.approx((GRID_S + 80, 4), abs=1e-5)
    advance(wall, seconds=5.001)
    assert limiter.get_window_stats(item, "ada").remaining == 5


def test_the_sliding_window_of_a_free_key_is_found(native: SlidegateStorage) -> None:
    native.acquire_sliding_window_entry("free", 5, 60, amount=2)
    native.acquire_sliding_window_entry("free", 5, 10, amount=3)
    assert native.get_sliding_window("free", 60)[2] == 2
    native.acquire_sliding_window_entry("tells/another/5/1/minute", 7, 60, amount=6)
    assert native.get_sliding_window("tells/another/5/1/minute", 60)[2] == 6
    native.clear_sliding_window("free", 60)
    assert native.get_sliding_window("free", 60)[:3] == (0, 0.0, 0)
    assert native.get_sliding_window("free", 10)[2] == 3


@is_with_sliding_windows
def test_a_sliding_window_just_begun_does_not_call_itself_over(native: SlidegateStorage, wall: ManualClock) -> None:
    limiter = strategy_on(native, "sliding-window-counter")
    hits(limiter, parse("1/minute"), 1)
    assert limiter.get_window_stats(parse("1/minute"), "ada").reset_time == pytest.approx(GRID_S + 60, abs=1e-5)


def test_unlike_memory_a_fixed_window_that_is_full_reads_as_above_any_limit(native: SlidegateStorage) -> None:
    most = 8_388_607
    limiter = strategy_on(native, "fixed-window")
    item = RateLimitItemPerMinute(10 * most)
    key = item.key_for("ada")
    assert native.incr(key, 60, amount=most - 1) == most - 1
    assert native.incr(key, 60, amount=2) > item.amount
    assert native.get(key) == most - 1
    assert limiter.hit(item, "ada")
    assert not limiter.hit(item, "ada")
    assert not limiter.test(item, "ada")
    assert limiter.get_window_stats(item, "ada").remaining == 0


def test_unlike_memory_nothing_can_be_taken_back_by_key(native: SlidegateStorage) -> None:
    assert not hasattr(native, "decr")


# What only the engine promises.


def test_clear_forgets_one_identity(native: SlidegateStorage, strategy: str) -> None:
    limiter = strategy_on(native, strategy)
    for who in ("ada", "bob"):
        hits(limiter, parse("1/minute"), 1, who=who)
    limiter.clear(parse("1/minute"), "ada")
    assert limiter.hit(parse("1/minute"), "ada")
    assert not limiter.hit(parse("1/minute"), "bob")


def test_nothing_is_over_admitted_by_threads(native: SlidegateStorage, strategy: str) -> None:
    limiter = strategy_on(native, strategy)
    item = parse("500/minute")
    admitted: list[int] = []
    together = threading.Barrier(8)

    def call() -> None:
        together.wait()
        admitted.append(sum(hits(limiter, item, 200)))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 500


def test_more_limits_than_are_remembered_lose_no_hits(native: SlidegateStorage, strategy: str) -> None:
    limiter = strategy_on(native, strategy)
    items = [RateLimitItemPerMinute(2, multiples) for multiples in range(1, 601)]
    assert all(limiter.hit(item, "ada", cost=2) for item in items)
    assert not any(limiter.test(item, "ada") or limiter.hit(item, "ada") for item in items)
    assert all(sum(1 for _ in rules) <= 256 for rules in (native._fixed, native._moving, native._sliding))
    limiter.clear(items[0], "ada")
    assert limiter.hit(items[0], "ada")


def test_storages_share_nothing(wall: ManualClock) -> None:
    first, second = (strategy_on(SlidegateStorage(clock=wall), "moving-window") for _ in range(2))
    assert hits(first, parse("1/minute"), 2) == [True, False]
    assert second.hit(parse("1/minute"), "ada")

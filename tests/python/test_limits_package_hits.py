"""Several limits by a strategy of `limits`: what is taken, and what is told of it."""

from __future__ import annotations

import limits.storage
import limits.strategies
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from slidegate._rules.bucket import bucket_of
from slidegate._rules.hit import Hit
from slidegate._storage.limits_package.hits import LimitsPackageHits
from slidegate._support.waiting import run_blocking
from slidegate.decision import NS_PER_S
from slidegate.wrappers import LimitGroup

START_S = 1_700_000_000.0
KNOWN = sorted({"fixed-window", "moving-window", "sliding-window-counter"} & limits.strategies.STRATEGIES.keys())
SECONDS = st.floats(0, 70, allow_nan=False)


def counter_on(strategy: str) -> LimitsPackageHits:
    storage = limits.storage.MemoryStorage()
    # What it does in a thread of its own to forget old counts can come between two steps of a hit.
    storage.timer.cancel()
    storage._MemoryStorage__schedule_expiry = lambda: None
    return LimitsPackageHits(limits.strategies.STRATEGIES[strategy](storage), "")


def hits_of(notation: str, cost: int = 1) -> list[Hit]:
    options = (None, False, None, None, None, cost, False)
    group = LimitGroup(notation, lambda: "ada", *options, strategy="moving-window", where="a test")
    place = bucket_of("", "url", "/items", None)
    return [Hit(limit, group, limit.quota, place, "ada", cost) for limit in group.limits or () if limit.quota]


def counted(counter: LimitsPackageHits, hit: Hit) -> int:
    stats = counter.strategy.get_window_stats(hit.limit.limit, "ada", "/items")
    return hit.limit.limit.amount - int(stats.remaining)


@pytest.mark.parametrize("strategy", KNOWN)
def test_a_refusal_takes_nothing_of_any_limit(strategy: str) -> None:
    counter, (hourly, minutely) = counter_on(strategy), hits_of("9/hour; 2/minute")
    with time_machine.travel(START_S, tick=False):
        assert [run_blocking(counter.hit_all([hourly, minutely]))[1][0] for _ in range(4)] == [True, True, False, False]
        assert (counted(counter, hourly), counted(counter, minutely)) == (2, 2)


@pytest.mark.parametrize("strategy", KNOWN)
def test_of_several_limits_the_scarcest_is_told(strategy: str) -> None:
    counter, (hourly, minutely) = counter_on(strategy), hits_of("3/hour; 5/minute")
    with time_machine.travel(START_S, tick=False):
        assert [run_blocking(counter.hit_all([hourly, minutely]))[0] for _ in range(2)] == [hourly, hourly]
        assert run_blocking(counter.hit_all([hourly, minutely]))[1][2] == 0


@pytest.mark.parametrize("strategy", KNOWN)
def test_a_refusal_of_much_leaves_room_for_little(strategy: str) -> None:
    counter, (much,), (little,) = counter_on(strategy), hits_of("10/minute", 6), hits_of("10/minute", 1)
    with time_machine.travel(START_S, tick=False):
        assert [run_blocking(counter.hit_all([much]))[1][0] for _ in range(3)] == [True, False, False]
        assert [run_blocking(counter.hit_all([little]))[1][0] for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("strategy", KNOWN)
def test_what_costs_more_than_its_limit_is_refused(strategy: str) -> None:
    counter, hit = counter_on(strategy), hits_of("3/minute")[0]._replace(cost=4)
    with time_machine.travel(START_S, tick=False):
        is_admitted, _, remaining, _, retry_after_ns = run_blocking(counter.hit_all([hit]))[1]
        assert (is_admitted, remaining) == (False, 3)
        assert retry_after_ns > 0


@pytest.mark.parametrize("strategy", KNOWN)
@given(waits_s=st.lists(SECONDS, min_size=1, max_size=12), cost=st.integers(1, 7))
def test_a_refused_hit_is_admitted_when_it_was_told_to_come_back(
    strategy: str, waits_s: list[float], cost: int
) -> None:
    counter, (hit,) = counter_on(strategy), hits_of("7/minute", cost)
    check_return(counter, [(wait_s, hit) for wait_s in waits_s], hit)


@pytest.mark.parametrize("strategy", sorted(set(KNOWN) - {"moving-window"}))
@given(hits=st.lists(st.tuples(SECONDS, st.integers(1, 7)), min_size=1, max_size=12), cost=st.integers(1, 7))
def test_so_it_is_after_hits_of_other_costs(strategy: str, hits: list[tuple[float, int]], cost: int) -> None:
    # `limits` tells the oldest hit of a moving window, which may have taken less than is wanted now.
    counter, (hit,) = counter_on(strategy), hits_of("7/minute", cost)
    check_return(counter, [(wait_s, hits_of("7/minute", each)[0]) for wait_s, each in hits], hit)


def check_return(counter: LimitsPackageHits, hits: list[tuple[float, Hit]], last: Hit) -> None:
    with time_machine.travel(START_S, tick=False) as traveller:
        for wait_s, hit in hits:
            traveller.shift(wait_s)
            run_blocking(counter.hit_all([hit]))
        while run_blocking(counter.hit_all([last]))[1][0]:
            pass
        retry_after_ns = run_blocking(counter.hit_all([last]))[1][4]
        # Older versions of limits tell whole seconds.
        told_s = counter.strategy.get_window_stats(last.limit.limit, "ada", "/items")[0]
        too_early_s = 1.01 if isinstance(told_s, int) else 0.01
        traveller.shift(max(0, retry_after_ns / NS_PER_S - too_early_s))
        assert not counter.strategy.test(last.limit.limit, "ada", "/items", cost=last.cost)
        traveller.shift(too_early_s + 0.01)
        assert run_blocking(counter.hit_all([last]))[1][0]

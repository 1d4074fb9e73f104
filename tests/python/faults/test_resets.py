"""A reset begins a life that nothing of the former one can reach."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_servers import RedisServer
from test_redis_script import Counted, Engine

from slidegate import _core

SECOND_NS = 1_000_000_000
HOUR_NS = 3_600 * SECOND_NS
STRATEGIES: Any = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]
AMOUNTS = [1, 3, 13, 20, 60, 300]


def limiter_of(clock: _core.ManualClock, **options: Any) -> _core.Limiter:
    return _core.Limiter(clock=clock, **{"size": 1 << 20, **options})


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("amount", [5, 13, 20, 60])
def test_fault_32_hits_that_a_reset_forgot_never_come_back(strategy: Any, amount: int) -> None:
    clock = _core.ManualClock(1_000 * SECOND_NS)
    policy = limiter_of(clock).policy([(_core.Quota(amount, HOUR_NS, strategy), "s")])
    for _ in range(amount):
        assert policy.hit("k")[0]
        clock.advance(SECOND_NS)
    for resets in range(200):
        policy.reset("k")
        assert policy.peek("k")[2] == amount, f"after {resets + 1} resets"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("amount", [5, 20, 60])
def test_fault_32_no_number_of_resets_lets_an_old_ticket_admit_a_hit_too_many(strategy: Any, amount: int) -> None:
    clock = _core.ManualClock(1_000 * SECOND_NS)
    policy = limiter_of(clock).policy([(_core.Quota(amount, HOUR_NS, strategy), "s")])
    tickets = []
    for _ in range(100):
        _, ticket = policy.reserve("k")
        assert ticket is not None
        tickets.append(ticket)
        policy.reset("k")
    assert all(policy.hit("k")[0] for _ in range(amount))
    assert not any(policy.refund(ticket) for ticket in tickets)
    assert not policy.hit("k")[0]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STRATEGIES),
    st.sampled_from(AMOUNTS),
    st.sampled_from(["evict", "refuse"]),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 3 * SECOND_NS)), max_size=120),
)
def test_fault_32_a_reset_key_is_a_new_key(
    strategy: Any, amount: int, on_full: Any, steps: list[tuple[int, int, int]]
) -> None:
    # Two limiters count the same: one is reset, the other is asked for another key instead. After so many resets
    # positions that moved on by a ring of 13, 29 or 61 entries would be where they were.
    laps = 78 if amount <= 13 else 35 if amount <= 29 else 16
    clock = _core.ManualClock(1_000 * HOUR_NS)
    rules = [(_core.Quota(amount, HOUR_NS, strategy), "s")]
    limiter = limiter_of(clock, on_full=on_full)
    tested, twin = limiter.policy(rules), limiter_of(clock).policy(rules)
    lives = dict.fromkeys(range(3), 0)
    held: list[tuple[int, int, Any, Any]] = []
    for kind, choice, step_ns in steps:
        key = choice % 3
        if kind == 0:
            for _ in range(laps if choice % 2 else 1):
                tested.reset(str(key))
            lives[key] += 1
        elif kind == 1:
            for _ in range(laps if choice % 2 else 1):
                limiter.reset()
            lives = {each: life + 1 for each, life in lives.items()}
        elif kind == 2:
            clock.advance(HOUR_NS if choice == 0 else step_ns)
        elif kind < 5 and held:
            key, life, ticket, of_twin = held.pop(choice % len(held))
            assert tested.refund(ticket) == (life == lives[key] and twin.refund(of_twin))
        else:
            cost = 1 + choice % (amount // 4 + 1)
            answer, ticket = tested.reserve(str(key), cost)
            expected, of_twin = twin.reserve(f"{key}/{lives[key]}", cost)
            assert answer == expected
            if ticket is not None:
                held.append((key, lives[key], ticket, of_twin))
        for each, life in lives.items():
            assert tested.peek(str(each)) == twin.peek(f"{each}/{life}")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("hits_after", [0, 1])
def test_fault_35_engine_and_redis_give_nothing_back_of_before_a_reset(
    server: RedisServer, strategy: Any, hits_after: int
) -> None:
    rules = [(_core.Quota(5, 60 * SECOND_NS, strategy), f"35/{hits_after}")]
    counted, engine = Counted(server, rules), Engine(rules)
    counted.now_us = 60_000_000
    engine.clock.set(counted.now_us * 1_000)
    _, receipts = counted.reserve(1)
    _, ticket = engine.policy.reserve("key")
    for step_us in (1_000_000, 1_000_000):
        counted.now_us += step_us
        engine.clock.set(counted.now_us * 1_000)
        assert counted.hit()[0] == engine.policy.hit("key")[0] is True
    counted.reset()
    engine.policy.reset("key")
    for _ in range(hits_after):
        assert counted.hit()[0] == engine.policy.hit("key")[0] is True
    assert (counted.refund(receipts), engine.policy.refund(ticket)) == (False, False)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1, 5, 20, 60, 300]),
    st.lists(st.tuples(st.integers(0, 8_000_000), st.integers(1, 4), st.integers(0, 12)), max_size=60),
)
def test_fault_35_what_was_given_back_is_waited_for_by_nobody_in_the_engine_and_in_redis(
    server: RedisServer, amount: int, steps: list[tuple[int, int, int]]
) -> None:
    rules = [(_core.Quota(amount, 60 * SECOND_NS), "waits")]
    counted, engine = Counted(server, rules), Engine(rules)
    counted.reset()
    counted.now_us = 60_000_000
    pairs: list[tuple[Any, Any]] = []
    for step_us, cost, choice in steps:
        counted.now_us += step_us
        engine.clock.set(counted.now_us * 1_000)
        if choice < len(pairs):
            receipts, ticket = pairs.pop(choice)
            assert counted.refund(receipts) == engine.policy.refund(ticket)
        else:
            _, receipts = counted.reserve(cost)
            _, ticket = engine.policy.reserve("key", cost)
            if ticket is not None:
                pairs.append((receipts, ticket))
        for asked in (1, amount):
            assert counted.hit(asked, b"peek") == engine.answer(counted.now_us, asked, is_peek=True)


def test_fault_35_after_a_refund_of_the_newest_hit_all_is_whole_when_the_others_are() -> None:
    clock = _core.ManualClock(1_000 * SECOND_NS)
    policy = limiter_of(clock).policy([(_core.Quota(5, 60 * SECOND_NS), "s")])
    assert policy.hit("k")[0]
    clock.advance(30 * SECOND_NS)
    _, ticket = policy.reserve("k")
    assert ticket is not None
    assert policy.refund(ticket)
    assert policy.peek("k")[3] == 30 * SECOND_NS
    assert policy.peek("k", 5)[3] == 30 * SECOND_NS


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fault_35_a_table_that_refuses_has_room_again_after_a_reset(strategy: Any) -> None:
    clock = _core.ManualClock(1_000 * SECOND_NS)
    limiter = limiter_of(clock, on_full="refuse")
    policy = limiter.policy([(_core.Quota(3, HOUR_NS, strategy), "s")])

    def admitted(prefix: str) -> int:
        count = 0
        while policy.hit(f"{prefix}{count}")[0]:
            count += 1
        return count

    room = admitted("a")
    assert room > 100
    for resets in range(3):
        limiter.reset()
        assert admitted(f"{resets}/") > room // 2


def test_fault_35_a_reset_of_all_lets_other_threads_run() -> None:
    clock = _core.ManualClock(1_000 * SECOND_NS)
    limiter = limiter_of(clock, size=1 << 26)
    policy = limiter.policy([(_core.Quota(3, HOUR_NS, "gcra"), "s")])
    for number in range(300_000):
        policy.hit(str(number))
    ran = 0
    is_over = threading.Event()

    def run() -> None:
        nonlocal ran
        while not is_over.is_set():
            ran += 1
            time.sleep(0)

    thread = threading.Thread(target=run)
    # This thread gives up the interpreter of its own accord only: the other one gets in during a reset, or never.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1_000.0)
    try:
        thread.start()
        before = ran
        for _ in range(1_000):
            limiter.reset()
            if ran != before:
                break
        meanwhile = ran - before
    finally:
        sys.setswitchinterval(interval_s)
        is_over.set()
        thread.join()
    assert meanwhile > 0

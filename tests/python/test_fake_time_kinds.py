"""Fakes of all kinds, and threads that read them: mocks, those that raise, those that end meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom, admitted, policy_on

from slidegate import _core
from slidegate.decision import NS_PER_S

MINUTE_S = 60


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


@pytest.fixture
def limiter() -> _core.Limiter:
    return _core.Limiter(size=1 << 20)


@pytest.fixture
def policy(limiter: _core.Limiter) -> _core.Policy:
    return policy_on(limiter)


def run_in_thread(work: Callable[[], int]) -> int:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_threads_are_in_the_same_time(fake_from: FakeFrom, policy: _core.Policy) -> None:
    with fake_from(NEW_YEAR_2020) as fake:
        assert admitted(policy) == 10
        for _ in range(3):
            # freezegun shows threads the real time: to them, years have passed.
            assert run_in_thread(lambda: admitted(policy)) == 0
            assert admitted(policy) == 0
        fake.advance(MINUTE_S)
        assert run_in_thread(lambda: admitted(policy)) == 10


def test_a_reading_that_was_overtaken_does_not_count(
    monkeypatch: pytest.MonkeyPatch, policy: _core.Policy, limiter: _core.Limiter
) -> None:
    now = [1_000]
    overtakes = [True]

    def overtaken() -> float:
        reading = now[0]
        if overtakes.pop():
            # As another thread may do before this one goes on.
            now[0] += 30
            overtakes.append(False)
            policy.hit("grace")
        overtakes.append(False)
        return reading

    overtakes[0] = False
    monkeypatch.setattr(time, "time", overtaken)
    assert admitted(policy) == 10
    start_ns = limiter.now()
    overtakes.append(True)
    assert admitted(policy) == 0
    assert limiter.now() == start_ns + 30 * NS_PER_S


def test_a_fake_that_ended_while_it_was_read_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, policy: _core.Policy, limiter: _core.Limiter
) -> None:
    assert admitted(policy) == 10

    def ending() -> float:
        monkeypatch.undo()
        assert admitted(policy) == 0
        return NEW_YEAR_2100.timestamp() + MINUTE_S

    with TOOLS["time-machine"](NEW_YEAR_2100):
        assert admitted(policy) == 10
        monkeypatch.setattr(time, "time", ending)
    assert admitted(policy) == 0
    assert time.time is not ending
    assert limiter.now() < NEW_YEAR_2100.timestamp() * NS_PER_S


def test_threads_together_do_not_count_time_twice(limiter: _core.Limiter) -> None:
    """Readings of the fake overtake each other when threads take turns within them."""
    policy = policy_on(limiter, 86_400)
    walls = iter(range(10_000_000))
    real = time.time
    start_ns = 0

    def slow_time() -> float:
        wall = next(walls)
        for _ in range(wall % 50):
            pass
        return wall / 1000

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    time.time = slow_time
    try:
        start_ns = limiter.now()
        threads = [threading.Thread(target=lambda: [policy.hit("ada") for _ in range(2_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed_ns = limiter.now() - start_ns
        told_ns = next(walls) * NS_PER_S // 1000
    finally:
        time.time = real
        sys.setswitchinterval(interval)
    assert told_ns * 0.9 < passed_ns <= told_ns * (1 + 1 / 6_553)


def test_freezegun_may_be_told_to_leave_slidegate_alone(policy: _core.Policy, limiter: _core.Limiter) -> None:
    from freezegun import freeze_time

    assert admitted(policy) == 10
    with freeze_time("2100-01-01", ignore=["slidegate"]) as fake:
        assert admitted(policy) == 0
        fake.tick(timedelta(days=1))
        assert admitted(policy) == 0


def test_any_other_time_is_followed_too(monkeypatch: pytest.MonkeyPatch, policy: _core.Policy) -> None:
    now = [1_000]
    monkeypatch.setattr(time, "time", lambda: now[0])
    assert admitted(policy) == 10
    now[0] += MINUTE_S
    assert admitted(policy) == 10


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), -1e300, 10**400, "soon", None], ids=str)
def test_a_fake_that_makes_no_sense_stops_the_time(
    answer: object, monkeypatch: pytest.MonkeyPatch, policy: _core.Policy
) -> None:
    now: list[object] = [1_000]
    assert admitted(policy, "real") == 10
    monkeypatch.setattr(time, "time", lambda: now[0])
    assert admitted(policy) == 10
    now[0] = answer
    assert admitted(policy) == 0
    assert admitted(policy, "grace") == 10
    now[0] = 1_000 + MINUTE_S
    assert admitted(policy) == 10


def test_a_fake_that_raises_stops_the_time(monkeypatch: pytest.MonkeyPatch, policy: _core.Policy) -> None:
    answers: list[int] = []
    monkeypatch.setattr(time, "time", answers.pop)
    assert admitted(policy) == 10
    assert admitted(policy) == 0
    monkeypatch.delattr(time, "time")
    assert admitted(policy) == 0


def test_interrupts_are_not_lost_in_a_fake(monkeypatch: pytest.MonkeyPatch, policy: _core.Policy) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        policy.hit("ada")
    with pytest.raises(KeyboardInterrupt):
        policy.reserve("ada")
    with pytest.raises(KeyboardInterrupt):
        policy.reset("ada")
    monkeypatch.undo()
    assert admitted(policy) == 10


def test_a_fake_may_count_hits_itself(monkeypatch: pytest.MonkeyPatch, policy: _core.Policy) -> None:
    depth = [0]

    def counting() -> float:
        depth[0] += 1
        if depth[0] < 4:
            policy.hit("fake")
        depth[0] -= 1
        return 1_000

    monkeypatch.setattr(time, "time", counting)
    assert admitted(policy) == 10


def test_a_limiter_with_a_clock_does_not_follow(fake_from: FakeFrom) -> None:
    clock = _core.ManualClock(7)
    manual, boot = _core.Limiter(size=1 << 20, clock=clock), _core.Limiter(size=1 << 20, clock=_core.BootClock())
    policies = [policy_on(manual), policy_on(boot)]
    with fake_from(NEW_YEAR_2100) as fake:
        assert [admitted(policy) for policy in policies] == [10, 10]
        fake.advance(MINUTE_S)
        assert [admitted(policy) for policy in policies] == [0, 0]
    assert manual.now() == 7


def test_limiters_on_one_clock_expire_together() -> None:
    clock = _core.PythonClock()
    limiters = [_core.Limiter(size=1 << 20, clock=clock) for _ in range(2)]
    policies = [policy_on(limiter) for limiter in limiters]
    with TOOLS["time-machine"](NEW_YEAR_2020) as fake:
        assert [admitted(policy) for policy in policies] == [10, 10]
        fake.move_to(NEW_YEAR_2100)
        assert [admitted(policy) for policy in policies] == [10, 10]
        assert [admitted(policy) for policy in policies] == [0, 0]

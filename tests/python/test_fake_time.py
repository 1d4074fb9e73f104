"""Limiters without a clock of their own follow what tests make of `time.time`: freezegun, time-machine, hiro, mocks."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom, admitted, pass_really, policy_on

from slidegate import _core
from slidegate.decision import NS_PER_S

MINUTE_S = 60
STRATEGIES = ("moving-window", "fixed-window", "sliding-window-counter", "gcra")


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


@pytest.fixture
def limiter() -> _core.Limiter:
    return _core.Limiter(size=1 << 20)


@pytest.fixture
def policy(limiter: _core.Limiter) -> _core.Policy:
    return policy_on(limiter)


@pytest.mark.parametrize("window_s", [1, 60, 3600, 86_400, 31_536_000])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("start", [NEW_YEAR_2020, NEW_YEAR_2100], ids=["past", "future"])
def test_a43_a_window_passes_exactly_when_the_fake_says_so(
    fake_from: FakeFrom, start: datetime, strategy: str, window_s: int, limiter: _core.Limiter
) -> None:
    policy = policy_on(limiter, window_s, strategy)
    with fake_from(start) as fake:
        assert admitted(policy) == 10
        wait_us = -(-policy.hit("ada")[4] // 1_000)
        if strategy in ("moving-window", "fixed-window"):
            assert wait_us == window_s * 1_000_000
        fake.advance((wait_us - 1_000) / 1_000_000)
        assert admitted(policy) == 0
        fake.advance(1_000 / 1_000_000)
        assert policy.hit("ada")[0]
        fake.advance(2 * window_s if strategy == "sliding-window-counter" else window_s)
        assert admitted(policy) == 10
        assert admitted(policy) == 0


@pytest.mark.parametrize("window_s", [1, 60, 86_400])
def test_a43_a_window_passes_in_a_fake_that_ticks(fake_from: FakeFrom, window_s: int, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter, window_s)
    with fake_from(NEW_YEAR_2020, ticks=True) as fake:  # type: ignore[call-arg]
        policy.hit("grace")
        pass_really(1_500_000)
        assert policy.hit("ada", 10)[0]
        told = time.time()
        fake.advance(window_s)
        # freezegun forgets what has ticked when it is advanced.
        fake.advance(max(0, told + window_s - time.time()))
        assert policy.hit("ada", 10)[0]


def test_a_sliding_window_counter_weighs_the_window_before(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = limiter.policy([(_core.Quota(1_000, MINUTE_S * NS_PER_S, "sliding-window-counter"), "")])
    with fake_from(NEW_YEAR_2020) as fake:
        assert policy.hit("ada", 1_000)[0]
        fake.advance(MINUTE_S)
        # At least a second of the window before still lies in this one.
        assert policy.peek("ada")[2] <= 1_000 - 1_000 // MINUTE_S
        fake.advance(MINUTE_S)
        assert policy.peek("ada")[2] == 1_000


def test_a43_many_steps_are_as_long_as_one(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter, 86_400)
    with fake_from(NEW_YEAR_2020) as fake:
        for _ in range(24 * 60 - 1):
            admitted(policy)
            fake.advance(60)
        assert policy.peek("ada")[2] == 0
        fake.advance(60)
        assert policy.peek("ada")[2] == 10


def test_a_frozen_moment_may_have_any_fraction_of_a_second(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter, 86_400)
    with fake_from(NEW_YEAR_2020.replace(microsecond=123_457)) as fake:
        assert admitted(policy) == 10
        fake.advance(86_400)
        assert admitted(policy) == 10


def test_nothing_passes_while_time_is_frozen(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter, 1)
    with fake_from(NEW_YEAR_2020):
        before_ns = limiter.now()
        assert admitted(policy) == 10
        pass_really(2_000_000)
        assert limiter.now() == before_ns
        assert admitted(policy) == 0


def test_what_is_told_is_exact(fake_from: FakeFrom, policy: _core.Policy) -> None:
    with fake_from(NEW_YEAR_2020) as fake:
        policy.hit("ada")
        fake.advance(20)
        assert policy.hit("ada", 10)[3:] == (40 * NS_PER_S, 40 * NS_PER_S)


def test_everything_that_reads_the_time_follows(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter)
    with fake_from(NEW_YEAR_2020) as fake:
        start_ns = limiter.now()
        fake.advance(5)
        assert limiter.now() == start_ns + 5 * NS_PER_S
        _, ticket = policy.reserve("ada", 10)
        assert ticket is not None
        fake.advance(MINUTE_S)
        assert not policy.refund(ticket)
        _, ticket = policy.reserve("ada", 10)
        assert ticket is not None
        fake.advance(MINUTE_S - 1)
        assert policy.refund(ticket)
        assert policy.peek("ada")[2] == 10
        policy.hit("ada", 10)
        fake.advance(MINUTE_S)
        assert policy.peek("ada")[2] == 10

"""What was counted is as recent as it was, however often a faked clock is set back and forward again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone

import pytest
from fakes import TOOLS, FakeFrom
from hypothesis import given, settings
from hypothesis import strategies as st

from slidegate import _core
from slidegate.decision import NS_PER_S

HOUR_S = 3600
STRATEGIES = ("moving-window", "fixed-window", "sliding-window-counter")
START = datetime(2026, 12, 1, 12, tzinfo=timezone.utc)

MoveTo = Callable[[float], object]


@contextmanager
def patched() -> Iterator[MoveTo]:
    """A function in the place of time.time, and another one after each move."""
    with pytest.MonkeyPatch.context() as patch:

        def move_to(seconds: float) -> None:
            patch.setattr(time, "time", lambda: START.timestamp() + seconds)

        move_to(0)
        yield move_to


def by_tool(fake_from: FakeFrom) -> Callable[[], AbstractContextManager[MoveTo]]:
    @contextmanager
    def faked() -> Iterator[MoveTo]:
        with fake_from(START) as fake:
            yield lambda seconds: fake.move_to(START + timedelta(seconds=seconds))

    return faked


FAKES = {"patch": patched, **{name: by_tool(tool) for name, tool in TOOLS.items()}}


@pytest.fixture(params=FAKES)
def faked(request: pytest.FixtureRequest) -> Iterator[MoveTo]:
    with FAKES[request.param]() as move_to:
        yield move_to


def policy_of(amount: int, window_s: int, strategy: str = "moving-window") -> _core.Policy:
    limiter = _core.Limiter(size=1 << 20)
    return limiter.policy([(_core.Quota(amount, window_s * NS_PER_S, strategy), "")])  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("back_h", [0.5, 1, 3, 10, 24 * 365])
def test_fault_07_a_clock_that_is_set_back_and_forward_again_admits_nothing_more(
    faked: MoveTo, back_h: float, strategy: str
) -> None:
    policy = policy_of(3, HOUR_S, strategy)
    assert [policy.hit("ada")[0] for _ in range(4)] == [True] * 3 + [False]
    faked(-back_h * HOUR_S)
    assert not policy.hit("ada")[0]
    faked(10)
    assert not any(policy.hit("ada")[0] for _ in range(3))
    faked(2 * HOUR_S)
    assert [policy.hit("ada")[0] for _ in range(4)] == [True] * 3 + [False]


def test_fault_07_a_clock_that_returns_in_steps_admits_nothing_more(faked: MoveTo) -> None:
    policy = policy_of(3, HOUR_S)
    assert all(policy.hit("ada")[0] for _ in range(3))
    for seconds in (-1.5 * HOUR_S, -HOUR_S, -HOUR_S / 2, -1, 0, 1, HOUR_S - 1):
        faked(seconds)
        assert not policy.hit("ada")[0]
    faked(HOUR_S)
    assert policy.hit("ada")[0]


def test_fault_07_a_fake_that_ends_after_it_was_set_back_has_not_made_the_time_pass() -> None:
    policy = policy_of(3, HOUR_S)
    real_s = time.time() - START.timestamp()
    with patched() as move_to:
        move_to(real_s)
        assert all(policy.hit("ada")[0] for _ in range(3))
        move_to(real_s - 5 * HOUR_S)
        assert not policy.hit("ada")[0]
    assert not policy.hit("ada")[0]


def test_fault_07_windows_pass_in_a_past_that_is_far_from_what_was_counted(faked: MoveTo) -> None:
    policy = policy_of(3, HOUR_S)
    assert all(policy.hit("ada")[0] for _ in range(3))
    faked(-24 * HOUR_S)
    assert not policy.hit("ada")[0]
    faked(-23 * HOUR_S)
    assert policy.hit("ada")[0]


def test_fault_07_after_a_reset_a_clock_that_was_set_back_goes_on_from_there(faked: MoveTo) -> None:
    limiter = _core.Limiter(size=1 << 20)
    policy = limiter.policy([(_core.Quota(3, HOUR_S * NS_PER_S), "")])
    assert policy.hit("ada", 3)[0]
    faked(-HOUR_S)
    limiter.reset()
    assert policy.hit("ada", 3)[0]
    faked(0)
    assert policy.hit("ada")[0]


@pytest.mark.parametrize("tool", TOOLS)
def test_fault_07_another_fake_of_the_same_moment_is_another_time(tool: str) -> None:
    policy = policy_of(3, 60)
    for key in ("ada", "grace"):
        with TOOLS[tool](START) as fake:
            assert policy.hit(key, 3)[0]
            fake.advance(60)
            assert policy.hit(key, 3)[0]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(-HOUR_S, HOUR_S), st.integers(1, 4)), max_size=30))
def test_fault_07_no_hour_holds_more_than_the_limit_whatever_the_clock_does(steps: list[tuple[int, int]]) -> None:
    policy = policy_of(3, HOUR_S)
    log_s: list[int] = []
    latest_s = 0
    with patched() as move_to:
        policy.hit("nobody")
        for at_s, hits in steps:
            move_to(at_s)
            # What is counted while the clock is behind counts as late as it has been.
            latest_s = max(latest_s, at_s)
            log_s.extend(latest_s for _ in range(hits) if policy.hit("ada")[0])
    assert all(sum(start <= each < start + HOUR_S for each in log_s) <= 3 for start in log_s)

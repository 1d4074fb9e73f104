"""By how much a fake moves the time of limiters: forward only, and as far as it goes itself."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom, admitted, pass_really, policy_on
from hypothesis import given, settings
from hypothesis import strategies as st

from slidegate import _core
from slidegate.decision import NS_PER_S

MINUTE_S = 60
MOST_NS = 1 << 62


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


@pytest.fixture
def limiter() -> _core.Limiter:
    return _core.Limiter(size=1 << 20)


@pytest.fixture
def policy(limiter: _core.Limiter) -> _core.Policy:
    return policy_on(limiter)


def passed_within_a_fake(last: float, latest: float, now: float, window: float) -> float:
    """What counts as passed when a fake that has been as late as `latest` goes on from `last`."""
    if now >= latest:
        return now - latest
    return max(0.0, now - last) if latest - now > 2 * window else 0


def test_to_go_back_adds_nothing(fake_from: FakeFrom, policy: _core.Policy) -> None:
    assert admitted(policy) == 10
    with fake_from(NEW_YEAR_2020) as fake:
        assert admitted(policy) == 0
        fake.advance(MINUTE_S)
        assert admitted(policy) == 10
        fake.move_to(NEW_YEAR_2020 - timedelta(days=1))
        assert admitted(policy) == 0
        fake.advance(MINUTE_S - 1)
        assert admitted(policy) == 0
        fake.advance(1)
        assert admitted(policy) == 10


def test_to_go_forward_adds_the_difference(fake_from: FakeFrom, policy: _core.Policy) -> None:
    assert admitted(policy) == 10
    with fake_from(datetime.now(timezone.utc) + timedelta(seconds=MINUTE_S // 2)) as fake:
        assert admitted(policy) == 0
        fake.advance(MINUTE_S)
        assert admitted(policy) == 10
        fake.move_to(NEW_YEAR_2100)
        assert admitted(policy) == 10
    # Back from the future.
    assert admitted(policy) == 0


def test_to_leave_the_past_adds_the_difference(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy, year = policy_on(limiter), policy_on(limiter, 31_536_000)
    with fake_from(NEW_YEAR_2020):
        assert admitted(policy) == admitted(year, "grace") == 10
    assert admitted(policy) == admitted(year, "grace") == 10
    assert admitted(policy) == admitted(year, "grace") == 0


def test_what_nobody_looks_at_has_not_been(fake_from: FakeFrom, policy: _core.Policy) -> None:
    for second in (0, 20, 59):
        with fake_from(NEW_YEAR_2020 + timedelta(seconds=second)):
            assert admitted(policy) == (10 if second == 0 else 0)
    with fake_from(NEW_YEAR_2020 + timedelta(seconds=60)):
        assert admitted(policy) == 10


def test_time_goes_on_after_a_fake(fake_from: FakeFrom, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter)
    with fake_from(NEW_YEAR_2100):
        assert admitted(policy) == 10
        frozen_ns = limiter.now()
    boot = _core.BootClock()
    boot_before_ns, start_ns = boot.now(), limiter.now()
    assert start_ns >= frozen_ns
    pass_really(2_000_000)
    assert 2_000_000 <= limiter.now() - start_ns <= boot.now() - boot_before_ns


def test_fakes_can_be_nested(fake_from: FakeFrom, policy: _core.Policy) -> None:
    with fake_from(NEW_YEAR_2020):
        assert admitted(policy) == 10
        with fake_from(NEW_YEAR_2020 + timedelta(seconds=MINUTE_S)) as fake:
            assert admitted(policy) == 10
            fake.advance(30)
            assert admitted(policy) == 0
        assert admitted(policy) == 0


@pytest.mark.parametrize("window_s", [60, 31_536_000, (1 << 27) - 1])
def test_a_thousand_years_one_after_the_other(fake_from: FakeFrom, window_s: int, limiter: _core.Limiter) -> None:
    policy = policy_on(limiter, window_s)
    dice = random.Random(window_s)
    years = [dice.randrange(1971, 2500) for _ in range(1_000)]
    with fake_from(NEW_YEAR_2020) as fake:
        assert admitted(policy) == 10
        last = latest = NEW_YEAR_2020
        passed_s, before_ns = 0.0, limiter.now()
        for year in years:
            moment = datetime(year, 1, 1, tzinfo=timezone.utc)
            fake.move_to(moment)
            passed_s += passed_within_a_fake(last.timestamp(), latest.timestamp(), moment.timestamp(), window_s)
            latest = max(latest, moment)
            assert admitted(policy) == (10 if passed_s >= window_s else 0)
            passed_s, last = (0.0 if passed_s >= window_s else passed_s), moment
            assert before_ns <= limiter.now() < MOST_NS
            before_ns = limiter.now()
    assert len(set(years)) > 400


def test_a_thousand_fakes_one_after_the_other(policy: _core.Policy, limiter: _core.Limiter) -> None:
    dice = random.Random(1)
    before_ns = limiter.now()
    for _ in range(1_000):
        year = dice.choice([*range(1971, 2020), *range(2200, 2500)])
        with TOOLS["time-machine"](datetime(year, 1, 1, tzinfo=timezone.utc)):
            # Real time was read before, and is between them.
            assert admitted(policy) == (10 if year >= 2200 else 0)
        assert admitted(policy) == (10 if year < 2200 else 0)
        assert before_ns <= limiter.now() < MOST_NS
        before_ns = limiter.now()


def test_jumps_within_a_window_stop_before_time_runs_out(limiter: _core.Limiter) -> None:
    """136 years in jumps of less than the longest window, twice over: none of them makes everything expire."""
    window_s = 1 << 27
    policy = policy_on(limiter, window_s)
    clock = limiter.clock
    assert isinstance(clock, _core.PythonClock)
    clock.hold()
    for _ in range(80):
        policy.hit("ada", 10)
        before_ns = limiter.now()
        clock.advance((window_s - 1) * NS_PER_S)
        assert before_ns <= limiter.now() < MOST_NS
        assert not policy.peek("ada")[0]
        clock.advance(NS_PER_S)
    assert limiter.now() > MOST_NS - 2 * window_s * NS_PER_S
    assert not policy.peek("ada")[0]


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, 130_000).map(lambda ms: ("advance", ms)),
                st.integers(-200_000, 200_000).map(lambda ms: ("move to", ms)),
                st.just(("fake anew", 0)),
            ),
            st.integers(1, 4),
        ),
        max_size=30,
    )
)
def test_exactly_what_a_log_of_the_hits_would_admit(steps: list[tuple[tuple[str, int], int]]) -> None:
    limiter = _core.Limiter(size=1 << 20)
    policy = limiter.policy([(_core.Quota(5, MINUTE_S * NS_PER_S), "")])
    log_ms: list[int] = []
    wall_ms = passed_ms = latest_ms = 0
    travel = TOOLS["time-machine"]
    context = travel(NEW_YEAR_2020)
    fake = context.__enter__()
    try:
        limiter.now()
        for (move, ms), hits in steps:
            target_ms = wall_ms + ms if move == "advance" else ms if move == "move to" else wall_ms
            if move == "advance":
                fake.advance(ms / 1000)
            elif move == "move to":
                fake.move_to(NEW_YEAR_2020 + timedelta(milliseconds=ms))
            else:
                context.__exit__(None, None, None)
                context = travel(NEW_YEAR_2020 + timedelta(milliseconds=wall_ms))
                fake = context.__enter__()
                latest_ms = wall_ms
            passed_ms += round(passed_within_a_fake(wall_ms, latest_ms, target_ms, MINUTE_S * 1000))
            wall_ms, latest_ms = target_ms, max(latest_ms, target_ms)
            for _ in range(hits):
                log_ms = [at for at in log_ms if passed_ms - at < MINUTE_S * 1000]
                assert policy.hit("ada")[0] == (len(log_ms) < 5)
                if len(log_ms) < 5:
                    log_ms.append(passed_ms)
    finally:
        context.__exit__(None, None, None)

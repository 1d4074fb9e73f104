"""Limiters without a clock of their own follow what tests make of `time.time`: freezegun, time-machine, hiro, mocks."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom
from hypothesis import given, settings
from hypothesis import strategies as st

from slidegate import _core
from slidegate.decision import NS_PER_S

MINUTE_S = 60
MOST_NS = 1 << 62
STRATEGIES = ("moving-window", "fixed-window", "sliding-window-counter", "gcra")


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


@pytest.fixture
def limiter() -> _core.Limiter:
    return _core.Limiter(size=1 << 20)


def policy_on(limiter: _core.Limiter, window_s: int = MINUTE_S, strategy: str = "moving-window") -> _core.Policy:
    return limiter.policy([(_core.Quota(10, window_s * NS_PER_S, strategy), "")])  # type: ignore[arg-type]


@pytest.fixture
def policy(limiter: _core.Limiter) -> _core.Policy:
    return policy_on(limiter)


def admitted(policy: _core.Policy, key: str = "ada") -> int:
    """How many of a few more hits than the limit are admitted."""
    return sum(policy.hit(key)[0] for _ in range(13))


def pass_really(duration_ns: int) -> None:
    """Lets real time pass, which no tool fakes."""
    boot = _core.BootClock()
    start_ns = boot.now()
    while boot.now() < start_ns + duration_ns:
        pass


# --- what passes ------------------------------------------------------------------------------------------------------


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


# --- the rule ---------------------------------------------------------------------------------------------------------


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
        last, passed_s, before_ns = NEW_YEAR_2020, 0.0, limiter.now()
        for year in years:
            moment = datetime(year, 1, 1, tzinfo=timezone.utc)
            fake.move_to(moment)
            passed_s += max(0.0, (moment - last).total_seconds())
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
    wall_ms = passed_ms = 0
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
            passed_ms += max(0, target_ms - wall_ms)
            wall_ms = target_ms
            for _ in range(hits):
                log_ms = [at for at in log_ms if passed_ms - at < MINUTE_S * 1000]
                assert policy.hit("ada")[0] == (len(log_ms) < 5)
                if len(log_ms) < 5:
                    log_ms.append(passed_ms)
    finally:
        context.__exit__(None, None, None)


# --- fakes of all kinds -----------------------------------------------------------------------------------------------


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

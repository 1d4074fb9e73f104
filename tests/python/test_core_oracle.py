"""The native engine against exact logs in Python, under random hits, refunds and resets."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from slidegate import _core

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
MINUTE_TICK_NS = 1_000_000

Answer = tuple[bool, int, int, int]


@dataclass
class ExactLog:
    """A moving window that remembers every hit."""

    amount: int
    window_ns: int
    hits: list[tuple[int, int]] = field(default_factory=list)

    def used(self, now_ns: int) -> int:
        return sum(cost for at_ns, cost in self.hits if now_ns < at_ns + self.window_ns)

    def would_admit(self, now_ns: int, cost: int) -> bool:
        return self.used(now_ns) + cost <= self.amount

    def hit(self, now_ns: int, cost: int) -> Answer:
        is_admitted = self.would_admit(now_ns, cost)
        if is_admitted:
            self.hits.append((now_ns, cost))
        live = [at_ns + self.window_ns - now_ns for at_ns, _ in self.hits if now_ns < at_ns + self.window_ns]
        retry_after_ns = 0
        if not is_admitted:
            waits = (wait for wait in live if self.would_admit(now_ns + wait, cost))
            retry_after_ns = min(waits) if cost <= self.amount else -1
        return is_admitted, self.amount - self.used(now_ns), max(live, default=0), retry_after_ns


@dataclass
class FixedWindow:
    """A window that opens with its first hit."""

    amount: int
    window_ns: int
    start_ns: int = 0
    count: int = 0

    def hit(self, now_ns: int, cost: int) -> Answer:
        if now_ns >= self.start_ns + self.window_ns:
            self.count = 0
        rest_ns = self.start_ns + self.window_ns - now_ns if self.count else 0
        if self.count + cost > self.amount:
            return False, self.amount - self.count, rest_ns, -1 if cost > self.amount else rest_ns
        if self.count == 0:
            self.start_ns = now_ns
        self.count += cost
        return True, self.amount - self.count, self.start_ns + self.window_ns - now_ns, 0


@dataclass
class SlidingCounter:
    """Two counts on the clock's grid, the older weighted by what is left of it."""

    amount: int
    window_ns: int
    counts: dict[int, int] = field(default_factory=dict)

    def used(self, now_ns: int) -> int:
        number, passed_ns = divmod(now_ns, self.window_ns)
        weighted = self.counts.get(number - 1, 0) * (self.window_ns - passed_ns) // self.window_ns
        return weighted + self.counts.get(number, 0)

    def admits(self, now_ns: int, cost: int) -> bool:
        is_admitted = self.used(now_ns) + cost <= self.amount
        if is_admitted:
            number = now_ns // self.window_ns
            self.counts[number] = self.counts.get(number, 0) + cost
        return is_admitted


def make(amount: int, window_ns: int, strategy: str, start_ns: int) -> tuple[_core.ManualClock, _core.Policy]:
    clock = _core.ManualClock(start_ns)
    limiter = _core.Limiter(size=1 << 20, clock=clock)
    return clock, limiter.policy([(_core.Quota(amount, window_ns, strategy), "")])  # type: ignore[arg-type]


def answer_of(essentials: tuple[bool, int, int, int, int]) -> Answer:
    allowed, _, remaining, reset_after_ns, retry_after_ns = essentials
    return allowed, remaining, reset_after_ns, retry_after_ns


starts_ns = st.sampled_from([0, MINUTE_NS, 28_333_333 * MINUTE_NS, 30_000_000 * MINUTE_NS])
ticks = st.one_of(st.just(0), st.integers(0, 20_000), st.sampled_from([59_999, 60_000, 60_001, 120_000, 1 << 29]))
nanoseconds = st.one_of(st.just(0), st.integers(0, 20 * SECOND_NS), st.integers(0, 3 * MINUTE_NS))
costs = st.one_of(st.just(1), st.integers(1, 20))


@settings(max_examples=200)
@given(st.integers(1, 61), starts_ns, st.lists(st.tuples(ticks, costs), max_size=120))
def test_an_exact_moving_window_answers_as_the_log_does(
    amount: int, start_ns: int, steps: list[tuple[int, int]]
) -> None:
    clock, policy = make(amount, MINUTE_NS, "moving-window", start_ns)
    log = ExactLog(amount, MINUTE_NS)
    for step, cost in steps:
        clock.advance(step * MINUTE_TICK_NS)
        assert answer_of(policy.hit("k", cost)) == log.hit(clock.now(), cost)


@settings(max_examples=200)
@given(st.integers(1, 500), starts_ns, st.lists(st.tuples(nanoseconds, st.integers(1, 60)), max_size=120))
def test_any_moving_window_admits_no_more_than_the_log_and_is_less_than_a_quantum_late(
    amount: int, start_ns: int, steps: list[tuple[int, int]]
) -> None:
    clock, policy = make(amount, MINUTE_NS, "moving-window", start_ns)
    quantum_ns = MINUTE_TICK_NS if amount <= 61 else MINUTE_NS // 60
    log = ExactLog(amount, MINUTE_NS)
    late = ExactLog(amount, MINUTE_NS + quantum_ns)
    for step_ns, cost in steps:
        clock.advance(step_ns)
        now_ns = clock.now()
        if policy.hit("k", cost)[0]:
            assert log.would_admit(now_ns, cost)
            log.hits.append((now_ns, cost))
            late.hits.append((now_ns, cost))
        else:
            assert not late.would_admit(now_ns, cost)


@settings(max_examples=200)
@given(st.integers(1, 30), st.lists(st.tuples(nanoseconds, st.integers(1, 4), st.integers(0, 40)), max_size=120))
def test_refunds_and_late_clocks_never_let_a_window_hold_more_than_the_amount(
    amount: int, steps: list[tuple[int, int, int]]
) -> None:
    clock, policy = make(amount, MINUTE_NS, "moving-window", 0)
    log = ExactLog(amount, MINUTE_NS)
    tickets: list[tuple[_core.Ticket, tuple[int, int]]] = []
    latest_ns = 0
    for step_ns, cost, choice in steps:
        latest_ns += step_ns
        clock.set(latest_ns - step_ns // 2 if choice % 5 == 0 else latest_ns)
        if choice < len(tickets):
            ticket, taken = tickets.pop(choice)
            if policy.refund(ticket):
                log.hits.remove(taken)
            assert not policy.refund(ticket) if choice % 2 else True
            continue
        # A late clock counts at the newest stamp, which is the time of the newest hit at least.
        now_ns = max([clock.now(), *(at_ns for at_ns, _ in log.hits)])
        (allowed, *_), made = policy.reserve("k", cost)
        assert allowed is (made is not None)
        if made is not None:
            assert log.would_admit(now_ns, cost)
            log.hits.append((now_ns, cost))
            tickets.append((made, (now_ns, cost)))


@settings(max_examples=100)
@given(st.integers(1, 1000), starts_ns, st.lists(st.tuples(ticks, costs), max_size=80))
def test_a_fixed_window_answers_as_its_definition_does(
    amount: int, start_ns: int, steps: list[tuple[int, int]]
) -> None:
    clock, policy = make(amount, MINUTE_NS, "fixed-window", start_ns)
    window = FixedWindow(amount, MINUTE_NS)
    for step, cost in steps:
        clock.advance(step * MINUTE_TICK_NS)
        assert answer_of(policy.hit("k", cost)) == window.hit(clock.now(), cost)


@settings(max_examples=100)
@given(st.integers(1, 1000), starts_ns, st.lists(st.tuples(nanoseconds, costs), max_size=80))
def test_a_sliding_window_counter_admits_what_its_definition_does(
    amount: int, start_ns: int, steps: list[tuple[int, int]]
) -> None:
    clock, policy = make(amount, MINUTE_NS, "sliding-window-counter", start_ns)
    window = SlidingCounter(amount, MINUTE_NS)
    for step_ns, cost in steps:
        clock.advance(step_ns)
        allowed, _, remaining, _, retry_after_ns = policy.hit("k", cost)
        assert allowed == window.admits(clock.now(), cost)
        assert remaining == amount - window.used(clock.now())
        if not allowed and cost <= amount:
            assert window.used(clock.now() + retry_after_ns) + cost <= amount
            assert window.used(clock.now() + retry_after_ns - 1) + cost > amount


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 6_500), st.integers(1, 8)), max_size=60),
)
def test_a_hit_takes_from_all_quotas_or_from_none(quotas: list[tuple[int, int]], steps: list[tuple[int, int]]) -> None:
    clock = _core.ManualClock()
    limiter = _core.Limiter(size=1 << 20, clock=clock)
    # Windows of minutes, so that all have ticks that divide the steps.
    rules = [(_core.Quota(amount, minutes * MINUTE_NS), str(i)) for i, (amount, minutes) in enumerate(quotas)]
    policy = limiter.policy(rules)
    logs = [ExactLog(amount, minutes * MINUTE_NS) for amount, minutes in quotas]
    for step, cost in steps:
        clock.advance(step * 10 * MINUTE_TICK_NS)
        now_ns = clock.now()
        is_admitted = all(log.would_admit(now_ns, cost) for log in logs)
        allowed, reported, remaining, _, retry_after_ns = policy.hit("k", cost)
        assert allowed == is_admitted
        if is_admitted:
            answers = [log.hit(now_ns, cost) for log in logs]
            assert remaining == min(answer[1] for answer in answers) == answers[reported][1]
        else:
            waits = [0 if log.would_admit(now_ns, cost) else log.hit(now_ns, cost)[3] for log in logs]
            assert retry_after_ns == waits[reported] == (-1 if -1 in waits else max(waits))

"""The script inside a real server, against the vectors, the engine, and exact logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_servers import RedisServer

from slidegate import _core
from slidegate._storage.redis.script import (
    SCRIPT,
    RedisRule,
    Script,
    ask,
    ask_refund,
    ask_reset,
    lead_of,
    raw_decision_of,
    reservation_of,
)

VECTORS = Path(__file__).parent.parent / "vectors"
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]
MINUTE_NS = 60_000_000_000
US = 1000

CLOCK = b"local time = redis.call('TIME')"
EXPIRY = b"'PX', ceil(lifetimes[key] / 1000) + 1)"


def timed_script() -> Script:
    """The script with a clock that the tests move, and without keys that expire by the real one."""
    text = SCRIPT.text
    assert text.count(CLOCK) == 1
    assert text.count(EXPIRY) == 1
    text = text.replace(CLOCK, b"local time = redis.call('MGET', 'second', 'microsecond')")
    return Script.of(text.replace(b", " + EXPIRY, b")").decode())


class Counted:
    """Rules in a real server, with a clock of its own."""

    def __init__(self, server: RedisServer, rules: list[tuple[_core.Quota, str]]) -> None:
        self.server = server
        self.rules = [RedisRule.of(quota, scope) for quota, scope in rules]
        self.script = timed_script()
        self.now_us = 0
        server.call(b"FLUSHALL")
        server.call(b"SCRIPT", b"LOAD", self.script.text)

    def run(self, tail: tuple[bytes, ...]) -> Any:
        second, microsecond = divmod(self.now_us, 10**6)
        *_, reply = self.server.call_all(
            [
                (b"MSET", b"second", b"%d" % second, b"microsecond", b"%d" % microsecond),
                (b"EVALSHA", self.script.sha, *tail),
            ]
        )
        if isinstance(reply, Exception):
            raise reply
        return reply

    def question(self, operation: bytes, cost: int) -> Any:
        keys = [lead_of("key", is_hashed=False) + rule.suffix for rule in self.rules]
        return ask(operation, self.rules, keys, [cost] * len(self.rules))

    def hit(self, cost: int = 1, operation: bytes = b"hit") -> Any:
        return raw_decision_of(self.run(self.question(operation, cost).tail), self.rules)

    def reserve(self, cost: int) -> Any:
        question = self.question(b"reserve", cost)
        answer, receipts = reservation_of(question, self.rules)(self.run(question.tail))
        return answer, receipts if answer[0] else None

    def refund(self, receipts: Any) -> bool:
        return self.run(ask_refund(receipts).tail) == 1

    def reset(self) -> None:
        self.run(ask_reset([lead_of("key", is_hashed=False) + rule.suffix for rule in self.rules]).tail)


class Engine:
    """The same rules in this process."""

    def __init__(self, rules: list[tuple[_core.Quota, str]]) -> None:
        self.clock = _core.ManualClock()
        self.rules = rules
        self.policy = _core.Limiter(size=1 << 20, clock=self.clock).policy(rules)

    def answer(self, now_us: int, cost: int, *, is_peek: bool = False) -> Any:
        self.clock.set(now_us * US)
        allowed, index, remaining, *times_ns = (self.policy.peek if is_peek else self.policy.hit)("key", cost)
        # What the server cannot tell, as its microsecond is over when it would happen, happens in the next.
        is_exact = self.rules[index][0].strategy == "gcra"
        return allowed, index, remaining, *(ns if is_exact or ns < 0 else -(-ns // US) * US for ns in times_ns)


def vectors(*, are_whole: bool) -> list[Any]:
    return [
        pytest.param(vector, id=f"{strategy}: {vector['name']}")
        for strategy in STRATEGIES
        for vector in json.loads((VECTORS / f"{strategy}.json").read_text())
        if are_whole == all(hit[0] % US == 0 for hit in vector["hits"])
    ]


@pytest.mark.parametrize("vector", vectors(are_whole=True))
def test_the_script_answers_the_vector(server: RedisServer, vector: dict[str, Any]) -> None:
    quota = _core.Quota(**vector["quota"])
    counted = Counted(server, [(quota, "vectors")])
    unit_ns = 1 if quota.strategy == "gcra" else US
    for now_ns, cost, allowed, remaining, reset_after_ns, retry_after_ns in vector["hits"]:
        counted.now_us = now_ns // US
        retry_after_ns = retry_after_ns if retry_after_ns < 0 else -(-retry_after_ns // unit_ns) * unit_ns
        answer = (allowed, 0, remaining, -(-reset_after_ns // unit_ns) * unit_ns, retry_after_ns)
        assert counted.hit(cost) == answer, (now_ns, cost)


@pytest.mark.parametrize("vector", vectors(are_whole=False))
def test_in_the_microseconds_of_the_vector_the_script_answers_as_the_engine_does(
    server: RedisServer, vector: dict[str, Any]
) -> None:
    rules = [(_core.Quota(**vector["quota"]), "vectors")]
    counted, engine = Counted(server, rules), Engine(rules)
    for now_ns, cost, *_ in vector["hits"]:
        counted.now_us = now_ns // US
        assert counted.hit(cost) == engine.answer(counted.now_us, cost), (now_ns, cost)


# The engine has half of 2^58 ns to tell the past of a GCRA cell from its future, the window included.
LONGEST_IDLE_US = (1 << 57) // US - (1 << 27) * 10**6
quotas = st.builds(
    _core.Quota,
    st.one_of(st.integers(1, 70), st.integers(1, 1000), st.sampled_from([8191, 1_048_575])),
    st.sampled_from([100_000_000, 10**9, MINUTE_NS, 61 * MINUTE_NS, 86_400 * 10**9, 2**27 * 10**9]),
    st.sampled_from(STRATEGIES),
)
starts_us = st.sampled_from([0, 60_000_000, 1_800_000_000_000_000, 1_800_000_000_123_457])


@settings(max_examples=150)
@given(st.data(), st.lists(quotas, min_size=1, max_size=4), starts_us)
def test_the_script_answers_as_the_engine_does(
    server: RedisServer, data: st.DataObject, quotas: list[_core.Quota], start_us: int
) -> None:
    rules = [(quota, str(i)) for i, quota in enumerate(quotas)]
    counted, engine = Counted(server, rules), Engine(rules)
    counted.now_us = start_us
    longest_us = min(quota.window_ns for quota in quotas) // US
    most = min(quota.amount for quota in quotas)
    steps = st.one_of(st.just(0), st.integers(0, longest_us // 20), st.integers(0, 2 * longest_us), st.just(longest_us))
    costs = st.one_of(st.just(1), st.integers(1, most), st.integers(1, most // 8 + 1), st.just(most + 1))
    hit_us = start_us
    for step_us, cost, is_peek in data.draw(st.lists(st.tuples(steps, costs, st.booleans()), max_size=100)):
        counted.now_us = min(counted.now_us + step_us, hit_us + LONGEST_IDLE_US)
        hit_us = hit_us if is_peek else counted.now_us
        answer = counted.hit(cost, b"peek" if is_peek else b"hit")
        assert answer == engine.answer(counted.now_us, cost, is_peek=is_peek)


@settings(max_examples=150)
@given(
    st.integers(1, 130),
    starts_us,
    st.lists(st.tuples(st.integers(-4_000_000, 20_000_000), st.integers(1, 30), st.integers(0, 40)), max_size=80),
)
def test_refunds_resets_and_clocks_that_go_back_never_let_a_window_hold_more_than_the_amount(
    server: RedisServer, amount: int, start_us: int, steps: list[tuple[int, int, int]]
) -> None:
    counted = Counted(server, [(_core.Quota(amount, MINUTE_NS), "")])
    counted.now_us = start_us
    log: list[tuple[int, int]] = []
    receipts: list[tuple[Any, tuple[int, int]]] = []
    forgotten: list[Any] = []
    for step_us, cost, choice in steps:
        counted.now_us = max(start_us, counted.now_us + step_us)
        if choice == 40:
            counted.reset()
            forgotten += [receipt for receipt, _ in receipts]
            log, receipts = [], []
        elif choice < len(receipts):
            receipt, taken = receipts.pop(choice)
            if counted.refund(receipt):
                log.remove(taken)
        elif forgotten and choice % 3 == 0:
            assert not counted.refund(forgotten.pop())
        else:
            # A late clock counts at the newest stamp.
            now_us = max([counted.now_us, *(at_us for at_us, _ in log)])
            answer, made = counted.reserve(cost)
            if answer[0]:
                taken = (now_us, cost)
                assert sum(units for at_us, units in log if now_us - at_us < MINUTE_NS // US) + cost <= amount
                log.append(taken)
                receipts.append((made, taken))


@settings(max_examples=100)
@given(
    st.sampled_from(STRATEGIES),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 8_000_000), st.integers(1, 4), st.integers(0, 12)), max_size=60),
)
def test_refunds_are_the_engines(
    server: RedisServer, strategy: Any, amount: int, steps: list[tuple[int, int, int]]
) -> None:
    rules = [(_core.Quota(amount, MINUTE_NS, strategy), "")]
    counted, engine = Counted(server, rules), Engine(rules)
    counted.now_us = 60_000_000
    pairs: list[tuple[Any, Any]] = []
    for step_us, cost, choice in steps:
        counted.now_us += step_us
        engine.clock.set(counted.now_us * US)
        if choice == 12:
            counted.reset()
            engine.policy.reset("key")
            assert not any(counted.refund(receipts) for receipts, _ in pairs)
            pairs.clear()
        elif choice < len(pairs):
            receipts, ticket = pairs.pop(choice)
            assert counted.refund(receipts) == engine.policy.refund(ticket)
        else:
            answer, receipts = counted.reserve(cost)
            expected, ticket = engine.policy.reserve("key", cost)
            assert answer[0] == expected[0]
            assert answer[2] == expected[2]
            if ticket is not None:
                pairs.append((receipts, ticket))


def test_a_clock_that_goes_back_by_more_than_a_window_locks_nobody_out(server: RedisServer) -> None:
    for strategy in STRATEGIES:
        counted = Counted(server, [(_core.Quota(3, MINUTE_NS, strategy), strategy)])  # type: ignore[arg-type]
        counted.now_us = 1_900_000_000_000_000
        assert [counted.hit()[0] for _ in range(4)] == [True, True, True, False]
        counted.now_us -= 30_000_000
        assert not counted.hit()[0]
        counted.now_us = 1_800_000_000_000_000
        assert [counted.hit()[0] for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_keys_expire_by_themselves_when_nothing_is_left_to_know(server: RedisServer, strategy: Any) -> None:
    server.call(b"FLUSHALL")
    rule = RedisRule.of(_core.Quota(100, MINUTE_NS, strategy), "")
    key = lead_of("somebody", is_hashed=False) + rule.suffix
    tail = ask(b"hit", [rule], [key], [50]).tail
    _, _, _, reset_after_ns, _ = raw_decision_of(server.call(b"EVAL", SCRIPT.text, *tail), [rule])
    left_ms = server.call(b"PTTL", key)
    assert reset_after_ns / 1e6 - 2000 < left_ms <= reset_after_ns / 1e6 + 2


def test_a_state_is_small_whatever_is_counted(server: RedisServer) -> None:
    counted = Counted(server, [(_core.Quota(8_388_607, MINUTE_NS), "")])
    for _ in range(500):
        counted.now_us += 200_000
        assert counted.hit(5)[0]
    (key,) = (lead_of("key", is_hashed=False) + rule.suffix for rule in counted.rules)
    assert server.call(b"STRLEN", key) == 12 + 61 * 12


def test_a_refusal_and_a_peek_write_nothing(server: RedisServer) -> None:
    counted = Counted(server, [(_core.Quota(2, MINUTE_NS), "a"), (_core.Quota(1, MINUTE_NS), "b")])
    counted.hit(1, b"peek")
    assert server.call(b"DBSIZE") == 2  # the clock's
    assert counted.hit()[0]
    keys = [lead_of("key", is_hashed=False) + rule.suffix for rule in counted.rules]
    before = server.call(b"MGET", *keys)
    assert not counted.hit()[0]
    assert server.call(b"MGET", *keys) == before


def test_one_key_that_is_named_twice_takes_twice(server: RedisServer) -> None:
    counted = Counted(server, [(_core.Quota(3, MINUTE_NS), "same"), (_core.Quota(3, MINUTE_NS), "same")])
    assert [counted.hit()[0] for _ in range(2)] == [True, False]
    assert counted.hit(1, b"peek")[2] == 1


def test_keys_cannot_be_mistaken_for_each_other() -> None:
    quota = _core.Quota(10, MINUTE_NS)
    inner = lead_of("a", is_hashed=False) + RedisRule.of(quota, "x").suffix
    texts = ["", "a", "a}", "}", inner.decode(), "b" * 65, "b" * 66]
    suffixes = [RedisRule.of(quota, scope).suffix for scope in texts]
    keys = {lead_of(key, is_hashed=hashed) + end for end in suffixes for key in texts for hashed in (False, True)}
    # Those longer than 64 bytes are hashed either way.
    assert len(keys) == len(texts) * (2 * len(texts) - sum(len(key) > 64 for key in texts))
    assert all(key.startswith(b"slidegate:1:") for key in keys)
    assert max(map(len, keys)) < 250

"""The native engine as Python sees it: arguments, lifetimes, threads, memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_mypy

from slidegate import _core

MINUTE_NS = 60_000_000_000
NEVER = -1


@pytest.fixture
def clock() -> _core.ManualClock:
    return _core.ManualClock()


@pytest.fixture
def limiter(clock: _core.ManualClock) -> _core.Limiter:
    return _core.Limiter(size=1 << 20, clock=clock)


@pytest.fixture
def policy(limiter: _core.Limiter) -> _core.Policy:
    return limiter.policy([(_core.Quota(10, MINUTE_NS), "chat")])


@pytest.fixture
def pair(limiter: _core.Limiter) -> _core.Policy:
    return limiter.policy([(_core.Quota(10, MINUTE_NS), "a"), (_core.Quota(20, MINUTE_NS), "b")])


# --- what it answers --------------------------------------------------------------------------------------------------


def test_a_hit_answers_a_plain_tuple(policy: _core.Policy) -> None:
    assert policy.hit("alice") == (True, 0, 9, MINUTE_NS, 0)
    assert policy.hit("alice", 9) == (True, 0, 0, MINUTE_NS, 0)
    assert policy.hit("alice") == (False, 0, 0, MINUTE_NS, MINUTE_NS)
    assert [type(each) for each in policy.hit("alice")] == [bool, int, int, int, int]


def test_a_peek_takes_nothing(policy: _core.Policy, limiter: _core.Limiter) -> None:
    assert policy.peek("alice", 10) == (True, 0, 10, 0, 0)
    assert policy.peek("alice", 11) == (False, 0, 10, 0, NEVER)
    assert limiter.stats().cells == 0


def test_str_and_bytes_of_the_same_utf8_are_one_key(policy: _core.Policy) -> None:
    policy.hit("Zoë")
    assert policy.peek("Zoë".encode())[2] == 9


def test_keys_and_costs_may_be_given_for_each_rule(pair: _core.Policy, limiter: _core.Limiter) -> None:
    assert pair.hit(("alice", "team"), (1, 19)) == (True, 1, 1, MINUTE_NS, 0)
    assert pair.hit(("bob", "team"), (1, 2))[:2] == (False, 1)
    only_a = limiter.policy([(_core.Quota(10, MINUTE_NS), "a")])
    assert only_a.peek("alice")[2] == 9
    assert only_a.peek("bob")[2] == 10


def test_scope_and_key_do_not_run_into_each_other(limiter: _core.Limiter) -> None:
    quota = _core.Quota(1, MINUTE_NS)
    assert limiter.policy([(quota, "a/b")]).hit("c")[0]
    assert limiter.policy([(quota, "a")]).hit("b/c")[0]
    assert not limiter.policy([(quota, "a/b")]).hit("c")[0]


def test_a_quota_shows_what_it_is_made_of() -> None:
    quota = _core.Quota(62, MINUTE_NS, "moving-window")
    assert (quota.amount, quota.window_ns, quota.strategy) == (62, MINUTE_NS, "moving-window")
    assert repr(quota) == "Quota(62, 60000000000, 'moving-window')"
    assert quota == _core.Quota(62, MINUTE_NS)
    assert hash(quota) == hash(_core.Quota(62, MINUTE_NS))
    assert quota != _core.Quota(62, MINUTE_NS, "gcra")
    assert quota != "62/minute"


def test_a_limiter_tells_the_time_of_its_clock(clock: _core.ManualClock, limiter: _core.Limiter) -> None:
    clock.set(5)
    clock.advance(7)
    assert clock.now() == limiter.now() == 12


def test_a_limiter_without_a_clock_has_one_that_runs() -> None:
    limiter = _core.Limiter(size=1 << 20)
    before_ns = _core.BootClock().now()
    assert before_ns <= limiter.now() <= _core.BootClock().now()


def test_the_clock_outlives_the_name_it_was_given_under() -> None:
    limiter = _core.Limiter(size=1 << 20, clock=_core.ManualClock(77))
    assert limiter.now() == 77


# --- refunds ----------------------------------------------------------------------------------------------------------


def test_a_ticket_gives_back_once(policy: _core.Policy) -> None:
    (allowed, *_), ticket = policy.reserve("alice", 10)
    assert allowed
    assert ticket is not None
    assert policy.refund(ticket) is True
    assert policy.refund(ticket) is False
    assert policy.hit("alice", 10)[0]
    assert policy.refund(ticket) is False
    assert not policy.hit("alice")[0]


def test_a_refused_reservation_has_no_ticket(policy: _core.Policy) -> None:
    assert policy.reserve("alice", 11) == ((False, 0, 10, 0, NEVER), None)


def test_a_ticket_is_of_its_own_policy(limiter: _core.Limiter, policy: _core.Policy) -> None:
    same = limiter.policy([(_core.Quota(10, MINUTE_NS), "chat")])
    _, ticket = policy.reserve("alice", 10)
    assert ticket is not None
    with pytest.raises(ValueError, match="another policy"):
        same.refund(ticket)
    assert not policy.hit("alice")[0]
    assert policy.refund(ticket)


def test_a_ticket_outlives_its_limiter_and_policy() -> None:
    limiter = _core.Limiter(size=1 << 20, clock=_core.ManualClock())
    policy = limiter.policy([(_core.Quota(1, MINUTE_NS), "")])
    _, ticket = policy.reserve("alice")
    del limiter, policy
    other = _core.Limiter(size=1 << 20).policy([(_core.Quota(1, MINUTE_NS), "")])
    assert ticket is not None
    with pytest.raises(ValueError, match="another policy"):
        other.refund(ticket)


def test_a_policy_outlives_its_limiter() -> None:
    policy = _core.Limiter(size=1 << 20, clock=_core.ManualClock()).policy([(_core.Quota(1, MINUTE_NS), "")])
    _, ticket = policy.reserve("alice")
    assert ticket is not None
    assert not policy.hit("alice")[0]
    assert policy.refund(ticket)
    assert policy.hit("alice")[0]


def test_a_ticket_after_its_window_gives_nothing_back(policy: _core.Policy, clock: _core.ManualClock) -> None:
    _, ticket = policy.reserve("alice", 10)
    clock.advance(MINUTE_NS)
    assert policy.hit("alice", 10)[0]
    assert ticket is not None
    assert not policy.refund(ticket)
    assert not policy.hit("alice")[0]


def test_a_reset_forgets_keys_and_a_limiter_all(policy: _core.Policy, limiter: _core.Limiter) -> None:
    policy.hit("alice", 10)
    policy.hit("bob", 10)
    policy.reset("alice")
    assert policy.hit("alice", 10)[0]
    assert not policy.hit("bob")[0]
    limiter.reset()
    assert policy.hit("bob", 10)[0]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "window_ns", "strategy", "message"),
    [
        (0, MINUTE_NS, "moving-window", "from 1 to 8388607, not 0"),
        (-1, MINUTE_NS, "moving-window", "out of range: -1"),
        (8_388_608, MINUTE_NS, "moving-window", "from 1 to 8388607, not 8388608"),
        (8_388_608, MINUTE_NS, "fixed-window", "from 1 to 8388607, not 8388608"),
        (1_048_576, MINUTE_NS, "sliding-window-counter", "from 1 to 1048575, not 1048576"),
        (1 << 80, MINUTE_NS, "gcra", "out of range: 1208925819614629174706176"),
        (156_251, 10_000_000, "gcra", "at most 156250"),
        (1, 0, "moving-window", "10 ms"),
        (1, -MINUTE_NS, "moving-window", "not -60000000000 ns"),
        (1, 9_999_999, "gcra", "from 10000000 ns"),
        (1, 1 << 62, "moving-window", "1553 days"),
        (1, 1 << 80, "moving-window", "out of range: 1208925819614629174706176"),
        (1, MINUTE_NS, "leaky-bucket", "'leaky-bucket'; known are moving-window, fixed-window"),
    ],
)
def test_a_quota_out_of_range_is_refused_with_the_range(
    amount: int, window_ns: int, strategy: Any, message: str
) -> None:
    with pytest.raises(_core.InvalidQuota, match=message):
        _core.Quota(amount, window_ns, strategy)
    assert issubclass(_core.InvalidQuota, ValueError)


@pytest.mark.parametrize("amount", [1.0, 1.5, float("nan"), "1", None, b"1", [1]])
def test_an_amount_that_is_no_int_is_a_type_error(amount: Any) -> None:
    with pytest.raises(TypeError):
        _core.Quota(amount, MINUTE_NS)
    with pytest.raises(TypeError):
        _core.Quota(1, amount)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 36) + 1])
def test_a_size_out_of_range_is_refused_with_the_range(size: int) -> None:
    with pytest.raises(ValueError, match="from 1048576 to 68719476736 bytes"):
        _core.Limiter(size=size)


@pytest.mark.parametrize("arguments", [{"size": -1}, {"size": 1.5}, {"size": "1"}, {"clock": 5}, {"on_full": 3}])
def test_arguments_of_a_limiter_have_types(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        _core.Limiter(**arguments)


def test_an_unknown_on_full_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="'evict', 'refuse' or 'admit', not 'explode'"):
        _core.Limiter(on_full="explode")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 17])
def test_a_policy_has_from_one_to_sixteen_rules(limiter: _core.Limiter, count: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 16 rules, not {count}"):
        limiter.policy([(_core.Quota(1, MINUTE_NS), "")] * count)


@pytest.mark.parametrize("rules", [None, 5, ["x"], [(1, "x")], [(_core.Quota(1, MINUTE_NS), 5)], [()]])
def test_rules_are_pairs_of_quota_and_scope(limiter: _core.Limiter, rules: Any) -> None:
    with pytest.raises(TypeError):
        limiter.policy(rules)


@pytest.mark.parametrize("call", ["hit", "peek", "reserve"])
@pytest.mark.parametrize("key", [None, 1, 1.5, ["a"], {"a"}, object(), bytearray(b"a"), (1,), (None,)])
def test_a_key_that_is_neither_str_nor_bytes_is_a_type_error(policy: _core.Policy, call: str, key: Any) -> None:
    with pytest.raises(TypeError, match="a key is str or bytes, not"):
        getattr(policy, call)(key)


@pytest.mark.parametrize("call", ["hit", "peek", "reserve"])
@pytest.mark.parametrize("cost", [None, 1.0, float("nan"), float("inf"), "1", b"1", [1], object(), (1.0,)])
def test_a_cost_that_is_no_int_is_a_type_error(policy: _core.Policy, call: str, cost: Any) -> None:
    with pytest.raises(TypeError, match="a cost is an int, not"):
        getattr(policy, call)("alice", cost)


@pytest.mark.parametrize("call", ["hit", "peek", "reserve"])
@pytest.mark.parametrize("cost", [0, -1, -(1 << 63), -(1 << 80), False, (0,)])
def test_a_cost_below_one_is_a_value_error(policy: _core.Policy, call: str, cost: Any) -> None:
    with pytest.raises(ValueError, match="a cost is at least 1, not"):
        getattr(policy, call)("alice", cost)
    assert policy.peek("alice")[2] == 10


@pytest.mark.parametrize("cost", [11, 8_388_608, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200])
def test_a_cost_above_the_limit_is_refused_for_ever(policy: _core.Policy, cost: int) -> None:
    assert policy.hit("alice", cost) == (False, 0, 10, 0, NEVER)
    assert policy.reserve("alice", cost)[1] is None
    assert policy.hit("alice", 10)[0]


def test_true_costs_one_as_it_does_everywhere_in_python(policy: _core.Policy) -> None:
    assert policy.hit("alice", True)[2] == 9


@pytest.mark.parametrize("call", ["hit", "peek", "reserve"])
@pytest.mark.parametrize("arguments", [((),), (("a",),), (("a", "b", "c"),), ("a", ()), ("a", (1,)), ("a", (1, 2, 3))])
def test_a_tuple_of_another_size_than_the_policy_is_a_value_error(
    pair: _core.Policy, call: str, arguments: Any
) -> None:
    with pytest.raises(ValueError, match="a policy of 2 rules takes one"):
        getattr(pair, call)(*arguments)
    assert pair.peek("a")[2] == 10


def test_a_bad_key_or_cost_in_a_tuple_takes_nothing(pair: _core.Policy) -> None:
    with pytest.raises(TypeError):
        pair.hit(("a", 5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        pair.hit("a", (1, 0))
    assert pair.peek("a")[2] == 10


@pytest.mark.parametrize("arguments", [(), ("a", 1, 1)])
def test_a_hit_takes_one_or_two_arguments(policy: _core.Policy, arguments: Any) -> None:
    with pytest.raises(TypeError):
        policy.hit(*arguments)


def test_arguments_of_a_hit_are_positional(policy: _core.Policy) -> None:
    with pytest.raises(TypeError):
        policy.hit(keys="alice")  # type: ignore[call-arg]


@pytest.mark.parametrize("key", ["", b"", "x" * (1 << 20), b"\0" * (1 << 20), "\ud800", "a\udfffb", "\0", "日本"])
def test_any_text_and_any_bytes_are_a_key(policy: _core.Policy, key: str | bytes) -> None:
    assert policy.hit(key, 10)[0]
    assert not policy.hit(key)[0]
    assert policy.hit("another")[0]
    policy.reset(key)
    assert policy.hit(key)[0]


def test_lone_surrogates_are_told_apart(pair: _core.Policy) -> None:
    assert pair.hit(("\ud800", "\udfff"), 10)[0]
    assert not pair.hit(("\ud800", "\udfff"))[0]
    assert pair.hit(("\ud801", "\udffe"))[0]


@pytest.mark.parametrize(
    "call",
    [
        "_core.Policy.__new__(_core.Policy).hit('a')",
        "_core.Policy.__new__(_core.Policy).peek('a')",
        "_core.Policy.__new__(_core.Policy).reserve('a')",
        "_core.Policy.__new__(_core.Policy).reset('a')",
        "policy.refund(_core.Ticket.__new__(_core.Ticket))",
        "_core.Stats.__new__(_core.Stats).cells",
    ],
)
def test_what_new_alone_makes_is_a_type_error(call: str) -> None:
    # In a process of its own: what goes wrong here goes wrong for good.
    code = f"""
from slidegate import _core
policy = _core.Limiter(size=1 << 20).policy([(_core.Quota(1, {MINUTE_NS}), "")])
try:
    {call}
except TypeError:
    print("a TypeError")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "a TypeError")


def test_a_hit_on_something_else_is_a_type_error(policy: _core.Policy) -> None:
    with pytest.raises(TypeError):
        _core.Policy.hit(object(), "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        policy.refund(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        policy.refund(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Policy", "Ticket", "Stats"])
def test_what_a_limiter_makes_cannot_be_made_otherwise(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(_core, name)()


@pytest.mark.parametrize("name", ["Quota", "Limiter", "Policy", "Ticket", "ManualClock", "BootClock", "Stats"])
def test_final_classes_cannot_be_derived_from(name: str) -> None:
    with pytest.raises(TypeError):
        type("Derived", (getattr(_core, name),), {})


def test_refused_arguments_leave_no_references_behind(policy: _core.Policy) -> None:
    key = "\ud800" * 10
    cost = object()
    before = sys.getrefcount(key), sys.getrefcount(cost)
    for _ in range(100):
        policy.hit(key)
        with pytest.raises(TypeError):
            policy.hit(key, cost)  # type: ignore[arg-type]
    assert (sys.getrefcount(key), sys.getrefcount(cost)) == before


# --- threads and memory -----------------------------------------------------------------------------------------------


def test_threads_together_are_admitted_exactly_the_amount() -> None:
    policy = _core.Limiter(size=1 << 20, clock=_core.ManualClock()).policy([(_core.Quota(5_000, MINUTE_NS), "")])
    barrier = threading.Barrier(8)
    admitted: list[int] = []

    def hammer() -> None:
        barrier.wait()
        admitted.append(sum(policy.hit("k")[0] for _ in range(1_000)))

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 8
    assert sum(admitted) == 5_000


def test_a_ticket_that_threads_race_for_is_refunded_once() -> None:
    policy = _core.Limiter(size=1 << 20, clock=_core.ManualClock()).policy([(_core.Quota(10, MINUTE_NS), "")])
    barrier = threading.Barrier(4)
    refunded: list[bool] = []
    tickets = [ticket for _, ticket in (policy.reserve(str(i)) for i in range(500)) if ticket is not None]

    def give_back() -> None:
        barrier.wait()
        refunded.extend(policy.refund(ticket) for ticket in tickets)

    threads = [threading.Thread(target=give_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refunded) == 2_000
    assert sum(refunded) == len(tickets) == 500


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("on_full", ["evict", "refuse", "admit"])
def test_a_flood_of_keys_stays_within_the_size(on_full: Any) -> None:
    limiter = _core.Limiter(size=1 << 20, on_full=on_full, clock=_core.ManualClock())
    policy = limiter.policy([(_core.Quota(10, MINUTE_NS), ""), (_core.Quota(60, MINUTE_NS), "b")])
    for i in range(1_000):
        policy.hit(f"warm {i}")
    before_kib = resident_kib()
    for i in range(200_000):
        policy.hit(f"key {i}")
    assert resident_kib() - before_kib < 3_000
    stats = limiter.stats()
    assert stats.bytes <= stats.capacity_bytes <= 1 << 20
    assert (stats.evictions > 0) is (on_full == "evict")
    assert (stats.full > 0) is (on_full != "evict")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_tickets_refusals_and_errors_leak_nothing() -> None:
    policy = _core.Limiter(size=1 << 20, clock=_core.ManualClock()).policy([(_core.Quota(10, MINUTE_NS), "")])

    def work(rounds: int) -> None:
        for _ in range(rounds):
            _, ticket = policy.reserve("k")
            assert ticket is not None
            policy.refund(ticket)
            policy.hit("\ud800" * 2_000, 11)
            with pytest.raises(TypeError):
                policy.hit("\ud800" * 2_000, "1")  # type: ignore[arg-type]

    work(200)
    before_kib = resident_kib()
    work(4_000)
    assert resident_kib() - before_kib < 4_000


def test_cells_expire_and_are_used_again(clock: _core.ManualClock, limiter: _core.Limiter) -> None:
    policy = limiter.policy([(_core.Quota(10, MINUTE_NS), "")])
    for i in range(5_000):
        assert policy.hit(f"key {i}")[0]
        clock.advance(MINUTE_NS // 100)
    assert limiter.stats().cells < 250
    assert limiter.stats().evictions == limiter.stats().full == 0


# --- the module -------------------------------------------------------------------------------------------------------


def test_the_engine_is_native_and_of_this_package() -> None:
    spec = importlib.util.find_spec("slidegate._core")
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith((".so", ".pyd"))
    assert type(_core.Policy.hit).__name__ == "method_descriptor"


def test_without_the_extension_the_import_fails_and_names_it() -> None:
    code = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "slidegate._core":
            raise ModuleNotFoundError("No module named 'slidegate._core'", name=name)
sys.meta_path.insert(0, Hide())
import slidegate._core
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "slidegate._core" in result.stderr


@needs_mypy
def test_the_stub_says_what_the_module_has() -> None:
    allowlist = Path(__file__).parents[2] / ".ci" / "stubtest-allowlist"
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "slidegate._core", "--allowlist", str(allowlist)],
        env={**os.environ, "MYPYPATH": str(Path(__file__).parents[2] / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


NAMES = (b"limit", b"remaining", b"reset")


def test_quota_headers_are_added_to_a_copy_and_replace_those_that_are_there() -> None:
    before = [(b"a", b"1"), (b"limit", b"old"), (b"b", b"2"), (b"reset", b"old"), (b"limits", b"kept")]
    after = _core.with_quota(tuple(before), NAMES, 10, (True, 0, 9, 1_500_000_000, 0), 100.25)
    kept = [(b"a", b"1"), (b"b", b"2"), (b"limits", b"kept")]
    assert after == [*kept, (b"limit", b"10"), (b"remaining", b"9"), (b"reset", b"102")]
    assert len(before) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ([], NAMES, 10, (True, 0, 9, 0, 0)),
        ([], ("limit", "remaining", "reset"), 10, (True, 0, 9, 0, 0), 1.0),
        ([], NAMES[:2], 10, (True, 0, 9, 0, 0), 1.0),
        ([], NAMES, "10", (True, 0, 9, 0, 0), 1.0),
        ([], NAMES, 10, (True, 0, 9), 1.0),
        ([], NAMES, 10, (True, 0, "9", 0, 0), 1.0),
        ([], NAMES, 10, (True, 0, 9, 0, 0), "now"),
        (None, NAMES, 10, (True, 0, 9, 0, 0), 1.0),
    ],
    ids=str,
)
def test_quota_headers_of_something_else_are_a_type_error(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        _core.with_quota(*arguments)

"""Connections to real servers, on event loops and in threads, and what servers and networks do to them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis_proxy import FaultyProxy
from redis_servers import RedisServer, calls_of, connections_to

from slidegate._core import Quota
from slidegate._storage.redis.async_connection import AioConnection
from slidegate._storage.redis.storage import RedisPolicy, RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import ConfigurationError, StorageError, StorageFull, StorageTimeout, StorageUnavailable

RULES = ((Quota(1_000_000, 60_000_000_000), "test"),)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Caller:
    """Counts on an event loop of its own, or in this thread."""

    def __init__(self, kind: str) -> None:
        self.loop: Any = LOOPS[kind]() if kind in LOOPS else None
        self.storages: list[RedisStorage] = []

    def open(self, uri: str) -> RedisStorage:
        storage = RedisStorage(parse_redis_uri(uri))
        self.storages.append(storage)
        return storage

    def policy(self, uri: str) -> RedisPolicy:
        return self.open(uri).policy(RULES)

    def hit(self, policy: RedisPolicy, key: str = "key", cost: int = 1) -> Any:
        if self.loop is None:
            return policy.hit(key, cost)
        return self.loop.run_until_complete(policy.hit_async(key, cost))

    def close(self) -> None:
        for storage in self.storages:
            storage.close()
        if self.loop is not None:
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    server.call(b"FLUSHALL")


@pytest.fixture(params=["asyncio", "uvloop", "thread"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(request.param)
    yield caller
    caller.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def looping(request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(request.param)
    yield caller
    caller.close()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(server.path)
    yield proxy
    proxy.stop()


def unix(server: RedisServer, options: str = "") -> str:
    return f"redis+unix://{server.path}{options}"


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_build_without_hiredis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: bytes) -> bytes:
        raise RuntimeError("install hiredis")

    monkeypatch.setattr("slidegate._storage.redis.storage.redis_command", missing)
    with pytest.raises(ConfigurationError, match="install hiredis"):
        RedisStorage(parse_redis_uri("redis://"))


def test_hits_are_counted(server: RedisServer, caller: Caller) -> None:
    policy = caller.policy(unix(server))
    assert [caller.hit(policy)[2] for _ in range(3)] == [999_999, 999_998, 999_997]
    assert caller.hit(caller.policy(unix(server)))[2] == 999_996


def test_a_name_and_a_port_and_a_database_are_found(caller: Caller, proxy: FaultyProxy, server: RedisServer) -> None:
    policy = caller.policy(f"redis://localhost:{proxy.port}/3")
    assert caller.hit(policy)[0]
    assert server.call(b"DBSIZE") == 0
    assert b"db3:keys=1" in server.call(b"INFO", b"keyspace")


def test_reservations_are_given_back_once_and_keys_forgotten(server: RedisServer, looping: Caller) -> None:
    policy = looping.policy(unix(server))

    async def check() -> None:
        _, ticket = await policy.reserve_async("key", 5)
        assert ticket is not None
        assert (await policy.peek_async("key"))[2] == 999_995
        assert await policy.refund_async(ticket)
        assert not await policy.refund_async(ticket)
        await policy.hit_async("key", 2)
        await policy.reset_async("key")
        assert (await policy.peek_async("key"))[2] == 1_000_000

    looping.loop.run_until_complete(check())
    _, ticket = policy.reserve("key", 5)
    assert ticket is not None
    assert policy.refund(ticket)
    policy.hit("key", 2)
    policy.reset("key")
    assert policy.peek("key")[2] == 1_000_000


def test_a_storage_forgets_its_own_keys_and_no_others(server: RedisServer, caller: Caller) -> None:
    storage = caller.open(unix(server))
    server.call(b"SET", b"other", b"1")
    for i in range(20):
        caller.hit(storage.policy(RULES), str(i))
    storage.reset()
    assert server.call(b"KEYS", b"*") == [b"other"]


def test_commands_of_one_turn_leave_in_one_write(
    server: RedisServer, looping: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = looping.policy(unix(server))
    looping.hit(policy)
    written: list[int] = []
    write = AioConnection._write
    monkeypatch.setattr(AioConnection, "_write", lambda self, data: (written.append(len(data)), write(self, data)))

    async def many() -> None:
        await asyncio.gather(*(policy.hit_async(f"key {i}") for i in range(100)))

    looping.loop.run_until_complete(many())
    assert len(written) == 1


@pytest.mark.parametrize("seed", range(10))
def test_callers_who_give_up_at_random_never_mix_up_the_answers(looping: Caller, proxy: FaultyProxy, seed: int) -> None:
    dice = random.Random(seed)
    cuts = random.Random(seed + 1000)
    rest = bytearray()

    def in_pieces(data: bytes) -> bytes:
        rest.extend(data)
        # Little enough that most of those who give up have not been answered yet.
        size = cuts.randint(1, min(40, len(rest)))
        piece = bytes(rest[:size])
        del rest[:size]
        return piece

    def all_of_it(data: bytes) -> bytes:
        everything = bytes(rest) + data
        rest.clear()
        return everything

    proxy.fault = in_pieces
    policy = looping.policy(f"redis://127.0.0.1:{proxy.port}?command_timeout_ms=20000&connect_timeout_ms=20000")
    counts = {"right": 0, "given up": 0}

    async def one(cost: int) -> None:
        answer = await policy.hit_async(f"key {cost}", cost)
        assert answer == (True, 0, 1_000_000 - cost, answer[3], 0)
        counts["right"] += 1

    async def many() -> None:
        tasks = [asyncio.ensure_future(one(cost)) for cost in range(1, 300)]
        for task in tasks:
            if dice.random() < 0.3:
                task.cancel()
            elif dice.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        for task in tasks:
            if dice.random() < 0.1:
                task.cancel()
        proxy.fault = all_of_it
        await policy.peek_async("last")
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
            counts["given up"] += outcome is not None

    looping.loop.run_until_complete(many())
    assert counts["right"] > 50
    assert counts["given up"] > 50
    assert proxy.accepted == 1


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "another type": b"+OK\r\n",
    "too few numbers": b"*2\r\n:1\r\n:0\r\n",
    "texts": b"*5\r\n+a\r\n+b\r\n+c\r\n+d\r\n+e\r\n",
    "a rule that is not": b"*5\r\n:1\r\n:9\r\n:0\r\n:0\r\n:0\r\n",
    "too many answers": b"*5\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n" * 2,
    "an endless array": b"*2147483647\r\n",
    "nothing": b"$-1\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_an_error_and_ends_the_connection(caller: Caller, proxy: FaultyProxy, garbage: str) -> None:
    policy = caller.policy(f"redis://127.0.0.1:{proxy.port}")
    assert caller.hit(policy)[0]
    proxy.fault = lambda data: GARBAGE[garbage]
    with suppress(StorageUnavailable):
        caller.hit(policy)
        # Of two answers the first is right for all that anybody can tell; the second is not anybody's.
        assert garbage == "too many answers"
    proxy.fault = bytes
    assert caller.hit(policy)[2] == 1_000_000 - 3
    assert proxy.accepted == 2


@pytest.mark.parametrize("fault", [lambda data: None, lambda data: data[:5]], ids=["closed", "half an answer"])
def test_an_answer_that_does_not_come_is_an_error_and_not_asked_for_again(
    caller: Caller, proxy: FaultyProxy, server: RedisServer, fault: Callable[[bytes], bytes | None]
) -> None:
    policy = caller.policy(f"redis://127.0.0.1:{proxy.port}")
    assert caller.hit(policy)[0]
    proxy.fault = fault
    with pytest.raises((StorageUnavailable, StorageTimeout)):
        caller.hit(policy)
    proxy.fault = bytes
    assert caller.hit(policy)[2] == 1_000_000 - 3


def test_a_server_that_is_silent_is_waited_for_no_longer_than_configured(caller: Caller, proxy: FaultyProxy) -> None:
    policy = caller.policy(f"redis://127.0.0.1:{proxy.port}?command_timeout_ms=30")
    assert caller.hit(policy)[0]
    proxy.is_dropping_requests = True
    with pytest.raises(StorageTimeout, match="within 30 ms"):
        caller.hit(policy)
    proxy.is_dropping_requests = False
    assert caller.hit(policy)[2] == 1_000_000 - 2


def test_a_server_that_is_silent_from_the_beginning_is_no_better(caller: Caller, proxy: FaultyProxy) -> None:
    proxy.is_dropping_requests = True
    policy = caller.policy(f"redis://:secret@127.0.0.1:{proxy.port}?connect_timeout_ms=40")
    with pytest.raises(StorageTimeout, match="within 40 ms"):
        caller.hit(policy)


def test_a_loop_that_was_busy_finds_its_answers_all_the_same(server: RedisServer, looping: Caller) -> None:
    policy = looping.policy(unix(server, "?command_timeout_ms=20"))
    looping.hit(policy)

    async def busy() -> None:
        before = asyncio.ensure_future(policy.hit_async("key"))
        await asyncio.sleep(0)
        time.sleep(0.05)
        await asyncio.sleep(0)
        time.sleep(0.05)
        await before

    looping.loop.run_until_complete(busy())


def test_nobody_listens(caller: Caller, tmp_path: Path) -> None:
    for uri in (f"redis+unix://{tmp_path}/none.sock", "redis://127.0.0.1:1", "redis://[::1]:1"):
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            caller.hit(caller.policy(uri))


@pytest.mark.parametrize("code", ["LOADING", "BUSY", "MISCONF", "MASTERDOWN", "READONLY", "NOPERM", "CLUSTERDOWN"])
def test_a_server_that_says_it_cannot_is_unavailable(caller: Caller, proxy: FaultyProxy, code: str) -> None:
    policy = caller.policy(f"redis://127.0.0.1:{proxy.port}")
    assert caller.hit(policy)[0]
    proxy.fault = lambda data: f"-{code} some reason\r\n".encode()
    with pytest.raises(StorageUnavailable, match=code):
        caller.hit(policy)
    proxy.fault = bytes
    assert caller.hit(policy)[0]


def test_a_server_without_memory_is_full_and_counts_nothing(server: RedisServer, caller: Caller) -> None:
    policy = caller.open(unix(server)).policy((*RULES, (RULES[0][0], "another")))
    assert caller.hit(policy)[0]
    server.call(b"CONFIG", b"SET", b"maxmemory", b"1")
    try:
        with pytest.raises(StorageFull):
            caller.hit(policy)
    finally:
        server.call(b"CONFIG", b"SET", b"maxmemory", b"0")
    assert caller.hit(policy)[2] == 1_000_000 - 2


def test_a_server_that_has_become_a_replica_is_left(server: RedisServer, caller: Caller) -> None:
    policy = caller.policy(unix(server))
    assert caller.hit(policy)[0]
    server.call(b"REPLICAOF", b"127.0.0.1", b"1")
    try:
        with pytest.raises(StorageUnavailable, match="READONLY"):
            caller.hit(policy)
    finally:
        server.call(b"REPLICAOF", b"NO", b"ONE")
    assert caller.hit(policy)[2] == 1_000_000 - 2


def test_a_server_that_has_lost_the_script_is_told_it_once(server: RedisServer, looping: Caller) -> None:
    policy = looping.policy(unix(server))
    looping.hit(policy)
    server.call_all([(b"SCRIPT", b"FLUSH"), (b"CONFIG", b"RESETSTAT")])

    async def many() -> list[Any]:
        return await asyncio.gather(*(policy.hit_async(f"key {i}", i) for i in range(1, 200)))

    answers = looping.loop.run_until_complete(many())
    assert [answer[2] for answer in answers] == [1_000_000 - i for i in range(1, 200)]
    assert calls_of(server, "eval") == 1


def test_a_server_that_was_started_anew_is_used_without_a_restart_here(tmp_path: Path, caller: Caller) -> None:
    server = RedisServer(tmp_path)
    try:
        policy = caller.policy(unix(server))
        caller.hit(policy)
        server.stop()
        with pytest.raises(StorageError):
            caller.hit(policy)
        server.start()
        assert caller.hit(policy)[2] == 999_999
    finally:
        server.stop()


def test_the_breaker_opens_after_three_failures_and_closes_by_itself(
    tmp_path: Path, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path)
    try:
        storage = caller.open(unix(server))
        policy = storage.policy(RULES)
        caller.hit(policy)
        assert storage.health().is_available
        server.stop()
        with caplog.at_level(logging.WARNING, "slidegate"):
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    caller.hit(policy)
            for _ in range(10):
                with pytest.raises(StorageUnavailable, match="not asked until it answers again"):
                    caller.hit(policy)
            health = storage.health()
            assert not health.is_available
            assert health.outages == 1
            assert "redis.sock" in (health.last_error or "")
            server.start()
            eventually(lambda: storage.health().is_available)
        assert caller.hit(policy)[2] == 999_999
        assert len(caplog.records) == 2
    finally:
        server.stop()


def test_one_connection_that_fails_many_callers_is_one_failure(proxy: FaultyProxy, looping: Caller) -> None:
    storage = looping.open(f"redis://127.0.0.1:{proxy.port}")
    policy = storage.policy(RULES)
    looping.hit(policy)
    proxy.fault = lambda data: None

    async def many() -> list[Any]:
        return await asyncio.gather(*(policy.hit_async("key") for _ in range(50)), return_exceptions=True)

    assert all(isinstance(each, StorageUnavailable) for each in looping.loop.run_until_complete(many()))
    assert storage.health().is_available


def test_passwords_let_in_and_are_never_told(server: RedisServer, caller: Caller, caplog: Any) -> None:
    server.call(b"ACL", b"SETUSER", b"gate", b"on", b">pass word", b"~slidegate:*", b"+@all")
    right = f"redis+unix://gate:pass%20word@{server.path}"
    assert caller.hit(caller.policy(right))[0]
    for uri in (
        f"redis+unix://gate:hush%20hush@{server.path}",
        f"redis+unix://nobody:hush%20hush@{server.path}",
        f"redis+unix://:hush%20hush@{server.path}",
    ):
        storage = caller.open(uri)
        for _ in range(5):
            with pytest.raises(StorageUnavailable) as raised:
                caller.hit(storage.policy(RULES))
            assert "hush" not in f"{raised.value!r} {storage.health()} {storage._target!r}"
        assert "AUTH" in str(storage.health().last_error)
    assert caplog.records
    assert "hush" not in caplog.text


def test_a_thousand_connections_leave_nothing_open(server: RedisServer, caller: Caller) -> None:
    policy = caller.policy(unix(server))
    caller.hit(policy)
    before, connected, failures = open_files(), connections_to(server), 0
    for _ in range(1000):
        server.call(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes")
        try:
            caller.hit(policy)
        except StorageError:
            failures += 1
    assert failures < 1000
    assert open_files() == before
    # Each was ended by a connection of the test's own.
    assert connections_to(server) - connected >= 2000


def test_loops_that_are_over_leave_nothing_open(server: RedisServer) -> None:
    caller = Caller("thread")
    policy = caller.policy(unix(server))
    asyncio.run(policy.hit_async("key"))  # type: ignore[arg-type]
    before = open_files()
    for _ in range(50):
        asyncio.run(policy.hit_async("key"))  # type: ignore[arg-type]
    assert open_files() == before
    caller.close()


def test_threads_have_connections_of_their_own_and_leave_nothing_open(server: RedisServer) -> None:
    caller = Caller("thread")
    policy = caller.policy(unix(server))
    caller.hit(policy)
    before = open_files()
    remaining: list[int] = []

    def count() -> None:
        remaining.extend(policy.hit("shared")[2] for _ in range(50))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(remaining) == list(range(1_000_000 - 400, 1_000_000))
    eventually(lambda: open_files() == before)
    caller.close()


FORK = """
import asyncio, os, sys
from slidegate._core import Quota
from slidegate._support.waiting import run_blocking
from slidegate._storage.redis.storage import RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri

storage = RedisStorage(parse_redis_uri(sys.argv[1]))
policy = storage.policy(((Quota(1_000_000, 60_000_000_000), "fork"),))

async def both():
    await policy.hit_async("before")
    policy.hit("before")
    identity = run_blocking(storage._server._threads.execute(b"CLIENT", b"ID"))
    inherited = list(storage._server._loops._by_loop.values())
    child = os.fork()
    name = "parent" if child else "child"
    if not child:
        # A loop does not survive a fork; what it had open is the parent's.
        asyncio._set_running_loop(None)
        loop = asyncio.new_event_loop()
        is_own = run_blocking(storage._server._threads.execute(b"CLIENT", b"ID")) != identity
        is_right = loop.run_until_complete(count(name))
        is_closed = [each._socket.fileno() for each in inherited] == [-1]
        os._exit(0 if is_right and is_own and is_closed else 1)
    _, status = os.waitpid(child, 0)
    is_right = await count(name) and run_blocking(storage._server._threads.execute(b"CLIENT", b"ID")) == identity
    print(is_right and os.waitstatus_to_exitcode(status) == 0)

async def count(name):
    remaining = []
    for _ in range(200):
        remaining.append((await policy.hit_async(name))[2])
        remaining.append(policy.hit(name)[2])
    return remaining == list(range(999_999, 999_599, -1))

asyncio.run(both())
"""


def test_a_fork_shares_no_connection(server: RedisServer) -> None:
    command = [sys.executable, "-c", FORK, unix(server)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")

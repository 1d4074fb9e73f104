"""Masters that sentinels name, and other ones after a failover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis_topologies
from conftest import Client
from fastapi import FastAPI
from redis_topologies import PATIENCE_S, SERVICE, Sentinels, until

from slidegate import Limiter
from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisPolicy, RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import StorageError, StorageUnavailable
from slidegate.util import get_remote_address

HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with redis_topologies.sentinels(tmp_path_factory.mktemp("sentinels")) as running:
        yield running


@pytest.fixture
def watched_alone(tmp_path: Path) -> Iterator[Sentinels]:
    """Others, for what sentinels take long to get over."""
    with redis_topologies.sentinels(tmp_path / "sentinels") as running:
        yield running


@pytest.fixture
def open_storage() -> Iterator[Callable[[str], RedisStorage]]:
    opened: list[RedisStorage] = []

    def open_storage(uri: str) -> RedisStorage:
        opened.append(RedisStorage(parse_redis_uri(uri)))
        return opened[-1]

    yield open_storage
    for each in opened:
        each.close()


OpenStorage = Callable[[str], RedisStorage]


def policy_on(storage: RedisStorage, amount: int, scope: str) -> RedisPolicy:
    return storage.policy(((Quota(amount, HOUR_NS), scope),))


async def hits(policy: RedisPolicy, count: int) -> list[bool]:
    return [(await policy.hit_async("key"))[0] for _ in range(count)]


def test_the_master_counts_for_threads_and_loops(watched: Sentinels, open_storage: OpenStorage) -> None:
    policy = policy_on(open_storage(watched.uri), 4, "both")
    assert [policy.hit("key")[0] for _ in range(2)] == [True, True]
    assert asyncio.run(hits(policy, 3)) == [True, True, False]
    assert watched.master.call(b"DBSIZE") > 0


def test_one_sentinel_that_is_there_will_do(watched: Sentinels, open_storage: OpenStorage) -> None:
    there = watched.uri.partition(",")[0].removeprefix("redis+sentinel://")
    policy = policy_on(open_storage(f"redis+sentinel://127.0.0.1:1,{there},127.0.0.1:2/{SERVICE}"), 2, "one")
    assert policy.hit("key")[0]
    assert asyncio.run(hits(policy, 2)) == [True, False]


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        (
            "redis+sentinel://127.0.0.1:1/mymaster",
            "no sentinel knows where the Redis master 'mymaster' is: .*:1 cannot",
        ),
        ("{}-of-others", "knows no master 'mymaster-of-others'"),
    ],
)
def test_a_master_that_nobody_knows_is_an_error_that_names_it(
    uri: str, complaint: str, watched: Sentinels, open_storage: OpenStorage
) -> None:
    policy = policy_on(open_storage(uri.format(watched.uri)), 2, "none")
    with pytest.raises(StorageUnavailable, match=complaint):
        policy.hit("key")
    with pytest.raises(StorageUnavailable, match=complaint):
        asyncio.run(hits(policy, 1))


def test_a_server_that_is_no_sentinel_is_told(watched: Sentinels, open_storage: OpenStorage) -> None:
    policy = policy_on(open_storage(f"redis+sentinel://127.0.0.1:{watched.master.port}/{SERVICE}"), 2, "none")
    for step in (lambda: policy.hit("key"), lambda: asyncio.run(hits(policy, 1))):
        with pytest.raises(StorageUnavailable, match="does not tell where 'mymaster' is: ERR"):
            step()


class Load:
    """Callers on an event loop, who go on whatever happens."""

    def __init__(self, policy: RedisPolicy, callers: int) -> None:
        self._policy = policy
        self._callers = callers
        self.admitted = 0
        self.failed = 0
        self.unknown = 0
        """Failures of questions that may have been counted."""
        self.refused = 0
        self.is_over = False

    async def run(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(self._callers)))

    async def _call(self) -> None:
        while not self.is_over:
            try:
                allowed = (await self._policy.hit_async("key"))[0]
                self.admitted += allowed
                self.refused += not allowed
            except StorageError as error:
                self.failed += 1
                self.unknown += "is not asked until" not in str(error)
                await asyncio.sleep(0.01)
            # Slow enough for some to be left when the master has changed.
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("how", ["forced", "killed"])
def test_a41_after_a_failover_under_load_the_new_master_counts_on(
    how: str, open_storage: OpenStorage, request: pytest.FixtureRequest
) -> None:
    watched: Sentinels = request.getfixturevalue("watched" if how == "forced" else "watched_alone")
    watched.settle()
    storage = open_storage(watched.uri)
    amount = 20_000
    policy = policy_on(storage, amount, how)
    before, load = watched.master, Load(policy, callers=8)

    async def change() -> int:
        running = asyncio.ensure_future(load.run())
        while load.admitted < 500:
            await asyncio.sleep(0.01)
        if how == "forced":
            await asyncio.to_thread(watched.fail_over)
        else:
            before.kill()
        await asyncio.to_thread(until, lambda: watched.master is not before)
        at_change = load.admitted
        deadline_s = time.monotonic() + PATIENCE_S
        while load.admitted < at_change + 500:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        load.is_over = True
        await running
        left: int = (await policy.peek_async("key"))[2]
        return amount - left

    counted = asyncio.run(change())
    # Redis acknowledges before its replicas know: what it had not passed on is forgotten, and no more than that.
    lost = load.admitted - counted
    assert -load.unknown <= lost <= 100, (counted, load.admitted, load.failed)
    assert storage.health().is_available
    assert policy.hit("key")[0], "threads find it too"
    assert how == "forced" or load.failed > 0


def test_a_limiter_goes_on_through_a_failover(watched: Sentinels, make_app: Callable[[Limiter], FastAPI]) -> None:
    limiter = Limiter(get_remote_address, storage_uri=f"async+{watched.uri}", on_error="open")
    app: Any = make_app(limiter)

    @app.get("/")
    @limiter.limit("3/hour")
    async def index() -> str:
        return "ok"

    client = Client(app)
    assert client.statuses("/", 4) == [200, 200, 200, 429]
    before = watched.master
    watched.settle()
    watched.fail_over()
    until(lambda: watched.master is not before)
    until(lambda: client.get("/").status_code == 429)
    limiter.close()

"""Memory that is full is fair between limits: a flood of one takes no room from the others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request

from slidegate import Limiter
from slidegate._core import Limiter as Engine
from slidegate._core import ManualClock, Quota, Segment
from slidegate._storage.memory import MemoryStorage
from slidegate.metrics import LimiterCollector

HOUR_NS = 3_600_000_000_000
FLOODED, BLOCKED, HONEST = (
    (Quota(1, HOUR_NS), "flooded"),
    (Quota(5, HOUR_NS), "blocked"),
    (Quota(10, HOUR_NS), "honest"),
)
SIZE = 1 << 20
MORE_THAN_THERE_IS_ROOM_FOR = 100_000
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


@pytest.fixture(params=["memory", "shared"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStorage:
    segment = Segment.file(str(tmp_path / "counts"), size=SIZE) if request.param == "shared" else None
    return MemoryStorage(size=SIZE, segment=segment, clock=ManualClock())


def flood(policy: Any, first: int = 0, keys: int = MORE_THAN_THERE_IS_ROOM_FOR) -> list[bool]:
    return [policy.hit(f"2001:db8::{at:x}")[0] for at in range(first, first + keys)]


def block(policy: Any, keys: int, most: int) -> None:
    for at in range(keys):
        assert [policy.hit(f"blocked {at}")[0] for _ in range(most + 1)] == [True] * most + [False]


def refused(policy: Any, keys: int) -> int:
    return sum(not policy.hit(f"blocked {at}")[0] for at in range(keys))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fault_02_a_flood_of_one_limit_takes_no_room_from_the_others(storage: MemoryStorage, strategy: Any) -> None:
    flooded, blocked, honest = (
        storage.policy(((Quota(quota.amount, HOUR_NS, strategy), scope),))
        for quota, scope in (FLOODED, BLOCKED, HONEST)
    )
    block(blocked, keys=200, most=5)
    places = sum(flood(flooded))
    assert 1_000 < places < MORE_THAN_THERE_IS_ROOM_FOR, "the memory is full"
    assert refused(blocked, keys=200) == 200
    assert [honest.hit(f"new {at}")[0] for at in range(500)] == [True] * 500
    # Where a bucket is full of keys that are not of the flood, a new one takes the place of one of them.
    counted = [honest.peek(f"new {at}")[2] for at in range(500)]
    assert counted.count(9) >= 500 - 3
    assert not any(flood(flooded, first=10**6, keys=1_000)), "new keys of the flooded limit are refused"
    # Those that had hits go on to be counted, whatever the flood does.
    assert [honest.peek(f"new {at}")[2] for at in range(500)] == counted
    assert refused(blocked, keys=200) == 200
    # As many as were taken from it, and no more.
    remembered = sum(not flooded.peek(f"2001:db8::{at:x}")[0] for at in range(MORE_THAN_THERE_IS_ROOM_FOR))
    # A full bucket and a full arena may take one each.
    assert remembered >= places - 2 * 500


def test_fault_02_two_floods_take_nothing_from_a_third_limit(storage: MemoryStorage) -> None:
    flooded, blocked, honest = (storage.policy((rule,)) for rule in (FLOODED, BLOCKED, HONEST))
    another = storage.policy(((Quota(2, HOUR_NS), "another flood"),))
    block(blocked, keys=200, most=5)
    for first in range(0, MORE_THAN_THERE_IS_ROOM_FOR, 100):
        flood(flooded, first, keys=100)
        for at in range(first, first + 100):
            another.hit(f"{at}", 2)
    assert refused(blocked, keys=200) == 200
    assert [honest.hit(f"new {at}")[0] for at in range(500)] == [True] * 500
    assert refused(blocked, keys=200) == 200


def test_fault_02_a_limit_with_room_left_in_its_keys_evicts_its_own(storage: MemoryStorage) -> None:
    flooded, blocked, honest = (storage.policy((rule,)) for rule in (FLOODED, BLOCKED, HONEST))
    block(blocked, keys=200, most=5)
    for at in range(300):
        assert flooded.hit(f"early {at}")[0]
    assert all(honest.hit(f"{at}")[0] for at in range(MORE_THAN_THERE_IS_ROOM_FOR))
    assert refused(blocked, keys=200) == 200
    assert not any(flooded.hit(f"early {at}")[0] for at in range(300))


@pytest.mark.parametrize("on_full", ["refuse", "admit"])
def test_fault_02_what_forgets_nobody_when_it_is_full_still_forgets_nobody(on_full: Any) -> None:
    storage = MemoryStorage(size=SIZE, on_full=on_full, clock=ManualClock())
    flooded, blocked, honest = (storage.policy((rule,)) for rule in (FLOODED, BLOCKED, HONEST))
    block(blocked, keys=200, most=5)
    flood(flooded)
    assert refused(blocked, keys=200) == 200
    assert honest.hit("new")[0] is (on_full == "admit")
    assert storage.engine.stats().evictions == 0


def _flood_from_elsewhere(path: str, worker: int, begun: Any) -> None:
    policy = Engine(segment=Segment.file(path)).policy([FLOODED])
    begun.wait()
    for at in range(MORE_THAN_THERE_IS_ROOM_FOR):
        policy.hit(f"worker {worker} {at}")


def test_fault_02_floods_from_several_processes_take_no_room_from_others_either(tmp_path: Path) -> None:
    path = str(tmp_path / "counts")
    storage = MemoryStorage(segment=Segment.file(path, size=SIZE))
    blocked, honest = storage.policy((BLOCKED,)), storage.policy((HONEST,))
    block(blocked, keys=200, most=5)
    spawning = multiprocessing.get_context("spawn")
    begun = spawning.Barrier(4)
    processes = [spawning.Process(target=_flood_from_elsewhere, args=(path, at, begun)) for at in range(3)]
    for process in processes:
        process.start()
    begun.wait(60)
    served = refusals = asked = 0
    # No more than a few, as one who floods is not honest.
    while not asked or (asked < 500 and any(process.is_alive() for process in processes)):
        served += honest.hit(f"new {asked}")[0]
        refusals += not blocked.hit(f"blocked {asked % 200}")[0]
        asked += 1
        processes[asked % 3].join(0.01)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (served, refusals) == (asked, asked)
    assert [honest.hit(f"later {at}")[0] for at in range(200)] == [True] * 200
    assert refused(blocked, keys=200) == 200
    assert storage.engine.stats().full > 0


def test_a34_ten_million_keys_of_an_attacker_leave_memory_for_everybody_else(tmp_path: Path) -> None:
    # A40 times smaller by default, in an as much smaller memory.
    keys = int(os.environ.get("SLIDEGATE_A34_KEYS", "250000"))
    size = max(SIZE, keys * 26 // (1 << 20) * (1 << 20))
    path = tmp_path / "counts"
    storage = MemoryStorage(segment=Segment.file(str(path), size=size))
    flooded, blocked, honest = (storage.policy((rule,)) for rule in (FLOODED, BLOCKED, HONEST))
    block(blocked, keys=100, most=5)
    part = keys // 10
    for at in range(10):
        flood(flooded, first=at * part, keys=part)
        assert refused(blocked, keys=100) == 100
        assert [honest.hit(f"new {at} {client}")[0] for client in range(50)] == [True] * 50
    stats = storage.engine.stats()
    assert stats.bytes <= stats.capacity_bytes <= size
    # What is beside the cells: eight bytes for each, and the statistics.
    assert path.stat().st_blocks * 512 <= size * 1.1 + (1 << 20)


def test_fault_02_a_full_memory_is_told_once_with_numbers_and_in_metrics(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(key_func=lambda request: request.query_params["key"], storage_uri="memory://", size=SIZE)
    app = FastAPI()
    app.state.limiter = limiter

    @app.post("/password-reset")
    @limiter.limit("1/hour", name="reset")
    async def reset(request: Request) -> None: ...

    @app.get("/search")
    @limiter.limit("10/minute")
    async def search(request: Request) -> None: ...

    client = Client(app)
    assert client.post("/password-reset?key=first").status_code == 200
    rules = {row[6]: (row[1], row[2].decode(), row[6].decode()) for row in limiter._storage.engine.rules()}
    flooded = limiter._storage.policy((rules[b"reset"],))
    with caplog.at_level(logging.WARNING, "slidegate"):
        flood(flooded)
        assert client.post("/password-reset?key=last").status_code == 429
        assert client.get("/search?key=last").status_code == 200
    [record] = [record for record in caplog.records if "no place is free" in record.message]
    assert "1 per hour" in record.message
    stats = limiter._storage.engine.stats()
    told = re.search(r"holds (\d+) of the (\d+) places", record.message)
    assert told is not None
    held_then, places_then = map(int, told.groups())
    # It is said at the first new key without a place, which may be one of a full bucket of the index, before all cells
    # are in use.
    assert 1_000 < held_then <= places_then <= stats.cells
    families = {family.name: family for family in LimiterCollector(limiter).collect()}
    held = {sample.labels["limit"]: sample.value for sample in families["slidegate_keys"].samples}
    assert held == {"1 per hour, moving-window": stats.cells - 1, "10 per minute, moving-window": 1}

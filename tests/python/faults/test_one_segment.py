"""The limiters of a server count in one segment, and apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from servers import running

from slidegate._core import Limiter as Engine
from slidegate._core import Quota, Segment
from slidegate.inspection import Inspection

PROGRAM = """
import os
from fastapi import FastAPI, Request
from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler

app = FastAPI()
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
limiters = [Limiter(key_func=lambda: "everybody"{options}) for _ in range(10)]
app.state.limiter = limiters[0]

def add(number, limiter):
    @app.get(f"/{number}")
    @limiter.shared_limit("5/hour", "all")
    async def limited(request: Request):
        return {}

for number, limiter in enumerate(limiters):
    add(number, limiter)

@app.get("/reset")
async def reset():
    limiters[3].reset()

@app.get("/pid")
async def pid():
    return os.getpid()
"""
INSIDE = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
FIVE = Quota(5, 3_600_000_000_000)


@pytest.fixture
def small_shared_memory() -> list[str]:
    """A command that runs others with the shared memory of a container."""
    if subprocess.run([*INSIDE, "true"], capture_output=True).returncode != 0:
        pytest.skip("may not mount a file system here")
    return INSIDE


def statuses(server: object, path: str, times: int) -> list[int]:
    return sorted(status for status, _ in server.get_often(path, times))  # type: ignore[attr-defined]


def test_fault_20_ten_limiters_count_together_in_the_shared_memory_of_a_container(
    tmp_path: Path, small_shared_memory: list[str]
) -> None:
    with running("uvicorn", tmp_path, workers=2, program=PROGRAM, inside=small_shared_memory) as server:
        assert len(server.workers(least=2)) == 2
        for number in range(10):
            assert statuses(server, f"/{number}", 20) == [200] * 5 + [429] * 15
        assert len(list(Path(f"/proc/{server.process.pid}/root/dev/shm").glob("slidegate.server.*"))) == 1
        assert server.get("/reset")[0] == 200
        assert statuses(server, "/3", 20) == [200] * 5 + [429] * 15, "it forgets its own"
        for number in (0, 2, 4, 9):
            assert statuses(server, f"/{number}", 5) == [429] * 5, "and no other"
        assert "slidegate" not in server.log, "there is nothing to tell"


def test_fault_20_a_size_that_is_given_is_that_of_a_segment_of_its_own(tmp_path: Path) -> None:
    program = PROGRAM.replace('"everybody"{options})', '"everybody", size=(8 << 20) if _ == 4 else None)')
    with running("uvicorn", tmp_path, workers=2, program=program) as server:
        assert len(server.workers(least=2)) == 2
        sizes = sorted(Segment.shared(name.removeprefix(Segment.shared_prefix)).size for name in server.segments())
        assert len(sizes) == 2
        assert sizes[0] == 8 << 20
        for number in (3, 4, 5):
            assert statuses(server, f"/{number}", 20) == [200] * 5 + [429] * 15


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment.file(str(tmp_path / "counts"), size=1 << 20)


def test_fault_20_spaces_of_a_segment_share_no_count_and_tell_of_their_own(segment: Segment) -> None:
    one, other, same = (Engine(segment=segment, space=space) for space in ("one", "other", "one"))
    policies = [engine.policy([(FIVE, "scope", "name")]) for engine in (one, other, same)]
    assert [[policy.hit("key")[0] for _ in range(3)] for policy in policies] == [
        [True] * 3,
        [True] * 3,
        [True, True, False],
    ]
    one.count_error("passed")
    assert (one.errors()["passed"], same.errors()["passed"], other.errors()["passed"]) == (1, 1, 0)
    assert [row[4:6] for row in one.rules()] == [(5, 1)]
    assert [row[4:6] for row in other.rules()] == [(3, 0)]
    assert [row[4] for row in one.survey(10)] == [5]
    one.reset()
    assert [policy.peek("key")[2] for policy in policies] == [5, 2, 5]


def test_fault_20_one_who_looks_in_from_outside_sees_all_spaces(segment: Segment) -> None:
    for space, hits in (("one", 2), ("other", 3)):
        policy = Engine(segment=segment, space=space).policy([(FIVE, space)])
        for _ in range(hits):
            policy.hit("key")
    inspection = Inspection(segment)
    assert {(row.scope, row.used) for row in inspection.find("key")} == {("one", 2), ("other", 3)}
    assert {(row.scope, row.admitted, row.keys) for row in inspection.rules()} >= {("one", 2, 1), ("other", 3, 1)}
    assert inspection.reset("key") == 2
    assert inspection.find("key") == []


def test_fault_20_more_spaces_than_there_is_room_for_are_an_error(segment: Segment) -> None:
    engines = [Engine(segment=segment, space=f"space {at}") for at in range(2_047)]
    with pytest.raises(OSError, match="no room for more than 2047 limiters"):
        Engine(segment=segment, space="one more")
    assert not segment.admits("one more")
    assert segment.admits("space 7")
    assert engines[-1].policy([(FIVE, "scope")]).hit("key")[0]
    assert Engine(segment=segment, space="space 7").policy([(FIVE, "scope")]).hit("key")[0]

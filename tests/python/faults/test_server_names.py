"""What workers of a server find each other by: nobody else can take it, and what cannot be told is warned of."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from servers import PROGRAM, Server, running, wait_until

from slidegate import ConfigurationError, Limiter
from slidegate._core import Segment, launch_secret
from slidegate._storage import server_segment
from slidegate._storage.server_process import Server as _Server

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
# Holds the application back until the test has seen its server.
WAITING = """
import multiprocessing, pathlib, time
while not pathlib.Path("attacked").exists():
    time.sleep(0.01)
{prelude}
"""


def is_here(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(kind) is None, reason="is not installed here")


def statuses(server: Server, path: str, times: int) -> list[int]:
    return sorted(status for status, _ in server.get_often(path, times))


def occupy(names: list[str]) -> None:
    """Another user makes files of these names in shared memory."""
    paths = [f"{Segment.shared_directory}/{Segment.shared_prefix}{name}" for name in names]
    subprocess.run(["/bin/sh", "-c", 'for each; do : > "$each"; done', "sh", *paths], user=NOBODY, check=True, cwd="/")


@pytest.fixture
def occupied() -> Iterator[list[str]]:
    names: list[str] = []
    yield names
    for name in names:
        (Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


def names_of(server_pid: int, secret: bytes) -> list[str]:
    """Of the segment of a server, as somebody computes it who knows all but the secret."""
    script = f"""
import os, sys
from slidegate._storage import server_segment
from slidegate._storage.server_process import Server
server = Server({server_pid}, False, {secret!r})
print(server_segment._name_of(server, "all"))
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def attacked(
    tmp_path: Path, prelude: str, secret: bytes, occupied: list[str], *, options: str = ""
) -> tuple[list[int], str]:
    """What 100 requests get on `5/hour` of four workers whose names somebody has tried to take, and the log."""
    program = WAITING.replace("{prelude}", prelude) + PROGRAM

    def attack(server: Server) -> None:
        occupied.extend(names_of(server.process.pid, secret))
        assert len(occupied) == 1
        occupy(occupied)
        (tmp_path / "attacked").touch()

    with running("uvicorn", tmp_path, workers=4, program=program, options=options, meanwhile=attack) as server:
        assert len(server.workers(least=4)) == 4
        return statuses(server, "/limited", 100), server.log


@needs_root
def test_fault_08_another_user_cannot_take_the_name_of_what_workers_share(tmp_path: Path, occupied: list[str]) -> None:
    answers, log = attacked(tmp_path, "", b"", occupied)
    assert answers == [200] * 5 + [429] * 95
    assert "counts alone" not in log


@needs_root
def test_fault_08_a_name_that_was_taken_is_one_warning_that_says_what_helps(
    tmp_path: Path, occupied: list[str]
) -> None:
    # The same attack, by somebody who knows the secret: so it is that which keeps others off.
    prelude = 'multiprocessing.current_process().authkey = b"known"'
    answers, log = attacked(tmp_path, prelude, b"known", occupied)
    assert answers.count(200) == 4 * 5
    assert log.count("every worker counts alone") == 1
    assert re.search(r"counts alone.*belongs to user 65534.*file:///var/lib/my-api/limits", log)


@needs_root
def test_fault_08_where_redis_counts_the_warning_does_not_say_that_workers_do(
    tmp_path: Path, occupied: list[str]
) -> None:
    prelude = 'multiprocessing.current_process().authkey = b"known"'
    _, log = attacked(tmp_path, prelude, b"known", occupied, options=', storage_uri="redis://127.0.0.1:1"')
    assert "every worker counts alone" not in log
    assert log.count("metrics, and what counts while the storage is out, are those of each worker alone") == 1


def test_fault_08_a_name_that_everybody_sees_does_not_tell_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # Lists of files and of sockets are open to all: who reads the first name there knows how all of them begin.
    monkeypatch.setattr(server_segment, "_server_prefix", lambda server: "server.")
    monkeypatch.setattr(server_segment, "_opened", {})
    monkeypatch.setattr(
        server_segment, "shared_segment", lambda name, **options: taken.append(name) or SimpleNamespace(is_new=1)
    )
    monkeypatch.setattr(server_segment, "is_first", lambda word: taken.append(word))
    monkeypatch.setattr(server_segment, "keep_names", lambda pid, prefix, word: taken.append(word))
    of_each = []
    for secret in (b"one", b"other"):
        taken: list[str] = []
        for which in ("all", "name chat", "app.py:7 1"):
            server_segment._named(_Server(os.getpid(), False, secret), which, 0)
        server_segment._warn_once(_Server(os.getpid(), False, secret), "alone", "")
        of_each.append(set(taken))
    # Three segments, whoever removes them, and a warning.
    assert [len(each) for each in of_each] == [5, 5]
    assert not of_each[0] & of_each[1]


def test_fault_08_forked_workers_have_a_secret_in_common_that_is_new_in_each_program() -> None:
    script = "import os, slidegate._core as c; os.fork(); print(c.launch_secret().hex())"
    seen = [
        subprocess.run([sys.executable, "-uc", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert [len(set(each)) for each in seen] == [1, 1]
    assert len({seen[0][0], seen[1][0], launch_secret().hex(), bytes(16).hex()}) == 4


def test_fault_08_what_cannot_be_removed_does_not_keep_the_names_of_a_server(tmp_path: Path) -> None:
    with running("uvicorn", tmp_path, workers=2) as server:
        (name,) = server.segments()
        # In the way of one who removes files, whoever runs this test.
        others = [Path(Segment.shared_directory) / f"{name.rpartition('.')[0]}.{at}" for at in "0123456789"]
        for each in others:
            each.mkdir()
    try:
        assert wait_until(lambda: set(server.segments()) == {each.name for each in others})
    finally:
        for each in others:
            each.rmdir()


LATE = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from slidegate import Limiter

limiters = {}

@asynccontextmanager
async def lifespan(app):
    limiters["lifespan"] = Limiter(key_func=lambda request: "everybody")
    yield

app = FastAPI(lifespan=lifespan)
limiters["import"] = Limiter(key_func=lambda request: "everybody")

def limiter_of(tenant):
    if tenant not in limiters:
        limiters[tenant] = Limiter(key_func=lambda request: "everybody"{options})
    return limiters[tenant]

@app.get("/pid")
async def pid():
    return os.getpid()

@app.get("/sync/{tenant}")
def sync(tenant: str):
    limiter_of(tenant)
    return os.getpid()

@app.get("/{tenant}")
async def hit(tenant: str, request: Request):
    decision = await limiter_of(tenant).check(request, "{limit}")
    return f"{decision.remaining} {os.getpid()}"
"""

LATE_KINDS = [pytest.param(kind, marks=is_here(kind)) for kind in ("uvicorn", "gunicorn", "hypercorn", "granian")]


def lefts(server: Server, tenant: str, workers: int) -> dict[int, list[int]]:
    """What each worker says is left for that tenant, in the order of its answers, until all have said so."""
    found: dict[int, list[int]] = {}

    def ask() -> bool:
        status, text = server.get(f"/{tenant}")
        assert status == 200
        left, pid = text.strip('"').split()
        found.setdefault(int(pid), []).append(int(left))
        return len(found) == workers

    assert wait_until(ask)
    return found


@pytest.mark.parametrize("kind", LATE_KINDS)
def test_fault_33_a_limiter_that_is_made_late_never_counts_for_another(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, workers=2, program=LATE, limit="5000/minute") as server:
        for tenant in ("alpha", "beta", "gamma"):
            for each in lefts(server, tenant, workers=2).values():
                # Alone: whole for the first of each worker, and one less with each.
                assert each == list(range(4999, 4999 - len(each), -1))
        assert [status for status, _ in server.get_often("/sync/delta", 10)] == [200] * 10
        for each in lefts(server, "delta", workers=2).values():
            assert each == list(range(4999, 4999 - len(each), -1))
        assert server.log.count("counts alone in every worker") == 1
        assert re.search(r"app\.py:\d+ makes after the start counts alone.*Limiter\(name=", server.log)


@pytest.mark.parametrize("kind", LATE_KINDS)
def test_fault_33_one_with_a_name_counts_with_its_namesakes_in_other_workers(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, workers=2, program=LATE, limit="5000/minute", options=", name=tenant") as server:
        for tenant in ("alpha", "beta", "lifespan", "import"):
            said = [left for each in lefts(server, tenant, workers=2).values() for left in each]
            assert sorted(said) == list(range(5000 - len(said), 5000))
        assert "counts alone" not in server.log


def test_fault_33_a_name_is_text() -> None:
    for name in ("", 5, b"a"):
        with pytest.raises(ConfigurationError, match="is no name"):
            Limiter(key_func=lambda: "", name=name)  # type: ignore[arg-type]


def test_fault_33_a_limiter_on_redis_may_be_made_late(tmp_path: Path) -> None:
    options = ', storage_uri="redis://127.0.0.1:1", on_error="local"'
    with running("uvicorn", tmp_path, workers=2, program=LATE, limit="5000/minute", options=options) as server:
        assert [status for status, _ in server.get_often("/sync/alpha", 10)] == [200] * 10
        assert "counts alone" not in server.log

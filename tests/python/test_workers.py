"""Nothing configured: the workers of one server count together, and leave nothing behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import threading
from pathlib import Path

import pytest
from servers import COMMANDS, Server, running, wait_until

from slidegate import Limiter
from slidegate._core import shared_segments

KINDS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(importlib.util.find_spec(kind.split()[0]) is None, reason="is not installed here"),
    )
    for kind in COMMANDS
]
# Hypercorn and granian end when a worker does.
RESTARTING = [kind for kind in KINDS if kind.values not in (("hypercorn",), ("granian",))]


def statuses(server: Server, path: str, times: int) -> dict[int, int]:
    answers = [status for status, _ in server.get_often(path, times)]
    return {status: answers.count(status) for status in sorted(set(answers))}


@pytest.mark.parametrize("kind", KINDS)
def test_a35_eight_workers_admit_exactly_the_limit_and_leave_nothing_behind(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, workers=8) as server:
        assert len(server.workers(least=3)) >= 3
        assert statuses(server, "/limited", 100) == {200: 5, 429: 95}
        # The limiters of one program count apart, as they do in one process.
        assert statuses(server, "/other", 100) == {200: 5, 429: 95}
        assert len(server.segments()) == (0 if kind == "gunicorn --preload" else 1), server.log
    assert server.segments_are_gone()


@pytest.mark.parametrize("kind", RESTARTING)
def test_a36_workers_that_are_killed_and_started_again_lose_no_limit(kind: str, tmp_path: Path) -> None:
    dice = random.Random(36)
    kills = 0
    with running(kind, tmp_path, workers=4, limit="300/hour") as server:
        is_over = threading.Event()
        refused = 0

        def fire() -> None:
            nonlocal refused
            while not is_over.is_set():
                if server.get("/limited")[0] == 429:
                    refused += 1

        clients = [threading.Thread(target=fire) for _ in range(6)]
        for client in clients:
            client.start()
        try:
            while kills < 8 or not refused:
                # One that has answered may have been restarted since.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(sorted(server.workers(least=2))), signal.SIGKILL)
                    kills += 1
        finally:
            is_over.set()
            for client in clients:
                client.join()
        # A worker can die between the hit and the first line of the endpoint, with no more than six at work.
        assert 300 - 6 * kills <= server.admitted <= 300
        assert server.workers(least=2)
        assert statuses(server, "/limited", 100) == {429: 100}
        assert server.admitted <= 300


@pytest.mark.parametrize("kind", RESTARTING)
def test_all_workers_killed_at_once_lose_no_limit(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, workers=2) as server:
        assert statuses(server, "/limited", 20) == {200: 5, 429: 15}
        killed = server.workers(least=2)
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        assert wait_until(lambda: bool(server.workers(least=1) - killed))
        assert set(statuses(server, "/limited", 20)) <= {0, 429}
        assert server.admitted == 5


def test_a_server_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    with running("uvicorn", tmp_path, workers=2) as server:
        workers = server.workers(least=2)
        assert server.segments()
        os.kill(server.process.pid, signal.SIGKILL)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert server.segments_are_gone()


def test_two_servers_of_one_program_count_apart(tmp_path: Path) -> None:
    with (
        running("uvicorn", tmp_path / "one", workers=2) as one,
        running("uvicorn", tmp_path / "two", workers=2) as two,
    ):
        assert statuses(one, "/limited", 20) == {200: 5, 429: 15}
        assert statuses(two, "/limited", 20) == {200: 5, 429: 15}


def test_memory_of_each_worker_is_warned_of_once(tmp_path: Path) -> None:
    with running("uvicorn", tmp_path, workers=4, options=', storage_uri="memory://"') as server:
        assert len(server.workers(least=4)) == 4
        assert server.log.count('storage_uri="memory://" makes every worker count alone') == 1
        assert server.segments() == []


def test_a_process_without_a_server_counts_in_its_own_memory() -> None:
    before = {each.name for each in shared_segments()}
    limiter = Limiter(key_func=lambda: "everybody")
    assert limiter._storage.segment is None
    assert {each.name for each in shared_segments()} <= before

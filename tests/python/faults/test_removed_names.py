"""What takes the names in shared memory away, as systemd does when a user logs out, takes no limit along."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from servers import Server, running, wait_until

from slidegate._core import Segment


def statuses(server: Server, path: str, times: int) -> set[int]:
    return {status for status, _ in server.get_often(path, times)}


def remove_names(names: list[str]) -> None:
    for name in names:
        (Path(Segment.shared_directory) / name).unlink()


def replace_worker(server: Server, killed: int) -> None:
    """Has a worker started anew, and waits until that has answered."""
    known = server.workers(least=2)
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: bool(server.workers(least=1) - known))


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn"])
def test_fault_36_workers_that_start_after_the_names_have_gone_count_with_the_others(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(kind)
    with running(kind, tmp_path, workers=2) as server:
        assert statuses(server, "/limited", 20) == {200, 429}
        remove_names(server.segments())
        first, second = server.workers(least=2)
        # All that have opened them by name are replaced, one after the other.
        replace_worker(server, first)
        replace_worker(server, second)
        assert statuses(server, "/limited", 40) == {429}
        assert server.admitted == 5
        # Limits that are hit later are shared as well.
        assert [status for status, _ in server.get_often("/other", 40)].count(200) == 5
        assert server.segments() == []
        assert re.search(r"somebody has removed .*RemoveIPC=no", server.log)


def test_fault_36_without_survivors_workers_begin_anew_and_together(tmp_path: Path) -> None:
    with running("uvicorn", tmp_path, workers=2) as server:
        assert statuses(server, "/limited", 20) == {200, 429}
        killed = server.workers(least=2)
        remove_names(server.segments())
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        assert wait_until(lambda: len(server.workers(least=2) - killed) == 2)
        assert 429 in statuses(server, "/limited", 40)
        assert 5 <= server.admitted <= 10


def test_fault_36_a_name_that_was_chosen_is_no_worse(tmp_path: Path) -> None:
    name = f"pytest.removed.{os.getpid()}"
    path = Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}"
    try:
        with running("uvicorn", tmp_path, workers=2, options=f', storage_uri="shared://{name}"') as server:
            assert statuses(server, "/limited", 20) == {200, 429}
            remove_names([path.name])
            for worker in server.workers(least=2):
                replace_worker(server, worker)
            assert statuses(server, "/limited", 40) == {429}
            assert not path.exists()
    finally:
        path.unlink(missing_ok=True)

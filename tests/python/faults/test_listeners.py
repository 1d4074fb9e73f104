"""Processes that answer on one address without a server that is known: told once that each of them counts alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import PROGRAM, Server, wait_until

WARNING = "another process answers on"
REUSING = """
import socket, sys, uvicorn
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
uvicorn.Server(uvicorn.Config("app:app")).run(sockets=[listener])
"""


def by_descriptor(listener: socket.socket) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(listener.fileno())]


def by_address(listener: socket.socket) -> list[str]:
    return [sys.executable, "-c", REUSING, str(listener.getsockname()[1])]


@contextlib.contextmanager
def started(
    command: Callable[[socket.socket], list[str]], directory: Path, *, processes: int, options: str = ""
) -> Iterator[Server]:
    """So many processes under one address, each of which has answered."""
    (directory / "app.py").write_text(PROGRAM.replace("{limit}", "5/hour").replace("{options}", options))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RATELIMIT_")}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((directory / "log").open("wb"))
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        if command is by_descriptor:
            listener.listen()
        for _ in range(processes):
            process = subprocess.Popen(
                command(listener),
                cwd=directory,
                env={**environment, "PYTHONPATH": str(directory)},
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        server = Server(process, listener.getsockname()[1], directory)
        assert len(server.workers(least=processes)) == processes, server.log
        yield server


@pytest.mark.parametrize("command", [by_descriptor, by_address])
def test_fault_22_processes_under_one_address_are_told_once_that_they_count_alone(
    command: Callable[[socket.socket], list[str]], tmp_path: Path
) -> None:
    with started(command, tmp_path, processes=3) as server:
        assert wait_until(lambda: WARNING in server.log)
        # The others look within a time that nobody tells; they would have answered this before.
        assert [server.get("/pid")[0] for _ in range(64)] == [200] * 64
        assert server.log.count(WARNING) == 1
        assert f"{WARNING} 127.0.0.1:{server.port} too" in server.log
        assert 'storage_uri="shared://my-api"' in server.log


def has_looked(server: Server) -> bool:
    """Whether a process of that server counts alone, and has said so to others."""
    digest = hashlib.sha256(repr(f"127.0.0.1:{server.port}").encode()).hexdigest()[:32]
    return f"@slidegate.listener.{digest}\n" in Path("/proc/net/unix").read_text()


@pytest.mark.parametrize("options", ["", ', storage_uri="memory://"'])
def test_fault_22_one_process_alone_is_told_nothing(options: str, tmp_path: Path) -> None:
    with started(by_descriptor, tmp_path, processes=1, options=options) as server:
        assert sorted(status for status, _ in server.get_often("/limited", 10)) == [200] * 5 + [429] * 5
        assert wait_until(lambda: has_looked(server))
        assert WARNING not in server.log


def test_fault_22_processes_with_a_storage_that_they_share_are_told_nothing(tmp_path: Path) -> None:
    options = f', storage_uri="file://{tmp_path}/limits"'
    with started(by_descriptor, tmp_path, processes=2, options=options) as server:
        assert sorted(status for status, _ in server.get_often("/limited", 40)) == [200] * 5 + [429] * 35
        assert not has_looked(server)
        assert WARNING not in server.log

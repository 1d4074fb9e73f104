"""Redis servers of the tests' own, in temporary directories and on free ports of the loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slidegate._core import RedisReader, redis_command

START_WITHIN_S = 60.0


class RedisServer:
    """A redis-server without persistence. Listens on a unix socket, and on a TCP port from `listen` on."""

    def __init__(self, directory: Path, *options: str, port: int = 0) -> None:
        self.directory = directory
        self.path = str(directory / "redis.sock")
        self.port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        """Of its socket."""
        return f"redis+unix://{self.path}"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed: run .ci/setup"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path, "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self.directory), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            try:
                if self.call(b"PING") in (b"PONG",) or self._options:
                    return
            except OSError:
                assert self._process.poll() is None, "redis-server has ended"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            Path(self.path).unlink(missing_ok=True)

    def call(self, *arguments: bytes) -> Any:
        """One command on a connection of its own."""
        (reply,) = self.call_all([arguments])
        return reply

    def call_all(self, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        """Commands in one pipeline, on a connection of their own."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            connection.sendall(b"".join(redis_command(*arguments) for arguments in commands))
            reader, replies = RedisReader(), list[Any]()
            while len(replies) < len(commands):
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                replies += reader.feed(data)
            return replies


@contextmanager
def running(directory: Path, *options: str, port: int = 0) -> Iterator[RedisServer]:
    server = RedisServer(directory, *options, port=port)
    try:
        yield server
    finally:
        server.stop()


def connections_to(server: RedisServer) -> int:
    """How many there have been."""
    stats: bytes = server.call(b"INFO", b"stats")
    return int(stats.split(b"total_connections_received:")[1].split()[0])


def clients_of(server: RedisServer) -> int:
    """How many are connected, beside who asks."""
    return len(server.call(b"CLIENT", b"LIST").splitlines()) - 1


def calls_of(server: RedisServer, command: str) -> int:
    """How often it was called since the statistics were reset."""
    stats = server.call(b"INFO", b"commandstats").decode()
    return sum(
        int(line.split("calls=")[1].split(",")[0])
        for line in stats.splitlines()
        if line.startswith(f"cmdstat_{command}:")
    )

"""A Redis of its own for a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

_PATIENCE_S = 20


class Server:
    """A redis-server that listens on a socket in a directory, and can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """As the `limits` package reads it."""
        return f"redis+unix://{self.socket}"

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *options], cwd=self._directory, stdout=log, stderr=log)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                with redis.Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                return
            except redis.exceptions.RedisError:
                time.sleep(0.01)
        raise TimeoutError((self._directory / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE_S)
            self._process = None


@contextmanager
def running(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()

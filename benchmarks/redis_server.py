"""A redis-server of the benchmarks' own."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 10


@contextmanager
def running() -> Iterator[int]:
    """A Redis on a free port of the loopback, which keeps nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as directory:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), *options], cwd=Path(directory), stdout=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + _PATIENCE_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            yield port
        finally:
            server.terminate()
            server.wait()

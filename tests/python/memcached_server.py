"""A Memcached of its own for a test."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

_PATIENCE_S = 60


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The URI of a Memcached that listens on a socket in a directory, as the `limits` package reads it."""
    socket = directory / "memcached.sock"
    with (directory / "log").open("ab") as log:
        # Without being told to, it does not run as root.
        user = ["-u", "root"] if os.getuid() == 0 else []
        process = subprocess.Popen(["memcached", *user, "-s", str(socket)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + _PATIENCE_S
        while not _answers(socket):
            if process.poll() is not None or time.monotonic() > until:
                raise TimeoutError((directory / "log").read_text())
            time.sleep(0.01)
        yield f"memcached://{socket}"
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _answers(socket: Path) -> bool:
    with closing(Client(str(socket))) as client, suppress(OSError, MemcacheError):
        return bool(client.version())
    return False

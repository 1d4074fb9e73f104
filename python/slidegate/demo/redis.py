"""A Redis for the demonstration: started when it begins, and ended with it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE_S = 20
_PROGRAMS = ("redis-server", "valkey-server")


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URI of a server that keeps nothing, and that only this user can reach: it listens on a socket in a directory.

    Raises RuntimeError when there is no such program, or when it does not start.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise RuntimeError("no redis-server: install it (Debian: apt-get install redis-server)")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
        options += ["--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            [program, *options], cwd=directory, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            uri = f"redis+unix://{path}"
            _await(process, path)
            yield uri
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def _await(process: subprocess.Popen[bytes], path: Path) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("redis-server does not start")
        time.sleep(0.01)

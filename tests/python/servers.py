"""Real servers with several workers, started as users start them."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ports import free_port

from slidegate._core import Segment

PROGRAM = """
import os
from fastapi import FastAPI, Request
from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler

limiter = Limiter(key_func=lambda: "everybody"{options})
other = Limiter(key_func=lambda: "everybody"{options})
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

@app.get("/limited")
@limiter.limit("{limit}")
async def limited(request: Request):
    with open("admitted", "ab", buffering=0) as log:
        log.write(b"1")
    return os.getpid()

@app.get("/other")
@other.limit("{limit}")
async def limited(request: Request):
    return os.getpid()

@app.get("/pid")
async def pid():
    return os.getpid()
"""

_GUNICORN = ["gunicorn", "app:app", "-k", "uvicorn.workers.UvicornWorker", "-w", "{workers}", "-b", "127.0.0.1:{port}"]
COMMANDS = {
    "uvicorn": ["uvicorn", "app:app", "--workers", "{workers}", "--port", "{port}"],
    "gunicorn": _GUNICORN,
    "gunicorn --preload": [*_GUNICORN, "--preload"],
    "fastapi_cli": ["fastapi", "run", "app.py", "--workers", "{workers}", "--host", "127.0.0.1", "--port", "{port}"],
    "granian": ["granian", "app:app", "--interface", "asgi", "--workers", "{workers}", "--port", "{port}"],
    "hypercorn": ["hypercorn", "app:app", "--workers", "{workers}", "--bind", "127.0.0.1:{port}"],
}
PATIENCE_S = 60


class Server:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
        self.process = process
        self.port = port
        self._directory = directory

    def get(self, path: str) -> tuple[int, str]:
        """Status and text, by a connection of its own; (0, "") when it was cut off or there was nobody."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def get_often(self, path: str, times: int) -> list[tuple[int, str]]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self.get, [path] * times))

    def workers(self, least: int) -> set[int]:
        """Those that have answered, until there are as many."""
        found: set[int] = set()
        until = time.monotonic() + PATIENCE_S
        while len(found) < least and time.monotonic() < until:
            found |= {int(text) for status, text in self.get_often("/pid", 32) if status == 200}
        return found

    @property
    def admitted(self) -> int:
        """Requests that have been let through, whether or not somebody got the answer."""
        log = self._directory / "admitted"
        return log.stat().st_size if log.exists() else 0

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def segments(self) -> list[str]:
        """Files in shared memory that belong to this server."""
        prefix = f"{Segment.shared_prefix}server.{self.process.pid}."
        return [name for name in os.listdir(Segment.shared_directory) if name.startswith(prefix)]

    def segments_are_gone(self) -> bool:
        return wait_until(lambda: not self.segments())


def wait_until(condition: object) -> bool:
    """Whether it came true; waits for other processes."""
    assert callable(condition)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def running(
    kind: str,
    directory: Path,
    *,
    workers: int,
    limit: str = "5/hour",
    options: str = "",
    program: str = PROGRAM,
    meanwhile: Callable[[Server], None] = lambda server: None,
    inside: Sequence[str] = (),
) -> Iterator[Server]:
    """A server whose application counts with `options` of Limiter. Ends it, and all of its workers.

    `meanwhile` is called when it has been started, and may not answer yet. `inside` is a command that
    runs another one in its own place.
    """
    directory.mkdir(exist_ok=True)
    (directory / "app.py").write_text(program.replace("{limit}", limit).replace("{options}", options))
    port = free_port()
    words = [word.format(workers=workers, port=port) for word in COMMANDS[kind]]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RATELIMIT_")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", *words],
            cwd=directory,
            env={**environment, "PYTHONPATH": str(directory)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, directory)
    try:
        meanwhile(server)
        assert wait_until(lambda: process.poll() is not None or server.get("/pid")[0] == 200)
        assert process.poll() is None, server.log
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        # uvicorn 0.30.0 waits for ever once a worker was killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S / 6)
        # Its workers are of its group, the process that waits for its end is not.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)

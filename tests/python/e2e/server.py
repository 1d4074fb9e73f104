"""A uvicorn in a process of its own, on a free port, and the same program against several of them."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from e2e.client import PATIENCE_S, Answer, Connection, connected

HERE = Path(__file__).resolve().parent.parent
_RUNNING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
_numbers = itertools.count()


class Server:
    """A running uvicorn. `name` is new for every test program, and is client and exchange to the application."""

    def __init__(self, variant: str, options: Sequence[str]) -> None:
        self.variant = variant
        self.name = variant
        self.log: list[str] = []
        # The order in which sets are listed, as of the methods that are allowed, is the same in all servers.
        command = [sys.executable, "-m", "uvicorn", f"e2e.application:{variant}", "--factory", "--port", "0"]
        # The connection that controls it rests while other tests run, however long they take.
        self.process = subprocess.Popen(
            [*command, "--no-access-log", "--timeout-keep-alive", "86400", *options],
            cwd=HERE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._has_ended = False
        self._has_logged = threading.Condition()
        self._port: int | None = None
        self._control: Connection | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._has_logged:
                self.log.append(line.rstrip("\n"))
                self._has_logged.notify_all()
        with self._has_logged:
            self._has_ended = True
            self._has_logged.notify_all()

    @property
    def port(self) -> int:
        """The port; waits until the server listens. Raises AssertionError with its log if it does not."""
        if self._port is None:
            running = _RUNNING.search(self.logged("Uvicorn running"))
            assert running is not None
            self._port = int(running[1])
        return self._port

    def logged(self, text: str, since: int = 0) -> str:
        """The line of the log that has the text; waits for it. Raises AssertionError with the log if none comes."""

        def found() -> str | None:
            return next((line for line in self.log[since:] if text in line), None)

        with self._has_logged:
            self._has_logged.wait_for(lambda: found() or self._has_ended, PATIENCE_S)
            line = found()
        assert line is not None, "\n".join([f"no line has {text!r}:", *self.log])
        return line

    def connect(self, client: str = "") -> Any:
        return connected(self.port, client or self.name)

    def call(self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        """A request on a connection of its own."""
        with self.connect() as connection:
            answer: Answer = connection.call(method, path, headers, body)
            return answer

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def notes(self) -> list[str]:
        return self._ask("GET", "journal/notes")

    def notes_until(self, event: str, times: int = 1) -> list[str]:
        return self._ask("GET", "journal/until", event=event, times=times)

    def notes_when_idle(self) -> list[str]:
        self._ask("GET", "journal/idle")
        return self.notes()

    def open_gate(self, times: int = 1) -> None:
        self._ask("POST", "journal/open", times=times)

    def _ask(self, method: str, what: str, **query: Any) -> list[str]:
        if self._control is None:
            self._control = Connection(self.port, "control")
        target = f"/{what}?{urlencode({'name': self.name, **query})}"
        found: list[str] = self._control.call(method, target).json()
        return found

    def complaints(self, since: int) -> list[str]:
        """What the server has logged as wrong."""
        mark = f"mark {next(_numbers)}"
        self._ask("POST", "mark", text=mark)
        self.logged(mark, since)
        return complaints_in(self.log[since:])

    def stop(self) -> int:
        """Ends the process if it runs and returns its exit status."""
        if self._control is not None:
            self._control.close()
        self.process.terminate()
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status


def complaints_in(log: Sequence[str]) -> list[str]:
    """What a log says is wrong, without the frames of tracebacks."""
    return [line for line in log if line and not line[0].isspace() and not line.startswith("INFO")]


class Servers:
    """Servers of one kind: without limits, and with limits in several ways."""

    def __init__(self, plain: Server, limited: Sequence[Server], options: Sequence[str]) -> None:
        self.plain = plain
        self.limited = tuple(limited)
        self.options = options

    def same(self, program: Callable[[Server], Any]) -> Any:
        """What a client's program has seen, which is the same with every server, as is what each has complained of.

        It runs twice where limits are decided at once: the middleware remembers requests, and takes a shorter way.
        """
        expected = self.run(program, self.plain)
        for server in (*self.limited, self.limited[0]):
            seen = self.run(program, server)
            assert seen == expected, f"{server.variant} (left) differs from plain (right)"
        return expected[0]

    def run(self, program: Callable[[Server], Any], server: Server) -> tuple[Any, list[str]]:
        server.name = f"client-{next(_numbers)}"
        assert server.port
        since = len(server.log)
        return program(server), server.complaints(since)


@contextmanager
def running(variant: str, options: Sequence[str]) -> Iterator[Server]:
    server = Server(variant, options)
    try:
        yield server
    finally:
        server.stop()


__all__ = ["Connection", "Server", "Servers", "running"]

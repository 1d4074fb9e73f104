"""Shows limits at work: `python -m slidegate.demo [--keep] [--port N] [--storage redis]`.

Starts a real server on a free port of this machine, calls it as a client would until it refuses, prints what came back,
and fails when that is not what the limits promise. With --keep it serves on until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage

from .._support.text_table import aligned
from .redis import redis_server

HOST = "127.0.0.1"
PATIENCE_S = 30


@dataclass(frozen=True)
class Answer:
    """What a request came back with."""

    status: int
    reason: str
    headers: HTTPMessage
    body: str


@dataclass(frozen=True)
class Route:
    """A route, its limit per minute, and how many requests are sent above it."""

    method: str
    path: str
    limit: int
    excess: int
    answers: list[Answer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def call(self, connection: HTTPConnection) -> None:
        """Sends the requests and keeps the answers."""
        for _ in range(self.limit + self.excess):
            connection.request(self.method, self.path)
            response = connection.getresponse()
            body = response.read().decode()
            self.answers.append(Answer(response.status, response.reason, response.headers, body))

    def complaint(self) -> str | None:
        """What the answers have against the limit; None when they are as promised."""
        statuses = [answer.status for answer in self.answers]
        if statuses != [200] * self.limit + [429] * self.excess:
            return f"{self.name}: {self.limit} requests a minute are promised, answered were {statuses}"
        refused = self.answers[self.limit]
        # A minute from the millisecond that the last request of the window ends in, rounded up to whole seconds.
        if not 1 <= int(refused.headers.get("Retry-After", "0")) <= 61:
            return f"{self.name}: Retry-After is {refused.headers.get('Retry-After')}, not from 1 to 61"
        error = f"Rate limit exceeded: {self.limit} per 1 minute"
        if json.loads(refused.body) != {"error": error}:
            return f"{self.name}: the body is {refused.body}, not about {error!r}"
        return None

    def row(self) -> tuple[str, ...]:
        refused = [number for number, answer in enumerate(self.answers, 1) if answer.status == 429]
        first = self.answers[refused[0] - 1].headers.get("Retry-After", "none") if refused else "none"
        return (
            self.name,
            f"{self.limit}/minute",
            str(len(self.answers)),
            str(sum(answer.status == 200 for answer in self.answers)),
            str(len(refused)),
            f"call {refused[0]}" if refused else "none",
            f"{first} s",
        )


def routes() -> tuple[Route, ...]:
    return (
        Route("POST", "/agent/chat", 10, excess=1),
        Route("POST", "/agent/calendar", 20, excess=2),
        Route("GET", "/audit/logs", 30, excess=3),
        Route("GET", "/health", 100, excess=3),
    )


def table(called: Sequence[Route]) -> str:
    """The outcome of all routes, in columns."""
    rows = [("route", "limit", "sent", "200s", "429s", "first refusal", "Retry-After"), *(r.row() for r in called)]
    return "\n".join(aligned(rows, is_ruled=True))


def about_waits(called: Sequence[Route]) -> str | None:
    """Why a wait is longer than the window; None where none is."""
    told = [answer.headers.get("Retry-After") for route in called for answer in route.answers]
    if "61" not in told:
        return None
    return "Retry-After 61: refused within the millisecond of the last request, and rounded up to whole seconds."


def transcript(answer: Answer) -> str:
    """An answer as it came, but for headers that are not about limits."""
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")
    told = [f"{name}: {answer.headers.get(name, '(missing)')}" for name in names]
    return "\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *told, "", answer.body])


@contextlib.contextmanager
def server(port: int, storage_uri: str | None = None) -> Iterator[tuple[int, threading.Thread]]:
    """A running server: its port and its thread, which comes to its end on the way out.

    It counts in `storage_uri`. Raises OSError when the port is taken, and RuntimeError when the server does not answer.
    """
    if storage_uri is not None:
        os.environ["RATELIMIT_STORAGE_URL"] = storage_uri
    # It may not be installed.
    import uvicorn

    with socket.create_server((HOST, port)) as listener:
        serving = uvicorn.Server(uvicorn.Config("slidegate.demo.app:app", log_level="warning"))

        def serve() -> None:
            # Were it left open, requests would wait for a server that has died.
            with listener:
                serving.run(sockets=[listener])

        thread = threading.Thread(target=serve)
        port = listener.getsockname()[1]
        thread.start()
        try:
            yield port, thread
        except (OSError, HTTPException) as error:
            raise RuntimeError(f"the server does not answer: {error}") from error
        finally:
            serving.should_exit = True
            thread.join()


def run(port: int, *, keeps_serving: bool, storage: str = "memory") -> int:
    """The demonstration, which counts in memory, or in a Redis of its own; returns the exit status."""
    with contextlib.ExitStack() as stack:
        uri = stack.enter_context(redis_server()) if storage == "redis" else None
        port, thread = stack.enter_context(server(port, uri))
        called = routes()
        connection = HTTPConnection(HOST, port, timeout=PATIENCE_S)
        for route in called:
            route.call(connection)
        connection.close()
        address, chat = f"http://{HOST}:{port}", called[0]
        where = "" if uri is None else f", counting in {uri}"
        print(f"slidegate demo on {address}{where}\n\n{table(called)}\n")
        if (why := about_waits(called)) is not None:
            print(f"{why}\n")
        print(f"Call {chat.limit + 1} of {chat.name}, the same as `curl -i -X {chat.method} {address}{chat.path}`:\n")
        print(transcript(chat.answers[chat.limit]))
        complaints = [complaint for route in called if (complaint := route.complaint())]
        for complaint in complaints:
            print(f"FAILED: {complaint}", file=sys.stderr)
        if complaints:
            return 1
        print("\nOK: every route admitted its limit and refused the rest.", flush=True)
        if keeps_serving:
            print(f"Serving on {address} until Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                thread.join()
                return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slidegate.demo", description="Shows limits at work.")
    parser.add_argument("--keep", action="store_true", help="go on serving until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port to serve on; a free one by default")
    parser.add_argument(
        "--storage", choices=("memory", "redis"), default="memory", help="redis: a server that is started for this"
    )
    options = parser.parse_args(arguments)
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"The demo needs {' and '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 1
    # Without this the process would end at once, and leave a Redis behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return run(options.port, keeps_serving=options.keep, storage=options.storage)
    except (OSError, RuntimeError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
